"""The top k of many scores on a GPU, given or computed: candidates are kept, scores are not.

B rows, I items, K list, D embedding size; P parts of the items, C candidates held for a row and part.

Scores are read, or computed in registers (`products`), once. Those above a row's floor become candidates; when their buffer
is nearly full, a warp keeps the k best, and the worst of these is the new floor. Last, one block per row selects from the candidates of all
parts and sorts. Slots are reserved by atomic counters, so the order in a buffer is arbitrary; the k best do not depend on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64, uint32, uint64

from ..item_lists import ItemLists, or_empty
from .arrays import give_back, to_device
from .keys import BYTE_VALUES, contains, item_of, keep_largest, key_of, score_of, sort_descending
from .machine import ALL, LANES, below_lane, load_line, wide
from .products import FEW_ROWS, MANY_ROWS, TILE, products_of_few, products_of_many
from .products import THREADS as PRODUCT_THREADS

THREADS = 256  # of a block that selects, and the number of byte values
WARPS = 4  # of a block that reads scores
SPAN = 4 * LANES  # scores a warp reads at a time
SORTED_IN_SHARED = 2048  # longer lists are sorted in global memory
SCRATCH_BYTES = 256 << 20  # candidates held at once
MOST_ROWS = 1 << 20  # in one launch
LEAST_TILES = 4  # of a part, so that its floor spares work
BUSY_BLOCKS = 512  # keep the largest devices busy; fewer rows are answered in parts

_LISTS = "int64[::1], int64[::1], int32[::1], int64[::1], int64[::1], int32[::1], boolean"
SIGNATURES = {
    "offer": f"void(float32[:, ::1], {_LISTS}, int64, boolean, int64, uint64[:, :, ::1], int32[:, ::1])",
    "select": "void(uint64[:, :, ::1], int32[:, ::1], uint64[:, ::1], int32[:, ::1], float32[:, ::1])",
}
BLOCKS = {"offer": LANES * WARPS, "select": THREADS}


def top_k(scores_BI: Any, k: int, *, exclude: ItemLists | None, allow: ItemLists | None) -> tuple[Any, Any]:
    """See `kernels.topk.top_k`."""
    scores = to_device(scores_BI, np.float32)
    answer = Answer(scores.shape[0], scores.shape[1], k)
    lists = _Lists(answer.rows, exclude, allow)
    is_wide = wide(scores)
    for some, keys, counts in answer.chunks(*_parts(answer, rows_a_block=WARPS)):
        rows, parts = counts.shape
        offer[-(-rows * parts // WARPS), LANES * WARPS](
            scores[some], *lists.of(some), _share(scores.shape[1], parts), is_wide, k, keys, counts
        )
        answer.select(some, keys, counts)
    return answer.give_back(scores_BI)


def top_k_dot(
    query_BD: Any, item_emb_ID: Any, k: int, *, item_bias_I: Any, exclude: ItemLists | None, allow: ItemLists | None
) -> tuple[Any, Any]:
    """See `kernels.topk.top_k_dot`."""
    num_items = item_emb_ID.shape[0]
    query = to_device(query_BD, np.float32)
    item_emb = to_device(item_emb_ID, np.float32)
    bias = to_device(np.zeros(num_items, np.float32) if item_bias_I is None else item_bias_I, np.float32)
    answer = Answer(query.shape[0], num_items, k)
    lists = _Lists(answer.rows, exclude, allow)
    is_wide = wide(query, item_emb)
    together, kernel = (FEW_ROWS, products_of_few) if query.shape[0] <= FEW_ROWS else (MANY_ROWS, products_of_many)
    for some, keys, counts in answer.chunks(*_parts(answer, rows_a_block=together)):
        rows, parts = counts.shape
        kernel[(-(-rows // together), parts), PRODUCT_THREADS](
            query[some], item_emb, bias, *lists.of(some), _share(num_items, parts), is_wide, k, keys, counts
        )
        answer.select(some, keys, counts)
    return answer.give_back(query_BD)


def _share(num_items: int, parts: int) -> int:
    """Return the items of a part: whole tiles."""
    return -(-num_items // (TILE * parts)) * TILE


class _Lists:
    """Which items the lists of B rows may contain."""

    def __init__(self, rows: int, exclude: ItemLists | None, allow: ItemLists | None) -> None:
        self.has_allow = allow is not None
        self.lists = [
            to_device(column, dtype)
            for lists in (exclude, allow)
            for column, dtype in zip(or_empty(lists, rows), (np.int64, np.int64, np.int32), strict=True)
        ]

    def of(self, some: slice) -> tuple[Any, ...]:
        """Return what the kernels take for some rows."""
        out_starts, out_ends, out_items, in_starts, in_ends, in_items = self.lists
        return out_starts[some], out_ends[some], out_items, in_starts[some], in_ends[some], in_items, self.has_allow


def _parts(answer: Answer, rows_a_block: int) -> tuple[int, int]:
    """Return in how many parts the items are answered, none empty, and how many candidates of each are held."""
    tiles = -(-answer.num_items // TILE)
    parts = max(1, min(tiles // LEAST_TILES, BUSY_BLOCKS * rows_a_block // max(answer.rows, 1)))
    parts = -(-answer.num_items // max(1, _share(answer.num_items, parts)))
    return parts, min(4 * answer.k + 2 * TILE, _share(answer.num_items, max(1, parts)))


class Answer:
    """The best K of I items for each of B rows, on the device, selected from candidates."""

    def __init__(self, rows: int, num_items: int, k: int) -> None:
        self.rows, self.num_items, self.k = rows, num_items, k
        self.items = cuda.device_array((rows, k), np.int32)
        self.best = cuda.device_array((rows, k), np.float32)
        self.width = 1 << (k - 1).bit_length()

    def chunks(self, parts: int, capacity: int) -> Any:
        """Yield rows whose candidates fit the scratch memory, buffers for `capacity` of each part, and their counts; nothing where nothing can be returned."""
        if self.num_items == 0:
            self.items.copy_to_device(np.full(self.items.shape, -1, np.int32))
            self.best.copy_to_device(np.full(self.best.shape, -np.inf, np.float32))
            return
        step = max(1, min(MOST_ROWS, SCRATCH_BYTES // (8 * (parts * capacity + self.width))))
        for begin in range(0, self.rows, step):
            some = slice(begin, min(self.rows, begin + step))
            rows = some.stop - begin
            keys = cuda.device_array((rows, parts, capacity), np.uint64)
            yield some, keys, cuda.device_array((rows, parts), np.int32)

    def select(self, some: slice, keys: Any, counts: Any) -> None:
        """Fill the lists of some rows from their candidates."""
        rows = some.stop - some.start
        sorting = cuda.device_array((rows, self.width if self.width > SORTED_IN_SHARED else 1), np.uint64)
        select[rows, THREADS](keys, counts, sorting, self.items[some], self.best[some])

    def give_back(self, like: Any) -> tuple[Any, Any]:
        """Return the lists as NumPy if `like` is, else as they are, on the device."""
        return give_back(self.items, like), give_back(self.best, like)


@cuda.jit
def offer(
    scores_BI,
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
    """Collect the candidates of a row's scores from one part of the items: one warp per row and part."""
    byte_counts = cuda.shared.array((WARPS, BYTE_VALUES), uint32)
    warp = cuda.threadIdx.x // LANES
    lane = int64(uint32(cuda.laneid))
    parts = counts_BP.shape[1]
    task = cuda.blockIdx.x * WARPS + warp
    if task >= counts_BP.shape[0] * parts:
        return
    row, part = task // parts, task % parts
    keys_C = keys_BPC[row, part]
    capacity = keys_C.shape[0]
    floor = float32(-np.inf)
    count = int64(0)
    end = min(scores_BI.shape[1], (part + 1) * share)
    for first in range(part * share, end, SPAN):
        begin = first + 4 * lane
        scores = load_line(scores_BI, row, begin, True, is_wide)
        above = scores[0] > floor or scores[1] > floor or scores[2] > floor or scores[3] > floor
        if not cuda.any_sync(ALL, above):
            continue
        if count + SPAN > capacity and capacity < share:
            floor = keep_largest(keys_C, count, k, byte_counts[warp])
            count = k
        for step in range(4):
            item = begin + step
            score = scores[0] if step == 0 else scores[1] if step == 1 else scores[2] if step == 2 else scores[3]
            taken = item < end and score > floor
            if taken and has_allow:
                taken = contains(in_items, in_starts[row], in_ends[row], item)
            if taken:
                taken = not contains(out_items, out_starts[row], out_ends[row], item)
            chosen = uint32(cuda.ballot_sync(ALL, taken))
            if taken:
                keys_C[count + below_lane(chosen)] = key_of(score, item)
            count += int64(cuda.popc(chosen))
        cuda.syncwarp()
    if lane == 0:
        counts_BP[row, part] = count


@cuda.jit
def select(keys_BPC, counts_BP, sorting_BP, items_BK, best_BK):
    """Write each row's best K: items, and their scores. One block per row."""
    counts = cuda.shared.array(BYTE_VALUES, uint32)
    chosen = cuda.shared.array(3, uint32)  # byte value, keys with it, keys still needed among them
    filled = cuda.shared.array(1, uint32)
    near = cuda.shared.array(SORTED_IN_SHARED, uint64)
    thread = cuda.threadIdx.x
    row = cuda.blockIdx.x
    parts = counts_BP.shape[1]
    k = items_BK.shape[1]
    total = 0
    for part in range(parts):
        total += counts_BP[row, part]

    floor = uint64(0)  # keys in the list are at least this, in the masked bits
    mask = uint64(0)
    shift = uint64(64)
    missing = uint32(k)
    same = uint32(k) if total <= k else uint32(0)
    while same != missing:
        shift -= uint64(8)
        counts[thread] = uint32(0)
        cuda.syncthreads()
        for part in range(parts):
            for n in range(thread, counts_BP[row, part], THREADS):
                key = keys_BPC[row, part, n]
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
    for part in range(parts):
        for n in range(thread, counts_BP[row, part], THREADS):
            key = keys_BPC[row, part, n]
            if key >= floor:
                keys[cuda.atomic.add(filled, 0, uint32(1))] = key
    cuda.syncthreads()
    sort_descending(keys, width, THREADS)
    for place in range(thread, k, THREADS):
        key = keys[place]
        items_BK[row, place] = int32(-1) if key == uint64(0) else int32(item_of(key))
        best_BK[row, place] = float32(-np.inf) if key == uint64(0) else score_of(key)
