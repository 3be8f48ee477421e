"""Candidates as 64-bit keys, ordered by score and then by lower item: a larger key is a better item. C candidates, K list."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def key_of(score, item):
    """Return a uint64 that is larger for a larger score, and among equal scores for the lower item."""
    bits = np.float32(score + np.float32(0)).view(np.uint32)  # + 0 turns -0 into 0
    bits = ~bits if bits >> np.uint32(31) else bits | np.uint32(1 << 31)
    return (np.uint64(bits) << np.uint64(32)) | np.uint64(~np.uint32(item))


@njit(cache=True, nogil=True)
def score_of(key):
    """Return the float32 score of a key."""
    bits = np.uint32(key >> np.uint64(32))
    bits = bits & np.uint32((1 << 31) - 1) if bits >> np.uint32(31) else ~bits
    return np.uint32(bits).view(np.float32)


@njit(cache=True, nogil=True)
def item_of(key):
    """Return the int32 item of a key."""
    return np.int32(~np.uint32(key))


@njit(cache=True, nogil=True)
def best_first(keys_C, k):
    """Bring the k largest keys to the front, in any order (Hoare 1961, quickselect)."""
    low = 0
    high = len(keys_C) - 1
    while low < high:
        middle = keys_C[(low + high) >> 1]
        left = low
        right = high
        while left <= right:
            while keys_C[left] > middle:
                left += 1
            while keys_C[right] < middle:
                right -= 1
            if left <= right:
                keys_C[left], keys_C[right] = keys_C[right], keys_C[left]
                left += 1
                right -= 1
        if k - 1 <= right:
            high = right
        elif k - 1 >= left:
            low = left
        else:
            return


@njit(cache=True, nogil=True)
def take(score, item, k, keys_C, count, floor):
    """Keep a candidate above the floor; return the new count and floor."""
    if count == len(keys_C):
        best_first(keys_C, k)
        count = k
        floor = score_of(keys_C[:k].min())
        if not score > floor:
            return count, floor
    keys_C[count] = key_of(score, item)
    return count + 1, floor


@njit(cache=True, nogil=True)
def first_from(items, low, high, item):
    """Return the first position in the ascending items[low:high] that holds `item` or a later one."""
    while low < high:
        middle = (low + high) >> 1
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def write_list(keys_C, items_K, best_K):
    """Write the best of the candidates, padded."""
    k = len(items_K)
    if len(keys_C) > k:
        best_first(keys_C, k)
    keys_K = np.sort(keys_C[:k])
    filled = len(keys_K)
    for place in range(filled):
        key = keys_K[filled - 1 - place]
        items_K[place] = item_of(key)
        best_K[place] = score_of(key)
    items_K[filled:] = -1
    best_K[filled:] = -np.inf
