"""The nearest neighbors of sparse vectors on a GPU: one block per requested row.

R rows, C columns, B rows requested, K neighbors. A block walks the columns of its row in order; its threads add to the sums
of the rows in a column, which are distinct. So sums run over columns in ascending order, as on the CPU, and
need no atomics. Similarities are held in a bounded buffer until `topk` has selected from them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32, int64

from ..comparison import COMMON, Prepared, SearchRequest, finished_plain
from ..item_lists import ItemLists
from . import topk
from .arrays import on_device, to_device

THREADS = 128
STAGED = 128  # columns whose positions and values are in shared memory
SCRATCH_BYTES = 256 << 20  # sums and similarities held at once

SIGNATURES = {
    "similarities": "void(int32, int32, boolean, float32, float32, int64[::1], int32[::1], float32[::1], float32[::1], "
    "float32[::1], int64[::1], int64[::1], int32[::1], float32[::1], float32[::1], float32[:, ::1], float32[:, ::1])",
}
BLOCKS = dict.fromkeys(SIGNATURES, THREADS)

_finished = cuda.jit(device=True)(finished_plain)


class Searched(NamedTuple):
    """The searched vectors, on the device, in their own numbering."""

    starts_C1: Any
    rows_N: Any
    values_N: Any
    scale_R: Any
    sizes_R: Any


def nearest(prepared: Prepared, request: SearchRequest, k: int) -> tuple[Any, Any]:
    """See `kernels.similarity.nearest`."""
    size = (len(request.rows_B), k)
    there = on_device(request.values_N)
    make: Any = cuda.device_array if there else np.empty
    rows_BK, best_BK = make(size, np.int32), make(size, np.float32)
    num_rows = len(prepared.order_R)
    itself_B = np.where(request.itself_B < 0, -1, prepared.order_R[request.itself_B] if num_rows else -1).astype(
        np.int32
    )
    indices = request.indices_N if there else request.indices_N.view(np.int32)
    parts = (
        (request.indptr_R1, np.int64),
        (indices, np.int32),
        (request.values_N, np.float32),
        (request.norms_R, np.float32),
    )
    vectors = tuple(to_device(array, dtype) for array, dtype in parts)
    step = max(1, SCRATCH_BYTES // max(1, 4 * num_rows * (prepared.width + 1)))
    for begin in range(0, size[0], step):
        some = slice(begin, min(begin + step, size[0]))
        scores = _similarities(prepared, request.rows_B[some], vectors)
        own = itself_B[some]
        places = np.arange(len(own), dtype=np.int64)
        found, best = topk.top_k(scores, k, exclude=ItemLists(places, places + (own >= 0), own), allow=None)
        if there:
            rows_BK[some].copy_to_device(found)
            best_BK[some].copy_to_device(best)
        else:
            rows_BK[some], best_BK[some] = found.copy_to_host(), best.copy_to_host()
    return rows_BK, best_BK


def _similarities(prepared: Prepared, rows_B: np.ndarray, vectors: tuple[Any, ...]) -> Any:
    """Return float32 [B, R] on the device; -inf where rows are not neighbors."""
    size = (len(rows_B), len(prepared.order_R))
    scores = cuda.device_array(size, np.float32)
    sums = scores if prepared.width == 1 else cuda.device_array((size[0], size[1] * prepared.width), np.float32)
    if size[1]:
        similarities[size[0], THREADS](
            np.int32(prepared.kind),
            np.int32(prepared.width),
            np.bool_(prepared.ones),
            prepared.shrinkage,
            prepared.min_common,
            *_searched(prepared),
            to_device(rows_B, np.int64),
            *vectors,
            sums,
            scores,
        )
    return scores


def _searched(prepared: Prepared) -> Searched:
    """Return the searched side; it is copied to the device once."""
    if "searched" not in prepared.resident:
        starts, places, values = prepared.columns
        sizes = np.diff(prepared.vectors.indptr_R1)
        arrays = (
            (starts, np.int64),
            (prepared.order_R[places], np.int32),
            (values, np.float32),
            (prepared.scale_R, np.float32),
            (sizes, np.float32),
        )
        prepared.resident["searched"] = Searched(*(to_device(array, dtype) for array, dtype in arrays))
    return prepared.resident["searched"]


@cuda.jit
def similarities(
    kind,
    width,
    ones,
    shrinkage,
    min_common,
    starts_C1,
    their_rows_N,
    their_values_N,
    scale_R,
    sizes_R,
    rows_B,
    indptr_Q1,
    indices_Q,
    values_Q,
    norms_Q,
    sums_BW,
    scores_BR,
):
    """Write the similarities of row rows_B[block] to all rows. `sums_BW` may be `scores_BR` if one sum per pair is enough."""
    begins = cuda.shared.array(STAGED, int64)
    ends = cuda.shared.array(STAGED, int64)
    weights = cuda.shared.array(STAGED, float32)
    thread = cuda.threadIdx.x
    sums = sums_BW[cuda.blockIdx.x]
    scores = scores_BR[cuda.blockIdx.x]
    query = rows_B[cuda.blockIdx.x]
    first = indptr_Q1[query]
    size = indptr_Q1[query + 1] - first
    for at in range(thread, sums.shape[0], THREADS):
        sums[at] = float32(0)
    for staged in range(0, size, STAGED):
        cuda.syncthreads()  # the last stage is read, and the sums are 0
        count = min(STAGED, size - staged)
        if thread < count:
            column = indices_Q[first + staged + thread]
            begins[thread] = starts_C1[column]
            ends[thread] = starts_C1[column + 1]
            weights[thread] = values_Q[first + staged + thread]
        cuda.syncthreads()
        for column in range(count):
            x = weights[column]
            for n in range(begins[column] + thread, ends[column], THREADS):
                _add(kind, width, ones, x, their_values_N[n], sums, int64(their_rows_N[n]) * width)
            cuda.syncthreads()  # the next column may have the same rows
    cuda.syncthreads()
    norm = norms_Q[query]
    for row in range(thread, scores.shape[0], THREADS):
        pair = sums[row * width : row * width + width]
        score = float32(0)
        if pair[width - 1] != float32(0):
            score = _finished(kind, ones, pair, norm, scale_R[row], float32(size), sizes_R[row], shrinkage, min_common)
        scores[row] = score if score > float32(0) else float32(-np.inf)


@cuda.jit(device=True)
def _add(kind, width, ones, x, y, sums, at):
    """Add one common column to the sums of a pair."""
    if ones:
        sums[at] += float32(1)
        return
    sums[at] += x * y
    if width == 1:
        return
    sums[at + width - 1] += float32(1)
    if width == 2:
        return
    sums[at + 1] += x * x
    sums[at + 2] += y * y
    if kind != COMMON:
        sums[at + 3] += x
        sums[at + 4] += y
