"""Prepared vectors, search requests, and how sums become similarities: shared by the CPU kernels and their CUDA twins.

R rows, C columns, N stored entries, B rows requested, W sums per pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

Measure = Literal["cosine", "jaccard", "pearson", "common_cosine", "adjusted_cosine", "dot"]

PRODUCT, JACCARD, COMMON, PEARSON = range(4)  # how the sums become a similarity

KINDS = {"cosine": PRODUCT, "dot": PRODUCT, "jaccard": JACCARD, "pearson": PEARSON}

WIDTHS = {PRODUCT: 1, JACCARD: 1, COMMON: 4, PEARSON: 6}  # sums per pair: xy; xy xx yy n; xy xx yy x y n


class Vectors(NamedTuple):
    """R sparse vectors, as the arrays of a CSR matrix with columns sorted and distinct."""

    indptr_R1: Any  # integers [R + 1]
    indices_N: Any  # int32, each in [0, C)
    values_N: Any  # float32
    num_columns: int


def plain(vectors: Vectors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the arrays in the types that kernels take: int64, uint32, float32."""
    return (
        np.ascontiguousarray(vectors.indptr_R1, np.int64),
        np.ascontiguousarray(vectors.indices_N, np.int32).view(np.uint32),
        np.ascontiguousarray(vectors.values_N, np.float32),
    )


@dataclass(frozen=True)
class Prepared:
    """Vectors ready for search: made once by `prepare`, queried many times.

    Rows are renumbered internally, rarest first, so that frequent ones are adjacent and stay in cache.
    """

    kind: int
    width: int  # sums per pair
    ones: bool  # all values are 1 or ignored: no need to read products
    normed: bool  # divide by the norms
    shrinkage: np.float32
    min_common: np.float32
    means_C: np.ndarray | None  # subtracted from the values of rows and queries
    vectors: Vectors  # by row, values after centering
    norms_R: np.ndarray  # float32, 1 / |x|, or ones
    scale_R: np.ndarray  # float32, multiplies a similarity to the row; includes 1 / |y|
    order_R: np.ndarray  # int32, row at each internal position
    place_R: np.ndarray  # int32, internal position of each row
    columns: tuple[np.ndarray, np.ndarray, np.ndarray]  # indptr [C + 1], positions and values of each column
    on_device: bool = False  # the arrays above are on the device, and rows keep their numbers
    resident: dict[str, Any] = field(default_factory=dict)  # copies on a device


class SearchRequest(NamedTuple):
    """Vectors whose neighbors are requested, and their positions among those searched."""

    rows_B: np.ndarray  # int64, which of the vectors
    itself_B: np.ndarray  # int64, the position never returned (the row itself), or -1
    indptr_R1: np.ndarray
    indices_N: np.ndarray
    values_N: np.ndarray
    norms_R: np.ndarray


CONSTANT = np.float32(1e-6)  # a variance below this share of the mean square is float32 rounding


def finished_plain(kind, ones, pair_W, x_scale, y_scale, x_size, y_size, shrinkage, min_common):
    """Return the similarity given a pair's sums, 0 where there is none. Compiled for each device."""
    zero = np.float32(0)
    product = pair_W[0]
    last = len(pair_W) - 1
    common = pair_W[last] if last > 0 or ones else np.float32(1)
    if common < min_common:
        return zero
    factor = (x_scale * y_scale) * (common / (common + shrinkage))
    if kind == PRODUCT:
        return product * factor
    if kind == JACCARD:
        return common / (x_size + y_size - common) * factor
    xx = pair_W[1]
    yy = pair_W[2]
    if kind == PEARSON:
        x = pair_W[3]
        y = pair_W[4]
        product = product - (x * y) / common
        x_spread = xx - (x * x) / common
        y_spread = yy - (y * y) / common
        if x_spread <= CONSTANT * xx or y_spread <= CONSTANT * yy:
            return zero
        xx = x_spread
        yy = y_spread
    if xx <= zero or yy <= zero:
        return zero
    return product / math.sqrt(xx * yy) * factor
