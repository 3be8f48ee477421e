"""The features of users or items, sums of their vectors, and Adagrad's step on them: what `feature_mf` needs of one side.

R rows, B some of them, M features of all rows together, V rows of the table, T of these in a batch, W columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .random import random_bits

START = 1.0  # sum of squared gradients before the first step


class Side(NamedTuple):
    """The features of all users, or of all items: those of row r are at `indptr_R1[r]` to `indptr_R1[r + 1]`, its id last.

    Attributes:
        indptr_R1: int64 [R + 1].
        codes_M: int32, rows of the tables; those from `first_id` on are ids.
        weights_M: float32, by which a feature's vector is multiplied.
        first_id: the table's first row that belongs to an id.
        constant: column that is 1 in every vector: D + 1 of users, D of items.
        emb_VW: float32, C-contiguous; the constant column is 0.
        squares_VW: float32, sums of squared gradients, from `START` on.
    """

    indptr_R1: np.ndarray
    codes_M: np.ndarray
    weights_M: np.ndarray
    first_id: int
    constant: int
    emb_VW: np.ndarray
    squares_VW: np.ndarray


def vectors(side: Side, rows_B: np.ndarray) -> np.ndarray:
    """Return the vectors of some rows, float32 [B, W]."""
    return vectors_up_to(side, side.indptr_R1[1:], np.asarray(rows_B, np.int32))


def ends_without_ids(side: Side, key: np.uint64, id_dropout: float) -> np.ndarray:
    """Return where each row's features end, int64 [R], before the id of those rows that do without it."""
    ends_R = side.indptr_R1[1:]
    if not id_dropout or not len(side.codes_M):
        return ends_R
    with np.errstate(over="ignore"):
        bits_R = random_bits(key, np.arange(len(ends_R), dtype=np.uint64))
    several_R = (np.diff(side.indptr_R1) > 1) & (side.codes_M[ends_R - 1] >= side.first_id)
    return ends_R - (several_R & (bits_R < np.uint64(id_dropout * 2.0**64)))


def vectors_up_to(side: Side, ends_R: np.ndarray, rows_B: np.ndarray) -> np.ndarray:
    """Return the vectors of some rows by their features up to `ends_R`, float32 [B, W]."""
    vectors_BW = np.empty((len(rows_B), side.emb_VW.shape[1]), np.float32)
    _vectors_cpu(side.indptr_R1, ends_R, side.codes_M, side.weights_M, side.emb_VW, side.constant, rows_B, vectors_BW)
    return vectors_BW


@njit(cache=True, nogil=True)
def numbered(rows_P, slot_R):
    """Return the distinct rows in order of appearance, and the number of each of rows_P among them; -1 stays."""
    distinct = np.empty(len(rows_P), np.int32)
    numbers_P = np.empty(len(rows_P), np.int32)
    size = 0
    for p in range(len(rows_P)):
        row = rows_P[p]
        if row < 0:
            numbers_P[p] = -1
            continue
        if slot_R[row] < 0:
            slot_R[row] = size
            distinct[size] = row
            size += 1
        numbers_P[p] = slot_R[row]
    for s in range(size):
        slot_R[distinct[s]] = -1
    return distinct[:size].copy(), numbers_P


@njit(cache=True, nogil=True)
def features_of(rows, counts, indptr, ends, codes, slot_V):
    """Return the distinct features of rows, in order of appearance, and how often each takes part; number them in slot_V."""
    size = 0
    for s in range(len(rows)):
        size += ends[rows[s]] - indptr[rows[s]]
    codes_T = np.empty(size, np.int32)
    counts_T = np.zeros(size, np.int64)
    size = 0
    for s in range(len(rows)):
        for m in range(indptr[rows[s]], ends[rows[s]]):
            if slot_V[codes[m]] < 0:
                slot_V[codes[m]] = size
                codes_T[size] = codes[m]
                size += 1
            counts_T[slot_V[codes[m]]] += counts[s]
    return codes_T[:size].copy(), counts_T[:size].copy()


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"})
def _vectors_cpu(indptr, ends, codes, weights, emb, constant, rows_B, vectors_BW):
    size = np.uint64(emb.shape[1])
    for b in prange(len(rows_B)):
        at = np.uint64(b)
        m, end = np.uint64(indptr[rows_B[b]]), np.uint64(ends[rows_B[b]])
        for d in range(size):
            vectors_BW[at, d] = np.float32(0.0)
        while m + np.uint64(4) <= end:  # four at a time: a quarter of the loads and stores of the sum
            e, f, g, h = np.uint64(codes[m]), np.uint64(codes[m + 1]), np.uint64(codes[m + 2]), np.uint64(codes[m + 3])
            w, x, y, z = weights[m], weights[m + 1], weights[m + 2], weights[m + 3]
            for d in range(size):
                vectors_BW[at, d] += w * emb[e, d] + x * emb[f, d] + y * emb[g, d] + z * emb[h, d]
            m += np.uint64(4)
        while m < end:
            e, w = np.uint64(codes[m]), weights[m]
            for d in range(size):
                vectors_BW[at, d] += w * emb[e, d]
            m += np.uint64(1)
        vectors_BW[at, constant] = np.float32(1.0)


@njit(cache=True, nogil=True, error_model="numpy")
def descend_side(
    first,
    last,
    slopes,
    rows,
    indptr,
    ends,
    codes,
    weights,
    constant,
    emb,
    squares,
    codes_T,
    counts_T,
    slot_V,
    rate,
    penalty,
):
    """Sum the slopes of rows for their features, and take Adagrad's step, in the columns from first to last."""
    size, column = np.uint64(last - first), np.uint64(first)
    if first <= constant < last:
        slopes[:, constant - first] = np.float32(0.0)
    sums = np.zeros((len(codes_T), last - first), np.float32)
    for s in range(len(rows)):
        for m in range(indptr[rows[s]], ends[rows[s]]):
            t, weight = np.uint64(slot_V[codes[m]]), weights[m]
            for d in range(size):
                sums[t, d] += weight * slopes[s, d]
    for n in range(len(codes_T)):
        code, shrink = np.uint64(codes_T[n]), penalty * np.float32(counts_T[n])
        for d in range(size):
            slope = sums[n, d] + shrink * emb[code, column + d]
            squares[code, column + d] += slope * slope
            emb[code, column + d] -= rate * slope / np.sqrt(squares[code, column + d])
