"""The nearest neighbors of sparse vectors, one row of similarities at a time; never all against all.

R rows, C columns, N stored entries, B rows requested, K neighbors. The rows may be items described by their users, or users by
their items. For rows x and y, with sums over the n columns where both have an entry unless stated otherwise:

- cosine: sum xy / (|x| |y|), norms over all entries of a row (Sarwar, Karypis, Konstan, Riedl 2001, "Item-Based
  Collaborative Filtering Recommendation Algorithms", section 3.1.1);
- jaccard: n / (entries of x + entries of y - n), ignoring values;
- pearson: the correlation over common columns, means over those columns (ibid., section 3.1.2);
- common_cosine: sum xy / sqrt(sum xx sum yy); for ratings minus their baselines it is Koren 2010's correlation ("Factor in
  the Neighbors", section 2.2);
- adjusted_cosine: common_cosine of values minus their column's mean: for items, minus the user's mean rating (Sarwar et al.
  2001, section 3.1.3);
- dot: sum xy.

Each is multiplied by n / (n + shrinkage) (Koren 2010, section 2.2, with n in place of n - 1) and, with `scale_R`, by the factor of y.
Only rows with positive similarity are neighbors. Sums run over columns in ascending order, so a pair's similarity is bitwise
the same from either side and for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import get_num_threads, njit, parallel_chunksize, prange

from .comparison import COMMON, JACCARD, Prepared, SearchRequest, Vectors, finished_plain
from .compiling import INSIDE
from .device import Device, resolve
from .keys import best_first, key_of, score_of, write_list
from .tile import prefetch_at
from .vectors import search_request

BLOCKS_PER_THREAD = 16
LEAST = np.finfo(np.float32).smallest_subnormal
SPAN = 128  # similarities finished at a time, in the L1 cache
SCAN_SHARE = 8  # cost of scanning a row, as a share of visiting it

AHEAD = 3  # columns whose entries are fetched before they are needed
FETCHED = np.uint64(1024)  # of them; the processor fetches the rest of a long column by itself


def nearest(
    prepared: Prepared,
    k: int,
    *,
    rows: np.ndarray | None = None,
    queries: Vectors | None = None,
    device: Device = "auto",
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k most similar rows, best first; ties go to the lower row.

    Args:
        prepared: the vectors to search.
        k: length of the lists, at least 1.
        rows: rows to find neighbors of, [B]; None for all. A row is never its own neighbor.
        queries: other vectors over the same columns, to find neighbors of instead of `rows`.
        device: where to compute; the result does not depend on it beyond rounding (1e-6 relative). Vectors prepared on a
            device, or queries already there, are always searched there.

    Returns:
        int32 rows [B, K] padded with -1, float32 similarities [B, K] padded with -inf; on the device if the
        requested vectors are there.

    Raises:
        ValueError: k below 1, or queries over other columns.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    request = search_request(prepared, rows, queries)
    if prepared.on_device or not isinstance(request.values_N, np.ndarray) or resolve(device) == "cuda":
        from .cuda import similarity as twin

        return twin.nearest(prepared, request, k)
    rows_BK = np.full((len(request.rows_B), k), -1, np.int32)
    best_BK = np.full((len(request.rows_B), k), -np.inf, np.float32)
    with parallel_chunksize(1):
        _nearest_cpu(comparison(prepared), request, bounds_of(prepared, request), rows_BK, best_BK)
    return rows_BK, best_BK


def comparison(prepared: Prepared) -> tuple:
    """Return what the kernels need of the searched side."""
    sizes = np.diff(prepared.vectors.indptr_R1)[prepared.order_R].astype(np.float32)
    rule = (prepared.kind, prepared.width, prepared.ones, prepared.shrinkage, prepared.min_common)
    return (*rule, *prepared.columns, prepared.scale_R[prepared.order_R], sizes, prepared.order_R)


def bounds_of(prepared: Prepared, request: SearchRequest) -> np.ndarray:
    """Return bounds that cut the requested rows into blocks of equal cost."""
    costs_B = _products(request.rows_B, request.indptr_R1, request.indices_N, prepared.columns[0])
    costs_B = np.cumsum(costs_B + len(prepared.order_R) // 8 + 1)
    total = costs_B[-1] if len(costs_B) else 0
    num_blocks = BLOCKS_PER_THREAD * get_num_threads()
    inner = np.searchsorted(costs_B, np.linspace(0, total, num_blocks + 1)[1:-1])
    return np.concatenate([[0], inner, [len(costs_B)]]).astype(np.int64)


@njit(cache=True, nogil=True)
def _products(rows_B, indptr, indices, starts):
    """Return the number of products each row's similarities take."""
    costs_B = np.zeros(len(rows_B), np.int64)
    for b in range(len(rows_B)):
        for column in indices[indptr[rows_B[b]] : indptr[rows_B[b] + 1]]:
            costs_B[b] += starts[np.uint64(column) + np.uint64(1)] - starts[column]
    return costs_B


@njit(cache=True, nogil=True)
def accumulate(kind, width, ones, indices_Q, values_Q, starts, places, values, sums):
    """Add the sums of one vector with every row that shares a column with it to `sums` [R * width]."""
    line, last = np.uint64(16), len(indices_Q) - 1
    for q in range(len(indices_Q)):
        first = starts[indices_Q[q]]
        end = starts[np.uint64(indices_Q[q]) + np.uint64(1)]
        rows = places[first:end]
        soon = np.uint64(indices_Q[min(q + AHEAD, last)])
        begin = np.uint64(starts[soon])
        for entry in range(begin, min(np.uint64(starts[soon + np.uint64(1)]), begin + FETCHED), line):
            prefetch_at(places, entry)
            if not ones:
                prefetch_at(values, entry)
        if ones:
            for r in rows:
                sums[r] += np.float32(1)
            continue
        x = values_Q[q]
        their = values[first:end]
        if width == 1:
            for n in range(len(rows)):
                sums[rows[n]] += x * their[n]
        elif width == 2:
            for n in range(len(rows)):
                at = np.uint64(rows[n]) * np.uint64(2)
                sums[at] += x * their[n]
                sums[at + np.uint64(1)] += np.float32(1)
        elif kind == COMMON:
            for n in range(len(rows)):
                at = np.uint64(rows[n]) * np.uint64(4)
                y = their[n]
                sums[at] += x * y
                sums[at + np.uint64(1)] += x * x
                sums[at + np.uint64(2)] += y * y
                sums[at + np.uint64(3)] += np.float32(1)
        else:
            for n in range(len(rows)):
                at = np.uint64(rows[n]) * np.uint64(6)
                y = their[n]
                sums[at] += x * y
                sums[at + np.uint64(1)] += x * x
                sums[at + np.uint64(2)] += y * y
                sums[at + np.uint64(3)] += x
                sums[at + np.uint64(4)] += y
                sums[at + np.uint64(5)] += np.float32(1)


finished = njit(cache=True, nogil=True, error_model="numpy")(finished_plain)


@njit(cache=True, nogil=True, error_model="numpy")
def _finish_span(kind, width, ones, sums, first, scales, sizes, x_scale, x_size, shrinkage, min_common, scores_T):
    """Write the similarities at positions first, first + 1, ...; NaN or not positive where there is none. Clear the sums."""
    zero = np.float32(0)
    start = np.uint64(first)
    count = np.uint64(len(scores_T))
    if width > 1:
        for t in range(count):
            at = (start + t) * np.uint64(width)
            pair = sums[at : at + np.uint64(width)]
            scores_T[t] = zero
            if pair[width - 1] != zero:
                y = start + t
                scores_T[t] = finished(kind, ones, pair, x_scale, scales[y], x_size, sizes[y], shrinkage, min_common)
                pair[:] = zero
        return
    # Same as `finished`, in loops that vectorize.
    their_scales = scales[start : start + count]
    span = sums[start : start + count]
    if kind == JACCARD:
        their_sizes = sizes[start : start + count]
        for t in range(count):
            common = span[t]
            factor = (x_scale * their_scales[t]) * (common / (common + shrinkage))
            score = common / (x_size + their_sizes[t] - common) * factor
            scores_T[t] = zero if common < min_common else score
    elif ones:
        for t in range(count):
            common = span[t]
            factor = (x_scale * their_scales[t]) * (common / (common + shrinkage))
            scores_T[t] = zero if common < min_common else common * factor
    else:
        for t in range(count):
            scores_T[t] = span[t] * (x_scale * their_scales[t])
    span[:] = zero


@njit(cache=True, nogil=True)
def _offer(score, row, k, keys, count, floor):
    """Add a similarity not below the floor; return how many are held and the key that others must beat."""
    key = key_of(score, row)
    if key > floor:
        keys[count] = key
        count += 1
        if count == len(keys):
            best_first(keys, k)
            return k, keys[:k].min()
    return count, floor


@njit(**INSIDE, error_model="numpy")
def _nearest_rows(block, compared, request, bounds, rows_BK, best_BK):
    kind, width, ones, shrinkage, min_common, starts, places, values, scales, sizes, order = compared
    rows_B, itself_B, indptr_Q, indices_Q, values_Q, norms_Q = request
    num_rows = len(order)
    k = rows_BK.shape[1]
    sums = np.zeros(num_rows * width, np.float32)
    scores = np.empty(SPAN, np.float32)
    keys = np.empty(max(2 * k, k + 64), np.uint64)
    for b in range(bounds[block], bounds[block + 1]):
        query = rows_B[b]
        first = indptr_Q[query]
        end = indptr_Q[query + 1]
        indices = indices_Q[first:end]
        accumulate(kind, width, ones, indices, values_Q[first:end], starts, places, values, sums)
        norm = norms_Q[query]
        size = np.float32(end - first)
        count = np.int64(0)
        floor = np.uint64(1) << np.uint64(63)  # the key of 0
        least = LEAST
        visits = 0
        for column in indices:
            visits += starts[np.uint64(column) + np.uint64(1)] - starts[column]
        if visits * SCAN_SHARE > num_rows:
            for begin in range(0, num_rows, SPAN):
                span = scores[: min(SPAN, num_rows - begin)]
                _finish_span(kind, width, ones, sums, begin, scales, sizes, norm, size, shrinkage, min_common, span)
                if 0 <= itself_B[b] - begin < len(span):
                    span[itself_B[b] - begin] = 0
                above = np.uint32(0)
                for t in range(np.uint64(len(span))):
                    above += np.uint32(span[t] >= least)
                if above == 0:
                    continue
                for t in range(np.uint64(len(span))):
                    if span[t] >= least:
                        count, floor = _offer(span[t], order[np.uint64(begin) + t], k, keys, count, floor)
                        least = max(score_of(floor), LEAST)
        else:
            for column in indices:
                for place in places[starts[column] : starts[np.uint64(column) + np.uint64(1)]]:
                    pair = sums[place * width : place * width + width]
                    if pair[width - 1] == 0:
                        continue  # already counted
                    score = finished(kind, ones, pair, norm, scales[place], size, sizes[place], shrinkage, min_common)
                    pair[:] = 0
                    if score > 0 and np.int64(place) != itself_B[b]:
                        count, floor = _offer(score, order[place], k, keys, count, floor)
        write_list(keys[:count], rows_BK[b], best_BK[b])


@njit(cache=True, nogil=True, parallel=True)
def _nearest_cpu(compared, request, bounds, rows_BK, best_BK):
    for block in prange(len(bounds) - 1):
        _nearest_rows(np.int64(block), compared, request, bounds, rows_BK, best_BK)
