"""How the steps of BPR and of descent over ratings are cut into blocks of users and items: what the CPU kernels and BPR's CUDA twin share. B blocks, U users."""

from __future__ import annotations

import numpy as np
from numba import njit

MOST_BLOCKS = 64

LEAST_ITEMS = 64  # in a block

LEAST_STEPS = 1024  # in a cell, on average: amortizes the cost of synchronizing threads

TRIES = 16  # draws of j before falling back to enumerating the items u did not interact with


def num_blocks(num_users: int, num_items: int, num_interactions: int) -> int:
    """Return B: more blocks use more threads and keep a cell in cache, fewer leave more items to draw j from."""
    return max(1, min(MOST_BLOCKS, num_users, num_items // LEAST_ITEMS, int((num_interactions / LEAST_STEPS) ** 0.5)))


def user_blocks(indptr_U1: np.ndarray, blocks: int) -> np.ndarray:
    """Return the first user of each block, int64 [B + 1], so that blocks have about equally many interactions."""
    first_B1 = np.searchsorted(indptr_U1, np.arange(blocks + 1) * int(indptr_U1[-1]) // blocks)
    first_B1[0], first_B1[-1] = 0, len(indptr_U1) - 1
    return first_B1


@njit(cache=True, nogil=True)
def shares(starts, diagonal, low, high, threads):
    """Return the diagonal's cells of the user blocks from `low` to `high` for each thread, by user block, padded with -1: longest first, each to the least loaded thread."""
    blocks = len(starts)
    sizes = np.empty(high - low, np.int64)
    for b in range(low, high):
        other = (b + diagonal) % blocks
        sizes[b - low] = starts[b, other + 1] - starts[b, other]
    cells = np.full((threads, blocks + 1), -1, np.int64)
    taken, loads = np.zeros(threads, np.int64), np.zeros(threads, np.int64)
    for b in np.argsort(-sizes):
        thread = np.argmin(loads)
        cells[thread, taken[thread]] = low + b
        taken[thread] += 1
        loads[thread] += sizes[b]
    return cells
