"""Fits for service: on everything, and of a chosen run's settings again; what a split does not hold out is refused before work."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import command as run
from test_command import write_log

from recsys_dl import load_run, read_log
from recsys_dl.cli import main
from recsys_dl.data.split import no_split

WORDS = ["data=log", "data.path=log.csv", "device=cpu", "threads=1"]
UNTRAINED = ["model=gmf", "model.embedding_size=4"]
GMF = [*UNTRAINED, "model.epochs=6"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    write_log(folder / "log.csv")
    return folder


@pytest.fixture
def there(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


def never_offers_what_was_seen(trained, log):
    """Nothing that a user has, and everything else: to the end of the catalog."""
    table = trained.recommend(trained.users.ids, k=len(trained.items))
    pairs = set(zip(table["user_id"], table["item_id"], strict=True))
    seen = set(zip(log["user_id"].cast(pl.String), log["item_id"].cast(pl.String), strict=True))
    assert not pairs & seen
    assert len(pairs) + len(seen) == len(trained.users) * len(trained.items)


def test_all_of_a_log_becomes_train(place):
    data = read_log(place / "log.csv")
    train, validation, test = no_split(data)
    assert (len(train), len(validation), len(test)) == (540, 0, 0)
    assert train.content_hash == data.content_hash


@pytest.mark.parametrize("split", ["none", "null"])
def test_everything_is_fitted_and_nothing_evaluated(there, capsys, split):
    assert main(["train", *WORDS, "model=als", "model.embedding_size=8", f"split={split}", f"run=on-{split}"]) == 0
    assert "nothing was held out, so there are no figures" in capsys.readouterr().out
    trained = load_run(f"on-{split}")
    assert trained.metrics == {}
    assert trained.manifest["data"]["interactions"] == 540 == len(trained.seen)
    never_offers_what_was_seen(trained, pl.read_csv("log.csv"))
    assert main(["evaluate", f"run=on-{split}"]) == 1
    assert "it was fitted on everything" in capsys.readouterr().err
    assert main(["index", f"run=on-{split}"]) == 1
    assert "has no held-out validation part" in capsys.readouterr().err
    assert main(["reproduce", f"run=on-{split}"]) == 0
    assert "gives the same model, bit for bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["pipeline=three_stage", "pipeline.examples.last=2", "pipeline.examples.rounds=1", "pipeline.ranker.epochs=2"],
        GMF,
    ],
)
def test_pipelines_and_networks_too(there, capsys, words):
    name = words[0].replace("=", "-")
    assert main(["train", *WORDS, *words, "split=none", f"run={name}"]) == 0
    assert load_run(name).metrics == {}
    if words is GMF:
        never_offers_what_was_seen(load_run(name), pl.read_csv("log.csv"))


def test_a_run_is_refitted_on_everything(place):
    run("train", *WORDS, "model=item_knn", "model.num_neighbors=7", "run=runs/chosen", cwd=place)
    said = run("refit", "runs/chosen", cwd=place).stdout
    assert "fitted on all 540 interactions" in said
    again = load_run(place / "runs/chosen-refit")
    assert again.config["model"]["num_neighbors"] == 7
    assert again.manifest["parent"]["folder"] == str(place / "runs/chosen")
    never_offers_what_was_seen(again, pl.read_csv(place / "log.csv"))
    assert "bit for bit" in run("reproduce", "runs/chosen-refit", cwd=place).stdout
    said = run("evaluate", "runs/chosen-refit", cwd=place, status=1).stderr
    assert "its parent is" in said

    newer = (place / "log.csv").read_text() + "777,3,5,1500000000\n777,brand new,5,1500000001\n"
    (place / "newer.csv").write_text(newer)
    run("refit", "runs/chosen", "data.path=newer.csv", "output=runs/newer", cwd=place)
    served = load_run(place / "runs/newer")
    assert "brand new" in served.items
    assert "3" not in served.recommend(["777"], k=5)["item_id"].to_list()
    assert "exists already" in run("refit", "runs/chosen", "output=runs/newer", cwd=place, status=1).stderr


def test_a_run_that_did_not_learn_from_all_of_the_log_says_so_once(there, capsys, caplog):
    assert main(["train", *WORDS, "model=popularity", "run=runs/part"]) == 0
    assert main(["refit", "run=runs/part"]) == 0
    assert main(["train", *WORDS, "model=popularity", "run=runs/all", "split=none"]) == 0
    caplog.set_level("INFO", "recsys_dl")
    for words in (["recommend", "users=[100,101]"], ["recommend", "history=[3]"], ["export", "format=parquet"]):
        caplog.clear()
        assert main([words[0], "runs/part", *words[1:]]) == 0
        said = "".join(one.getMessage() for one in caplog.records if hasattr(one, "always"))  # what the terminal shows
        assert said.count("learned from the training part of its split only") == 1
        assert "recsys-dl refit run=runs/part" in said
        for whole in ("runs/part-refit", "runs/all"):
            caplog.clear()
            assert main([words[0], whole, *words[1:]]) == 0
            assert "training part" not in caplog.text
    capsys.readouterr()
    for whole in ("runs/part-refit", "runs/all"):
        assert main(["refit", f"run={whole}"]) == 1
        said = capsys.readouterr().err
        assert f"{whole} was fitted on all of its log already" in said
        assert f"recsys-dl refit run={whole} data.path=" in said
        assert main(["refit", f"run={whole}", "data.path=log.csv"]) == 0


def test_epochs_that_early_stopping_kept_are_carried_over(there, capsys):
    words = [
        *UNTRAINED,
        "model.epochs=30",
        "model.learning_rate=0.05",
        "trainer.patience=2",
        "trainer.smoothing=1",
        "trainer.metric=ndcg@5",
        "evaluate.k=[5]",
    ]
    assert main(["train", *WORDS, *words, "run=runs/stopped"]) == 0
    kept = load_run("runs/stopped").manifest["best_epoch"]
    told = [line for line in Path("runs/stopped/run.log").read_text().splitlines() if "epoch_loss" in line]
    figures = [float(line.rsplit(" ", 1)[1]) for line in told]
    assert 1 <= kept == int(np.argmax(figures)) + 1 < len(told) < 30
    assert main(["refit", "run=runs/stopped"]) == 0
    again = load_run("runs/stopped-refit")
    assert again.config["model"]["epochs"] == again.manifest["parent"]["epochs"] == kept
    assert again.config["trainer"]["patience"] is None
    assert main(["refit", "run=runs/stopped", "epochs=3", "output=three"]) == 0
    assert load_run("three").config["model"]["epochs"] == 3
    manifest = json.loads((there / "runs/stopped/manifest.json").read_text())
    del manifest["best_epoch"]
    (there / "runs/stopped/manifest.json").write_text(json.dumps(manifest))
    capsys.readouterr()
    assert main(["refit", "run=runs/stopped"]) == 1
    assert "did not record the epoch; set epochs=" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["split.num_validation=0"], "split.num_validation=0 holds none out. Use evaluate.part=test"),
        (["split=time", "split.validation=0"], "split.validation=0 holds none out"),
        (["split=random", "split.validation=0"], "split.validation=0 holds none out"),
        (["split=user", "split.validation=0.0"], "split.validation=0 holds none out"),
        (
            [*GMF, "split.num_validation=0", "evaluate.part=test", "trainer.patience=2"],
            "trainer.patience=2 needs a validation part",
        ),
        ([*GMF, "split=none", "trainer.patience=2"], "but split=none holds none out"),
        ([*GMF, "trainer.checkpoint=log.csv/kept"], "log.csv is a file"),
        ([*GMF, "trainer.checkpoint=log.csv"], "log.csv is a file"),
        (["evaluate.part=tset"], "evaluate.part must be validation or test, got 'tset' (did you mean 'test'?)"),
        (["run=log.csv/als"], "log.csv is a file, not a folder"),
        (["run=log.csv"], "exists already"),
    ],
)
def test_refused_before_anything_is_read(there, capsys, monkeypatch, words, message):
    """The file does not exist: had it been read first, the error would be another."""
    status = 2 if words == ["evaluate.part=tset"] else 1  # 2: a word that is wrong by itself, whatever the others
    model = [] if words[0].startswith("model=") else ["model=als"]
    assert main(["train", "data=log", "data.path=no-such-file.csv", *model, *words]) == status
    err = capsys.readouterr().err
    assert message in err
    assert "no-such-file" not in err


def test_without_validation_a_run_is_evaluated_on_test(there):
    words = ["model=als", "model.embedding_size=8", "split.num_validation=0", "evaluate.part=test", "run=no-validation"]
    assert main(["train", *WORDS, *words]) == 0
    assert set(load_run("no-validation").metrics) == {"test"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["epochs=0"], "epochs must be a whole number"),
        (["epochs=3"], "epochs is for models that are trained in epochs"),
        (["data.path=none.csv"], "none.csv"),
    ],
)
def test_what_a_refit_cannot(there, capsys, words, message):
    if not (there / "knn").exists():
        assert main(["train", *WORDS, "model=item_knn", "run=knn"]) == 0
    model = "knn" if words[0] != "epochs=0" else "gmf0"
    if model == "gmf0" and not (there / "gmf0").exists():
        assert main(["train", *WORDS, *UNTRAINED, "model.epochs=1", "run=gmf0"]) == 0
    assert main(["refit", f"run={model}", *words]) in (1, 2)
    assert message in capsys.readouterr().err
