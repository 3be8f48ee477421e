"""`recsys-dl rank`: rankers on files of learning to rank, to a run folder that reads back."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
from processes import command as run

from recsys_dl import load_run
from recsys_dl.cli import main
from recsys_dl.rankers.ranker import Ranker
from recsys_dl.readers.letor import read_letor

SMALL = ["ranker.num_trees=20", "ranker.num_leaves=4", "ranker.min_documents=5", "threads=1"]


def rows(seed: int, num_queries: int = 30) -> list[tuple[int, int, list[float]]]:
    """Grades that follow the first of three features; of each fifth query nothing is relevant."""
    rng = np.random.default_rng(seed)
    made = []
    for query in range(num_queries):
        for features in rng.random((8, 3)).round(4).tolist():
            made.append((0 if query % 5 == 0 else int(features[0] * 3), query, features))
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("letor")
    for name, seed in (("train", 1), ("more", 4), ("validation", 2), ("test", 3)):
        made = rows(seed)
        letor = "".join(f"{g} qid:{q + 1000 * seed} 1:{a} 2:{b} 3:{c} # x\n" for g, q, (a, b, c) in made)
        (folder / f"{name}.txt").write_text(letor)
        (folder / f"{name}.lgb").write_text("".join(f"{g} {a} {b} {c}\n" for g, _, (a, b, c) in made))
        (folder / f"{name}.lgb.query").write_text("8\n" * 30)
        table = [{"query": q, "grade": g, "a": a, "b": b, "c": c} for g, q, (a, b, c) in made]
        pl.DataFrame(table).write_parquet(folder / f"{name}.parquet")
    return folder


def test_fitted_evaluated_and_read_back(place):
    pytest.importorskip("lightgbm")
    words = [f"data.{part}={part}.txt" for part in ("train", "validation", "test")]
    out = run("rank", *words, *SMALL, "run=runs/trees", cwd=place).stdout
    assert "lambdamart on test.txt, test" in out
    assert "lambdamart on validation.txt, validation" in out
    assert "bootstrap over queries" in out
    assert "blank queries: left out (6)" in out
    metrics = json.loads((place / "runs/trees/metrics.json").read_text())
    assert metrics["test"]["values"]["ndcg@5"] > 0.9
    groups = read_letor(place / "test.txt")
    scores_N = Ranker.load(place / "runs/trees/ranker").score_groups(groups)
    first = scores_N[:8].argsort()[::-1]
    assert groups.features_NF[first[0], 0] > groups.features_NF[first[-1], 0]
    assert {"config.yaml", "manifest.json", "metrics.json", "per_user", "ranker", "run.log"} == {
        file.name for file in (place / "runs/trees").iterdir()
    }
    with pytest.raises(ValueError, match="cannot recommend: .*Ranker.load"):
        load_run(place / "runs/trees")


def test_each_layout_gives_the_same_ranker_and_runs_compare(place, monkeypatch, capsys):
    pytest.importorskip("lightgbm")
    monkeypatch.chdir(place)
    figures = []
    for end, more in (("txt", []), ("lgb", []), ("parquet", ["data.group=query", "data.label=grade"])):
        words = [f"data.{part}={part}.{end}" for part in ("train", "validation", "test")]
        assert main(["rank", *words, *SMALL, *more, f"run=runs/{end}"]) == 0
        figures.append(json.loads((place / f"runs/{end}/metrics.json").read_text())["test"]["values"])
    assert figures[0] == figures[1] == figures[2]
    words = ["data.train=[train.txt,more.txt]", "data.test=test.txt", "ranker=mlp_ranker", "ranker.epochs=3"]
    assert main(["rank", *words, "run=runs/mlp"]) == 0
    assert json.loads((place / "runs/mlp/manifest.json").read_text())["data"]["queries"] == 60
    capsys.readouterr()
    assert main(["compare", "runs=[runs/txt,runs/mlp]", "metric=ndcg@5", "evaluate.k=[5]"]) == 0
    out = capsys.readouterr().out
    assert "runs/mlp" in out
    assert "p (Holm)" in out


def test_columns_of_a_table_are_chosen(place, monkeypatch):
    pytest.importorskip("lightgbm")
    monkeypatch.chdir(place)
    pl.read_parquet("train.parquet").with_columns(d=pl.lit("x")).write_csv("words.csv")
    words = ["data.train=words.csv", "data.group=query", "data.label=grade", "data.features=[b,a]"]
    assert main(["rank", *words, *SMALL, "run=runs/chosen"]) == 0
    assert json.loads((place / "runs/chosen/manifest.json").read_text())["data"]["features"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "data.train"),
        (["data.train=no.txt"], "no.txt does not exist"),
        (["data.train=."], "is a folder"),
        (["data.train=[]"], "at least one file"),
        (["data.train=train.parquet"], "data.group=…"),
        (["data.train=train.parquet", "data.group=query"], "both data.group and data.label"),
        (["data.train=train.parquet", "data.group=q", "data.label=grade"], "must have a column 'q'"),
        (["data.train=train.txt", "data.test=train.lgb.query"], "train.lgb.query, line 1"),
        (["data.train=train.txt", "blank_queries=half"], "blank_queries must be left_out, zero or one"),
        (["data.train=train.txt", "k=[0]"], "k must be"),
        (["data.train=train.txt", "ranker=lambdamrt"], "did you mean 'lambdamart'?"),
        (["data.train=train.txt", "data.validation=blank.txt"], "relevant"),
        (["data.train=train.txt", "data.test=blank.txt"], "relevant"),
        (["data.train=[train.txt,train.txt]"], "group"),
        (["data.train=train.txt", "data.test=train.txt"], "of different queries, but both hold train.txt"),
        (
            ["data.train=[train.txt,more.txt]", "data.validation=./more.txt"],
            "data.train and data.validation must be of",
        ),
        (
            ["data.train=train.txt", "data.test=copy.txt"],
            "data.train and data.test must be of different queries, but are the same",
        ),
        (["data.train=train.parquet", "data.group=query", "data.label=grade", "data.features=[d]"], "a column 'd'"),
        (
            ["data.train=words.csv", "data.group=query", "data.label=grade"],
            "or name the columns of features: features=[…]",
        ),
    ],
)
def test_wrong_words(place, monkeypatch, capsys, words, message):
    pytest.importorskip("lightgbm")
    monkeypatch.chdir(place)
    (place / "copy.txt").write_text((place / "train.txt").read_text())
    pl.read_parquet(place / "train.parquet").with_columns(d=pl.lit("x")).write_csv(place / "words.csv")
    (place / "blank.txt").write_text("0 qid:1 1:0.5 2:1 3:1\n0 qid:1 1:0.25 2:1 3:1\n")
    shutil.rmtree(place / "runs/never", ignore_errors=True)
    assert main(["rank", *words, *SMALL[3:], "run=runs/never"]) in (1, 2)
    err = capsys.readouterr().err
    assert message in err.splitlines()[-1]
    assert not (place / "runs/never").exists()
