"""The solver of an ALS model."""

from __future__ import annotations

from typing import Literal

from recsys_dl.kernels.als import Solver

SolverChoice = Literal["auto", "cholesky", "cg", "ials++"]
EXACT_WORK = 1e11  # multiply-adds of an epoch that "auto" spends on exact solves: about a second on two cores


def solver_for(choice: SolverChoice, size: int, entries: float, rows: float) -> Solver:
    """Return the solver of `kernels.als.solve_rows` that a choice stands for.

    "auto" solves exactly where that is cheap, so that a user's row equals `fold_in` of their history to rounding, and else by conjugate
    gradients, which reach the same objective several times sooner at large D: docs/benchmarks/solvers.md.

    Args:
        choice: "auto", or a solver.
        size: embedding size D.
        entries: observed pairs N.
        rows: users and items.

    Examples:
        >>> solver_for("auto", 64, entries=1e6, rows=10_000), solver_for("auto", 64, entries=20e6, rows=165_000)
        ('cholesky', 'cg')
    """
    if choice != "auto":
        return choice
    return "cholesky" if 2 * entries * size**2 + rows * size**3 / 3 <= EXACT_WORK else "cg"
