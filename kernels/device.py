"""Where to compute. `auto` is the only place where a fallback to the CPU is silent."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

Device = Literal["auto", "cpu", "cuda"]


def resolve(device: Device, missing: Callable[[], str] | None = None) -> Literal["cpu", "cuda"]:
    """Return "cpu" or "cuda"; "auto" means CUDA if a usable GPU is found. The single place that decides, for every library.

    Numba's simulator (NUMBA_ENABLE_CUDASIM=1) is used only for "cuda": "auto" never picks it.

    Args:
        device: "auto", "cpu" or "cuda".
        missing: reports what a library other than Numba needs to compute there, "" if nothing.

    Raises:
        ValueError: an unknown device.
        RuntimeError: "cuda" without numba-cuda (or what `missing` says), or without a usable GPU; the message says which.
    """
    if device not in ("auto", "cpu", "cuda"):
        meant = " (did you mean 'cuda'?)" if device == "gpu" else ""
        raise ValueError(f'device must be "auto", "cpu" or "cuda", got {device!r}{meant}')
    if device == "cpu" or (device == "auto" and (not num_gpus() or simulated())):
        return "cpu"
    lacking = (missing or _missing)()
    if not lacking:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise RuntimeError(
        f'device="cuda" needs {lacking}. Use device="cpu", or device="auto" to use whatever is available.'
    )


def place(arrays: Sequence[Any], device: Device) -> tuple[Any, ...]:
    """Return the arrays where kernels work without moving them: on the GPU if `device` means one, else as they are."""
    if resolve(device) == "cpu":
        return tuple(arrays)
    from .cuda.arrays import to_device

    return tuple(to_device(array) for array in arrays)


def fetch(array: Any) -> np.ndarray:
    """Return an array as NumPy, wherever it is."""
    return array if isinstance(array, np.ndarray) else array.copy_to_host()


@cache
def num_gpus() -> int:
    """Return the number of GPUs that the NVIDIA driver offers this process, without loading Numba."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def simulated() -> bool:
    """Return whether Numba simulates CUDA in this process, slowly, on the CPU."""
    from numba import config

    return bool(config.ENABLE_CUDASIM)


@cache
def _missing() -> str:
    if find_spec("numba_cuda") is None:
        return "the package numba-cuda (pip install 'recsys_dl[gpu]')"
    if not simulated() and not num_gpus():
        return "an NVIDIA GPU with a working driver; none was found"
    try:
        from numba import cuda
    except ImportError as error:
        return f"a working numba-cuda, but importing it fails: {error} (pip install 'recsys_dl[gpu]')"
    return "" if cuda.is_available() else f"a working CUDA, but Numba reports: {cuda.cuda_error()}"
