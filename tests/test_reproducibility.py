"""What docs/reproducibility.md promises: each of its lines names a test, and those that no other file tests are here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import command
from test_command import write_log

from recsys_dl import load_run, provenance
from recsys_dl.cli import main
from recsys_dl.verbs.reproduce import _changes

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "reproducibility.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/\w+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda part: part)
def test_each_test_that_the_page_names_is_there(file, test):
    assert re.search(rf"^def {test}\(", (ROOT / file).read_text(), re.MULTILINE)


def test_each_line_of_the_page_names_a_test():
    promises = PAGE.split("## What is bitwise equal")[1].split("## The manifest")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and not line.startswith("| what")]
    assert len(rows) > 20
    assert not [row for row in rows if not re.search(r"`tests/\w+\.py::\w+` \|$", row)]


WORDS = ["data=log", "data.path=log.csv", "model=gmf", "model.embedding_size=4", "model.epochs=2", "device=cpu"]
WORDS += ["evaluate.k=[5]", "trainer.patience=5"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess, list[str]]:
    """A folder with a log and runs/two, trained by two processes; what they printed, and the runs that they left."""
    folder = tmp_path_factory.mktemp("place")
    write_log(folder / "log.csv")
    done = start("train", *WORDS, "trainer.processes=2", "run=runs/two", cwd=folder)
    return folder, done, [file.name for file in (folder / "runs").iterdir()]


@pytest.fixture(scope="module")
def place(trained) -> Path:
    return trained[0]


def start(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run the command in a process of its own, as a shell starts it: Lightning starts its command again for the second process."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "API_KEY": "a secret", "COLUMNS": "120"}
    program = [sys.executable, "-m", "recsys_dl.cli", *words]
    done = subprocess.run(program, cwd=cwd, env=variables, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_leave_one_run_and_print_once(trained, monkeypatch):
    place, done, left = trained
    assert left == ["two"]
    assert done.stdout.count("The run is in runs/two") == 1
    assert done.stderr.count("fit ") == 1
    monkeypatch.chdir(place)
    assert main(["train", *WORDS, "run=alone"]) == 0
    alone, two = load_run("alone"), load_run("runs/two")
    for name, value in alone.model.arrays().items():
        if name.startswith("network."):
            np.testing.assert_allclose(two.model.arrays()[name], value, rtol=1e-4, atol=1e-5)


def test_a_run_of_two_processes_is_reproduced_by_two(place):
    assert json.loads((place / "runs/two/manifest.json").read_text())["processes"] == 2
    assert "reproduced: runs/two gives the same validation metrics" in start("reproduce", "runs/two", cwd=place).stdout


def test_the_manifest_holds_the_provenance(place):
    text = (place / "runs/two/manifest.json").read_text()
    manifest = json.loads(text)
    for line in re.findall(r"^\| (`\w+`[^|]*) \|", PAGE.split("## The manifest")[1], re.MULTILINE):
        for name in re.findall(r"`(\w+)`", line):
            assert name in manifest, name
    assert {"hash", "interactions", "users", "items"} <= set(manifest["data"])
    assert manifest["hardware"]["processor"]
    assert manifest["hardware"]["memory_bytes"] > 1 << 26
    assert manifest["hardware"]["processors"] >= 1
    assert manifest["environment"]["NUMBA_NUM_THREADS"] == "1"
    assert {"numpy", "numba", "torch", "pytorch-lightning"} <= set(manifest["versions"])
    assert "a secret" not in text


def test_secrets_are_not_recorded():
    variables = {
        "NUMBA_NUM_THREADS": "4",
        "SLURM_JOB_ID": "12",
        "SLURM_JWT": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "HOME": "/home/me",
        "NCCL_TOKEN": "x",
        "OMP_PLACES": "c" * 9999,
    }
    kept = provenance.environment(variables)
    assert set(kept) == {"NUMBA_NUM_THREADS", "SLURM_JOB_ID", "OMP_PLACES"}
    assert len(kept["OMP_PLACES"]) <= 200


@pytest.mark.parametrize(
    ("variables", "launcher", "job"),
    [
        ({}, None, None),
        ({"SLURM_JOB_ID": "12"}, "slurm", "12"),
        ({"SLURM_JOB_ID": "14", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "2"}, "slurm", "12_2"),
        ({"TORCHELASTIC_RUN_ID": "abc"}, "torchrun", "abc"),
        ({"TORCHELASTIC_RUN_ID": "abc", "SLURM_JOB_ID": "12"}, "torchrun", "12"),
        ({"RECSYS_DL_LAUNCHER": "joblib"}, "joblib", None),
    ],
)
def test_launcher_and_job(variables, launcher, job):
    assert provenance.launched(variables) == {"launcher": launcher, "job": job}


def test_what_has_changed_is_named(place, tmp_path):
    then = json.loads((place / "runs/two/manifest.json").read_text())
    assert not list(_changes(then, then))
    now = json.loads(json.dumps(then))
    now["threads"] = 64
    now["versions"]["numpy"] = "3.0"
    now["hardware"]["processor"] = "another"
    assert [line.partition(":")[0] for line in _changes(then, now)] == ["numpy", "threads", "processor"]
    del then["hardware"]  # as an earlier version wrote it
    assert [line.partition(":")[0] for line in _changes(then, now)] == ["numpy", "threads"]


def test_a_manifest_of_an_earlier_version_is_read(place):
    file = place / "runs/two/manifest.json"
    text = file.read_text()
    try:
        earlier = json.loads(text)
        for name in ("processes", "hardware", "environment", "launcher", "job"):
            del earlier[name]
        file.write_text(json.dumps(earlier))
        assert "ndcg" in command("evaluate", "run=runs/two", "k=5", cwd=place).stdout
    finally:
        file.write_text(text)


def test_memory_is_no_more_than_a_control_group_allows(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    monkeypatch.setattr(provenance, "_memory_limits", lambda: [limit])
    whole = provenance.memory_limit()
    limit.write_text("1000000\n")
    assert provenance.memory_limit() == 1_000_000 < whole
