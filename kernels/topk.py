"""The top k of many scores, given or computed from embeddings, with items excluded or allowed.

B rows, I items, K list, D embedding size; C candidates kept per row, T items scored at a time, N numbers in a flat list.

Each row collects candidates, as 64-bit keys ordered by score and then by lower item, until a buffer is full; then the best k stay
and the worst of them becomes the score to beat. Blocks with nothing above it are skipped at sixteen floats per instruction, so a
long row costs little more than reading it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import get_num_threads, njit, prange

from .compiling import INSIDE
from .device import Device, resolve
from .item_lists import ItemLists, flat_lists, read_only
from .keys import first_from, take, write_list
from .packed import TILE, by_four, longest_first, offer_products, pack, products, turn
from .scan import merge, scan
from .threads import at_most
from .tile import MASKED, above, lowest_bit

MOST_USERS = 64  # rows processed per tile of items while it is in cache
PACKED_BYTES = 64 << 20  # item embeddings packed into tiles at a time
KEPT_BYTES = 64 << 20  # candidates held at a time
FEW = 2  # queries that are answered from the plain table
MANY = 256  # queries up to which each tile is packed for itself, in cache; beyond, the table is, and serves many blocks of queries
REPAID = 64  # items for each query up to which sorting them is repaid
NO_BIAS = np.zeros(0, np.float32)


def top_k(
    scores_BI: Any,
    k: int,
    *,
    exclude: ItemLists | None = None,
    allow: ItemLists | None = None,
    device: Device = "auto",
) -> tuple[Any, Any]:
    """Return the k best items of each row, best first; ties go to the lower item.

    Args:
        scores_BI: float32, C-contiguous; NaN and -inf are never returned.
        k: length of the list, at least 1.
        exclude: items that are never returned.
        allow: the only items returned, each once in its list; None allows all.
        device: where to compute; the result does not depend on it.

    Returns:
        int32 items [B, K] padded with -1, float32 scores [B, K] padded with -inf; on the device if the scores are there.

    Raises:
        ValueError: k below 1.
    """
    _check_length(k)
    if resolve(device) == "cuda":
        from .cuda import topk as twin

        return twin.top_k(scores_BI, k, exclude=exclude, allow=allow)
    rows, num_items = scores_BI.shape
    items_BK = np.empty((rows, k), np.int32)
    best_BK = np.empty((rows, k), np.float32)
    lists = flat_lists(exclude, allow, rows)
    with at_most(rows):
        _top_k_cpu(read_only(scores_BI, np.float32), lists, num_candidates(k, num_items), items_BK, best_BK)
    return items_BK, best_BK


def top_k_dot(
    query_BD: Any,
    item_emb_ID: Any,
    k: int,
    *,
    item_bias_I: Any = None,
    exclude: ItemLists | None = None,
    allow: ItemLists | None = None,
    device: Device = "auto",
) -> tuple[Any, Any]:
    """Return the k items of each row with the largest `item_bias + <query, item_emb>`; ties go to the lower item.

    Scores are held one tile at a time, so memory does not grow with B times I. Each is summed in the order of D, so that
    a row gets the same result alone and in a batch: one or two queries are answered from the plain table (`scan`), more from packed
    tiles. Nothing of the table is kept between two calls, so that it may be written in between; up to 256 queries take no memory of its size.

    Args:
        query_BD: float32.
        item_emb_ID: float32, the same D.
        k: length of the list, at least 1.
        item_bias_I: float32, added to the products; None adds nothing.
        exclude: items that are never returned.
        allow: the only items returned, each once in its list; None allows all.
        device: where to compute; scores agree up to float32 rounding.

    Returns:
        int32 items [B, K] padded with -1, float32 scores [B, K] padded with -inf; on the device if the queries are there.

    Raises:
        ValueError: k below 1, or shapes that do not match.
    """
    _check_length(k)
    (rows, size), (num_items, item_size) = query_BD.shape, item_emb_ID.shape
    if size != item_size:
        raise ValueError(f"queries and items must have the same embedding size, got {size} and {item_size}")
    if item_bias_I is not None and item_bias_I.shape != (num_items,):
        raise ValueError(f"item_bias must hold one number for each of {num_items} items, got shape {item_bias_I.shape}")
    if resolve(device) == "cuda":
        from .cuda import topk as twin

        return twin.top_k_dot(query_BD, item_emb_ID, k, item_bias_I=item_bias_I, exclude=exclude, allow=allow)
    query_BD = read_only(query_BD, np.float32)
    item_emb_ID = read_only(item_emb_ID, np.float32)
    items_BK = np.empty((rows, k), np.int32)
    best_BK = np.empty((rows, k), np.float32)
    lists = flat_lists(exclude, allow, rows)
    num_kept = num_candidates(k, num_items)
    bias_I = read_only(NO_BIAS if item_bias_I is None else item_bias_I, np.float32)
    tile = int(TILE)
    if 8 * rows * num_kept * get_num_threads() <= KEPT_BYTES:
        if rows <= FEW or (allow is not None and (lists[4] - lists[3]).sum() <= num_items):
            scan(query_BD, item_emb_ID, bias_I, lists, num_kept, items_BK, best_BK)
            return items_BK, best_BK
        if rows <= MANY:
            parts = max(1, min(get_num_threads(), num_items // tile))
            keys_PBC = np.empty((parts, rows, num_kept), np.uint64)
            counts_PB = np.zeros((parts, rows), np.int64)
            fours = np.zeros((-(-rows // 4), size * 4), np.float32)
            by_four(query_BD, 0, rows, fours)
            read_P = np.zeros(parts, np.float32)
            _offer_tiles(fours, item_emb_ID, bias_I, lists, k, keys_PBC, counts_PB, read_P)
            merge(keys_PBC, counts_PB, items_BK, best_BK)
            return items_BK, best_BK
    if not len(bias_I):
        bias_I = read_only(np.zeros(num_items), np.float32)
    chunk = max(4, min(rows, KEPT_BYTES // (8 * num_kept)))
    stretch = max(1, PACKED_BYTES // (4 * max(size, 1) * tile)) * tile
    order_I = np.arange(num_items, dtype=np.int32)
    if num_items <= REPAID * rows:
        order_I = longest_first(item_emb_ID, bias_I)
    places_I = np.empty_like(order_I)
    places_I[order_I] = np.arange(num_items, dtype=np.int32)
    firsts = range(0, max(num_items, 1), stretch)
    packed = None
    for begin in range(0, rows, chunk):
        some = slice(begin, min(rows, begin + chunk))
        kept = some.stop - begin
        keys_BC = np.empty((kept, num_kept), np.uint64)
        counts_B = np.zeros(kept, np.int64)
        floors_B = np.full(kept, -np.inf, np.float32)
        share = -(-kept // (4 * get_num_threads())) * 4  # per thread, a multiple of four
        together = max(4, min(MOST_USERS, share))
        for first in firsts:
            if packed is None or len(firsts) > 1:
                packed = pack(item_emb_ID, bias_I, order_I, first, min(num_items, first + stretch))
            offered = (*packed, order_I, places_I, first)
            offer_products(query_BD, begin, together, *offered, lists, k, keys_BC, counts_B, floors_B)
        _write_all(keys_BC, counts_B, items_BK[some], best_BK[some])
    return items_BK, best_BK


def num_candidates(k: int, num_items: int) -> int:
    """Return how many candidates a row holds before it is cut to k; never fewer than k."""
    return max(k, min(num_items, k + max(128, k // 2)))


def _check_length(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


@njit(cache=True, nogil=True)
def offer(scores, first, size, row, lists, k, keys_C, count, floor):
    """Offer the scores of items first ... first + size - 1. Must be called in ascending order of items.

    Lists are passed whole, not as row slices: all threads would update the slices' reference counts on one cache line.
    """
    out_starts, out_ends, out_items, in_starts, in_ends, in_items, has_allow = lists
    end = first + size
    out_end = out_ends[row]
    out = first_from(out_items, out_starts[row], out_end, first)
    if has_allow:
        in_end = in_ends[row]
        inside = first_from(in_items, in_starts[row], in_end, first)
        while inside < in_end and in_items[inside] < end:
            item = in_items[inside]
            inside += 1
            score = scores[item - first]
            if score > floor:
                while out < out_end and out_items[out] < item:
                    out += 1
                if out == out_end or out_items[out] != item:
                    count, floor = take(score, np.int64(item), k, keys_C, count, floor)
        return count, floor
    whole = np.uint64(size) // np.uint64(MASKED) * np.uint64(MASKED)
    for start in range(np.uint64(0), whole, np.uint64(MASKED)):
        mask = above(scores, start, floor)
        while mask:
            t = start + lowest_bit(mask)
            mask &= mask - np.uint32(1)
            if scores[t] > floor:  # which may have risen
                item = first + np.int64(t)
                while out < out_end and out_items[out] < item:
                    out += 1
                if out == out_end or out_items[out] != item:
                    count, floor = take(scores[t], item, k, keys_C, count, floor)
    for t in range(whole, np.uint64(size)):
        if scores[t] > floor:
            item = first + np.int64(t)
            while out < out_end and out_items[out] < item:
                out += 1
            if out == out_end or out_items[out] != item:
                count, floor = take(scores[t], item, k, keys_C, count, floor)
    return count, floor


@njit(cache=True, nogil=True, parallel=True)
def _top_k_cpu(scores_BI, lists, num_kept, items_BK, best_BK):
    for b in prange(scores_BI.shape[0]):
        keys_C = np.empty(num_kept, np.uint64)
        count, _ = offer(
            scores_BI[b],
            np.int64(0),
            scores_BI.shape[1],
            np.int64(b),
            lists,
            items_BK.shape[1],
            keys_C,
            np.int64(0),
            np.float32(-np.inf),
        )
        write_list(keys_C[:count], items_BK[b], best_BK[b])


@njit(cache=True, nogil=True, parallel=True)
def _write_all(keys_BC, counts_B, items_BK, best_BK):
    for b in prange(len(keys_BC)):
        write_list(keys_BC[b, : counts_B[b]], items_BK[b], best_BK[b])


# Products: four rows with a tile of items. Sums run over D in order, with one rounding per step, independent of a pair's position


@njit(**INSIDE)
def _offer_part(part, fours, item_emb_ID, bias_I, lists, k, keys_PBC, counts_PB, read_P):
    """Offer a part of the items to all queries, packing a tile at a time, in cache."""
    parts, rows, _ = keys_PBC.shape
    num_items = len(item_emb_ID)
    tile = np.int64(TILE)
    num_tiles = (num_items + tile - 1) // tile
    emb_N, width = item_emb_ID.reshape(-1), np.uint64(item_emb_ID.shape[1])
    packed = np.zeros(fours.shape[1] // 4 * tile, np.float32)
    bias_T = np.zeros(tile, np.float32)
    scores_UT = np.empty((4, tile), np.float32)
    flat = scores_UT.reshape(-1)
    floors_B = np.full(rows, -np.inf, np.float32)
    for t in range(num_tiles * part // parts, num_tiles * (part + 1) // parts):
        start = t * tile
        size = min(tile, num_items - start)
        read_P[part] += turn(emb_N, np.uint64(start), np.uint64(size), width, packed)
        if len(bias_I):
            for j in range(size):
                bias_T[j] = bias_I[start + j]
        for four in range(0, rows, 4):
            products(fours[four >> 2], packed, bias_T, flat)
            for b in range(four, min(rows, four + 4)):
                counts_PB[part, b], floors_B[b] = offer(
                    scores_UT[b - four],
                    start,
                    size,
                    b,
                    lists,
                    k,
                    keys_PBC[part, b],
                    counts_PB[part, b],
                    floors_B[b],
                )


@njit(cache=True, nogil=True, parallel=True)
def _offer_tiles(fours, item_emb_ID, bias_I, lists, k, keys_PBC, counts_PB, read_P):
    for part in prange(len(keys_PBC)):
        _offer_part(np.int64(part), fours, item_emb_ID, bias_I, lists, k, keys_PBC, counts_PB, read_P)
