"""Linear models of rewards, one or one for each arm: rank-one updates, and factors of covariances from precisions and back.

M models, N rows, D numbers of a row, T = D (D + 1) / 2 numbers of a lower triangle, packed by rows.

The covariance of a model is W' diag(d) W, with W a lower triangle with ones on its diagonal, in whose place d is stored. Updated in
this form (Bierman 1977, "Factorization Methods for Discrete Sequential Estimation", section V.3) it stays positive, without
a square root or a drift: there is no subtraction of numbers of similar size.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from .rank_one import learn_row


def packed_size(size: int) -> int:
    """Return T."""
    return size * (size + 1) // 2


@njit(**INSIDE)
def _learn_rows(factor_T, theta_D, rows_R, x_ND, rewards_N, weights_N, next_T):
    work_2D = np.empty((2, x_ND.shape[1]))
    for at, n in enumerate(rows_R):
        ahead_T = next_T if at + 1 == len(rows_R) else next_T[:0]
        learn_row(factor_T, theta_D, x_ND[n], rewards_N[n], weights_N[n], work_2D, ahead_T)


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
        model, following = models_G[g], models_G[min(g + 1, len(models_G) - 1)]
        rows_R, next_T = rows_N[starts_G1[g] : starts_G1[g + 1]], factors_MT[following]
        _learn_rows(factors_MT[model], theta_MD[model], rows_R, x_ND, rewards_N, weights_N, next_T)


def grouped(models_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the order that sorts rows by model (stable), the models that occur, and where the rows of each start."""
    small = models_N.astype(np.uint16) if models_N.max(initial=0) < 1 << 16 else models_N  # sorted by digits
    order_N = np.argsort(small, kind="stable")
    sorted_N = models_N[order_N].astype(np.int64)
    first_G = np.flatnonzero(np.diff(sorted_N, prepend=-1))
    return order_N, sorted_N[first_G], np.append(first_G, len(models_N))


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
