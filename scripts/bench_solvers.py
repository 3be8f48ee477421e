"""ALS by exact solves, conjugate gradients and iALS++: the objective against seconds, at growing embedding sizes.

    python scripts/bench_solvers.py --plot docs/benchmarks/solvers.png      # --sizes 32 64 128 256 512 --users 3000 --items 2000 --rows 300000 --epochs 10

On a generated log (planted tastes), with the settings of conf/model but for the embedding size. Every solver starts from the same embeddings and
continues one epoch at a time, the solvers in turn, so that other work on the machine slows all of them alike; an epoch's seconds are the median of
its solver's. The objective is computed in float64, outside the clock. "Reached" is the first epoch within 0.1% of where exact solves end, from where the objective began. Kernels are compiled before.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path

import numpy as np

from recsys_dl import Interactions
from recsys_dl.data.generated import generated
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.models import ALS

SOLVERS = ("cholesky", "cg", "ials++")
COLORS = {"cholesky": "#d55e00", "cg": "#0072b2", "ials++": "#009e73"}
CLOSE = 0.001  # of the way from the start to the exact solver's last objective


def main() -> None:
    """Measure each size; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--users", type=int, default=3_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--plot", type=Path, help="the picture to draw")
    asked = parser.parse_args()
    log = generated(num_users=asked.users, num_items=asked.items, num_interactions=asked.rows, seed=7).interactions
    print(f"{log.num_users:,} users, {log.num_items:,} items, {log.by_user.nnz:,} pairs; {os.cpu_count()} cores\n")
    logging.getLogger("recsys_dl").setLevel(logging.ERROR)  # before the first epoch a model knows nothing, and says so
    curves, rows = {}, []
    for size in asked.sizes:
        curves[size] = curves_of(log, size, asked.epochs)
        exact = curves[size]["cholesky"][1]
        goal = exact[-1] + CLOSE * (exact[0] - exact[-1])
        for solver, (seconds, losses_E) in curves[size].items():
            there = np.flatnonzero(losses_E <= goal)
            epochs = f"{there[0]}" if len(there) else f"not in {asked.epochs}"
            until = f"{there[0] * seconds:.2f}" if len(there) else ""
            last = f"{losses_E[-1] / exact[-1] - 1:+.3%}"
            rows.append([str(size), solver, f"{seconds:.2f}", epochs, until, last])
        print(
            text_table(
                ["D", "solver", "seconds an epoch", "epochs until reached", "seconds", "objective at the end"],
                rows[-3:],
            ),
            flush=True,
        )
    print(
        "\n| D | solver | seconds an epoch | epochs until reached | seconds | objective after all epochs, beside exact |\n"
        + "|---" * 6
        + "|"
    )
    print("\n".join(f"| {' | '.join(row)} |" for row in rows))
    if asked.plot:
        draw(curves, asked.plot)


def curves_of(log: Interactions, size: int, epochs: int) -> dict[str, tuple[float, np.ndarray]]:
    """Return each solver's seconds an epoch, and the objective before the first epoch and after each."""
    nothing = Interactions([], [], num_users=log.num_users, num_items=log.num_items)
    models = {solver: ALS(embedding_size=size, epochs=0, solver=solver, device="cpu").fit(log) for solver in SOLVERS}
    few = generated(num_users=200, num_items=100, num_interactions=2_000).interactions
    for solver in SOLVERS:
        ALS(embedding_size=size, epochs=1, solver=solver, unobserved_weight=0.01, device="cpu").fit(few)
    seconds = {solver: [] for solver in SOLVERS}
    losses = {solver: [model.loss()] for solver, model in models.items()}
    for _ in range(epochs):
        for solver, model in models.items():
            began = time.perf_counter()
            model.fine_tune(nothing, epochs=1)
            seconds[solver].append(time.perf_counter() - began)
            losses[solver].append(model.loss())
    return {solver: (float(np.median(seconds[solver])), np.array(losses[solver])) for solver in SOLVERS}


def draw(curves: dict[int, dict[str, tuple[float, np.ndarray]]], file: Path) -> None:
    """Draw the objective above the lowest one against seconds, a panel for each size."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(3.2 * len(curves), 3.4), layout="constrained")
    for axes, (size, of_size) in zip(figure.subplots(1, len(curves), squeeze=False)[0], curves.items(), strict=True):
        lowest = min(losses_E.min() for _, losses_E in of_size.values())
        for solver, (seconds, losses_E) in of_size.items():
            above_E = losses_E[1:] / lowest - 1
            axes.plot(seconds * np.arange(1, len(losses_E)), above_E + 1e-5, color=COLORS[solver], label=solver)
        axes.set(xscale="log", yscale="log", title=f"D = {size}", xlabel="seconds")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter("{x:g}")
    figure.axes[0].set_ylabel("objective, above the lowest (share)")
    figure.axes[0].legend(frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
