"""The command `recsys-dl tune`, on tiny data: what it prints and leaves, and that a killed one goes on."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("optuna")

from processes import Going, command

from recsys_dl.cli import main
from recsys_dl.compose import compose_command
from recsys_dl.compose.options import options
from recsys_dl.sweeps.space import Choices, Interval

DATA = ["data=generated", "data.num_users=200", "data.num_items=100", "data.num_interactions=2000"]
ALS = ["model=als", *DATA, "threads=1", "model.embedding_size=4,8", "model.epochs=1,2", "sampler=grid"]
GMF = ["model=gmf", *DATA, "threads=1", "device=cpu", "model.embedding_size=8", "model.num_negatives=1"]
RATE = "model.learning_rate=tag(log,interval(0.0001,0.03))"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("tag", ["log", "LOG", "Log"])
def test_a_range_is_tagged_in_any_case(tag):
    words = [f"model.regularization=tag({tag},interval(0.001,0.1))", f"model.epochs=tag({tag},range(1,9))"]
    space = compose_command("tune", ["model=als", *DATA, *words]).space
    assert space["model.regularization"] == {"low": 0.001, "high": 0.1, "log": True}
    assert space["model.epochs"] == {"low": 1, "high": 8, "step": 1, "log": True}


def table(study: Path) -> dict[int, dict[str, str]]:
    with (study / "trials.csv").open() as stream:
        return {int(row["trial"]): row for row in csv.DictReader(stream)}


def test_a_study_and_what_it_leaves(place, capsys, caplog):
    words = [*ALS, "run=study", "metric=ndcg@10,coverage@10"]
    assert main(["tune", *words, "test=true"]) == 0
    out = capsys.readouterr().out
    rows = table(place / "study")
    assert len(rows) == 4
    assert {row["state"] for row in rows.values()} == {"finished"}
    assert caplog.text.count("finished, ndcg@10 ") == 4
    for name in ("trials.png", "trials.html", "study.json", "experiment/best.yaml"):
        assert (place / "study" / name).is_file()
    best = max(rows.values(), key=lambda row: float(row["ndcg@10"]))
    assert f"trial {best['trial']} of study, als on generated, test" in out

    experiment = next(line.strip() for line in out.splitlines() if line.endswith("experiment=best"))
    assert main([*experiment.replace("'", "").split()[1:], "run=again"]) == 0
    again = json.loads((place / "again/metrics.json").read_text())["validation"]["values"]
    assert again["ndcg@10"] == float(best["ndcg@10"])
    assert main([*best["command"].split()[1:], "run=repeated"]) == 0
    assert json.loads((place / "repeated/metrics.json").read_text())["validation"]["values"] == again
    kept = sorted(folder.parts[-3] for folder in (place / "study").glob("trials/*/run/model"))
    assert f"{int(best['trial']):03d}" in kept
    capsys.readouterr()

    before = {file: file.stat().st_mtime_ns for file in (place / "study/trials").rglob("manifest.json")}
    assert main(["tune", *words, "test=true"]) == 0
    out = capsys.readouterr().out
    assert "study is continued: 4 of its 4 trials are done" in caplog.text
    assert {file: file.stat().st_mtime_ns for file in before} == before  # nothing ran twice
    assert f"trial {best['trial']} of study, als on generated, test" in out


def test_the_same_words_find_their_study_again(place, capsys):
    assert main(["tune", *ALS, "timeout=0.001"]) == 0
    assert main(["tune", *reversed(ALS), "timeout=0.001", "trials=3"]) == 0
    assert len(list((place / "tune").iterdir())) == 1
    out = capsys.readouterr().out
    assert "0 started of 3 trials" in out
    assert (
        "No trial finished: timeout=0.001 was over before one began; the same command with a longer one goes on." in out
    )


def test_a_study_of_which_every_trial_fails_is_an_error(place, capsys):
    (place / "few.csv").write_text(
        "user_id,item_id\n" + "".join(f"{user},{item}\n" for user in "ab" for item in "wxyz")
    )
    words = ["model=als", "model.epochs=1,2", "data=log", "data.path=few.csv", "split.order=log", "threads=1"]
    assert main(["tune", *words, "sampler=grid", "run=failing"]) == 1
    out = capsys.readouterr().out
    assert "2 failed of 2 trials" in out
    assert "evaluate.k must be between 1 and the 4 items, got [10, 20]; set evaluate.k=[4]" in out
    assert main(["tune", *words, "sampler=grid", "run=fitting", "evaluate.k=[4]", "metric=ndcg@4"]) == 0


def test_a_trial_killed_in_mid_training_continues_from_its_checkpoint(place, caplog):
    words = [*GMF, RATE, "model.epochs=12", "model.batch_size=64", "sampler=random", "trials=2", "run=killed"]
    process = Going("tune", *words, cwd=place)
    checkpoint = place / "killed/trials/000/checkpoint/newest.ckpt"
    while not checkpoint.exists() and process.wait(0.01) is None:
        pass
    process.kill()
    process.wait()
    assert checkpoint.exists()
    assert not (place / "killed/trials/000/run").exists()
    assert main(["tune", *words]) == 0
    assert "trial 0 was interrupted; it is continued" in caplog.text
    assert "resuming from" in (place / "killed/trials/000/run/run.log").read_text()
    assert not checkpoint.parent.exists()
    assert main(["tune", *words[:-1], "run=whole"]) == 0
    killed, whole = table(place / "killed"), table(place / "whole")
    for row in (*killed.values(), *whole.values()):
        del row["seconds"], row["folder"]
    assert killed == whole  # to the bit


def test_a_finished_run_that_was_not_recorded_is_not_run_again(place):
    words = [*ALS, "run=study"]
    assert main(["tune", *words, "trials=1"]) == 0
    import optuna

    (place / "study/study.db").unlink()
    study = optuna.create_study(storage="sqlite:///study/study.db", study_name="study", direction="maximize")
    study.set_user_attr("identity", json.loads((place / "study/study.json").read_text()))
    study.ask()  # as if killed between the run and its record
    stamp = (place / "study/trials/000/run/manifest.json").stat().st_mtime_ns
    assert main(["tune", *words, "trials=1"]) == 0
    assert (place / "study/trials/000/run/manifest.json").stat().st_mtime_ns == stamp
    assert table(place / "study")[0]["state"] == "finished"


def test_pruned_trials_are_not_trained_to_the_end(place, capsys):
    words = [*GMF, "model.epochs=8", "model.learning_rate=0.03,0.02,0.01,0.005,1e-7", "sampler=grid", "pruner=median"]
    assert main(["tune", *words, "run=study"]) == 0
    rows = table(place / "study")
    assert rows[4]["state"] == "pruned"
    assert rows[0]["state"] == "finished"
    assert re.search(r"after epoch [2-4]$", rows[4]["reason"])
    assert "1 pruned" in capsys.readouterr().out


def test_two_workers_share_the_trials(place):
    words = [*ALS, "run=study"]
    done = command("tune", *words, "workers=2", cwd=place)
    assert main(["tune", *words[:-1], "run=alone"]) == 0
    both, alone = table(place / "study"), table(place / "alone")
    assert done.stderr.count(" finished, ndcg@10") == 4
    assert {at: row["ndcg@10"] for at, row in both.items()} == {at: row["ndcg@10"] for at, row in alone.items()}


@pytest.mark.slow
def test_four_workers_on_one_sqlite_study_are_the_same_trials_to_the_bit(place):
    words = ["tune", *ALS[:-3], "model.embedding_size=4,8,16", "model.epochs=1,2", "model.regularization=0.01,0.1"]
    for run, workers in (("four", 4), ("one", 1)):
        command(*words, "sampler=grid", f"run={run}", f"workers={workers}", cwd=place)
    four, one = table(place / "four"), table(place / "one")
    assert len(four) == 12
    for row in (*four.values(), *one.values()):
        del row["seconds"], row["folder"]
    assert four == one


def test_other_data_is_refused(place, capsys):
    log = "".join(f"{user},{(user * step) % 37},{step}\n" for user in range(60) for step in range(1, 8))
    (place / "log.csv").write_text("user,item,time\n" + log)
    words = ["tune", "model=als", "data=log", "data.path=log.csv", "threads=1", "model.epochs=1,2", "run=study"]
    words += ["model.embedding_size=4", "sampler=grid"]
    assert main(words) == 0
    (place / "log.csv").write_text("user,item,time\n" + log + "3,11,99\n")
    assert main(words) == 1
    assert "data of hash was" in capsys.readouterr().err
    (place / "log.csv").write_text("user,item,time\n" + log)
    assert main(["model.epochs=1,3" if word == "model.epochs=1,2" else word for word in words]) == 1
    assert "space of model.epochs was [1, 2], is [1, 3]" in capsys.readouterr().err


@pytest.fixture
def disk(place):
    """A disk of 400 KiB."""
    folder = place / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (that takes root)")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_in_mid_study_loses_nothing(place, disk, capsys):
    words = ["tune", *ALS, "keep=all", f"run={disk / 'study'}"]
    assert main([*words, "trials=1"]) == 0
    (disk / "else").write_bytes(b"")
    with (disk / "else").open("wb", buffering=0) as stream:
        try:
            while stream.write(bytes(4096)):
                pass
        except OSError:
            pass
    capsys.readouterr()
    assert main(words) == 1
    assert "the disk is full" in capsys.readouterr().err.splitlines()[-1]
    (disk / "else").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", disk], check=True)
    assert main(words) == 0
    assert [row["state"] for row in table(disk / "study").values()] == ["finished"] * 4


SPACES = options("space")


def test_every_model_with_settings_to_tune_has_a_space():
    assert set(SPACES) == set(options("model"))


@pytest.mark.parametrize("name", SPACES)
def test_a_space_is_of_its_model_and_holds_its_defaults(name):
    from recsys_dl.verbs.search import Search

    config = compose_command("tune", [f"model={name}", f"space={name}", "data=generated"])
    search = Search(config)  # every choice and both ends compose
    for key, one in search.space.items():
        default = search.base
        for part in key.split("."):
            default = default[part]
        default = (
            yaml.safe_load(yaml.safe_dump(default)) if isinstance(default, int | float | str | None) else list(default)
        )
        if isinstance(one, Choices):
            assert default in one.values, key
        else:
            assert isinstance(one, Interval)
            assert one.low <= default <= one.high, key


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model=als"], "a search space is missing: space=als, or ranges"),
        (["model=als", "space=alss"], "no such space (did you mean 'als'?)"),
        (
            ["model=als", "model.embeding_size=1,2"],
            "no setting 'model.embeding_size' (did you mean 'model.embedding_size'?)",
        ),
        (["model=als", "space=bpr"], "in the search space, model.learning_rate=0.01: there is no setting"),
        (
            ["model=als", "model.solver=cg,choleski"],
            "model.solver must be auto, cholesky, cg or ials++, got 'choleski'",
        ),
        (["model=als", "model.epochs=interval(9,3)"], "low must be below high"),
        (["model=als", "model.epochs=interval(a,b)"], "cannot be read as a range"),
        (["model=als", "model.epochs=1,1"], "at least two choices, all different"),
        (["model=als", "model.embedding_size=glob(*)"], "is no range that can be searched"),
        (["model=als", "space=als", "space.model.epochs=3"], "ranges are set by the setting's own name"),
        (["model=als", "data=interval(1,2)", "space=als"], "must be the same for all trials"),
        (["model=als,bpr", "space=als"], "a study tunes one model"),
        (["model=als", "space=als", "metric=ndgc@10"], "no trial reports metric=ndgc@10 (did you mean 'ndcg@10'?)"),
        (["model=als", "space=als", "metric=ndcg@7"], "for lists of 7 set evaluate.k=[7]"),
        (["model=als", "space=als", "metric=ndcg@10,ndcg@10"], "each metric once"),
        (["model=als", "space=als", "pruner=asha"], "pruner=asha would have no effect"),
        (
            ["model=gmf", "space=gmf", "pruner=asha", "metric=coverage@10"],
            "needs a metric that is validated after each epoch",
        ),
        (["model=gmf", "space=gmf", "pruner=asha", "metric=ndcg@10,coverage@10"], "takes one metric"),
        (["model=gmf", "space=gmf", "trainer.processes=2"], "a trial trains in one process"),
        (["model=als", "space=als", "evaluate.part=test"], "compares trials on validation, always"),
        (["model=als", "space=als", "split=none"], "this split holds none out"),
        (["model=als", "space=als", "sampler=grid"], "sampler=grid needs choices, or a step"),
        (["model=als", "model.epochs=1,2", "sampler=cmaes"], "this space has choices alone"),
        (["model=als", "space=als", "sampler=tpee"], "(did you mean 'tpe'?)"),
        (["model=als", "space=als", "trials=0"], "trials must be a whole number from 1"),
        (["model=als", "space=als", "storage=foo://me:secret@bar", "run=s"], "storage=foo://…@bar cannot be opened"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input(place, capsys, words, told):
    data = [] if any(word.startswith("data=") for word in words) else ["data=generated"]
    assert main(["tune", *data, *words]) in (1, 2)
    err = capsys.readouterr().err
    assert told in err, err
    assert "secret" not in err


def test_without_optuna_it_says_what_to_install(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(["tune", "model=als", "space=als"]) == 1
    assert "pip install optuna cmaes" in capsys.readouterr().err
