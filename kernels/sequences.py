"""Sequential rules between items, from the order of users' interactions.

N interactions, grouped by user and oldest first; U users, I items, P stored rules.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from .compiling import INSIDE
from .keys import best_first, item_of, key_of, score_of


def followers(
    items_N: np.ndarray,
    weights_N: np.ndarray,
    starts_U1: np.ndarray,
    num_items: int,
    k: int,
    *,
    window: int,
    shrinkage: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each item the items that soon followed it, strongest first, at most k.

    rule(j -> i) = sum over occurrences of i up to `window` steps after j: weight of i / steps, divided by (number of occurrences of j +
    shrinkage). An item does not follow itself. Sums are float64 in ascending order of position, so that the result does not
    depend on threads; ties go to the lower item.

    Args:
        items_N: int32.
        weights_N: float32.
        starts_U1: where each user's interactions start; the last is N.
        num_items: I.
        k: items kept per row, at least 1.
        window: steps ahead, at least 1.
        shrinkage: in occurrences; added to the denominator.

    Returns:
        CSR [I, I]: int64 row starts, int32 columns [P], float32 rules [P], all positive.
    """
    items_N = np.ascontiguousarray(items_N, np.int32)
    weights_N = np.ascontiguousarray(weights_N, np.float32)
    places_N = np.argsort(items_N, kind="stable")
    starts_I1 = np.zeros(num_items + 1, np.int64)
    np.cumsum(np.bincount(items_N, minlength=num_items), out=starts_I1[1:])
    starts_U1 = np.asarray(starts_U1, np.int64)
    ends_N = np.repeat(starts_U1[1:], np.diff(starts_U1))
    log = (items_N, weights_N, places_N, starts_I1, ends_N)
    sizes_I = np.zeros(num_items, np.int64)
    parts = get_num_threads()
    _count(log, window, k, parts, sizes_I)
    indptr = np.concatenate([[0], np.cumsum(sizes_I)])
    indices, values = np.empty(indptr[-1], np.int32), np.empty(indptr[-1], np.float32)
    _fill(log, window, float(shrinkage), parts, indptr, indices, values)
    return indptr, indices, values


@njit(cache=True, nogil=True)
def _gather(log, window, item, sums_I, met_I):
    """Accumulate what followed an item; return the number of items with a positive sum."""
    items_N, weights_N, places_N, starts_I1, ends_N = log
    count = 0
    for at in range(starts_I1[item], starts_I1[item + 1]):
        place = places_N[at]
        for step in range(1, min(window, ends_N[place] - 1 - place) + 1):
            other, weight = items_N[place + step], weights_N[place + step]
            if other == item or weight == 0:
                continue
            if sums_I[other] == 0:
                met_I[count] = other
                count += 1
            sums_I[other] += np.float64(weight) / step
    return count


@njit(cache=True, nogil=True, parallel=True)
def _count(log, window, k, parts, sizes_I):
    num_items = len(sizes_I)
    for part in prange(parts):
        sums_I, met_I = np.zeros(num_items, np.float64), np.empty(num_items, np.int32)
        for item in range(part, num_items, parts):
            count = _gather(log, window, item, sums_I, met_I)
            for at in range(count):
                sums_I[met_I[at]] = 0
            sizes_I[item] = min(count, k)


@njit(**INSIDE)
def _fill_part(part, log, window, shrinkage, parts, indptr, indices, values):
    num_items = len(indptr) - 1
    starts_I1 = log[3]
    sums_I, met_I = np.zeros(num_items, np.float64), np.empty(num_items, np.int32)
    keys_I = np.empty(num_items, np.uint64)
    for item in range(part, num_items, parts):
        count = _gather(log, window, item, sums_I, met_I)
        occurrences = starts_I1[item + 1] - starts_I1[item] + shrinkage
        for at in range(count):
            keys_I[at] = key_of(np.float32(sums_I[met_I[at]] / occurrences), met_I[at])
        for at in range(count):
            sums_I[met_I[at]] = 0
        first, size = indptr[item], indptr[item + 1] - indptr[item]
        if size < count:
            best_first(keys_I[:count], size)
        keys = np.sort(keys_I[:size])
        for at in range(size):
            indices[first + at] = item_of(keys[size - 1 - at])
            values[first + at] = score_of(keys[size - 1 - at])


@njit(cache=True, nogil=True, parallel=True)
def _fill(log, window, shrinkage, parts, indptr, indices, values):
    for part in prange(parts):
        _fill_part(np.int64(part), log, window, shrinkage, parts, indptr, indices, values)
