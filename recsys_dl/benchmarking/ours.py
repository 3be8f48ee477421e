"""What this package runs in each job. U users, I items, N pairs, D embedding size, K list or neighbors."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.kernels.als import Observed, Solver, solve_rows
from recsys_dl.kernels.bpr import bpr_epoch
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.similarity import nearest
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.kernels.vectors import Vectors, prepare

from .objective import ALPHA, PENALTY, UNOBSERVED, hu2008, penalties, rendle2022, start_users

COMPARED = 16  # rows of an answer that float64 computes again


class AlternatingLeastSquares:
    """An epoch of ALS, both sides."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, solver: Solver, objective: str) -> None:
        self.log_UI, self.solver, self.objective = log_UI, solver, objective
        self.users = start_users(log_UI.shape[0], size)
        self.items = np.zeros((log_UI.shape[1], size), np.float32)
        self.sides = [self._observed(matrix) for matrix in (log_UI, log_UI.T.tocsr())]

    def step(self) -> None:
        """Solve the items, then the users."""
        weight = UNOBSERVED if self.objective == "rendle2022" else 1.0
        of_users, of_items = self.sides
        self.items = self._solved(of_items, self.users, self.items, weight)
        self.users = self._solved(of_users, self.items, self.users, weight)

    def _solved(self, observed: Observed, fixed: np.ndarray, start: np.ndarray, weight: float) -> np.ndarray:
        return solve_rows(observed, fixed, start, all_weight=weight, solver=self.solver, device="cpu")

    def figure(self) -> float:
        """Return the objective, in float64."""
        of = rendle2022 if self.objective == "rendle2022" else hu2008
        return of(self.log_UI, self.users, self.items)

    def _observed(self, matrix: sp.csr_matrix) -> Observed:
        if self.objective == "rendle2022":
            weights_N, penalties_R = matrix.data, penalties(matrix)
            targets_N = weights_N
        else:
            weights_N, penalties_R = (ALPHA - 1) * matrix.data, np.full(matrix.shape[0], PENALTY, np.float32)
            targets_N = 1 + weights_N
        return Observed(matrix.indptr.astype(np.int64), matrix.indices, weights_N, targets_N, penalties_R)


class PersonalizedRanking:
    """An epoch of BPR: a step for each pair."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        self.log_UI, self.epoch = log_UI, 0
        rng = np.random.default_rng(0)
        self.users, self.items = (rng.normal(0, size**-0.5, (rows, size)).astype(np.float32) for rows in log_UI.shape)
        self.bias_I = np.zeros(len(self.items), np.float32)

    def step(self) -> None:
        """Take the steps of an epoch."""
        bpr_epoch(
            self.log_UI.indptr.astype(np.int64),
            self.log_UI.indices,
            self.users,
            self.items,
            self.bias_I,
            learning_rate=0.05,
            regularization=0.01,
            seed=7,
            epoch=self.epoch,
            device="cpu",
        )
        self.epoch += 1


class ItemNeighbors:
    """The nearest items of every item by cosine."""

    def __init__(self, log_UI: sp.csr_matrix, k: int) -> None:
        self.log_UI, self.k = log_UI, k
        by_item = log_UI.T.tocsr()
        self.vectors = Vectors(by_item.indptr, by_item.indices, by_item.data, by_item.shape[1])

    def step(self) -> None:
        """Find them, from the pairs."""
        self.found = nearest(prepare(self.vectors), self.k, device="cpu")

    def figure(self) -> float:
        """Return the largest difference from float64 of some items' similarities."""
        matrix = self.log_UI.astype(np.float64).tocsc()
        norms_I = np.sqrt(np.asarray(matrix.power(2).sum(axis=0)))[0]
        worst = 0.0
        for item in np.linspace(0, matrix.shape[1] - 1, COMPARED).astype(int):
            exact_I = (matrix.T @ matrix[:, [item]]).toarray()[:, 0] / np.maximum(norms_I * norms_I[item], 1e-30)
            exact_I[item] = -1
            best_K = self.found[1][item]
            worst = max(worst, np.abs(np.sort(exact_I)[::-1][: self.k] - np.maximum(best_K, 0)).max())
        return worst


class Lists:
    """Every user's best items by inner products, seen ones left out."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, k: int) -> None:
        self.log_UI, self.k = log_UI, k
        self.users, self.items = vectors(log_UI, size)
        indptr = log_UI.indptr.astype(np.int64)
        self.seen = ItemLists(indptr[:-1], indptr[1:], log_UI.indices)

    def step(self) -> None:
        """Score all pairs and keep the best."""
        self.found = top_k_dot(self.users, self.items, self.k, exclude=self.seen, device="cpu")

    def figure(self) -> float:
        """Return the largest difference from float64 of some users' scores."""
        worst = 0.0
        for user in np.linspace(0, len(self.users) - 1, COMPARED).astype(int):
            exact_I = self.items.astype(np.float64) @ self.users[user]
            exact_I[self.log_UI.indices[slice(*self.log_UI.indptr[user : user + 2])]] = -np.inf
            worst = max(worst, np.abs(np.sort(exact_I)[::-1][: self.k] - self.found[1][user]).max())
        return worst


def vectors(log_UI: sp.csr_matrix, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 embeddings of all users and items, of about unit length."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((rows, size), np.float32) / np.float32(size**0.5) for rows in log_UI.shape)
    return users, items
