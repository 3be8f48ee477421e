"""Bayesian personalized ranking by stochastic gradient descent: parallel, and bitwise identical on any number of threads.

Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback": a step takes
a user u, an item i that u interacted with and an item j that u did not. With x = b_i - b_j + p_u . (q_i - q_j) it descends, with step
size `learning_rate`, the gradient of

    ln(1 + exp(-x)) + regularization / 2 (|p_u|^2 + |q_i|^2 + |q_j|^2 + b_i^2 + b_j^2)

An epoch takes each interaction once as (u, i). Two steps can run in parallel if they share no user and no item, so users
and items are cut into B blocks each (B depends on the data's shape alone), and the cells of the B x B grid on the same
wrapped diagonal are processed in parallel, one diagonal after another (Gemulla et al. 2011, "Large-Scale Matrix Factorization with
Distributed Stochastic Gradient Descent"). Within a cell steps run in order, so an epoch is one fixed sequence of steps,
whichever thread takes them. j is drawn from the block of i; items are assigned to blocks at random in each epoch. So, over the
random blocks and for each (u, i),

- drawn uniformly, j is each item that u did not interact with, with equal probability;
- drawn by weight, j has probability weight_j / (total weight of u's non-interacted items in i's block): proportional to weight
  within a block, and nearly so overall, as long as no single item dominates a block's weight.

Where u interacted with every item of the block (every item of nonzero weight), the step is skipped.

U users, I items, N interactions, D embedding size; B blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from .bpr_blocks import TRIES, begin_cells, num_blocks, shares, user_blocks
from .device import Device, resolve
from .draws import bisect
from .random import random_below, random_bits, stream_key

REORDER = {"reassoc", "contract", "nsz", "arcp"}  # sums may be vectorized; exp may overflow to inf


def bpr_epoch(
    indptr_U1: Any,
    indices_N: Any,
    user_emb_UD: Any,
    item_emb_ID: Any,
    item_bias_I: Any,
    *,
    learning_rate: float,
    regularization: float,
    seed: int,
    epoch: int,
    weights_I: np.ndarray | None = None,
    ring: Any = None,
    device: Device = "auto",
) -> None:
    """Take one step for each interaction, changing embeddings and biases in place.

    Args:
        indptr_U1: int64 [U + 1]; with `indices_N` a CSR of users' interactions.
        indices_N: int32, ascending and distinct within a user.
        user_emb_UD: float32, C-contiguous.
        item_emb_ID: float32, C-contiguous, same D.
        item_bias_I: float32.
        learning_rate: step size.
        regularization: penalty on each row that a step touches, biases included.
        seed: for blocks and draws.
        epoch: each epoch gets different blocks and draws.
        weights_I: from `negatives.integer_weights`: j is drawn in proportion to them; None draws uniformly.
        ring: several processes with the same arguments, each of which takes the steps of some users: `rank` of `size`, at most
            B; `pass_on(out, into)` sends rows of the item tables to the process before and receives others from the one after; `collect(order,
            bounds)` gives all processes the items order[bounds[r]:bounds[r + 1]] of each process r. Users of other processes are
            left as they were. CPU only.
        device: where to compute. Arrays already on the device are updated there. On the CPU the result is bitwise identical on
            any number of threads; a GPU takes the same steps in the same order, differs by rounding, and is reproducible.

    Raises:
        ValueError: sizes that do not fit together.
    """
    (num_users, size), (num_items, item_size) = user_emb_UD.shape, item_emb_ID.shape
    if size != item_size or indptr_U1.shape[0] != num_users + 1 or item_bias_I.shape[0] != num_items:
        raise ValueError(
            f"indptr, users, items and biases must be of [U + 1], [U, D], [I, D], [I], got {indptr_U1.shape}, "
            f"{user_emb_UD.shape}, {item_emb_ID.shape}, {item_bias_I.shape}"
        )
    blocks = num_blocks(num_users, num_items, indices_N.shape[0])
    key = stream_key(seed, epoch)
    shuffled_I, below_I1 = _shuffled(num_items, key, weights_I)
    ends_B1 = np.arange(blocks + 1) * num_items // blocks
    block_I = np.empty(num_items, np.int32)
    block_I[shuffled_I] = np.repeat(np.arange(blocks), np.diff(ends_B1))
    draws = (block_I, ends_B1, shuffled_I, below_I1, key)
    tables = (user_emb_UD, item_emb_ID, item_bias_I)
    steps = (np.float32(learning_rate), np.float32(learning_rate * regularization))
    if resolve(device) == "cuda":
        from .cuda import bpr as twin

        twin.bpr_epoch(indptr_U1, indices_N, *draws, *tables, *steps)
        return
    triples_3N = np.empty((3, len(indices_N)), np.int32)
    starts_BB1 = np.empty((blocks, blocks + 1), np.int64)
    threads = get_num_threads()
    mine = (0, blocks) if ring is None else tuple(blocks * rank // ring.size for rank in (ring.rank, ring.rank + 1))
    _draw_cpu(indptr_U1, indices_N, user_blocks(indptr_U1, blocks), *draws, *mine, threads, triples_3N, starts_BB1)
    for diagonal in range(blocks):
        cells = shares(starts_BB1, diagonal, *mine, threads)
        _steps_cpu(diagonal, cells, starts_BB1, *triples_3N, *tables, *steps)
        if ring is not None:  # the next diagonal takes the same users to the next block of items
            out, into = ((first + diagonal) % blocks for first in mine)
            ring.pass_on(*(shuffled_I[ends_B1[block] : ends_B1[block + 1]] for block in (out, into)))
    if ring is not None:
        ring.collect(shuffled_I, ends_B1[blocks * np.arange(ring.size + 1) // ring.size])


def fold_users(
    indptr_U1: Any,
    indices_N: Any,
    item_emb_ID: Any,
    item_bias_I: Any,
    *,
    epochs: int,
    learning_rate: float,
    regularization: float,
    seed: int,
    weights_I: np.ndarray | None = None,
    device: Device = "auto",
) -> Any:
    """Return embeddings of users who were not in training: the same steps from 0, with items and biases fixed.

    Each user takes `epochs` passes over their items, with steps that shrink linearly from `learning_rate` to 0, so that
    sampling noise averages out. j is any item the user did not interact with, drawn as in `bpr_epoch` with one block.

    Args:
        indptr_U1: int64 [U + 1]; with `indices_N` a CSR of these users' interactions.
        indices_N: int32, ascending and distinct within a user.
        item_emb_ID: float32, C-contiguous.
        item_bias_I: float32.
        epochs: passes over a user's items.
        learning_rate: size of the first step.
        regularization: penalty on the user's row.
        seed: for the draws.
        weights_I: from `negatives.integer_weights`: j is drawn in proportion to them; None draws uniformly.
        device: where to compute; between devices the result differs by rounding.

    Returns:
        float32 [U, D]; on the device if `item_emb_ID` is there. A row depends on that user's items alone, and is 0 for a
        user with no items, or with all of them.
    """
    num_items, size = item_emb_ID.shape
    below_I1 = np.zeros(num_items + 1, np.uint64)
    np.cumsum(np.ones(num_items, np.uint64) if weights_I is None else weights_I, out=below_I1[1:])
    draws = (below_I1, stream_key(seed))
    rate, penalty = np.float32(learning_rate), np.float32(regularization)
    if resolve(device) == "cuda":
        from .cuda import bpr as twin

        return twin.fold_users(indptr_U1, indices_N, item_emb_ID, item_bias_I, *draws, epochs, rate, penalty)
    user_emb_UD = np.zeros((len(indptr_U1) - 1, size), np.float32)
    some = user_blocks(indptr_U1, 8 * get_num_threads())
    _fold_cpu(indptr_U1, indices_N, some, item_emb_ID, item_bias_I, *draws, epochs, rate, penalty, user_emb_UD)
    return user_emb_UD


def _shuffled(num_items: int, key: np.uint64, weights_I: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the items in random order, int32 [I], and the cumulative weight before each position, uint64 [I + 1]."""
    with np.errstate(over="ignore"):
        order_I = np.argsort(random_bits(~key, np.arange(num_items, dtype=np.uint64)), kind="stable")
    below_I1 = np.zeros(num_items + 1, np.uint64)
    np.cumsum(np.ones(num_items, np.uint64) if weights_I is None else weights_I[order_I], out=below_I1[1:])
    return order_I.astype(np.int32), below_I1


_bits = njit(random_bits, inline="always")
_below = njit(random_below, inline="always")
_bisect = njit(bisect, inline="always")


@njit(cache=True, nogil=True)
def _guides(ends, below):
    """Return, for each block and value of the leading bits of a draw, where to start searching; and the number of bits.

    Chen, Asau 1974, "On generating random variates from an empirical distribution": the same result as bisection, in one or two probes.
    """
    longest = 1
    for b in range(len(ends) - 1):
        longest = max(longest, ends[b + 1] - ends[b])
    bits = np.uint64(1)
    while np.int64(1) << np.int64(bits) < longest:
        bits += np.uint64(1)
    guides = np.empty((len(ends) - 1, np.int64(1) << np.int64(bits)), np.int32)
    for b in range(len(guides)):
        base = below[ends[b]]
        whole = below[ends[b + 1]] - base
        for value in range(guides.shape[1]):
            rank = _below(np.uint64(value) << (np.uint64(64) - bits), whole)
            guides[b, value] = _bisect(below, ends[b], ends[b + 1], base + rank) if whole else ends[b]
    return guides, bits


@njit(cache=True, nogil=True)
def _draw(bits, block, ends, shuffled, below, guides, guide_bits, seen):
    """Return an item of the block that the user did not interact with, drawn by weight; -1 if there is none."""
    first, last = ends[block], ends[block + 1]
    base = below[first]
    whole = below[last] - base
    if whole == np.uint64(0):
        return -1
    for again in range(TRIES):
        at = base + _below(bits, whole)
        place = guides[block, np.int64(bits >> (np.uint64(64) - guide_bits))]
        while below[place + 1] <= at:
            place += 1
        if not seen[shuffled[place]]:
            return shuffled[place]
        bits = _bits(bits, np.uint64(again))
    free = np.uint64(0)
    for place in range(first, last):
        if not seen[shuffled[place]]:
            free += below[place + 1] - below[place]
    rank = _below(bits, free)
    for place in range(first, last):
        if not seen[shuffled[place]]:
            weight = below[place + 1] - below[place]
            if rank < weight:
                return shuffled[place]
            rank -= weight
    return -1


@njit(cache=True, nogil=True, parallel=True)
def _draw_cpu(indptr, indices, first_user, block_I, ends, shuffled, below, key, low, high, threads, triples_3N, starts):
    """Draw j for all interactions of the user blocks from `low` to `high`; sort them by user block, item block and user, and record where each cell starts."""
    blocks = len(starts)
    guides, guide_bits = _guides(ends, below)
    for thread in prange(threads):
        seen = np.zeros(len(shuffled), np.bool_)
        at = np.empty(blocks + 1, np.int64)
        for b in range(low + thread, high, threads):
            begin_cells(np.int64(b), indptr, indices, first_user, block_I, starts, at)
            for user in range(first_user[b], first_user[b + 1]):
                for n in range(indptr[user], indptr[user + 1]):
                    seen[indices[n]] = True
                for n in range(indptr[user], indptr[user + 1]):
                    block = block_I[indices[n]]
                    bits = _bits(key, np.uint64(n))
                    triples_3N[0, at[block]] = user
                    triples_3N[1, at[block]] = indices[n]
                    triples_3N[2, at[block]] = _draw(bits, block, ends, shuffled, below, guides, guide_bits, seen)
                    at[block] += 1
                for n in range(indptr[user], indptr[user + 1]):
                    seen[indices[n]] = False


@njit(cache=True, nogil=True, fastmath=REORDER, error_model="numpy")
def _step(u, i, j, user_emb, item_emb, bias, rate, decay):
    size = np.uint64(user_emb.shape[1])
    x = bias[i] - bias[j]
    for d in range(size):
        x += user_emb[u, d] * (item_emb[i, d] - item_emb[j, d])
    pull = rate / (np.float32(1.0) + np.exp(x))
    keep = np.float32(1.0) - decay
    for d in range(size):
        p, q, r = user_emb[u, d], item_emb[i, d], item_emb[j, d]
        user_emb[u, d] = keep * p + pull * (q - r)
        item_emb[i, d] = keep * q + pull * p
        item_emb[j, d] = keep * r - pull * p
    bias[i] = keep * bias[i] + pull
    bias[j] = keep * bias[j] - pull


@njit(cache=True, nogil=True, parallel=True)
def _steps_cpu(diagonal, cells, starts, users_N, items_N, others_N, user_emb, item_emb, bias, rate, decay):
    """Run the steps of the cells on a diagonal."""
    blocks = len(starts)
    for thread in prange(len(cells)):
        for b in cells[thread]:
            if b < 0:
                break
            cell = (b + diagonal) % blocks
            for n in range(starts[b, cell], starts[b, cell + 1]):
                if others_N[n] >= 0:
                    u, i, j = np.uint64(users_N[n]), np.uint64(items_N[n]), np.uint64(others_N[n])
                    _step(u, i, j, user_emb, item_emb, bias, rate, decay)


@njit(cache=True, nogil=True, fastmath=REORDER, error_model="numpy")
def _user_step(u, i, j, user_emb, item_emb, bias, rate, decay):
    size = np.uint64(user_emb.shape[1])
    x = bias[i] - bias[j]
    for d in range(size):
        x += user_emb[u, d] * (item_emb[i, d] - item_emb[j, d])
    pull = rate / (np.float32(1.0) + np.exp(x))
    keep = np.float32(1.0) - decay
    for d in range(size):
        user_emb[u, d] = keep * user_emb[u, d] + pull * (item_emb[i, d] - item_emb[j, d])


@njit(cache=True, nogil=True, parallel=True)
def _fold_cpu(indptr, indices, first_user, item_emb, bias, below, key, epochs, rate, regularization, user_emb):
    everything = np.arange(len(bias), dtype=np.int32)
    ends = np.array([0, len(bias)])
    guides, guide_bits = _guides(ends, below)
    for b in prange(len(first_user) - 1):
        seen = np.zeros(len(bias), np.bool_)
        for user in range(first_user[b], first_user[b + 1]):
            begin, end = indptr[user], indptr[user + 1]
            for n in range(begin, end):
                seen[indices[n]] = True
            for epoch in range(epochs):
                now = rate * np.float32(epochs - epoch) / np.float32(epochs)
                for n in range(begin, end):
                    bits = _bits(key, np.uint64(epoch * (end - begin) + n - begin))
                    j = _draw(bits, np.int32(0), ends, everything, below, guides, guide_bits, seen)
                    if j >= 0:
                        u, i = np.uint64(user), np.uint64(indices[n])
                        _user_step(u, i, np.uint64(j), user_emb, item_emb, bias, now, now * regularization)
            for n in range(begin, end):
                seen[indices[n]] = False
