"""Inner products of queries with items named for each: nothing else of the catalog is multiplied, and no rows are copied.

B queries, I items, L items named for each query, D embedding size, N numbers in a flat table.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .compiling import INSIDE
from .tile import prefetch_at

AHEAD = 8  # items whose rows are fetched before they are multiplied
LINE = np.uint64(16)  # numbers of a cache line
NONE = np.uint64(0)
LEAST = 1 << 18  # multiplications that are worth other threads: one that does not come at once is waited for


@njit(fastmath={"reassoc", "contract"}, **INSIDE)
def _dot(query_D, table_N, start):
    total = np.float32(0)
    for d in range(NONE, np.uint64(len(query_D))):
        total += query_D[d] * table_N[start + d]
    return total


@njit(**INSIDE)
def _dots_of(query_D, table_N, items_L, dots_L):
    size, last = np.uint64(len(query_D)), len(items_L) - 1
    for l in range(len(items_L)):
        ahead = np.uint64(items_L[min(l + AHEAD, last)]) * size
        for d in range(NONE, size, LINE):
            prefetch_at(table_N, ahead + d)
        dots_L[l] = _dot(query_D, table_N, np.uint64(items_L[l]) * size)


@njit(cache=True, nogil=True)
def _dots(query_BD, table_N, items_BL, dots_BL):
    for b in range(len(query_BD)):
        _dots_of(query_BD[b], table_N, items_BL[b], dots_BL[b])


@njit(cache=True, nogil=True, parallel=True)
def _dots_on_threads(query_BD, table_N, items_BL, dots_BL):
    for b in prange(len(query_BD)):
        _dots_of(query_BD[b], table_N, items_BL[b], dots_BL[b])


def pair_dots(query_BD: np.ndarray, item_emb_ID: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
    """Return float32 [B, L]: the inner product of each query and each of its items, the same bits in any batch.

    Args:
        query_BD: float32.
        item_emb_ID: float32.
        items_BL: integers in [0, I), not checked.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.kernels.pair_dots import pair_dots
        >>> pair_dots(np.array([[1, 2]], np.float32), np.array([[3, 0], [0, 5]], np.float32), np.array([[1, 0]]))
        array([[10.,  3.]], dtype=float32)
    """
    query_BD, item_emb_ID = (np.ascontiguousarray(one, np.float32) for one in (query_BD, item_emb_ID))
    items_BL, dots_BL = np.ascontiguousarray(items_BL, np.int64), np.empty(items_BL.shape, np.float32)
    kernel = _dots if items_BL.size * item_emb_ID.shape[1] < LEAST else _dots_on_threads
    kernel(query_BD, item_emb_ID.reshape(-1), items_BL, dots_BL)
    return dots_BL
