"""Which arms can be among the best of a request: all others need no width.

B requests, L candidates, K positions, P pairs of a request and a candidate, D numbers of a context.

A width is at most the length of the context times a bound of the arm, so that what decides, an index or a draw, is at most its mean, a 1 / D
of the work, plus a multiple of that. The K + 1 candidates with the highest such limits are computed; one that is limited below K of them
cannot be chosen. Decisions are the same bits as without.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from .choosing import bits_of
from .drawing import normal, reach

PairLimits = Callable[[np.ndarray, np.ndarray], np.ndarray]

MARGIN = 4e-7  # more than the relative error of a float32 product of D numbers, over D + 16
SQUARINGS = 4  # of a covariance, to bound its largest eigenvalue
TOGETHER = 64  # covariances whose eigenvalues are bounded at a time, so that they take 2 MB for 64 numbers
ROUNDING = 1.2e-7  # more than that of a number rounded to float32


def limits(x_BD: np.ndarray, theta_LD: np.ndarray, most_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what means plus widths do not exceed, float32 [B, L], and what the lengths of contexts do not, float64 [B].

    Args:
        x_BD: float32.
        theta_LD: float64.
        most_L: float64, what the widths of contexts of length 1 do not exceed.
    """
    lengths_B = np.linalg.norm(x_BD.astype(np.float64), axis=1)
    margin = MARGIN * (x_BD.shape[1] + 16)
    reach_L = margin * np.linalg.norm(theta_LD, axis=1) + most_L * (1 + margin)
    extended_BX = np.column_stack([x_BD, lengths_B * (1 + margin)]).astype(np.float32)
    extended_LX = np.column_stack([theta_LD, reach_L]).astype(np.float32)
    return extended_BX @ extended_LX.T, lengths_B * (1 + margin)


def widest(factors_MT: np.ndarray, size: int) -> np.ndarray:
    """Return float64 [M]: what the widths of contexts of length 1 do not exceed, at most 1.2 times the largest for 200 numbers.

    It is the root of (tr C^16)^(1/16), for C the covariance (`linear.py`), whose largest eigenvalue that exceeds by at most D^(1/16).
    """
    bounds_M = np.empty(len(factors_MT))
    for start in range(0, len(factors_MT), TOGETHER):
        part = slice(start, start + TOGETHER)
        rows_D, columns_D = np.tril_indices(size)
        root_MDD = np.zeros((len(factors_MT[part]), size, size))
        root_MDD[:, rows_D, columns_D] = factors_MT[part]
        at_D = np.arange(size)
        scale_MD = np.sqrt(root_MDD[:, at_D, at_D])
        root_MDD[:, at_D, at_D] = 1.0
        root_MDD *= scale_MD[:, :, None]
        power_MDD = root_MDD.transpose(0, 2, 1) @ root_MDD
        traces = [np.trace(power_MDD, axis1=1, axis2=2)]
        for _ in range(SQUARINGS):
            power_MDD /= traces[-1][:, None, None]
            power_MDD = power_MDD @ power_MDD
            traces.append(np.trace(power_MDD, axis1=1, axis2=2))
        bound_M = traces.pop()
        while traces:
            bound_M = traces.pop() * np.sqrt(bound_M)
        bounds_M[part] = np.sqrt(bound_M)
    return bounds_M


@njit(**INSIDE)
def _rounded_up(limit):
    return np.float32(limit + abs(limit) * ROUNDING)


@njit(**INSIDE)
def _limit_of_draw(mean, spread, of_arm):
    """Return what a draw is at most whose mean and standard deviation are at most these."""
    return _rounded_up(np.float64(mean) + spread * max(normal(of_arm, np.uint64(0)), 0.0))


@njit(**INSIDE)
def _limits_of_draws(means_L, most_L, length, arms_L, own, upper_L):
    best = np.float32(-np.inf)
    for l in range(len(arms_L)):
        of_arm, spread = bits_of(own, np.uint64(arms_L[l])), length * most_L[l]
        upper = _rounded_up(np.float64(means_L[l]) + spread * reach(of_arm))
        if upper > best:
            upper = _limit_of_draw(means_L[l], spread, of_arm)
            best = max(best, upper)
        upper_L[l] = upper


@njit(cache=True, nogil=True, parallel=True)
def limits_of_draws(means_BL, most_L, lengths_B, arms_L, key, requests_B, upper_BL):
    """Write what no draw of `best_normal_draws` exceeds; the highest of a request is limited by its own number, others by a range of numbers.

    Args:
        means_BL: float32, what the means do not exceed.
        most_L: float64; times the length of the context at least the standard deviation.
        lengths_B: float64.
        arms_L: int32.
        key: uint64, of the random stream.
        requests_B: uint64.
        upper_BL: out, float32.
    """
    for b in prange(len(upper_BL)):
        _limits_of_draws(means_BL[b], most_L, lengths_B[b], arms_L, bits_of(key, requests_B[b]), upper_BL[b])


@njit(cache=True, nogil=True, parallel=True)
def limits_of_pairs(means_BL, most_L, lengths_B, arms_L, key, requests_B, rows_P, places_P, upper_P):
    """Write what the draws of some pairs do not exceed, each limited by its own number; see `limits_of_draws`."""
    for p in prange(len(rows_P)):
        b, l = rows_P[p], places_P[p]
        of_arm = bits_of(bits_of(key, requests_B[b]), np.uint64(arms_L[l]))
        upper_P[p] = _limit_of_draw(means_BL[b, l], lengths_B[b] * most_L[l], of_arm)


@njit(**INSIDE)
def _lead(upper_L, values_X, places_X):
    last = len(places_X) - 1
    values_X[:] = -np.inf
    for l in range(len(upper_L)):
        if l <= last or upper_L[l] > values_X[last]:
            place = min(l, last)
            while place > 0 and upper_L[l] > values_X[place - 1]:
                values_X[place], places_X[place] = values_X[place - 1], places_X[place - 1]
                place -= 1
            values_X[place], places_X[place] = upper_L[l], l


@njit(cache=True, nogil=True, parallel=True)
def _leaders(upper_BL, values_BX, places_BX):
    for b in prange(len(upper_BL)):
        _lead(upper_BL[b], values_BX[b], places_BX[b])


def leading(upper_BL: np.ndarray, count: int) -> np.ndarray:
    """Return int64 [B, count]: the candidates with the highest limits; `count` is at most L."""
    places_BX = np.empty((len(upper_BL), count), np.int64)
    _leaders(upper_BL, np.empty(places_BX.shape, np.float32), places_BX)
    return places_BX


@njit(**INSIDE)
def _reaching(upper_L, floor):
    count = np.int32(0)
    for l in range(len(upper_L)):
        count += not upper_L[l] < floor  # NaN, of numbers that overflow, excludes nobody
    return count


@njit(cache=True, nogil=True, parallel=True)
def _count(upper_BL, floor_B, count_B):
    for b in prange(len(upper_BL)):
        count_B[b] = _reaching(upper_BL[b], floor_B[b])


@njit(**INSIDE)
def _fill(upper_L, floor, places_N):
    at = 0
    for l in range(len(upper_L)):
        if not upper_L[l] < floor:
            places_N[at] = l
            at += 1


@njit(cache=True, nogil=True, parallel=True)
def _list(upper_BL, floor_B, starts_B1, rows_P, places_P):
    for b in prange(len(upper_BL)):
        first, end = starts_B1[b], starts_B1[b + 1]
        rows_P[first:end] = b
        _fill(upper_BL[b], floor_B[b], places_P[first:end])


def contenders(upper_BL: np.ndarray, floor_B: np.ndarray, limits_of: PairLimits | None = None) -> np.ndarray:
    """Return int64 [B, C]: the candidates whose limits are at least the floor of their request, in order, padded with -1.

    Args:
        upper_BL: float32, limits.
        floor_B: float, what K candidates of each request reach.
        limits_of: from pairs, rows and places, to narrower limits.
    """
    count_B = np.empty(len(upper_BL), np.int64)
    _count(upper_BL, floor_B, count_B)
    starts_B1 = np.concatenate([[0], np.cumsum(count_B)])
    rows_P, places_P = np.empty(starts_B1[-1], np.int64), np.empty(starts_B1[-1], np.int64)
    _list(upper_BL, floor_B, starts_B1, rows_P, places_P)
    if limits_of is not None:
        near_P = ~(limits_of(rows_P, places_P) < floor_B[rows_P])
        rows_P, places_P = rows_P[near_P], places_P[near_P]
        count_B = np.bincount(rows_P, minlength=len(upper_BL))
        starts_B1 = np.concatenate([[0], np.cumsum(count_B)])
    places_BC = np.full((len(upper_BL), count_B.max(initial=0)), -1, np.int64)
    places_BC[rows_P, np.arange(len(rows_P)) - starts_B1[rows_P]] = places_P
    return places_BC
