"""How many threads a call wakes, and how they share the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numba import get_num_threads, set_num_threads

BLOCKS_PER_THREAD = 8  # of rows, so that a thread that is done early finds more


@contextmanager
def at_most(tasks: int) -> Iterator[None]:
    """Let kernels use no more threads than there are tasks, such as rows of a request: one without work is waited for all the same."""
    threads = get_num_threads()
    if tasks >= threads:
        yield
        return
    set_num_threads(max(1, tasks))
    try:
        yield
    finally:
        set_num_threads(threads)


def equal_cost(indptr: np.ndarray, row_cost: int, num_blocks: int) -> np.ndarray:
    """Return bounds of row blocks of about equal cost, where an entry costs 1 and a row `row_cost` more."""
    cost = indptr + np.arange(len(indptr)) * max(row_cost, 1)
    return np.searchsorted(cost, np.linspace(0, cost[-1], num_blocks + 1)).astype(np.int64)
