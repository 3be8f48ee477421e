"""Products of queries with items on a GPU, tile by tile in registers; only candidates for the best k are written.

B rows, I items, D embedding size; P parts of the items, C candidates held for a row and part; T items of a tile.

A block owns some rows and walks over the tiles of its part of the items. Per tile, slabs of DEPTH coordinates pass through shared
memory, the next being loaded into registers (16 bytes at a time) while the present one is multiplied; a thread computes 8 x 8 products,
or 1 x 8 for few queries. Sums run over D in order, so that a row gets the same result alone and in a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64, uint32

from .keys import BYTE_VALUES, contains, keep_largest, key_of
from .machine import LANES, bounds, load_four, load_line

THREADS = 256  # 16 x 16
SIDE = 16
TILE = 128  # items of a tile: eight of each thread
DEPTH = 16  # coordinates in shared memory at a time
STRIDE = TILE + 4  # of a coordinate in shared memory: a slab is stored without bank conflicts
SLAB = DEPTH * STRIDE
WARPS = THREADS // LANES
MANY_ROWS, FEW_ROWS = 128, 16

_LISTS = "int64[::1], int64[::1], int32[::1], int64[::1], int64[::1], int32[::1], boolean"
_PRODUCTS = f"void(float32[:, ::1], float32[:, ::1], float32[::1], {_LISTS}, int64, boolean, int64, uint64[:, :, ::1], int32[:, ::1])"
SIGNATURES = {"products_of_many": _PRODUCTS, "products_of_few": _PRODUCTS}
BLOCKS = {"products_of_many": THREADS, "products_of_few": THREADS}


@cuda.jit(device=True)
def _place(thread, n):
    """The n-th of eight places of a thread along a side: four neighbors, and four half a tile away, so that reads have no bank conflicts."""
    return 4 * thread + n % 4 + n // 4 * 64


@cuda.jit(device=True)
def _fetch(table_RD, first, lines, end, start, part, is_wide):
    """Load one of a thread's fours of a slab: coordinates start ... start + DEPTH of `lines` rows."""
    four = int64(uint32(cuda.threadIdx.x)) + part * THREADS
    row = first + four // (DEPTH // 4)
    inside = four < lines * (DEPTH // 4) and row < end
    return load_line(table_RD, row, start + four % (DEPTH // 4) * 4, inside, is_wide)


@cuda.jit(device=True)
def _put(values, lines, part, stored):
    """Store the four in shared memory, one line per coordinate."""
    four = int64(uint32(cuda.threadIdx.x)) + part * THREADS
    if four < lines * (DEPTH // 4):
        at = four % (DEPTH // 4) * (4 * STRIDE) + four // (DEPTH // 4)
        stored[at] = values[0]
        stored[at + STRIDE] = values[1]
        stored[at + 2 * STRIDE] = values[2]
        stored[at + 3 * STRIDE] = values[3]


@cuda.jit(device=True)
def _eight(stored, line, thread):
    """Read a thread's eight places of a line."""
    return load_four(stored, line + 4 * thread) + load_four(stored, line + 4 * thread + 64)


@cuda.jit(device=True)
def _add_times(sums, scale, values):
    """Return sums + scale * values, of eight. Tuples stay in registers, which an array with an index might not."""
    return (
        sums[0] + scale * values[0],
        sums[1] + scale * values[1],
        sums[2] + scale * values[2],
        sums[3] + scale * values[3],
        sums[4] + scale * values[4],
        sums[5] + scale * values[5],
        sums[6] + scale * values[6],
        sums[7] + scale * values[7],
    )


@cuda.jit(device=True)
def _hit(sums, floor, bit):
    """Return the bit if any of eight sums is above the floor."""
    low = sums[0] > floor or sums[1] > floor or sums[2] > floor or sums[3] > floor
    high = sums[4] > floor or sums[5] > floor or sums[6] > floor or sums[7] > floor
    return uint32(bit) if low or high else uint32(0)


@cuda.jit(device=True)
def _lay_out(sums, thread, stored):
    """Store a thread's eight sums so that they have an index."""
    stored[thread] = sums[0]
    stored[thread + THREADS] = sums[1]
    stored[thread + 2 * THREADS] = sums[2]
    stored[thread + 3 * THREADS] = sums[3]
    stored[thread + 4 * THREADS] = sums[4]
    stored[thread + 5 * THREADS] = sums[5]
    stored[thread + 6 * THREADS] = sums[6]
    stored[thread + 7 * THREADS] = sums[7]


@cuda.jit(device=True)
def _bias(bias_I, item, end):
    return bias_I[item] if item < end else float32(0)


def _made(each: int) -> Any:
    """Return the device function for blocks of 16 `each` rows; `each` is 8 or 1."""
    lines = SIDE * each

    @cuda.jit(device=True)
    def walk(
        query_BD,
        item_emb_ID,
        bias_I,
        out_starts,
        out_ends,
        out_items,
        in_starts,
        in_ends,
        in_items,
        has_allow,
        share,
        is_wide,
        k,
        keys_BPC,
        counts_BP,
    ):
        some_query = cuda.shared.array(SLAB, float32, alignment=16)
        some_items = cuda.shared.array(SLAB, float32, alignment=16)
        floors = cuda.shared.array(lines, float32)
        counts = cuda.shared.array(lines, int32)
        byte_counts = cuda.shared.array((WARPS, BYTE_VALUES), uint32)
        thread = int64(uint32(cuda.threadIdx.x))  # unsigned first: an index that cannot be negative needs no test
        x, y = thread % SIDE, thread // SIDE
        warp = thread // LANES
        rows, size = query_BD.shape
        part = cuda.blockIdx.y
        first_row = cuda.blockIdx.x * lines
        end = min(item_emb_ID.shape[0], (part + 1) * share)
        capacity = keys_BPC.shape[2]
        for line in range(thread, lines, THREADS):
            floors[line] = float32(-np.inf)
            counts[line] = 0
        for first in range(part * share, end, TILE):
            low, high = first + 4 * x, first + 4 * x + 64
            s0 = (
                _bias(bias_I, low, end),
                _bias(bias_I, low + 1, end),
                _bias(bias_I, low + 2, end),
                _bias(bias_I, low + 3, end),
                _bias(bias_I, high, end),
                _bias(bias_I, high + 1, end),
                _bias(bias_I, high + 2, end),
                _bias(bias_I, high + 3, end),
            )
            s1 = s2 = s3 = s4 = s5 = s6 = s7 = s0
            q0 = _fetch(query_BD, first_row, lines, rows, 0, 0, is_wide)
            q1 = _fetch(query_BD, first_row, lines, rows, 0, 1, is_wide)
            i0 = _fetch(item_emb_ID, first, TILE, end, 0, 0, is_wide)
            i1 = _fetch(item_emb_ID, first, TILE, end, 0, 1, is_wide)
            for start in range(0, size, DEPTH):
                cuda.syncthreads()  # the last slab has been read
                _put(q0, lines, 0, some_query)
                _put(q1, lines, 1, some_query)
                _put(i0, TILE, 0, some_items)
                _put(i1, TILE, 1, some_items)
                cuda.syncthreads()
                q0 = _fetch(query_BD, first_row, lines, rows, start + DEPTH, 0, is_wide)
                q1 = _fetch(query_BD, first_row, lines, rows, start + DEPTH, 1, is_wide)
                i0 = _fetch(item_emb_ID, first, TILE, end, start + DEPTH, 0, is_wide)
                i1 = _fetch(item_emb_ID, first, TILE, end, start + DEPTH, 1, is_wide)
                for d in range(DEPTH):
                    items = _eight(some_items, d * STRIDE, x)
                    if each == 8:
                        query = _eight(some_query, d * STRIDE, y)
                        s0 = _add_times(s0, query[0], items)
                        s1 = _add_times(s1, query[1], items)
                        s2 = _add_times(s2, query[2], items)
                        s3 = _add_times(s3, query[3], items)
                        s4 = _add_times(s4, query[4], items)
                        s5 = _add_times(s5, query[5], items)
                        s6 = _add_times(s6, query[6], items)
                        s7 = _add_times(s7, query[7], items)
                    else:
                        s0 = _add_times(s0, some_query[d * STRIDE + y], items)
            cuda.syncthreads()
            if each == 8:
                hits = _hit(s0, floors[4 * y], 1) | _hit(s1, floors[4 * y + 1], 2)
                hits |= _hit(s2, floors[4 * y + 2], 4) | _hit(s3, floors[4 * y + 3], 8)
                hits |= _hit(s4, floors[4 * y + 64], 16) | _hit(s5, floors[4 * y + 65], 32)
                hits |= _hit(s6, floors[4 * y + 66], 64) | _hit(s7, floors[4 * y + 67], 128)
            else:
                hits = _hit(s0, floors[y], 1)
            while hits:
                mine = int64(cuda.ffs(hits)) - 1
                hits &= hits - uint32(1)
                line = y
                sums = s0
                if each == 8:
                    line = _place(y, mine)
                    if mine == 1:
                        sums = s1
                    elif mine == 2:
                        sums = s2
                    elif mine == 3:
                        sums = s3
                    elif mine == 4:
                        sums = s4
                    elif mine == 5:
                        sums = s5
                    elif mine == 6:
                        sums = s6
                    elif mine == 7:
                        sums = s7
                _lay_out(sums, thread, some_items)
                row = first_row + line
                for c in range(8):
                    item = first + _place(x, c)
                    score = some_items[c * THREADS + thread]
                    if row < rows and item < end and score > floors[line]:
                        taken = not has_allow or contains(in_items, in_starts[row], in_ends[row], item)
                        if taken and not contains(out_items, out_starts[row], out_ends[row], item):
                            slot = cuda.atomic.add(counts, line, 1)
                            keys_BPC[row, part, slot] = key_of(score, item)
            cuda.syncthreads()
            if capacity < share:
                for line in range(warp, lines, WARPS):
                    if counts[line] + TILE > capacity:
                        keys_C = keys_BPC[first_row + line, part]
                        floors[line] = keep_largest(keys_C, counts[line], k, byte_counts[warp])
                        counts[line] = k
                cuda.syncthreads()
        cuda.syncthreads()
        for line in range(thread, min(lines, rows - first_row), THREADS):
            counts_BP[first_row + line, part] = counts[line]

    return walk


_walk_many, _walk_few = _made(8), _made(1)


@cuda.jit(**bounds(THREADS, 2))
def products_of_many(
    query_BD,
    item_emb_ID,
    bias_I,
    out_starts,
    out_ends,
    out_items,
    in_starts,
    in_ends,
    in_items,
    has_allow,
    share,
    is_wide,
    k,
    keys_BPC,
    counts_BP,
):
    """Collect the candidates of 128 rows from one part of the items: a block each."""
    _walk_many(
        query_BD,
        item_emb_ID,
        bias_I,
        out_starts,
        out_ends,
        out_items,
        in_starts,
        in_ends,
        in_items,
        has_allow,
        share,
        is_wide,
        k,
        keys_BPC,
        counts_BP,
    )


@cuda.jit(**bounds(THREADS, 2))
def products_of_few(
    query_BD,
    item_emb_ID,
    bias_I,
    out_starts,
    out_ends,
    out_items,
    in_starts,
    in_ends,
    in_items,
    has_allow,
    share,
    is_wide,
    k,
    keys_BPC,
    counts_BP,
):
    """Collect the candidates of 16 rows from one part of the items: a block each."""
    _walk_few(
        query_BD,
        item_emb_ID,
        bias_I,
        out_starts,
        out_ends,
        out_items,
        in_starts,
        in_ends,
        in_items,
        has_allow,
        share,
        is_wide,
        k,
        keys_BPC,
        counts_BP,
    )
