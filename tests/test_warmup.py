"""recsys-dl warmup: what it compiles, the next process does not."""

import os
import subprocess
import sys

from processes import command


def warm(folder, *words):
    """Run it in a process that starts with the kernels in a folder alone."""
    done = subprocess.run(
        [sys.executable, "-m", "recsys_dl.cli", "warmup", *words],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_second_process_compiles_nothing(tmp_path):
    first = warm(tmp_path / "kernels", "models=[popularity]")
    assert "kernels compiled and kept in" in first
    assert str(tmp_path) in first
    assert list((tmp_path / "kernels").rglob("*.nbi"))
    (line,) = (line for line in first.splitlines() if line.startswith("popularity"))
    assert int(line.split()[2]) > 0
    assert "nothing to compile" in warm(tmp_path / "kernels", "models=[popularity]")


def test_every_model_is_fitted_and_asked(tmp_path):
    said = command("warmup", cwd=tmp_path).stdout
    names = [line.split()[0] for line in said.splitlines() if " " in line]
    assert {"als", "neumf", "content", "hybrid", "pipeline=three_stage"} <= set(names)


def test_a_wrong_name_is_refused(tmp_path):
    said = command("warmup", "models=[alls]", cwd=tmp_path, status=1)
    assert "did you mean 'als'" in said.stderr
