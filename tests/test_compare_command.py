"""`recsys-dl compare`: settings and seeds of one model, pipelines with settings, and runs that are there; tables as data and HTML."""

import json
import shutil

import numpy as np
import pytest
from processes import command as run
from test_command import write_log

from recsys_dl import evaluate, leave_last_out, load_run, read_log
from recsys_dl.cli import main
from recsys_dl.evaluation import compare
from recsys_dl.models import ALS, Popularity

WORDS = ["data=log", "data.path=log.csv", "device=cpu", "threads=1", "evaluate.k=[5]"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    write_log(folder / "log.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, words in {
            "a": ["model=item_knn"],
            "b": ["model=als", "model.embedding_size=8"],
            "other": ["model=item_knn", "split.num_test=2", "split.num_validation=1"],
        }.items():
            assert main(["train", *WORDS, *words, "evaluate.part=test", f"run=runs/{name}"]) == 0
    return folder


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def test_settings_and_seeds_of_one_model(place):
    models = "models=[popularity,als embedding_size=4,'big=als embedding_size=8 seed=11','plain=als embedding_size=8']"
    models = models.replace("als embedding_size=4,", "'als embedding_size=4',")
    out = run("compare", *WORDS, models, "run=runs/several", cwd=place).stdout
    names = {line.split()[0] for line in out.splitlines() if line}
    assert {"popularity", "als-embedding_size=4", "big", "plain"} <= names
    big, plain, small = (load_run(place / "runs/several" / name) for name in ("big", "plain", "als-embedding_size=4"))
    assert (big.config["seed"], big.config["model"]["seed"], big.config["model"]["embedding_size"]) == (11, 11, 8)
    assert (plain.config["seed"], plain.config["model"]["seed"]) == (7, 7)
    assert small.config["model"]["embedding_size"] == 4
    assert not np.array_equal(big.model.arrays()["item_emb_ID"], plain.model.arrays()["item_emb_ID"])


def test_settings_of_pipelines(there, capsys):
    few = "pipeline.examples.last=2 examples.rounds=1 ranker.epochs=2"
    models = f"models=[popularity,'a=three_stage {few}','b=three_stage {few} num_candidates=40']"
    assert main(["compare", *WORDS, models, "run=runs/pipelines"]) == 0
    out = capsys.readouterr().out
    assert "What each stage of a adds" in out
    assert "What each stage of b adds" in out
    assert load_run("runs/pipelines/b").config["pipeline"]["num_candidates"] == 40


def test_runs_that_are_there_as_if_compared_at_once(there, capsys):
    assert main(["compare", "runs=[runs/a,runs/b]", "metric=ndcg@5", "evaluate.k=[5]"]) == 0
    out = capsys.readouterr().out
    assert {"runs/a", "runs/b"} <= {line.split()[0] for line in out.splitlines() if line}
    assert "p (Holm)" in out
    models = "models=[item_knn,'als embedding_size=8']"
    assert main(["compare", *WORDS, models, "run=runs/fresh"]) == 0
    told = json.loads((there / "runs/fresh/comparison.json").read_text())["differences"]
    (apart,) = told.values()
    assert f"{apart['value']:+.4f} [{apart['interval'][0]:+.4f}, {apart['interval'][1]:+.4f}]" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["runs=[runs/a,runs/other]"], "split.num_test is 1 in the one, 2 in the other"),
        (["runs=[runs/a,runs/b]", "evaluate.part=validation"], "recsys-dl evaluate run=runs/a part=validation"),
        (["runs=[runs/a,runs/b]", "evaluate.k=[3]"], "recsys-dl evaluate run=runs/a part=test k=3"),
        (["runs=[runs/a]"], "at least two run folders"),
        (["runs=[runs/a,runs/a/]"], "at least two run folders"),
        (["runs=[runs/a,log.csv]"], "log.csv is a file"),
        (["runs=[runs/a,runs]"], "runs in runs are: a, b"),
        (["runs=[runs/a,runs/half]"], "runs/half is damaged"),
        (["runs=[runs/a,runs/b]", "metric=recal@5"], "metric must be one of"),
        ([*WORDS, "models=[als,'als']"], "each once"),
        ([*WORDS, "models=[als,'als embeding_size=8']"], "embedding_size"),
        ([*WORDS, "models=[als,'als embedding_size']"], "must be written key=value, got 'embedding_size'"),
        ([*WORDS, "models=[als,'als 8']"], "must be written key=value, got '8'"),
        ([*WORDS, "models=[als,'big=alss']"], "did you mean 'als'?"),
        ([*WORDS, "models=[als,'../up=als']"], "a name must be letters"),
        ([*WORDS, "models=[als,'b=als split.num_test=2']"], "must be the same for all models"),
        ([*WORDS, "models=[als,'b=als data.path=x.csv']"], "must be the same for all models"),
        ([*WORDS, "models=[als,bpr]", "split=none"], "nothing to compare models on"),
        ([*WORDS, "models=[als,'']"], "no model ''"),
    ],
)
def test_what_cannot_be_compared(there, capsys, words, message):
    if not (there / "runs/half").exists():
        shutil.copytree(there / "runs/b", there / "runs/half")
        file = there / "runs/half/per_user/test.npz"
        file.write_bytes(file.read_bytes()[:200])
    more = (
        []
        if words[0].startswith("data") or any(word.startswith("evaluate.k") for word in words)
        else ["evaluate.k=[5]"]
    )
    assert main(["compare", *words, *more]) in (1, 2)
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) <= 10
    assert not (there / "runs/compare").exists()


def test_figures_as_a_frame_and_as_html():
    rng = np.random.default_rng(0)
    rows = [(u, i, 4, 100 * u + n) for u in range(40) for n, i in enumerate(rng.choice(25, 8, replace=False))]
    import polars as pl

    data = read_log(pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row"))
    train, validation, test = leave_last_out(data)
    evaluations = {
        "<b>": evaluate(Popularity().fit(train), train, test, k=[3, 5], exclude=validation),
        "als": evaluate(ALS(embedding_size=4).fit(train), train, test, k=[3, 5], exclude=validation),
    }
    one = evaluations["als"]
    frame = one.to_frame()
    assert frame.columns == ["metric", "k", "value", "low", "high"]
    assert len(frame) == len(one.values)
    row = frame.row(by_predicate=(pl.col("metric") == "ndcg") & (pl.col("k") == 5), named=True)
    assert (row["value"], (row["low"], row["high"])) == (one.values["ndcg@5"], one.intervals["ndcg@5"])
    coverage = frame.row(by_predicate=(pl.col("metric") == "coverage") & (pl.col("k") == 5), named=True)
    assert coverage["low"] is None
    told = compare(evaluations, "ndcg@5")
    both = told.to_frame()
    assert both.columns == ["model", "metric", "k", "value", "low", "high", "difference", "p_value"]
    with_p = both.filter(pl.col("p_value").is_not_null())
    assert with_p["model"].to_list() == [name for name in told.evaluations if name != told.baseline]
    for shown in (one, told):
        text = shown._repr_html_()
        assert text.count("<table>") == text.count("</table>") >= 1
        assert f"{one.values['ndcg@5']:.4f}" in text
        assert "ties" in text
    assert "<b>" not in told._repr_html_()
    assert "&lt;b&gt;" in told._repr_html_()


@pytest.mark.parametrize("split", ["random", "time", "user", "cold_items", "cold_users"])
def test_every_split_serves_a_comparison(split):
    from recsys_dl.compose import compose
    from recsys_dl.verbs.compare import contenders_of

    config = compose("compare", ["models=[popularity,item_knn]", "data=generated", f"split={split}"])
    for one in contenders_of(config):
        assert one.config.split == config.split
        assert one.config.data == config.data
