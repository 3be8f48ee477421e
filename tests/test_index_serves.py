"""A model served by an index is a run like any other: trained, evaluated, asked, fitted again, exported, compared, in a pipeline."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import command as run

from recsys_dl import fine_tune, load_run
from recsys_dl.cli import main
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.retrieval import HNSW, Retriever

DATA = ["data=generated", "data.num_users=300", "data.num_items=2000", "data.num_interactions=9000", "threads=1"]
ALS = ["model=als", "model.embedding_size=16", "model.epochs=4"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with runs of one ALS: exact, and served by a graph that is searched so briefly that it misses items."""
    folder = tmp_path_factory.mktemp("served")
    run("train", *DATA, *ALS, "run=exact", cwd=folder)
    short = ["index.ef_search=1", "index.num_links=4", "index.ef_construction=4"]
    (folder / "out.txt").write_text(run("train", *DATA, *ALS, "index=hnsw", *short, "run=served", cwd=folder).stdout)
    return folder


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def figures(folder: Path, part: str = "validation") -> dict:
    return json.loads((folder / "metrics.json").read_text())[part]


def test_a_table_says_what_the_index_loses(place):
    said = " ".join((place / "out.txt").read_text().split())
    assert "als-hnsw on" in said
    mine, exact = (figures(place / name)["values"]["ndcg@10"] for name in ("served", "exact"))
    assert mine < exact  # the graph misses items
    assert f"and NDCG@10 is {mine:.4f} beside {exact:.4f} of exact search ({mine - exact:+.4f} [" in said
    assert figures(place / "exact")["notes"] == []
    (note,) = figures(place / "served")["notes"]
    lists = [load_run(place / name).model for name in ("served", "exact")]
    assert lists[0].exact is lists[0].model
    share = float(note.split("at once): ")[1].split("%")[0])
    assert 20 < share < 99.99
    # the model is the same to the bit, the lists alone are found otherwise
    np.testing.assert_array_equal(lists[0].model.item_emb_ID, lists[1].item_emb_ID)
    assert figures(place / "served")["conventions"] == figures(place / "exact")["conventions"]


def test_evaluated_asked_and_fitted_again_in_processes_of_their_own(place):
    said = run("evaluate", "run=served", "part=test", cwd=place).stdout
    assert "of exact search (" in " ".join(said.split())
    user = load_run(place / "served").users.ids[0]
    assert "score" in run("recommend", "run=served", f"users=[{user}]", cwd=place).stdout
    assert "bit for bit" in run("reproduce", "run=served", cwd=place).stdout
    said = run("refit", "run=served", "output=refitted", cwd=place).stdout
    assert "fitted on all" in said
    again = load_run(place / "refitted").model
    assert isinstance(again, Retriever)
    assert isinstance(again.index, HNSW)
    assert again.index.num_items == again.num_items == len(again.items)
    parent = json.loads((place / "refitted/manifest.json").read_text())["parent"]
    assert len(parent["model"]) == 64


def test_lists_leave_out_what_was_seen_and_take_histories(place):
    trained, exact = load_run(place / "served"), load_run(place / "exact")
    table = trained.recommend(trained.users.ids[:20], k=15)
    assert table.group_by("user_id").len()["len"].to_list() == [15] * 20
    seen = trained.seen.by_user
    for user, items in table.group_by("user_id", maintain_order=True).agg("item_id").iter_rows():
        (row,), rows = trained.users.rows([user]), trained.items.rows(items)
        assert not set(seen[row].indices) & set(rows)
    some = trained.items.ids[:40].to_list()
    mine, its = (one.recommend([trained.users.ids[0]], k=10, allow=some) for one in (trained, exact))
    assert mine["item_id"].to_list() == its["item_id"].to_list()  # few are scored exactly
    new = trained.recommend(history=some[:5], k=5)
    assert not set(new["item_id"]) & set(some[:5])
    assert len(new) == 5
    near = trained.similar_items(some[:2], k=3)
    assert near["similar_item_id"].to_list() == exact.similar_items(some[:2], k=3)["similar_item_id"].to_list()


def test_export_scores_every_item_and_says_so(there, capsys):
    assert main(["export", "run=served", "format=safetensors", "output=files"]) == 0
    assert "The index of the run, HNSW, is not exported: the files score every item" in capsys.readouterr().out
    assert json.loads((there / "files/manifest.json").read_text())["model"] == "recsys_dl.models.als.ALS"
    assert main(["export", "run=exact", "format=safetensors", "output=files-exact"]) == 0
    assert "is not exported" not in capsys.readouterr().out


def test_the_report_on_indexes_takes_such_a_run(there, capsys):
    words = ["indexes=[flat]", "num_queries=50", "plot=false", "output=report"]
    assert main(["index", "run=served", *words]) == 0
    rows = json.loads((there / "report/report.json").read_text())["rows"]
    assert rows[0]["ndcg"] == pytest.approx(figures(there / "exact")["values"]["ndcg@10"], abs=1e-9)


def test_indexes_are_compared(there, capsys):
    models = "models=['als epochs=2','flat=als epochs=2 index=flat','ivf=als epochs=2 index=ivf index.num_probes=1']"
    assert main(["compare", *DATA, models, "run=compared"]) == 0
    said = capsys.readouterr().out
    values = {name: figures(there / "compared" / name, "test")["values"]["ndcg@10"] for name in ("flat", "ivf")}
    assert values["flat"] == pytest.approx(figures(there / "compared/als-epochs=2", "test")["values"]["ndcg@10"])
    assert "ivf: lists are found by IVF" in " ".join(said.split())
    assert "flat: lists" not in said
    assert main(["compare", *DATA, "models=[als,'three_stage index=hnsw']"]) == 1
    assert "index=hnsw would have no effect on three_stage" in capsys.readouterr().err


def test_a_run_learns_on_and_its_index_with_it(place):
    parent = load_run(place / "served")
    new = Dataset(
        Interactions([0, 0, 1], [0, 1, 2], [1, 1, 1]),
        Vocabulary([parent.users.ids[0], "someone"]),
        Vocabulary([parent.items.ids[0], "first", "second"]),
    )
    tuned = fine_tune(parent, new, epochs=1)
    assert tuned.model.index.num_items == tuned.model.num_items == parent.model.num_items + 2
    assert parent.model.index.num_items == parent.model.num_items  # the run itself is as it was
    saved = tuned.save(place / "tuned")
    lists = saved.recommend(["someone"], k=5)
    assert len(lists) == 5
    np.testing.assert_array_equal(
        saved.model.item_vectors(), saved.model.index.vectors(np.arange(saved.model.num_items))
    )


def test_a_neural_model_is_served_too(there, capsys):
    words = ["model=two_tower", "model.epochs=1", "model.embedding_size=8", "index=ivf", "trainer.patience=1"]
    assert main(["train", *DATA, *words, "run=towers"]) == 0
    trained = load_run("towers")
    assert trained.manifest["best_epoch"] == 1
    assert trained.model.fine_tune.__name__ == "fine_tune"
    assert "IVF" in figures(there / "towers")["notes"][0]


def test_in_a_pipeline(there, capsys):
    place = "pipeline.retrievers.graph"
    words = [f"+retriever@{place}=indexed", f"index@{place}.index=ivf", f"model@{place}.model=svd"]
    gone = ("item_knn", "sequential_rules")
    less = [f"~pipeline.{part}.{name}" for name in gone for part in ("retrievers", "on_failure")]
    less += ["~pipeline.retrievers.als", "pipeline.ranker.epochs=2", "pipeline.examples.rounds=1"]
    less += ["~pipeline.rerankers.mmr", "~pipeline.on_failure.mmr"]
    assert main(["train", *DATA, "pipeline=three_stage", *words, *less, "run=pipeline"]) == 0
    assert "graph (retriever)" in capsys.readouterr().out
    retriever = load_run("pipeline").model.retrievers["graph"]
    assert repr(retriever).startswith("Retriever(SVD(")
    assert "IVF(" in repr(retriever)
    user = load_run("pipeline").users.ids[0]
    assert main(["recommend", "run=pipeline", f"users=[{user}]", "explain=true"]) == 0
    assert "graph" in capsys.readouterr().out
    assert main(["evaluate", "run=pipeline", "part=test"]) == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=item_knn", "index=hnsw"], "index=hnsw needs a model whose scores are inner products of vectors, and those of ItemKNN are not. Use model=als, bootstrap, bpr, clcrec, dropout_net, explicit_als, feature_mf, funk_svd, gmf, heater, sasrec, svd, svd_pp, two_tower, youtube_dnn"),
        (["model=sequential_rules", "index=flat"], "and those of SequentialRules are not"),
        (["model=als", "index.ef_search=5"], "there is no setting 'index.ef_search' in what is chosen; index=hnsw would have it"),
        (["model=als", "index=hnsw", "index.num_probes=5"], "there is no setting 'index.num_probes' in what is chosen; index=ivf"),
        (["model=als", "index=hnws"], "there is no such index (did you mean 'hnsw'?)"),
        (["model=als", "index=hnsw", "index.ef_search=0"], "index.ef_search must be a whole number from 1"),
        (["model=als", "index=ivf", "index.num_lists=5000"], "num_lists must be at most the 2,000 vectors there are, got 5000"),
        (["pipeline=three_stage", "index=hnsw"], "index=hnsw would have no effect: a pipeline is trained in place of a model, and each of its retrievers may have an index: +retriever@"),
        (["retriever=indexed"], "pipeline=three_stage +retriever@pipeline.retrievers.als_indexed=indexed"),
        (["model=als", "index=flat", "device=cuda"], "needs"),
        (["model=als", "index=hnsw", "trainer.patience=2"], "ALS learns without a trainer"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_words_are_answered_before_anything_is_fitted(there, words, expected, monkeypatch, capsys):
    monkeypatch.setattr("recsys_dl.models.als.ALS.fit", lambda self, train: pytest.fail("it was fitted"))
    before = sorted(there.rglob("*"))
    assert main(["train", *DATA, *words, "run=wrong"]) in (1, 2)
    assert expected in capsys.readouterr().err
    assert sorted(there.rglob("*")) == before


@pytest.mark.parametrize(
    "words", [["index=hnsw"], ["pipeline=three_stage", "+retriever@pipeline.retrievers.graph=indexed"]]
)
def test_without_faiss_the_advice_comes_before_the_fit(there, words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr("recsys_dl.models.als.ALS.fit", lambda self, train: pytest.fail("it was fitted"))
    assert main(["train", *DATA, *words, "run=wrong"]) == 1
    assert "pip install 'recsys_dl[cpu]'" in capsys.readouterr().err


def test_exact_search_needs_no_faiss(there, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert main(["train", *DATA, "model=svd", "index=exact", "run=without-faiss"]) == 0
    assert figures(there / "without-faiss")["notes"] == []


def test_an_index_of_another_run_is_refused(place, tmp_path):
    import shutil

    mixed = tmp_path / "mixed"
    shutil.copytree(place / "served", mixed)
    shutil.rmtree(mixed / "model/index")
    rng = np.random.default_rng(0)
    HNSW().build(rng.standard_normal((2000, 16))).save(mixed / "model/index")
    with pytest.raises(ValueError, match="model and index do not belong together"):
        load_run(mixed)


def test_a_file_of_lists_for_everyone(there, capsys):
    assert main(["recommend", "run=served", "users=all", "k=3", "output=lists.parquet"]) == 0
    table = pl.read_parquet("lists.parquet")
    assert len(table) == 3 * len(load_run("served").users)
