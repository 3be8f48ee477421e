"""Preparing sparse vectors for similarity search.

R rows, C columns, N stored entries, B rows requested.
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numba import njit

from .comparison import COMMON, JACCARD, KINDS, PEARSON, PRODUCT, WIDTHS, Measure, Prepared, SearchRequest, Vectors


def prepare(
    vectors: Vectors,
    *,
    measure: Measure = "cosine",
    shrinkage: float = 0.0,
    min_common: int = 1,
    scale_R: np.ndarray | None = None,
) -> Prepared:
    """Return vectors ready for `nearest`.

    Args:
        vectors: the vectors to search. Those on a device are used in place, and searched there.
        measure: see `kernels.similarity` for the formulas.
        shrinkage: in common columns; a similarity over n common columns is multiplied by n / (n + shrinkage).
        min_common: pairs with fewer common columns are not neighbors.
        scale_R: float32, positive; a similarity to row r is multiplied by scale_R[r].

    Raises:
        ValueError: an unknown measure, negative shrinkage, or min_common below 1.
    """
    if measure not in get_args(Measure):
        raise ValueError(f"measure must be one of {', '.join(get_args(Measure))}, got {measure!r}")
    if not shrinkage >= 0 or not min_common >= 1:
        raise ValueError(f"shrinkage must be at least 0 and min_common at least 1, got {shrinkage} and {min_common}")
    kind = KINDS.get(measure, COMMON)
    rule: dict[str, Any] = {
        "kind": kind,
        "normed": measure == "cosine",
        "shrinkage": np.float32(shrinkage),
        "min_common": np.float32(min_common),
    }
    if lies_on_device(vectors):
        from .cuda import vectors as twin

        counted = kind == PRODUCT and (shrinkage > 0 or min_common > 1)
        rule |= {"ones": kind == JACCARD, "width": WIDTHS[kind] + counted}
        return twin.prepare(vectors, rule, measure == "adjusted_cosine", scale_R)
    indptr = np.ascontiguousarray(vectors.indptr_R1, np.int64)
    indices = np.ascontiguousarray(vectors.indices_N, np.int32).view(np.uint32)
    values = np.ascontiguousarray(vectors.values_N, np.float32)
    num_rows = len(indptr) - 1
    means_C = None
    if measure == "adjusted_cosine":
        counts_C = np.bincount(indices, minlength=vectors.num_columns)
        sums_C = np.bincount(indices, values, vectors.num_columns)
        means_C = (sums_C / np.maximum(counts_C, 1)).astype(np.float32)
    values = _shifted(kind, indptr, indices, values, means_C)
    ones = kind == JACCARD or bool(kind == PRODUCT and (values == 1).all())
    width = WIDTHS[kind] + (kind == PRODUCT and not ones and (shrinkage > 0 or min_common > 1))
    norms_R = _inverse_norms(indptr, values) if measure == "cosine" else np.ones(num_rows, np.float32)
    order_R = np.argsort(np.diff(indptr), kind="stable").astype(np.int32)
    place_R = np.empty(num_rows, np.int32)
    place_R[order_R] = np.arange(num_rows, dtype=np.int32)
    columns = by_column(indptr, indices, values, order_R, vectors.num_columns)
    return Prepared(
        **rule,
        width=width,
        ones=ones,
        means_C=means_C,
        vectors=Vectors(indptr, indices, values, vectors.num_columns),
        norms_R=norms_R,
        scale_R=norms_R if scale_R is None else norms_R * scale_R.astype(np.float32),
        order_R=order_R,
        place_R=place_R,
        columns=columns,
    )


def lies_on_device(vectors: Vectors) -> bool:
    """Return whether the arrays are on a GPU: Torch's, or Numba's own (simulated ones included)."""
    return hasattr(vectors.values_N, "__cuda_array_interface__") or hasattr(vectors.values_N, "__cuda_ndarray__")


def search_request(prepared: Prepared, rows: np.ndarray | None, queries: Vectors | None) -> SearchRequest:
    """Return rows, or queries, in the form the kernels take."""
    if queries is None:
        rows_B = np.arange(len(prepared.order_R)) if rows is None else np.asarray(rows, np.int64)
        itself_B = prepared.place_R[rows_B].astype(np.int64)
        return SearchRequest(rows_B, itself_B, *prepared.vectors[:3], prepared.norms_R)
    if queries.num_columns != prepared.vectors.num_columns:
        raise ValueError(
            f"queries must be over the same {prepared.vectors.num_columns} columns, got {queries.num_columns}"
        )
    if prepared.on_device or lies_on_device(queries):
        from .cuda import vectors as twin

        return twin.search_request(prepared, queries)
    indptr = np.ascontiguousarray(queries.indptr_R1, np.int64)
    indices = np.ascontiguousarray(queries.indices_N, np.int32).view(np.uint32)
    values = _shifted(prepared.kind, indptr, indices, np.asarray(queries.values_N, np.float32), prepared.means_C)
    size = len(indptr) - 1
    norms_B = _inverse_norms(indptr, values) if prepared.normed else np.ones(size, np.float32)
    return SearchRequest(np.arange(size), np.full(size, -1, np.int64), indptr, indices, values, norms_B)


def _shifted(
    kind: int, indptr: np.ndarray, indices: np.ndarray, values: np.ndarray, means_C: np.ndarray | None
) -> np.ndarray:
    """Return values minus their column's mean, or, for correlations (which are shift-invariant), minus roughly their row's."""
    if means_C is not None:
        return values - means_C[indices]
    if kind != PEARSON or not len(values):
        return values
    sizes = np.diff(indptr)
    rows_N = np.repeat(np.arange(len(sizes)), sizes)
    means = np.bincount(rows_N, values, len(sizes)) / np.maximum(sizes, 1)
    # Rounded to eighths: whole and half stars, and their sums, stay exact in float32.
    return values - (np.round(8 * means) / 8).astype(np.float32)[rows_N]


@njit(cache=True, nogil=True)
def _inverse_norms(indptr, values):
    norms = np.zeros(len(indptr) - 1, np.float32)
    for row in range(len(norms)):
        square = 0.0
        for value in values[indptr[row] : indptr[row + 1]]:
            square += np.float64(value) * np.float64(value)
        if square > 0:
            norms[row] = 1 / np.sqrt(square)
    return norms


@njit(cache=True, nogil=True)
def by_column(indptr, indices, values, order, num_columns):
    """Return indptr, positions and values of each column, positions ascending."""
    starts = np.zeros(num_columns + 1, np.int64)
    for column in indices:
        starts[np.uint64(column) + np.uint64(1)] += 1
    starts = np.cumsum(starts)
    free = starts[:-1].copy()
    places = np.empty(len(indices), np.uint32)
    sorted_values = np.empty(len(indices), np.float32)
    for place in range(len(order)):
        row = order[place]
        for n in range(indptr[row], indptr[row + 1]):
            at = free[indices[n]]
            free[indices[n]] += 1
            places[at] = place
            sorted_values[at] = values[n]
    return starts, places, sorted_values
