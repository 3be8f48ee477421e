"""How the steps of BPR and of descent over ratings are cut into blocks of users and items: what the CPU kernels and BPR's CUDA twin share. B blocks, U users."""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import INSIDE

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


@njit(**INSIDE)
def begin_cells(b, indptr, indices, first_user, block_I, starts, at):
    """Write where the cells of user block b start, to its row of `starts` and to `at`, both with the end of the last: by user block, then by item block."""
    at[:] = 0
    for n in range(indptr[first_user[b]], indptr[first_user[b + 1]]):
        at[block_I[indices[n]] + 1] += 1
    at[0] = indptr[first_user[b]]
    for other in range(len(at) - 1):
        at[other + 1] += at[other]
    for other in range(len(at)):
        starts[b, other] = at[other]


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
