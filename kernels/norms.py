"""Lengths of the rows of a table. I rows, D columns."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .item_lists import read_only

SHORTEST = np.float32(1e-30)  # a row shorter than this has no direction; it is treated as this long
ROWS = 512  # that a thread takes at a time


def inverse_norms(table_ID: np.ndarray) -> np.ndarray:
    """Return float32 [I]: one over the length of each row, in one pass over the table and without a copy of it."""
    inverse_I = np.empty(len(table_ID), np.float32)
    _inverse_norms(read_only(table_ID, np.float32), inverse_I)
    return inverse_I


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _inverse_norm(row_D):
    square = np.float32(0)
    for d in range(np.uint64(len(row_D))):
        square += row_D[d] * row_D[d]
    return np.float32(1) / max(np.sqrt(square), SHORTEST)


@njit(cache=True, nogil=True, parallel=True)
def _inverse_norms(table_ID, inverse_I):
    num_rows = len(inverse_I)
    for block in prange((num_rows + ROWS - 1) // ROWS):
        for row in range(block * ROWS, min(num_rows, (block + 1) * ROWS)):
            inverse_I[row] = _inverse_norm(table_ID[row])
