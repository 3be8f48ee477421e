"""`recsys-dl train -m`: trials of every combination, resumed by the same command, with one table."""

import csv
import json
import os
import shutil
import signal
import time

import numpy as np
import pytest
from processes import Going, command

from recsys_dl.sweeps.ledger import Ledger

SMALL = ("data=generated", "data.num_users=120", "data.num_items=60", "data.num_interactions=720", "threads=1")


def test_a_sweep_its_table_and_its_continuation(tmp_path):
    words = ("train", "-m", *SMALL, "model=popularity,item_knn", "run=sweeps/s")
    done = command(*words, cwd=tmp_path)
    assert "2 finished" in done.stdout
    assert "trial 0: model=popularity: ndcg@10" in done.stderr
    folder = tmp_path / "sweeps/s"
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert sorted(row["model"] for row in rows) == ["item_knn", "popularity"]
    assert float(rows[0]["ndcg@10"]) >= float(rows[1]["ndcg@10"])
    assert all((folder / name).stat().st_size > 1000 for name in ("trials.html", "trials.png"))
    assert all(trial.finished and not (trial.folder / "checkpoint").exists() for trial in Ledger(folder).trials)

    best = f"hydra.searchpath=[file://{folder}]", "experiment=best"
    assert f"recsys-dl train '{best[0]}' experiment=best" in done.stdout
    command("train", *best, "run=best", cwd=tmp_path)
    figures = json.loads((tmp_path / "best/metrics.json").read_text())["validation"]["values"]
    assert figures["ndcg@10"] == float(rows[0]["ndcg@10"])

    again = command(*words[:-2], "model=popularity,item_knn,ease", "run=sweeps/s", cwd=tmp_path)
    assert "3 trials in sweeps/s, 2 of them finished before" in again.stderr
    assert [len(trial.attempts) for trial in Ledger(folder).trials] == [1, 1, 1]

    status = command("sweep", "status", "sweeps/s", cwd=tmp_path).stdout
    assert "3 finished" in status
    assert command("status", "sweeps", cwd=tmp_path).stdout == status
    run = folder / "trials/000/run"
    assert "ndcg" in command("evaluate", f"run={run}", "part=test", cwd=tmp_path).stdout

    config = json.loads((folder / "sweep.json").read_text())
    config["code"]["commit"] = "0" * 40
    (folder / "sweep.json").write_text(json.dumps(config))
    refused = command(*words, cwd=tmp_path, status=1)
    assert "holds trials of other code" in refused.stderr


def test_a_failed_trial_has_its_reason_and_its_command_and_does_not_end_the_sweep(tmp_path):
    log = tmp_path / "log.csv"
    rng = np.random.default_rng(0)
    rows = sorted({(int(u), int(i)) for u, i in zip(rng.integers(0, 40, 400), rng.integers(0, 30, 400), strict=True)})
    log.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows))
    words = (
        "train",
        "-m",
        "data=log",
        "data.path=log.csv",
        "threads=1",
        "split=random,time",
        "model=popularity",
        "run=s",
    )
    done = command(*words, cwd=tmp_path, status=1)
    assert "1 finished, 1 failed" in done.stdout
    assert "trial 1 failed: " in done.stdout
    assert "recsys-dl train data=log data.path=log.csv threads=1 split=time model=popularity" in done.stdout
    assert "times" in done.stdout

    (tmp_path / "s/trials/001/failed.json").unlink()
    shutil.rmtree(tmp_path / "s/trials/001")
    log.write_text(log.read_text() + "1,1\n7,29\n39,29\n39,28\n39,27\n")
    told = command(*words[:5], "split=random", "model=popularity,item_knn", "run=s", cwd=tmp_path, status=1)
    assert "the data has changed since the run" in told.stdout


def wait_for(condition, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.05)


def test_kill_nine_of_the_sweep_and_of_a_trial_loses_nothing(tmp_path):
    words = ("train", "-m", *SMALL, "model=gmf", "seed=1,2", "model.epochs=12", "trainer.checkpoint_every=1", "run=s")
    sweep = Going(*words, cwd=tmp_path)
    trial = tmp_path / "s/trials/001"
    wait_for(lambda: any((trial / "checkpoint").glob("*")))
    sweep.kill()
    process = Ledger(tmp_path / "s").trials[1].attempts[0]["process"]
    os.kill(process, signal.SIGKILL)
    sweep.wait()
    wait_for(lambda: not Ledger(tmp_path / "s").trials[1].is_running())
    before = [one.state() for one in Ledger(tmp_path / "s").trials]
    assert before == ["finished", "interrupted"]
    first = (tmp_path / "s/trials/000/run/manifest.json").read_bytes()

    done = command(*words, cwd=tmp_path)
    assert "2 finished" in done.stdout
    ledger = Ledger(tmp_path / "s")
    assert [len(one.attempts) for one in ledger.trials] == [1, 2]
    assert (tmp_path / "s/trials/000/run/manifest.json").read_bytes() == first
    assert "resuming from" in (trial / "run/run.log").read_text()
    whole = command("train", *SMALL, "model=gmf", "seed=2", "model.epochs=12", "run=whole", cwd=tmp_path)
    assert whole.returncode == 0
    arrays = [np.load(folder / "model/arrays.npz") for folder in (tmp_path / "whole", trial / "run")]
    assert all(np.array_equal(arrays[0][name], arrays[1][name]) for name in arrays[0].files)


def test_a_trial_of_two_processes(tmp_path):
    words = ("train", "-m", *SMALL, "model=gmf", "model.epochs=2", "trainer.processes=1,2", "run=s")
    command(*words, cwd=tmp_path)
    one, two = (json.loads((tmp_path / f"s/trials/00{n}/run/metrics.json").read_text())["validation"] for n in (0, 1))
    assert one["values"]["ndcg@10"] == pytest.approx(two["values"]["ndcg@10"], abs=0.02)
    assert "processes=2" in (tmp_path / "s/trials/001/run/config.yaml").read_text().replace(": ", "=")


@pytest.mark.parametrize("launcher", ["joblib", "submitit", "ray"])
def test_every_launcher_gives_the_same_figures(tmp_path, launcher):
    pytest.importorskip({"submitit": "submitit", "ray": "ray"}.get(launcher, "joblib"))
    words = ("train", "-m", *SMALL, "model=als,popularity", f"launcher={launcher}", "run=s")
    command(*words, cwd=tmp_path)
    manifests = []
    for number, model in enumerate(("als", "popularity")):
        run = tmp_path / f"s/trials/00{number}/run"
        command("train", *SMALL, f"model={model}", f"run={model}", cwd=tmp_path)
        own = json.loads((tmp_path / model / "metrics.json").read_text())
        assert json.loads((run / "metrics.json").read_text()) == own
        manifests.append(json.loads((run / "manifest.json").read_text()))
    assert {one["launcher"] for one in manifests} == {launcher}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "-m", "model=als", "metric=ndcg@7"], "no trial reports it"),
        (["train", "-m", "model=als", "launcher=slurm", "launcher.cpus=0"], "launcher.cpus must be at least 1"),
        (["train", "-m", "model=als", "run=file.txt"], "file.txt"),
        (["train", "-m", "model=als", "run=full"], "holds other files"),
        (["train", "-m", "model=gmf", "trainer.num_nodes=2"], "launcher=slurm"),
        (["sweep", "status", "nowhere"], "has no sweep.json"),
        (["sweep", "status"], "a setting is missing: run"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, words, message):
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("x")
    if words[0] == "train":
        words = [*words, *SMALL]
    done = command(*words, cwd=tmp_path, status=None)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert len(done.stderr.splitlines()) <= 11
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file.txt", "full"]
