"""Where a kernel runs: "auto" is silent, "cuda" is a promise, and nobody meets the simulator unasked."""

import os
import subprocess
import sys

import pytest

from recsys_dl.kernels.device import num_gpus, resolve, simulated

no_gpu = pytest.mark.skipif(num_gpus() > 0, reason="a GPU is at hand")


def in_own_process(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "NUMBA_ENABLE_CUDASIM"}
    done = subprocess.run([sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True)
    return done.stdout.strip() or done.stderr


def test_only_three_words_are_known():
    with pytest.raises(ValueError, match='"auto", "cpu" or "cuda", got \'gpu\''):
        resolve("gpu")


def test_cpu_is_cpu():
    assert resolve("cpu") == "cpu"


@no_gpu
def test_auto_never_picks_the_simulator():
    assert simulated()
    assert resolve("auto") == "cpu"
    assert resolve("cuda") == "cuda"


@no_gpu
def test_cuda_without_a_gpu_says_what_is_missing():
    answer = in_own_process("from recsys_dl.kernels.device import resolve; resolve('cuda')")
    assert 'device="cuda" needs an NVIDIA GPU with a working driver; none was found. Use device="cpu"' in answer


def test_cuda_without_numba_cuda_says_what_to_install():
    hide = "import importlib.util as u; u.find_spec = lambda name: None; "
    answer = in_own_process(hide + "from recsys_dl.kernels.device import resolve; resolve('cuda')")
    assert "needs the package numba-cuda (pip install 'recsys_dl[gpu]')" in answer


@no_gpu
def test_auto_without_a_gpu_loads_nothing():
    code = "import sys; from recsys_dl.kernels.device import resolve; resolve('auto'); print('numba' in sys.modules)"
    assert in_own_process(code) == "False"
