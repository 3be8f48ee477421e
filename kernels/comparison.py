"""What is compared with what, and what becomes of the sums: shared by the CPU kernels and their CUDA twins.

R rows, C columns, N stored entries, B rows asked for, W sums a pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

Measure = Literal["cosine", "jaccard", "pearson", "common_cosine", "adjusted_cosine", "dot"]

PRODUCT, JACCARD, COMMON, PEARSON = range(4)  # what becomes of the sums

KINDS = {"cosine": PRODUCT, "dot": PRODUCT, "jaccard": JACCARD, "pearson": PEARSON}

WIDTHS = {PRODUCT: 1, JACCARD: 1, COMMON: 4, PEARSON: 6}  # sums a pair: xy; xy xx yy n; xy xx yy x y n


class Vectors(NamedTuple):
    """R sparse vectors, as the arrays of a CSR matrix with columns sorted and distinct."""

    indptr_R1: Any  # integers [R + 1]
    indices_N: Any  # int32, each in [0, C)
    values_N: Any  # float32
    num_columns: int


@dataclass(frozen=True)
class Prepared:
    """Vectors ready to be compared: made once by `prepare`, asked often.

    Rows are renumbered within, the rarest first: so the often met ones lie together, where the cache finds them.
    """

    kind: int
    width: int  # sums a pair
    ones: bool  # all values are 1 or ignored: products need not be read
    normed: bool  # divided by the norms
    shrinkage: np.float32
    min_common: np.float32
    means_C: np.ndarray | None  # taken off the values, of rows and of queries
    vectors: Vectors  # by row, values as compared
    norms_R: np.ndarray  # float32, 1 / |x|, or ones
    scale_R: np.ndarray  # float32, what a similarity to the row is multiplied by; holds 1 / |y|
    order_R: np.ndarray  # int32, row of each place within
    place_R: np.ndarray  # int32, place of each row
    columns: tuple[np.ndarray, np.ndarray, np.ndarray]  # indptr [C + 1], places and values of each column
    on_device: bool = False  # the arrays above lie there, and the rows keep their numbers
    resident: dict[str, Any] = field(default_factory=dict)  # what a device holds of it


class SearchRequest(NamedTuple):
    """Vectors whose neighbors are wanted, and where they stand among those searched."""

    rows_B: np.ndarray  # int64, which of the vectors
    itself_B: np.ndarray  # int64, the place never offered, or -1
    indptr_R1: np.ndarray
    indices_N: np.ndarray
    values_N: np.ndarray
    norms_R: np.ndarray


CONSTANT = np.float32(1e-6)  # a variance below this share of the mean square is float32 rounding


def finished_plain(kind, ones, pair_W, x_scale, y_scale, x_size, y_size, shrinkage, min_common):
    """Return the similarity that the sums of a pair amount to, 0 where there is none. Compiled for each device."""
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
