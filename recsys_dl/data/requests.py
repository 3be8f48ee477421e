"""Validating what a request names: users, items, k, and lists of items to exclude or allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .dataset import Dataset, seen_of
from .interactions import Interactions


def user_rows(users: np.ndarray | Sequence[int], num_users: int) -> np.ndarray:
    """Return user rows as int64 [B].

    Raises:
        ValueError: they are not integers in one dimension, or one is outside [0, num_users).
    """
    rows = np.atleast_1d(np.asarray(users))
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(
            f"users must be rows, integers in one dimension, got {rows.dtype} of shape {rows.shape}. "
            "External ids become rows through a Vocabulary, or through load_run(...).recommend."
        )
    rows = rows.astype(np.int64)
    bad = rows[(rows < 0) | (rows >= num_users)]
    if bad.size:
        raise ValueError(
            f"user row {bad[0]} is outside the {num_users} users seen in training. "
            "Use fold_in() with the user's history, or a fallback such as Popularity."
        )
    return rows


def list_length(k: int, num_items: int, noun: str = "known items") -> int:
    """Return a validated list length.

    Raises:
        ValueError: it is not an integer in [1, num_items].
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise ValueError(f"k must be a whole number, such as 10, got {k!r}")
    if not 1 <= k <= num_items:
        raise ValueError(f"k must be between 1 and the {num_items} {noun}, got {k}")
    return int(k)


def item_table(items: np.ndarray | Sequence[Sequence[int]], num_users: int) -> np.ndarray:
    """Return item rows [B, L], one row of items per user.

    Raises:
        ValueError: they have a different shape.
    """
    items_BL = np.asarray(items)
    if items_BL.ndim != 2 or len(items_BL) != num_users:
        example = f"[{', '.join(['[1, 2]', '[3, 4]'][:num_users])}{', …' if num_users > 2 else ''}]"
        raise ValueError(
            f"items must have one row for each of {num_users} users, such as {example}, got shape {items_BL.shape}"
        )
    return items_BL


def check_item_rows(items: np.ndarray, num_items: int, lowest: int = 0) -> None:
    """Check that item rows are integers in [lowest, num_items).

    Raises:
        ValueError: they are not.
    """
    if items.dtype.kind not in "iu" and items.size:
        raise ValueError(f"item rows must be integers, got {items.dtype}; ids become rows through a Vocabulary")
    low, high = items.min(initial=lowest), items.max(initial=-1)
    if low < lowest or high >= num_items:
        raise ValueError(f"item row {low if low < lowest else high} is outside the {num_items} items seen in training")


def item_lists(
    given: Dataset | Interactions | np.ndarray | Sequence[int], rows_B: np.ndarray, *, num_items: int, name: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a list of items for each of B rows, in the form of `kernels.item_lists.ItemLists`.

    Args:
        given: interactions, of which row b gets those of user `rows_B[b]`; or item rows, the same for all users.
        rows_B: user rows.
        num_items: I; items must be below it.
        name: of the argument, for messages.

    Returns:
        starts_B, ends_B (int64) and items (int32): row b has `items[starts_B[b]:ends_B[b]]`, ascending.

    Raises:
        ValueError: rows or items out of range, or item rows in more than one dimension.
    """
    if isinstance(given, Dataset | Interactions):
        part = seen_of(given)
        if part.num_items > num_items or rows_B.max(initial=-1) >= part.num_users:
            raise ValueError(
                f"{name} must cover the requested users (rows up to {rows_B.max(initial=-1)}) and at most "
                f"{num_items} items, got {part.num_users} users and {part.num_items} items"
            )
        matrix = part.by_user
        return matrix.indptr[rows_B].astype(np.int64), matrix.indptr[rows_B + 1].astype(np.int64), matrix.indices
    items = np.asarray(given)
    if items.ndim != 1:
        raise ValueError(
            f"{name} as a list must be one-dimensional item rows, the same for all users; for one list per user "
            f"pass Interactions.from_histories(lists, num_items={num_items})"
        )
    if items.dtype.kind not in "iu" and items.size:
        raise ValueError(f"item rows must be integers, got {items.dtype}; ids become rows through a Vocabulary")
    items = np.unique(items)
    if items.size and not 0 <= items[0] <= items[-1] < num_items:
        bad = items[0] if items[0] < 0 else items[-1]
        raise ValueError(f"{name} must hold rows of the {num_items} known items, got item row {bad}")
    size = len(rows_B)
    return np.zeros(size, np.int64), np.full(size, len(items), np.int64), items.astype(np.int32)
