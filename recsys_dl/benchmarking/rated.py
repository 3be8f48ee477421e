"""Ratings for the jobs that predict them, and the errors of all contenders, in float64. U users, I items, N pairs, H held out, D embedding size."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

EPOCHS = 2  # of a fit by stochastic gradient descent, which begins anew at each step
FUNK: dict[str, Any] = {"learning_rate": 0.005, "regularization": 0.02, "initial_scale": 0.1}  # surprise's defaults
PLUS = FUNK | {"learning_rate": 0.007}
BIAS_PENALTY = 0.02
SHRINKAGE, NEIGHBORS, RATERS = 100.0, 100, 40
MOST_HELD = 5_000
TASTES = 8


class Rated(NamedTuple):
    """Ratings from 1 to 5 to learn from, and those of other pairs."""

    train_UI: sp.csr_matrix
    users_H: np.ndarray
    items_H: np.ndarray
    ratings_H: np.ndarray

    def error(self, predicted_H: np.ndarray) -> float:
        """Return the root mean squared error of predictions of the pairs held out, clipped to the scale."""
        errors_H = np.clip(np.asarray(predicted_H, np.float64), 1, 5) - self.ratings_H
        return float(np.sqrt(np.mean(errors_H**2)))

    def factor_error(
        self, mean: float, bias_U: np.ndarray, bias_I: np.ndarray, user_emb_UD: np.ndarray, item_emb_ID: np.ndarray
    ) -> float:
        """Return the error of mean + b_u + b_i + p_u . q_i."""
        dots_H = np.einsum("hd,hd->h", user_emb_UD[self.users_H].astype(np.float64), item_emb_ID[self.items_H])
        return self.error(mean + bias_U[self.users_H] + bias_I[self.items_H] + dots_H)


def rated(log_UI: sp.csr_matrix) -> Rated:
    """Return planted ratings of a log's pairs, one in a hundred of which is held out."""
    rng = np.random.default_rng(7)
    num_users, num_items = log_UI.shape
    pairs = log_UI.tocoo()
    tastes_UC, kinds_IC = rng.normal(0, 1, (num_users, TASTES)), rng.normal(0, 0.25, (num_items, TASTES))
    likes_N = 3.5 + rng.normal(0, 0.4, num_users)[pairs.row] + rng.normal(0, 0.5, num_items)[pairs.col]
    likes_N += np.einsum("nc,nc->n", tastes_UC[pairs.row], kinds_IC[pairs.col]) + rng.normal(0, 0.8, pairs.nnz)
    ratings_N = np.clip(np.round(likes_N), 1, 5).astype(np.float32)
    held_N = np.zeros(pairs.nnz, bool)
    held_N[rng.permutation(pairs.nnz)[: min(MOST_HELD, pairs.nnz // 100)]] = True
    train = sp.csr_matrix((ratings_N[~held_N], (pairs.row[~held_N], pairs.col[~held_N])), shape=log_UI.shape)
    return Rated(train, pairs.row[held_N], pairs.col[held_N], ratings_N[held_N])
