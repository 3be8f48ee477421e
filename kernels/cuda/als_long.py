"""Normal equations of rows on a GPU, for `als`: a long row's entries are split among blocks, since no single one could read them in time.

L rows, G segments of their entries, S fixed rows, D embedding size. The first segment of each row begins with the Gram matrix; the others, G - L
in all, come after those of all rows, and are added to it in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int64, uint32

from .als_gram import DEPTH, TILE, add_tile, no_sums, write_tile
from .arrays import to_device
from .machine import load_line, store_four, wide

SEGMENT = 2048  # entries of one block, more where a row's matrices would exceed the memory for them
THREADS = 256
PARTS_BYTES = 256 << 20  # of segments' matrices held at once
MOST_PARTS = 65_535  # blocks along the third side of a grid

SIGNATURES = {
    "segments": "void(int64[::1], int64[::1], int32[::1], float32[::1], float32[::1], float32[:, ::1], boolean, float32[:, ::1], "
    "int64, float32[:, :, ::1], float32[:, ::1])",
    "joined": "void(int64[::1], float32[:, :, ::1], float32[:, ::1])",
}
BLOCKS = {"segments": THREADS, "joined": THREADS}


def normal_equations(rows: np.ndarray, indptr: np.ndarray, entries: Any, fixed: Any, gram: Any) -> Any:
    """Yield some of the rows, and on the device their matrices without the penalty [L, D, D] and right-hand sides [L, D].

    How a row is split depends on its length and D alone.

    Args:
        rows: each in [0, R).
        indptr: on the host.
        entries: indices, weights and targets, on the device.
        fixed: on the device.
        gram: added to each matrix, on the device.
    """
    size = fixed.shape[1]
    most = max(1, min(MOST_PARTS, PARTS_BYTES // (4 * size * size)))
    lengths = np.maximum(np.diff(indptr)[rows], 1)
    each = np.maximum(SEGMENT, -(-lengths // most))
    counts = -(-lengths // each)
    tiles = -(-size // TILE)
    first = 0
    while first < len(rows):
        last = first + int(np.searchsorted(np.cumsum(counts[first:]), most, side="right"))
        some, more = rows[first:last], counts[first:last] - 1
        bounds = len(some) + np.concatenate([[0], np.cumsum(more)])
        of = np.concatenate([np.arange(len(some)), np.repeat(np.arange(len(some)), more)])
        place = np.concatenate(
            [np.zeros(len(some), np.int64), 1 + np.arange(more.sum()) - np.repeat(bounds[:-1] - len(some), more)]
        )
        begins = indptr[some][of] + place * each[first:last][of]
        ends = np.minimum(begins + each[first:last][of], indptr[some + 1][of])
        matrices = cuda.device_array((len(of), size, size), np.float32)
        rights = cuda.device_array((len(of), size), np.float32)
        segments[(tiles, tiles, len(of)), THREADS](
            to_device(begins, np.int64), to_device(ends, np.int64), *entries, fixed, wide(fixed), gram, len(some), matrices, rights
        )  # fmt: skip
        if more.any():
            grid = -(-size * size // THREADS), len(some)
            joined[grid, THREADS](to_device(bounds, np.int64), matrices, rights)
        yield some, matrices[: len(some)], rights[: len(some)]
        first = last


@cuda.jit
def segments(begins, ends, indices, weights, targets, fixed, is_wide, gram, num_rows, matrices_GDD, rights_GD):
    """matrices[z] = sum of weight y y^T, rights[z] = sum of target y over a segment's entries: a block computes a tile, a thread 4 x 4 of it.

    The first `num_rows` segments begin with the Gram matrix.
    """
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
    if segment < num_rows:
        sums = _tile_of(gram, first_i + 4 * i, first_j + 4 * j, is_wide)
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
    write_tile(matrices_GDD[segment], first_i + 4 * i, first_j + 4 * j, sums)
    if summed and first_i + thread < fixed.shape[1]:
        rights_GD[segment, first_i + thread] = total


@cuda.jit(device=True)
def _tile_of(gram, i, j, is_wide):
    """Return 4 x 4 entries of the Gram matrix."""
    size = gram.shape[0]
    return (
        load_line(gram, i, j, i < size, is_wide),
        load_line(gram, i + 1, j, i + 1 < size, is_wide),
        load_line(gram, i + 2, j, i + 2 < size, is_wide),
        load_line(gram, i + 3, j, i + 3 < size, is_wide),
    )


@cuda.jit
def joined(bounds, matrices_GDD, rights_GD):
    """Add each row's further segments, in order, to its first: one thread per entry."""
    at = cuda.grid(1)
    row = cuda.blockIdx.y
    size = matrices_GDD.shape[1]
    if at < size * size:
        i, j = at // size, at % size
        total = matrices_GDD[row, i, j]
        for part in range(bounds[row], bounds[row + 1]):
            total += matrices_GDD[part, i, j]
        matrices_GDD[row, i, j] = total
    if at < size:
        total = rights_GD[row, at]
        for part in range(bounds[row], bounds[row + 1]):
            total += rights_GD[part, at]
        rights_GD[row, at] = total
