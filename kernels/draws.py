"""Sampling among items that a user did not interact with: arithmetic shared by CPU kernels and their CUDA twins.

Plain Python over integers, to be compiled for each device. I items, N interactions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class ItemWeights(NamedTuple):
    """Cumulative sampling weights for bisection; returned by `item_weights`."""

    below_I1: Any  # uint64 [I + 1]: total weight of items before i
    seen_N1: Any  # uint64 [N + 1]: total weight of the items of interactions before n; may wrap around


NO_WEIGHTS = ItemWeights(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def nth_other(indices_N, start, end, rank):
    """Return the item that is not in indices_N[start:end] and has `rank` such items before it."""
    low = start
    high = end
    while low < high:  # find the user's first item with more than `rank` others before it
        middle = (low + high) >> 1
        if indices_N[middle] - (middle - start) <= rank:
            low = middle + 1
        else:
            high = middle
    return rank + (low - start)


def rank_among_all(indices_N, start, end, below_I1, seen_N1, rank):
    """Convert `rank`, a position in the cumulative weight of items not in indices_N[start:end], to one in that of all items."""
    low = start
    high = end
    while low < high:  # find the user's first item with more than `rank` of the others' weight before it
        middle = (low + high) >> 1
        if below_I1[indices_N[middle]] - (seen_N1[middle] - seen_N1[start]) <= rank:
            low = middle + 1
        else:
            high = middle
    return rank + (seen_N1[low] - seen_N1[start])


def bisect(below, low, high, place):
    """Return the i in [low, high) with below[i] <= place < below[i + 1]; there must be one. Branch-free."""
    size = high - low
    while size > 1:
        half = size >> 1
        low += half * np.int64(below[low + half] <= place)
        size -= half
    return low
