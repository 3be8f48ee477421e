"""Diverse lists, chosen greedily: maximal marginal relevance (MMR) and a determinantal point process (DPP).

B lists, L candidates, K positions, I items, D vector size, N stored values.

Both add one item at a time, and an item's gain only falls as the list grows (submodularity). So its gain at an earlier position is
an upper bound: an item is compared with the list only while its bound exceeds the best gain found so far (Minoux 1978, "Accelerated Greedy
Algorithms"). The result is identical, and most candidates are never compared at all.

A sparse vector is compared with several others: if the candidates of a list store more values than there are columns, it is spread out over
the columns first, so that each product takes one pass over the other vector without branches. Else two vectors are merged. Sums are the same.

Cosines and everything derived from them are float64; no sum depends on the batch or on threads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from .candidate_lists import PARTS

SPANNED = 1e-10  # share of an item's squared length outside the span of the chosen items; below this it is rounding


class ItemVectors(NamedTuple):
    """The vectors that items are compared by: rows of `dense_ID`, or if that is None, CSR rows with ascending indices.

    Kernels are compiled for each case: a branch inside the loops would cost more than the products.
    """

    dense_ID: np.ndarray | None  # float32
    indptr: np.ndarray  # int64
    indices: np.ndarray  # int32
    values_N: np.ndarray  # float32
    inverse_norms_I: np.ndarray  # float64, 0 for a zero vector
    lowest: float  # that a cosine can be: 0 if no number is negative, else -1
    num_columns: int  # of the CSR rows


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _dot(rows, i, j, size):
    """Return the product of the first `size` numbers of two rows."""
    total = 0.0
    for d in range(size):
        total += np.float64(rows[i, d]) * np.float64(rows[j, d])
    return total


@njit(**INSIDE)
def _columns(items_L, indptr, num_columns):
    """Return a number for each column, all 0, to spread a vector over; none if clearing them costs more than merging."""
    stored = 0
    for item in items_L:
        if item >= 0:
            stored += indptr[item + 1] - indptr[item]
    return np.zeros(num_columns if num_columns < stored else 0, np.float32)


@njit(**INSIDE)
def _spread(row_C, sparse, item, present):
    """Write a vector into the columns, or 0 where it was written."""
    indptr, indices, values_N = sparse
    if len(row_C):
        for n in range(np.uint64(indptr[item]), np.uint64(indptr[item + 1])):
            row_C[np.uint32(indices[n])] = values_N[n] if present else np.float32(0)


@njit(**INSIDE)
def _sparse_dot(row_C, sparse, i, j):
    """Return the product of two vectors, of which the first is spread over `row_C`."""
    indptr, indices, values_N = sparse
    total = 0.0
    if len(row_C):
        for n in range(np.uint64(indptr[j]), np.uint64(indptr[j + 1])):
            total += np.float64(row_C[np.uint32(indices[n])]) * np.float64(values_N[n])
        return total
    at, end = indptr[i], indptr[i + 1]
    other, other_end = indptr[j], indptr[j + 1]
    while at < end and other < other_end:
        if indices[at] < indices[other]:
            at += 1
        elif indices[at] > indices[other]:
            other += 1
        else:
            total += np.float64(values_N[at]) * np.float64(values_N[other])
            at += 1
            other += 1
    return total


@njit(**INSIDE)
def _cosine(dense_ID, row_C, sparse, inverse_norms_I, i, j):
    if dense_ID is None:
        product = _sparse_dot(row_C, sparse, i, j)
    else:
        product = _dot(dense_ID, i, j, dense_ID.shape[1])
    return product * (inverse_norms_I[i] * inverse_norms_I[j])


@njit(**INSIDE)
def _mmr_part(part, items_BL, relevance_BL, vectors, weight, places_BK):
    rows, size = items_BL.shape
    dense_ID, indptr, indices, values_N, inverse_norms_I, lowest, num_columns = vectors
    sparse = (indptr, indices, values_N)
    bound_L = np.empty(size, np.float64)
    nearest_L = np.empty(size, np.float64)
    compared_L = np.empty(size, np.int32)  # number of chosen items compared with
    chosen_K = np.empty(places_BK.shape[1], np.int32)
    for b in range(part, rows, min(PARTS, rows)):
        row_C = _columns(items_BL[b], indptr, num_columns)
        for l in range(size):
            bound_L[l] = (1.0 - weight) * relevance_BL[b, l] if items_BL[b, l] >= 0 else -np.inf
            nearest_L[l] = -1.0
            compared_L[l] = 0
        places_BK[b] = -1
        for place in range(places_BK.shape[1]):
            best, at = -np.inf, -1
            for l in range(size):
                if bound_L[l] < best or bound_L[l] == -np.inf:
                    continue
                item = items_BL[b, l]
                if at >= 0 and bound_L[l] == best and item > items_BL[b, at]:
                    continue
                if compared_L[l] < place:
                    _spread(row_C, sparse, item, True)
                    while compared_L[l] < place and not bound_L[l] < best:
                        chosen = chosen_K[compared_L[l]]
                        cosine = _cosine(dense_ID, row_C, sparse, inverse_norms_I, item, chosen)
                        nearest_L[l] = max(nearest_L[l], cosine)
                        bound_L[l] = (1.0 - weight) * relevance_BL[b, l] - weight * nearest_L[l]
                        compared_L[l] += 1
                    _spread(row_C, sparse, item, False)
                if bound_L[l] > best or (bound_L[l] == best and (at < 0 or item < items_BL[b, at])):
                    best, at = bound_L[l], l
            if at < 0:
                break
            places_BK[b, place] = at
            chosen_K[place] = items_BL[b, at]
            bound_L[at] = -np.inf
            if place == 0:  # a negative cosine raises an item above its value for an empty list
                for l in range(size):
                    bound_L[l] -= weight * lowest


@njit(cache=True, nogil=True, parallel=True)
def mmr(items_BL, relevance_BL, vectors, weight, places_BK):
    """Fill lists by maximal marginal relevance; -1 where candidates run out.

    Each position takes the item with the largest (1 - weight) relevance - weight * (largest cosine with those above it, 0 at
    the first position); ties go to the lower item.
    """
    for part in prange(min(PARTS, len(items_BL))):
        _mmr_part(np.int64(part), items_BL, relevance_BL, vectors, weight, places_BK)


@njit(**INSIDE)
def _dpp_part(part, items_BL, relevance_BL, vectors, weight, places_BK, filled_B):
    rows, size = items_BL.shape
    num_places = places_BK.shape[1]
    dense_ID, indptr, indices, values_N, inverse_norms_I, _, num_columns = vectors
    sparse = (indptr, indices, values_N)
    bound_L = np.empty(size, np.float64)
    outside_L = np.empty(size, np.float64)  # squared distance from the span of the first rows_L chosen
    rows_L = np.empty(size, np.int32)
    cholesky_LK = np.empty((size, num_places), np.float64)
    chosen_K = np.empty(num_places, np.int32)  # positions
    inverse_K = np.empty(num_places, np.float64)  # 1 / distance of each from the span of those above it
    for b in range(part, rows, min(PARTS, rows)):
        row_C = _columns(items_BL[b], indptr, num_columns)
        for l in range(size):
            bound_L[l] = (1.0 - weight) * relevance_BL[b, l] if items_BL[b, l] >= 0 else -np.inf
            outside_L[l] = 1.0
            rows_L[l] = 0
        places_BK[b] = -1
        for place in range(num_places):
            best, at = -np.inf, -1
            for l in range(size):
                if bound_L[l] < best or bound_L[l] == -np.inf:
                    continue
                item = items_BL[b, l]
                if at >= 0 and bound_L[l] == best and item > items_BL[b, at]:
                    continue
                if weight > 0.0 and rows_L[l] < place:
                    outside = outside_L[l]
                    _spread(row_C, sparse, item, True)
                    for row in range(rows_L[l], place):
                        other = chosen_K[row]
                        entry = _cosine(dense_ID, row_C, sparse, inverse_norms_I, item, items_BL[b, other])
                        entry -= _dot(cholesky_LK, l, other, row)
                        entry *= inverse_K[row]
                        cholesky_LK[l, row] = entry
                        outside -= entry * entry
                    _spread(row_C, sparse, item, False)
                    outside_L[l] = outside
                    rows_L[l] = place
                    if outside > SPANNED:
                        bound_L[l] = (1.0 - weight) * relevance_BL[b, l] + weight * np.log(outside)
                    else:
                        bound_L[l] = -np.inf
                if bound_L[l] > best or (at >= 0 and bound_L[l] == best and item < items_BL[b, at]):
                    best, at = bound_L[l], l
            if at < 0:
                break
            places_BK[b, place] = at
            chosen_K[place] = at
            inverse_K[place] = 1.0 / np.sqrt(outside_L[at])
            bound_L[at] = -np.inf
            rows_L[at] = -1
            filled_B[b] = place + 1
        filled = filled_B[b]
        for l in range(size):
            if filled < num_places and items_BL[b, l] >= 0 and rows_L[l] >= 0:
                places_BK[b, filled] = l
                filled += 1


@njit(cache=True, nogil=True, parallel=True)
def dpp(items_BL, relevance_BL, vectors, weight, places_BK):
    """Fill lists by greedy MAP inference of a determinantal point process; return how many positions it filled of each, int32 [B].

    Each position takes the item with the largest (1 - weight) relevance + weight * (gain in log det), which is the log of the
    squared distance of its unit vector from the span of those above it; ties go to the lower item. The Cholesky
    rows of Chen, Zhang and Zhou 2018 ("Fast Greedy MAP Inference for Determinantal Point Process", algorithm 1) are kept for
    unit vectors, without the relevance, which enters additively, so no weight overflows. Once every remaining item lies in the
    span, the rest follow in candidate order.
    """
    filled_B = np.zeros(len(items_BL), np.int32)
    for part in prange(min(PARTS, len(items_BL))):
        _dpp_part(np.int64(part), items_BL, relevance_BL, vectors, weight, places_BK, filled_B)
    return filled_B
