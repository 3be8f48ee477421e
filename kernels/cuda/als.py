"""Alternating least squares on a GPU: a thread block per row, with everything used twice in shared memory.

R rows to solve, S rows of the fixed side, N observed entries, D embedding size, W columns solved together, T entries of a
triangle; see `kernels/als.py` for the objective. A symmetric matrix is packed: row i of its lower triangle starts at i (i + 1) / 2;
its row W is the right-hand side, so that factorizing also does the forward substitution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32, int64, uint32, uint64

from .als_cg import WARPS, cg_rows
from .als_gram import scaled_gram
from .als_large import solve_large
from .als_long import normal_equations
from .als_narrow import WARPS as NARROW_WARPS
from .als_narrow import WIDEST, narrow_memory, narrow_rows
from .arrays import give_back, to_device
from .machine import LANES, add_four, bounds, load_four, load_line, store_four, warp_sum, wide

STAGED = 16  # fixed rows in shared memory at a time while outer products are added
KEPT_BYTES = 16 << 10  # of a row's fixed rows kept in shared memory between conjugate-gradient steps
LONGEST = 4096  # entries of a row that one block solves by itself, at least
LONGEST_PER_COLUMN = (
    128  # and for each column, by solvers that need no matrix of all columns, which costs more than their steps
)
SHARED_BYTES = 48 << 10  # per block, without opting in to more

_ROWS = (
    "int32[::1], boolean, int64, int64[::1], int32[::1], float32[::1], float32[::1], float32[::1], float32[:, ::1], "
    "float32[:, :, ::1], float32[:, ::1]"
)
SIGNATURES = {
    "newton_rows": f"void({_ROWS}, int64, boolean, boolean, float32[::1], float32[:, ::1])",
}
BLOCKS = {"newton_rows": 256}


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
    indptr = observed.indptr_R1 if isinstance(observed.indptr_R1, np.ndarray) else entries[0].copy_to_host()
    if solver == "cholesky" and not fits(size):
        solve_large(indptr, entries[1:4], entries[4], fixed, gram, solved)
        return give_back(solved, start_RD)
    if solver != "cholesky":
        solved.copy_to_device(to_device(start_RD, np.float32))
    longest = LONGEST if solver == "cholesky" else max(LONGEST, LONGEST_PER_COLUMN * size)
    if solver == "cg":
        launch = (_narrow if size <= WIDEST else _wide)(entries, fixed, cg_steps, solved)
    else:
        launch = _newton_steps(entries, fixed, min(step, size), solver == "cholesky", solved)
    # Those of few entries by their entries, a block each; the others by their matrices, which many blocks have added up
    none = to_device(np.zeros(1, np.int32)), cuda.device_array((1, size), np.float32)
    launch(num_rows, none[0], False, longest, gram.reshape(1, size, size), none[1])
    long = np.flatnonzero(np.diff(indptr) > longest).astype(np.int32)
    for rows, matrices, rights in normal_equations(long, indptr, entries[1:4], fixed, gram):
        launch(len(rows), to_device(rows), True, longest, matrices, rights)
    return give_back(solved, start_RD)


def _narrow(entries: Any, fixed: Any, cg_steps: int, solved: Any) -> Callable[..., None]:
    """Return what launches conjugate gradients over rows of few columns."""
    width, kept, shared = narrow_memory(solved.shape[1])
    is_wide = wide(fixed, solved)

    def launch(blocks: int, rows: Any, own: bool, longest: int, matrices: Any, rights: Any) -> None:
        narrow_rows[blocks, LANES * NARROW_WARPS, 0, shared](
            rows, own, longest, *entries, fixed, matrices, rights, cg_steps, width, kept, is_wide, solved
        )

    return launch


def _wide(entries: Any, fixed: Any, cg_steps: int, solved: Any) -> Callable[..., None]:
    """Return what launches conjugate gradients over rows of more columns."""
    kept, shared = cg_memory(solved.shape[1])

    def launch(blocks: int, rows: Any, own: bool, longest: int, matrices: Any, rights: Any) -> None:
        cg_rows[blocks, LANES * WARPS, 0, shared](
            rows, own, longest, *entries, fixed, matrices, rights, cg_steps, kept, solved
        )

    return launch


def _newton_steps(entries: Any, fixed: Any, step: int, from_zero: bool, solved: Any) -> Callable[..., None]:
    """Return what launches exact solutions over rows, `step` columns at a time."""
    threads = 64 if step <= 32 else 256
    if not fits(step):
        raise ValueError(f"{step} columns together are too many for a GPU: use a smaller block_size")
    predicted = cuda.device_array(max(1, entries[1].shape[0]), np.float32)
    how = (step, from_zero, wide(fixed), predicted, solved)

    def launch(blocks: int, rows: Any, own: bool, longest: int, matrices: Any, rights: Any) -> None:
        newton_rows[blocks, threads, 0, newton_memory(step)](
            rows, own, longest, *entries, fixed, matrices, rights, *how
        )

    return launch


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


def newton_memory(step: int) -> int:
    """Return the bytes of shared memory that a block takes to solve `step` columns together."""
    return 4 * (_fours((step + 1) * (step + 2) // 2) + STAGED * _fours(step) + 2 * STAGED + 4 * (step + 1))


def fits(step: int) -> bool:
    """Return whether a block can solve so many columns together."""
    return newton_memory(step) <= SHARED_BYTES


def _fours(width: int) -> int:
    return -(-width // 4) * 4


SHARED_BYTES_AT_64 = {"newton_rows": newton_memory(64)}


@cuda.jit(**bounds(256, 2))
def newton_rows(
    rows, own, longest, indptr, indices, weights, targets, penalties, fixed, matrices, rights, step, from_zero, is_wide,
    predicted, solved
):  # fmt: skip
    """Solve `step` columns of a row at a time exactly; the matrix is in shared memory.

    If `own`, block b solves row rows[b] by the b-th matrix and right-hand side, which contain its entries; else row b, by the first matrix and
    its entries, unless it has more than `longest`.
    """
    pool = cuda.shared.array(0, float32)
    place = int64(cuda.blockIdx.x)
    triangle = ((step + 1) * (step + 2) // 2 + 3) // 4 * 4
    matrix = pool[:triangle]
    thread, threads = int64(uint32(cuda.threadIdx.x)), int64(cuda.blockDim.x)
    row = int64(rows[place]) if own else place
    which = place if own else int64(0)
    size = fixed.shape[1]
    begin, end = indptr[row], indptr[row + 1]
    if own:
        end = begin
    elif end - begin > longest:
        return
    x = solved[row]
    fours = (step + 3) // 4
    padded = 4 * fours
    beside = triangle + STAGED * padded
    staged = pool[triangle:beside]
    scales = pool[beside : beside + STAGED]
    misses = pool[beside + STAGED : beside + 2 * STAGED]
    vectors = pool[beside + 2 * STAGED :]
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
        _start_matrix(matrices, rights, which, own, penalties[row], x, column, width, matrix)
        for first in range(begin, end, STAGED):
            count = min(STAGED, end - first)
            cuda.syncthreads()
            for four in range(thread, STAGED * fours, threads):
                k, d = four // fours, four % fours * 4
                source = int64(indices[first + k]) if k < count else int64(0)
                store_four(staged, 4 * four, load_line(fixed, source, column + d, k < count and d < width, is_wide))
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
def _start_matrix(matrices, rights, which, own, penalty, x, column, width, matrix):
    """The part of the matrix and right-hand side that does not come from observed entries; all of it if they are the row's own."""
    thread, threads = cuda.threadIdx.x, cuda.blockDim.x
    for i in range(thread // 32, width, threads // 32):
        for j in range(thread % 32, i + 1, 32):
            matrix[i * (i + 1) // 2 + j] = matrices[which, column + i, column + j] + (
                penalty if i == j else float32(0.0)
            )
    for j in range(thread, width, threads):
        total = penalty * x[column + j]
        for d in range(matrices.shape[1]):
            total += matrices[which, d, column + j] * x[d]
        matrix[width * (width + 1) // 2 + j] = (rights[which, column + j] if own else float32(0.0)) - total


@cuda.jit(device=True)
def _add_outer(matrix, staged, scales, misses, count, width, padded):
    """matrix += sum_k scale_k y_k y_k^T, its right-hand side += sum_k miss_k y_k: each thread computes 4 x 4 tiles."""
    thread, threads = int64(uint32(cuda.threadIdx.x)), int64(cuda.blockDim.x)
    side = 16 if threads == 256 else 8
    tiles = (width + 3) // 4
    for tile_i in range(thread // side, tiles, side):
        for tile_j in range(thread % side, tile_i + 1, side):
            i, j = 4 * tile_i, 4 * tile_j
            a = b = c = d = (float32(0.0), float32(0.0), float32(0.0), float32(0.0))
            for k in range(count):
                y = load_four(staged, k * padded + j)
                x = load_four(staged, k * padded + i)
                scale = scales[k]
                a = add_four(a, scale * x[0], y)
                b = add_four(b, scale * x[1], y)
                c = add_four(c, scale * x[2], y)
                d = add_four(d, scale * x[3], y)
            _add_four(matrix, width, i, j, a)
            _add_four(matrix, width, i + 1, j, b)
            _add_four(matrix, width, i + 2, j, c)
            _add_four(matrix, width, i + 3, j, d)
    for j in range(thread, width, threads):
        total = float32(0.0)
        for k in range(count):
            total += misses[k] * staged[k * padded + j]
        matrix[width * (width + 1) // 2 + j] += total


@cuda.jit(device=True)
def _add_four(matrix, width, i, j, values):
    if i < width:
        at = i * (i + 1) // 2 + j
        matrix[at] += values[0]
        if j + 1 <= i:
            matrix[at + 1] += values[1]
        if j + 2 <= i:
            matrix[at + 2] += values[2]
        if j + 3 <= i:
            matrix[at + 3] += values[3]


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
