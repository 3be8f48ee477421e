"""Measure kernels beside their peers."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from omegaconf import DictConfig

from .running import shown

if TYPE_CHECKING:
    from recsys_dl.benchmarking.kernels import Result

HEADER = [
    "job",
    "log",
    "D",
    "who",
    "seconds",
    "fastest to slowest",
    "per second",
    "of the limit",
    "theirs / ours",
    "first",
    "peak MB",
    "figure",
]


def bench(config: DictConfig) -> None:
    """Print a row for each job, log, embedding size and contender as it is measured, then the table for a page."""
    from recsys_dl.threads import limit_threads

    threads = limit_threads(config.threads)
    from recsys_dl.benchmarking import bench_kernels
    from recsys_dl.benchmarking.kernels import installed

    missing = [peer for peer in ("implicit", "irspack", "surprise") if not installed(peer)]
    if missing:
        print(
            f"without {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed: pip install 'recsys_dl[peers]'"
        )
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads; load {psutil.getloadavg()[0]:.1f} at the start",
        flush=True,
    )
    rows = []
    output = Path(config.output)
    for one in bench_kernels(
        list(config.jobs), list(config.logs), list(config.sizes), rounds=config.rounds, threads=threads, output=output
    ):
        rows.append(_row(one))
        print(f"{one.job} {one.log} D={one.size} {one.contender}: {one.seconds:.3g} s", flush=True)
    print("\n" + "\n".join(f"| {' | '.join(row)} |" for row in [HEADER, ["---"] * len(HEADER), *rows]))
    print(f"\nload {psutil.getloadavg()[0]:.1f} at the end; written: {shown(output)}")


def _row(one: Result) -> list[str]:
    return [
        one.job,
        one.log,
        str(one.size or ""),
        one.contender,
        f"{one.seconds:.3g}",
        f"{one.fastest:.3g} to {one.slowest:.3g}",
        f"{one.per_second:.3g} {one.unit}",
        _known(one.limit, "{:.0%}"),
        _known(one.ratio, "{:.2f}"),
        f"{one.first:.2g}",
        f"{one.peak / 1e6:,.0f}",
        _known(one.figure, "{:.6g}"),
    ]


def _known(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
