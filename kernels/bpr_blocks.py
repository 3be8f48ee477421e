"""How BPR's steps are cut into blocks of users and items: what the CPU kernel and its CUDA twin share. B blocks, U users."""

from __future__ import annotations

import numpy as np

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
