"""Alternating least squares on a GPU: a block of threads for each row, whatever is used twice in shared memory.

R rows to solve, S rows of the fixed side, N observed entries, D embedding size, W columns solved together, T entries of a
triangle; see `kernels/als.py` for the objective. A symmetric matrix lies packed, row i of its lower triangle from i (i + 1) / 2
on; its row W is the right-hand side, so that factorising also substitutes forwards.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, uint64

from .arrays import give_back, to_device

STAGED = 16  # fixed rows in shared memory at once, when outer products are added
KEPT_BYTES = 16 << 10  # of a row's fixed rows that stay in shared memory between conjugate-gradient steps
SHARED_BYTES = 48 << 10  # of a block, without asking the driver for more
WARPS = 4  # of a block of `cg_rows`
TILE = 64  # rows, and columns, of a block's part of the Gram matrix
DEPTH = 16  # fixed rows of it in shared memory at once
ALL = 0xFFFFFFFF  # lanes of a warp
ONE, TWO, THREE = uint64(1), uint64(2), uint64(3)  # an unsigned index needs no test for counting from the end

_ROWS = "int64[::1], int32[::1], float32[::1], float32[::1], float32[::1], float32[:, ::1], float32[:, ::1]"
SIGNATURES = {
    "gram_parts": "void(float32[:, ::1], int64, float32[:, :, ::1])",
    "gram_sum": "void(float32[:, :, ::1], float32, float32[:, ::1])",
    "newton_rows": f"void({_ROWS}, int64, boolean, float32[::1], float32[:, ::1])",
    "newton_large_rows": f"void({_ROWS}, int64, boolean, float32[::1], float32[:, ::1], float32[:, ::1], int64)",
    "cg_rows": f"void({_ROWS}, int64, int64, float32[:, ::1])",
}


def solve_rows(
    observed: Any, fixed_SD: Any, start_RD: Any, all_weight: float, solver: str, cg_steps: int, step: int
) -> Any:
    """Return what `kernels.als.solve_rows` promises; `step` columns are solved together."""
    num_rows, size = start_RD.shape
    types = (np.int64, np.int32, np.float32, np.float32, np.float32)
    entries = [to_device(column, dtype) for column, dtype in zip(observed, types, strict=True)]
    fixed = to_device(fixed_SD, np.float32)
    gram = _gram(fixed, all_weight)
    solved = cuda.device_array((num_rows, size), np.float32)
    if not num_rows:
        return give_back(solved, start_RD)
    if solver != "cholesky":
        solved.copy_to_device(to_device(start_RD, np.float32))
    if solver == "cg":
        kept = max(1, KEPT_BYTES // (4 * size))
        shared = 4 * (kept + 3 + WARPS) * size
        cg_rows[num_rows, 32 * WARPS, 0, shared](*entries, fixed, gram, cg_steps, kept, solved)
        return give_back(solved, start_RD)
    step = min(step, size)
    threads = 64 if step <= 32 else 256
    triangle = (step + 1) * (step + 2) // 2
    vectors = 4 * (STAGED * _fours(step) + 2 * STAGED + 4 * (step + 1))
    predicted = cuda.device_array(max(1, observed.indices_N.shape[0]), np.float32)
    arguments = (*entries, fixed, gram, step, solver == "cholesky", predicted, solved)
    if 4 * triangle + vectors <= SHARED_BYTES:
        newton_rows[num_rows, threads, 0, 4 * triangle + vectors](*arguments)
    else:
        blocks = min(num_rows, 1024)
        matrices = cuda.device_array((blocks, triangle), np.float32)
        newton_large_rows[blocks, threads, 0, vectors](*arguments, matrices, num_rows)
    return give_back(solved, start_RD)


def _gram(fixed: Any, all_weight: float) -> Any:
    """Return all_weight Y^T Y on the device; the order of summing depends on the shape alone."""
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


def _fours(width: int) -> int:
    return -(-width // 4) * 4


@cuda.jit
def gram_parts(fixed, rows_each, parts):
    """parts[z] = Y^T Y over the z-th `rows_each` rows: a block makes a tile, a thread 4 x 4 of it. Tiles above are mirrored."""
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
            # Columns 16 apart, so that the threads of a warp read neighbouring words.
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
    """gram = scale * sum of the parts, in their order: a thread for each entry."""
    at = cuda.grid(1)
    size = gram.shape[0]
    if at < size * size:
        i, j = at // size, at % size
        total = float32(0.0)
        for part in range(parts.shape[0]):
            total += parts[part, i, j]
        gram[i, j] = scale * total


@cuda.jit
def newton_rows(indptr, indices, weights, pulls, penalties, fixed, gram, step, from_zero, predicted, solved):
    """Solve `step` columns after `step` columns of a row exactly; the matrix lies in shared memory."""
    pool = cuda.shared.array(0, float32)
    triangle = (step + 1) * (step + 2) // 2
    _newton(
        cuda.blockIdx.x,
        indptr,
        indices,
        weights,
        pulls,
        penalties,
        fixed,
        gram,
        step,
        from_zero,
        predicted,
        solved,
        pool[:triangle],
        pool[triangle:],
    )


@cuda.jit
def newton_large_rows(
    indptr, indices, weights, pulls, penalties, fixed, gram, step, from_zero, predicted, solved, matrices, num_rows
):
    """The same with each block's matrix in global memory, for one that shared memory cannot hold."""
    pool = cuda.shared.array(0, float32)
    for row in range(cuda.blockIdx.x, num_rows, cuda.gridDim.x):
        _newton(
            row,
            indptr,
            indices,
            weights,
            pulls,
            penalties,
            fixed,
            gram,
            step,
            from_zero,
            predicted,
            solved,
            matrices[cuda.blockIdx.x],
            pool,
        )
        cuda.syncthreads()


@cuda.jit(device=True)
def _newton(
    row, indptr, indices, weights, pulls, penalties, fixed, gram, step, from_zero, predicted, solved, matrix, pool
):
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = fixed.shape[1]
    begin, end = indptr[row], indptr[row + 1]
    x = solved[row]
    padded = (step + 3) // 4 * 4
    staged = pool[: STAGED * padded]
    scales = pool[STAGED * padded : STAGED * padded + STAGED]
    misses = pool[STAGED * padded + STAGED : STAGED * padded + 2 * STAGED]
    vectors = pool[STAGED * padded + 2 * STAGED :]
    if from_zero:
        for d in range(thread, size, threads):
            x[d] = float32(0.0)
        for n in range(begin + thread, end, threads):
            predicted[n] = float32(0.0)
    cuda.syncthreads()
    if not from_zero:
        _add_predictions(indices, fixed, begin, end, x, 0, size, True, predicted)
    for column in range(0, size, step):
        width = min(step, size - column)
        _start_matrix(gram, penalties[row], x, column, width, matrix)
        for first in range(begin, end, STAGED):
            count = min(STAGED, end - first)
            cuda.syncthreads()
            for at in range(thread, STAGED * padded, threads):
                k, d = at // padded, at % padded
                inside = k < count and d < width
                staged[at] = fixed[indices[first + k], column + d] if inside else float32(0.0)
            for k in range(thread, count, threads):
                scales[k] = weights[first + k]
                misses[k] = pulls[first + k] - weights[first + k] * predicted[first + k]
            cuda.syncthreads()
            _add_outer(matrix, staged, scales, misses, count, width, padded)
        cuda.syncthreads()
        _solve(matrix, width, vectors, step + 1)
        change = vectors[:width]
        for d in range(thread, width, threads):
            x[column + d] += change[d]
        if column + width < size:
            _add_predictions(indices, fixed, begin, end, change, column, width, False, predicted)
        cuda.syncthreads()


@cuda.jit(device=True)
def _add_predictions(indices, fixed, begin, end, x, column, width, fresh, predicted):
    """predicted[n] (+)= y_n[column : column + width] . x: a warp for each entry."""
    lane = cuda.threadIdx.x % 32
    for n in range(begin + cuda.threadIdx.x // 32, end, cuda.blockDim.x // 32):
        source = uint64(indices[uint64(n)])
        total = float32(0.0)
        for d in range(lane, width, 32):
            total += fixed[source, uint64(column + d)] * x[uint64(d)]
        total = _warp_sum(total)
        if lane == 0:
            predicted[n] = total if fresh else predicted[n] + total


@cuda.jit(device=True)
def _warp_sum(value):
    value += cuda.shfl_xor_sync(ALL, value, 16)
    value += cuda.shfl_xor_sync(ALL, value, 8)
    value += cuda.shfl_xor_sync(ALL, value, 4)
    value += cuda.shfl_xor_sync(ALL, value, 2)
    return value + cuda.shfl_xor_sync(ALL, value, 1)


@cuda.jit(device=True)
def _start_matrix(gram, penalty, x, column, width, matrix):
    """The part of the matrix and the right-hand side that no observed entry adds to."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for i in range(thread // 32, width, threads // 32):
        for j in range(thread % 32, i + 1, 32):
            matrix[i * (i + 1) // 2 + j] = gram[column + i, column + j] + (penalty if i == j else float32(0.0))
    for j in range(thread, width, threads):
        total = penalty * x[column + j]
        for d in range(gram.shape[0]):
            total += gram[uint64(d), uint64(column + j)] * x[uint64(d)]
        matrix[width * (width + 1) // 2 + j] = -total


@cuda.jit(device=True)
def _add_outer(matrix, staged, scales, misses, count, width, padded):
    """matrix += sum_k scale_k y_k y_k^T, its right-hand side += sum_k miss_k y_k: a thread makes tiles of 4 x 4."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    side = 16 if threads == 256 else 8
    tiles = (width + 3) // 4
    for tile_i in range(thread // side, tiles, side):
        for tile_j in range(thread % side, tile_i + 1, side):
            i, j = 4 * tile_i, 4 * tile_j
            a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = float32(0.0)
            c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = float32(0.0)
            for k in range(count):
                right, left, scale = uint64(k * padded + j), uint64(k * padded + i), scales[uint64(k)]
                y0, y1, y2, y3 = staged[right], staged[right + ONE], staged[right + TWO], staged[right + THREE]
                x0, x1 = scale * staged[left], scale * staged[left + ONE]
                x2, x3 = scale * staged[left + TWO], scale * staged[left + THREE]
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
            _add_four(matrix, width, i, j, a0, a1, a2, a3)
            _add_four(matrix, width, i + 1, j, b0, b1, b2, b3)
            _add_four(matrix, width, i + 2, j, c0, c1, c2, c3)
            _add_four(matrix, width, i + 3, j, d0, d1, d2, d3)
    for j in range(thread, width, threads):
        total = float32(0.0)
        for k in range(count):
            total += misses[uint64(k)] * staged[uint64(k * padded + j)]
        matrix[width * (width + 1) // 2 + j] += total


@cuda.jit(device=True)
def _add_four(matrix, width, i, j, v0, v1, v2, v3):
    if i < width:
        at = i * (i + 1) // 2 + j
        matrix[at] += v0
        if j + 1 <= i:
            matrix[at + 1] += v1
        if j + 2 <= i:
            matrix[at + 2] += v2
        if j + 3 <= i:
            matrix[at + 3] += v3


@cuda.jit(device=True)
def _solve(matrix, width, vectors, stride):
    """vectors[:width] = matrix^-1 right: Cholesky over the rows below each pivot, the right-hand side the last of them."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    change = vectors[:stride]
    scaled = vectors[stride : 2 * stride]
    pivots = vectors[2 * stride : 3 * stride]
    least = vectors[3 * stride : 4 * stride]
    for k in range(thread, width, threads):
        # Rounding can take away a pivot that exact arithmetic keeps positive: it never falls below 1e-6 of its diagonal.
        least[k] = max(float32(1e-6) * matrix[k * (k + 1) // 2 + k], float32(1e-30))
    cuda.syncthreads()
    for k in range(width):
        pivot = math.sqrt(max(matrix[k * (k + 1) // 2 + k], least[k]))
        if thread == 0:
            pivots[k] = pivot
        for i in range(k + 1 + thread, width + 1, threads):
            scaled[i] = matrix[i * (i + 1) // 2 + k] / pivot
            matrix[i * (i + 1) // 2 + k] = scaled[i]
        cuda.syncthreads()
        for i in range(k + 1 + thread // 32, width + 1, threads // 32):
            factor = scaled[i]
            for j in range(k + 1 + thread % 32, min(i + 1, width), 32):
                matrix[uint64(i * (i + 1) // 2 + j)] -= factor * scaled[uint64(j)]
        cuda.syncthreads()
    right = scaled
    for k in range(thread, width, threads):
        right[k] = matrix[width * (width + 1) // 2 + k]
    for k in range(width - 1, -1, -1):
        cuda.syncthreads()
        value = right[k] / pivots[k]
        for i in range(thread, k, threads):
            right[i] -= matrix[k * (k + 1) // 2 + i] * value
        if thread == 0:
            change[k] = value
    cuda.syncthreads()


@cuda.jit
def cg_rows(indptr, indices, weights, pulls, penalties, fixed, gram, steps, kept, solved):
    """Conjugate gradients from what `solved` holds. Warps share out a row's entries, lanes their columns."""
    pool = cuda.shared.array(0, float32)
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    size = fixed.shape[1]
    row = cuda.blockIdx.x
    begin, end = indptr[row], indptr[row + 1]
    direction = pool[:size]
    residual = pool[size : 2 * size]
    product = pool[2 * size : 3 * size]
    sums = pool[3 * size : (3 + WARPS) * size]
    near = pool[(3 + WARPS) * size :]
    for d in range(thread, size, threads):
        direction[d] = solved[row, d]
    for at in range(thread, min(kept, end - begin) * size, threads):
        near[at] = fixed[indices[begin + at // size], at % size]
    cuda.syncthreads()
    # The residual is pulls minus A x, and A x the product with the direction x.
    _product(
        indices, weights, pulls, penalties[row], fixed, gram, begin, end, True, kept, direction, sums, near, product
    )
    for d in range(thread, size, threads):
        residual[d] = -product[d]
        direction[d] = -product[d]
    cuda.syncthreads()
    squares = _dot(residual, residual)
    for _ in range(steps):
        if squares < float32(1e-20):
            break
        _product(
            indices,
            weights,
            pulls,
            penalties[row],
            fixed,
            gram,
            begin,
            end,
            False,
            kept,
            direction,
            sums,
            near,
            product,
        )
        length = squares / _dot(direction, product)
        for d in range(thread, size, threads):
            solved[row, d] += length * direction[d]
            residual[d] -= length * product[d]
        cuda.syncthreads()
        fresh = _dot(residual, residual)
        for d in range(thread, size, threads):
            direction[d] = residual[d] + fresh / squares * direction[d]
        squares = fresh
        cuda.syncthreads()


@cuda.jit(device=True)
def _dot(a, b):
    """The inner product, made by each warp for itself."""
    total = float32(0.0)
    for d in range(cuda.threadIdx.x % 32, a.shape[0], 32):
        total += a[d] * b[d]
    return _warp_sum(total)


@cuda.jit(device=True)
def _product(
    indices, weights, pulls, penalty, fixed, gram, begin, end, take_pulls, kept, direction, sums, near, product
):
    """product = A direction, less the pulls if asked: each warp sums its entries, then each thread its columns."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    lane, warp = thread % 32, thread // 32
    size = fixed.shape[1]
    for d in range(lane, size, 32):
        sums[warp * size + d] = float32(0.0)
    for n in range(begin + warp, end, threads // 32):
        at = n - begin
        source = uint64(indices[uint64(n)])
        total = float32(0.0)
        for d in range(lane, size, 32):
            total += (near[uint64(at * size + d)] if at < kept else fixed[source, uint64(d)]) * direction[uint64(d)]
        scale = weights[n] * _warp_sum(total)
        if take_pulls:
            scale -= pulls[n]
        for d in range(lane, size, 32):
            sums[uint64(warp * size + d)] += scale * (
                near[uint64(at * size + d)] if at < kept else fixed[source, uint64(d)]
            )
    cuda.syncthreads()
    for d in range(thread, size, threads):
        total = penalty * direction[d]
        for e in range(size):
            total += gram[uint64(e), uint64(d)] * direction[uint64(e)]
        for other in range(threads // 32):
            total += sums[other * size + d]
        product[d] = total
    cuda.syncthreads()
