"""Greedy lists that cover a user's categories (xQuAD) or match the user's category proportions (calibration).

B lists, L candidates, K positions, C categories, N stored shares.

Items' category shares are CSR: an item with three categories has a third in each. Sums are float64 in a fixed order.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .candidate_lists import PARTS


@njit(cache=True, nogil=True)
def _prefer(value, item, best, best_item):
    return value > best or (value == best and item < best_item)


@njit(cache=True, nogil=True, parallel=True)
def xquad(items_BL, relevance_BL, indptr, indices, shares_N, taste_BC, weight, places_BK):
    """Fill lists by xQuAD; -1 where candidates run out.

    Each position takes the item with the largest (1 - weight) relevance + weight * sum over categories c of taste_c * share_c *
    product over those above it of (1 - share_c); ties go to the lower item.
    """
    rows, size = items_BL.shape
    parts = min(PARTS, rows)
    for part in prange(parts):
        open_C = np.empty(taste_BC.shape[1], np.float64)
        free_L = np.empty(size, np.bool_)
        for b in range(part, rows, parts):
            for c in range(len(open_C)):
                open_C[c] = taste_BC[b, c]
            for l in range(size):
                free_L[l] = items_BL[b, l] >= 0
            places_BK[b] = -1
            for place in range(places_BK.shape[1]):
                best, at, best_item = -np.inf, -1, np.int32(0)
                for l in range(size):
                    if not free_L[l]:
                        continue
                    item = items_BL[b, l]
                    gain = 0.0
                    for n in range(indptr[item], indptr[item + 1]):
                        gain += shares_N[n] * open_C[indices[n]]
                    value = (1.0 - weight) * relevance_BL[b, l] + weight * gain
                    if _prefer(value, item, best, best_item):
                        best, at, best_item = value, l, item
                if at < 0:
                    break
                places_BK[b, place] = at
                free_L[at] = False
                for n in range(indptr[best_item], indptr[best_item + 1]):
                    open_C[indices[n]] *= 1.0 - shares_N[n]


@njit(cache=True, nogil=True, parallel=True)
def calibrated(items_BL, relevance_BL, indptr, indices, shares_N, taste_BC, weight, smoothing, places_BK):
    """Fill lists by calibration; -1 where candidates run out.

    Each position takes the item with the largest (1 - weight) relevance - weight * KL(taste, shares of the list with it), in
    nats, where the list's shares are smoothed by mixing in a share `smoothing` of the taste; ties go to the lower item.
    """
    rows, size = items_BL.shape
    num_categories = taste_BC.shape[1]
    parts = min(PARTS, rows)
    for part in prange(parts):
        total_C = np.empty(num_categories, np.float64)  # list shares so far
        before_C = np.empty(num_categories, np.float64)  # smoothed shares of the list plus an item without a category
        log_C = np.empty(num_categories, np.float64)
        free_L = np.empty(size, np.bool_)
        for b in range(part, rows, parts):
            total_C[:] = 0.0
            for l in range(size):
                free_L[l] = items_BL[b, l] >= 0
            places_BK[b] = -1
            for place in range(places_BK.shape[1]):
                unit = (1.0 - smoothing) / (place + 1)
                divergence = 0.0
                for c in range(num_categories):
                    if taste_BC[b, c] > 0.0:
                        before_C[c] = unit * total_C[c] + smoothing * taste_BC[b, c]
                        log_C[c] = np.log(before_C[c])
                        divergence += taste_BC[b, c] * (np.log(taste_BC[b, c]) - log_C[c])
                best, at, best_item = -np.inf, -1, np.int32(0)
                for l in range(size):
                    if not free_L[l]:
                        continue
                    item = items_BL[b, l]
                    lower = 0.0  # by how much the item lowers the divergence
                    for n in range(indptr[item], indptr[item + 1]):
                        c = indices[n]
                        if taste_BC[b, c] > 0.0:
                            lower += taste_BC[b, c] * (np.log(before_C[c] + unit * shares_N[n]) - log_C[c])
                    value = (1.0 - weight) * relevance_BL[b, l] - weight * (divergence - lower)
                    if _prefer(value, item, best, best_item):
                        best, at, best_item = value, l, item
                if at < 0:
                    break
                places_BK[b, place] = at
                free_L[at] = False
                for n in range(indptr[best_item], indptr[best_item + 1]):
                    total_C[indices[n]] += shares_N[n]
