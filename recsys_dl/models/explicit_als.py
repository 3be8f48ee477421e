"""Biased matrix factorization of ratings by alternating least squares (Zhou, Wilkinson, Schreiber, Pan 2008, ALS-WR)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.repeats import average_ratings
from recsys_dl.families.als_solver import SolverChoice, solver_for
from recsys_dl.families.shared_rows import SharedRows, halves
from recsys_dl.kernels.als import Observed, Solver, solve_rows
from recsys_dl.kernels.device import Device, fetch, place
from recsys_dl.processes import current
from recsys_dl.progress import track

from .funk_svd import FunkSVD


class ExplicitALS(FunkSVD):
    """rating(u, i) = mean + b_u + b_i + x_u . y_i, where weights are ratings; only observed pairs count.

    Minimizes `sum_observed (r - rating)^2 + regularization (sum_u n_u (|x_u|^2 + b_u^2) + sum_i n_i (|y_i|^2 + b_i^2))`, n_u and
    n_i the numbers of ratings of a user and of an item ("Large-Scale Parallel Collaborative Filtering for the Netflix Prize", eq. 3,
    with biases: a row's bias is solved together with its embedding). An epoch solves all items, then all users, so that
    exact solves leave each user's row equal to `fold_in` of their ratings. Several processes (`recsys_dl.processes`) solve some rows each.

    An unknown user gets mean + b_i, and an unrated item mean + b_u: a ranking by how well items
    are liked, not by popularity. Repeated ratings of an item by a user are averaged.

    Args:
        embedding_size: length of x_u and y_i.
        epochs: number of alternations over both sides.
        regularization: penalty on a row per rating.
        solver: "cholesky" (exact), "cg" or "ials++": see `kernels.als.solve_rows`; "auto": exact where an epoch is cheap,
            else "cg" (`families.als_solver`).
        cg_steps: conjugate-gradient steps per row and epoch; "cg" only.
        block_size: columns solved together; "ials++" only.
        initial_scale: initial standard deviation of the embeddings.
        seed: for the initial embeddings.
        device: where to train and recommend.

    Attributes:
        mean: float32 scalar, of all ratings.
        rating_range_2: float32, the lowest and the highest rating in training.
        bias_U: float32.
        bias_I: float32.
        user_emb_UD: float32.
        item_emb_ID: float32.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import ExplicitALS
        >>> ratings = Interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [5, 1, 5, 1, 5])
        >>> ExplicitALS(embedding_size=3, device="cpu").fit(ratings).predict([2, 2], [0, 1]).round(1)
        array([4.9, 2.4], dtype=float32)
    """

    shares_fit = True

    def __init__(
        self,
        *,
        embedding_size: Count = 63,
        epochs: Count = 20,
        regularization: Positive = 0.12,
        solver: SolverChoice = "auto",
        cg_steps: Count = 3,
        block_size: Count = 32,
        initial_scale: NotNegative = 0.1,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.regularization = regularization
        self.solver: SolverChoice = solver
        self.cg_steps = cg_steps
        self.block_size = block_size
        self.initial_scale = initial_scale
        self.seed = seed
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Solve items and users in turn, `epochs` times."""
        group, size = current(), self.embedding_size
        entries_UI = self._start(train)
        parts = halves(group, entries_UI, size)
        sides = (
            SharedRows(group, parts.by_user, parts.items_P1, 4 * size + 4),
            SharedRows(group, parts.by_item, parts.users_P1, 4 * size + 4),
        )
        users, items = (
            np.column_stack([emb[slice(*bounds)], bias[slice(*bounds)]])
            for emb, bias, bounds in (
                (self.user_emb_UD, self.bias_U, parts.users_P1[group.rank : group.rank + 2]),
                (self.item_emb_ID, self.bias_I, parts.items_P1[group.rank : group.rank + 2]),
            )
        )
        of_users, of_items = (
            [Observed(*place(self._observed(block.entries), self.device)) for block in side.blocks] for side in sides
        )
        solver = solver_for(self.solver, size + 1, entries_UI.nnz, sum(entries_UI.shape))
        for _ in track(range(self.epochs), "ExplicitALS"):
            items = self._solve_side(sides[1], of_items, users, items, solver)
            users = self._solve_side(sides[0], of_users, items, users, solver)
        users, items = group.stacked(users, parts.users_P1), group.stacked(items, parts.items_P1)
        self.user_emb_UD, self.bias_U = np.ascontiguousarray(users[:, :-1]), np.ascontiguousarray(users[:, -1])
        self.item_emb_ID, self.bias_I = np.ascontiguousarray(items[:, :-1]), np.ascontiguousarray(items[:, -1])
        return self

    def loss(self, train: Dataset | Interactions) -> float:
        """Return the objective of the fitted model over the ratings in `train`, in float64."""
        ratings = average_ratings(train.interactions if isinstance(train, Dataset) else train).tocoo()
        users, items = self.user_emb_UD.astype(np.float64), self.item_emb_ID.astype(np.float64)
        dots_N = np.einsum("nd,nd->n", users[ratings.row], items[ratings.col])
        misses_N = ratings.data - self.mean - self.bias_U[ratings.row] - self.bias_I[ratings.col] - dots_N
        sizes_U, sizes_I = (users**2).sum(axis=1) + self.bias_U**2, (items**2).sum(axis=1) + self.bias_I**2
        return float(
            (misses_N**2).sum()
            + self.regularization * (sizes_U @ np.bincount(ratings.row, minlength=len(users)))
            + self.regularization * (sizes_I @ np.bincount(ratings.col, minlength=len(items)))
        )

    @property
    def _bias_penalty(self) -> float:
        return self.regularization

    def _observed(self, ratings: sp.csr_matrix) -> Observed:
        counts = np.maximum(np.diff(ratings.indptr), 1)
        penalties_R = (self.regularization * counts).astype(np.float32)
        return Observed(
            ratings.indptr.astype(np.int64), ratings.indices, np.ones_like(ratings.data), ratings.data, penalties_R
        )

    def _solve_side(
        self, side: SharedRows, observed: list[Observed], fixed: np.ndarray, start: np.ndarray, solver: Solver
    ) -> np.ndarray:
        """Return this process's rows of one side, each ending in its bias, from its rows of both."""
        solved = np.empty_like(start)
        for block, one, table in zip(side.blocks, observed, side.gathered(fixed), strict=True):
            solved[block.rows] = self._solve(one, block.entries, table, start[block.rows], solver)
        return solved

    def _solve(
        self, observed: Observed, ratings: sp.csr_matrix, fixed: np.ndarray, start: np.ndarray, solver: Solver
    ) -> np.ndarray:
        """Return rows that end in their biases; in the fixed rows, 1 takes the place of the bias while these are solved."""
        ones = fixed.copy()
        ones[:, -1] = 1
        return fetch(
            solve_rows(
                observed._replace(targets_N=ratings.data - self.mean - fixed[ratings.indices, -1]),
                ones,
                start,
                solver=solver,
                cg_steps=self.cg_steps,
                block_size=self.block_size,
                device=self.device,
            )
        )

    def _fold(self, histories: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """Solve the users' rows exactly, with all items fixed."""
        ratings = average_ratings(histories)
        fixed = np.column_stack([self.item_emb_ID, self.bias_I])
        start = np.zeros((histories.num_users, fixed.shape[1]), np.float32)
        solved = self._solve(self._observed(ratings), ratings, fixed, start, "cholesky")
        return np.ascontiguousarray(solved[:, -1]), np.ascontiguousarray(solved[:, :-1])
