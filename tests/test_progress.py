"""Progress is drawn where a person watches, and nowhere else."""

import os
import pty
import subprocess
import sys

PROGRAM = """
from recsys_dl.progress import track, waiting
import time
print(sum(track(range(3), "steps")), end=" ")
with waiting("one long step"):
    time.sleep(0.3)
print("done")
"""


def test_silent_where_nobody_watches():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout == "3 done\n"
    assert done.stderr == ""


def test_drawn_on_a_terminal():
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        check=True,
        env=os.environ | {"TERM": "xterm"},
    )
    os.close(theirs)
    drawn = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.stdout == "3 done\n"
    assert "steps" in drawn
    assert "3/3" in drawn
    assert "one long step" in drawn


def test_a_long_loop_is_logged_where_nobody_watches(monkeypatch, caplog):
    from recsys_dl import progress

    monkeypatch.setattr(progress, "SECONDS", 0)
    with caplog.at_level("INFO"):
        assert sum(progress.track(range(3), "steps")) == 3
    assert "steps: 2 of 3" in caplog.text


def test_a_training_is_logged_where_nobody_watches(monkeypatch, caplog):
    from recsys_dl import progress

    monkeypatch.setattr(progress, "SECONDS", 0)
    with caplog.at_level("INFO"):
        progress.Meter("GMF", 20).tell("epoch 1 of 2, epoch_loss 0.5")
    assert "GMF: epoch 1 of 2, epoch_loss 0.5, 0 s" in caplog.text
    assert progress.SIGN.items() <= vars(caplog.records[-1]).items()


def test_a_pipeline_prints_a_line_a_stage_and_no_hints_where_nobody_watches(tmp_path):
    from processes import command as run
    from test_command import write_log

    write_log(tmp_path / "log.csv")
    words = [
        "pipeline=three_stage",
        "pipeline.examples.last=2",
        "pipeline.examples.rounds=1",
        "pipeline.ranker.epochs=2",
    ]
    words += ["pipeline.retrievers.als.embedding_size=4", "threads=1", "split=none", "run=here"]
    err = run("train", "data=log", "data.path=log.csv", *words, cwd=tmp_path).stderr
    stages = [line.split(":")[0].split(" fitted")[0] for line in err.splitlines()]
    for stage in ("read", "split", "als", "item_knn", "ranker", "fit"):
        assert stage in stages, err
    words = ["model=gmf", "model.embedding_size=2", "model.epochs=2", "logger=csv", "run=there"]
    err = run("train", "data=log", "data.path=log.csv", *words, "device=cpu", "threads=1", cwd=tmp_path).stderr
    told, *stages = err.splitlines()
    assert "user = " in told
    assert [line.split(":")[0] for line in stages] == ["read", "split", "fit", "evaluate", "gmf"]


def test_a_host_keeps_its_warnings_filters(tmp_path, monkeypatch, capsys):
    import warnings

    from recsys_dl.cli import main

    before = list(warnings.filters)
    assert main(["recommend", f"run={tmp_path}", "users=[1]"]) == 1
    assert list(warnings.filters) == before
