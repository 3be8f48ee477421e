"""The Gram matrix Y^T Y of a table's rows on a GPU, for `als`. S rows, D embedding size."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda, float32

from .arrays import to_device

TILE = 64  # rows and columns of a block's tile of the Gram matrix
DEPTH = 16  # fixed rows in shared memory at a time

SIGNATURES = {
    "gram_parts": "void(float32[:, ::1], int64, float32[:, :, ::1])",
    "gram_sum": "void(float32[:, :, ::1], float32, float32[:, ::1])",
}


def scaled_gram(fixed: Any, all_weight: float) -> Any:
    """Return all_weight Y^T Y on the device; the summation order depends on the shape alone."""
    num_fixed, size = fixed.shape
    if not all_weight:
        return to_device(np.zeros((size, size), np.float32))
    gram = cuda.device_array((size, size), np.float32)
    num_parts = max(1, min(64, num_fixed // 1024))
    parts = cuda.device_array((num_parts, size, size), np.float32)
    tiles = -(-size // TILE)
    gram_parts[(tiles, tiles, num_parts), 256](fixed, -(-num_fixed // num_parts), parts)
    gram_sum[-(-size * size // 256), 256](parts, np.float32(all_weight), gram)
    return gram


@cuda.jit
def gram_parts(fixed, rows_each, parts):
    """parts[z] = Y^T Y over the z-th `rows_each` rows: a block computes a tile, a thread 4 x 4 of it. Tiles above the diagonal are mirrored."""
    left = cuda.shared.array((DEPTH, TILE), float32)
    right = cuda.shared.array((DEPTH, TILE), float32)
    if cuda.blockIdx.y < cuda.blockIdx.x:
        return
    size = fixed.shape[1]
    first_i, first_j = cuda.blockIdx.y * TILE, cuda.blockIdx.x * TILE
    thread = cuda.threadIdx.x
    i, j = thread // 16, thread % 16
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = float32(0.0)
    c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = float32(0.0)
    stop = min(fixed.shape[0], (cuda.blockIdx.z + 1) * rows_each)
    for first in range(cuda.blockIdx.z * rows_each, stop, DEPTH):
        for at in range(thread, DEPTH * TILE, 256):
            k, column = at // TILE, at % TILE
            inside = first + k < stop
            left[k, column] = fixed[first + k, first_i + column] if inside and first_i + column < size else float32(0.0)
            right[k, column] = (
                fixed[first + k, first_j + column] if inside and first_j + column < size else float32(0.0)
            )
        cuda.syncthreads()
        for k in range(DEPTH):
            # Columns 16 apart, so that the threads of a warp read neighboring words.
            x0, x1, x2, x3 = left[k, i], left[k, i + 16], left[k, i + 32], left[k, i + 48]
            y0, y1, y2, y3 = right[k, j], right[k, j + 16], right[k, j + 32], right[k, j + 48]
            a0 += x0 * y0
            a1 += x0 * y1
            a2 += x0 * y2
            a3 += x0 * y3
            b0 += x1 * y0
            b1 += x1 * y1
            b2 += x1 * y2
            b3 += x1 * y3
            c0 += x2 * y0
            c1 += x2 * y1
            c2 += x2 * y2
            c3 += x2 * y3
            d0 += x3 * y0
            d1 += x3 * y1
            d2 += x3 * y2
            d3 += x3 * y3
        cuda.syncthreads()
    part = parts[cuda.blockIdx.z]
    i, j = first_i + i, first_j + j
    _write_four(part, i, j, a0, a1, a2, a3)
    _write_four(part, i + 16, j, b0, b1, b2, b3)
    _write_four(part, i + 32, j, c0, c1, c2, c3)
    _write_four(part, i + 48, j, d0, d1, d2, d3)


@cuda.jit(device=True)
def _write_four(part, i, j, v0, v1, v2, v3):
    _write_both(part, i, j, v0)
    _write_both(part, i, j + 16, v1)
    _write_both(part, i, j + 32, v2)
    _write_both(part, i, j + 48, v3)


@cuda.jit(device=True)
def _write_both(part, i, j, value):
    if i < part.shape[0] and j < part.shape[0] and j <= i:
        part[i, j] = value
        part[j, i] = value


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
