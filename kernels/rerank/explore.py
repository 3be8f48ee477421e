"""Random items at given positions, each with its propensity (the probability of being shown there).

B lists, L candidates, K positions, S slots, P pool, H items a user interacted with.

The numbers are functions of (keys_B[b], users_B[b], slot): they do not depend on the batch, block or thread.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..random import random_below, random_bits
from .candidate_lists import PARTS

_bits = njit(random_bits, cache=True)
_below = njit(random_below, cache=True)


@njit(cache=True, nogil=True, parallel=True)
def digests(starts_B, ends_B, items_H):
    """Return uint64 [B]: a hash of each user's items, which must be ascending."""
    digest_B = np.empty(len(starts_B), np.uint64)
    for b in prange(len(starts_B)):
        digest = np.uint64(ends_B[b] - starts_B[b])
        for at in range(starts_B[b], ends_B[b]):
            digest = _bits(digest, np.uint64(items_H[at]))
        digest_B[b] = digest
    return digest_B


@njit(cache=True, nogil=True)
def _drawn(user_key, size, ranks_S):
    """Draw distinct ranks below `size`, one per slot, uniformly at each slot; -1 when none are left.

    Slot s draws one of the size - s remaining ranks, in ascending order.
    """
    for s in range(len(ranks_S)):
        if s >= size:
            ranks_S[s:] = -1
            return
        rank = np.int64(_below(_bits(user_key, np.uint64(s)), np.uint64(size - s)))
        earlier = np.sort(ranks_S[:s])
        for other in earlier:
            if other <= rank:
                rank += 1
        ranks_S[s] = rank


@njit(cache=True, nogil=True, parallel=True)
def explore(
    items_BL, slots_S, keys_B, users_B, pool_P, starts_B, ends_B, seen_H, places_BK, outside_BK, chances_BK, moved_BK
):
    """Write lists whose slots hold random items; all other positions hold the best candidates in order.

    Args:
        items_BL: candidates, best first.
        slots_S: int64 positions, ascending.
        keys_B: uint64, of each request's random stream.
        users_B: uint64, identifies users.
        pool_P: int32 items to draw from, ascending; if empty, the candidates that would otherwise not be shown.
        starts_B: with `ends_B` and `seen_H`, the items each user interacted with, ascending; never drawn from `pool_P`.
        ends_B: see `starts_B`.
        seen_H: see `starts_B`.
        places_BK: out, int32 positions among the candidates, -1 where the item is not one of them. If the pool is smaller
            than the number of slots, items move up and the next candidates follow.
        outside_BK: out, int32 items that are not candidates, else -1.
        chances_BK: out, float64 propensity of the item at its position: 1 over the number of items drawn from, 1 where
            nothing was drawn.
        moved_BK: out, int16, 1 where an item was drawn, else 0.
    """
    rows, size = items_BL.shape
    num_places = places_BK.shape[1]
    num_slots = len(slots_S)
    most_seen = (ends_B - starts_B).max() if rows > 0 else 0
    parts = min(PARTS, rows)
    for part in prange(parts):
        there_L = np.empty(size, np.int32)  # positions that hold a candidate
        barred = np.empty(size + most_seen, np.int64)  # positions in the pool that may not be drawn
        ranks_S = np.empty(num_slots, np.int64)
        for b in range(part, rows, parts):
            places_BK[b] = -1
            outside_BK[b] = -1
            chances_BK[b] = 0.0
            moved_BK[b] = 0
            num_there = 0
            for l in range(size):
                if items_BL[b, l] >= 0:
                    there_L[num_there] = l
                    num_there += 1
            sure = min(num_there, num_places - num_slots)
            num_barred = 0
            if len(pool_P) > 0:
                for n in range(sure):
                    item = items_BL[b, there_L[n]]
                    at = np.searchsorted(pool_P, item)
                    if at < len(pool_P) and pool_P[at] == item:
                        barred[num_barred] = at
                        num_barred += 1
                for n in range(starts_B[b], ends_B[b]):
                    at = np.searchsorted(pool_P, seen_H[n])
                    if at < len(pool_P) and pool_P[at] == seen_H[n]:
                        barred[num_barred] = at
                        num_barred += 1
                some = np.sort(barred[:num_barred])
                num_barred = 0
                for at in some:
                    if num_barred == 0 or barred[num_barred - 1] != at:
                        barred[num_barred] = at
                        num_barred += 1
            num_pool = len(pool_P) - num_barred if len(pool_P) > 0 else num_there - sure
            _drawn(_bits(keys_B[b], users_B[b]), num_pool, ranks_S)
            slot, best, filled = 0, 0, 0
            for place in range(num_places):
                if slot < num_slots and slots_S[slot] == place:
                    rank = ranks_S[slot]
                    slot += 1
                    if rank < 0:
                        continue
                    chances_BK[b, filled] = 1.0 / num_pool
                    moved_BK[b, filled] = 1
                    if len(pool_P) == 0:
                        places_BK[b, filled] = there_L[sure + rank]
                    else:
                        for n in range(num_barred):
                            if barred[n] <= rank:
                                rank += 1
                        outside_BK[b, filled] = pool_P[rank]
                        for n in range(sure, num_there):
                            if items_BL[b, there_L[n]] == pool_P[rank]:
                                places_BK[b, filled] = there_L[n]
                                outside_BK[b, filled] = -1
                    filled += 1
                elif best < sure:
                    places_BK[b, filled] = there_L[best]
                    chances_BK[b, filled] = 1.0
                    best += 1
                    filled += 1
            for n in range(sure, num_there):  # the whole pool was shown: the best of the other candidates follow
                if filled == num_places:
                    break
                shown = False
                for place in range(filled):
                    shown |= places_BK[b, place] == there_L[n]
                if not shown:
                    places_BK[b, filled] = there_L[n]
                    chances_BK[b, filled] = 1.0
                    filled += 1
