"""The top k inner products of a few queries with all items, from the plain row-major table: nothing is packed, nothing is kept.

B queries, I items, K list, D embedding size; C candidates kept per query, P parts of the items, T items scored at a time, N numbers in a
flat table.

A sum in the order of D, which is what a score is here, cannot use vector instructions from a row-major table; a sum in any order can, at
the speed of memory. So each product is first summed in any order, and then exactly if it could exceed the score to beat. Each of the two
sums differs from the true one by at most about (D + 2) 2^-24 times the sum of |query_d item_d| (Higham 2002, "Accuracy and Stability of
Numerical Algorithms", section 3.1), so hardly more than the returned items are summed twice. A single query sums |query_d item_d| in the
same pass; several share a bound on it, for which the largest number of each span is looked for once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from .compiling import INSIDE
from .keys import first_from, take, write_list
from .tile import prefetch_at

SPAN = np.uint64(64)  # items scored at a time: 16 KB of embeddings at D=64, half of the L1 cache
FETCHED = np.uint64(512)  # numbers of a table to fetch ahead, eight items at D=64: memory does not wait for arithmetic
LINE = np.uint64(16)  # numbers in a cache line
LEAST = 1 << 16  # numbers of a table that are worth another thread
OVERFLOW = np.float32(1e38)  # beyond this, one order may overflow where another does not: then there is no bound
BELOW_NORMAL = np.float32(2.0**-101)  # times `share`, what products may lose that are below the smallest normal number


def scan(
    query_BD: np.ndarray,
    item_emb_ID: np.ndarray,
    bias_I: np.ndarray,
    lists: tuple[Any, ...],
    num_kept: int,
    items_BK: np.ndarray,
    best_BK: np.ndarray,
) -> None:
    """Write the list of each query. Float32 C-contiguous arrays; `bias_I` is empty if there is none."""
    rows, (num_items, size) = len(query_BD), item_emb_ID.shape
    parts = max(1, min(get_num_threads(), num_items * size // LEAST))
    keys_PBC = np.empty((parts, rows, num_kept), np.uint64)
    counts_PB = np.zeros((parts, rows), np.int64)
    share = 4 * (size + 8) * 2.0**-24  # twice what the two sums may differ by, for the rounding of the bound itself
    with np.errstate(over="ignore"):
        reach_B = np.abs(query_BD).sum(axis=1, dtype=np.float64).astype(np.float32)
    table = item_emb_ID.reshape(-1)
    _scan(
        query_BD,
        reach_B,
        np.float32(share),
        table,
        table.view(np.uint32),
        num_items,
        bias_I,
        lists,
        best_BK.shape[1],
        keys_PBC,
        counts_PB,
    )
    merge(keys_PBC, counts_PB, items_BK, best_BK)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _in_order(query_D, emb_N, start, bias):
    """Return the score: the bias plus the inner product, summed in the order of D with one rounding per step."""
    total = bias
    for d in range(np.uint64(len(query_D))):
        total += query_D[d] * emb_N[start + d]
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _largest(bits_N, start, stop):
    """Return the largest absolute value in a part of the table; NaN counts as larger than infinity."""
    largest = np.uint32(0)
    for n in range(start, stop):
        largest = max(largest, bits_N[n] & np.uint32((1 << 31) - 1))
    return np.uint32(largest).view(np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def _margin(reach, share):
    """Return by how much a score may exceed the sum in any order, for a bound on the sum of its terms' absolute values."""
    return share * reach + share * BELOW_NORMAL if reach < OVERFLOW else np.float32(np.inf)


@njit(cache=True, nogil=True)
def _excluded(item, items, start, end):
    at = first_from(items, start, end, item)
    return at < end and items[at] == item


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _reach_one(query_D, emb_N, first, stop, share, near_T):
    """Write what the scores of items first ... stop - 1 cannot exceed, without bias."""
    size = np.uint64(len(query_D))
    for item in range(first, stop):
        start = item * size
        for d in range(np.uint64(0), size, LINE):
            prefetch_at(emb_N, start + FETCHED + d)
        total = np.float32(0)
        reach = np.float32(0)
        for d in range(size):
            product = query_D[d] * emb_N[start + d]
            total += product
            reach += abs(product)
        near_T[item - first] = total + _margin(reach, share)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _reach(query_D, emb_N, first, stop, margin, near_T):
    """The same for a margin that holds for all of them."""
    size = np.uint64(len(query_D))
    for item in range(first, stop):
        start = item * size
        total = np.float32(0)
        for d in range(size):
            total += query_D[d] * emb_N[start + d]
        near_T[item - first] = total + margin


@njit(cache=True, nogil=True, error_model="numpy")
def _add_bias(bias_I, first, stop, share, near_T):
    for item in range(first, stop):
        bias = bias_I[item]
        near_T[item - first] = (
            near_T[item - first] + bias + _margin(abs(bias), share) if bias > -np.inf else np.float32(-np.inf)
        )


@njit(cache=True, nogil=True, error_model="numpy")
def _num_above(near_T, size, floor):
    """Return how many of the first `size` may exceed the floor; NaN may."""
    above = np.uint32(0)
    for t in range(size):
        above += np.uint32(not near_T[t] <= floor)
    return above


@njit(cache=True, nogil=True, error_model="numpy")
def _offer_near(query_BD, b, first, stop, table, near_T, part, kept):
    """Offer items first ... stop - 1 to query b where they may exceed its score to beat."""
    emb_N, bias_I, share, lists, k = table
    keys_PBC, counts_PB, floors_B = kept
    if len(bias_I):
        _add_bias(bias_I, first, stop, share, near_T)
    floor = floors_B[b]
    if _num_above(near_T, stop - first, floor) == 0:
        return
    query_D = query_BD[b]
    size = np.uint64(len(query_D))
    keys_C, count = keys_PBC[part, b], counts_PB[part, b]
    out_starts, out_ends, out_items = lists[:3]
    for item in range(first, stop):
        if not near_T[item - first] <= floor:
            score = _in_order(query_D, emb_N, item * size, bias_I[item] if len(bias_I) else np.float32(0))
            if score > floor and not _excluded(np.int64(item), out_items, out_starts[b], out_ends[b]):
                count, floor = take(score, np.int64(item), k, keys_C, count, floor)
    counts_PB[part, b], floors_B[b] = count, floor


@njit(**INSIDE)
def _scan_part(part, query_BD, reach_B, share, emb_N, bits_N, num_items, bias_I, lists, k, keys_PBC, counts_PB):
    _, _, _, in_starts, in_ends, in_items, has_allow = lists
    parts, rows, _ = keys_PBC.shape
    size = np.uint64(query_BD.shape[1])
    begin = num_items * part // parts
    end = num_items * (part + 1) // parts
    near_T = np.empty(SPAN, np.float32)
    table = (emb_N, bias_I, share, lists, k)
    kept = (keys_PBC, counts_PB, np.full(rows, -np.inf, np.float32))
    if has_allow:
        for b in range(rows):
            at = first_from(in_items, in_starts[b], in_ends[b], begin)
            while at < in_ends[b] and in_items[at] < end:
                item = np.uint64(in_items[at])
                _reach_one(query_BD[b], emb_N, item, item + np.uint64(1), share, near_T)
                _offer_near(query_BD, b, item, item + np.uint64(1), table, near_T, part, kept)
                at += 1
    elif rows == 1:
        for first in range(np.uint64(begin), np.uint64(end), SPAN):
            stop = min(first + SPAN, np.uint64(end))
            _reach_one(query_BD[0], emb_N, first, stop, share, near_T)
            _offer_near(query_BD, np.int64(0), first, stop, table, near_T, part, kept)
    else:
        for first in range(np.uint64(begin), np.uint64(end), SPAN):
            stop = min(first + SPAN, np.uint64(end))
            largest = _largest(bits_N, first * size, stop * size)
            for b in range(rows):
                _reach(query_BD[b], emb_N, first, stop, _margin(reach_B[b] * largest, share), near_T)
                _offer_near(query_BD, b, first, stop, table, near_T, part, kept)


@njit(cache=True, nogil=True, parallel=True)
def _scan(query_BD, reach_B, share, emb_N, bits_N, num_items, bias_I, lists, k, keys_PBC, counts_PB):
    for part in prange(len(keys_PBC)):
        _scan_part(
            np.int64(part), query_BD, reach_B, share, emb_N, bits_N, num_items, bias_I, lists, k, keys_PBC, counts_PB
        )


@njit(cache=True, nogil=True)
def merge(keys_PBC, counts_PB, items_BK, best_BK):
    """Write the list of each query from its candidates of every part."""
    parts, rows, most = keys_PBC.shape
    keys = np.empty(parts * most, np.uint64)
    for b in range(rows):
        filled = 0
        for part in range(parts):
            count = counts_PB[part, b]
            for c in range(count):
                keys[filled + c] = keys_PBC[part, b, c]
            filled += count
        write_list(keys[:filled], items_BK[b], best_BK[b])
