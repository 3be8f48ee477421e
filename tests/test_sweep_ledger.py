"""The ledger of a sweep: what its folder says about each trial."""

import json
import os
import time

import pytest
from processes import program

from recsys_dl.sweeps.launchers import Basic, Job, Joblib, gpu_of, processors_of
from recsys_dl.sweeps.ledger import Ledger
from recsys_dl.sweeps.running import run_trials
from recsys_dl.sweeps.submitit_launchers import Slurm

CODE = {"version": "1", "commit": "abc"}
ABOUT = {"metric": "ndcg@10", "launcher": "basic"}


def entry(key, data="d"):
    return {"words": [f"seed={key}"], "key": key, "data": data, "processes": 1, "num_nodes": 1}


def opened(folder, *keys, code=CODE):
    return Ledger.open(folder, [entry(key) for key in keys], code=code, about=ABOUT)


def finish(trial, data_hash="h"):
    trial.run.mkdir(parents=True)
    (trial.run / "manifest.json").write_text(json.dumps({"data": {"hash": data_hash}}))


def test_states(tmp_path):
    waiting, queued, failed, stopped, finished = opened(tmp_path / "s", *"abcde").trials
    (queued.folder / "job.json").write_text('{"id": "7_0"}')
    for trial in (failed, stopped, finished):
        with trial.attempt() as mine:
            assert mine
            assert trial.state() == "running"
    failed.fail(1, "no memory")
    finish(finished)
    states = [one.state({"7_0": "PENDING"}) for one in (waiting, queued, failed, stopped, finished)]
    assert states == ["waiting", "queued", "failed", "interrupted", "finished"]
    assert queued.state({}) == "waiting"
    assert failed.failure["reason"] == "no memory"


def test_one_attempt_at_a_time(tmp_path):
    trial = opened(tmp_path / "s", "a").trials[0]
    with trial.attempt() as first, trial.attempt() as second:
        assert (first, second) == (True, False)
    assert len(trial.attempts) == 1


def test_asking_whether_it_runs_does_not_keep_it_from_running(tmp_path):
    import threading

    trial = opened(tmp_path / "s", "a").trials[0]
    over = threading.Event()

    def ask():
        while not over.is_set():
            trial.is_running()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(50):
            with trial.attempt() as mine:
                assert mine
    finally:
        over.set()
        asking.join()
    assert len(trial.attempts) == 50


def test_an_attempt_that_is_killed_is_interrupted(tmp_path):
    trial = opened(tmp_path / "s", "a").trials[0]
    program(
        "import os, sys\nfrom recsys_dl.sweeps.ledger import Ledger\n"
        "if os.fork() == 0:\n    with Ledger(sys.argv[1]).trials[0].attempt():\n        os.kill(os.getpid(), 9)\n"
        "assert os.waitstatus_to_exitcode(os.wait()[1]) == -9",
        tmp_path / "s",
    )
    assert trial.state() == "interrupted"
    assert len(trial.attempts) == 1
    with trial.attempt() as mine:
        assert mine


def test_a_line_cut_off_by_a_kill_is_no_attempt(tmp_path):
    trial = opened(tmp_path / "s", "a").trials[0]
    (trial.folder / "attempts.jsonl").write_text('{"host": "x"}\n{"host": "y"')
    assert [one["host"] for one in trial.attempts] == ["x"]
    with trial.attempt():
        pass
    assert len(trial.attempts) == 2


def test_more_trials_are_added_and_those_there_are_kept(tmp_path):
    finish(opened(tmp_path / "s", "a", "b").trials[1])
    ledger = opened(tmp_path / "s", "b", "c")
    assert [one.key for one in ledger.trials] == ["a", "b", "c"]
    assert [one.number for one in ledger.of(["b", "c"])] == [1, 2]
    assert ledger.trials[1].finished


def test_settings_in_which_trials_differ(tmp_path):
    trials = [entry("a") | {"words": words} for words in (["data=log", "seed=1"], ["data=log", "seed=2", "model=als"])]
    trials[1]["key"] = "b"
    assert Ledger.open(tmp_path / "s", trials, code=CODE, about=ABOUT).varied == ["seed", "model"]


def test_other_code_is_refused(tmp_path):
    ledger = opened(tmp_path / "s", "a")
    opened(tmp_path / "s", "a", code=CODE | {"commit": "def"})  # no trial has begun
    with ledger.trials[0].attempt():
        pass
    with pytest.raises(ValueError, match=r"commit was def, is abc.*another folder"):
        opened(tmp_path / "s", "a")


def test_the_hash_of_the_data_is_that_of_finished_trials_on_the_same_data(tmp_path):
    trials = [entry("a"), entry("b"), entry("c", data="other")]
    ledger = Ledger.open(tmp_path / "s", trials, code=CODE, about=ABOUT)
    assert ledger.data_hash(ledger.trials[1]) is None
    finish(ledger.trials[0], "h1")
    assert ledger.data_hash(ledger.trials[1]) == "h1"
    assert ledger.data_hash(ledger.trials[2]) is None


def test_what_is_not_the_folder_of_a_sweep(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        opened(tmp_path, "a")
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(FileNotFoundError, match=r"no sweep\.json"):
        Ledger(tmp_path)
    opened(tmp_path / "s", "a")
    (tmp_path / "s" / "sweep.json").write_text('{"format": 1}')
    with pytest.raises(ValueError, match="is damaged"):
        Ledger(tmp_path / "s")


FITS = (
    "import sys, json, pathlib, os\nfrom recsys_dl.sweeps.ledger import Ledger\n"
    + """
folder = pathlib.Path(sys.argv[1])
trial = next(one for one in Ledger(folder.parent.parent).trials if one.folder == folder)
with trial.attempt() as mine:
    if mine and trial.key == "bad":
        trial.fail(1, "cannot")
    elif mine:
        trial.run.mkdir()
        (trial.run / "manifest.json").write_text("{}")
"""
)


@pytest.mark.parametrize("launcher", [Basic(), Joblib(jobs=2)])
def test_every_trial_is_run_once_and_failed_ones_are_tried_again(tmp_path, launcher, monkeypatch):
    (tmp_path / "fits.py").write_text(FITS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    ledger = opened(tmp_path / "s", "a", "bad", "c")
    for attempts in (1, 2):
        ended = []
        run_trials(
            ledger.trials, launcher, module="fits", ended=lambda trial, state, to=ended: to.append((trial.key, state))
        )
        news = [("a", "finished"), ("c", "finished")] if attempts == 1 else []
        assert sorted(ended) == sorted([*news, ("bad", "failed")])
        assert [len(one.attempts) for one in ledger.trials] == [1, attempts, 1]


def test_a_trial_that_another_process_runs_is_waited_for(tmp_path, monkeypatch):
    import threading

    (tmp_path / "fits.py").write_text(FITS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    trial = opened(tmp_path / "s", "a").trials[0]
    begun = threading.Event()

    def elsewhere():
        with trial.attempt():
            begun.set()
            time.sleep(1.5)
            finish(trial)

    other = threading.Thread(target=elsewhere)
    other.start()
    begun.wait()
    run_trials([trial], Basic(), module="fits", ended=lambda *_: None)
    other.join()
    assert len(trial.attempts) == 1


def test_shares_of_a_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [processors_of(place, 4) for place in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert processors_of(9, 16) == [1]
    job = Job("j", ("true",), tmp_path, tmp_path / "log", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert [gpu_of(place, job)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["2", "5", "2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert gpu_of(1, job) == {}


@pytest.mark.parametrize(("name", "value"), [("minutes", 0), ("cpus", 0), ("jobs", 0), ("memory_gb", 0), ("gpus", -1)])
def test_sizes_of_jobs(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be at least"):
        Slurm(**{name: value})


def test_a_trial_takes_the_processors_that_its_launcher_gave_it(monkeypatch):
    for given, threads in (("1", 1), ("1000", len(os.sched_getaffinity(0)))):
        program_text = "from recsys_dl.threads import limit_threads; print(limit_threads(None))"
        monkeypatch.setenv("RECSYS_DL_CPUS", given)
        assert int(program(program_text)) == threads


def test_several_machines_need_a_cluster():
    for launcher in (Basic(), Joblib()):
        launcher.check(1)
        with pytest.raises(ValueError, match="launcher=slurm"):
            launcher.check(2)
