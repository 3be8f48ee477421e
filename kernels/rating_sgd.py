"""Stochastic gradient descent over ratings: biased matrix factorization and SVD++, bitwise identical on any number of threads.

CPU only (ALS fits the same model on a GPU). N ratings, U users, I items, D embedding size, B blocks, G users of a group.

`biased_epoch` takes steps in parallel that share no user and no item, as `bpr.bpr_epoch` does (Gemulla et al. 2011, "Large-Scale Matrix
Factorization with Distributed Stochastic Gradient Descent"): users and items are cut into B blocks each, and the cells of the
B x B grid on one wrapped diagonal are processed in parallel. An epoch is one fixed sequence of steps.

A step of SVD++ changes the y_j of all items that its user rated, so steps of different users always share rows. `svdpp_epoch` therefore takes
groups of G users: each user's steps start from the item tables as the group found them, and the changes of its users are then applied in
their order, each thread to items of its own. G depends on the data's shape alone; with few users it is 1, which is sequential descent.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from .bpr_blocks import num_blocks, shares, user_blocks
from .random import random_below, random_bits, stream_key
from .threads import at_most

MOST_TOGETHER = 16  # users of a group

LEAST_GROUPS = 64  # so that item tables are nearly as they would be in sequence

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
    indptr_U1: np.ndarray,
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
    seed: int,
    epoch: int,
) -> None:
    """Take one step for each rating, user by user in a random order, changing all arrays in place.

    With e = r - (mean + b_u + b_i + q_i . (p_u + |N(u)|^-1/2 sum_{j in N(u)} y_j)), N(u) the items that u rated, a step
    descends half the gradient of e^2 + bias_regularization (b_u^2 + b_i^2) + regularization (|p_u|^2 + |q_i|^2 + sum_j |y_j|^2)
    (Koren 2008, equation 15).

    A step changes every y_j of N(u) by the same rule: y_j becomes (1 - rate * regularization) y_j + a vector that does not
    depend on j; and p_u and |N(u)|^-1/2 sum_j y_j move alike. So over one user's ratings it suffices to track the sum of the
    two and the factor, and to write p_u and the y_j once at the end. This is the same sequence of steps, at N * D operations
    instead of sum_u |N(u)|^2 * D.

    Args:
        indptr_U1: int64 [U + 1]; user u's ratings are at indptr_U1[u]:indptr_U1[u + 1], in the order of the steps, each item once.
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
        seed: for the order of the users.
        epoch: each epoch has an order of its own.
    """
    rated_U = _shuffled(len(bias_U), stream_key(seed, epoch))
    rated_U = rated_U[np.diff(indptr_U1)[rated_U] > 0]
    together = max(1, min(MOST_TOGETHER, len(rated_U) // LEAST_GROUPS))
    below_I = np.cumsum(np.bincount(items_N, minlength=len(bias_I)))
    tables = (np.float32(mean), bias_U, bias_I, user_emb_UD, item_emb_ID, implicit_emb_ID)
    steps = (np.float32(learning_rate), np.float32(regularization), np.float32(bias_regularization))
    work = item_emb_ID.shape[1] * len(items_N) * together // max(1, len(rated_U))
    with at_most(min(together, work // LEAST_WORK)):
        threads = get_num_threads()
        owner_I = ((below_I - 1) * threads // max(1, len(items_N))).clip(0).astype(np.int32)
        _svdpp_cpu(rated_U, together, threads, owner_I, indptr_U1, items_N, ratings_N, *tables, *steps)


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
        at = np.zeros(blocks + 1, np.int64)
        for n in range(indptr[first_user[b]], indptr[first_user[b + 1]]):
            at[block_I[items[n]] + 1] += 1
        at[0] = indptr[first_user[b]]
        for other in range(blocks):
            at[other + 1] += at[other]
        starts[b] = at
        for user in range(first_user[b], first_user[b + 1]):
            for n in range(indptr[user], indptr[user + 1]):
                block = block_I[items[n]]
                first, end = starts[b, block], at[block]
                place = first + np.int64(_below(_bits(key, np.uint64(n)), np.uint64(end - first + 1)))
                users_N[end], items_N[end], ratings_N[end] = users_N[place], items_N[place], ratings_N[place]
                users_N[place], items_N[place], ratings_N[place] = (
                    user,
                    items[n],
                    ratings[n],
                )  # a shuffle while the cell fills
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
def _user_steps(
    u, start, end, items, ratings, mean, bias_U, bias_I, user_emb, item_emb, implicit_emb, rate, penalty, bias_penalty,
    change_LD, change_L, whole_D, shift_D
):  # fmt: skip
    """Take one user's steps; write the changes of item embeddings and biases, and the shift of each y_j; return the factor of each y_j."""
    size = np.uint64(user_emb.shape[1])
    keep, norm = np.float32(1.0) - rate * penalty, np.float32(1.0) / np.sqrt(np.float32(end - start))
    whole_D[:] = np.float32(0.0)
    for n in range(start, end):
        i = np.uint64(items[n])
        for d in range(size):
            whole_D[d] += implicit_emb[i, d]
    for d in range(size):
        whole_D[d] = user_emb[u, d] + norm * whole_D[d]
        shift_D[d] = whole_D[d]
    kept = np.float32(1.0)
    for n in range(start, end):
        i, at = np.uint64(items[n]), np.uint64(n - start)
        dot = np.float32(0.0)
        for d in range(size):
            dot += item_emb[i, d] * whole_D[d]
        error = ratings[n] - (mean + bias_U[u] + bias_I[i] + dot)
        bias_U[u] += rate * (error - bias_penalty * bias_U[u])
        change_L[at] = rate * (error - bias_penalty * bias_I[i])
        pull = rate * error
        for d in range(size):
            whole, q = whole_D[d], item_emb[i, d]
            change_LD[at, d] = pull * whole - rate * penalty * q
            whole_D[d] = keep * whole + (pull + pull) * q  # p and the norm of the y_j each move by pull * q
        kept *= keep
    for d in range(size):
        moved = np.float32(0.5) * (whole_D[d] - kept * shift_D[d])
        user_emb[u, d] = kept * user_emb[u, d] + moved
        shift_D[d] = norm * moved
    return kept


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _apply(i, change_D, shift_D, kept, item_emb, implicit_emb):
    for d in range(np.uint64(item_emb.shape[1])):
        item_emb[i, d] += change_D[d]
        implicit_emb[i, d] = kept * implicit_emb[i, d] + shift_D[d]


@njit(cache=True, nogil=True, parallel=True)
def _svdpp_cpu(
    order, together, threads, owner, indptr, items, ratings, mean, bias_U, bias_I, user_emb, item_emb, implicit_emb,
    rate, penalty, bias_penalty
):  # fmt: skip
    size = user_emb.shape[1]
    kept, shift = np.empty(together, np.float32), np.empty((together, size), np.float32)
    starts, share, loads = np.zeros(together + 1, np.int64), np.empty(together, np.int64), np.empty(threads, np.int64)
    change_LD, change_L = np.empty((0, size), np.float32), np.empty(0, np.float32)
    for first in range(0, len(order), together):
        count = min(together, len(order) - first)
        for g in range(count):
            starts[g + 1] = starts[g] + indptr[order[first + g] + 1] - indptr[order[first + g]]
        if starts[count] > len(change_L):
            most = 2 * starts[count]
            change_LD, change_L = np.empty((most, size), np.float32), np.empty(most, np.float32)
        loads[:] = 0
        for g in np.argsort(starts[:count] - starts[1 : count + 1]):  # longest first, each to the least loaded thread
            share[g] = np.argmin(loads)
            loads[share[g]] += starts[g + 1] - starts[g]
        for thread in prange(threads):
            whole_D, shift_D = np.empty(size, np.float32), np.empty(size, np.float32)
            for g in range(count):
                if share[g] == thread:
                    u, part = np.uint64(order[first + g]), slice(starts[g], starts[g + 1])
                    kept[g] = _user_steps(
                        u, indptr[u], indptr[u + np.uint64(1)], items, ratings, mean, bias_U, bias_I, user_emb, item_emb,
                        implicit_emb, rate, penalty, bias_penalty, change_LD[part], change_L[part], whole_D, shift_D
                    )  # fmt: skip
                    shift[g] = shift_D
        for thread in prange(threads):
            for g in range(count):
                begin = indptr[order[first + g]] - starts[g]
                for at in range(starts[g], starts[g + 1]):
                    i = np.uint64(items[begin + at])
                    if owner[i] == thread:
                        bias_I[i] += change_L[at]
                        _apply(i, change_LD[at], shift[g], kept[g], item_emb, implicit_emb)
