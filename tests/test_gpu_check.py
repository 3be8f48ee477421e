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


@pytest.mark.parametrize("options", [[], ["--bench"]])
def test_without_a_gpu_it_says_so_and_exits_2(options):
    done = run(SCRIPTS / "gpu_check.py", *options)
    assert done.returncode == 2
    assert done.stderr == "No NVIDIA GPU with a working driver was found, so no kernel was checked.\n"
    assert done.stdout == ""


@pytest.mark.slow
def test_every_kernel_passes_under_the_simulator():
    pytest.importorskip("numba_cuda")
    pytest.importorskip("greenlet")
    done = run(SCRIPTS / "gpu_check.py", "--simulator", "--bench")
    assert done.returncode == 0, done.stdout + done.stderr
    table, _, timed = done.stdout[done.stdout.index("SIMULATED on the CPU at tiny sizes") :].partition("medians of ten")
    assert all(word in timed for word in ("als_exact", "item_knn", "of bound", "implicit: "))
    checked = {line.split("│")[1].strip() for line in table.splitlines() if "│ pass" in line}
    within = {  # carried out by another's check
        "als_cg": "als",
        "als_gram": "als",
        "als_large": "als",
        "als_long": "als",
        "als_narrow": "als",
        "products": "topk",
        "vectors": "similarity",
    }
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


def test_the_bench_times_every_job_that_has_a_bound_and_names_the_peers():
    pytest.importorskip("numba_cuda")
    code = """if True:
        import numpy as np, gpu_bench, gpu_bounds
        from recsys_dl.benchmarking.jobs import Shape, shape_of
        gpu_bench.here = lambda *arrays: arrays  # nothing is launched
        jobs = list(gpu_bench.timed(True))
        assert {job.name for job in jobs} == set(gpu_bounds.works(Shape(*gpu_bounds.PAPER, 64)))
        for job in jobs:
            assert job.work.amount > 0 and 0 < job.share(gpu_bounds.DEVICES["H100"], 1.0) < 1
            print(job.name, sorted(job.peers))
        assert gpu_bench.device_named("NVIDIA H200") == ("H200", gpu_bounds.DEVICES["H200"])
        assert gpu_bench.device_named("Tesla T4")[0] == "H100"
    """
    done = run("-c", code, cwd=SCRIPTS)
    assert done.returncode == 0, done.stderr
    assert "top_k ['cuvs', 'implicit', 'torch']" in done.stdout
    assert "bpr ['implicit']" in done.stdout


def test_the_page_has_the_bounds_that_its_command_prints():
    done = run("-c", "import gpu_bounds; assert gpu_bounds.table() == gpu_bounds.on_the_page()", cwd=SCRIPTS)
    assert done.returncode == 0, done.stderr
