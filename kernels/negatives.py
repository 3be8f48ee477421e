"""Negative sampling of items a user did not interact with: exact, in bounded time, never a positive unless allowed.

No rejection sampling: uniform or weighted, the r-th of the items a user did not interact with is found by bisection of the
user's sorted items, so a user with all items but one costs as much as any other. Weights are integers, so sums are exact and
every device draws the same items. P rows of users, U users, I items, N interactions, S negatives per row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from .device import Device, resolve
from .draws import NO_WEIGHTS, ItemWeights, bisect, nth_other, rank_among_all
from .random import random_below, random_bits, stream_key

UNIT = 2.0**31  # weight of the largest item: sums over up to 2^33 items stay within 64 bits


def integer_weights(weights_I: np.ndarray) -> np.ndarray:
    """Return weights as integers, uint64 [I]: 2^31 for the largest and at least 1 for any nonzero one.

    Raises:
        ValueError: a weight is negative, infinite or NaN, or all are zero.
    """
    weights_I = np.asarray(weights_I, np.float64)
    if not (np.isfinite(weights_I).all() and weights_I.min(initial=0) >= 0 and weights_I.max(initial=0) > 0):
        raise ValueError(
            f"weights of items must be finite, not negative and not all zero, got {weights_I.min(initial=np.inf)} to "
            f"{weights_I.max(initial=-np.inf)} for {len(weights_I)} items"
        )
    whole_I = np.rint(weights_I * (UNIT / weights_I.max())).astype(np.uint64)
    return np.maximum(whole_I, (weights_I > 0).astype(np.uint64))


def item_weights(weights_I: np.ndarray, indices_N: np.ndarray) -> ItemWeights:
    """Return what `sample_negatives` needs to draw item i in proportion to `weights_I[i]`, accurate to 2^-31 of the largest.

    Args:
        weights_I: not negative; for popularity with an exponent, `counts_I ** exponent`.
        indices_N: int32, items of all users' interactions, as in the CSR passed to `sample_negatives`.

    Raises:
        ValueError: a weight is negative, infinite or NaN, or all are zero.
    """
    weights_I = integer_weights(weights_I)
    return ItemWeights(_sums(weights_I), _sums(weights_I[indices_N]))


def sample_negatives(
    users_P: Any,
    indptr_U1: Any,
    indices_N: Any,
    num_items: int,
    num_negatives: int,
    *,
    seed: int,
    epoch: int = 0,
    weights: ItemWeights | None = None,
    allow_positives: bool = False,
    device: Device = "auto",
) -> Any:
    """Return items drawn for each row of users, independently and with replacement: uniformly, or in proportion to weights.

    With H the items of user users_P[p], row p's draws are independent, each item j not in H with probability
    weight_j / sum of the weights not in H (1 / (I - |H|) without weights). They depend only on (seed, epoch, p, s) and the
    data, and are the same on every device and for any number of threads.

    Args:
        users_P: int32 rows.
        indptr_U1: int64 [U + 1]; with `indices_N` a CSR of users' interactions.
        indices_N: int32, ascending and distinct within a user.
        num_items: I.
        num_negatives: S, at least 1.
        seed: any integer.
        epoch: each epoch gets different draws.
        weights: from `item_weights`; None draws uniformly.
        allow_positives: draw from all items, including those the user interacted with.
        device: where to compute. Arrays already on the device are used in place, and the result stays there.

    Returns:
        int32 [P, S]; -1 where nothing can be drawn, as for a user with all items (with weights: all of nonzero weight).

    Raises:
        ValueError: num_negatives below 1, or weights that belong to another catalog or other interactions.
    """
    if num_negatives < 1:
        raise ValueError(f"num_negatives must be at least 1, got {num_negatives}")
    if weights is not None and (len(weights.below_I1) != num_items + 1 or len(weights.seen_N1) != len(indices_N) + 1):
        raise ValueError(
            f"weights must be of {num_items} items and {len(indices_N)} interactions, got {len(weights.below_I1) - 1} "
            f"and {len(weights.seen_N1) - 1}; make them with item_weights from the same CSR"
        )
    key = stream_key(seed, epoch)
    if resolve(device) == "cuda":
        from .cuda import negatives as twin

        return twin.sample_negatives(
            users_P, indptr_U1, indices_N, num_items, num_negatives, key, weights, allow_positives
        )
    sums = weights or NO_WEIGHTS
    items_PS = np.empty((len(users_P), num_negatives), np.int32)
    lists = (np.asarray(users_P, np.int32), np.asarray(indptr_U1, np.int64), np.asarray(indices_N, np.int32))
    _sample_cpu(*lists, num_items, *sums, weights is not None, key, allow_positives, items_PS)
    return items_PS


def _sums(weights: np.ndarray) -> np.ndarray:
    sums = np.zeros(len(weights) + 1, np.uint64)
    np.cumsum(weights, out=sums[1:])
    return sums


_bits = njit(random_bits, inline="always")
_below = njit(random_below, inline="always")
_nth_other = njit(nth_other)
_rank_among_all = njit(rank_among_all)
_bisect = njit(bisect)


@njit(cache=True, nogil=True, parallel=True)
def _sample_cpu(users_P, indptr_U1, indices_N, num_items, below_I1, seen_N1, weighted, key, allow_positives, items_PS):
    num_negatives = items_PS.shape[1]
    for p in prange(len(users_P)):
        start = indptr_U1[users_P[p]]
        end = start if allow_positives else indptr_U1[users_P[p] + 1]
        if weighted:
            free = below_I1[num_items] - (seen_N1[end] - seen_N1[start])
        else:
            free = np.uint64(num_items - (end - start))
        for s in range(num_negatives):
            rank = _below(_bits(key, np.uint64(p * num_negatives + s)), free)
            if free == np.uint64(0):
                items_PS[p, s] = -1
            elif weighted:
                place = _rank_among_all(indices_N, start, end, below_I1, seen_N1, rank)
                items_PS[p, s] = _bisect(below_I1, np.int64(0), np.int64(num_items), place)
            else:
                items_PS[p, s] = _nth_other(indices_N, start, end, np.int64(rank))
