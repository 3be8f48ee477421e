"""Which arms can be among the best of a request, and their moments: all others need no width.

B requests, L candidates, X leaders, C contenders, K positions, M models, D numbers of a context.

What decides, an index or a draw, is at most the mean, a 1 / D of the work, plus a multiple of the length of the context times a bound of
the arm. The K + 1 candidates with the highest such limits lead and are computed; one that is limited below K of them cannot be chosen. Decisions
are the same bits as without.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from ..tile import MASKED, above, lowest_bit, reaching
from .choosing import bits_of
from .drawing import normal, reach
from .moments import Kept, moments, moments_of_pairs

FEW = 4  # candidates for each that contends, or is to be chosen, below which all are computed
ROUNDING = 1.2e-7  # more than that of a number rounded to float32
MARGIN = 4e-7  # more than the relative error of a float32 product of D numbers, over D + 16
SQUARINGS = 4  # of a covariance, to bound its largest eigenvalue
TOGETHER = 64  # covariances whose eigenvalues are bounded at a time, so that they take 2 MB for 64 numbers


class Decider(NamedTuple):
    """What candidates are chosen by: the mean plus `scale` times the width, times a normal number of the request and the arm if `drawn`.

    Attributes:
        scale: not negative.
        drawn: see above.
        key: uint64, of the random stream.
        requests_B: uint64.
    """

    scale: float
    drawn: bool
    key: np.uint64
    requests_B: np.ndarray


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
    """Return what a draw is at most whose mean is this, and its standard deviation at most `spread`."""
    return _rounded_up(np.float64(mean) + spread * max(normal(of_arm, np.uint64(0)), 0.0))


@njit(**INSIDE)
def _limit_indices(means_L, spread_L, length, upper_L):
    for l in range(len(means_L)):
        upper_L[l] = _rounded_up(np.float64(means_L[l]) + length * spread_L[l])


@njit(**INSIDE)
def _limit_draws(means_L, spread_L, length, arms_L, own, upper_L):
    """The highest is limited by its own number, others by a range of numbers."""
    best = np.float32(-np.inf)
    for l in range(len(arms_L)):
        of_arm, spread = bits_of(own, np.uint64(arms_L[l])), length * spread_L[l]
        upper = _rounded_up(np.float64(means_L[l]) + spread * reach(of_arm))
        if upper > best:
            upper = _limit_of_draw(means_L[l], spread, of_arm)
            best = max(best, upper)
        upper_L[l] = upper


@njit(fastmath={"reassoc", "contract"}, **INSIDE)
def _length(x_D):
    total = 0.0
    for number in x_D:
        total += np.float64(number) * np.float64(number)
    return np.sqrt(total)


@njit(cache=True, nogil=True, parallel=True)
def _limits(decider, means_BL, x_BD, margin, spread_L, arms_L, lengths_B, upper_BL):
    for b in prange(len(upper_BL)):
        lengths_B[b] = _length(x_BD[b]) * (1.0 + margin)
        if decider.drawn:
            own = bits_of(decider.key, decider.requests_B[b])
            _limit_draws(means_BL[b], spread_L, lengths_B[b], arms_L, own, upper_BL[b])
        else:
            _limit_indices(means_BL[b], spread_L, lengths_B[b], upper_BL[b])


class Limits(NamedTuple):
    """What candidates are not decided above.

    Attributes:
        upper_BL: float32.
        means_BL: float32.
        spread_L: float64; times the length of the context at least the width times the scale.
        lengths_B: float64, at least the lengths of contexts.
    """

    upper_BL: np.ndarray
    means_BL: np.ndarray
    spread_L: np.ndarray
    lengths_B: np.ndarray


def limits(
    decider: Decider, means_BL: np.ndarray, x_BD: np.ndarray, arms_L: np.ndarray, widest_L: np.ndarray
) -> Limits:
    """Return what candidates are not decided above, from their means; other arguments as for `contenders`."""
    margin = MARGIN * (x_BD.shape[1] + 16)
    lengths_B, upper_BL = np.empty(len(x_BD)), np.empty_like(means_BL)
    spread_L = widest_L * decider.scale * (1 + margin)
    _limits(decider, means_BL, x_BD, margin, spread_L, arms_L, lengths_B, upper_BL)
    return Limits(upper_BL, means_BL, spread_L, lengths_B)


@njit(**INSIDE)
def _bits(count):
    """Return the mask of the first `count` of `MASKED` candidates, at least 1."""
    return ~np.uint32(0) if count >= MASKED else np.uint32((1 << count) - 1)


@njit(**INSIDE)
def _insert(l, upper, place, values_X, places_X):
    while place > 0 and upper > values_X[place - 1]:
        values_X[place], places_X[place] = values_X[place - 1], places_X[place - 1]
        place -= 1
    values_X[place], places_X[place] = upper, l


@njit(**INSIDE)
def _lead(upper_L, values_X, places_X):
    leaders, size = len(places_X), len(upper_L)
    values_X[:] = -np.inf
    for place in range(leaders):
        _insert(place, upper_L[place], place, values_X, places_X)
    for first in range(0, size, MASKED):
        mask = _bits(size - first)
        if size - first >= MASKED:
            mask = above(upper_L, np.uint64(first), values_X[leaders - 1])
        while mask:
            l = first + np.int64(lowest_bit(mask))
            mask &= mask - np.uint32(1)
            if l >= leaders and upper_L[l] > values_X[leaders - 1]:
                _insert(l, upper_L[l], leaders - 1, values_X, places_X)


@njit(cache=True, nogil=True, parallel=True)
def _leaders(upper_BL, values_BX, places_BX):
    """Write the candidates with the highest limits."""
    for b in prange(len(upper_BL)):
        _lead(upper_BL[b], values_BX[b], places_BX[b])


@njit(**INSIDE)
def _value(decider, mean, width, of_arm):
    """Return what a candidate is decided by; the bits of the policies."""
    if decider.drawn:
        return np.float64(mean) + decider.scale * np.float64(width) * normal(of_arm, np.uint64(0))
    return np.float64(np.float32(mean + np.float32(width * np.float32(decider.scale))))


@njit(**INSIDE)
def _reached(decider, own, arms_X, means_X, widths_X, best_K):
    """Return what as many of the leaders reach as there is room for."""
    k = len(best_K)
    best_K[:] = -np.inf
    for x in range(len(arms_X)):
        value, place = _value(decider, means_X[x], widths_X[x], bits_of(own, np.uint64(arms_X[x]))), k - 1
        if value > best_K[place]:
            while place > 0 and value > best_K[place - 1]:
                best_K[place] = best_K[place - 1]
                place -= 1
            best_K[place] = value
    return best_K[k - 1]


@njit(**INSIDE)
def _follow(b, decider, limits, arms_L, floor, places_X, arms_P):
    """Return how many candidates other than leaders are not limited below the floor; write them, if there is room."""
    upper_L, own, size, count = limits.upper_BL[b], bits_of(decider.key, decider.requests_B[b]), len(arms_L), 0
    at_least = np.float32(floor)
    if at_least > floor:
        at_least = np.nextafter(at_least, np.float32(-np.inf))
    for first in range(0, size, MASKED):
        mask = _bits(size - first)
        if size - first >= MASKED:
            mask = reaching(upper_L, np.uint64(first), at_least)
        while mask:
            l = first + np.int64(lowest_bit(mask))
            mask &= mask - np.uint32(1)
            follows = not upper_L[l] < floor  # NaN, of numbers that overflow, excludes nobody
            for place in places_X:
                follows = follows and place != l
            if follows and decider.drawn:
                spread, of_arm = limits.lengths_B[b] * limits.spread_L[l], bits_of(own, np.uint64(arms_L[l]))
                follows = not _limit_of_draw(limits.means_BL[b, l], spread, of_arm) < floor
            if follows:
                if len(arms_P):
                    arms_P[count] = arms_L[l]
                count += 1
    return count


@njit(cache=True, nogil=True, parallel=True)
def _count_followers(decider, limits, arms_L, k, leaders, floor_B, count_B):
    """Write what k leaders reach, and how many others can."""
    places_BX, arms_BX, means_BX, widths_BX = leaders
    best_BK, none = np.empty((len(floor_B), k)), np.empty(0, np.int64)
    for b in prange(len(floor_B)):
        own = bits_of(decider.key, decider.requests_B[b])
        floor_B[b] = _reached(decider, own, arms_BX[b], means_BX[b], widths_BX[b], best_BK[b])
        count_B[b] = _follow(np.int64(b), decider, limits, arms_L, floor_B[b], places_BX[b], none)


@njit(**INSIDE)
def _list_one(b, arms_X, means_X, widths_X, arms_P, rows_P, places_P, arms_C, means_C, widths_C):
    leaders, followers = len(arms_X), len(arms_P)
    for x in range(leaders):
        arms_C[x], means_C[x], widths_C[x] = arms_X[x], means_X[x], widths_X[x]
    for p in range(followers):
        arms_C[leaders + p], rows_P[p], places_P[p] = arms_P[p], b, leaders + p
    for c in range(leaders + followers, len(arms_C)):
        arms_C[c] = -1


@njit(cache=True, nogil=True, parallel=True)
def _list_followers(decider, limits, arms_L, floor_B, starts_B1, leaders, pairs, listed):
    """Write leaders with their moments, then followers, these as pairs too."""
    places_BX, arms_BX, means_BX, widths_BX = leaders
    (arms_P, rows_P, places_P), (arms_BC, means_BC, widths_BC) = pairs, listed
    for b in prange(len(floor_B)):
        first, end = starts_B1[b], starts_B1[b + 1]
        its_arms_P, its_rows_P, its_places_P = arms_P[first:end], rows_P[first:end], places_P[first:end]
        _follow(np.int64(b), decider, limits, arms_L, floor_B[b], places_BX[b], its_arms_P)
        its_pairs = (its_arms_P, its_rows_P, its_places_P)
        _list_one(np.int64(b), arms_BX[b], means_BX[b], widths_BX[b], *its_pairs, arms_BC[b], means_BC[b], widths_BC[b])


def contenders(
    decider: Decider,
    factors_MT: np.ndarray,
    theta_MD: np.ndarray,
    x_BD: np.ndarray,
    arms_L: np.ndarray,
    widest_L: np.ndarray,
    k: int,
    kept: Kept | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return the arms that can be among the best k and their moments, or None if these are so many that all should be computed.

    Args:
        decider: see `Decider`.
        factors_MT: float64, factors of covariances (`linear.py`).
        theta_MD: float64.
        x_BD: float32.
        arms_L: int32, the models that are candidates, more than k.
        widest_L: float64, what their widths of contexts of length 1 do not exceed (`widest`).
        k: K.
        kept: see `moments`.

    Returns:
        int32 [B, C] arms, padded with -1, and float32 means and widths, 0 at padding.
    """
    models = (factors_MT, theta_MD, x_BD)
    means_BL, _ = moments(*models, models_L=arms_L.astype(np.int64), widths=False)
    found = limits(decider, means_BL, x_BD, arms_L, widest_L)
    # one more than k: the arm for a context has often learned from it, so that its width is small
    places_BX = np.empty((len(x_BD), k + 1), np.int64)
    _leaders(found.upper_BL, np.empty(places_BX.shape, np.float32), places_BX)
    arms_BX = arms_L[places_BX].astype(np.int64)
    leaders = (places_BX, arms_BX, *moments(*models, models_L=arms_BX, kept=kept))
    floor_B, count_B = np.empty(len(x_BD)), np.empty(len(x_BD), np.int64)
    _count_followers(decider, found, arms_L, k, leaders, floor_B, count_B)
    if (places_BX.size + count_B.sum()) * FEW > means_BL.size:
        return None
    shape, starts_B1 = (len(x_BD), k + 1 + count_B.max(initial=0)), np.concatenate([[0], np.cumsum(count_B)])
    arms_P, rows_P, places_P = np.empty((3, starts_B1[-1]), np.int64)
    arms_BC, means_BC, widths_BC = (
        np.empty(shape, arms_L.dtype),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )
    listed = (arms_BC, means_BC, widths_BC)
    _list_followers(decider, found, arms_L, floor_B, starts_B1, leaders, (arms_P, rows_P, places_P), listed)
    moments_of_pairs(*models, arms_P, rows_P, places_P, means_BC, widths_BC, kept=kept)
    return listed
