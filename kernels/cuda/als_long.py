"""Normal equations of long rows on a GPU, for `als`: a row's entries are split among blocks, which no single one could read in time.

L long rows, G segments of their entries, S fixed rows, D embedding size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int64, uint32

from .als_gram import DEPTH, TILE, add_tile, no_sums, write_tile
from .arrays import to_device
from .machine import load_line, store_four, wide

SEGMENT = 2048  # entries of one block
THREADS = 256
PARTS_BYTES = 256 << 20  # of segments' matrices held at once
MOST_PARTS = 65_535  # blocks along the third side of a grid

SIGNATURES = {
    "segments": "void(int64[::1], int64[::1], int32[::1], float32[::1], float32[::1], float32[:, ::1], boolean, "
    "float32[:, :, ::1], float32[:, ::1])",
    "joined": "void(int64[::1], float32[:, :, ::1], float32[:, ::1], float32[:, ::1], float32[:, :, ::1], float32[:, ::1])",
}
BLOCKS = {"segments": THREADS, "joined": THREADS}


def normal_equations(rows: np.ndarray, indptr: np.ndarray, entries: Any, fixed: Any, gram: Any) -> Any:
    """Yield some of the rows, and on the device their matrices without the penalty and right-hand sides.

    Args:
        rows: long rows.
        indptr: on the host.
        entries: indices, weights and targets, on the device.
        fixed: on the device.
        gram: added to each matrix, on the device.
    """
    size = fixed.shape[1]
    counts = -(-np.diff(indptr)[rows] // SEGMENT)
    most = max(int(counts.max(initial=1)), min(MOST_PARTS, PARTS_BYTES // (4 * size * size)))
    first = 0
    while first < len(rows):
        last = first + max(1, int(np.searchsorted(np.cumsum(counts[first:]), most, side="right")))
        some = rows[first:last]
        bounds = np.concatenate([[0], np.cumsum(counts[first:last])]).astype(np.int64)
        of = np.repeat(np.arange(len(some)), counts[first:last])
        begins = indptr[some][of] + SEGMENT * (np.arange(len(of)) - bounds[of])
        ends = np.minimum(begins + SEGMENT, indptr[some + 1][of])
        parts = cuda.device_array((len(of), size, size), np.float32)
        rights = cuda.device_array((len(of), size), np.float32)
        tiles = -(-size // TILE)
        segments[(tiles, tiles, len(of)), THREADS](
            to_device(begins), to_device(ends), *entries, fixed, wide(fixed), parts, rights
        )
        matrices = cuda.device_array((len(some), size, size), np.float32)
        right = cuda.device_array((len(some), size), np.float32)
        grid = -(-size * size // THREADS), len(some)
        joined[grid, THREADS](to_device(bounds), parts, rights, gram, matrices, right)
        yield some, matrices, right
        first = last


@cuda.jit
def segments(begins, ends, indices, weights, targets, fixed, is_wide, parts_GDD, rights_GD):
    """parts[z] = sum of weight y y^T, rights[z] = sum of target y over a segment's entries: a block computes a tile, a thread 4 x 4 of it."""
    left = cuda.shared.array((DEPTH, TILE), float32, alignment=16)
    right = cuda.shared.array((DEPTH, TILE), float32, alignment=16)
    scales = cuda.shared.array((2, DEPTH), float32)
    if cuda.blockIdx.y < cuda.blockIdx.x:
        return
    segment = cuda.blockIdx.z
    end = ends[segment]
    first_i, first_j = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    thread = int64(uint32(cuda.threadIdx.x))
    i, j = thread // 16, thread % 16
    summed = first_i == first_j and thread < TILE
    sums = no_sums()
    total = float32(0)
    for first in range(begins[segment], end, DEPTH):
        n = first + i  # each thread stages four columns of a row
        source = int64(indices[n]) if n < end else int64(0)
        cuda.syncthreads()
        store_four(left, 4 * thread, load_line(fixed, source, first_i + 4 * j, n < end, is_wide))
        store_four(right, 4 * thread, load_line(fixed, source, first_j + 4 * j, n < end, is_wide))
        if thread < DEPTH:
            scales[0, thread] = weights[first + thread] if first + thread < end else float32(0)
            scales[1, thread] = targets[first + thread] if first + thread < end else float32(0)
        cuda.syncthreads()
        for k in range(DEPTH):
            sums = add_tile(sums, scales[0, k], left, right, k, i, j)
        if summed:
            for k in range(DEPTH):
                total += scales[1, k] * left[k, thread]
    write_tile(parts_GDD[segment], first_i + 4 * i, first_j + 4 * j, sums)
    if summed and first_i + thread < fixed.shape[1]:
        rights_GD[segment, first_i + thread] = total


@cuda.jit
def joined(bounds, parts_GDD, rights_GD, gram, matrices_LDD, rights_LD):
    """Add up each row's segments, in order, onto the Gram matrix: one thread per entry."""
    at = cuda.grid(1)
    row = cuda.blockIdx.y
    size = gram.shape[0]
    if at < size * size:
        i, j = at // size, at % size
        total = gram[i, j]
        for part in range(bounds[row], bounds[row + 1]):
            total += parts_GDD[part, i, j]
        matrices_LDD[row, i, j] = total
    if at < size:
        total = float32(0)
        for part in range(bounds[row], bounds[row + 1]):
            total += rights_GD[part, at]
        rights_LD[row, at] = total
