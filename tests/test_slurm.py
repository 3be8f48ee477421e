"""A real Slurm of one node: the quick start of docs/sweeps.md word for word, `kill -9` and `scancel` in the middle, and refusals.

It is started by shared/tools/slurm_one_node.sh, as root; where it is not there or cannot be started these tests skip and say so.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recsys_dl.sweeps.ledger import Ledger

pytest.importorskip("submitit", reason="launcher=slurm needs submitit")
SMALL = ("data=generated", "data.num_users=120", "data.num_items=60", "data.num_interactions=720")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """The environment of a process that may use Slurm."""
    given = os.environ.get("SLURM_CONF")
    script = Path(os.environ.get("SLURM_SCRIPT", ROOT / "../shared/tools/slurm_one_node.sh")).resolve()
    conf, started = given, False
    if given is None or shutil.which("sinfo") is None:
        if not script.is_file() or os.geteuid() != 0:
            pytest.skip(
                "no Slurm here: SLURM_CONF is not set, and a one-node Slurm needs root and shared/tools/slurm_one_node.sh"
            )
        done = subprocess.run(["bash", str(script), "start"], capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            pytest.skip(f"Slurm could not be started: {(done.stderr or done.stdout)[-300:]}")
        conf, started = re.findall(r"SLURM_CONF=(\S+)", done.stdout)[-1], True
    programs = tmp_path_factory.mktemp("bin")
    (programs / "recsys-dl").write_text(f'#!/bin/sh\nexec {sys.executable} -m recsys_dl "$@"\n')
    (programs / "recsys-dl").chmod(0o755)
    yield dict(os.environ) | {
        "SLURM_CONF": str(conf),
        "PYTHONPATH": str(ROOT),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "COLUMNS": "150",
    }
    if started:
        subprocess.run(["bash", str(script), "stop"], check=False, capture_output=True)


def recsys_dl(*words, cwd, env, status=0):
    done = subprocess.run(
        ["recsys-dl", *words], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == status, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done


def test_the_quick_start_word_for_word(slurm, tmp_path):
    text = (ROOT / "docs/sweeps.md").read_text().partition("## On a Slurm cluster")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (\S.*)$", text, re.MULTILINE)
    assert lines[0] == "pip install 'recsys_dl[sweep]'"
    assert len(lines) < 20  # one screen
    for line in lines[1:]:
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=slurm, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    ledger = Ledger(tmp_path / "sweeps/first")
    assert len(ledger.trials) == 9
    assert all(trial.finished and len(trial.attempts) == 1 and trial.attempts[0]["job"] for trial in ledger.trials)
    manifest = json.loads((ledger.trials[0].run / "manifest.json").read_text())
    assert manifest["launcher"] == "slurm"


def test_killed_and_canceled_in_the_middle(slurm, tmp_path):
    """The sweep is killed while jobs run, one job is canceled; the same command finishes, and nothing is run twice."""
    words = (
        "train",
        "-m",
        *SMALL,
        "model=gmf",
        "model.epochs=40",
        "seed=1,2",
        "trainer.processes=1,2",
        "launcher=slurm",
        "run=s",
    )
    sweep = subprocess.Popen(
        ["recsys-dl", *words, "trainer.checkpoint_every=1"], cwd=tmp_path, env=slurm, start_new_session=True
    )
    until = time.monotonic() + 300
    while not (going := list(tmp_path.glob("s/trials/*/checkpoint/*"))):
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    ledger = Ledger(tmp_path / "s")
    canceled = next(trial for trial in ledger.trials if trial.folder == going[0].parent.parent)
    subprocess.run(["scancel", canceled.job["id"]], env=slurm, check=True)
    status = recsys_dl("sweep", "status", "s", cwd=tmp_path, env=slurm).stdout
    assert re.search(r"\d (queued|running)", status)

    recsys_dl(*words, "trainer.checkpoint_every=1", cwd=tmp_path, env=slurm)
    attempts = {trial.number: len(trial.attempts) for trial in ledger.trials}
    assert all(trial.finished for trial in ledger.trials)
    assert attempts == {trial.number: 2 if trial.number == canceled.number else 1 for trial in ledger.trials}
    assert "resuming from" in (canceled.run / "run.log").read_text()
    two = next(trial for trial in ledger.trials if trial.processes == 2)
    assert json.loads((two.run / "manifest.json").read_text())["processes"] == 2


def test_what_slurm_refuses(slurm, tmp_path):
    for words, said in (
        ("launcher.partition=nowhere", "invalid partition"),
        ("launcher.gpus=8", "gres|node configuration|GPU"),
    ):
        done = recsys_dl(
            *shlex.split(f"train -m model=popularity launcher=slurm run=r {words}"),
            *SMALL,
            cwd=tmp_path,
            env=slurm,
            status=1,
        )
        assert "Slurm refuses the jobs" in done.stderr
        assert re.search(said, done.stderr, re.IGNORECASE), done.stderr
        script = re.search(r"Their script is (\S+?);", done.stderr)[1]
        assert "#SBATCH" in Path(script).read_text()
