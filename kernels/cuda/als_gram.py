"""The Gram matrix Y^T Y of a table's rows on a GPU, for `als`. S rows, D embedding size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32, int64, uint32

from .arrays import to_device
from .machine import add_four, load_four, load_line, store_four, wide

TILE = 64  # rows and columns of a block's tile of the Gram matrix
DEPTH = 16  # fixed rows in shared memory at a time

SIGNATURES = {
    "gram_parts": "void(float32[:, ::1], int64, boolean, float32[:, :, ::1])",
    "gram_sum": "void(float32[:, :, ::1], float32, float32[:, ::1])",
}
BLOCKS = {"gram_parts": 256, "gram_sum": 256}


def scaled_gram(fixed: Any, all_weight: float) -> Any:
    """Return all_weight Y^T Y on the device; the summation order depends on the shape alone."""
    num_fixed, size = fixed.shape
    if not all_weight:
        return to_device(np.zeros((size, size), np.float32))
    gram = cuda.device_array((size, size), np.float32)
    num_parts = max(1, min(64, num_fixed // 1024))
    parts = cuda.device_array((num_parts, size, size), np.float32)
    tiles = -(-size // TILE)
    gram_parts[(tiles, tiles, num_parts), 256](fixed, -(-num_fixed // num_parts), wide(fixed), parts)
    gram_sum[-(-size * size // 256), 256](parts, np.float32(all_weight), gram)
    return gram


@cuda.jit(device=True)
def add_tile(sums, scale, left, right, k, i, j):
    """Add scale x y^T to a thread's 4 x 4 sums, where x and y are four columns each of the k-th staged rows."""
    x = load_four(left, k * TILE + 4 * i)
    y = load_four(right, k * TILE + 4 * j)
    return (
        add_four(sums[0], scale * x[0], y),
        add_four(sums[1], scale * x[1], y),
        add_four(sums[2], scale * x[2], y),
        add_four(sums[3], scale * x[3], y),
    )


@cuda.jit(device=True)
def no_sums():
    """Return 4 x 4 zeros."""
    none = (float32(0), float32(0), float32(0), float32(0))
    return none, none, none, none


@cuda.jit(device=True)
def write_tile(part, i, j, sums):
    """Write a thread's 4 x 4 sums, of rows from i and columns from j on, and their mirror images above the diagonal."""
    _write_four(part, i, j, sums[0])
    _write_four(part, i + 1, j, sums[1])
    _write_four(part, i + 2, j, sums[2])
    _write_four(part, i + 3, j, sums[3])


@cuda.jit(device=True)
def _write_four(part, i, j, values):
    _write_both(part, i, j, values[0])
    _write_both(part, i, j + 1, values[1])
    _write_both(part, i, j + 2, values[2])
    _write_both(part, i, j + 3, values[3])


@cuda.jit(device=True)
def _write_both(part, i, j, value):
    if i < part.shape[0] and j <= i:
        part[i, j] = value
        part[j, i] = value


@cuda.jit
def gram_parts(fixed, rows_each, is_wide, parts):
    """parts[z] = Y^T Y over the z-th `rows_each` rows: a block computes a tile, a thread 4 x 4 of it. Tiles above the diagonal are mirrored."""
    left = cuda.shared.array((DEPTH, TILE), float32, alignment=16)
    right = cuda.shared.array((DEPTH, TILE), float32, alignment=16)
    if cuda.blockIdx.y < cuda.blockIdx.x:
        return
    first_i, first_j = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    thread = int64(uint32(cuda.threadIdx.x))
    i, j = thread // 16, thread % 16
    sums = no_sums()
    stop = min(fixed.shape[0], (cuda.blockIdx.z + 1) * rows_each)
    for first in range(cuda.blockIdx.z * rows_each, stop, DEPTH):
        row = first + i  # each thread stages four columns of a row
        cuda.syncthreads()
        store_four(left, 4 * thread, load_line(fixed, row, first_i + 4 * j, row < stop, is_wide))
        store_four(right, 4 * thread, load_line(fixed, row, first_j + 4 * j, row < stop, is_wide))
        cuda.syncthreads()
        for k in range(DEPTH):
            sums = add_tile(sums, float32(1), left, right, k, i, j)
    write_tile(parts[cuda.blockIdx.z], first_i + 4 * i, first_j + 4 * j, sums)


@cuda.jit
def gram_sum(parts, scale, gram):
    """gram = scale * sum of the parts, in order: one thread per entry."""
    at = cuda.grid(1)
    size = gram.shape[0]
    if at < size * size:
        i, j = at // size, at % size
        total = float32(0.0)
        for part in range(parts.shape[0]):
            total += parts[part, i, j]
        gram[i, j] = scale * total
