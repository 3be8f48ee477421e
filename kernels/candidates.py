"""The top k of a few candidates in each row, and how many items each row may receive.

B rows, C candidates of a row, I items, K list.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .item_lists import ItemLists, flat_lists, read_only
from .keys import first_from, key_of, write_list

IN_TURN = 1 << 13  # candidates: below this, waking other threads costs more than it saves


def best_candidates(
    items_BC: np.ndarray,
    scores_BC: np.ndarray,
    k: int,
    *,
    exclude: ItemLists | None = None,
    allow: ItemLists | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best candidates of each row, best first; equal scores go to the lower item.

    Args:
        items_BC: int32 items in any order, each once in its row; -1 for none.
        scores_BC: float32, finite where there is an item.
        k: length of the list, at least 1.
        exclude: items never returned.
        allow: the only items returned; None allows all.

    Returns:
        int32 items [B, K] padded with -1, float32 scores [B, K] padded with -inf.
    """
    rows = len(items_BC)
    items_BK = np.empty((rows, k), np.int32)
    best_BK = np.empty((rows, k), np.float32)
    lists = flat_lists(exclude, allow, rows)
    choose = _choose_in_turn if items_BC.size < IN_TURN else _choose
    choose(read_only(items_BC, np.int32), read_only(scores_BC, np.float32), lists, items_BK, best_BK)
    return items_BK, best_BK


def num_permitted(
    present_I: np.ndarray, rows: int, *, exclude: ItemLists | None = None, allow: ItemLists | None = None
) -> np.ndarray:
    """Return int64 [B]: how many of the items present each row may receive.

    Args:
        present_I: bool.
        rows: B.
        exclude: items a row may not receive, each once in its list.
        allow: the only items it may receive, each once in its list; None allows all.
    """
    counts_B = np.empty(rows, np.int64)
    _count(read_only(present_I, np.bool_), flat_lists(exclude, allow, rows), int(present_I.sum()), counts_B)
    return counts_B


@njit(cache=True, nogil=True)
def _listed(items, start, end, item):
    at = first_from(items, start, end, item)
    return at < end and items[at] == item


@njit(cache=True, nogil=True)
def _choose_row(items_C, scores_C, lists, row, items_K, best_K):
    out_starts, out_ends, out_items, in_starts, in_ends, in_items, has_allow = lists
    keys_C = np.empty(len(items_C), np.uint64)
    count = 0
    for c in range(len(items_C)):
        item = items_C[c]
        if item < 0 or _listed(out_items, out_starts[row], out_ends[row], item):
            continue
        if has_allow and not _listed(in_items, in_starts[row], in_ends[row], item):
            continue
        keys_C[count] = key_of(scores_C[c], item)
        count += 1
    write_list(keys_C[:count], items_K, best_K)


@njit(cache=True, nogil=True)
def _choose_in_turn(items_BC, scores_BC, lists, items_BK, best_BK):
    for b in range(len(items_BC)):
        _choose_row(items_BC[b], scores_BC[b], lists, b, items_BK[b], best_BK[b])


@njit(cache=True, nogil=True, parallel=True)
def _choose(items_BC, scores_BC, lists, items_BK, best_BK):
    for b in prange(len(items_BC)):
        _choose_row(items_BC[b], scores_BC[b], lists, b, items_BK[b], best_BK[b])


@njit(cache=True, nogil=True, parallel=True)
def _count(present_I, lists, num_present, counts_B):
    out_starts, out_ends, out_items, in_starts, in_ends, in_items, has_allow = lists
    for b in prange(len(counts_B)):
        start, end = out_starts[b], out_ends[b]
        if has_allow:
            count = 0
            for place in range(in_starts[b], in_ends[b]):
                item = in_items[place]
                if present_I[item] and not _listed(out_items, start, end, item):
                    count += 1
            counts_B[b] = count
        else:
            count = num_present
            for place in range(start, end):
                if present_I[out_items[place]]:
                    count -= 1
            counts_B[b] = count
