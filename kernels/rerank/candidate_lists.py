"""Candidate lists: checking them, scaling their relevance, and writing them out in a new order.

B lists, L candidates, K positions, M positions including those kept after them, H slots of a hash table.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

PARTS = 64  # of a batch, split among threads; each part has its own scratch buffer

GOOD, REPEATED, NOT_FINITE = 0, 1, 2


@njit(cache=True, nogil=True, parallel=True)
def faults(items_BL, scores_BL):
    """Return each list's first fault and its position: int32 [B, 2] of (GOOD, REPEATED or NOT_FINITE, position)."""
    rows, size = items_BL.shape
    found_B2 = np.zeros((rows, 2), np.int32)
    slots = 16
    while slots < 2 * size:
        slots *= 2
    last = np.uint32(slots - 1)
    parts = min(PARTS, rows)
    for part in prange(parts):
        table_H = np.empty(slots, np.int32)
        for b in range(part, rows, parts):
            table_H[:] = -1
            for l in range(size):
                item = items_BL[b, l]
                if item < 0:
                    continue
                if not np.isfinite(scores_BL[b, l]):
                    found_B2[b, 0], found_B2[b, 1] = NOT_FINITE, l
                    break
                at = (np.uint32(item) * np.uint32(2654435769)) & last
                while table_H[at] >= 0 and table_H[at] != item:
                    at = (at + np.uint32(1)) & last
                if table_H[at] == item:
                    found_B2[b, 0], found_B2[b, 1] = REPEATED, l
                    break
                table_H[at] = item
    return found_B2


@njit(cache=True, nogil=True, parallel=True)
def min_max(items_BL, scores_BL):
    """Return float64 [B, L]: scores scaled from 0, the list's lowest, to 1, its highest; all 1 if they are equal.

    -inf where there is no candidate.
    """
    rows, size = items_BL.shape
    relevance_BL = np.empty((rows, size), np.float64)
    for b in prange(rows):
        low, high = np.inf, -np.inf
        for l in range(size):
            if items_BL[b, l] >= 0:
                low = min(low, np.float64(scores_BL[b, l]))
                high = max(high, np.float64(scores_BL[b, l]))
        for l in range(size):
            if items_BL[b, l] < 0:
                relevance_BL[b, l] = -np.inf
            elif high > low:
                relevance_BL[b, l] = (np.float64(scores_BL[b, l]) - low) / (high - low)
            else:
                relevance_BL[b, l] = 1.0
    return relevance_BL


@njit(cache=True, nogil=True, parallel=True)
def written(items_BL, scores_BL, places_BK, outside_BK, dropped_BL, out_items_BM, out_scores_BM, out_places_BM):
    """Write the k chosen items, followed by the candidates neither chosen nor dropped, in order.

    A list with fewer than k positions filled ends there.
    `places_BK` are positions among the candidates; where one is -1, `outside_BK` may name an item that is not a candidate.
    Such an item takes the score of the item above it, or at the top that of the first candidate below it.
    """
    rows, size = items_BL.shape
    length = out_items_BM.shape[1]
    for b in prange(rows):
        used_L = np.zeros(size, np.bool_)
        filled = 0
        lowest = np.float32(np.inf)
        for place in range(places_BK.shape[1]):
            l = places_BK[b, place]
            item = items_BL[b, l] if l >= 0 else outside_BK[b, place]
            if item < 0:
                continue
            if l >= 0:
                used_L[l] = True
                lowest = min(lowest, scores_BL[b, l])
            out_items_BM[b, filled], out_scores_BM[b, filled], out_places_BM[b, filled] = item, lowest, l
            filled += 1
        for l in range(size if filled == places_BK.shape[1] else 0):
            if filled == length:
                break
            if items_BL[b, l] >= 0 and not used_L[l] and dropped_BL[b, l] == 0:
                lowest = min(lowest, scores_BL[b, l])
                out_items_BM[b, filled], out_scores_BM[b, filled], out_places_BM[b, filled] = (
                    items_BL[b, l],
                    lowest,
                    l,
                )
                filled += 1
        head = np.float32(0.0)  # score in a list without any candidate
        for place in range(filled):
            if np.isfinite(out_scores_BM[b, place]):
                head = out_scores_BM[b, place]
                break
        for place in range(filled):
            if np.isfinite(out_scores_BM[b, place]):
                break
            out_scores_BM[b, place] = head
        out_items_BM[b, filled:] = -1
        out_scores_BM[b, filled:] = -np.inf
        out_places_BM[b, filled:] = -1


@njit(cache=True, nogil=True, parallel=True)
def firsts(items_BL, group_I, places_BK, dropped_BL):
    """Write the first candidate of each group, and mark with 1 the later ones of the same group."""
    rows, size = items_BL.shape
    for b in prange(rows):
        groups_L = np.empty(size, np.int32)
        for l in range(size):
            groups_L[l] = group_I[items_BL[b, l]] if items_BL[b, l] >= 0 else -1
        order = np.argsort(groups_L, kind="mergesort")  # stable: keeps candidate order within a group
        dropped_BL[b] = 0
        for n in range(1, size):
            if groups_L[order[n]] >= 0 and groups_L[order[n]] == groups_L[order[n - 1]]:
                dropped_BL[b, order[n]] = 1
        places_BK[b] = -1
        filled = 0
        for l in range(size):
            if filled < places_BK.shape[1] and groups_L[l] >= 0 and dropped_BL[b, l] == 0:
                places_BK[b, filled] = l
                filled += 1
