"""Alternating least squares, one half-step: every row of one side solved while the other side stays fixed.

R rows to solve, S rows of the fixed side, N observed entries, D embedding size, W columns solved together.

With y_s the fixed rows, each row x minimizes

    sum over observed n of (weight_n (x.y_n)^2 - 2 target_n x.y_n)  +  all_weight * sum over all s of (x.y_s)^2  +  penalty |x|^2

which is, up to a constant, the row's part of

- Hu, Koren, Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", eq. 3:
  weight = confidence * r, target = 1 + confidence * r, all_weight = 1;
- Rendle, Krichene, Zhang, Koren 2022, "Revisiting the Performance of iALS on Item Recommendation Benchmarks", eq. 1-4:
  weight = target = 1, all_weight = alpha0, penalty = reg * (count + alpha0 * S)^nu;
- Zhou, Wilkinson, Schreiber, Pan 2008, "Large-Scale Parallel Collaborative Filtering for the Netflix Prize" (ALS-WR):
  weight = 1, target = rating, all_weight = 0, penalty = reg * count.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from .device import Device, resolve
from .threads import BLOCKS_PER_THREAD, equal_cost
from .tile import LANES, add_tile, prefetch

Solver = Literal["cholesky", "cg", "ials++"]

BUFFER_BYTES = 4 << 20  # gathered rows buffered per thread; longer rows are gathered again at each pass
AHEAD = 12  # rows to prefetch before they are gathered
TILED = 8192  # float32 of gathered rows whose outer products are added together: fits the L1 cache
PART = 32  # gathered rows per step of a pass: fits the L1 cache


class Observed(NamedTuple):
    """Observed entries of R rows: a CSR over the S fixed rows, and each row's penalty."""

    indptr_R1: Any  # int64 [R + 1]
    indices_N: Any  # int32, each in [0, S)
    weights_N: Any  # float32
    targets_N: Any  # float32
    penalties_R: Any  # float32, > 0


def solve_rows(
    observed: Observed,
    fixed_SD: Any,
    start_RD: Any,
    *,
    all_weight: float = 0.0,
    solver: Solver = "cholesky",
    cg_steps: int = 3,
    block_size: int = 32,
    gram_DD: np.ndarray | None = None,
    device: Device = "auto",
) -> Any:
    """Return the rows [R, D] that minimize the objective above ("cholesky"), or a step closer to its minimum (the others).

    Args:
        observed: entries and penalties; a row without entries shrinks to 0.
        fixed_SD: float32, C-contiguous.
        start_RD: float32, the starting point of "cg" and "ials++": the rows from the last half-step.
        all_weight: weight of the sum over all pairs, observed or not.
        solver: "cholesky" is exact and costs D^2 an entry. "cg" takes `cg_steps` conjugate-gradient steps from `start_RD`
            (Takacs, Pilaszy, Tikk 2011), 4 D an entry and step. "ials++" solves blocks of `block_size` columns in turn,
            each exactly with the others fixed (Rendle et al. 2021, "iALS++: Speeding up Matrix Factorization with Subspace
            Optimization"), `block_size` x D an entry: for large D.
        cg_steps: at least 1.
        block_size: columns solved together by "ials++", rounded to a multiple of 16.
        gram_DD: the sum over all s of y_s y_s^T, where `fixed_SD` has only the rows that are observed; None computes it.
        device: where to compute. Arrays already on the device are used in place, and the result stays there.

    Returns:
        float32 [R, D], a new array. It does not depend on the number of threads; between devices it differs by rounding.

    Raises:
        ValueError: an unknown solver, or sizes that do not fit together; on a GPU also blocks of over 136 columns, or "cg" of
            over 1,536.
        RuntimeError: "cholesky" of over 136 columns on a GPU, without a Torch built for CUDA.
    """
    num_rows, size = start_RD.shape
    num_bounds, num_penalties = observed.indptr_R1.shape[0], observed.penalties_R.shape[0]
    if fixed_SD.shape[1] != size or num_bounds != num_rows + 1 or num_penalties != num_rows:
        raise ValueError(
            f"start, fixed rows, indptr and penalties must be of [R, D], [S, D], [R + 1], [R], got {start_RD.shape}, "
            f"{fixed_SD.shape}, [{num_bounds}], [{num_penalties}]"
        )
    if solver not in ("cholesky", "cg", "ials++"):
        raise ValueError(f'solver must be "cholesky", "cg" or "ials++", got {solver!r}')
    if min(cg_steps, block_size) < 1:
        raise ValueError(f"cg_steps and block_size must be at least 1, got {cg_steps} and {block_size}")
    step = _columns_together(size, block_size if solver == "ials++" else size)
    if resolve(device) == "cuda":
        from .cuda import als as twin

        return twin.solve_rows(observed, fixed_SD, start_RD, all_weight, solver, cg_steps, step, gram_DD)
    width = -(-size // step) * step
    table_SW = _padded(fixed_SD, width)
    gram_WW = np.zeros((width, width), np.float32)
    if all_weight:
        whole = summed(gram_parts(table_SW, gram_bounds(len(table_SW)))) if gram_DD is None else _padded(gram_DD, width)
        gram_WW[: len(whole)] = np.float32(all_weight) * whole
    solved_RW = np.zeros((num_rows, width), np.float32) if solver == "cholesky" else _padded(start_RD, width).copy()
    threads = get_num_threads()
    bounds = equal_cost(observed.indptr_R1, size // 2, BLOCKS_PER_THREAD * threads)
    if solver == "cg":
        _cg_cpu(*observed, table_SW, gram_WW, cg_steps, bounds, threads, solved_RW)
    else:
        _block_cpu(*observed, table_SW, gram_WW, step, bounds, threads, solved_RW)
    return np.ascontiguousarray(solved_RW[:, :size])


def gram_bounds(num_fixed: int) -> np.ndarray:
    """Return the bounds of the rows whose outer products are summed one part at a time: BLAS guarantees no order of summation."""
    return np.linspace(0, num_fixed, max(1, min(64, num_fixed // 1024)) + 1).astype(np.int64)


def gram_parts(fixed_SD: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return float32 [parts, D or more, D or more]: the upper triangles of the sums of y_s y_s^T from one bound to the next."""
    table_SW = _padded(fixed_SD, -(-fixed_SD.shape[1] // LANES) * LANES)
    parts = np.zeros((len(bounds) - 1, table_SW.shape[1], table_SW.shape[1]), np.float32)
    _gram_cpu(table_SW, bounds, np.ones(1024, np.float32), parts)
    return parts


def summed(parts: np.ndarray) -> np.ndarray:
    """Return the sum of all parts of `gram_parts`, float32, symmetric."""
    upper = np.triu(parts.sum(axis=0, dtype=np.float64)).astype(np.float32)
    return upper + np.triu(upper, 1).T


def _columns_together(size: int, most: int) -> int:
    """Return the block width, a multiple of LANES, that splits `size` columns into blocks of about `most`."""
    num_blocks = -(-size // most)
    return -(-size // (num_blocks * LANES)) * LANES


def _padded(table: np.ndarray, width: int) -> np.ndarray:
    if table.shape[1] == width:
        return np.ascontiguousarray(table, np.float32)
    wide = np.zeros((len(table), width), np.float32)
    wide[:, : table.shape[1]] = table
    return wide


# Arithmetic of one row. Loops over columns use unsigned indices and whole vectors so that LLVM vectorizes them.


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _gather(table, indices, first, count, column, rows):
    """Copy the columns of some fixed rows, from `column` on, into `rows`; zeros up to a multiple of four rows."""
    width = np.uint64(rows.shape[1])
    column = np.uint64(column)
    last = np.uint64(max(indices.shape[0], 1) - 1)
    for k in range(np.uint64(count)):
        source = np.uint64(indices[np.uint64(first) + k])
        ahead = np.uint64(indices[min(np.uint64(first) + k + np.uint64(AHEAD), last)])
        for d in range(np.uint64(0), width, np.uint64(LANES)):
            prefetch(table, ahead, column + d)
        for d in range(width):
            rows[k, d] = table[source, column + d]
    for k in range(np.uint64(count), np.uint64((count + 3) // 4 * 4)):
        for d in range(width):
            rows[k, d] = np.float32(0.0)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_outer(matrix, begin, rows, count, scale):
    """matrix[i, j] += sum_k scale_k rows_ki rows_kj for begin <= i <= j (and a little below); k < count."""
    width = np.uint64(matrix.shape[0])
    lanes, four = np.uint64(LANES), np.uint64(4)
    together = np.uint64(max(16, TILED // matrix.shape[0]))
    for first in range(np.uint64(0), np.uint64(count), together):
        last = min(first + together, np.uint64(count))
        for i in range(np.uint64(begin), width, four):
            for j in range(i // lanes * lanes, width, lanes):
                add_tile(matrix, i, j, rows, first, last, scale)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_dots(rows, count, x, out):
    """out[k] += rows_k . x for k < count, in fours."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    for k in range(np.uint64(0), np.uint64((count + 3) // 4 * 4), four):
        k1, k2, k3 = k + one, k + two, k + three
        s0 = s1 = s2 = s3 = np.float32(0.0)
        for d in range(np.uint64(rows.shape[1])):
            s0 += rows[k, d] * x[d]
            s1 += rows[k1, d] * x[d]
            s2 += rows[k2, d] * x[d]
            s3 += rows[k3, d] * x[d]
        out[k] += s0
        out[k1] += s1
        out[k2] += s2
        out[k3] += s3


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_scaled(rows, count, scale, out):
    """out += sum_k scale_k rows_k for k < count, in fours."""
    one, two, three, four = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    for k in range(np.uint64(0), np.uint64((count + 3) // 4 * 4), four):
        k1, k2, k3 = k + one, k + two, k + three
        s0, s1, s2, s3 = scale[k], scale[k1], scale[k2], scale[k3]
        for d in range(np.uint64(rows.shape[1])):
            out[d] += s0 * rows[k, d] + s1 * rows[k1, d] + s2 * rows[k2, d] + s3 * rows[k3, d]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _dot(a, b):
    total = np.float32(0.0)
    for d in range(np.uint64(a.shape[0])):
        total += a[d] * b[d]
    return total


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _add_times(scale, a, out):
    for d in range(np.uint64(a.shape[0])):
        out[d] += scale * a[d]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _copy(a, out):
    for d in range(np.uint64(a.shape[0])):
        out[d] = a[d]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _solve(matrix, right, solution, panel):
    """solution = matrix^-1 right by Cholesky, four rows at a time; matrix (upper triangle) and right are destroyed."""
    size = matrix.shape[0]
    minus = np.full(4, -1.0, np.float32)
    for k in range(size):
        solution[k] = matrix[k, k]
    for begin in range(0, size, 4):
        for k in range(begin, begin + 4):
            # Rounding can make a pivot non-positive that is positive in exact arithmetic, so it is clamped at 1e-6 of its diagonal.
            pivot = max(matrix[k, k], np.float32(1e-6) * solution[k], np.float32(1e-30))
            matrix[k, k] = pivot
            row = matrix[k, k:]
            row *= np.float32(1.0) / np.sqrt(pivot)
            for i in range(k + 1, begin + 4):
                _add_times(-matrix[k, i], matrix[k, i:], matrix[i, i:])
        for r in range(4):
            _copy(matrix[begin + r, begin:], panel[r, begin:])
        _add_outer(matrix, begin + 4, panel, np.int64(4), minus)
    for k in range(size):
        right[k] /= matrix[k, k]
        _add_times(-right[k], matrix[k, k + 1 :], right[k + 1 :])
    for k in range(size - 1, -1, -1):
        solution[k] = (right[k] - _dot(matrix[k, k + 1 :], solution[k + 1 :])) / matrix[k, k]


# Loops over rows. Each thread's part is a function of its own: inside of `prange` it would take Numba several times as long to compile;
# so would assigning one slice to another, whose shapes are compared


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _gram_part(table, begin, end, ones, part):
    rows = np.empty((1024, table.shape[1]), np.float32)
    for first in range(begin, end, 1024):
        count = min(1024, end - first)
        for k in range(count):
            _copy(table[first + k], rows[k])
        rows[count:] = np.float32(0.0)
        _add_outer(part, np.int64(0), rows, count, ones)


@njit(cache=True, nogil=True, parallel=True)
def _gram_cpu(table, bounds, ones, parts):
    for part in prange(parts.shape[0]):
        _gram_part(table, bounds[part], bounds[part + 1], ones, parts[part])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _cg_rows(thread, indptr, indices, weights, targets, penalties, table, gram, steps, bounds, threads, solved):
    """Conjugate gradients starting from `solved`; each row's fixed rows are gathered once if they fit the buffer."""
    size = table.shape[1]
    capacity = max(1, BUFFER_BYTES // (4 * size * PART)) * PART
    rows = np.empty((capacity, size), np.float32)
    scale = np.empty(PART, np.float32)
    direction = np.empty(size, np.float32)
    residual = np.empty(size, np.float32)
    product = np.empty(size, np.float32)
    for block in range(thread, bounds.shape[0] - 1, threads):
        for row in range(bounds[block], bounds[block + 1]):
            begin, end = indptr[row], indptr[row + 1]
            x = solved[row]
            for d in range(size):
                residual[d] = np.float32(0.0)
                direction[d] = x[d]
            squares = np.float32(0.0)
            for step in range(steps + 1):
                # product = A direction: in step 0 the direction is x, and the targets are subtracted
                for d in range(size):
                    product[d] = penalties[row] * direction[d]
                _add_scaled(gram, size, direction, product)
                for first in range(begin, end, PART):
                    count = min(PART, end - first)
                    fits = end - begin <= capacity
                    mine = rows[first - begin : first - begin + PART] if fits else rows[:PART]
                    if step == 0 or not fits:
                        _gather(table, indices, first, count, 0, mine)
                    scale[:] = np.float32(0.0)
                    _add_dots(mine, count, direction, scale)
                    for k in range(count):
                        scale[k] *= weights[first + k]
                    if step == 0:
                        for k in range(count):
                            scale[k] -= targets[first + k]
                    _add_scaled(mine, count, scale, product)
                if step == 0:
                    for d in range(size):
                        residual[d] = -product[d]
                        direction[d] = residual[d]
                    squares = _dot(residual, residual)
                else:
                    length = squares / _dot(direction, product)
                    _add_times(length, direction, x)
                    _add_times(-length, product, residual)
                    fresh = _dot(residual, residual)
                    for d in range(size):
                        direction[d] = residual[d] + fresh / squares * direction[d]
                    squares = fresh
                if squares < np.float32(1e-20):
                    break


@njit(cache=True, nogil=True, parallel=True)
def _cg_cpu(indptr, indices, weights, targets, penalties, table, gram, steps, bounds, threads, solved):
    for thread in prange(threads):
        _cg_rows(
            np.int64(thread), indptr, indices, weights, targets, penalties, table, gram, steps, bounds, threads, solved
        )


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _block_rows(thread, indptr, indices, weights, targets, penalties, table, gram, step, bounds, threads, solved):
    """Solve `step` columns at a time exactly, starting from `solved`; all at once if `step` is D."""
    size = table.shape[1]
    capacity = max(4, BUFFER_BYTES // (4 * step) // 4 * 4)
    rows = np.empty((capacity, step), np.float32)
    scale = np.zeros(capacity, np.float32)
    predicted = np.empty(table.shape[0] + 4, np.float32)
    matrix = np.empty((step, step), np.float32)
    right = np.empty(step, np.float32)
    change = np.empty(step, np.float32)
    panel = np.empty((4, step), np.float32)
    for block in range(thread, bounds.shape[0] - 1, threads):
        for row in range(bounds[block], bounds[block + 1]):
            begin, end = indptr[row], indptr[row + 1]
            x = solved[row]
            predicted[: end - begin + 4] = np.float32(0.0)
            if _dot(x, x) != 0:
                for column in range(0, size, step):
                    for first in range(begin, end, capacity):
                        count = min(capacity, end - first)
                        _gather(table, indices, first, count, column, rows)
                        _add_dots(rows, count, x[column : column + step], predicted[first - begin :])
            for column in range(0, size, step):
                mine = x[column : column + step]
                for d in range(step):
                    _copy(gram[column + d, column : column + step], matrix[d])
                    matrix[d, d] += penalties[row]
                    right[d] = -_dot(gram[column + d], x) - penalties[row] * mine[d]
                for first in range(begin, end, capacity):
                    count = min(capacity, end - first)
                    _gather(table, indices, first, count, column, rows)
                    scale[count:] = np.float32(0.0)
                    for k in range(count):
                        scale[k] = weights[first + k]
                    _add_outer(matrix, np.int64(0), rows, count, scale)
                    for k in range(count):
                        scale[k] = targets[first + k] - scale[k] * predicted[first - begin + k]
                    _add_scaled(rows, count, scale, right)
                _solve(matrix, right, change, panel)
                _add_times(np.float32(1.0), change, mine)
                if column + step < size:
                    for first in range(begin, end, capacity):
                        count = min(capacity, end - first)
                        if end - begin > capacity:
                            _gather(table, indices, first, count, column, rows)
                        _add_dots(rows, count, change, predicted[first - begin :])


@njit(cache=True, nogil=True, parallel=True)
def _block_cpu(indptr, indices, weights, targets, penalties, table, gram, step, bounds, threads, solved):
    for thread in prange(threads):
        _block_rows(
            np.int64(thread), indptr, indices, weights, targets, penalties, table, gram, step, bounds, threads, solved
        )
