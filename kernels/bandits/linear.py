"""Linear models of rewards, one or one for each arm: rank-one updates, and means and widths of many requests with many arms.

M models, N rows, D numbers of a row, T = D (D + 1) / 2 numbers of a lower triangle, packed by rows.

The covariance of a model is W' diag(d) W, with W a lower triangle with ones on its diagonal, in whose place d is stored. Updated in
this form (Bierman 1977, "Factorization Methods for Discrete Sequential Estimation", section V.3) it stays positive, without
a square root or a drift: there is no subtraction of numbers of similar size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

NUM_LANES = 32  # rows scored at a time; each sum runs over D in the same order, whatever the batch
LANES = np.uint64(NUM_LANES)
UNROLL = np.uint64(8)
TOGETHER = 16  # models scored at a time, so that results are written in runs


def packed_size(size: int) -> int:
    """Return T."""
    return size * (size + 1) // 2


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"}, error_model="numpy")
def _learn_row(factor_T, theta_D, x_D, reward, weight, gain_D):
    """Update one model by one reward."""
    zero, one, size = (
        np.uint64(0),
        np.uint64(1),
        np.uint64(len(x_D)),
    )  # unsigned, so that loops become vector instructions
    error = reward
    for i in range(zero, size):
        error -= theta_D[i] * x_D[i]
    total = 1.0 / weight
    base = zero
    for j in range(zero, size):
        row_I = factor_T[base : base + j]
        f = x_D[j]
        for i in range(zero, j):
            f += row_I[i] * x_D[i]
        d = factor_T[base + j]
        v = d * f
        before = total
        total += f * v
        factor_T[base + j] = d * before / total
        slope = -f / before
        for i in range(zero, j):
            old = row_I[i]
            row_I[i] = old + slope * gain_D[i]
            gain_D[i] += v * old
        gain_D[j] = v
        base += j + one
    for i in range(zero, size):
        theta_D[i] += gain_D[i] * (error / total)


@njit(cache=True, nogil=True, parallel=True)
def learn(factors_MT, theta_MD, models_G, starts_G1, rows_N, x_ND, rewards_N, weights_N):
    """Update models in place; different models in parallel, the rows of one in order.

    Args:
        factors_MT: float64.
        theta_MD: float64.
        models_G: int64, the models that have rows.
        starts_G1: int64, where each one's rows start in `rows_N`.
        rows_N: int64.
        x_ND: float64.
        rewards_N: float64.
        weights_N: float64, above 0.
    """
    for g in prange(len(models_G)):
        gain_D = np.empty(x_ND.shape[1])
        for at in range(starts_G1[g], starts_G1[g + 1]):
            n = rows_N[at]
            _learn_row(factors_MT[models_G[g]], theta_MD[models_G[g]], x_ND[n], rewards_N[n], weights_N[n], gain_D)


# Means and widths


@njit(cache=True, nogil=True)
def _up(size):
    """Return a size rounded up to whole steps of the unrolled loop."""
    return (np.uint64(size) + UNROLL - np.uint64(1)) // UNROLL * UNROLL


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(factor_T, size, unit, out):
    """Write a triangle as pairs of rows of equal padded length; with `unit`, each times the root of its d."""
    base, at = np.uint64(0), np.uint64(0)
    for i in range(np.uint64((size + 1) // 2 * 2)):
        width = _up((i // np.uint64(2) + np.uint64(1)) * np.uint64(2))
        to = out[at : at + width]
        at += width
        if i >= np.uint64(size):
            to[:] = np.float32(0)
            continue
        row = factor_T[base : base + i + np.uint64(1)]
        scale = np.sqrt(row[i]) if unit else 1.0
        for j in range(i):
            to[j] = np.float32(scale * row[j])
        to[i] = np.float32(scale if unit else row[i])
        to[i + np.uint64(1) :] = np.float32(0)
        base += i + np.uint64(1)


@njit(cache=True, nogil=True)
def _spread_size(size):
    total = np.uint64(0)
    for i in range((size + 1) // 2 * 2):
        total += _up((i // 2 + 1) * 2)
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _squared(triangle, size, x, one, two, out):
    """Write the squared length of (triangle times x) for each lane; x is [D, lanes], flat."""
    for t in range(LANES):
        out[t] = np.float32(0)
    at = np.uint64(0)
    for pair in range(np.uint64((size + 1) // 2)):
        width = _up((pair + np.uint64(1)) * np.uint64(2))
        for t in range(LANES):
            one[t] = two[t] = np.float32(0)
        for j in range(np.uint64(0), width, UNROLL):
            a = triangle[at + j : at + j + UNROLL]
            b = triangle[at + width + j : at + width + j + UNROLL]
            a0, a1, a2, a3, a4, a5, a6, a7 = a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]
            b0, b1, b2, b3, b4, b5, b6, b7 = b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
            p = x[j * LANES : (j + UNROLL) * LANES]
            for t in range(LANES):
                x0, x1, x2, x3 = p[t], p[t + LANES], p[t + np.uint64(2) * LANES], p[t + np.uint64(3) * LANES]
                x4, x5 = p[t + np.uint64(4) * LANES], p[t + np.uint64(5) * LANES]
                x6, x7 = p[t + np.uint64(6) * LANES], p[t + np.uint64(7) * LANES]
                one[t] = one[t] + a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4 + a5 * x5 + a6 * x6 + a7 * x7
                two[t] = two[t] + b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4 + b5 * x5 + b6 * x6 + b7 * x7
        for t in range(LANES):
            out[t] = out[t] + one[t] * one[t] + two[t] * two[t]
        at += np.uint64(2) * width


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _summed(theta_D, x, out):
    """Write the inner product of theta and x for each lane."""
    for t in range(LANES):
        out[t] = np.float32(0)
    for j in range(np.uint64(len(theta_D))):
        a = np.float32(theta_D[j])
        p = x[j * LANES : (j + np.uint64(1)) * LANES]
        for t in range(LANES):
            out[t] = out[t] + a * p[t]


@njit(cache=True, nogil=True)
def _gathered(x_ND, rows_P, first, count, out):
    """Write some rows as [D, lanes], flat; lanes and numbers that are missing stay 0."""
    out[:] = np.float32(0)
    for lane in range(count):
        row = rows_P[first + lane]
        for d in range(x_ND.shape[1]):
            out[np.uint64(d) * LANES + np.uint64(lane)] = x_ND[row, d]


@njit(cache=True, nogil=True, parallel=True)
def _lanes(x_ND, x_BX):
    for block in prange(len(x_BX)):
        first = block * NUM_LANES
        _gathered(x_ND, np.arange(len(x_ND)), first, min(NUM_LANES, len(x_ND) - first), x_BX[block])


@njit(cache=True, nogil=True, parallel=True)
def _moments_of_all(factors_MT, unit, theta_MD, models_L, x_BX, means_NL, widths_NL):
    size = theta_MD.shape[1]
    with_widths = widths_NL.shape[1] > 0
    for group in prange((len(models_L) + TOGETHER - 1) // TOGETHER):
        low = np.int64(group) * TOGETHER
        count: Any = min(TOGETHER, len(models_L) - low)
        triangles = np.empty((TOGETHER, _spread_size(size)), np.float32)
        if with_widths:
            for g in range(count):
                _spread(factors_MT[models_L[low + g]], size, unit, triangles[g])
        means, squares = np.empty((TOGETHER, NUM_LANES), np.float32), np.empty((TOGETHER, NUM_LANES), np.float32)
        one, two = np.empty(NUM_LANES, np.float32), np.empty(NUM_LANES, np.float32)
        for block in range(len(x_BX)):
            for g in range(count):
                _summed(theta_MD[models_L[low + g]], x_BX[block], means[g])
                if with_widths:
                    _squared(triangles[g], size, x_BX[block], one, two, squares[g])
            for lane in range(np.int64(min(NUM_LANES, len(means_NL) - block * NUM_LANES))):
                for g in range(count):
                    means_NL[block * NUM_LANES + lane, low + g] = means[g, lane]
                    if with_widths:
                        widths_NL[block * NUM_LANES + lane, low + g] = np.sqrt(squares[g, lane])


@njit(cache=True, nogil=True, parallel=True)
def _moments_of_pairs(factors_MT, unit, theta_MD, models_G, starts_G1, rows_P, places_P, x_ND, means_NL, widths_NL):
    size = theta_MD.shape[1]
    with_widths = widths_NL.shape[1] > 0
    for group in prange(len(models_G)):
        triangle = np.empty(_spread_size(size), np.float32)
        if with_widths:
            _spread(factors_MT[models_G[group]], size, unit, triangle)
        x = np.empty(_up(size + 1) * LANES, np.float32)
        mean, square = np.empty(NUM_LANES, np.float32), np.empty(NUM_LANES, np.float32)
        one, two = np.empty(NUM_LANES, np.float32), np.empty(NUM_LANES, np.float32)
        for first in range(starts_G1[group], starts_G1[group + 1], NUM_LANES):
            count = min(NUM_LANES, starts_G1[group + 1] - first)
            _gathered(x_ND, rows_P, first, count, x)
            _summed(theta_MD[models_G[group]], x, mean)
            if with_widths:
                _squared(triangle, size, x, one, two, square)
            for lane in range(count):
                means_NL[rows_P[first + lane], places_P[first + lane]] = mean[lane]
                if with_widths:
                    widths_NL[rows_P[first + lane], places_P[first + lane]] = np.sqrt(square[lane])


def moments(
    factors_MT: np.ndarray,
    theta_MD: np.ndarray,
    x_ND: np.ndarray,
    *,
    models_L: np.ndarray,
    unit: bool = True,
    widths: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the width (standard deviation for noise 1) of each row's reward under each of some models.

    Args:
        factors_MT: float64; factors of covariances, or with `unit` False plain triangles whose product with x has the width as its
            length.
        theta_MD: float64.
        x_ND: float32.
        models_L: int64 models for all rows [L], or [N, L] for each row its own, -1 at padding.
        unit: see `factors_MT`.
        widths: False leaves them out.

    Returns:
        float32 [N, L] twice, the widths [N, 0] if they are left out; 0 at padding. Exact to about 1e-6 of the terms; the same for a
        row in any batch and on any number of threads.
    """
    num_rows, size = x_ND.shape
    shape = (num_rows, models_L.shape[-1])
    means_NL, widths_NL = np.zeros(shape, np.float32), np.zeros(shape if widths else (num_rows, 0), np.float32)
    if models_L.ndim == 1:
        x_BX = np.empty((-(-num_rows // NUM_LANES), (size // 8 + 1) * 8 * NUM_LANES), np.float32)
        _lanes(x_ND, x_BX)
        _moments_of_all(factors_MT, unit, theta_MD, models_L, x_BX, means_NL, widths_NL)
    else:
        rows_P, places_P = np.nonzero(models_L >= 0)
        order_P, models_G, starts_G1 = grouped(models_L[rows_P, places_P])
        pairs = (rows_P[order_P], places_P[order_P])
        _moments_of_pairs(factors_MT, unit, theta_MD, models_G, starts_G1, *pairs, x_ND, means_NL, widths_NL)
    return means_NL, widths_NL


def grouped(models_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order that sorts rows by model (stable), the models that occur, and where the rows of each start."""
    order_N = np.argsort(models_N, kind="stable")
    models_G, first_G = np.unique(models_N[order_N], return_index=True)
    return order_N, models_G.astype(np.int64), np.append(first_G, len(models_N)).astype(np.int64)


# From factors to precisions (inverse covariances) and back


@njit(cache=True, nogil=True)
def _inverse_of_unit(triangle_T, size, out_T):
    """Write the inverse of a lower triangle with ones on its diagonal, in whose place something else is stored and ignored."""
    for i in range(size):
        base_i = i * (i + 1) // 2
        for j in range(i):
            total = triangle_T[base_i + j]
            for l in range(j + 1, i):
                total += triangle_T[base_i + l] * out_T[l * (l + 1) // 2 + j]
            out_T[base_i + j] = -total
        out_T[base_i + i] = 1.0


@njit(cache=True, nogil=True, parallel=True)
def precisions(factors_MT, size, out_MT):
    """Write the lower triangle of the inverse of each covariance: L diag(1 / d) L' with L the inverse of W."""
    for m in prange(len(factors_MT)):
        lower_T = np.empty(factors_MT.shape[1])
        _inverse_of_unit(factors_MT[m], size, lower_T)
        for i in range(size):
            for j in range(i + 1):
                total = 0.0
                for l in range(j + 1):
                    total += (
                        lower_T[i * (i + 1) // 2 + l]
                        * lower_T[j * (j + 1) // 2 + l]
                        / factors_MT[m, l * (l + 1) // 2 + l]
                    )
                out_MT[m, i * (i + 1) // 2 + j] = total


@njit(cache=True, nogil=True, parallel=True)
def factors_of(precision_MT, size, out_MT):
    """Write the factor of the inverse of each precision: its decomposition L diag(e) L' gives W, the inverse of L, and d = 1 / e."""
    for m in prange(len(precision_MT)):
        lower_T = np.empty(precision_MT.shape[1])
        for i in range(size):
            base_i = i * (i + 1) // 2
            for j in range(i + 1):
                base_j = j * (j + 1) // 2
                total = precision_MT[m, base_i + j]
                for l in range(j):
                    total -= lower_T[base_i + l] * lower_T[base_j + l] * lower_T[l * (l + 1) // 2 + l]
                lower_T[base_i + j] = total if i == j else total / lower_T[base_j + j]
        _inverse_of_unit(lower_T, size, out_MT[m])
        for i in range(size):
            out_MT[m, i * (i + 1) // 2 + i] = 1.0 / lower_T[i * (i + 1) // 2 + i]


@njit(cache=True, nogil=True, parallel=True)
def covariance_times(factors_MT, x_MD, out_MD):
    """Write the product of each covariance and a vector."""
    size = x_MD.shape[1]
    for m in prange(len(factors_MT)):
        out_MD[m] = 0.0
        for i in range(size):
            base = i * (i + 1) // 2
            total = x_MD[m, i]
            for j in range(i):
                total += factors_MT[m, base + j] * x_MD[m, j]
            total *= factors_MT[m, base + i]
            out_MD[m, i] += total
            for j in range(i):
                out_MD[m, j] += factors_MT[m, base + j] * total


@njit(cache=True, nogil=True, parallel=True)
def times(matrix_MT, x_MD, out_MD):
    """Write the product of each symmetric matrix, of which the lower triangle is packed, and a vector."""
    size = x_MD.shape[1]
    for m in prange(len(matrix_MT)):
        out_MD[m] = 0.0
        for i in range(size):
            for j in range(i + 1):
                value = matrix_MT[m, i * (i + 1) // 2 + j]
                out_MD[m, i] += value * x_MD[m, j]
                if j < i:
                    out_MD[m, j] += value * x_MD[m, i]
