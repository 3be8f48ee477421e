"""Keys of scored items on a GPU, and a warp's choice of the largest.

A score becomes an unsigned integer of the same order; with the item's complement in the low bits it is a 64-bit key that no other
item of a row has. Bytes of keys are counted from the top until the k-th largest is known, which also breaks ties
(Alabi et al. 2012, "Fast k-selection algorithms for graphics processing units", radix select).
"""

from __future__ import annotations

from numba import cuda, int64, uint32, uint64

from .machine import ALL, LANES, below_lane, bits_of, float_of, sum_below

MINUS_INFINITY = 0xFF800000  # its bits
BYTE_VALUES = 256


@cuda.jit(device=True)
def key_of(score, item):
    """Return the key of a score that is not NaN."""
    bits = bits_of(score)
    if bits == uint32(0x80000000):  # treat -0 as 0
        bits = uint32(0)
    ordered = ~bits if bits >> uint32(31) else bits | uint32(0x80000000)
    return (uint64(ordered) << uint64(32)) | uint64(uint32(0xFFFFFFFF) - uint32(item))


@cuda.jit(device=True)
def score_of(key):
    """Return a key's score."""
    ordered = uint32(key >> uint64(32))
    return float_of(ordered & uint32(0x7FFFFFFF) if ordered >> uint32(31) else ~ordered)


@cuda.jit(device=True)
def item_of(key):
    """Return a key's item."""
    return uint32(0xFFFFFFFF) - uint32(key & uint64(0xFFFFFFFF))


@cuda.jit(device=True)
def first_from(items, low, high, item):
    """Return the first position of items[low:high], ascending, that has the item or a later one; `high` if none has."""
    while low < high:
        middle = (low + high) >> 1
        if items[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low


@cuda.jit(device=True)
def contains(items, low, high, item):
    """Return whether items[low:high], ascending, has the item."""
    at = first_from(items, low, high, item)
    return at < high and items[at] == item


@cuda.jit(device=True)
def keep_largest(keys_C, count, k, counts):
    """Move the k largest of keys_C[:count], more than k and all different, to the front and return the least score among them.

    All lanes of a warp together; `counts` is shared memory for the warp's count of each byte value.
    """
    lane = int64(uint32(cuda.laneid))
    floor, mask, shift = uint64(0), uint64(0), uint64(64)  # the k largest are at least `floor`, in the masked bits
    missing, same = int64(k), int64(0)
    while same != missing:
        shift -= uint64(8)
        for value in range(lane, BYTE_VALUES, LANES):
            counts[value] = uint32(0)
        cuda.syncwarp()
        for n in range(lane, count, LANES):
            key = keys_C[n]
            if key & mask == floor:
                cuda.atomic.add(counts, uint32(255) - uint32((key >> shift) & uint64(255)), uint32(1))
        cuda.syncwarp()
        value = 8 * lane  # counted from 255 down, eight to a lane
        mine = int64(0)
        for step in range(8):
            mine += int64(counts[value + step])
        reached = sum_below(mine)
        before = reached - mine
        here = before < missing and missing <= reached
        mine = int64(0)
        if here:
            mine = int64(counts[value])
            while before + mine < missing:
                before += mine
                value += 1
                mine = int64(counts[value])
        source = cuda.ffs(cuda.ballot_sync(ALL, here)) - 1
        same = cuda.shfl_sync(ALL, mine, source)
        missing -= cuda.shfl_sync(ALL, before, source)
        floor |= uint64(255 - cuda.shfl_sync(ALL, value, source)) << shift
        mask |= uint64(255) << shift
        cuda.syncwarp()
    kept = int64(0)
    least = int64(0xFFFFFFFF)
    for first in range(0, count, LANES):
        key = keys_C[first + lane] if first + lane < count else uint64(0)
        keeps = key >= floor
        chosen = uint32(cuda.ballot_sync(ALL, keeps))  # every lane has read before one writes
        if keeps:
            keys_C[kept + below_lane(chosen)] = key
            least = min(least, int64(key >> uint64(32)))
        kept += int64(cuda.popc(chosen))
        cuda.syncwarp()
    for step in (16, 8, 4, 2, 1):
        least = min(least, cuda.shfl_xor_sync(ALL, least, step))
    return score_of(uint64(least) << uint64(32))


@cuda.jit(device=True)
def sort_descending(keys, width, threads):
    """Sort keys[:width], a power of two, with all threads of the block (Batcher 1968, bitonic)."""
    run = 2
    while run <= width:
        step = run >> 1
        while step > 0:
            for pair in range(cuda.threadIdx.x, width >> 1, threads):
                low = int64(2 * pair - (pair & (step - 1)))
                high = low + step
                if (keys[low] < keys[high]) == ((low & run) == 0):
                    keys[low], keys[high] = keys[high], keys[low]
            cuda.syncthreads()
            step >>= 1
        run <<= 1
