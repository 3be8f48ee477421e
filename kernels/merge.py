"""Ranked lists of several sources -> one list of distinct items.

B users, R sources, N positions of a source's list, L positions of the merged list.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .compiling import INSIDE

PARTS = 64  # of a batch, split among threads; each part has its own scratch buffer


@njit(cache=True, nogil=True)
def slot(table_H, item):
    """Return an item's slot in a hash table of items, or the free slot it would take."""
    last = np.uint32(len(table_H) - 1)
    at = (np.uint32(item) * np.uint32(2654435769)) & last
    while table_H[at] >= 0 and table_H[at] != item:
        at = (at + np.uint32(1)) & last
    return at


@njit(cache=True, nogil=True)
def slots(count):
    """Return a power of two that keeps a hash table of this many items at most half full."""
    slots = 16
    while slots < 2 * count:
        slots *= 2
    return slots


@njit(cache=True, nogil=True, parallel=True)
def take_turns(items_BRN, quotas_R, alternate, out_items_BL):
    """Fill lists with each source's best items that are not taken yet, at most `quotas_R` of each; -1 after the last.

    With `alternate`, sources contribute one item in turn (round robin); otherwise each its whole quota before the next.
    """
    rows, sources, size = items_BRN.shape
    length = out_items_BL.shape[1]
    parts = min(PARTS, rows)
    for part in prange(parts):
        table_H = np.empty(slots(length), np.int32)
        next_R, given_R = np.empty(sources, np.int64), np.empty(sources, np.int64)
        for b in range(part, rows, parts):
            table_H[:] = -1
            next_R[:] = 0
            given_R[:] = 0
            filled = 0
            source, idle = 0, 0
            while filled < length and idle < sources and source < sources:
                gave = False
                while not gave and given_R[source] < quotas_R[source] and next_R[source] < size:
                    item = items_BRN[b, source, next_R[source]]
                    next_R[source] += 1
                    if item < 0:
                        continue
                    at = slot(table_H, item)
                    if table_H[at] < 0:
                        table_H[at] = item
                        out_items_BL[b, filled] = item
                        filled += 1
                        given_R[source] += 1
                        gave = True
                if alternate:
                    idle = 0 if gave else idle + 1
                    source = (source + 1) % sources
                elif not gave:
                    source += 1
            out_items_BL[b, filled:] = -1


@njit(**INSIDE)
def _best_first(items_M, sums_M):
    """Sort by the largest sum, then by the lower item (Williams 1964, heapsort): the worst is at the root, and goes to the end."""
    size = len(items_M)
    for step in range(size + size // 2):
        if step < size // 2:
            root, last = size // 2 - 1 - step, size
        else:
            root, last = 0, size + size // 2 - 1 - step
            items_M[0], items_M[last] = items_M[last], items_M[0]
            sums_M[0], sums_M[last] = sums_M[last], sums_M[0]
        while 2 * root + 1 < last:
            worse = 2 * root + 1
            if worse + 1 < last and _before(items_M, sums_M, worse, worse + 1):
                worse += 1
            if not _before(items_M, sums_M, root, worse):
                break
            items_M[root], items_M[worse] = items_M[worse], items_M[root]
            sums_M[root], sums_M[worse] = sums_M[worse], sums_M[root]
            root = worse


@njit(**INSIDE)
def _before(items_M, sums_M, one, other):
    return sums_M[one] > sums_M[other] or (sums_M[one] == sums_M[other] and items_M[one] < items_M[other])


@njit(**INSIDE)
def _fuse_part(part, items_BRN, weights_R, offset, out_items_BL, out_scores_BL):
    rows, sources, size = items_BRN.shape
    length = out_items_BL.shape[1]
    parts = min(PARTS, rows)
    table_H = np.empty(slots(sources * size), np.int32)
    sums_H = np.empty(len(table_H), np.float64)
    met_M, sums_M = np.empty(sources * size, np.int32), np.empty(sources * size, np.float64)
    for b in range(part, rows, parts):
        table_H[:] = -1
        for source in range(sources):
            for place in range(size):
                item = items_BRN[b, source, place]
                if item < 0:
                    continue
                at = slot(table_H, item)
                if table_H[at] < 0:
                    table_H[at] = item
                    sums_H[at] = 0.0
                sums_H[at] += weights_R[source] / (offset + place + 1)
        met = 0
        for at in range(len(table_H)):
            if table_H[at] >= 0:
                met_M[met], sums_M[met] = table_H[at], sums_H[at]
                met += 1
        _best_first(met_M[:met], sums_M[:met])
        filled = min(met, length)
        for place in range(filled):
            out_items_BL[b, place], out_scores_BL[b, place] = met_M[place], sums_M[place]
        out_items_BL[b, filled:] = -1
        out_scores_BL[b, filled:] = -np.inf


@njit(cache=True, nogil=True, parallel=True)
def fuse(items_BRN, weights_R, offset, out_items_BL, out_scores_BL):
    """Fill lists with the items of the largest sum over sources of weight / (offset + rank); ties go to the lower item."""
    for part in prange(min(PARTS, len(items_BRN))):
        _fuse_part(np.int64(part), items_BRN, weights_R, offset, out_items_BL, out_scores_BL)


@njit(**INSIDE)
def _ranks_of(b, list_BK, items_BL, ranks_BL):
    table_H = np.full(slots(list_BK.shape[1]), -1, np.int32)
    ranks_H = np.zeros(len(table_H), np.int32)
    for place in range(list_BK.shape[1]):
        if list_BK[b, place] >= 0:
            at = slot(table_H, list_BK[b, place])
            if table_H[at] < 0:
                table_H[at], ranks_H[at] = list_BK[b, place], place + 1
    for l in range(items_BL.shape[1]):
        ranks_BL[b, l] = ranks_H[slot(table_H, items_BL[b, l])] if items_BL[b, l] >= 0 else 0


@njit(cache=True, nogil=True, parallel=True)
def ranks(list_BK, items_BL, ranks_BL):
    """Write the first rank, from 1, of each item in its user's list; 0 if it is not in it, or is -1."""
    for b in prange(len(ranks_BL)):
        _ranks_of(np.int64(b), list_BK, items_BL, ranks_BL)
