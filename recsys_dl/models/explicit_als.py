"""Biased matrix factorization of ratings by alternating least squares (Zhou, Wilkinson, Schreiber, Pan 2008, ALS-WR)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.repeats import average_ratings
from recsys_dl.kernels.als import Observed, Solver, solve_rows
from recsys_dl.kernels.device import Device, fetch, place
from recsys_dl.progress import track

from .funk_svd import FunkSVD


class ExplicitALS(FunkSVD):
    """rating(u, i) = mean + b_u + b_i + x_u . y_i, where weights are ratings; only observed pairs count.

    Minimizes `sum_observed (r - rating)^2 + regularization (sum_u n_u (|x_u|^2 + b_u^2) + sum_i n_i (|y_i|^2 + b_i^2))`, n_u and
    n_i the numbers of ratings of a user and of an item ("Large-Scale Parallel Collaborative Filtering for the Netflix Prize", eq. 3,
    with biases: a row's bias is solved together with its embedding). An epoch solves all items, then all users, so that a
    user's row equals `fold_in` of their ratings.

    An unknown user gets mean + b_i, and an unrated item mean + b_u: a ranking by how well items
    are liked, not by popularity. Repeated ratings of an item by a user are averaged.

    Args:
        embedding_size: length of x_u and y_i.
        epochs: number of alternations over both sides.
        regularization: penalty on a row per rating.
        solver: "cholesky" (exact), "cg" or "ials++": see `kernels.als.solve_rows`.
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

    def __init__(
        self,
        *,
        embedding_size: Count = 63,
        epochs: Count = 20,
        regularization: Positive = 0.12,
        solver: Solver = "cholesky",
        cg_steps: Count = 3,
        block_size: Count = 32,
        initial_scale: NotNegative = 0.1,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.regularization = regularization
        self.solver: Solver = solver
        self.cg_steps = cg_steps
        self.block_size = block_size
        self.initial_scale = initial_scale
        self.seed = seed
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Solve items and users in turn, `epochs` times."""
        by_user = self._start(train)
        by_item = by_user.T.tocsr()
        by_item.sort_indices()
        user_side, item_side = (Observed(*place(self._observed(matrix), self.device)) for matrix in (by_user, by_item))
        for _ in track(range(self.epochs), "ExplicitALS"):
            self.item_emb_ID, self.bias_I = self._solve(
                item_side, by_item, self.user_emb_UD, self.bias_U, self.item_emb_ID, self.bias_I, self.solver
            )
            self.user_emb_UD, self.bias_U = self._solve(
                user_side, by_user, self.item_emb_ID, self.bias_I, self.user_emb_UD, self.bias_U, self.solver
            )
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

    def _solve(
        self,
        observed: Observed,
        ratings: sp.csr_matrix,
        fixed: np.ndarray,
        fixed_bias: np.ndarray,
        start: np.ndarray,
        start_bias: np.ndarray,
        solver: Solver,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return one side's embeddings and biases from the other's: a fixed row ends in 1, a solved one in its bias."""
        solved = fetch(
            solve_rows(
                observed._replace(targets_N=ratings.data - self.mean - fixed_bias[ratings.indices]),
                np.column_stack([fixed, np.ones(len(fixed), np.float32)]),
                np.column_stack([start, start_bias]),
                solver=solver,
                cg_steps=self.cg_steps,
                block_size=self.block_size,
                device=self.device,
            )
        )
        return np.ascontiguousarray(solved[:, :-1]), np.ascontiguousarray(solved[:, -1])

    def _fold(self, histories: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """Solve the users' rows exactly, with all items fixed."""
        ratings = average_ratings(histories)
        start = np.zeros((histories.num_users, self.embedding_size), np.float32)
        bias_B = np.zeros(histories.num_users, np.float32)
        emb_BD, bias_B = self._solve(
            self._observed(ratings), ratings, self.item_emb_ID, self.bias_I, start, bias_B, "cholesky"
        )
        return bias_B, emb_BD
