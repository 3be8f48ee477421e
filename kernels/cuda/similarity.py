"""The nearest neighbors of sparse vectors on a GPU: one block per requested row and tile of the rows searched.

R rows, C columns, B rows requested, K neighbors, P parts: warps of tiles. A block holds the sums of a tile in shared memory and walks the
columns of its row in order; its threads add to the sums of the rows in a column, which are distinct. So sums run over columns in
ascending order, as on the CPU, and need no atomics. Each warp then keeps the best of a quarter of the tile, from which `topk` selects:
neither sums nor similarities reach memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int32, int64, uint32

from ..comparison import COMMON, Prepared, SearchRequest, finished_plain
from .arrays import to_device
from .keys import BYTE_VALUES, first_from, keep_largest, key_of
from .machine import ALL, LANES, below_lane
from .topk import Answer

THREADS = 128
WARPS = THREADS // LANES
TILE_SUMS = 8192  # numbers of a tile in shared memory

SIGNATURES = {
    "similarities": "void(int32, int32, boolean, float32, float32, int64[::1], int32[::1], float32[::1], float32[::1], "
    "float32[::1], int32[::1], int64[::1], int64[::1], int64[::1], int32[::1], float32[::1], float32[::1], int64, int64, "
    "uint64[:, :, ::1], int32[:, ::1])",
}
BLOCKS = dict.fromkeys(SIGNATURES, THREADS)
SHARED_BYTES_AT_64 = dict.fromkeys(SIGNATURES, 4 * TILE_SUMS)

_finished = cuda.jit(device=True)(finished_plain)


class Searched(NamedTuple):
    """The searched vectors, on the device: places of rows in columns ascend; what is of a row is in the order of rows."""

    starts_C1: Any
    places_N: Any
    values_N: Any
    scale_R: Any
    sizes_R: Any
    order_R: Any  # row at each place


def nearest(prepared: Prepared, request: SearchRequest, k: int) -> tuple[Any, Any]:
    """See `kernels.similarity.nearest`."""
    num_rows = len(prepared.order_R)
    answer = Answer(len(request.rows_B), num_rows, k)
    tile = tile_of(num_rows, prepared.width)
    tiles = -(-num_rows // tile)
    on_host = isinstance(request.values_N, np.ndarray)
    vectors = (
        to_device(request.indptr_R1, np.int64),
        to_device(request.indices_N.view(np.int32) if on_host else request.indices_N, np.int32),
        to_device(request.values_N, np.float32),
        to_device(request.norms_R, np.float32),
    )
    capacity = min(4 * k + 2 * LANES, tile // WARPS)
    for some, keys, counts in answer.chunks(WARPS * tiles, capacity):
        similarities[tiles * len(counts), THREADS, 0, 4 * tile * prepared.width](
            np.int32(prepared.kind),
            np.int32(prepared.width),
            np.bool_(prepared.ones),
            prepared.shrinkage,
            prepared.min_common,
            *_searched(prepared),
            to_device(request.rows_B[some], np.int64),
            to_device(request.itself_B[some], np.int64),
            *vectors,
            tile,
            k,
            keys,
            counts,
        )
        answer.select(some, keys, counts)
    return answer.give_back(request.values_N)


def tile_of(num_rows: int, width: int) -> int:
    """Return how many rows, of `width` sums each, a tile has: as many for each thread."""
    return THREADS * max(1, min(TILE_SUMS // (width * THREADS), -(-num_rows // THREADS)))


def _searched(prepared: Prepared) -> Searched:
    """Return the searched side; it is copied to the device once."""
    if "searched" not in prepared.resident:
        starts, places, values = prepared.columns
        arrays = (
            (starts, np.int64),
            (places, np.int32),
            (values, np.float32),
            (prepared.scale_R, np.float32),
            (np.diff(prepared.vectors.indptr_R1), np.float32),
            (prepared.order_R, np.int32),
        )
        prepared.resident["searched"] = Searched(*(to_device(array, dtype) for array, dtype in arrays))
    return prepared.resident["searched"]


@cuda.jit
def similarities(
    kind, width, ones, shrinkage, min_common, starts_C1, places_N, values_N, scale_R, sizes_R, order_R, rows_B, itself_B,
    indptr_Q1, indices_Q, values_Q, norms_Q, tile, k, keys_BPC, counts_BP
):  # fmt: skip
    """Collect the candidates for neighbors of one row among the rows at the places of one tile."""
    sums = cuda.shared.array(0, float32)
    byte_counts = cuda.shared.array((WARPS, BYTE_VALUES), uint32)
    num_rows = int64(order_R.shape[0])
    at, b = cuda.blockIdx.x // rows_B.shape[0], cuda.blockIdx.x % rows_B.shape[0]  # blocks of one time share a tile
    low = at * tile
    high = min(low + tile, num_rows)
    query = rows_B[b]
    first = indptr_Q1[query]
    size = indptr_Q1[query + 1] - first
    accumulate(
        kind, width, ones, indices_Q, values_Q, first, size, starts_C1, places_N, values_N, low, high, num_rows, sums
    )
    warp = cuda.threadIdx.x // LANES
    part = WARPS * at + warp
    keys_C = keys_BPC[b, part]
    capacity = keys_C.shape[0]
    floor = float32(0)
    count = int64(0)
    for begin in range(low + LANES * warp, high, THREADS):
        place = begin + cuda.laneid
        score = float32(0)
        row = int32(0)
        if place < high and place != itself_B[b]:
            pair = sums[(place - low) * width : (place - low + 1) * width]
            if pair[width - 1] != float32(0):
                row = order_R[place]
                score = _finished(
                    kind, ones, pair, norms_Q[query], scale_R[row], float32(size), sizes_R[row], shrinkage, min_common
                )
        taken = score > float32(0) and score >= floor  # of equals the lower row counts, which may come later
        chosen = uint32(cuda.ballot_sync(ALL, taken))
        if chosen == uint32(0):
            continue
        if count + LANES > capacity and capacity * WARPS < tile:
            floor = keep_largest(keys_C, count, k, byte_counts[warp])
            count = int64(k)
        if taken:
            keys_C[count + below_lane(chosen)] = key_of(score, row)
        count += int64(cuda.popc(chosen))
        cuda.syncwarp()
    if cuda.laneid == 0:
        counts_BP[b, part] = count


@cuda.jit(device=True)
def accumulate(
    kind, width, ones, columns_Q, weights_Q, first, size, starts_C1, places_N, values_N, low, high, num_rows, sums
):
    """Set `sums`, in shared memory, to those of a vector with the rows at places from `low` to `high`.

    The vector is columns_Q and weights_Q from `first` on. Entries of four columns are requested from memory before the first is added.
    """
    begins = cuda.shared.array(THREADS, int64)
    ends = cuda.shared.array(THREADS, int64)
    weights = cuda.shared.array(THREADS, float32)
    thread = int64(cuda.threadIdx.x)
    for at in range(thread, (high - low) * width, THREADS):
        sums[at] = float32(0)
    for staged in range(0, size, THREADS):
        cuda.syncthreads()  # the last stage is read, and the sums are 0
        begin = end = int64(0)
        if staged + thread < size:
            column = columns_Q[first + staged + thread]
            begin, end = starts_C1[column], starts_C1[column + 1]
            if low > 0:
                begin = first_from(places_N, begin, end, low)
            if high < num_rows:
                end = first_from(places_N, begin, end, high)
            weights[thread] = weights_Q[first + staged + thread]
        begins[thread] = begin
        ends[thread] = end
        cuda.syncthreads()
        for column in range(0, min(THREADS, size - staged), 4):
            a = _entry(ones, places_N, values_N, begins[column] + thread, ends[column])
            b = _entry(ones, places_N, values_N, begins[column + 1] + thread, ends[column + 1])
            c = _entry(ones, places_N, values_N, begins[column + 2] + thread, ends[column + 2])
            d = _entry(ones, places_N, values_N, begins[column + 3] + thread, ends[column + 3])
            _add_column(kind, width, ones, column, weights, begins, ends, a, places_N, values_N, low, sums)
            _add_column(kind, width, ones, column + 1, weights, begins, ends, b, places_N, values_N, low, sums)
            _add_column(kind, width, ones, column + 2, weights, begins, ends, c, places_N, values_N, low, sums)
            _add_column(kind, width, ones, column + 3, weights, begins, ends, d, places_N, values_N, low, sums)
    cuda.syncthreads()


@cuda.jit(device=True)
def _entry(ones, places_N, values_N, n, end):
    """An entry's place, -1 past the end, and its value, if values count."""
    if n >= end:
        return int32(-1), float32(0)
    return places_N[n], float32(1) if ones else values_N[n]


@cuda.jit(device=True)
def _add_column(kind, width, ones, column, weights, begins, ends, entry, places_N, values_N, low, sums):
    """Add one common column to the sums of its rows: each thread its entry, then those further on."""
    begin, end = begins[column], ends[column]
    if begin == end:
        return
    x = weights[column]
    if entry[0] >= int32(0):
        _add(kind, width, ones, x, entry[1], sums, (entry[0] - low) * width)
    for n in range(begin + THREADS + cuda.threadIdx.x, end, THREADS):
        _add(kind, width, ones, x, values_N[n], sums, (places_N[n] - low) * width)
    cuda.syncthreads()  # the next column may have the same rows


@cuda.jit(device=True)
def _add(kind, width, ones, x, y, sums, at):
    """Add one common column to the sums of a pair."""
    if ones:
        sums[at] += float32(1)
        return
    sums[at] += x * y
    if width == 1:
        return
    sums[at + width - 1] += float32(1)
    if width == 2:
        return
    sums[at + 1] += x * x
    sums[at + 2] += y * y
    if kind != COMMON:
        sums[at + 3] += x
        sums[at + 4] += y
