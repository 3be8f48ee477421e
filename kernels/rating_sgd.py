"""Stochastic gradient descent over ratings: biased matrix factorization, bitwise identical on any number of threads, and SVD++.

CPU only (ALS fits the same model on a GPU). N ratings, U users, I items, D embedding size, B blocks.

`biased_epoch` takes steps in parallel that share no user and no item, as `bpr.bpr_epoch` does (Gemulla et al. 2011, "Large-Scale Matrix
Factorization with Distributed Stochastic Gradient Descent"): users and items are cut into B blocks each, and the cells of the
B x B grid on one wrapped diagonal are processed in parallel. An epoch is one fixed sequence of steps.

A step of SVD++ changes the y_j of all items that its user rated, so steps of different users always share rows: it runs on one thread, and each
step reads what the one before wrote. Groups of 16 users that start from the same item tables, their changes applied in order, were tried on all
threads: slower on one thread and on two, and errors .0003 higher on MovieLens 100K.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from .bpr_blocks import begin_cells, num_blocks, shares, user_blocks
from .random import random_below, random_bits, stream_key
from .threads import at_most

LEAST_WORK = 1 << 15  # numbers of embeddings that a thread changes between two barriers, some 30 microseconds


def biased_epoch(
    indptr_U1: np.ndarray,
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
    seed: int,
    epoch: int,
) -> None:
    """Take one step for each rating, changing biases and embeddings in place.

    With e = r - (mean + b_u + b_i + p_u . q_i), a step descends half the gradient of
    e^2 + bias_regularization (b_u^2 + b_i^2) + regularization (|p_u|^2 + |q_i|^2)   (Koren 2008, equation 5).

    Args:
        indptr_U1: int64 [U + 1]; with `items_N` a CSR of users' ratings.
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
        seed: for the order of the steps.
        epoch: each epoch has an order of its own.
    """
    num_users, num_items = len(bias_U), len(bias_I)
    blocks = num_blocks(num_users, num_items, len(items_N))
    key = stream_key(seed, epoch)
    block_I = np.empty(num_items, np.int32)
    block_I[_shuffled(num_items, ~key)] = np.arange(num_items) * blocks // max(1, num_items)
    ordered = (np.empty(len(items_N), np.int32), np.empty(len(items_N), np.int32), np.empty(len(items_N), np.float32))
    starts_BB1 = np.empty((blocks, blocks + 1), np.int64)
    tables = (np.float32(mean), bias_U, bias_I, user_emb_UD, item_emb_ID)
    steps = (np.float32(learning_rate), np.float32(regularization), np.float32(bias_regularization))
    with at_most(min(blocks, user_emb_UD.shape[1] * len(items_N) // blocks // LEAST_WORK)):
        _order_cpu(indptr_U1, items_N, ratings_N, user_blocks(indptr_U1, blocks), block_I, key, *ordered, starts_BB1)
        for diagonal in range(blocks):
            cells = shares(starts_BB1, diagonal, 0, blocks, get_num_threads())
            _biased_cpu(diagonal, cells, starts_BB1, *ordered, *tables, *steps)


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


def _shuffled(count: int, key: np.uint64) -> np.ndarray:
    """Return int64 [count]: 0 to count - 1 in random order."""
    with np.errstate(over="ignore"):
        return np.argsort(random_bits(key, np.arange(count, dtype=np.uint64)), kind="stable")


_bits = njit(random_bits, inline="always")
_below = njit(random_below, inline="always")


@njit(cache=True, nogil=True, parallel=True)
def _order_cpu(indptr, items, ratings, first_user, block_I, key, users_N, items_N, ratings_N, starts):
    """Sort users, items and ratings by user block and item block, in random order within a cell; record where each cell starts."""
    blocks = len(starts)
    for b in prange(blocks):
        at = np.empty(blocks + 1, np.int64)
        begin_cells(np.int64(b), indptr, items, first_user, block_I, starts, at)
        for user in range(first_user[b], first_user[b + 1]):
            for n in range(indptr[user], indptr[user + 1]):
                block = block_I[items[n]]
                first, end = starts[b, block], at[block]
                # a shuffle as the cell fills
                place = first + np.int64(_below(_bits(key, np.uint64(n)), np.uint64(end - first + 1)))
                users_N[end], items_N[end], ratings_N[end] = users_N[place], items_N[place], ratings_N[place]
                users_N[place], items_N[place], ratings_N[place] = user, items[n], ratings[n]
                at[block] += 1


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _step(u, i, rating, mean, bias_U, bias_I, user_emb, item_emb, rate, penalty, bias_penalty):
    size = np.uint64(user_emb.shape[1])
    dot = np.float32(0.0)
    for d in range(size):
        dot += user_emb[u, d] * item_emb[i, d]
    error = rating - (mean + bias_U[u] + bias_I[i] + dot)
    bias_U[u] += rate * (error - bias_penalty * bias_U[u])
    bias_I[i] += rate * (error - bias_penalty * bias_I[i])
    for d in range(size):
        p, q = user_emb[u, d], item_emb[i, d]
        user_emb[u, d] = p + rate * (error * q - penalty * p)
        item_emb[i, d] = q + rate * (error * p - penalty * q)


@njit(cache=True, nogil=True, parallel=True)
def _biased_cpu(
    diagonal,
    cells,
    starts,
    users,
    items,
    ratings,
    mean,
    bias_U,
    bias_I,
    user_emb,
    item_emb,
    rate,
    penalty,
    bias_penalty,
):
    """Take the steps of the cells on a diagonal."""
    blocks = len(starts)
    for thread in prange(len(cells)):
        for b in cells[thread]:
            if b < 0:
                break
            other = (b + diagonal) % blocks
            for n in range(starts[b, other], starts[b, other + 1]):
                u, i = np.uint64(users[n]), np.uint64(items[n])
                _step(u, i, ratings[n], mean, bias_U, bias_I, user_emb, item_emb, rate, penalty, bias_penalty)


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
