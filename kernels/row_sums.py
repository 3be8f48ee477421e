"""A sparse matrix, and its Gram matrix, times a dense matrix in float64, eight columns at a time: rows of the dense one are cache lines.

R rows, C columns, N stored entries, D columns of the dense matrix, P parts of the rows.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, prange

from .comparison import Vectors, plain
from .compiling import INSIDE
from .threads import BLOCKS_PER_THREAD, equal_cost
from .tile import EIGHT, add_to_rows, sum_rows

LINE = 64  # bytes
FEWEST, MOST = 4, 32  # parts of the rows, each with sums of its own
ENTRIES = 32  # per column and part: adding the parts then costs 1/64 of the product
CHUNK = 4096  # numbers of all parts that a task adds


def row_sums(vectors: Vectors, table_CD: np.ndarray) -> np.ndarray:
    """Return float64 [R, D], the product; each sum runs over the entries in the order stored, whatever the number of threads."""
    rows, size = len(vectors.indptr_R1) - 1, table_CD.shape[1]
    entries = plain(vectors)
    bounds = equal_cost(entries[0], EIGHT, BLOCKS_PER_THREAD * get_num_threads())
    sums_RD, sums_R8, table_C8 = np.empty((rows, size)), of_lines(rows), of_lines(len(table_CD))
    for first in range(0, size, EIGHT):
        width = min(EIGHT, size - first)
        table_C8[:, :width] = table_CD[:, first : first + width]
        _sums_cpu(*entries, table_C8.reshape(-1), bounds, sums_R8.reshape(-1))
        sums_RD[:, first : first + width] = sums_R8[:, :width]
    return sums_RD


class Gram:
    """V^T diag(weights) V of sparse vectors [R, C], ready to be multiplied.

    Rows are divided into parts whose number depends on the matrix alone, and the sums of the parts are added in order, so that threads
    change no bit.
    """

    def __init__(self, vectors: Vectors, weights_R: np.ndarray) -> None:
        self.entries, self.weights_R = plain(vectors), np.ascontiguousarray(weights_R, np.float64)
        parts = max(FEWEST, min(MOST, len(vectors.indices_N) // (ENTRIES * vectors.num_columns)))
        self.bounds = equal_cost(self.entries[0], EIGHT, parts)
        self.sums_PC8 = of_lines(parts * vectors.num_columns).reshape(parts, -1)

    def times(self, table_C8: np.ndarray, product_C8: np.ndarray) -> None:
        """Write the product with a table of eight columns; both C-contiguous, further rows are neither read nor written."""
        _gram_cpu(
            *self.entries, self.weights_R, table_C8.reshape(-1), self.bounds, self.sums_PC8, product_C8.reshape(-1)
        )


def of_lines(rows: int) -> np.ndarray:
    """Return float64 [rows, 8] of zeros, each row in one cache line."""
    room = np.zeros(rows * EIGHT + LINE // 8)
    first = -room.ctypes.data // 8 % EIGHT
    return room[first : first + rows * EIGHT].reshape(rows, EIGHT)


@njit(**INSIDE)
def _sums_of(block, indptr, indices, values, table, bounds, sums):
    one, eight = np.uint64(1), np.uint64(EIGHT)
    for row in range(np.uint64(bounds[block]), np.uint64(bounds[block + 1])):
        sum_rows(indices, values, np.uint64(indptr[row]), np.uint64(indptr[row + one]), table, sums, row * eight)


@njit(cache=True, nogil=True, parallel=True)
def _sums_cpu(indptr, indices, values, table, bounds, sums):
    for block in prange(len(bounds) - 1):
        _sums_of(np.int64(block), indptr, indices, values, table, bounds, sums)


@njit(**INSIDE)
def _gram_of(part, indptr, indices, values, weights, table, bounds, sums_N):
    """Write the sum over some rows v of weight v^T (v table)."""
    one, none = np.uint64(1), np.uint64(0)
    sums_N[:] = 0
    line = np.empty(EIGHT)
    for row in range(np.uint64(bounds[part]), np.uint64(bounds[part + 1])):
        first, end = np.uint64(indptr[row]), np.uint64(indptr[row + one])
        sum_rows(indices, values, first, end, table, line, none)
        for n in range(EIGHT):
            line[n] *= weights[row]
        add_to_rows(indices, values, first, end, sums_N, line, none)


@njit(**INSIDE)
def _add_parts(chunk, sums_PN, product_N):
    first, end = chunk * CHUNK, min((chunk + 1) * CHUNK, sums_PN.shape[1])
    for n in range(first, end):
        product_N[n] = sums_PN[0, n]
    for part in range(1, len(sums_PN)):
        for n in range(first, end):
            product_N[n] += sums_PN[part, n]


@njit(cache=True, nogil=True, parallel=True)
def _gram_cpu(indptr, indices, values, weights, table, bounds, sums_PN, product_N):
    for part in prange(len(sums_PN)):
        _gram_of(np.int64(part), indptr, indices, values, weights, table, bounds, sums_PN[part])
    for chunk in prange((sums_PN.shape[1] + CHUNK - 1) // CHUNK):
        _add_parts(np.int64(chunk), sums_PN, product_N)
