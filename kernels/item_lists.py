"""Lists of items for each row of a batch, in the form kernels and their CUDA twins take. B rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike


class ItemLists(NamedTuple):
    """A list of items for each of B rows: `items[starts_B[b]:ends_B[b]]`, ascending. Lists may overlap.

    A CSR matrix's rows `users_B` are `ItemLists(indptr[users_B], indptr[users_B + 1], indices)`; one list for all rows is
    `ItemLists(zeros(B), full(B, len(items)), items)`.
    """

    starts_B: np.ndarray  # int64
    ends_B: np.ndarray  # int64
    items: np.ndarray  # int32


def or_empty(lists: ItemLists | None, rows: int) -> ItemLists:
    """Return the lists, or empty ones if None."""
    nowhere = np.zeros(rows, np.int64)
    return ItemLists(nowhere, nowhere, np.zeros(0, np.int32)) if lists is None else lists


def lists_of(lists: ItemLists | None, rows: slice | np.ndarray) -> ItemLists | None:
    """Return the lists of some rows; None stays None."""
    return None if lists is None else ItemLists(lists.starts_B[rows], lists.ends_B[rows], lists.items)


def flat_lists(exclude: ItemLists | None, allow: ItemLists | None, rows: int) -> tuple[Any, ...]:
    """Return both lists' arrays in the form kernels take, and whether there is an allow list."""
    columns = zip((*or_empty(exclude, rows), *or_empty(allow, rows)), (np.int64, np.int64, np.int32) * 2, strict=True)
    return (*(read_only(column, dtype) for column, dtype in columns), allow is not None)


def read_only(array: Any, dtype: DTypeLike) -> np.ndarray:
    """Return a view of one type, layout and mutability, so that Numba compiles once for all callers."""
    view = np.ascontiguousarray(array, dtype).view()
    view.flags.writeable = False
    return view
