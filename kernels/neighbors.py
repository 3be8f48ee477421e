"""Computations on neighbor lists: incremental updates, scores of all items, ratings of single pairs.

B rows requested, M inner dimension, I columns of the result, R rows searched, K neighbors, P pairs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit, parallel_chunksize, prange

from .comparison import Prepared, Vectors, plain
from .compiling import INSIDE
from .device import Device, resolve
from .item_lists import ItemLists, flat_lists, read_only
from .keys import best_first, first_from, item_of, key_of, score_of, take_any, write_list
from .similarity import accumulate, bounds_of, comparison, finished, nearest
from .threads import at_most
from .topk import num_candidates, offer
from .vectors import by_column, search_request

SPAN = 32768  # columns whose sums are held at a time, in the second cache
SEARCH_SHARE = 16  # cost of searching a column, as a share of visiting a term


def sparse_product(left: Vectors, right: Vectors, *, device: Device = "auto") -> np.ndarray:
    """Return `left` [B, M] times `right` [M, I] as a dense float32 [B, I].

    Each sum runs over M in the order stored in `left`. On a GPU a row's columns must ascend in `right`.

    Raises:
        ValueError: `right` does not have one row for each column of `left`.
    """
    if len(right.indptr_R1) - 1 != left.num_columns:
        raise ValueError(
            f"right must have {left.num_columns} rows, one for each column of left, got {len(right.indptr_R1) - 1}"
        )
    if resolve(device) == "cuda":
        from .cuda import neighbors as twin

        return twin.sparse_product(left, right)
    product_BI = np.zeros((len(left.indptr_R1) - 1, right.num_columns), np.float32)
    with at_most(len(product_BI)):
        _sparse_product_cpu(*_terms(left, right), product_BI)
    return product_BI


def best_of_sparse_product(
    left: Vectors,
    right: Vectors,
    k: int,
    *,
    exclude: ItemLists | None = None,
    allow: ItemLists | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the k best columns of each row of `left` times `right` without a dense row, on the CPU; columns must ascend in rows of `right`.

    Sums and lists are those of `top_k(sparse_product(left, right), k)` for rows that have k permitted columns with a sum above 0, which
    beat all columns that nothing was added to.

    Returns:
        int32 columns [B, K], float32 sums [B, K], and bool [B]: rows with fewer, whose list is not written.
    """
    rows = len(left.indptr_R1) - 1
    items_BK, best_BK = np.empty((rows, k), np.int32), np.empty((rows, k), np.float32)
    short_B = np.zeros(rows, np.bool_)
    lists = flat_lists(exclude, allow, rows)
    with at_most(rows), parallel_chunksize(1):
        num_kept = num_candidates(k, right.num_columns)
        _best_of_product(_terms(left, right), right.num_columns, num_kept, lists, items_BK, best_BK, short_B)
    return items_BK, best_BK, short_B


def updated(
    old: Prepared, new: Prepared, rows_RK: np.ndarray, best_RK: np.ndarray, *, device: Device = "auto"
) -> tuple[np.ndarray, np.ndarray]:
    """Return `nearest(new, K)`, bit for bit, from `rows_RK, best_RK = nearest(old, K)`, computing only what changed.

    Rows keep their numbers; `new` may have more of them, and more columns. Rows whose vector did not change are compared only
    with those that did; a row is compared with all others only if it changed, or lost a neighbor whose replacement
    is unknown.
    """
    k = rows_RK.shape[1]
    num_rows = len(new.order_R)
    merged_RK = np.full((num_rows, k), -1, np.int32)
    sims_RK = np.full((num_rows, k), -np.inf, np.float32)
    merged_RK[: len(rows_RK)] = rows_RK
    sims_RK[: len(best_RK)] = best_RK
    changed_R = _changed(old, new)
    touched_R = _sharing_a_column(new, changed_R) & ~changed_R
    others = np.flatnonzero(touched_R)
    whole = np.flatnonzero(changed_R)
    if len(others):
        among = _only(new, changed_R)
        fresh_OK, fresh_sims_OK = nearest(among, k, rows=others, device=device)
        complete_O = np.zeros(len(others), np.bool_)
        _merge(changed_R, fresh_OK, fresh_sims_OK, others, merged_RK, sims_RK, complete_O)
        whole = np.concatenate([whole, others[~complete_O]])
    if len(whole):
        merged_RK[whole], sims_RK[whole] = nearest(new, k, rows=whole, device=device)
    return merged_RK, sims_RK


def weighted_deviations(
    prepared: Prepared,
    deviations: Vectors,
    rows_P: np.ndarray,
    columns_P: np.ndarray,
    k: int,
) -> np.ndarray:
    """Return sum(similarity * deviation) / sum(similarity) over the k rows nearest to rows_P[p] that have an entry in columns_P[p].

    Koren 2010, "Factor in the Neighbors", eq. 3. Similarities are exact: over all rows that share a column, not just stored neighbors.
    Ties go to the lower row, and a row is not its own neighbor.

    Args:
        prepared: the vectors to compare.
        deviations: of ratings from their baselines, with the same entries as the prepared vectors.
        rows_P: each in [0, R).
        columns_P: each in [0, C).
        k: maximum number of neighbors, at least 1.

    Returns:
        float32 [P]; 0 where no neighbor has an entry.
    """
    queries, inverse_P = np.unique(rows_P, return_inverse=True)
    order_P = np.argsort(inverse_P, kind="stable")
    ends_Q1 = np.concatenate([[0], np.cumsum(np.bincount(inverse_P, minlength=len(queries)))])
    request = search_request(prepared, queries, None)
    indptr, indices, values = plain(deviations)
    *_, theirs = by_column(indptr, indices, values, prepared.order_R, deviations.num_columns)
    sorted_P = np.zeros(len(rows_P), np.float32)
    pairs = (theirs, ends_Q1.astype(np.int64), columns_P[order_P].astype(np.int64), k, sorted_P)
    with parallel_chunksize(1):
        _deviations_cpu(comparison(prepared), request, bounds_of(prepared, request), pairs)
    result_P = np.empty_like(sorted_P)
    result_P[order_P] = sorted_P
    return result_P


def _terms(left: Vectors, right: Vectors) -> tuple[np.ndarray, ...]:
    """Return bounds of the rows and weights of `left`, the part of `right` that each weight multiplies, and columns and values there."""
    bounds = (left.indptr_R1, right.indptr_R1[left.indices_N], right.indptr_R1[left.indices_N + 1])
    indptr, starts_N, ends_N = (read_only(array, np.int64) for array in bounds)
    values_N, values_M = read_only(left.values_N, np.float32), read_only(right.values_N, np.float32)
    return indptr, values_N, starts_N, ends_N, read_only(right.indices_N, np.int32).view(np.uint32), values_M


def _changed(old: Prepared, new: Prepared) -> np.ndarray:
    """bool [R]: rows whose vector or scale differs."""
    before, after = old.vectors, new.vectors
    same_R = np.zeros(len(new.order_R), np.bool_)
    both = len(old.order_R)
    old_sizes, new_sizes = np.diff(before.indptr_R1), np.diff(after.indptr_R1)[:both]
    same_R[:both] = (old_sizes == new_sizes) & (old.scale_R == new.scale_R[:both])
    kept = np.flatnonzero(same_R)
    sizes = old_sizes[kept]
    steps = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    at, to = np.repeat(before.indptr_R1[kept], sizes) + steps, np.repeat(after.indptr_R1[kept], sizes) + steps
    differs = (before.indices_N[at] != after.indices_N[to]) | (before.values_N[at] != after.values_N[to])
    same_R[np.repeat(kept, sizes)[differs]] = False
    return ~same_R


def _sharing_a_column(prepared: Prepared, chosen_R: np.ndarray) -> np.ndarray:
    """bool [R]: rows that share a column with a chosen row."""
    sizes = np.diff(prepared.vectors.indptr_R1)
    rows_N = np.repeat(np.arange(len(sizes)), sizes)
    met_C = np.zeros(prepared.vectors.num_columns, np.bool_)
    met_C[prepared.vectors.indices_N[chosen_R[rows_N]]] = True
    sharing_R = np.zeros(len(sizes), np.bool_)
    sharing_R[rows_N[met_C[prepared.vectors.indices_N]]] = True
    return sharing_R


def _only(prepared: Prepared, chosen_R: np.ndarray) -> Prepared:
    """Return the same vectors, restricted so that only the chosen rows can be found."""
    starts, places, values = prepared.columns
    kept_N = chosen_R[prepared.order_R[places]]
    before_N1 = np.concatenate([[0], np.cumsum(kept_N)])
    columns = (before_N1[starts].astype(np.int64), places[kept_N], values[kept_N])
    return replace(prepared, columns=columns, resident={})


@njit(cache=True, nogil=True, parallel=True)
def _sparse_product_cpu(left_ptr, left_values, starts_N, ends_N, columns_M, values_M, product_BI):
    for b in prange(len(product_BI)):
        row = product_BI[b]
        for n in range(left_ptr[b], left_ptr[b + 1]):
            weight = left_values[n]
            for m in range(np.uint64(starts_N[n]), np.uint64(ends_N[n])):
                row[columns_M[m]] += weight * values_M[m]


@njit(cache=True, nogil=True)
def _permitted(lists, row, item):
    out_starts, out_ends, out_items, in_starts, in_ends, in_items, has_allow = lists
    at = first_from(out_items, out_starts[row], out_ends[row], item)
    if at < out_ends[row] and out_items[at] == item:
        return False
    if has_allow:
        at = first_from(in_items, in_starts[row], in_ends[row], item)
        return at < in_ends[row] and in_items[at] == item
    return True


@njit(**INSIDE)
def _take_met(row_S, base, begins_L, ends_L, columns_M, b, lists, k, keys_C, count, floor):
    """Offer the sums that terms were added to, in any order of columns, and clear them."""
    for n in range(len(begins_L)):
        for m in range(begins_L[n], ends_L[n]):
            at = np.uint64(columns_M[m]) - base
            score = row_S[at]
            row_S[at] = np.float32(0)  # met again, it is no candidate
            if score > floor and _permitted(lists, b, np.int32(columns_M[m])):
                count, floor = take_any(score, columns_M[m], k, keys_C, count, floor)
    return count, floor


@njit(**INSIDE)
def _best_of_row(b, factors, num_columns, num_kept, lists, items_BK, best_BK, short_B):
    """Sum a span of columns at a time, while it is in cache, and offer its sums."""
    left_ptr, left_values, starts_N, ends_N, columns_M, values_M = factors
    k = items_BK.shape[1]
    first_term, terms = left_ptr[b], left_ptr[b + 1] - left_ptr[b]
    ends_L = starts_N[first_term : first_term + terms].astype(np.uint64)
    begins_L = np.empty_like(ends_L)
    row_S = np.zeros(min(SPAN, num_columns), np.float32)
    keys_C = np.empty(num_kept, np.uint64)
    count, floor = np.int64(0), np.float32(0)
    for first in range(0, num_columns, SPAN):
        size = min(SPAN, num_columns - first)
        base, limit = np.uint64(first), np.uint64(first + size)
        added = np.uint64(0)
        for n in range(terms):
            weight, m, last = left_values[first_term + n], ends_L[n], np.uint64(ends_N[first_term + n])
            begins_L[n] = m
            while m < last and np.uint64(columns_M[m]) < limit:
                row_S[np.uint64(columns_M[m]) - base] += weight * values_M[m]
                m += np.uint64(1)
            added += m - begins_L[n]
            ends_L[n] = m
        if added * np.uint64(SEARCH_SHARE) < np.uint64(size):
            count, floor = _take_met(row_S, base, begins_L, ends_L, columns_M, b, lists, k, keys_C, count, floor)
        else:
            count, floor = offer(row_S, first, size, b, lists, k, keys_C, count, floor)
            row_S[:] = 0
    if count < k:
        short_B[b] = True
    else:
        write_list(keys_C[:count], items_BK[b], best_BK[b])


@njit(cache=True, nogil=True, parallel=True)
def _best_of_product(factors, num_columns, num_kept, lists, items_BK, best_BK, short_B):
    for b in prange(len(short_B)):
        _best_of_row(np.int64(b), factors, num_columns, num_kept, lists, items_BK, best_BK, short_B)


@njit(cache=True, nogil=True, parallel=True)
def _merge(changed_R, fresh_OK, fresh_sims_OK, others, rows_RK, sims_RK, complete_O):
    """Replace stale similarities to changed rows with fresh ones; mark where the list is certain to be complete."""
    k = rows_RK.shape[1]
    for o in prange(len(others)):
        rows = rows_RK[others[o]]
        sims = sims_RK[others[o]]
        keys = np.zeros(2 * k, np.uint64)
        count = 0
        last = key_of(sims[k - 1], rows[k - 1]) if rows[k - 1] >= 0 else np.uint64(0)
        for place in range(k):
            if rows[place] >= 0 and not changed_R[rows[place]]:
                keys[count] = key_of(sims[place], rows[place])
                count += 1
            if fresh_OK[o, place] >= 0:
                keys[k + place] = key_of(fresh_sims_OK[o, place], fresh_OK[o, place])
        best = np.sort(keys)[::-1][:k]
        complete_O[o] = best[k - 1] >= last
        if complete_O[o]:
            for place in range(k):
                found = best[place] > 0
                rows[place] = item_of(best[place]) if found else -1
                sims[place] = score_of(best[place]) if found else -np.inf


@njit(**INSIDE, error_model="numpy")
def _deviations_of(block, compared, request, bounds, pairs):
    kind, width, ones, shrinkage, min_common, starts, places, values, scales, sizes, order = compared
    rows_B, itself_B, indptr_Q, indices_Q, values_Q, norms_Q = request
    theirs, ends_Q1, columns_P, k, result_P = pairs
    num_rows = len(order)
    sums = np.zeros(num_rows * width, np.float32)
    deviation_R = np.empty(num_rows, np.float32)
    keys = np.empty(num_rows, np.uint64)
    for b in range(bounds[block], bounds[block + 1]):
        query = rows_B[b]
        first = indptr_Q[query]
        end = indptr_Q[query + 1]
        sums[:] = 0
        accumulate(kind, width, ones, indices_Q[first:end], values_Q[first:end], starts, places, values, sums)
        size = np.float32(end - first)
        for p in range(ends_Q1[b], ends_Q1[b + 1]):
            count = 0
            for n in range(starts[columns_P[p]], starts[columns_P[p] + 1]):
                place = np.uint64(places[n])
                if np.int64(place) == itself_B[b]:
                    continue
                pair = sums[place * width : place * width + width]
                if pair[width - 1] == 0:
                    continue
                similarity = finished(
                    kind, ones, pair, norms_Q[query], scales[place], size, sizes[place], shrinkage, min_common
                )
                if similarity > 0:
                    keys[count] = key_of(similarity, order[place])
                    count += 1
                    deviation_R[order[place]] = theirs[n]
            if count > k:
                best_first(keys[:count], k)
                count = k
            weighted_sum = np.float32(0)
            total = np.float32(0)
            for key in keys[:count]:
                similarity = score_of(key)
                weighted_sum += similarity * deviation_R[item_of(key)]
                total += similarity
            if total > 0:
                result_P[p] = weighted_sum / total


@njit(cache=True, nogil=True, parallel=True)
def _deviations_cpu(compared, request, bounds, pairs):
    for block in prange(len(bounds) - 1):
        _deviations_of(np.int64(block), compared, request, bounds, pairs)
