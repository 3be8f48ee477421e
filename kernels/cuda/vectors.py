"""Preparing sparse vectors for similarity search, on the GPU.

R rows, C columns, N stored entries. Only column sizes are copied to the host. Columns are filled in arbitrary thread order and
then sorted, so that the result is deterministic.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda, float32, int32, int64

from ..comparison import PEARSON, Prepared, SearchRequest, Vectors
from .arrays import to_device
from .similarity import Searched

THREADS = 128
MOST_BLOCKS = 1024  # for kernels that go through all entries
INVERSE_NORM, MEAN, MEAN_IN_EIGHTHS = range(3)

SIGNATURES = {
    "count_columns": "void(int32[::1], int32[::1])",
    "fill_columns": "void(int64[::1], int32[::1], float32[::1], int64[::1], int32[::1], int32[::1], float32[::1])",
    "sort_columns": "void(int64[::1], int32[::1], float32[::1], int32[::1], float32[::1])",
    "summarize": "void(int64[::1], float32[::1], int32, float32[::1])",
    "shift_rows": "void(int64[::1], float32[::1], float32[::1], float32[::1])",
    "shift_columns": "void(int32[::1], float32[::1], float32[::1], float32[::1])",
    "sizes_of": "void(int64[::1], float32[::1])",
    "multiply": "void(float32[::1], float32[::1], float32[::1])",
}
BLOCKS = dict.fromkeys(SIGNATURES, THREADS)


def prepare(vectors: Vectors, rule: dict[str, Any], centered: bool, scale_R: Any) -> Prepared:
    """See `kernels.vectors.prepare`; for vectors on the device."""
    indptr, indices, values = _arrays(vectors)
    num_rows = indptr.shape[0] - 1
    if rule["kind"] == PEARSON:
        values = _shifted_rows(indptr, values, _summary(indptr, values, MEAN_IN_EIGHTHS))
    columns = _by_column(indptr, indices, values, vectors.num_columns)
    means_C = None
    if centered:
        means_C = _summary(columns[0], columns[2], MEAN)
        columns = (*columns[:2], _shifted_rows(columns[0], columns[2], means_C))
        values = _shifted_columns(indices, values, means_C)
    norms = _summary(indptr, values, INVERSE_NORM) if rule["normed"] else to_device(np.ones(num_rows, np.float32))
    scale = norms
    if scale_R is not None:
        scale = cuda.device_array(num_rows, np.float32)
        multiply[_blocks(num_rows), THREADS](norms, to_device(scale_R, np.float32), scale)
    sizes = cuda.device_array(num_rows, np.float32)
    sizes_of[_blocks(num_rows), THREADS](indptr, sizes)
    order = np.arange(num_rows, dtype=np.int32)
    return Prepared(
        **rule,
        means_C=means_C,
        vectors=Vectors(indptr, indices, values, vectors.num_columns),
        norms_R=norms,
        scale_R=scale,
        order_R=order,
        place_R=order,
        columns=columns,
        on_device=True,
        resident={"searched": Searched(*columns, scale, sizes, to_device(order))},
    )


def search_request(prepared: Prepared, queries: Vectors) -> SearchRequest:
    """Return queries in the form the kernels take."""
    indptr, indices, values = _arrays(queries)
    size = indptr.shape[0] - 1
    if prepared.means_C is not None:
        values = _shifted_columns(indices, values, to_device(prepared.means_C, np.float32))
    elif prepared.kind == PEARSON:
        values = _shifted_rows(indptr, values, _summary(indptr, values, MEAN_IN_EIGHTHS))
    norms = _summary(indptr, values, INVERSE_NORM) if prepared.normed else np.ones(size, np.float32)
    return SearchRequest(np.arange(size), np.full(size, -1, np.int64), indptr, indices, values, norms)


def _blocks(size: int) -> int:
    return max(1, min(MOST_BLOCKS, -(-size // THREADS)))


def _arrays(vectors: Vectors) -> tuple[Any, Any, Any]:
    parts = (vectors.indptr_R1, np.int64), (vectors.indices_N, np.int32), (vectors.values_N, np.float32)
    return tuple(to_device(array, dtype) for array, dtype in parts)


def _by_column(indptr: Any, indices: Any, values: Any, num_columns: int) -> tuple[Any, Any, Any]:
    """Return indptr, rows and values of each column; rows ascend."""
    counts = to_device(np.zeros(num_columns + 1, np.int32))
    count_columns[_blocks(indices.size), THREADS](indices, counts)
    starts = to_device(np.cumsum(counts.copy_to_host(), dtype=np.int64))
    used = to_device(np.zeros(num_columns, np.int32))
    rows, found = cuda.device_array(indices.shape, np.int32), cuda.device_array(indices.shape, np.float32)
    sorted_rows, sorted_values = cuda.device_array_like(rows), cuda.device_array_like(found)
    if indices.size:
        fill_columns[indptr.shape[0] - 1, THREADS](indptr, indices, values, starts, used, rows, found)
        sort_columns[num_columns, THREADS](starts, rows, found, sorted_rows, sorted_values)
    return starts, sorted_rows, sorted_values


def _summary(indptr: Any, values: Any, what: int) -> Any:
    result = cuda.device_array(indptr.shape[0] - 1, np.float32)
    if result.size:
        summarize[result.size, THREADS](indptr, values, np.int32(what), result)
    return result


def _shifted_rows(indptr: Any, values: Any, shift: Any) -> Any:
    result = cuda.device_array(values.shape, np.float32)
    if result.size:
        shift_rows[shift.size, THREADS](indptr, values, shift, result)
    return result


def _shifted_columns(indices: Any, values: Any, shift: Any) -> Any:
    result = cuda.device_array(values.shape, np.float32)
    shift_columns[_blocks(indices.size), THREADS](indices, values, shift, result)
    return result


@cuda.jit
def count_columns(indices, counts_C1):
    """Count each column's entries, stored one position further."""
    for n in range(cuda.grid(1), indices.shape[0], cuda.gridsize(1)):
        cuda.atomic.add(counts_C1, indices[n] + 1, int32(1))


@cuda.jit
def fill_columns(indptr, indices, values, starts, used_C, rows_N, values_N):
    """Put a row's entries into the next free slots of their columns: one block per row."""
    row = cuda.blockIdx.x
    for n in range(indptr[row] + cuda.threadIdx.x, indptr[row + 1], THREADS):
        column = indices[n]
        at = starts[column] + cuda.atomic.add(used_C, column, int32(1))
        rows_N[at] = row
        values_N[at] = values[n]


@cuda.jit
def sort_columns(starts, rows_N, values_N, sorted_rows_N, sorted_values_N):
    """Sort a column by row, each entry counting those before it: one block per column."""
    begin = starts[cuda.blockIdx.x]
    end = starts[cuda.blockIdx.x + 1]
    for n in range(begin + cuda.threadIdx.x, end, THREADS):
        row = rows_N[n]
        place = begin
        for other in range(begin, end):
            if rows_N[other] < row:
                place += int64(1)
        sorted_rows_N[place] = row
        sorted_values_N[place] = values_N[n]


@cuda.jit
def summarize(indptr, values, what, result):
    """Write the inverse norm or the mean of a row's values: one block per row."""
    partial = cuda.shared.array(THREADS, float32)
    thread = cuda.threadIdx.x
    begin = indptr[cuda.blockIdx.x]
    end = indptr[cuda.blockIdx.x + 1]
    total = float32(0)
    for n in range(begin + thread, end, THREADS):
        total += values[n] * values[n] if what == INVERSE_NORM else values[n]
    partial[thread] = total
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if thread < half:
            partial[thread] += partial[thread + half]
        cuda.syncthreads()
        half //= 2
    if thread == 0:
        total = partial[0]
        if what == INVERSE_NORM:
            result[cuda.blockIdx.x] = float32(1) / math.sqrt(total) if total > float32(0) else float32(0)
        else:
            mean = total / float32(max(end - begin, int64(1)))
            if what == MEAN_IN_EIGHTHS:
                mean = float32(int32(mean * float32(8))) / float32(8)
            result[cuda.blockIdx.x] = mean


@cuda.jit
def shift_rows(indptr, values, shift_R, result):
    """Subtract each row's shift: one block per row."""
    row = cuda.blockIdx.x
    for n in range(indptr[row] + cuda.threadIdx.x, indptr[row + 1], THREADS):
        result[n] = values[n] - shift_R[row]


@cuda.jit
def shift_columns(indices, values, shift_C, result):
    """Subtract each column's shift."""
    for n in range(cuda.grid(1), indices.shape[0], cuda.gridsize(1)):
        result[n] = values[n] - shift_C[indices[n]]


@cuda.jit
def sizes_of(indptr, sizes_R):
    """Write how many entries each row has."""
    for row in range(cuda.grid(1), sizes_R.shape[0], cuda.gridsize(1)):
        sizes_R[row] = float32(indptr[row + 1] - indptr[row])


@cuda.jit
def multiply(left, right, result):
    """Write the elementwise product of two arrays."""
    for n in range(cuda.grid(1), result.shape[0], cuda.gridsize(1)):
        result[n] = left[n] * right[n]
