"""Negative sampling on a GPU: one thread per draw, so that neighboring threads write adjacent memory.

P rows of users, U users, I items, N interactions, S negatives per row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, int64, uint64

from ..draws import NO_WEIGHTS, ItemWeights, bisect, nth_other, rank_among_all
from ..random import random_below, random_bits
from .arrays import give_back, to_device

THREADS = 256
MOST_BLOCKS = 1 << 16

SIGNATURES = {
    "sample": "void(int32[::1], int64[::1], int32[::1], int64, uint64[::1], uint64[::1], boolean, uint64, boolean, "
    "int32[:, ::1])",
}
BLOCKS = dict.fromkeys(SIGNATURES, THREADS)

_bits = cuda.jit(device=True)(random_bits)
_below = cuda.jit(device=True)(random_below)
_nth_other = cuda.jit(device=True)(nth_other)
_rank_among_all = cuda.jit(device=True)(rank_among_all)
_bisect = cuda.jit(device=True)(bisect)


def sample_negatives(
    users_P: Any,
    indptr_U1: Any,
    indices_N: Any,
    num_items: int,
    num_negatives: int,
    key: np.uint64,
    weights: ItemWeights | None,
    allow_positives: bool,
) -> Any:
    """See `kernels.negatives.sample_negatives`."""
    users = to_device(users_P, np.int32)
    sums = [to_device(column, np.uint64) for column in weights or NO_WEIGHTS]
    items = cuda.device_array((users.shape[0], num_negatives), np.int32)
    if items.size:
        sample[min(-(-items.size // THREADS), MOST_BLOCKS), THREADS](
            users,
            to_device(indptr_U1, np.int64),
            to_device(indices_N, np.int32),
            num_items,
            *sums,
            weights is not None,
            key,
            allow_positives,
            items,
        )
    return give_back(items, like=users_P)


@cuda.jit
def sample(users_P, indptr_U1, indices_N, num_items, below_I1, seen_N1, weighted, key, allow_positives, items_PS):
    """Write each row's draws."""
    num_negatives = items_PS.shape[1]
    for draw in range(cuda.grid(1), users_P.shape[0] * num_negatives, cuda.gridsize(1)):
        p = draw // num_negatives
        start = indptr_U1[users_P[p]]
        end = start if allow_positives else indptr_U1[users_P[p] + 1]
        if weighted:
            free = below_I1[num_items] - (seen_N1[end] - seen_N1[start])
        else:
            free = uint64(num_items - (end - start))
        rank = _below(_bits(key, uint64(draw)), free)
        if free == uint64(0):
            item = int64(-1)
        elif weighted:
            place = _rank_among_all(indices_N, start, end, below_I1, seen_N1, rank)
            item = int64(_bisect(below_I1, int64(0), int64(num_items), place))
        else:
            item = int64(_nth_other(indices_N, start, end, int64(rank)))
        items_PS[p, draw - p * num_negatives] = item
