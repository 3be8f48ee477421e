"""Where Torch computes: what `kernels.device.resolve` says of a device, asked of Torch."""

from __future__ import annotations

import torch

from recsys_dl.kernels.device import Device, resolve


def torch_device(device: Device) -> torch.device:
    """Return where a network lies.

    Raises:
        ValueError: another word than "auto", "cpu" and "cuda".
        RuntimeError: "cuda" where Torch can use no GPU; "auto" takes the CPU then.
    """
    return torch.device(resolve(device, _missing))


def _missing() -> str:
    if torch.cuda.is_available():
        return ""
    return f"a torch built for CUDA and a GPU that it can use; torch {torch.__version__} finds none"
