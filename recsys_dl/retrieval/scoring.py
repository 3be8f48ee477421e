"""Exact scores of some items: candidates, allow-lists, and all permitted items if an index found too few.

B queries, I items, U items that any query may have, C candidates of a query, D embedding size, K list.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from recsys_dl.kernels.candidates import best_candidates
from recsys_dl.kernels.item_lists import ItemLists, lists_of
from recsys_dl.kernels.topk import top_k_dot

BLOCK_BYTES = 64 << 20  # of vectors held at once
FEW = 16  # lists of less than a sixteenth of the items are scored one by one, longer ones together

Vectors = Callable[[np.ndarray], np.ndarray]  # items [N] -> float32 [N, D]


def scores_of(query_BD: np.ndarray, items_BC: np.ndarray, vectors: Vectors) -> np.ndarray:
    """Return float32 [B, C]: the inner product of query b with each of its candidates; arbitrary where the candidate is -1."""
    scores_BC = np.empty(items_BC.shape, np.float32)
    rows, size = items_BC.shape[1], query_BD.shape[1]
    step = max(1, BLOCK_BYTES // max(1, 4 * rows * size))
    for start in range(0, len(query_BD), step):
        some = slice(start, start + step)
        emb_BCD = vectors(items_BC[some].ravel()).reshape(-1, rows, size)
        scores_BC[some] = (emb_BCD @ query_BD[some, :, None])[..., 0]
    return scores_BC


def best_permitted(
    query_BD: np.ndarray,
    k: int,
    vectors: Vectors,
    present_I: np.ndarray,
    *,
    exclude: ItemLists | None,
    allow: ItemLists | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the top k of all present and permitted items, scored exactly; items permitted to no query are not scored.

    Args:
        query_BD: float32.
        k: length of the list.
        vectors: of present items.
        present_I: bool.
        exclude: items never returned.
        allow: the only items returned.

    Returns:
        int32 items [B, K] padded with -1, float32 scores [B, K] padded with -inf; ties to the lower item.
    """
    if allow is None:
        return _together(query_BD, k, vectors, np.flatnonzero(present_I), exclude, None)
    if is_shared(allow):
        items = allow.items[allow.starts_B[0] : allow.ends_B[0]]
        return _together(query_BD, k, vectors, items[present_I[items]], exclude, None)
    if (allow.ends_B - allow.starts_B).mean() * FEW < len(present_I):
        return _one_by_one(query_BD, k, vectors, present_I, exclude, allow)
    return _together(query_BD, k, vectors, np.flatnonzero(present_I), exclude, allow)


def is_shared(lists: ItemLists) -> bool:
    """Return whether all rows have one and the same list."""
    return bool((lists.starts_B == lists.starts_B[0]).all() and (lists.ends_B == lists.ends_B[0]).all())


def _together(
    query_BD: np.ndarray,
    k: int,
    vectors: Vectors,
    items_U: np.ndarray,
    exclude: ItemLists | None,
    allow: ItemLists | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Score the same items for all queries, a block of them at a time."""
    out, within = _places(exclude, items_U), _places(allow, items_U)
    best_items = np.full((len(query_BD), k), -1, np.int32)
    best_scores = np.full((len(query_BD), k), -np.inf, np.float32)
    step = max(1, BLOCK_BYTES // (4 * query_BD.shape[1]))
    for start in range(0, len(items_U), step):
        some_U = items_U[start : start + step]
        found_BK, scores_BK = top_k_dot(
            query_BD,
            vectors(some_U),
            min(k, len(some_U)),
            exclude=_from(out, start),
            allow=_from(within, start),
            device="cpu",
        )
        items_BK = np.where(found_BK >= 0, some_U[found_BK], -1)
        best_items, best_scores = best_candidates(
            np.hstack([best_items, items_BK]).astype(np.int32), np.hstack([best_scores, scores_BK]), k
        )
    return best_items, best_scores


def _one_by_one(
    query_BD: np.ndarray, k: int, vectors: Vectors, present_I: np.ndarray, exclude: ItemLists | None, allow: ItemLists
) -> tuple[np.ndarray, np.ndarray]:
    """Score each query's own list; queries with lists of like length together."""
    items_BK = np.full((len(query_BD), k), -1, np.int32)
    scores_BK = np.full((len(query_BD), k), -np.inf, np.float32)
    lengths_B = allow.ends_B - allow.starts_B
    order = np.argsort(lengths_B, kind="stable")
    order = order[np.searchsorted(lengths_B[order], 1) :]
    while len(order):
        longest = lengths_B[order[-1]]
        size = max(1, BLOCK_BYTES // int(4 * longest * query_BD.shape[1]))
        rows, order = order[-size:], order[:-size]
        places_BC = allow.starts_B[rows, None] + np.arange(longest)
        items_BC = allow.items[np.minimum(places_BC, len(allow.items) - 1)]
        items_BC = np.where((places_BC < allow.ends_B[rows, None]) & present_I[items_BC], items_BC, -1)
        scores_BC = scores_of(query_BD[rows], items_BC, vectors)
        items_BK[rows], scores_BK[rows] = best_candidates(items_BC, scores_BC, k, exclude=lists_of(exclude, rows))
    return items_BK, scores_BK


def _places(lists: ItemLists | None, items_U: np.ndarray) -> ItemLists | None:
    """Return lists of places in `items_U`, which ascends, without what is not there."""
    if lists is None:
        return None
    lengths_B = lists.ends_B - lists.starts_B
    ends_B = np.cumsum(lengths_B)
    if not len(items_U) or not ends_B[-1]:
        return ItemLists(np.zeros_like(ends_B), np.zeros_like(ends_B), np.zeros(0, np.int32))
    chosen = np.arange(ends_B[-1]) + np.repeat(lists.starts_B - (ends_B - lengths_B), lengths_B)
    items = lists.items[chosen]
    places = np.searchsorted(items_U, items)
    kept = items_U[np.minimum(places, len(items_U) - 1)] == items
    bounds = np.concatenate([[0], np.cumsum(kept)])
    return ItemLists(bounds[ends_B - lengths_B], bounds[ends_B], places[kept].astype(np.int32))


def _from(lists: ItemLists | None, start: int) -> ItemLists | None:
    """Return lists of places counted from `start`; the kernel passes over those below 0 and those past the last item."""
    return lists if lists is None or not start else ItemLists(lists.starts_B, lists.ends_B, lists.items - start)
