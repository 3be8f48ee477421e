"""What ALS, SVD and EASE minimize, in float64, for whoever computed the result. U users, I items, D embedding size."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

UNOBSERVED, REGULARIZATION = 0.1, 0.01  # of rendle2022
ALPHA, PENALTY = 3.0, 10.0  # of hu2008: weight of an observed pair, and the penalty of a row
RIDGE = 300.0  # of EASE
COLUMNS = 64  # of EASE's matrix that the objective looks at


def start_users(num_users: int, size: int) -> np.ndarray:
    """Return float32 [U, D] to start from."""
    return (0.1 * size**-0.5 * np.random.default_rng(7).standard_normal((num_users, size))).astype(np.float32)


def penalties(matrix: sp.csr_matrix) -> np.ndarray:
    """Return float32 [R], what rendle2022 penalizes each row by (frequency exponent 1)."""
    counts_R = np.diff(matrix.indptr)
    return (REGULARIZATION * (counts_R + UNOBSERVED * matrix.shape[1])).astype(np.float32)


def rendle2022(log_UI: sp.csr_matrix, users: np.ndarray, items: np.ndarray) -> float:
    """Return `sum_observed (1 - x.y)^2 + unobserved_weight sum_all (x.y)^2 + penalties` (Rendle et al. 2022, eq. 1-4)."""
    users, items = users.astype(np.float64), items.astype(np.float64)
    rows = sum(
        float(penalties(matrix).astype(np.float64) @ (emb**2).sum(axis=1))
        for matrix, emb in ((log_UI, users), (log_UI.T.tocsr(), items))
    )
    return _observed(log_UI, users, items, 1.0, 1.0) + UNOBSERVED * _all(users, items) + rows


def hu2008(log_UI: sp.csr_matrix, users: np.ndarray, items: np.ndarray) -> float:
    """Return `sum_all c (p - x.y)^2 + penalty (sum |x|^2 + sum |y|^2)`, c = alpha of observed pairs, else 1 (Hu et al. 2008, eq. 3)."""
    users, items = users.astype(np.float64), items.astype(np.float64)
    return (
        _observed(log_UI, users, items, ALPHA - 1, ALPHA)
        + _all(users, items)
        + PENALTY * float((users**2).sum() + (items**2).sum())
    )


def unexplained(log_UI: sp.csr_matrix, item_emb_ID: np.ndarray) -> float:
    """Return |X - X Q Q^T|_F / |X|_F, where Q is an orthonormal basis of the columns of `item_emb_ID`."""
    basis_ID = np.linalg.qr(item_emb_ID.astype(np.float64))[0]
    explained = float(((log_UI.astype(np.float64) @ basis_ID) ** 2).sum())
    return (1 - explained / float(log_UI.power(2).sum(dtype=np.float64))) ** 0.5


def ridge(log_UI: sp.csr_matrix, weights_II: np.ndarray) -> float:
    """Return `|X - X B|_F^2 + RIDGE |B|_F^2` (Steck 2019, eq. 3) over some columns of B, evenly spaced."""
    columns = np.linspace(0, log_UI.shape[1] - 1, COLUMNS).astype(int)
    weights_IC = np.asarray(weights_II[:, columns], np.float64)
    apart_UC = log_UI[:, columns].toarray() - log_UI.astype(np.float64) @ weights_IC
    return float((apart_UC**2).sum() + RIDGE * (weights_IC**2).sum())


def _observed(log_UI: sp.csr_matrix, users: np.ndarray, items: np.ndarray, squared: float, linear: float) -> float:
    """Return `sum_observed (squared (x.y)^2 - 2 linear x.y + linear)`."""
    pairs, total = log_UI.tocoo(), 0.0
    for first in range(0, pairs.nnz, 1 << 16):
        part = slice(first, first + (1 << 16))
        dots_P = np.einsum("pd,pd->p", users[pairs.row[part]], items[pairs.col[part]])
        total += float((squared * dots_P**2 - 2 * linear * dots_P + linear).sum())
    return total


def _all(users: np.ndarray, items: np.ndarray) -> float:
    """Return the sum over all pairs of (x.y)^2."""
    return float(((users.T @ users) * (items.T @ items)).sum())
