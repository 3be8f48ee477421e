"""Alternating least squares on a GPU: a thread block per row, with everything used twice in shared memory.

R rows to solve, S rows of the fixed side, N observed entries, D embedding size, W columns solved together, T entries of a
triangle; see `kernels/als.py` for the objective. A symmetric matrix is packed: row i of its lower triangle starts at i (i + 1) / 2;
its row W is the right-hand side, so that factorizing also does the forward substitution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, uint64

from .als_cg import WARPS, cg_rows, warp_sum
from .als_gram import scaled_gram
from .arrays import give_back, to_device

STAGED = 16  # fixed rows in shared memory at a time while outer products are added
KEPT_BYTES = 16 << 10  # of a row's fixed rows kept in shared memory between conjugate-gradient steps
SHARED_BYTES = 48 << 10  # per block, without opting in to more
ONE, TWO, THREE = uint64(1), uint64(2), uint64(3)  # an unsigned index skips the check for negative indexing

_ROWS = "int64[::1], int32[::1], float32[::1], float32[::1], float32[::1], float32[:, ::1], float32[:, ::1]"
SIGNATURES = {
    "newton_rows": f"void({_ROWS}, int64, boolean, float32[::1], float32[:, ::1])",
    "newton_large_rows": f"void({_ROWS}, int64, boolean, float32[::1], float32[:, ::1], float32[:, ::1], int64)",
}


def solve_rows(
    observed: Any,
    fixed_SD: Any,
    start_RD: Any,
    all_weight: float,
    solver: str,
    cg_steps: int,
    step: int,
    gram_DD: np.ndarray | None = None,
) -> Any:
    """See `kernels.als.solve_rows`; `step` columns are solved together."""
    num_rows, size = start_RD.shape
    if solver == "cg":
        cg_memory(size)  # raises before anything is copied
    types = (np.int64, np.int32, np.float32, np.float32, np.float32)
    entries = [to_device(column, dtype) for column, dtype in zip(observed, types, strict=True)]
    fixed = to_device(fixed_SD, np.float32)
    if gram_DD is None or not all_weight:
        gram = scaled_gram(fixed, all_weight)
    else:
        gram = to_device(np.float32(all_weight) * gram_DD, np.float32)
    solved = cuda.device_array((num_rows, size), np.float32)
    if not num_rows:
        return give_back(solved, start_RD)
    if solver != "cholesky":
        solved.copy_to_device(to_device(start_RD, np.float32))
    if solver == "cg":
        kept, shared = cg_memory(size)
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
    elif vectors > SHARED_BYTES:
        raise ValueError(
            f'{step} columns together are too many for a GPU: use solver="ials++", or a smaller block_size'
        )
    else:
        blocks = min(num_rows, 1024)
        matrices = cuda.device_array((blocks, triangle), np.float32)
        newton_large_rows[blocks, threads, 0, vectors](*arguments, matrices, num_rows)
    return give_back(solved, start_RD)


def cg_memory(size: int) -> tuple[int, int]:
    """Return how many fixed rows a block of `cg_rows` keeps in shared memory, and the bytes it needs.

    Raises:
        ValueError: its vectors alone exceed a block's shared memory.
    """
    vectors, most = 3 + WARPS, SHARED_BYTES // 4
    if (vectors + 1) * size > most:
        raise ValueError(
            f'solver="cg" on a GPU takes an embedding_size of at most {most // (vectors + 1):,}, got {size:,}: use '
            'solver="ials++", fewer dimensions, or device="cpu"'
        )
    kept = max(1, min(KEPT_BYTES // (4 * size), most // size - vectors))
    return kept, 4 * (kept + vectors) * size


def _fours(width: int) -> int:
    return -(-width // 4) * 4


@cuda.jit
def newton_rows(indptr, indices, weights, targets, penalties, fixed, gram, step, from_zero, predicted, solved):
    """Solve `step` columns of a row at a time exactly; the matrix is in shared memory."""
    pool = cuda.shared.array(0, float32)
    triangle = (step + 1) * (step + 2) // 2
    _newton(
        cuda.blockIdx.x,
        indptr,
        indices,
        weights,
        targets,
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
    indptr, indices, weights, targets, penalties, fixed, gram, step, from_zero, predicted, solved, matrices, num_rows
):
    """The same with each block's matrix in global memory, for one too large for shared memory."""
    pool = cuda.shared.array(0, float32)
    for row in range(cuda.blockIdx.x, num_rows, cuda.gridDim.x):
        _newton(
            row,
            indptr,
            indices,
            weights,
            targets,
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
    row, indptr, indices, weights, targets, penalties, fixed, gram, step, from_zero, predicted, solved, matrix, pool
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
                misses[k] = targets[first + k] - weights[first + k] * predicted[first + k]
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
    """predicted[n] (+)= y_n[column : column + width] . x: one warp per entry."""
    lane = cuda.threadIdx.x % 32
    for n in range(begin + cuda.threadIdx.x // 32, end, cuda.blockDim.x // 32):
        source = uint64(indices[uint64(n)])
        total = float32(0.0)
        for d in range(lane, width, 32):
            total += fixed[source, uint64(column + d)] * x[uint64(d)]
        total = warp_sum(total)
        if lane == 0:
            predicted[n] = total if fresh else predicted[n] + total


@cuda.jit(device=True)
def _start_matrix(gram, penalty, x, column, width, matrix):
    """The part of the matrix and right-hand side that does not come from observed entries."""
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
    """matrix += sum_k scale_k y_k y_k^T, its right-hand side += sum_k miss_k y_k: each thread computes 4 x 4 tiles."""
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
        # Rounding can make a pivot non-positive that is positive in exact arithmetic, so it is clamped at 1e-6 of its diagonal.
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
