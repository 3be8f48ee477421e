"""Two processes, a GPU each, over NCCL: ALS, a neural model and evaluation give what one GPU gives. Skipped where there are fewer GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import gpus_process
import numpy as np
import pytest
import torch

from recsys_dl.kernels.device import num_gpus

PROGRAM = Path(__file__).with_name("gpus_process.py")
MODELS = {"cholesky", "cg", "ials++", "neural"}


def on_gpus(processes: int, file: Path) -> dict[str, np.ndarray]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run(
        [sys.executable, *launcher, PROGRAM, "cuda", file],
        env=kept | {"PYTHONPATH": str(PROGRAM.parent.parent)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(np.load(file))


@pytest.mark.gpu
def test_two_gpus_over_nccl_give_what_one_gives(tmp_path):
    if num_gpus() < 2:
        pytest.skip(f"needs two NVIDIA GPUs, found {num_gpus()}")
    if not torch.distributed.is_nccl_available():
        pytest.skip("needs a Torch with NCCL")
    one, two = (on_gpus(processes, tmp_path / f"{processes}.npz") for processes in (1, 2))
    assert "nccl" in str(two.pop("backends"))
    one.pop("backends")
    assert one.keys() == two.keys()
    for name, value in one.items():
        # Sums over a batch's halves, or over half of the rows, round otherwise: 1e-7 a term, which two epochs of Adam amplify
        tolerance = 1e-2 if name.startswith("neural/") else 1e-4
        np.testing.assert_allclose(two[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


def test_the_program_runs_with_one_process_on_the_cpu(tmp_path):
    """So that it is right before there are two GPUs to run it on."""
    gpus_process.main("cpu", str(tmp_path / "one.npz"))
    found = np.load(tmp_path / "one.npz")
    assert {name.partition("/")[0] for name in found.files} == MODELS | {"backends"}
    for model in MODELS:
        assert (found[f"{model}/ndcg@5"] > 0).any()
    for name in found.files:
        if name != "backends":
            assert np.isfinite(found[name]).all(), name
