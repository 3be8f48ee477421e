"""The best k of many scores, with items left out or let in.

B rows, I items, K list, D embedding size.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from .device import Device, resolve


class ItemLists(NamedTuple):
    """A list of items for each of B rows: `items[starts_B[b]:ends_B[b]]`, ascending. Lists may overlap.

    A CSR matrix's rows `users_B` are `ItemLists(indptr[users_B], indptr[users_B + 1], indices)`; one list for all rows is
    `ItemLists(zeros(B), full(B, len(items)), items)`.
    """

    starts_B: np.ndarray  # int64
    ends_B: np.ndarray  # int64
    items: np.ndarray  # int32


def top_k(
    scores_BI: np.ndarray,
    k: int,
    *,
    exclude: ItemLists | None = None,
    allow: ItemLists | None = None,
    device: Device = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best items of each row, best first; equal scores go to the lower item.

    Args:
        scores_BI: float32, C-contiguous, no NaN; -inf is never returned.
        k: length of the list, at least 1.
        exclude: items never returned.
        allow: the only items returned; None lets all in.
        device: where to compute; the result does not depend on it.

    Returns:
        int32 items [B, K] padded with -1, float32 scores [B, K] padded with -inf.
    """
    rows = len(scores_BI)
    items_BK = np.full((rows, k), -1, np.int32)
    best_BK = np.full((rows, k), -np.inf, np.float32)
    if resolve(device) == "cuda":
        from .cuda import topk as twin

        return twin.top_k(scores_BI, k, exclude=exclude, allow=allow)
    empty = ItemLists(np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(1, np.int32))
    _top_k_cpu(scores_BI, *(exclude or empty), *(allow or empty), allow is not None, items_BK, best_BK)
    return items_BK, best_BK


@njit(cache=True, nogil=True)
def _worse(score, item, other_score, other_item):
    return score < other_score or (score == other_score and item > other_item)


@njit(cache=True, nogil=True)
def _sift_down(heap_scores, heap_items, root, size):
    """Restore the heap whose root is the worst kept entry."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size and _worse(
            heap_scores[child + 1], heap_items[child + 1], heap_scores[child], heap_items[child]
        ):
            child += 1
        if not _worse(heap_scores[child], heap_items[child], heap_scores[root], heap_items[root]):
            return
        heap_scores[root], heap_scores[child] = heap_scores[child], heap_scores[root]
        heap_items[root], heap_items[child] = heap_items[child], heap_items[root]
        root = child


@njit(cache=True, nogil=True)
def _offer(heap_scores, heap_items, score, item):
    """Take the entry if it beats the worst kept one. Unfilled places hold (-inf, -1)."""
    if score > heap_scores[0] or (score == heap_scores[0] and score > -np.inf and item < heap_items[0]):
        heap_scores[0] = score
        heap_items[0] = item
        _sift_down(heap_scores, heap_items, 0, heap_scores.shape[0])


@njit(cache=True, nogil=True)
def _sort_best_first(heap_scores, heap_items):
    for last in range(heap_scores.shape[0] - 1, 0, -1):
        heap_scores[0], heap_scores[last] = heap_scores[last], heap_scores[0]
        heap_items[0], heap_items[last] = heap_items[last], heap_items[0]
        _sift_down(heap_scores, heap_items, 0, last)


@njit(cache=True, nogil=True, parallel=True)
def _top_k_cpu(scores_BI, out_starts, out_ends, out_items, in_starts, in_ends, in_items, has_allow, items_BK, best_BK):
    for b in prange(scores_BI.shape[0]):
        row = scores_BI[b]
        heap_scores = best_BK[b]
        heap_items = items_BK[b]
        skip = out_starts[b]
        skip_end = out_ends[b]
        count = in_ends[b] - in_starts[b] if has_allow else row.shape[0]
        for position in range(count):
            item = in_items[in_starts[b] + position] if has_allow else position
            score = row[item]
            if score < heap_scores[0]:
                continue
            while skip < skip_end and out_items[skip] < item:
                skip += 1
            if skip < skip_end and out_items[skip] == item:
                continue
            _offer(heap_scores, heap_items, score, item)
        _sort_best_first(heap_scores, heap_items)
