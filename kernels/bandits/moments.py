"""Means and widths of rewards of many requests under linear models of many arms.

M models, N rows (requests), D numbers of a row, L models asked for, P pairs of a row and a model, T = D (D + 1) / 2.

A width is the length of a triangle times a row. Triangles of `TOGETHER` models are packed into panels of float32, and multiplied by rows
`LANES` at a time; where there are only a few rows, by each.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import get_num_threads, njit, prange

from ..compiling import INSIDE
from ..register_tile import HALF, HEIGHT, LANES, NUM_LANES
from .linear import grouped
from .panel_products import squares, squares_of_one, write_sums, write_sums_of_one
from .panels import NONE, PANEL_ROWS, ROWS, pack_rows, pack_triangle, triangle_size

TOGETHER = 16  # models scored at a time, so that results are written in runs; their triangles stay in a core's cache
FEW = 2  # rows that are scored one by one
TASKS = 8  # of a thread, below which rows are divided among threads too


class Kept(NamedTuple):
    """Panels of models that are kept from one call to the next; a copy keeps none, since another thread may be packing them.

    Attributes:
        panels_MP: float32 (`panels.py`); without rows, none are kept.
        packed_M: bool, whether a model's panels are those of its factor.
    """

    panels_MP: np.ndarray
    packed_M: np.ndarray

    @classmethod
    def of(cls, models: int, size: int) -> Kept:
        """Return what keeps panels of so many models, 0 for none."""
        return cls(np.empty((models, triangle_size(size)), np.float32), np.zeros(models, bool))

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self.panels_MP[:0].copy(), self.packed_M[:0].copy())


@njit(**INSIDE)
def _gathered(x_ND, rows_P, first, count, out_N):
    """Write some rows as [D, lanes], flat; lanes without a row stay 0."""
    out_N[:] = np.float32(0)
    x_N, depth = x_ND.reshape(-1), np.uint64(x_ND.shape[1])  # unsigned, or each index is compared with 0
    for lane in range(NONE, np.uint64(count)):
        start = np.uint64(rows_P[first + lane]) * depth
        for d in range(NONE, depth):
            out_N[d * LANES + lane] = x_N[start + d]


@njit(cache=True, nogil=True, parallel=True)
def _lanes(x_ND, x_BX):
    rows_N = np.arange(len(x_ND))
    for block in prange(len(x_BX)):
        first = np.int64(block) * NUM_LANES
        _gathered(x_ND, rows_N, first, min(NUM_LANES, len(x_ND) - first), x_BX[block])


@njit(**INSIDE)
def _of_group(task, parts, factors_MT, unit, theta_MD, models_L, x_BX, x_ND, means_NL, widths_NL):
    """Score one part of the rows under one group of models."""
    groups = (len(models_L) + TOGETHER - 1) // TOGETHER
    part, low = task // groups, task % groups * TOGETHER
    count: Any = min(TOGETHER, len(models_L) - low)
    size, with_widths = np.uint64(theta_MD.shape[1]), widths_NL.shape[1] > 0
    depth, x_N = np.uint64(x_ND.shape[1]), x_ND.reshape(-1)
    step, scale_8 = triangle_size(theta_MD.shape[1]) if with_widths else 0, np.empty(PANEL_ROWS)
    kept = TOGETHER if len(x_BX) else 1
    triangles, thetas = np.empty((kept, step), np.float32), np.empty(TOGETHER * theta_MD.shape[1], np.float32)
    means, sums = np.empty(TOGETHER * NUM_LANES, np.float32), np.empty((TOGETHER, NUM_LANES), np.float32)
    first_block, last_block = len(x_BX) * part // parts, len(x_BX) * (part + 1) // parts
    # the few rows that are no block are the last part's
    first_row = min(len(x_BX) * NUM_LANES, len(x_ND)) if part == parts - 1 else len(x_ND)
    pack_rows(theta_MD, models_L, low, count, thetas)
    for row in range(first_row, len(x_ND)):
        for g in range(0, count, PANEL_ROWS):
            write_sums_of_one(thetas, np.uint64(g) * size, size, x_N, np.uint64(row) * depth, means, np.uint64(g))
        for g in range(count):
            means_NL[row, low + g] = means[g]
    if with_widths:
        for g in range(count):
            pack_triangle(factors_MT[models_L[low + g]], size, unit, scale_8, triangles[g % kept])
            for row in range(first_row, len(x_ND)):
                squared = squares_of_one(triangles[g % kept], size, x_N, np.uint64(row) * depth)
                widths_NL[row, low + g] = np.sqrt(squared)
    for block in range(first_block, last_block):
        for g in range(NONE, np.uint64(count), HALF):
            at = g // ROWS * ROWS * size + g % ROWS
            write_sums(thetas, at, size, x_BX[block], NONE, means, g * LANES)
        if with_widths:
            for g in range(count):
                squares(triangles[g], size, x_BX[block], NONE, sums[g], NONE)
        row = block * NUM_LANES
        for lane in range(min(NUM_LANES, len(x_ND) - row)):
            for g in range(count):
                means_NL[row + lane, low + g] = means[g * NUM_LANES + lane]
            if with_widths:
                for g in range(count):
                    widths_NL[row + lane, low + g] = np.sqrt(sums[g, lane])


@njit(cache=True, nogil=True, parallel=True)
def _of_all(parts, factors_MT, unit, theta_MD, models_L, x_BX, x_ND, means_NL, widths_NL):
    groups = (len(models_L) + TOGETHER - 1) // TOGETHER
    for task in prange(groups * parts):
        _of_group(np.int64(task), parts, factors_MT, unit, theta_MD, models_L, x_BX, x_ND, means_NL, widths_NL)


@njit(**INSIDE)
def _of_models(
    task, factors_MT, unit, theta_MD, kept, models_G, starts_G1, rows_P, places_P, x_ND, means_NL, widths_NL
):
    """Score the rows of some models."""
    size, with_widths, keeps = np.uint64(theta_MD.shape[1]), widths_NL.shape[1] > 0, len(kept.panels_MP) > 0
    depth, x_N = np.uint64(x_ND.shape[1]), x_ND.reshape(-1)
    own = np.empty(0 if keeps else triangle_size(theta_MD.shape[1]), np.float32)
    theta, scale_8 = np.empty(PANEL_ROWS * theta_MD.shape[1], np.float32), np.empty(PANEL_ROWS)
    means, sums = np.empty(HEIGHT * NUM_LANES, np.float32), np.empty(NUM_LANES, np.float32)
    x = np.empty(theta_MD.shape[1] * NUM_LANES, np.float32)
    for g in range(task * TOGETHER, min(task * TOGETHER + TOGETHER, len(models_G))):
        model = models_G[g]
        triangle = kept.panels_MP[model] if keeps else own
        pack_rows(theta_MD, models_G, g, 1, theta)
        if with_widths and not (keeps and kept.packed_M[model]):
            pack_triangle(factors_MT[model], size, unit, scale_8, triangle)
        at, end = starts_G1[g], starts_G1[g + 1]
        while at < end:
            count = min(NUM_LANES, end - at)
            if count <= FEW:
                count, start = 1, np.uint64(rows_P[at]) * depth
                write_sums_of_one(theta, NONE, size, x_N, start, means, NONE)
                if with_widths:
                    sums[0] = squares_of_one(triangle, size, x_N, start)
            else:
                _gathered(x_ND, rows_P, at, count, x)
                write_sums(theta, NONE, size, x, NONE, means, NONE)
                if with_widths:
                    squares(triangle, size, x, NONE, sums, NONE)
            for lane in range(count):
                means_NL[rows_P[at + lane], places_P[at + lane]] = means[lane]
                if with_widths:
                    widths_NL[rows_P[at + lane], places_P[at + lane]] = np.sqrt(sums[lane])
            at += count


@njit(cache=True, nogil=True, parallel=True)
def _of_pairs(factors_MT, unit, theta_MD, kept, models_G, starts_G1, rows_P, places_P, x_ND, means_NL, widths_NL):
    """Score the rows of each model; a model belongs to one task, so that no panels are packed twice."""
    for task in prange((len(models_G) + TOGETHER - 1) // TOGETHER):
        _of_models(
            np.int64(task),
            factors_MT,
            unit,
            theta_MD,
            kept,
            models_G,
            starts_G1,
            rows_P,
            places_P,
            x_ND,
            means_NL,
            widths_NL,
        )


def moments(
    factors_MT: np.ndarray,
    theta_MD: np.ndarray,
    x_ND: np.ndarray,
    *,
    models_L: np.ndarray,
    unit: bool = True,
    widths: bool = True,
    kept: Kept | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the width (standard deviation for noise 1) of each row's reward under each of some models.

    Args:
        factors_MT: float64; factors of covariances, or with `unit` False plain triangles whose product with x has the width as its
            length.
        theta_MD: float64.
        x_ND: float32, C-contiguous.
        models_L: int64 models for all rows [L], or [N, L] for each row its own, -1 at padding.
        unit: see `factors_MT`.
        widths: False leaves them out.
        kept: panels of `models_L` [N, L], packed where they have not been; None: all are packed.

    Returns:
        float32 [N, L] twice, the widths [N, 0] if they are left out; 0 at padding. Exact to about 1e-6 of the terms; the same for a
        row in any batch and on any number of threads.
    """
    num_rows, size = x_ND.shape
    shape = (num_rows, models_L.shape[-1])
    means_NL, widths_NL = np.zeros(shape, np.float32), np.zeros(shape if widths else (num_rows, 0), np.float32)
    if models_L.ndim == 1:
        blocks = num_rows // NUM_LANES + (num_rows % NUM_LANES > FEW)
        x_BX = np.empty((blocks, size * NUM_LANES), np.float32)
        _lanes(x_ND, x_BX)
        groups, threads = -(-len(models_L) // TOGETHER), get_num_threads()
        parts = 1 if groups >= TASKS * threads else max(1, min(threads, blocks))
        _of_all(parts, factors_MT, unit, theta_MD, models_L, x_BX, x_ND, means_NL, widths_NL)
    else:
        rows_P, places_P = np.nonzero(models_L >= 0)
        pairs = (models_L[rows_P, places_P], rows_P, places_P)
        moments_of_pairs(factors_MT, theta_MD, x_ND, *pairs, means_NL, widths_NL, unit=unit, kept=kept)
    return means_NL, widths_NL


def moments_of_pairs(
    factors_MT: np.ndarray,
    theta_MD: np.ndarray,
    x_ND: np.ndarray,
    models_P: np.ndarray,
    rows_P: np.ndarray,
    places_P: np.ndarray,
    means_NL: np.ndarray,
    widths_NL: np.ndarray,
    *,
    unit: bool = True,
    kept: Kept | None = None,
) -> None:
    """Write the mean and the width of pairs of a model and a row, at the row and a place; other arguments as for `moments`."""
    order_P, models_G, starts_G1 = grouped(models_P)
    kept = Kept.of(0, x_ND.shape[1]) if kept is None else kept
    ordered = (rows_P[order_P], places_P[order_P])
    _of_pairs(factors_MT, unit, theta_MD, kept, models_G, starts_G1, *ordered, x_ND, means_NL, widths_NL)
    if len(kept.packed_M):
        kept.packed_M[models_G] = True
