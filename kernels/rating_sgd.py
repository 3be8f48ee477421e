"""Stochastic gradient descent over ratings: biased matrix factorization and SVD++.

CPU only and single-threaded: each step reads what the previous one wrote, and that sequence defines the
result, so there is no CUDA twin (ALS fits the same models in parallel). N ratings, U users, I items, D embedding size.
"""

from __future__ import annotations

import numpy as np
from numba import njit


def biased_epoch(
    order_N: np.ndarray,
    users_N: np.ndarray,
    items_N: np.ndarray,
    ratings_N: np.ndarray,
    mean: float,
    bias_U: np.ndarray,
    bias_I: np.ndarray,
    user_emb_UD: np.ndarray,
    item_emb_ID: np.ndarray,
    *,
    learning_rate: float,
    regularization: float,
    bias_regularization: float,
) -> float:
    """Take one step for each rating, changing biases and embeddings in place; return the mean squared error before each step.

    With e = r - (mean + b_u + b_i + p_u . q_i), a step descends half the gradient of
    e^2 + bias_regularization (b_u^2 + b_i^2) + regularization (|p_u|^2 + |q_i|^2)   (Koren 2008, equation 5).

    Args:
        order_N: the sequence of positions in the three columns.
        users_N: int32 rows.
        items_N: int32 rows.
        ratings_N: float32.
        mean: of all ratings.
        bias_U: float32, C-contiguous, as are the other three.
        bias_I: likewise.
        user_emb_UD: likewise.
        item_emb_ID: likewise.
        learning_rate: step size, for biases and embeddings.
        regularization: of embeddings, at each rating.
        bias_regularization: of biases, at each rating.
    """
    squares = _biased_epoch(
        order_N,
        users_N,
        items_N,
        ratings_N,
        np.float32(mean),
        bias_U,
        bias_I,
        user_emb_UD,
        item_emb_ID,
        np.float32(learning_rate),
        np.float32(regularization),
        np.float32(bias_regularization),
    )
    return squares / max(1, len(order_N))


def svdpp_epoch(
    order_U: np.ndarray,
    starts_U: np.ndarray,
    items_N: np.ndarray,
    ratings_N: np.ndarray,
    mean: float,
    bias_U: np.ndarray,
    bias_I: np.ndarray,
    user_emb_UD: np.ndarray,
    item_emb_ID: np.ndarray,
    implicit_emb_ID: np.ndarray,
    *,
    learning_rate: float,
    regularization: float,
    bias_regularization: float,
) -> float:
    """Take one step for each rating, user by user, changing all arrays in place; return the mean squared error before each step.

    With e = r - (mean + b_u + b_i + q_i . (p_u + |N(u)|^-1/2 sum_{j in N(u)} y_j)), N(u) the items that u rated, a step
    descends half the gradient of e^2 + bias_regularization (b_u^2 + b_i^2) + regularization (|p_u|^2 + |q_i|^2 + sum_j |y_j|^2)
    (Koren 2008, equation 15).

    A step changes every y_j of N(u) by the same rule: y_j becomes (1 - rate * regularization) y_j + a vector that does not
    depend on j. So over one user's ratings it suffices to track that vector, the factor, and the sum of the y_j, and to write
    the y_j once at the end. This is the same sequence of steps, at N * D operations instead of sum_u |N(u)|^2 * D.

    Args:
        order_U: the sequence of users.
        starts_U: int64 [U + 1]; user u's ratings are at starts_U[u]:starts_U[u + 1], each item once.
        items_N: int32 rows.
        ratings_N: float32.
        mean: of all ratings.
        bias_U: float32, C-contiguous, as are the other four.
        bias_I: likewise.
        user_emb_UD: p.
        item_emb_ID: q.
        implicit_emb_ID: y.
        learning_rate: step size.
        regularization: of embeddings, at each rating.
        bias_regularization: of biases, at each rating.
    """
    squares = _svdpp_epoch(
        order_U,
        starts_U,
        items_N,
        ratings_N,
        np.float32(mean),
        bias_U,
        bias_I,
        user_emb_UD,
        item_emb_ID,
        implicit_emb_ID,
        np.float32(learning_rate),
        np.float32(regularization),
        np.float32(bias_regularization),
    )
    return squares / max(1, len(items_N))


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _biased_epoch(
    order_N,
    users_N,
    items_N,
    ratings_N,
    mean,
    bias_U,
    bias_I,
    user_emb_UD,
    item_emb_ID,
    rate,
    penalty,
    bias_penalty,
):
    squares = 0.0
    for n in order_N:
        u, i = users_N[n], items_N[n]
        p_D, q_D = user_emb_UD[u], item_emb_ID[i]
        dot = np.float32(0.0)
        for d in range(p_D.shape[0]):
            dot += p_D[d] * q_D[d]
        error = ratings_N[n] - (mean + bias_U[u] + bias_I[i] + dot)
        squares += np.float64(error) * error
        bias_U[u] += rate * (error - bias_penalty * bias_U[u])
        bias_I[i] += rate * (error - bias_penalty * bias_I[i])
        for d in range(p_D.shape[0]):
            p, q = p_D[d], q_D[d]
            p_D[d] = p + rate * (error * q - penalty * p)
            q_D[d] = q + rate * (error * p - penalty * q)
    return squares


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _svdpp_epoch(
    order_U,
    starts_U,
    items_N,
    ratings_N,
    mean,
    bias_U,
    bias_I,
    user_emb_UD,
    item_emb_ID,
    implicit_emb_ID,
    rate,
    penalty,
    bias_penalty,
):
    squares = 0.0
    size = user_emb_UD.shape[1]
    sum_D = np.empty(size, np.float32)  # |N(u)|^-1/2 times the sum of the y_j
    shift_D = np.empty(size, np.float32)  # total shift of each y_j since the user's first rating
    keep = np.float32(1.0) - rate * penalty
    for u in order_U:
        start, end = starts_U[u], starts_U[u + 1]
        if start == end:
            continue
        norm = np.float32(1.0) / np.sqrt(np.float32(end - start))
        sum_D[:] = np.float32(0.0)
        shift_D[:] = np.float32(0.0)
        for n in range(start, end):
            y_D = implicit_emb_ID[items_N[n]]
            for d in range(size):
                sum_D[d] += y_D[d]
        for d in range(size):
            sum_D[d] *= norm
        kept = np.float32(1.0)
        p_D = user_emb_UD[u]
        for n in range(start, end):
            i = items_N[n]
            q_D = item_emb_ID[i]
            dot = np.float32(0.0)
            for d in range(size):
                dot += q_D[d] * (p_D[d] + sum_D[d])
            error = ratings_N[n] - (mean + bias_U[u] + bias_I[i] + dot)
            squares += np.float64(error) * error
            bias_U[u] += rate * (error - bias_penalty * bias_U[u])
            bias_I[i] += rate * (error - bias_penalty * bias_I[i])
            for d in range(size):
                p, q, implicit = p_D[d], q_D[d], sum_D[d]
                p_D[d] = p + rate * (error * q - penalty * p)
                q_D[d] = q + rate * (error * (p + implicit) - penalty * q)
                shift_D[d] = keep * shift_D[d] + rate * error * norm * q
                sum_D[d] = keep * implicit + rate * error * q  # |N(u)| * norm^2 = 1
            kept *= keep
        for n in range(start, end):
            y_D = implicit_emb_ID[items_N[n]]
            for d in range(size):
                y_D[d] = kept * y_D[d] + shift_D[d]
    return squares
