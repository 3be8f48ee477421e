"""`scripts/gpu_check.py` checks every kernel, fails when one does, and says so where there is no GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_dl.kernels.device import num_gpus

pytestmark = pytest.mark.skipif(num_gpus() > 0, reason="a GPU is at hand: run scripts/gpu_check.py itself")

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"


def run(*arguments, cwd=None):
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env={**kept, "COLUMNS": "200"}, cwd=cwd, capture_output=True, text=True)


def test_without_a_gpu_it_says_so_and_exits_2():
    done = run(SCRIPTS / "gpu_check.py")
    assert done.returncode == 2
    assert done.stderr == "No NVIDIA GPU with a working driver was found, so no kernel was checked.\n"
    assert done.stdout == ""


@pytest.mark.slow
def test_every_kernel_passes_under_the_simulator():
    pytest.importorskip("numba_cuda")
    pytest.importorskip("greenlet")
    done = run(SCRIPTS / "gpu_check.py", "--simulator")
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("SIMULATED on the CPU at tiny sizes") :]
    checked = {line.split("│")[1].strip() for line in table.splitlines() if "│ pass" in line}
    within = {
        "als_cg": "als",
        "als_gram": "als",
        "products": "topk",
        "vectors": "similarity",
    }  # carried out by another's check
    twins = {path.stem for path in (ROOT / "kernels/cuda").glob("*.py")} - {"__init__", "arrays", "keys", "machine"}
    assert checked == {within.get(twin, twin) for twin in twins}


def test_a_wrong_answer_and_a_broken_kernel_fail_without_hiding_the_rest():
    pytest.importorskip("numba_cuda")
    pytest.importorskip("greenlet")
    code = """if True:
        import sys, gpu_check, gpu_jobs
        def checks(tiny):
            def broken(inputs, device):
                raise ValueError("no such thing")
            good, other = gpu_jobs.top_k_checks(tiny)
            return good._replace(error=lambda outputs: 0.5), other._replace(run=broken), good
        gpu_check.CHECKS = [checks]
        sys.argv[1:] = ["--simulator"]
        sys.exit(gpu_check.main())
    """
    done = run("-c", code, cwd=SCRIPTS)
    assert done.returncode == 1, done.stderr
    assert "FAIL: error above 0e+00" in done.stdout
    assert "FAIL: ValueError: no such thing" in done.stdout
    assert "pass" in done.stdout
