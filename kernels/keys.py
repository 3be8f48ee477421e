"""Candidates as 64-bit keys, ordered by score and then by lower item: a larger key is a better item. C candidates, K list."""

from __future__ import annotations

import numpy as np
from numba import njit

from .tile import EIGHT, split_eight


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


@njit(cache=True, nogil=True, error_model="numpy")
def best_first(keys_C, k):
    """Bring the k largest of distinct keys to the front, in any order (Hoare 1961, quickselect, split by vector instructions)."""
    others_C = np.empty(len(keys_C) + EIGHT, np.uint64)
    one, eight = np.uint64(1), np.uint64(EIGHT)
    low, high, wanted = np.uint64(0), np.uint64(len(keys_C)), np.uint64(k)
    while low < wanted and wanted < high:
        middle = (low + high) >> one
        a, b, c = keys_C[low], keys_C[middle], keys_C[high - one]
        pivot = max(min(a, b), min(max(a, b), c))
        to, other, at = low, np.uint64(0), low
        while at + eight <= high:
            above = split_eight(keys_C, at, pivot, to, others_C, other)
            to += above
            other += eight - above
            at += eight
        while at < high:
            key = keys_C[at]
            if key > pivot:
                keys_C[to] = key
                to += one
            else:
                others_C[other] = key
                other += one
            at += one
        for n in range(other):
            keys_C[to + n] = others_C[n]
            if others_C[n] == pivot:
                at = to + n
        if to >= wanted:
            high = to
        else:  # the pivot is the largest of the others
            keys_C[to], keys_C[at] = pivot, keys_C[to]
            low = to + one


@njit(cache=True, nogil=True)
def take(score, item, k, keys_C, count, floor):
    """Keep a candidate above the floor, of items in ascending order; return the new count and floor."""
    if count == len(keys_C):
        best_first(keys_C, k)
        count = k
        floor = score_of(keys_C[:k].min())
        if not score > floor:
            return count, floor
    keys_C[count] = key_of(score, item)
    return count + 1, floor


@njit(cache=True, nogil=True)
def take_any(score, item, k, keys_C, count, floor):
    """Do as `take` for items in any order: the floor stays just below the worst of the best, whose score a lower item may have too."""
    if count == len(keys_C):
        best_first(keys_C, k)
        count = k
        floor = np.nextafter(score_of(keys_C[:k].min()), np.float32(-np.inf))
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
