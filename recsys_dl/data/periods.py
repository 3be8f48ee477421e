"""Numbers as membership in named periods, such as decades. N numbers, R rows, T periods."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

MOST_PERIODS = 10  # quantiles of a number
YEARS = (1000, 2100)
MOSTLY = 0.95  # numbers of which this share are whole and between these are years, and their periods are decades


def periods(numbers_N: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """Return the middles of a number's periods, and their names."""
    years = numbers_N[(numbers_N >= YEARS[0]) & (numbers_N <= YEARS[1])]
    if (numbers_N == np.round(numbers_N)).all() and len(years) >= MOSTLY * len(numbers_N) and np.ptp(years) >= 10:
        decades = np.unique(years // 10 * 10)
        return (decades + 4.5).astype(np.float32), [f"{decade:.0f}s" for decade in decades]
    middles = np.unique(np.quantile(numbers_N, np.linspace(0, 1, MOST_PERIODS)).astype(np.float32))
    return middles, [f"{name} about {middle:.4g}" for middle in middles]


def memberships(numbers_R: np.ndarray, knots_T: np.ndarray) -> sp.csr_matrix:
    """Return CSR [R, T]: each number's shares of the two periods around it; of one beyond the first or last middle."""
    rows = np.flatnonzero(~np.isnan(numbers_R))
    numbers = np.clip(numbers_R[rows], knots_T[0], knots_T[-1])
    left = np.clip(np.searchsorted(knots_T, numbers, side="right") - 1, 0, len(knots_T) - 2)
    share = ((numbers - knots_T[left]) / (knots_T[left + 1] - knots_T[left])).astype(np.float32)
    values, places = np.stack([1 - share, share], axis=1).ravel(), np.stack([left, left + 1], axis=1).ravel()
    block = sp.csr_matrix((values, (np.repeat(rows, 2), places)), shape=(len(numbers_R), len(knots_T)))
    block.eliminate_zeros()
    return block
