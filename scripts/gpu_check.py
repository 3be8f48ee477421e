#!/usr/bin/env python
"""Run every kernel on a GPU, compare with float64 NumPy, and print how long it took there and on the CPU.

    python scripts/gpu_check.py
    python scripts/gpu_check.py --bench     # and time each at MovieLens-20M's size, against the bound on paper and beside peers

Exits 0 if all kernels pass, 1 if one fails, 2 where there is no GPU. `--simulator` runs the same checks at tiny sizes under
Numba's simulator: it proves that this script works, and says nothing about a GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gpu_jobs import CHECKS, Check
from rich.console import Console
from rich.table import Table

from recsys_dl.kernels.device import num_gpus, simulated


class Row(NamedTuple):
    """A line of the table."""

    check: Check
    error: float
    gpu_ms: float
    cpu_ms: float
    failure: str  # empty if it passed


def to_gpu(array: np.ndarray) -> Any:
    """Return the array as a Torch tensor on the GPU; where it is simulated, as Numba's stand-in for one."""
    if simulated():
        from numba import cuda

        return cuda.to_device(array)
    import torch

    return torch.from_numpy(array).cuda()


def address(array: Any) -> int:
    """Return where an array's data lie."""
    if simulated():
        return array.ctypes.data
    return array.__cuda_array_interface__["data"][0]


def copied(inputs: Sequence[Any], outputs: Sequence[Any]) -> str:
    """Return what was copied on its way in or out; empty if nothing was."""
    from recsys_dl.kernels.cuda.arrays import to_device

    if any(address(to_device(array)) != address(array) for array in inputs):
        return "an input was copied"
    if any(isinstance(array, np.ndarray) for array in outputs):
        return "an output left the device"
    if not simulated():
        import torch

        if any(torch.as_tensor(array, device="cuda").data_ptr() != address(array) for array in outputs):
            return "Torch copied an output"
    return ""


def milliseconds(job: Callable[[], Any], times: int) -> float:
    """Return the median time of a job that has run before, GPU work included."""
    from numba import cuda

    taken = []
    for _ in range(times):
        cuda.synchronize()
        begin = time.perf_counter()
        job()
        cuda.synchronize()
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


def checked(check: Check) -> Row:
    """Carry out a check."""
    inputs = [to_gpu(array) for array in check.inputs]
    outputs = check.run(inputs, "cuda")
    failure = copied(inputs, outputs)
    error = check.error([array if isinstance(array, np.ndarray) else array.copy_to_host() for array in outputs])
    if not error <= check.tolerance:
        failure = f"error above {check.tolerance:.0e}"
    gpu_ms = milliseconds(lambda: check.run(inputs, "cuda"), 1 if simulated() else 10)
    check.run(check.inputs, "cpu")
    return Row(
        check, error, gpu_ms, milliseconds(lambda: check.run(check.inputs, "cpu"), 1 if simulated() else 3), failure
    )


def table_of(rows: Sequence[Row], title: str) -> Table:
    """Return the rows as a table."""
    table = Table(title=title)
    for name in ("kernel", "job", "max error", "tolerance", "GPU ms", "CPU ms", "verdict"):
        table.add_column(name, justify="left" if name in ("kernel", "job", "verdict") else "right")
    for row in rows:
        table.add_row(
            row.check.kernel,
            row.check.job,
            f"{row.error:.1e}",
            f"{row.check.tolerance:.0e}",
            f"{row.gpu_ms:.2f}",
            f"{row.cpu_ms:.2f}",
            f"FAIL: {row.failure}" if row.failure else "pass",
        )
    return table


def beside(job: Any) -> str:
    """Return what each peer takes for the job, or why there is no time of it."""
    parts = []
    for name, step in job.peers.items():
        if isinstance(step, str):
            parts.append(f"{name}: {step}")
            continue
        try:
            step()
            parts.append(f"{name} {milliseconds(step, 5):.2f} ms")
        except Exception as error:  # a peer's failure is not ours
            parts.append(f"{name}: {type(error).__name__}: {error}")
    return "; ".join(parts)


def bench(tiny: bool, device_name: str, console: Console) -> None:
    """Time each job in its natural unit, as a percentage of what the device could do on paper, beside its peers."""
    from gpu_bench import device_named, timed  # imports Numba, which must know first whether it simulates

    known, device = device_named(device_name)
    table = Table(title=f"{device_name}, medians of ten; bounds by the data sheet of {known}")
    for name in ("job", "D", "ms", "per second", "bound ms", "of bound", "peers"):
        table.add_column(name, justify="left" if name in ("job", "peers") else "right")
    for job in timed(tiny):
        console.print(f"{job.name} D={job.size}", style="dim")
        try:
            if not tiny:
                job.step()  # compiles
            ms = milliseconds(job.step, 1 if tiny else 10)
        except Exception as error:  # one broken kernel must not hide the others
            traceback.print_exc()
            table.add_row(job.name, str(job.size or "-"), "", "", "", "", f"{type(error).__name__}: {error}")
            continue
        table.add_row(
            job.name,
            str(job.size or "-"),
            f"{ms:.2f}",
            f"{job.work.amount / ms / 1000:,.1f} M {job.work.unit}",
            f"{1000 * max(job.work.seconds(device)):.2f}",
            f"{job.share(device, ms / 1000):.1%}",
            beside(job),
        )
    console.print(table)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulator", action="store_true", help="tiny sizes under Numba's simulator; no GPU needed")
    parser.add_argument("--bench", action="store_true", help="also time each kernel at MovieLens-20M's size")
    options = parser.parse_args()
    tiny = options.simulator
    if tiny:
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        from cuda_scheduler import install

        install()
        device_name = "SIMULATED"
        title = "SIMULATED on the CPU at tiny sizes: says nothing about a GPU"
    elif not num_gpus():
        print("No NVIDIA GPU with a working driver was found, so no kernel was checked.", file=sys.stderr)
        return 2
    else:
        from numba import cuda

        device_name = _text(cuda.get_current_device().name)
        title = f"Kernels on {device_name} against float64 NumPy"
    console = Console()
    console.width = max(console.width, 120)  # narrower, jobs break in the middle of words
    rows = []
    for make in CHECKS:
        for check in make(tiny):
            console.print(f"{check.kernel}: {check.job}", style="dim")
            try:
                rows.append(checked(check))
            except Exception as error:  # one broken kernel must not hide the others
                traceback.print_exc()
                rows.append(Row(check, np.nan, np.nan, np.nan, f"{type(error).__name__}: {error}"))
    console.print(table_of(rows, title))
    if options.bench:
        bench(tiny, device_name, console)
    return 1 if any(row.failure for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
