"""Machines to plan for: this one, measured, and accelerators by their makers' published peaks, which nobody has measured here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recsys_dl.names import near

FLOPS_SHARE = 0.3  # of the peak that a kernel is assumed to reach
BANDWIDTH_SHARE = 0.5  # of the peak of memory
LINK_SHARE = 0.7  # of the peak of the network
USABLE = 0.9  # of a device's memory: the rest is the driver's, the context's and the allocator's


@dataclass(frozen=True)
class Device:
    """Peaks of an accelerator.

    Attributes:
        memory: bytes.
        bandwidth: of its memory, bytes per second.
        flops: float32 operations per second, without tensor cores.
        link: bytes per second in one direction between devices of different machines.
        source: where the figures are published.
    """

    memory: float
    bandwidth: float
    flops: float
    link: float
    source: str


DEVICES = {
    "h200": Device(
        141e9, 4.8e12, 67e12, 50e9, "NVIDIA H200 SXM data sheet; link: one 400 Gb/s adapter per GPU, as in DGX H200"
    ),
    "h100": Device(
        80e9, 3.35e12, 67e12, 50e9, "NVIDIA H100 SXM data sheet; link: one 400 Gb/s adapter per GPU, as in DGX H100"
    ),
    "a100": Device(
        80e9,
        2.039e12,
        19.5e12,
        25e9,
        "NVIDIA A100 80GB SXM data sheet; link: one 200 Gb/s adapter per GPU, as in DGX A100",
    ),
    "l40s": Device(48e9, 0.864e12, 91.6e12, 32e9, "NVIDIA L40S data sheet; link: PCIe 4.0 x16"),
    "l4": Device(24e9, 0.3e12, 30.3e12, 32e9, "NVIDIA L4 data sheet; link: PCIe 4.0 x16"),
    "t4": Device(16e9, 0.32e12, 8.1e12, 16e9, "NVIDIA T4 data sheet; link: PCIe 3.0 x16"),
}


@dataclass(frozen=True)
class Machines:
    """Where a training is to run: `count` processes with a device each, or, if `device` is None, on this machine."""

    device: str | None
    count: int

    def __str__(self) -> str:
        many = "es" if self.count > 1 else ""
        return f"{self.count} x {self.device}" if self.device else f"this machine, {self.count} process{many}"


def machines(text: str, processes: int = 1) -> Machines:
    """Return what `auto`, `cpu`, `h100` or `h100:64` means; `processes`: on this machine.

    Raises:
        ValueError: an unknown device, or a count that is not a whole number from 1.
    """
    name, colon, number = text.strip().lower().partition(":")
    known = ("auto", "cpu", *DEVICES)
    if name not in known:
        raise ValueError(
            f"device must be auto or cpu (this machine), or one of {', '.join(DEVICES)} with a count, such as h100:64; "
            f"got {text[:60]!r}{near(name, known)}"
        )
    if colon and not re.fullmatch(r"0*[1-9][0-9]{0,6}", number):
        raise ValueError(f"device={text[:60]}: the count must be a whole number from 1, such as h100:64")
    if name in DEVICES:
        return Machines(name, int(number or processes))
    if colon and processes > 1 and int(number) != processes:
        raise ValueError(
            f"device={text[:60]} and trainer.processes x trainer.num_nodes = {processes} differ; set one of them"
        )
    return Machines(None, int(number or processes))
