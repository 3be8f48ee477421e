"""The top k of many scores on a GPU: radix selection, one block per row, any k.

B rows, I items, K list, D embedding size; P is K rounded up to a power of two. A score becomes an unsigned integer of the same
order, 0 where it may not be returned; combined with the item's complement in the low bits, it is a unique 64-bit key.
Bytes of keys are counted from the top until the k-th best is known, which also breaks ties (Alabi et al. 2012,
"Fast k-selection algorithms for graphics processing units", radix select); the k that remain are sorted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, uint32, uint64

from ..item_lists import ItemLists, or_empty
from .arrays import give_back, to_device

THREADS = 256  # per block, and the number of byte values
SORTED_IN_SHARED = 2048  # longer lists are sorted in global memory
SCRATCH_BYTES = 256 << 20  # scores held at once
MOST_ROWS = 1 << 20  # in one launch
TILE = 128  # rows and items of a block's product
DEPTH = 8  # coordinates in shared memory at a time
EACH = 8  # rows and items of a thread's product: TILE / sqrt(THREADS)

SIGNATURES = {
    "select": "void(uint32[:, ::1], uint32[:, ::1], int64[::1], int64[::1], int32[::1], int64[::1], int64[::1], int32[::1], "
    "boolean, uint64[:, ::1], int32[:, ::1], uint32[:, ::1])",
    "products": "void(float32[:, ::1], float32[:, ::1], float32[::1], float32[:, ::1])",
}


def top_k(scores_BI: Any, k: int, *, exclude: ItemLists | None, allow: ItemLists | None) -> tuple[Any, Any]:
    """See `kernels.topk.top_k`."""
    scores = to_device(scores_BI, np.float32)
    rows, num_items = scores.shape
    answer = _Answer(rows, num_items, k, exclude, allow)
    for some in answer.chunks():
        answer.select(scores[some], cuda.device_array((some.stop - some.start, num_items), np.float32), some)
    return answer.give_back(scores_BI)


def top_k_dot(
    query_BD: Any, item_emb_ID: Any, k: int, *, item_bias_I: Any, exclude: ItemLists | None, allow: ItemLists | None
) -> tuple[Any, Any]:
    """See `kernels.topk.top_k_dot`."""
    num_items = item_emb_ID.shape[0]
    query = to_device(query_BD, np.float32)
    item_emb = to_device(item_emb_ID, np.float32)
    bias = to_device(np.zeros(num_items, np.float32) if item_bias_I is None else item_bias_I, np.float32)
    answer = _Answer(query.shape[0], num_items, k, exclude, allow)
    for some in answer.chunks():
        rows = some.stop - some.start
        scores = cuda.device_array((rows, num_items), np.float32)
        products[(-(-num_items // TILE), -(-rows // TILE)), THREADS](query[some], item_emb, bias, scores)
        answer.select(scores, scores, some)
    return answer.give_back(query_BD)


class _Answer:
    """The result lists of B rows, and which items they may contain."""

    def __init__(self, rows: int, num_items: int, k: int, exclude: ItemLists | None, allow: ItemLists | None) -> None:
        self.rows, self.num_items = rows, num_items
        self.items = cuda.device_array((rows, k), np.int32)
        self.best = cuda.device_array((rows, k), np.float32)
        self.has_allow = allow is not None
        self.lists = [
            to_device(column, dtype)
            for lists in (exclude, allow)
            for column, dtype in zip(or_empty(lists, rows), (np.int64, np.int64, np.int32), strict=True)
        ]
        self.width = 1 << (k - 1).bit_length()

    def chunks(self) -> list[slice]:
        """Chunks of rows whose scores fit the scratch memory; none where nothing can be returned."""
        if self.num_items == 0:
            self.items.copy_to_device(np.full(self.items.shape, -1, np.int32))
            self.best.copy_to_device(np.full(self.best.shape, -np.inf, np.float32))
            return []
        bytes_a_row = 4 * self.num_items + 8 * self.width
        step = max(1, min(MOST_ROWS, SCRATCH_BYTES // bytes_a_row))
        return [slice(begin, min(self.rows, begin + step)) for begin in range(0, self.rows, step)]

    def select(self, scores: Any, scratch: Any, some: slice) -> None:
        """Fill the lists of some rows; the scratch memory may be the scores' own."""
        rows = some.stop - some.start
        out_starts, out_ends, out_items, in_starts, in_ends, in_items = self.lists
        sorting = cuda.device_array((rows, self.width if self.width > SORTED_IN_SHARED else 1), np.uint64)
        select[rows, THREADS](
            scores.view(np.uint32),
            scratch.view(np.uint32),
            out_starts[some],
            out_ends[some],
            out_items,
            in_starts[some],
            in_ends[some],
            in_items,
            self.has_allow,
            sorting,
            self.items[some],
            self.best.view(np.uint32)[some],
        )

    def give_back(self, like: Any) -> tuple[Any, Any]:
        return give_back(self.items, like), give_back(self.best, like)


@cuda.jit(device=True)
def _ordered(bits):
    """A float32's bits as an integer of the same order; 0 for NaN and -inf."""
    if bits & uint32(0x7FFFFFFF) > uint32(0x7F800000) or bits == uint32(0xFF800000):
        return uint32(0)
    if bits == uint32(0x80000000):  # treat -0 as 0
        return uint32(0x80000000)
    if bits >> uint32(31):
        return ~bits
    return bits | uint32(0x80000000)


@cuda.jit(device=True)
def _float_bits(ordered):
    if ordered >> uint32(31):
        return ordered & uint32(0x7FFFFFFF)
    return ~ordered


@cuda.jit(device=True)
def _contains(items, low, high, item):
    end = high
    while low < high:
        middle = (low + high) >> 1
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < end and items[low] == item


@cuda.jit(device=True)
def _key(ordered, item):
    return (uint64(ordered) << uint64(32)) | uint64(uint32(0xFFFFFFFF) - uint32(item))


@cuda.jit(device=True)
def _sort_descending(keys, width):
    """Sort keys[:width], a power of two, with all threads of the block (Batcher 1968, bitonic)."""
    run = 2
    while run <= width:
        step = run >> 1
        while step > 0:
            for pair in range(cuda.threadIdx.x, width >> 1, THREADS):
                low = 2 * pair - (pair & (step - 1))
                high = low + step
                if (keys[low] < keys[high]) == ((low & run) == 0):
                    keys[low], keys[high] = keys[high], keys[low]
            cuda.syncthreads()
            step >>= 1
        run <<= 1


@cuda.jit
def select(
    raw_BI,
    ordered_BI,
    out_starts,
    out_ends,
    out_items,
    in_starts,
    in_ends,
    in_items,
    has_allow,
    sorting_BP,
    items_BK,
    bits_BK,
):
    """Write each row's best K: items, and their scores' bits. One block per row; `ordered_BI` is scratch."""
    counts = cuda.shared.array(THREADS, uint32)
    chosen = cuda.shared.array(3, uint32)  # byte value, keys with it, keys still needed among them
    filled = cuda.shared.array(1, uint32)
    near = cuda.shared.array(SORTED_IN_SHARED, uint64)
    thread = cuda.threadIdx.x
    row = cuda.blockIdx.x
    num_items = raw_BI.shape[1]
    k = items_BK.shape[1]

    for item in range(thread, num_items, THREADS):
        ordered = _ordered(raw_BI[row, item])
        if has_allow and not _contains(in_items, in_starts[row], in_ends[row], item):
            ordered = uint32(0)
        ordered_BI[row, item] = ordered
    cuda.syncthreads()
    for place in range(out_starts[row] + thread, out_ends[row], THREADS):
        ordered_BI[row, out_items[place]] = uint32(0)

    floor = uint64(0)  # keys in the list are at least this, in the masked bits
    mask = uint64(0)
    shift = uint64(64)
    missing = uint32(k)
    same = uint32(0)
    while same != missing:
        shift -= uint64(8)
        counts[thread] = uint32(0)
        cuda.syncthreads()
        for item in range(thread, num_items, THREADS):
            ordered = ordered_BI[row, item]
            if ordered != uint32(0):
                key = _key(ordered, item)
                if key & mask == floor:
                    cuda.atomic.add(counts, uint32(255) - uint32((key >> shift) & uint64(255)), uint32(1))
        cuda.syncthreads()
        here = counts[thread]
        reach = 1
        while reach < THREADS:  # suffix sums from the highest byte down
            before = counts[thread - reach] if thread >= reach else uint32(0)
            cuda.syncthreads()
            counts[thread] += before
            cuda.syncthreads()
            reach <<= 1
        missing = min(missing, counts[THREADS - 1])  # fewer than k available
        if missing == uint32(0):
            floor = uint64(0xFFFFFFFFFFFFFFFF)
            break
        if counts[thread] >= missing and counts[thread] - here < missing:
            chosen[0] = uint32(255 - thread)
            chosen[1] = here
            chosen[2] = missing - (counts[thread] - here)
        cuda.syncthreads()
        floor |= uint64(chosen[0]) << shift
        mask |= uint64(255) << shift
        same = chosen[1]
        missing = chosen[2]

    width = 1
    while width < k:
        width <<= 1
    keys = near if width <= SORTED_IN_SHARED else sorting_BP[row]
    if thread == 0:
        filled[0] = uint32(0)
    for place in range(thread, width, THREADS):
        keys[place] = uint64(0)
    cuda.syncthreads()
    for item in range(thread, num_items, THREADS):
        ordered = ordered_BI[row, item]
        if ordered != uint32(0):
            key = _key(ordered, item)
            if key >= floor:
                keys[cuda.atomic.add(filled, 0, uint32(1))] = key
    cuda.syncthreads()
    _sort_descending(keys, width)
    for place in range(thread, k, THREADS):
        key = keys[place]
        if key == uint64(0):
            items_BK[row, place] = -1
            bits_BK[row, place] = uint32(0xFF800000)  # -inf
        else:
            items_BK[row, place] = uint32(0xFFFFFFFF) - uint32(key & uint64(0xFFFFFFFF))
            bits_BK[row, place] = _float_bits(uint32(key >> uint64(32)))


@cuda.jit
def products(query_BD, item_emb_ID, bias_I, scores_BI):
    """Write bias + <query, item>, summed in the order of D. A block computes TILE x TILE scores, a thread EACH x EACH."""
    some_query = cuda.shared.array((DEPTH, TILE), float32)
    some_items = cuda.shared.array((DEPTH, TILE), float32)
    sums = cuda.local.array((EACH, EACH), float32)
    of_items = cuda.local.array(EACH, float32)
    thread = cuda.threadIdx.x
    x = thread % (TILE // EACH)
    y = thread // (TILE // EACH)
    rows, size = query_BD.shape
    num_items = item_emb_ID.shape[0]
    first_row = cuda.blockIdx.y * TILE
    first_item = cuda.blockIdx.x * TILE

    for c in range(EACH):
        item = first_item + x + c * (TILE // EACH)
        bias = bias_I[item] if item < num_items else float32(0)
        for r in range(EACH):
            sums[r, c] = bias
    for start in range(0, size, DEPTH):
        depth = thread % DEPTH
        for line in range(thread // DEPTH, TILE, THREADS // DEPTH):
            inside = start + depth < size
            row = first_row + line
            item = first_item + line
            some_query[depth, line] = query_BD[row, start + depth] if inside and row < rows else float32(0)
            some_items[depth, line] = item_emb_ID[item, start + depth] if inside and item < num_items else float32(0)
        cuda.syncthreads()
        for d in range(DEPTH):
            for c in range(EACH):
                of_items[c] = some_items[d, x + c * (TILE // EACH)]
            for r in range(EACH):
                of_query = some_query[d, y + r * (TILE // EACH)]
                for c in range(EACH):
                    sums[r, c] += of_query * of_items[c]
        cuda.syncthreads()
    for r in range(EACH):
        row = first_row + y + r * (TILE // EACH)
        for c in range(EACH):
            item = first_item + x + c * (TILE // EACH)
            if row < rows and item < num_items:
                scores_BI[row, item] = sums[r, c]
