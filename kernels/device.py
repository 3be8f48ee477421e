"""Where to compute. `auto` is the only place where a fallback to the CPU is silent."""

from __future__ import annotations

from typing import Literal

Device = Literal["auto", "cpu", "cuda"]


def resolve(device: Device) -> Literal["cpu", "cuda"]:
    """Return "cpu" or "cuda"; "auto" means CUDA where a usable device is found.

    Raises:
        ValueError: another word.
        RuntimeError: "cuda" without numba-cuda, or without a usable device; says which.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f'device must be "auto", "cpu" or "cuda", got {device!r}')
    if device == "cpu":
        return "cpu"
    missing = _missing()
    if not missing:
        return "cuda"
    if device == "auto":
        return "cpu"
    raise RuntimeError(f'device="cuda" needs {missing}. Use device="cpu", or device="auto" to take what there is.')


def _missing() -> str:
    try:
        from numba import cuda
    except ImportError:
        return "the package numba-cuda (pip install 'recsys_dl[gpu]')"
    return "" if cuda.is_available() else "an NVIDIA GPU with a working driver; none was found"
