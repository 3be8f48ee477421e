"""Many rows against a table of items that is packed into tiles: products, and what each row may get.

B rows, I items, D embedding size, T items scored at a time, W words of bits, N numbers in a flat list.

Items are taken in an order, in which each has a place. Whether a row may get an item is a bit of its place, so that what is left out never becomes
a candidate.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from .compiling import INSIDE
from .keys import take_any
from .register_tile import LANES, write_scores
from .tile import MASKED, above, lowest_bit
from .transpose import transpose_items

TILE = np.uint64(256)  # items scored at a time: 64 KB of embeddings at D=64, a share of the L2 cache
WORDS = TILE // np.uint64(MASKED)  # of bits for a tile


def longest_first(item_emb_ID: np.ndarray, bias_I: np.ndarray) -> np.ndarray:
    """Return an order of the items in which the best ones of most rows come early, so that the score to beat rises soon."""
    with np.errstate(over="ignore", invalid="ignore"):
        reach_I = np.sqrt(np.einsum("id,id->i", item_emb_ID, item_emb_ID)) + bias_I
    return np.argsort(-reach_I, kind="stable").astype(np.int32)


@njit(**INSIDE)
def turn(emb_N, first, count, size, packed_N):
    """Lay items out as [D, LANES], so many at a time; all counts are uint64. Returns what `transpose_items` does."""
    read = np.float32(0)
    for lane in range(np.uint64(0), count, LANES):
        panel_N = packed_N[lane * size : (lane + LANES) * size]
        read += transpose_items(emb_N, first + lane, min(LANES, count - lane), size, panel_N, LANES)
    return read


@njit(**INSIDE)
def _pack_tile(t, item_emb_ID, bias_I, order_I, first, end, packed, bias, read_T):
    tile, size = np.int64(TILE), item_emb_ID.shape[1]
    start = first + t * tile
    count = min(tile, end - start)
    gathered_JD = np.empty((count, size), np.float32)
    for j in range(count):
        item = order_I[start + j]
        bias[t, j] = bias_I[item]
        for d in range(size):
            gathered_JD[j, d] = item_emb_ID[item, d]
    read_T[t] = turn(gathered_JD.reshape(-1), np.uint64(0), np.uint64(count), np.uint64(size), packed[t])


@njit(cache=True, nogil=True, parallel=True)
def pack(item_emb_ID, bias_I, order_I, first, end):
    """Lay items first ... end - 1 of an order out in tiles, as `turn` does, padded with zeros; return them and their biases."""
    tile = np.int64(TILE)
    num_tiles = (end - first + tile - 1) // tile
    packed = np.zeros((num_tiles, item_emb_ID.shape[1] * tile), np.float32)
    bias = np.zeros((num_tiles, tile), np.float32)
    read_T = np.zeros(num_tiles, np.float32)
    for t in prange(num_tiles):
        _pack_tile(np.int64(t), item_emb_ID, bias_I, order_I, first, end, packed, bias, read_T)
    return packed, bias


@njit(**INSIDE)
def products(four, packed, bias_T, scores):
    """Score four rows against a tile: four [D, 4], packed as by `turn`, scores [4, T], each flat; each sum begins with the bias and runs in the order of D."""
    none, size = np.uint64(0), np.uint64(len(four)) // np.uint64(4)
    for lane in range(none, TILE, LANES):
        write_scores(four, none, size, packed, lane * size, bias_T, lane, scores, lane, TILE)


@njit(cache=True, nogil=True)
def by_four(query_BD, low, high, fours_XN):
    """Lay queries low ... high - 1 out by four, as [D, 4]."""
    for b in range(low, high):
        for d in range(query_BD.shape[1]):
            fours_XN[(b - low) >> 2, d * 4 + ((b - low) & 3)] = query_BD[b, d]


@njit(**INSIDE)
def _mark(row, lists, places_I, first, end, bits_W):
    """Set a bit for each place in first ... end - 1 whose item the row may get; W words of MASKED places."""
    out_starts, out_ends, out_items, in_starts, in_ends, in_items, has_allow = lists
    bits_W[:] = np.uint32(0)
    if has_allow:
        for n in range(in_starts[row], in_ends[row]):
            if in_items[n] < len(places_I):
                _set(bits_W, places_I[in_items[n]], first, end, True)
    else:
        whole = (end - first) // MASKED
        bits_W[:whole] = ~np.uint32(0)
        for place in range(first + whole * MASKED, end):
            _set(bits_W, place, first, end, True)
    for n in range(out_starts[row], out_ends[row]):
        if out_items[n] < len(places_I):
            _set(bits_W, places_I[out_items[n]], first, end, False)


@njit(**INSIDE)
def _set(bits_W, place, first, end, value):
    if first <= place < end:
        word, bit = (place - first) // MASKED, np.uint32(1) << np.uint32((place - first) % MASKED)
        bits_W[word] = bits_W[word] | bit if value else bits_W[word] & ~bit


@njit(**INSIDE)
def _offer_marked(scores, bits_W, t, order_I, first, k, keys_C, count, floor):
    """Offer the scores of tile t, the first of whose items is at the place `first`, where the bit of the place is set."""
    for part in range(WORDS):
        mask = above(scores, part * np.uint64(MASKED), floor) & bits_W[t * WORDS + part]
        while mask:
            at = part * np.uint64(MASKED) + lowest_bit(mask)
            mask &= mask - np.uint32(1)
            if scores[at] > floor:  # which may have risen
                count, floor = take_any(scores[at], np.int64(order_I[first + at]), k, keys_C, count, floor)
    return count, floor


@njit(**INSIDE)
def _offer_to_some(
    task, query_BD, begin, together, packed, bias, order_I, places_I, first, lists, k, keys_BC, counts_B, floors_B
):
    tile, rows = np.int64(TILE), len(keys_BC)
    low = task * together
    high = min(rows, low + together)
    fours = np.zeros(((together + 3) // 4, query_BD.shape[1] * 4), np.float32)
    by_four(query_BD, begin + low, begin + high, fours)
    scores_UT = np.empty((4, tile), np.float32)
    flat = scores_UT.reshape(-1)
    end = min(len(order_I), first + len(packed) * tile)
    bits_UW = np.empty((together, len(packed) * np.int64(WORDS)), np.uint32)
    for b in range(low, high):
        _mark(begin + b, lists, places_I, first, end, bits_UW[b - low])
    for t in range(len(packed)):
        start = np.uint64(first + t * tile)
        for four in range(low, high, 4):
            products(fours[(four - low) >> 2], packed[t], bias[t], flat)
            for b in range(four, min(high, four + 4)):
                counts_B[b], floors_B[b] = _offer_marked(
                    scores_UT[b - four],
                    bits_UW[b - low],
                    np.uint64(t),
                    order_I,
                    start,
                    k,
                    keys_BC[b],
                    counts_B[b],
                    floors_B[b],
                )


@njit(cache=True, nogil=True, parallel=True)
def offer_products(
    query_BD, begin, together, packed, bias, order_I, places_I, first, lists, k, keys_BC, counts_B, floors_B
):
    """Offer the packed items, from the place `first` of their order on, to rows begin, begin + 1, ... of the queries."""
    for task in prange((len(keys_BC) + together - 1) // together):
        _offer_to_some(
            np.int64(task),
            query_BD,
            begin,
            together,
            packed,
            bias,
            order_I,
            places_I,
            first,
            lists,
            k,
            keys_BC,
            counts_B,
            floors_B,
        )
