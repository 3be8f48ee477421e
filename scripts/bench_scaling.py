"""How the cost of each kernel grows: with interactions, the embedding size, the catalog and threads; and on logs of odd shapes.

    python scripts/bench_scaling.py --plot docs/benchmarks/scaling.png      # --users 100000 --items 20000 --rows 3000000 --size 64

On generated logs (planted tastes); one of the four is changed at a time. A step is an epoch of ALS, both sides, or of BPR, the 100 nearest items of
each, or each user's best 100 items; it is taken once to warm up, and then until five seconds are over, three times at most: the fastest counts. The
slope is that of a straight line through the logarithms: 1 is proportional. Odd shapes have a million interactions, of which the plain log has as many
for each user.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import scipy.sparse as sp

from recsys_dl.benchmarking.jobs import JOBS, contender
from recsys_dl.data.generated import generated
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.threads import limit_threads

AXES = {
    "interactions": [1_000_000, 3_000_000, 10_000_000, 30_000_000],
    "embedding size": [16, 32, 64, 128, 256],
    "items": [5_000, 10_000, 20_000, 40_000, 80_000],
    "threads": [2**power for power in range((os.cpu_count() or 1).bit_length())],
}
NAMES = ("als_cg", "als_exact", "als_blocks", "bpr", "item_knn", "top_k")
ENOUGH, MOST = 5.0, 3  # seconds, steps


def main() -> None:
    """Measure; print a table for each axis and one of the odd shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--odd-rows", type=int, default=1_000_000)
    parser.add_argument("--axes", nargs="*", choices=AXES, default=list(AXES))
    parser.add_argument("--plot", type=Path, help="the picture to draw")
    asked = parser.parse_args()
    limit_threads(None)
    usual = {"interactions": asked.rows, "embedding size": asked.size, "items": asked.items}
    usual["threads"] = numba.config.NUMBA_NUM_THREADS
    logs: dict[tuple[int, int], sp.csr_matrix] = {}
    curves: dict[str, dict[str, list[float]]] = {}
    for axis in asked.axes:
        values = AXES[axis]
        curves[axis] = {job: [] for job in NAMES}
        for value in values:
            here = usual | {axis: value}
            shape = here["interactions"], here["items"]
            if shape not in logs:
                logs = {shape: generated_log(asked.users, shape[1], shape[0])}
            numba.set_num_threads(here["threads"])
            for job in NAMES:
                again = axis == "embedding size" and not JOBS[job].sized and curves[axis][job]
                seconds = curves[axis][job][0] if again else timed(logs[shape], job, here["embedding size"])
                curves[axis][job].append(seconds)
        show(axis, values, curves[axis])
    numba.set_num_threads(usual["threads"])
    odd(asked.odd_rows, asked.size)
    if asked.plot:
        draw(curves, asked.plot)


def generated_log(num_users: int, num_items: int, num_interactions: int) -> sp.csr_matrix:
    """Return a generated log, every pair once, as a CSR of ones."""
    log = generated(num_users=num_users, num_items=num_items, num_interactions=num_interactions, seed=7)
    log_UI = log.interactions.by_user
    log_UI.data[:] = 1
    return log_UI


def timed(log_UI: sp.csr_matrix, job: str, size: int) -> float:
    """Return the seconds of the fastest step."""
    made = contender(job, "recsys_dl", log_UI, size, numba.get_num_threads())
    made.step()
    return min(steps(made.step))


def steps(step: Callable[[], Any]) -> Iterator[float]:
    """Take steps; yield the seconds of each."""
    total, taken = 0.0, 0
    while total < ENOUGH and taken < MOST:
        began = time.perf_counter()
        step()
        seconds = time.perf_counter() - began
        total, taken = total + seconds, taken + 1
        yield seconds


def show(axis: str, values: list[int], curves: dict[str, list[float]]) -> None:
    """Print the seconds at each value, and the slope."""
    rows = [
        [job, *(f"{one:.3g}" for one in seconds), f"{slope(values, seconds):.2f}"] for job, seconds in curves.items()
    ]
    heads = [axis, *(f"{value:,}" for value in values), "slope"]
    print(f"\n| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows), flush=True)


def slope(values: list[int], seconds: list[float]) -> float:
    """Return by which power of the values the seconds grow; 0 for a single value."""
    return float(np.polyfit(np.log(values), np.log(seconds), 1)[0]) if len(values) > 1 else 0.0


def odd(num_rows: int, size: int) -> None:
    """Print what logs of odd shapes cost beside a plain one of as many interactions."""
    shapes = odd_logs(num_rows)
    rows = []
    for name, log_UI in shapes.items():
        costs = [timed(log_UI, job, size) for job in NAMES]
        rows.append(
            [name, f"{log_UI.shape[0]:,} x {log_UI.shape[1]:,}", f"{log_UI.nnz:,}", *(f"{one:.3g}" for one in costs)]
        )
    print(f"\n{text_table(['log', 'users x items', 'pairs', *NAMES], rows)}\n")
    print("\n".join(f"| {' | '.join(row)} |" for row in rows), flush=True)


def odd_logs(num_rows: int) -> dict[str, sp.csr_matrix]:
    """Return the plain log, and others of about as many pairs."""
    num_users, num_items = num_rows // 50, num_rows // 100
    plain = generated_log(num_users, num_items, num_rows)
    everyone, everything = plain.tolil(), plain.tolil()
    everyone[:, 0] = 1
    everything[0, :] = 1
    kept = np.ones(num_users, bool)
    kept[::10] = False
    empty = sp.diags(kept.astype(np.float32)) @ plain
    rng = np.random.default_rng(7)
    single = rng.integers(0, num_items, num_rows)
    ones = np.ones(num_rows, np.float32)
    logs = {
        "plain": plain,
        "an item of every user": everyone,
        "a user of every item": everything,
        "a user in ten without items": empty,
        "users of one item each": sp.csr_matrix((ones, single, np.arange(num_rows + 1)), (num_rows, num_items)),
    }
    return {name: clean(log) for name, log in logs.items()}


def clean(log: Any) -> sp.csr_matrix:
    """Return a CSR without zeros, float32, with int32 indices in order."""
    log_UI = sp.csr_matrix(log, dtype=np.float32)
    log_UI.eliminate_zeros()
    log_UI.sort_indices()
    log_UI.indices = log_UI.indices.astype(np.int32)
    return log_UI


def draw(curves: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Draw seconds against each axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(curves), 3.6), layout="constrained")
    for axes, (axis, of_axis) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        for at, (job, seconds) in enumerate(of_axis.items()):
            axes.plot(AXES[axis], seconds, "o-", color=f"C{at}", label=job, markersize=4)
        axes.set(xscale="log", yscale="log", xlabel=axis)
        axes.set_xticks(AXES[axis], [short(value) for value in AXES[axis]])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("seconds a step")
    figure.axes[0].legend(frameon=False, fontsize="small")
    figure.savefig(file, dpi=110)


def short(value: int) -> str:
    """Return 30 M for 30,000,000."""
    for size, letter in ((10**6, " M"), (10**3, " k")):
        if value >= size:
            return f"{value // size}{letter}"
    return str(value)


if __name__ == "__main__":
    main()
