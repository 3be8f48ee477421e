"""Lists of items that a request names: what to leave out, or what alone to let in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dataset import Dataset, as_interactions
from .interactions import Interactions


def item_lists(
    given: Dataset | Interactions | np.ndarray | Sequence[int], rows_B: np.ndarray, *, num_items: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a list of items for each of B rows, in the form of `kernels.topk.ItemLists`.

    Args:
        given: interactions, of which row b gets what user `rows_B[b]` had; or item rows, for all alike.
        rows_B: user rows.
        num_items: I; items must lie below.
        name: of the argument, for messages.

    Returns:
        starts_B, ends_B (int64) and items (int32): row b has `items[starts_B[b]:ends_B[b]]`, ascending.

    Raises:
        ValueError: rows or items out of range, or item rows in more than one dimension.
    """
    if isinstance(given, Dataset | Interactions):
        part = as_interactions(given)
        if part.num_items > num_items or rows_B.max(initial=-1) >= part.num_users:
            raise ValueError(
                f"{name} must be over the users asked for (rows up to {rows_B.max(initial=-1)}) and at most "
                f"{num_items} items, got {part.num_users} users and {part.num_items} items"
            )
        matrix = part.by_user
        return matrix.indptr[rows_B].astype(np.int64), matrix.indptr[rows_B + 1].astype(np.int64), matrix.indices
    items = np.asarray(given)
    if items.ndim != 1:
        raise ValueError(
            f"{name} as a list must be item rows for all users alike, in one dimension; for lists of each user's own "
            f"give Interactions.from_histories(lists, num_items={num_items})"
        )
    if not np.issubdtype(items.dtype, np.integer) and items.size:
        raise ValueError(f"item rows must be integers, got {items.dtype}; ids become rows through a Vocabulary")
    items = np.unique(items)
    if items.size and not 0 <= items[0] <= items[-1] < num_items:
        bad = items[0] if items[0] < 0 else items[-1]
        raise ValueError(f"{name} must hold rows of the {num_items} items known, got item row {bad}")
    size = len(rows_B)
    return np.zeros(size, np.int64), np.full(size, len(items), np.int64), items.astype(np.int32)
