"""recsys-dl index, as a user types it: the report, the plot, the setting it takes, and what it says of wrong words."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import command

from recsys_dl.cli import main
from recsys_dl.compose import compose, options
from recsys_dl.retrieval import IVF, Exact
from recsys_dl.retrieval.budget import PREFERENCES, Figures, choose, measured, recall, survey
from recsys_dl.verbs.index import vectors_of_file

SMALL = [
    "grid.ivf={num_lists: [8, 16], num_probes: [1, 8]}",
    "grid.hnsw={ef_search: [20]}",
    "indexes=[ivf,ivf_pq,hnsw]",
]
SMALL += ["grid.ivf_pq={num_probes: [4], rescore: [0, 8]}", "num_queries=60", "threads=1"]


def started(*words: object, cwd: Path, status: int = 0) -> subprocess.CompletedProcess:
    """Run the command in a process as a shell starts it, without the simulator: one that starts others, or that looks for a GPU."""
    done = subprocess.run(
        [sys.executable, "-m", "recsys_dl.cli", *map(str, words)],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, f"{done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a trained run, als, and one that has no vectors, popularity; items.npy and queries.npy."""
    folder = tmp_path_factory.mktemp("place")
    data = ["data=generated", "data.num_users=300", "data.num_items=600", "data.num_interactions=9000", "threads=1"]
    command("train", *data, "model=als", "model.embedding_size=16", "model.epochs=4", "run=als", cwd=folder)
    command("train", *data, "model=popularity", "run=popularity", cwd=folder)
    (folder / "runs").mkdir()
    rng = np.random.default_rng(0)
    np.save(folder / "items.npy", rng.standard_normal((700, 9)).astype(np.float32))
    np.save(folder / "queries.npy", rng.standard_normal((90, 9)))
    return folder


def test_two_processes_report_what_one_does(place):
    asked = [
        "index",
        "run=als",
        "loss=0.3",
        "indexes=[ivf,hnsw]",
        *SMALL[:2],
        "num_queries=60",
        "plot=false",
        "threads=1",
    ]
    command(*asked, "output=one", cwd=place)
    done = started(*asked, "output=two", "processes=2", cwd=place)
    assert "HNSW links each vector to earlier ones" in done.stderr
    one, two = (json.loads((place / name / "report.json").read_text()) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    assert one["threads"] == two["threads"]
    for mine, theirs in zip(one["rows"][:-1], two["rows"][:-1], strict=True):
        assert all(mine[key] == theirs[key] for key in ("label", "recall", "ndcg", "ndcg_lost", "num_bytes"))


def test_the_report_of_a_run(place):
    out = command("index", "run=als", "k=10", "loss=0.3", *SMALL, cwd=place).stdout
    report = json.loads((place / "runs" / "index" / "report.json").read_text())
    rows = {row["label"]: row for row in report["rows"]}
    assert list(rows) == [
        "exact",
        *(f"ivf num_lists={lists} num_probes={probes}" for lists in (8, 16) for probes in (1, 8)),
        "ivf_pq rescore=0 num_probes=4",
        "ivf_pq rescore=8 num_probes=4",
        "hnsw num_links=32 ef_search=20",
    ]
    exact, whole = rows["exact"], rows["ivf num_lists=8 num_probes=8"]
    assert (exact["recall"], exact["ndcg_lost"]) == (1, [0, 0, 0])
    assert (whole["recall"], whole["ndcg_lost"]) == (1, [0, 0, 0])  # all lists visited
    metrics = json.loads((place / "als" / "metrics.json").read_text())["validation"]
    assert exact["ndcg"] == pytest.approx(metrics["values"]["ndcg@10"], abs=1e-9)
    short = rows["ivf num_lists=16 num_probes=1"]
    assert short["recall"] < 0.9
    value, low, high = short["ndcg_lost"]
    assert low <= value <= high
    assert value == pytest.approx(1 - short["ndcg"] / exact["ndcg"])
    assert all(0 < row["p50_ms"] <= row["p99_ms"] and row["queries_per_second"] > 0 for row in report["rows"])
    assert report["queries"] == 60
    within = [row for row in report["rows"] if row["ndcg_lost"][2] <= 0.3]
    assert report["chosen"] == min(within, key=lambda row: row["p50_ms"])
    assert f"the lowest latency has: {report['chosen']['label']}\n" in out
    assert "NDCG lost [95%]" in out
    lines = list(csv.reader((place / "runs" / "index" / "report.csv").open()))
    assert [line[0] for line in lines] == ["index", *rows]
    assert (place / "runs" / "index" / "plot.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "The report and plot.png are in runs/index/" in out


def test_the_report_of_bare_vectors(place):
    words = [
        "vectors=items.npy",
        "queries=queries.npy",
        "k=5",
        "prefer=memory",
        "loss=0.5",
        "output=bare",
        "plot=false",
    ]
    out = command("index", *words, *SMALL, cwd=place).stdout
    assert "NDCG" not in out
    assert {file.name for file in (place / "bare").iterdir()} == {"report.json", "report.csv"}
    report = json.loads((place / "bare" / "report.json").read_text())
    assert (report["source"], report["items"], report["embedding_size"]) == ("items", 700, 9)
    assert report["rows"][0]["ndcg"] is None
    least = min((row for row in report["rows"] if row["recall"] >= 0.5), key=lambda row: row["num_bytes"])
    assert f"For a loss of at most 50.00% of recall@5, the least memory has: {least['label']}\n" in out


def test_users_kept_from_training_are_folded_in(place):
    words = ["data=generated", "data.num_users=200", "data.num_interactions=6000", "model=bpr", "model.epochs=3"]
    command("train", *words, "split=user", "run=bpr", "threads=1", cwd=place)
    command("index", "run=bpr", "indexes=[flat]", "output=folded", "plot=false", "loss_of=recall", cwd=place)
    report = json.loads((place / "folded" / "report.json").read_text())
    assert [row["recall"] for row in report["rows"]] == [1, 1]
    assert report["embedding_size"] == 65  # the biases are a dimension more


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{'descr': '<f8', '' '' ''''",
        "{'descr': '<f8'",
        "{'descr': '<f8)', 'fortran_order': False, 'shape': (2, 2), }",
    ],
)
def test_a_damaged_file_of_vectors_is_refused(tmp_path, header):
    file = tmp_path / "items.npy"
    file.write_bytes(b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() if header else b"")
    with pytest.raises(ValueError, match=r"items\.npy must be a \.npy file of numbers"):
        vectors_of_file(file)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "set run=… (a folder written by recsys-dl train), or both vectors=… and queries=…"),
        (["vectors=items.npy"], "or both vectors=… and queries=…"),
        (["run=als", "vectors=items.npy"], "vectors=items.npy would have no effect: run=… has vectors of its own"),
        (["run=nothing"], "nothing must hold a run"),
        (["run=popularity"], "the scores of Popularity are not inner products of vectors"),
        (["run=als", "k=601"], "k must be between 1 and the 600 items"),
        (["run=als", "indexes=[ivv]"], "there is no index 'ivv' (did you mean 'ivf'?)"),
        (["run=als", "prefer=speed"], "prefer must be latency, throughput or memory, got 'speed'"),
        (["run=als", "loss=2"], "loss must be a number from 0 and below 1"),
        (["run=als", "loss_of=map"], "loss_of must be ndcg or recall or null, got 'map'"),
        (["run=als", "num_queries=1"], "num_queries must be a whole number from 2"),
        (["run=als", "part=tset"], "part must be validation or test"),
        (["run=als", "output=als"], "exists already"),
        (["run=als", "measure=l2"], "measure must be dot or cosine, got 'l2'"),
        (["vectors=items.npy", "queries=queries.npy", "loss_of=ndcg"], "loss_of=ndcg needs a run"),
        (["vectors=items.npy", "queries=nothing.npy"], "nothing.npy"),
        (["vectors=items.npy", "queries=als/config.yaml"], "must be a .npy file of numbers"),
        (["vectors=items.npy", "queries=flat.npy"], "must hold one vector per row, got an array of shape (4,)"),
        (["vectors=items.npy", "queries=narrow.npy"], "queries must have the embedding size 9 of the index, got 3"),
        (["vectors=items.npy", "queries=queries.npy", "grid.ivf.num_lists=[900]"], "at most the 700 vectors there are"),
        (["run=als", "grid.ivf.num_prob=[1]"], "did you mean"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_answered(place, words, expected, monkeypatch, capsys):
    np.save(place / "narrow.npy", np.ones((4, 3)))
    np.save(place / "flat.npy", np.ones(4))
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    assert main(["index", *words, "plot=false"]) in (1, 2)
    assert expected in capsys.readouterr().err
    assert sorted(place.rglob("*")) == before


def test_an_index_of_more_vectors_than_there_are_is_left_out(place, monkeypatch, capsys, caplog):
    monkeypatch.chdir(place)
    np.save("few.npy", np.random.default_rng(0).standard_normal((80, 9)).astype(np.float32))
    words = ["vectors=few.npy", "queries=queries.npy", "plot=false", "threads=1", "num_queries=5"]
    assert main(["index", *words, "indexes=[flat,ivf_pq]", "output=few"]) == 0
    assert "ivf_pq is left out: ivf_pq learns 256 codes and needs as many vectors, got 80" in caplog.text
    assert "flat" in capsys.readouterr().out
    assert main(["index", *words, "indexes=[ivf_pq]", "output=none"]) == 1
    assert "needs as many vectors, got 80" in capsys.readouterr().err


def test_no_gpu_and_no_matplotlib(place, monkeypatch, capsys):
    assert "device=cuda needs" in started("index", "run=als", "device=cuda", cwd=place, status=1).stderr
    monkeypatch.chdir(place)
    monkeypatch.setattr("recsys_dl.verbs.index.find_spec", lambda name: None)
    assert main(["index", "run=als", "indexes=[exact]", "output=unplotted"]) == 0
    assert "no plot, since matplotlib is missing: pip install 'recsys_dl[plot]'" in capsys.readouterr().err
    assert not (place / "unplotted" / "plot.png").exists()
    assert any((place / "unplotted").iterdir())


def test_every_yaml_names_an_index_that_its_file_holds():
    from hydra.utils import instantiate

    assert options("index") == ["cagra", "exact", "flat", "hnsw", "ivf", "ivf_pq"]
    for name in options("index"):
        index = instantiate(compose("index", [f"+index={name}", "device=cpu", "index.measure=cosine"]).index)
        assert type(index).__name__.lower() == name.replace("_", "")
        assert index.measure == "cosine"


def figures(label, recall, p50, rate, size, lost=None):
    return Figures(label, {}, {}, 1.0, size, recall, p50, 2 * p50, rate, None if lost is None else 0.1, lost)


def test_the_choice_by_hand():
    rows = [
        figures("exact", 1.0, 8.0, 100, 1000, (0.0, 0.0, 0.0)),
        figures("fast", 0.90, 1.0, 400, 1200, (0.001, -0.01, 0.012)),
        figures("wide", 0.99, 2.0, 900, 1500, (0.004, -0.001, 0.009)),
        figures("small", 0.95, 4.0, 300, 100, (-0.02, -0.05, 0.01)),
    ]
    taken = {
        (of, prefer): choose(rows, loss=0.01, of=of, prefer=prefer).index
        for of in ("ndcg", "recall")
        for prefer in PREFERENCES
    }
    assert taken == {
        ("ndcg", "latency"): "wide",  # that the fast one loses less than 1% is not certain enough
        ("ndcg", "throughput"): "wide",
        ("ndcg", "memory"): "small",
        ("recall", "latency"): "wide",
        ("recall", "throughput"): "wide",
        ("recall", "memory"): "exact",
    }
    with pytest.raises(ValueError, match="no setting loses at most 0 of recall"):
        choose(rows[1:], loss=0, of="recall", prefer="latency")


def test_recall_by_hand():
    found = np.array([[1, 2, 3], [4, -1, -1], [-1, -1, -1]])
    exact = np.array([[3, 2, 9], [4, 5, -1], [-1, -1, -1]])
    assert recall(found, exact) == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


def test_a_survey_builds_once_for_what_can_be_tuned(monkeypatch):
    emb_ID = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
    builds = []
    build = IVF.build
    monkeypatch.setattr(IVF, "build", lambda self, emb: builds.append(self.num_lists) or build(self, emb))
    grids = {"ivf": {"num_lists": [2, 5], "num_probes": [1, 2, 5]}}
    kinds = {"exact": lambda: Exact(device="cpu"), "ivf": IVF}
    rows = list(survey(kinds, grids, emb_ID, emb_ID[:20], 5))
    assert builds == [2, 5]
    assert len(rows) == 7
    assert rows[0].recall == rows[3].recall == rows[6].recall == 1
    assert rows[4].settings == {"num_lists": 5, "num_probes": 1}


def test_times_are_measured_and_slow_indexes_cut_short(monkeypatch):
    emb_ID = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)
    index = Exact(device="cpu").build(emb_ID)
    asked = []
    search = index.search
    monkeypatch.setattr(
        index, "search", lambda query, k, **lists: asked.append(len(query)) or search(query, k, **lists)
    )
    monkeypatch.setattr("recsys_dl.retrieval.budget.LONGEST", 0.0)
    monkeypatch.setattr("recsys_dl.retrieval.budget.FEWEST_SINGLE", 7)
    found, p50, p99, rate = measured(index, emb_ID[:30], search(emb_ID[:30], 3).items_BK)
    assert found == 1
    assert 0 < p50 <= p99
    assert rate > 0
    assert asked.count(1) == 1 + 8
