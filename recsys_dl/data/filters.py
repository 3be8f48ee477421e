"""Filtering out users and items with too few interactions."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys_dl.arguments import Count, checked

from .blocks import ranges, taken
from .dataset import Dataset
from .interactions import Interactions
from .vocabulary import Vocabulary

Side = TypeVar("Side", pl.DataFrame | None, pl.Series | None)


@checked
def k_core(data: Dataset, users: Count = 5, items: Count = 5) -> Dataset:
    """Return the largest part of the log in which every user has `users` items and every item has `items` users.

    Distinct users and items are counted. Dropping an item may leave a user with too few, so filtering repeats until nothing changes.
    The remaining users and items keep their order and get new rows; features, titles, texts and `seen_only` follow them. Apply it
    before the split; since it filters the whole log, it uses future data, which should be reported along with results.

    Args:
        data: the log.
        users: minimum number of distinct items per user.
        items: minimum number of distinct users per item.

    Raises:
        ValueError: numbers below 1, or nothing is left.

    Examples:
        >>> from recsys_dl.data.filters import k_core
        >>> from recsys_dl.readers.log import read_log
        >>> log = read_log([("ann", "b1"), ("ann", "b2"), ("bob", "b1"), ("bob", "b2"), ("cat", "b3")])
        >>> data = k_core(log, users=2, items=2)
        >>> data.users.at([0, 1]).to_list(), data.items.at([0, 1]).to_list()
        (['ann', 'bob'], ['b1', 'b2'])
    """
    if data.histories is not None:
        raise ValueError("k_core must come before the split, got a part of one that has histories")
    log = data.interactions
    counts_U, counts_I, left = log.user_counts_U, log.item_counts_I, -1
    while left != counts_U.sum():
        left = int(counts_U.sum())
        stays_U, stays_I = counts_U >= users, counts_I >= items
        counts_U, counts_I = _counts_among(log.by_user, stays_U, stays_I)
    if not left:
        raise ValueError(
            f"no part of the log has {users} items for every user and {items} users for every item; lower users or items"
        )
    return replace(
        data,
        interactions=_among(log, stays_U, stays_I),
        seen_only=None if data.seen_only is None else _among(data.seen_only, stays_U, stays_I),
        users=Vocabulary(data.users.ids.filter(pl.Series(stays_U)), noun=data.users.noun),
        items=Vocabulary(data.items.ids.filter(pl.Series(stays_I)), noun=data.items.noun),
        user_features=_rows(data.user_features, stays_U),
        item_features=_rows(data.item_features, stays_I),
        item_titles=_rows(data.item_titles, stays_I),
        item_texts=_rows(data.item_texts, stays_I),
    )


def _among(log: Interactions, stays_U: np.ndarray, stays_I: np.ndarray) -> Interactions:
    """Return the interactions between the remaining users and items, renumbered."""
    stays_N = taken(stays_U, log.users_N)
    stays_N &= taken(stays_I, log.items_N)
    return log.select(stays_N).renumbered(stays_U, stays_I)


def _counts_among(pairs: sp.csr_matrix, stays_U: np.ndarray, stays_I: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each user's items and each item's users among those that stay."""
    counts_U, counts_I = np.zeros(len(stays_U), np.int64), np.zeros(len(stays_I), np.int64)
    for first, last in ranges(pairs.indptr):
        items_P = pairs.indices[pairs.indptr[first] : pairs.indptr[last]]
        users_P = np.repeat(np.arange(last - first), np.diff(pairs.indptr[first : last + 1]))
        stays_P = stays_U[first:last][users_P] & stays_I[items_P]
        counts_U[first:last] = np.bincount(users_P[stays_P], minlength=last - first)
        counts_I += np.bincount(items_P[stays_P], minlength=len(stays_I))
    return counts_U, counts_I


def _rows(side: Side, stays: np.ndarray) -> Side:
    return None if side is None else side.filter(pl.Series(stays))
