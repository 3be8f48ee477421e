"""Resolving devices for Torch, like `kernels.device.resolve`."""

from __future__ import annotations

import torch

from recsys_dl.kernels.device import Device, resolve


def torch_device(device: Device) -> torch.device:
    """Return the Torch device for a device name.

    Raises:
        ValueError: not "auto", "cpu" or "cuda".
        RuntimeError: "cuda" if Torch cannot use a GPU; "auto" falls back to the CPU.
    """
    return torch.device(resolve(device, _missing))


def _missing() -> str:
    if torch.cuda.is_available():
        return ""
    return f"torch built for CUDA and a GPU it can use; torch {torch.__version__} finds none"
