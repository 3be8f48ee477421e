"""BPR on a GPU: the steps of `kernels.bpr` in the same order, one warp per cell of a diagonal.

Draws do not depend on embeddings, so they are made first: each user block is cut into chunks, a warp sorts a chunk's
interactions by item block, 32 at a time and stably, and each of its lanes draws for one. Then one launch per diagonal runs
the steps: lanes split the coordinates of a triple. A warp's rows of a cell stay in its multiprocessor's L1 cache.

U users, I items, N interactions, D embedding size; B blocks, H chunks of users.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64, uint32, uint64

from ..bpr_blocks import MOST_BLOCKS, TRIES, user_blocks
from ..draws import bisect
from ..random import random_below, random_bits
from .arrays import give_back, on_device, to_device
from .machine import ALL, LANES, add_four, dot_four, load_line, store_line, warp_sum, wide

WARPS = 4  # per block when sorting and drawing
CHUNKS = 32  # per user block
NO_BLOCK = 255  # of a lane past the end

SIGNATURES = {
    "count": "void(int64[::1], int64[::1], int32[::1], int32[::1], int32[:, ::1])",
    "begin": "void(int64[::1], int64[::1], int32[:, ::1], int64[:, ::1], int64[:, ::1])",
    "draw": "void(int64[::1], int64[::1], int32[::1], int32[::1], int64[::1], int32[::1], uint64[::1], uint64, "
    "int64[:, ::1], int32[:, ::1])",
    "steps": "void(int64, int64[:, ::1], int32[:, ::1], float32[:, ::1], float32[:, ::1], float32[::1], float32, float32, boolean)",
    "fold": "void(int64[::1], int32[::1], float32[:, ::1], float32[::1], uint64[::1], int32[::1], uint64, int64, float32, "
    "float32, float32[:, ::1])",
}
BLOCKS = {"count": WARPS * LANES, "begin": MOST_BLOCKS, "draw": WARPS * LANES, "steps": LANES, "fold": LANES}

_bits = cuda.jit(device=True)(random_bits)
_below = cuda.jit(device=True)(random_below)
_bisect = cuda.jit(device=True)(bisect)


def bpr_epoch(
    indptr_U1: Any,
    indices_N: Any,
    block_I: np.ndarray,
    ends_B1: np.ndarray,
    shuffled_I: np.ndarray,
    below_I1: np.ndarray,
    key: np.uint64,
    user_emb_UD: Any,
    item_emb_ID: Any,
    item_bias_I: Any,
    rate: np.float32,
    decay: np.float32,
) -> None:
    """See `kernels.bpr.bpr_epoch`."""
    blocks = len(ends_B1) - 1
    chunks = CHUNKS * blocks
    indptr = to_device(indptr_U1, np.int64)
    indices = to_device(indices_N, np.int32)
    first_user = to_device(user_blocks(indptr_U1.copy_to_host() if on_device(indptr_U1) else indptr_U1, chunks))
    block, ends, shuffled, below = (to_device(array) for array in (block_I, ends_B1, shuffled_I, below_I1))
    tables = [to_device(table, np.float32) for table in (user_emb_UD, item_emb_ID, item_bias_I)]
    counts = cuda.device_array((chunks, blocks), np.int32)
    places = cuda.device_array((chunks, blocks), np.int64)
    starts = cuda.device_array((blocks, blocks + 1), np.int64)
    triples = cuda.device_array((3, indices.shape[0]), np.int32)
    grid = chunks // WARPS
    count[grid, WARPS * LANES](first_user, indptr, indices, block, counts)
    begin[blocks, MOST_BLOCKS](first_user, indptr, counts, places, starts)
    draw[grid, WARPS * LANES](first_user, indptr, indices, block, ends, shuffled, below, key, places, triples)
    is_wide = wide(*tables[:2])
    for diagonal in range(blocks):
        steps[blocks, LANES](diagonal, starts, triples, *tables, rate, decay, is_wide)
    for table, given in zip(tables, (user_emb_UD, item_emb_ID, item_bias_I), strict=True):
        if not on_device(given):
            table.copy_to_host(given)


def fold_users(
    indptr_U1: Any,
    indices_N: Any,
    item_emb_ID: Any,
    item_bias_I: Any,
    below_I1: np.ndarray,
    key: np.uint64,
    epochs: int,
    rate: np.float32,
    regularization: np.float32,
) -> Any:
    """See `kernels.bpr.fold_users`."""
    num_items, size = item_emb_ID.shape
    indptr = to_device(indptr_U1, np.int64)
    users = cuda.device_array((indptr.shape[0] - 1, size), np.float32)
    if users.shape[0]:
        fold[users.shape[0], LANES](
            indptr,
            to_device(indices_N, np.int32),
            to_device(item_emb_ID, np.float32),
            to_device(item_bias_I, np.float32),
            to_device(below_I1),
            to_device(np.arange(num_items, dtype=np.int32)),
            key,
            epochs,
            rate,
            regularization,
            users,
        )
    return give_back(users, like=item_emb_ID)


@cuda.jit(device=True)
def _seen(indices, low, high, item):
    end = high
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and indices[low] == item


@cuda.jit(device=True)
def _draw(bits, first, last, shuffled, below, indices, low, high):
    """As on the CPU: an item at positions [first, last) that is not in indices[low:high], drawn by weight; -1 if there is none."""
    whole = below[last] - below[first]
    if whole == uint64(0):
        return int32(-1)
    for again in range(TRIES):
        item = shuffled[_bisect(below, first, last, below[first] + _below(bits, whole))]
        if not _seen(indices, low, high, item):
            return item
        bits = _bits(bits, uint64(again))
    free = uint64(0)
    for place in range(first, last):
        if not _seen(indices, low, high, shuffled[place]):
            free += below[place + 1] - below[place]
    rank = _below(bits, free)
    for place in range(first, last):
        if not _seen(indices, low, high, shuffled[place]):
            weight = below[place + 1] - below[place]
            if rank < weight:
                return shuffled[place]
            rank -= weight
    return int32(-1)


@cuda.jit
def count(first_user, indptr, indices, block_I, counts_HB):
    """Count each chunk's interactions by item block. One warp per chunk."""
    mine = cuda.shared.array((WARPS, MOST_BLOCKS), int32)
    warp = cuda.threadIdx.x // LANES
    lane = cuda.threadIdx.x % LANES
    chunk = cuda.blockIdx.x * WARPS + warp
    for b in range(lane, MOST_BLOCKS, LANES):
        mine[warp, b] = 0
    cuda.syncwarp()
    for n in range(indptr[first_user[chunk]] + lane, indptr[first_user[chunk + 1]], LANES):
        cuda.atomic.add(mine, (warp, block_I[indices[n]]), 1)
    cuda.syncwarp()
    for b in range(lane, counts_HB.shape[1], LANES):
        counts_HB[chunk, b] = mine[warp, b]


@cuda.jit
def begin(first_user, indptr, counts_HB, places_HB, starts_BB1):
    """Write where each cell starts among the triples, and each chunk within it. One thread block per user block."""
    totals = cuda.shared.array(MOST_BLOCKS, int64)
    blocks = starts_BB1.shape[0]
    b = cuda.blockIdx.x
    other = cuda.threadIdx.x
    total = int64(0)
    if other < blocks:
        for chunk in range(b * CHUNKS, (b + 1) * CHUNKS):
            total += counts_HB[chunk, other]
    totals[other] = total
    cuda.syncthreads()
    if other < blocks:
        start = indptr[first_user[b * CHUNKS]]
        for before in range(other):
            start += totals[before]
        starts_BB1[b, other] = start
        if other == blocks - 1:
            starts_BB1[b, blocks] = start + total
        for chunk in range(b * CHUNKS, (b + 1) * CHUNKS):
            places_HB[chunk, other] = start
            start += counts_HB[chunk, other]


@cuda.jit
def draw(first_user, indptr, indices, block_I, ends, shuffled, below, key, places_HB, triples_3N):
    """Draw j for all interactions and write the triples, sorted stably by cell. One warp per chunk."""
    place_of = cuda.shared.array((WARPS, MOST_BLOCKS), int64)
    warp = cuda.threadIdx.x // LANES
    lane = cuda.threadIdx.x % LANES
    chunk = cuda.blockIdx.x * WARPS + warp
    for b in range(lane, places_HB.shape[1], LANES):
        place_of[warp, b] = places_HB[chunk, b]
    cuda.syncwarp()
    first = first_user[chunk]
    last = first_user[chunk + 1]
    end = indptr[last]
    for base in range(indptr[first], end, LANES):
        n = base + lane
        block = NO_BLOCK
        if n < end:
            block = block_I[indices[n]]
        same = uint32(ALL)  # lanes of the same item block
        for bit in range(8):
            one = uint32(cuda.ballot_sync(ALL, (block >> bit) & 1))
            same &= one if (block >> bit) & 1 else one ^ uint32(ALL)
        if n < end:
            place = place_of[warp, block] + cuda.popc(same & ((uint32(1) << uint32(lane)) - uint32(1)))
            user = _bisect(indptr, first, last, n)
            triples_3N[0, place] = user
            triples_3N[1, place] = indices[n]
            triples_3N[2, place] = _draw(
                _bits(key, uint64(n)),
                ends[block],
                ends[block + 1],
                shuffled,
                below,
                indices,
                indptr[user],
                indptr[user + 1],
            )
        cuda.syncwarp()
        if n < end and same >> uint32(lane) == uint32(1):  # the last of them
            place_of[warp, block] = place + 1
        cuda.syncwarp()


@cuda.jit
def steps(diagonal, starts_BB1, triples_3N, user_emb, item_emb, bias, rate, decay, is_wide):
    """Run the steps of the cells on a diagonal: one warp per cell, whose lanes read 32 triples at once and then split the columns."""
    lane = int64(uint32(cuda.threadIdx.x))
    b = cuda.blockIdx.x
    cell = (b + diagonal) % starts_BB1.shape[0]
    size = user_emb.shape[1]
    end = starts_BB1[b, cell + 1]
    for base in range(starts_BB1[b, cell], end, LANES):
        n = min(base + lane, end - 1)
        users, positives, others = triples_3N[0, n], triples_3N[1, n], triples_3N[2, n]
        for step in range(min(int64(LANES), end - base)):
            u = int64(cuda.shfl_sync(ALL, users, step))
            i = int64(cuda.shfl_sync(ALL, positives, step))
            j = int64(cuda.shfl_sync(ALL, others, step))
            if j < 0:
                continue
            x = float32(0)
            for column in range(4 * lane, size, 4 * LANES):
                p = load_line(user_emb, u, column, True, is_wide)
                q = load_line(item_emb, i, column, True, is_wide)
                r = load_line(item_emb, j, column, True, is_wide)
                x += dot_four(p, add_four(q, float32(-1), r))
            x = warp_sum(x) + (bias[i] - bias[j])
            pull = rate / (float32(1) + math.exp(x))
            for column in range(4 * lane, size, 4 * LANES):
                p = load_line(user_emb, u, column, True, is_wide)
                q = load_line(item_emb, i, column, True, is_wide)
                r = load_line(item_emb, j, column, True, is_wide)
                store_line(user_emb, u, column, _moved(p, decay, pull, add_four(q, float32(-1), r)), is_wide)
                store_line(item_emb, i, column, _moved(q, decay, pull, p), is_wide)
                store_line(item_emb, j, column, _moved(r, decay, -pull, p), is_wide)
            cuda.syncwarp()
            if lane == 0:
                bias[i] = (float32(1) - decay) * bias[i] + pull
                bias[j] = (float32(1) - decay) * bias[j] - pull
            cuda.syncwarp()


@cuda.jit(device=True)
def _moved(values, decay, pull, toward):
    """Return (1 - decay) values + pull toward, of four."""
    return add_four(add_four(values, -decay, values), pull, toward)


@cuda.jit
def fold(indptr, indices, item_emb, bias, below, everything, key, epochs, rate, regularization, user_emb):
    """Run the steps of one user from 0, items fixed. One warp per user; lanes draw for 32 steps at once."""
    lane = cuda.threadIdx.x
    user = cuda.blockIdx.x
    size = user_emb.shape[1]
    low = indptr[user]
    high = indptr[user + 1]
    for d in range(lane, size, LANES):
        user_emb[user, d] = float32(0)
    for epoch in range(epochs):
        now = rate * float32(epochs - epoch) / float32(epochs)
        keep = float32(1) - now * regularization
        for base in range(low, high, LANES):
            mine = int32(-1)
            if base + lane < high:
                bits = _bits(key, uint64(epoch * (high - low) + base - low + lane))
                mine = _draw(bits, int64(0), int64(bias.shape[0]), everything, below, indices, low, high)
            for step in range(min(int64(LANES), high - base)):
                i = indices[base + step]
                j = cuda.shfl_sync(ALL, mine, step)
                if j < 0:
                    continue
                x = float32(0)
                for d in range(lane, size, LANES):
                    x += user_emb[user, d] * (item_emb[i, d] - item_emb[j, d])
                x = warp_sum(x) + (bias[i] - bias[j])
                pull = now / (float32(1) + math.exp(x))
                for d in range(lane, size, LANES):
                    user_emb[user, d] = keep * user_emb[user, d] + pull * (item_emb[i, d] - item_emb[j, d])
