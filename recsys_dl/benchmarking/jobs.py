"""The jobs of `recsys-dl bench kernels`: who runs each, and what it takes. U users, I items, N pairs, D embedding size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from .rated import EPOCHS

NEIGHBORS = LISTED = 100
CG_STEPS, BLOCK = 3, 32
# library, log, D, threads -> an object with `step()`, and `figure()` if there is one
Contender = Callable[[Any, sp.csr_matrix, int, int], Any]
LOGS = {  # users, items, interactions
    "ml-100k": (943, 1_682, 100_000),
    "ml-1m": (6_040, 3_706, 1_000_000),
    "ml-20m": (138_493, 26_744, 20_000_000),
    "msd": (571_355, 41_140, 33_600_000),
}


class Shape(NamedTuple):
    """What the costs of a job depend on."""

    num_users: int
    num_items: int
    num_pairs: int
    products: float  # sum over users of the square of their number of items
    size: int  # D


@dataclass(frozen=True)
class Job:
    """One piece of work that all contenders do.

    Attributes:
        unit: what is counted.
        amount: how many of them a step takes.
        cost: float32 operations and bytes from memory that a step cannot do without; None if neither bounds it.
        contenders: by name, ours first; a peer's name begins with its package.
        beside: the contender of ours that a peer is compared with, where it is not the first.
        figure: what `figure()` returns, "" if there is none.
        sized: whether it depends on D.
    """

    unit: str
    amount: Callable[[Shape], float]
    cost: Callable[[Shape], tuple[float, float]] | None
    contenders: dict[str, Contender]
    beside: dict[str, str]
    figure: str = ""
    sized: bool = True


def contender(job: str, name: str, log_UI: sp.csr_matrix, size: int, threads: int) -> Any:
    """Return one contender of a job, ready for its first `step()`; only its own library is imported."""
    if name.startswith("recsys_dl"):
        from . import ours as library
    else:
        from . import peers as library  # type: ignore[no-redef]
    if name == "implicit":
        import implicit.als  # noqa: F401  loads SciPy's BLAS, which is another one than NumPy's

        threadpool_limits(1, "blas")  # as implicit advises: its own threads call BLAS
    return JOBS[job].contenders[name](library, log_UI, size, threads)


def _als(solver: str, cost: Callable[[Shape], tuple[float, float]], *, implicit: bool) -> Job:
    contenders = {
        "recsys_dl": lambda ours, log, size, threads: ours.AlternatingLeastSquares(log, size, solver, "rendle2022"),
        "irspack": lambda peers, log, size, threads: peers.IrspackALS(log, size, solver, threads),
    }
    if implicit:
        contenders |= {
            "recsys_dl, hu2008": lambda ours, log, size, threads: ours.AlternatingLeastSquares(
                log, size, solver, "hu2008"
            ),
            "implicit": lambda peers, log, size, threads: peers.ImplicitALS(log, size, solver, threads),
        }
    beside = {"implicit": "recsys_dl, hu2008"} if implicit else {}
    return Job("pairs", lambda shape: 2.0 * shape.num_pairs, cost, contenders, beside, "objective")


def _als_cost(shape: Shape, per_pair: float, per_row: float) -> tuple[float, float]:
    """Both sides: each pair gathers a row; each row has its own work beside that of its pairs."""
    rows = shape.num_users + shape.num_items
    traffic = 2.0 * shape.num_pairs * (4 * shape.size + 8) + 12.0 * rows * shape.size
    return 2.0 * shape.num_pairs * per_pair + rows * per_row, traffic


def _cg_cost(shape: Shape) -> tuple[float, float]:
    size, products = shape.size, CG_STEPS + 1
    return _als_cost(shape, 4.0 * size * products, 2.0 * size**2 * products + size**2)


def _exact_cost(shape: Shape) -> tuple[float, float]:
    size = shape.size
    return _als_cost(shape, float(size**2 + 2 * size), size**3 / 3 + 3.0 * size**2)


def _block_cost(shape: Shape) -> tuple[float, float]:
    size, block = shape.size, min(BLOCK, shape.size)
    return _als_cost(shape, size * (block + 6.0), size * block**2 / 3 + 2.0 * size**2)


JOBS = {
    "als_cg": _als("cg", _cg_cost, implicit=True),
    "als_exact": _als("cholesky", _exact_cost, implicit=True),
    "als_blocks": _als("ials++", _block_cost, implicit=False),
    "bpr": Job(
        "steps",
        lambda shape: float(shape.num_pairs),
        lambda shape: (12.0 * shape.num_pairs * shape.size, 24.0 * shape.num_pairs * shape.size),
        {
            "recsys_dl": lambda ours, log, size, threads: ours.PersonalizedRanking(log, size),
            "implicit": lambda peers, log, size, threads: peers.ImplicitBPR(log, size, threads),
        },
        {},
    ),
    "item_knn": Job(
        "multiply-adds",
        lambda shape: shape.products,
        None,
        {
            "recsys_dl": lambda ours, log, size, threads: ours.ItemNeighbors(log, NEIGHBORS),
            "implicit": lambda peers, log, size, threads: peers.ImplicitNeighbors(log, NEIGHBORS, threads),
            "irspack": lambda peers, log, size, threads: peers.IrspackNeighbors(log, NEIGHBORS, threads),
        },
        {},
        "largest error",
        sized=False,
    ),
    "top_k": Job(
        "users",
        lambda shape: float(shape.num_users),
        lambda shape: (2.0 * shape.num_users * shape.num_items * shape.size, 4.0 * shape.num_users * shape.size),
        {
            "recsys_dl": lambda ours, log, size, threads: ours.Lists(log, size, LISTED),
            "implicit": lambda peers, log, size, threads: peers.ImplicitLists(log, size, LISTED, threads),
        },
        {},
        "largest error",
    ),
}


def _rating_sgd(*, implicit: bool) -> Job:
    return Job(
        "ratings",
        lambda shape: float(EPOCHS * shape.num_pairs),
        None,
        {
            "recsys_dl": lambda ours, log, size, threads: ours.RatingDescent(log, size, implicit=implicit),
            "surprise": lambda peers, log, size, threads: peers.SurpriseDescent(log, size, implicit=implicit),
        },
        {},
        "RMSE",
    )


def _rating_neighbors(*, of_users: bool) -> Job:
    return Job(
        "ratings",
        lambda shape: float(shape.num_pairs),
        None,
        {
            "recsys_dl": lambda ours, log, size, threads: ours.RatingNeighbors(log, of_users=of_users),
            "surprise": lambda peers, log, size, threads: peers.SurpriseNeighbors(log, of_users=of_users),
        },
        {},
        "RMSE",
        sized=False,
    )


JOBS |= {
    "svd": Job(
        "pairs",
        lambda shape: float(shape.num_pairs),
        None,
        {
            "recsys_dl": lambda ours, log, size, threads: ours.SingularVectors(log, size),
            "sklearn": lambda peers, log, size, threads: peers.SklearnSVD(log, size),
            "scipy": lambda peers, log, size, threads: peers.ScipySVD(log, size),
        },
        {},
        "unexplained",
    ),
    "ease": Job(
        "weights",
        lambda shape: float(shape.num_items) ** 2,
        lambda shape: (float(shape.num_items) ** 3, 12.0 * shape.num_items**2),
        {
            "recsys_dl": lambda ours, log, size, threads: ours.ItemWeights(log),
            "irspack": lambda peers, log, size, threads: peers.IrspackEASE(log),
            "numpy": lambda peers, log, size, threads: peers.NumpyEASE(log),
        },
        {},
        "objective",
        sized=False,
    ),
    "funk_svd": _rating_sgd(implicit=False),
    "svd_pp": _rating_sgd(implicit=True),
    "item_ratings_knn": _rating_neighbors(of_users=False),
    "user_ratings_knn": _rating_neighbors(of_users=True),
    "evaluate": Job(
        "users",
        lambda shape: float(shape.num_users),
        None,
        {
            "recsys_dl": lambda ours, log, size, threads: ours.Evaluated(log, size, diversity=False),
            "recsys_dl, diversity": lambda ours, log, size, threads: ours.Evaluated(log, size, diversity=True),
            "irspack": lambda peers, log, size, threads: peers.IrspackEvaluated(log, size, threads),
        },
        {},
        "NDCG@10",
    ),
    "judge": Job(
        "users",
        lambda shape: float(shape.num_users),
        None,
        {
            "recsys_dl": lambda ours, log, size, threads: ours.JudgedLists(log, size),
            "rectools": lambda peers, log, size, threads: peers.RectoolsLists(log, size),
            "torchmetrics": lambda peers, log, size, threads: peers.TorchmetricsLists(log, size),
        },
        {},
        "NDCG@10",
    ),
}


def shape_of(log_UI: sp.csr_matrix, size: int) -> Shape:
    """Return what the costs depend on."""
    counts_U = np.diff(log_UI.indptr).astype(np.float64)
    num_users, num_items = log_UI.shape
    return Shape(num_users, num_items, log_UI.nnz, float((counts_U**2).sum()), size)
