"""Draws from the posterior of each arm: functions of (key, request, arm), so they do not depend on batches, candidates or threads.

B requests, R rows (1: the same for all requests, else B), L candidates, A arms.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from .choosing import TIES, bits_of, insert, row_of, uniform

STEPS = 10  # bits of a number that its radius is bounded by
# what the radius of a number from n / 2^STEPS on does not exceed; no number is below 2^-54
_from = np.maximum(np.arange(2**STEPS) * 2.0**-STEPS, 2.0**-54)
REACH = np.sqrt(-2.0 * np.log(_from)) + 1e-6


@njit(cache=True, nogil=True)
def normal(key, at):
    """Return a standard normal number from positions `at` and `at + 1` of a stream (Box, Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log(uniform(bits_of(key, at))))
    return radius * np.cos(2.0 * np.pi * uniform(bits_of(key, at + np.uint64(1))))


@njit(**INSIDE)
def reach(key):
    """Return what the size of the standard normal number from position 0 of a stream does not exceed."""
    return REACH[bits_of(key, np.uint64(0)) >> np.uint64(64 - STEPS)]


@njit(cache=True, nogil=True)
def _log_gamma_draw(shape, key):
    """Return the logarithm of a gamma-distributed number (Marsaglia, Tsang 2000, "A Simple Method for Generating Gamma Variables")."""
    at = np.uint64(0)
    boost = 0.0
    if shape < 1.0:
        boost = np.log(uniform(bits_of(key, at))) / shape
        at += np.uint64(1)
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    while True:
        x = normal(key, at)
        u = uniform(bits_of(key, at + np.uint64(2)))
        at += np.uint64(3)
        v = 1.0 + c * x
        if v > 0.0:
            v = v * v * v
            if np.log(u) < 0.5 * x * x + d - d * v + d * np.log(v):
                return np.log(d * v) + boost


@njit(cache=True, nogil=True, parallel=True)
def beta_draws(successes_A, failures_A, arms_RL, key, requests_B, draws_BL):
    """Write the logit of a beta-distributed number for each candidate: ln t - ln(1 - t), which does not round to 0 or 1.

    Args:
        successes_A: float64, above 0.
        failures_A: float64, above 0.
        arms_RL: int32, -1 at padding.
        key: uint64, of the random stream.
        requests_B: uint64.
        draws_BL: out, float64; -inf at padding.
    """
    for b in prange(len(requests_B)):
        own = bits_of(key, requests_B[b])
        arms_L = arms_RL[row_of(b, arms_RL)]
        for l in range(len(arms_L)):
            arm = arms_L[l]
            draws_BL[b, l] = -np.inf
            if arm >= 0:
                of_arm = bits_of(own, np.uint64(arm))
                won = _log_gamma_draw(successes_A[arm], bits_of(of_arm, np.uint64(0)))
                draws_BL[b, l] = won - _log_gamma_draw(failures_A[arm], bits_of(of_arm, np.uint64(1)))


@njit(cache=True, nogil=True, parallel=True)
def normal_draws(means_RL, widths_RL, arms_RL, key, requests_B, draws_BL):
    """Write mean + width * a standard normal number for each candidate.

    Args:
        means_RL: float64.
        widths_RL: float64, standard deviations.
        arms_RL: int32, -1 at padding.
        key: uint64, of the random stream.
        requests_B: uint64.
        draws_BL: out, float64; -inf at padding.
    """
    for b in prange(len(requests_B)):
        own = bits_of(key, requests_B[b])
        row, arms_L = row_of(b, means_RL), arms_RL[row_of(b, arms_RL)]
        for l in range(len(arms_L)):
            draws_BL[b, l] = -np.inf
            if arms_L[l] >= 0:
                number = normal(bits_of(own, np.uint64(arms_L[l])), np.uint64(0))
                draws_BL[b, l] = means_RL[row, l] + widths_RL[row, l] * number


@njit(**INSIDE)
def _best_normal(means_L, widths_L, noise, arms_L, own, draws_L, places_K):
    """Write the positions of the highest draws of one request, best first, and their values; -inf where a draw cannot be among them."""
    k = len(places_K)
    tie_key = bits_of(own, TIES)
    best_K, bits_K = np.empty(k), np.empty(k, np.uint64)
    count, floor = 0, -np.inf
    for l in range(len(arms_L)):
        draws_L[l] = -np.inf
        if arms_L[l] < 0:
            continue
        of_arm = bits_of(own, np.uint64(arms_L[l]))
        mean, width = np.float64(means_L[l]), noise * np.float64(widths_L[l])
        if mean + width * reach(of_arm) < floor:
            continue
        draw = mean + width * normal(of_arm, np.uint64(0))
        draws_L[l] = draw
        if draw < floor:
            continue
        bits = bits_of(tie_key, np.uint64(arms_L[l]))
        count = insert(draw, bits, l, count, best_K, bits_K, places_K)
        if count == k:
            floor = best_K[k - 1]
    places_K[count:] = -1


@njit(cache=True, nogil=True, parallel=True)
def best_normal_draws(means_RL, widths_RL, noise, arms_RL, key, requests_B, draws_BL, places_BK):
    """Write what `normal_draws` and `best_first` would, but only draws that can be among the best k: few logarithms and cosines are needed.

    Args:
        means_RL: float32.
        widths_RL: float32; times `noise` they are standard deviations.
        noise: float64, above 0.
        arms_RL: int32, -1 at padding.
        key: uint64, of the random stream.
        requests_B: uint64.
        draws_BL: out, float64; -inf at padding and where a draw cannot be among the best.
        places_BK: out, int32, positions of the best, best first; -1 where there are fewer candidates.
    """
    for b in prange(len(requests_B)):
        row, arms_L = row_of(b, means_RL), arms_RL[row_of(b, arms_RL)]
        own = bits_of(key, requests_B[b])
        _best_normal(means_RL[row], widths_RL[row], noise, arms_L, own, draws_BL[b], places_BK[b])


@njit(cache=True, nogil=True, parallel=True)
def gumbel_draws(scores_RL, arms_RL, key, requests_B, draws_BL):
    """Write score + a standard Gumbel number for each candidate; sorted, they follow Plackett and Luce.

    Args:
        scores_RL: float64.
        arms_RL: int32, -1 at padding.
        key: uint64, of the random stream.
        requests_B: uint64.
        draws_BL: out, float64; -inf at padding.
    """
    for b in prange(len(requests_B)):
        own = bits_of(key, requests_B[b])
        row, arms_L = row_of(b, scores_RL), arms_RL[row_of(b, arms_RL)]
        for l in range(len(arms_L)):
            draws_BL[b, l] = -np.inf
            if arms_L[l] >= 0:
                draws_BL[b, l] = scores_RL[row, l] - np.log(-np.log(uniform(bits_of(own, np.uint64(arms_L[l])))))


@njit(cache=True, nogil=True, parallel=True)
def normals(key, requests_B, numbers_BN):
    """Write standard normal numbers, as many as there are columns, for each request."""
    for b in prange(len(requests_B)):
        own = bits_of(key, requests_B[b])
        for n in range(numbers_BN.shape[1]):
            numbers_BN[b, n] = normal(own, np.uint64(2 * n))
