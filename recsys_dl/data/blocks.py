"""Working through long arrays in blocks, so that temporary arrays stay small. N entries, V distinct values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SIZE = 1 << 22  # entries in a block


def blocks(length: int, size: int = SIZE) -> Iterator[slice]:
    """Yield slices of at most `size` that cover `length` entries."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def ranges(starts_R1: np.ndarray, size: int = SIZE) -> Iterator[tuple[int, int]]:
    """Yield consecutive ranges (first, last) of rows with at most `size` entries each, or of one row with more."""
    first, num_rows = 0, len(starts_R1) - 1
    while first < num_rows:
        last = int(np.searchsorted(starts_R1, int(starts_R1[first]) + size, side="right")) - 1
        last = min(max(last, first + 1), num_rows)
        yield first, last
        first = last


def count_rows(rows_N: np.ndarray, size: int) -> np.ndarray:
    """Return int64 [size]: how often each row occurs."""
    counts = np.zeros(size, np.int64)
    for block in blocks(len(rows_N), max(SIZE, size)):
        counts += np.bincount(rows_N[block], minlength=size)
    return counts


def marked(rows_N: np.ndarray, size: int) -> np.ndarray:
    """Return bool [size]: whether each row occurs."""
    found = np.zeros(size, bool)
    for block in blocks(len(rows_N)):
        found[rows_N[block]] = True
    return found


def taken(values_R: np.ndarray, rows_N: np.ndarray) -> np.ndarray:
    """Return `values_R[rows_N]`, without a copy of the rows in the type of an index."""
    found_N = np.empty(len(rows_N), values_R.dtype)
    for block in blocks(len(rows_N)):
        found_N[block] = values_R[rows_N[block]]
    return found_N


def distinct(values_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values [V], ascending, and how often each occurs."""
    values, counts = np.empty(0, values_N.dtype), np.empty(0, np.int64)
    for block in blocks(len(values_N)):
        more, times = np.unique(values_N[block], return_counts=True)
        values, of_N = np.unique(np.concatenate([values, more]), return_inverse=True)
        counts = np.bincount(of_N, np.concatenate([counts, times]), len(values)).astype(np.int64)
    return values, counts
