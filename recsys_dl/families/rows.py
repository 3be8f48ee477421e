"""Rows of users' values, without what SciPy spends on each indexing: a tenth of a millisecond, in a request of one or two.

B users, I items, K list, N stored values.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from recsys_dl.kernels.comparison import Vectors
from recsys_dl.kernels.device import Device, resolve
from recsys_dl.kernels.item_lists import ItemLists, lists_of
from recsys_dl.kernels.neighbors import best_of_sparse_product

TopK = Callable[[Any, int, ItemLists | None, ItemLists | None], tuple[np.ndarray, np.ndarray]]


class LookedUp(NamedTuple):
    """Users with what a model looks up of them, which its `recommend` and `score` take in place of user rows.

    Attributes:
        rows_B: into `exclude` and `allow`.
        values: the input of the model's scores.
        blank_B: bool, users without interactions to go by.
    """

    rows_B: np.ndarray
    values: Any
    blank_B: np.ndarray


def rows_of(matrix: sp.csr_matrix, rows_B: np.ndarray) -> sp.csr_matrix:
    """Return `matrix[rows_B]`, a copy, for valid rows."""
    if len(rows_B) != 1:
        return matrix[rows_B]
    start, stop = matrix.indptr[rows_B[0]], matrix.indptr[rows_B[0] + 1]
    row = copy.copy(_empty_row(matrix.shape[1]))
    row.data, row.indices = matrix.data[start:stop].copy(), matrix.indices[start:stop].copy()
    row.indptr = np.array([0, stop - start], matrix.indptr.dtype)
    return row


@functools.cache
def _empty_row(num_columns: int) -> sp.csr_matrix:
    return sp.csr_matrix((1, num_columns))


def block_of(values: Any, block: slice) -> Any:
    """Return a block of users' values: of one array or CSR matrix, or a tuple of them. All of them are not copied."""
    if isinstance(values, tuple):
        return tuple(block_of(part, block) for part in values)
    return values if block == slice(0, values.shape[0]) else values[block]


def stored_rows(matrix: sp.csr_matrix, rows_N: np.ndarray) -> np.ndarray:
    """Return bool [N]: whether each of these rows stores anything."""
    return matrix.indptr[rows_N + 1] > matrix.indptr[rows_N]


def best_of_rows(
    values: sp.csr_matrix,
    weights_II: sp.csr_matrix,
    k: int,
    exclude: ItemLists | None,
    allow: ItemLists | None,
    *,
    device: Device,
    dense: TopK,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best items of `values @ weights_II`, both [B, K], from the few items that a row gives a score to.

    Args:
        values: CSR [B, I].
        weights_II: CSR.
        k: length of the lists.
        exclude: items left out of each list.
        allow: the only ones in it.
        device: where the model computes; on "cuda" all scores are.
        dense: a model's `_top_k` over all scores, for rows in which fewer than k items score above 0; the result is the same.
    """
    if resolve(device) == "cuda":
        return dense(values, k, exclude, allow)
    left, right = (Vectors(one.indptr, one.indices, one.data, one.shape[1]) for one in (values, weights_II))
    items_BK, scores_BK, short_B = best_of_sparse_product(left, right, k, exclude=exclude, allow=allow)
    if short_B.all():
        return dense(values, k, exclude, allow)
    if short_B.any():
        rows = np.flatnonzero(short_B)
        more = dense(values[rows], k, lists_of(exclude, rows), lists_of(allow, rows))
        items_BK[rows], scores_BK[rows] = more
    return items_BK, scores_BK
