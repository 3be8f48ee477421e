"""The best k candidates with ties shared evenly, epsilon-greedy choices, and the exact chance of each.

B requests, R rows (1: the same for all requests, else B), L candidates, K positions, I items of a slate shown so far.

Random numbers are functions of (key, request, position, arm): they do not depend on the batch, the order of candidates or threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from ..compiling import INSIDE
from ..random import random_bits

bits_of = njit(random_bits, cache=True)
TIES = np.uint64(1 << 62)  # the stream that orders equal scores; streams of positions start at 0
COINS = np.uint64(1 << 61)  # the stream of coins, one a position
SCALE = 2.0**-53


@njit(cache=True, nogil=True)
def uniform(bits):
    """Return a float64 in (0, 1) from 64 random bits."""
    return (np.float64(bits >> np.uint64(11)) + 0.5) * SCALE


@njit(cache=True, nogil=True)
def row_of(b, array_RX):
    """Return the row of request b: the only one, or its own."""
    return np.int64(b) if len(array_RX) > 1 else np.int64(0)


@njit(**INSIDE)
def insert(score, bits, l, count, best_K, bits_K, places_K):
    """Insert candidate l into the `count` best, sorted by score and then by lower bits, and return the new count, at most k."""
    k, place = len(places_K), count
    while place > 0 and (score > best_K[place - 1] or (score == best_K[place - 1] and bits < bits_K[place - 1])):
        place -= 1
    if place == k:
        return count
    count = min(count + 1, k)
    for after in range(count - 1, place, -1):
        best_K[after], bits_K[after], places_K[after] = best_K[after - 1], bits_K[after - 1], places_K[after - 1]
    best_K[place], bits_K[place], places_K[place] = score, bits, l
    return count


@njit(cache=True, nogil=True)
def _best(scores_L, arms_L, tie_key, places_K, best_K, bits_K):
    """Write the positions of the best candidates, best first; equal scores in random order. Return how many there are.

    The last two arrays, float64 and uint64, are to work in.
    """
    k, count = len(places_K), 0
    for l in range(len(arms_L)):  # the values alone: equal ones need no numbers before it is known which remain
        if arms_L[l] >= 0 and (count < k or scores_L[l] > best_K[k - 1]):
            count = insert(scores_L[l], np.uint64(0), l, count, best_K, bits_K, places_K)
    floor, count = best_K[k - 1] if count == k else -np.inf, 0
    for l in range(len(arms_L)):
        if arms_L[l] >= 0 and scores_L[l] >= floor:
            bits = bits_of(tie_key, np.uint64(arms_L[l]))
            count = insert(scores_L[l], bits, l, count, best_K, bits_K, places_K)
    places_K[count:] = -1
    return count


@njit(cache=True, nogil=True, parallel=True)
def best_first(scores_RL, arms_RL, key, requests_B, places_BK):
    """Write the positions of the best k candidates of each request, best first; -1 where there are fewer.

    Args:
        scores_RL: float64, not NaN.
        arms_RL: int32, -1 at padding.
        key: uint64, of the random stream.
        requests_B: uint64.
        places_BK: out, int32.
    """
    best_BK, bits_BK = np.empty(places_BK.shape), np.empty(places_BK.shape, np.uint64)
    for b in prange(len(requests_B)):
        row = row_of(b, arms_RL)
        tie_key = bits_of(bits_of(key, requests_B[b]), TIES)
        _best(scores_RL[row_of(b, scores_RL)], arms_RL[row], tie_key, places_BK[b], best_BK[b], bits_BK[b])


@njit(cache=True, nogil=True)
def _standing(scores_L, arms_L, score):
    """Return how many candidates have a higher score, how many the same, and how many there are."""
    above, equal, size = 0, 0, 0
    for l in range(len(arms_L)):
        if arms_L[l] >= 0:
            size += 1
            above += scores_L[l] > score
            equal += scores_L[l] == score
    return above, equal, size


@njit(cache=True, nogil=True, parallel=True)
def tie_chances(scores_RL, arms_RL, places_BK, chances_BK, joint_B):
    """Write the chance of each shown arm at its position, and of the whole slate, where only ties are random.

    An arm with `above` better ones that shares its score with `equal` (itself included) is at each of these positions with chance
    1 / equal.
    """
    for b in prange(len(places_BK)):
        scores_L, arms_L = scores_RL[row_of(b, scores_RL)], arms_RL[row_of(b, arms_RL)]
        joint = 1.0
        for place in range(places_BK.shape[1]):
            if places_BK[b, place] < 0:
                chances_BK[b, place] = np.nan
                continue
            above, equal, _ = _standing(scores_L, arms_L, scores_L[places_BK[b, place]])
            chances_BK[b, place] = 1.0 / equal
            joint /= equal - (place - above)
        joint_B[b] = joint


@njit(cache=True, nogil=True)
def _explored(arms_L, shown_I, key):
    """Return the position of a uniformly drawn candidate that is not shown yet."""
    best, best_bits = -1, np.uint64(0)
    for l in range(len(arms_L)):
        if arms_L[l] < 0:
            continue
        bits = bits_of(key, np.uint64(arms_L[l]))
        if best >= 0 and bits >= best_bits:
            continue
        taken = False
        for other in shown_I:
            taken = taken or other == l
        if not taken:
            best, best_bits = l, bits
    return best


@njit(cache=True, nogil=True, parallel=True)
def epsilon_greedy(scores_RL, arms_RL, epsilon, key, requests_B, places_BK):
    """Fill each position with the best remaining candidate, or with chance epsilon with any remaining one.

    Args:
        scores_RL: float64, not NaN.
        arms_RL: int32, -1 at padding.
        epsilon: float64 in [0, 1].
        key: uint64, of the random stream.
        requests_B: uint64.
        places_BK: out, int32; -1 where there are fewer candidates.
    """
    k = places_BK.shape[1]
    for b in prange(len(requests_B)):
        scores_L, arms_L = scores_RL[row_of(b, scores_RL)], arms_RL[row_of(b, arms_RL)]
        own = bits_of(key, requests_B[b])
        greedy_K = np.empty(k, np.int32)
        count = _best(scores_L, arms_L, bits_of(own, TIES), greedy_K, np.empty(k), np.empty(k, np.uint64))
        places_BK[b] = -1
        for place in range(count):
            shown_I = places_BK[b, :place]
            if uniform(bits_of(own, COINS + np.uint64(place))) < epsilon:
                places_BK[b, place] = _explored(arms_L, shown_I, bits_of(own, np.uint64(place)))
                continue
            for candidate in greedy_K[:count]:
                taken = False
                for other in shown_I:
                    taken = taken or other == candidate
                if not taken:
                    places_BK[b, place] = candidate
                    break


@njit(cache=True, nogil=True)
def _epsilon_chance(epsilon, above, equal, size, place):
    """Return the chance that a candidate with `above` better and `equal` equal ones (itself included) is at this position.

    A Markov chain over the positions before it: i of the better ones and j of the other equal ones are gone.
    """
    others = equal - 1
    most_i, most_j = min(place, above), min(place, others)
    now_IJ = np.zeros((most_i + 1, most_j + 1))
    now_IJ[0, 0] = 1.0
    for step in range(place + 1):
        left = size - step
        next_IJ = np.zeros((most_i + 1, most_j + 1))
        hit = 0.0
        for i in range(min(step, most_i) + 1):
            for j in range(min(step - i, most_j) + 1):
                chance = now_IJ[i, j]
                if chance == 0.0:
                    continue
                u, m = above - i, others - j
                w = left - 1 - u - m
                greedy = 1.0 - epsilon
                hit += chance * ((greedy / (m + 1) if u == 0 else 0.0) + epsilon / left)
                if step == place:
                    continue
                if u > 0:
                    next_IJ[i + 1, j] += chance * (greedy + epsilon * u / left)
                if m > 0:
                    next_IJ[i, j + 1] += chance * ((greedy * m / (m + 1) if u == 0 else 0.0) + epsilon * m / left)
                next_IJ[i, j] += chance * epsilon * w / left
        now_IJ = next_IJ
    return hit


@njit(cache=True, nogil=True, parallel=True)
def epsilon_chances(scores_RL, arms_RL, epsilon, places_BK, chances_BK, joint_B):
    """Write the chance of each arm that `epsilon_greedy` showed at its position, whatever came before, and of the whole slate."""
    for b in prange(len(places_BK)):
        scores_L, arms_L = scores_RL[row_of(b, scores_RL)], arms_RL[row_of(b, arms_RL)]
        joint = 1.0
        for place in range(places_BK.shape[1]):
            at = places_BK[b, place]
            if at < 0:
                chances_BK[b, place] = np.nan
                continue
            above, equal, size = _standing(scores_L, arms_L, scores_L[at])
            chances_BK[b, place] = _epsilon_chance(epsilon, above, equal, size, place)
            for other in places_BK[b, :place]:
                above -= scores_L[other] > scores_L[at]
                equal -= scores_L[other] == scores_L[at]
            joint *= epsilon / (size - place) + ((1.0 - epsilon) / equal if above == 0 else 0.0)
        joint_B[b] = joint


@njit(cache=True, nogil=True, parallel=True)
def first_chances(scores_RL, arms_RL, epsilon, chances_RL):
    """Write the chance of each candidate at the first position: epsilon-greedy, or with epsilon 0 the best with ties shared."""
    for r in prange(len(chances_RL)):
        scores_L, arms_L = scores_RL[row_of(r, scores_RL)], arms_RL[row_of(r, arms_RL)]
        best, equal, size = -np.inf, 0, 0
        for l in range(len(arms_L)):
            if arms_L[l] >= 0:
                size += 1
                if equal == 0 or scores_L[l] > best:
                    best, equal = scores_L[l], 1
                elif scores_L[l] == best:
                    equal += 1
        for l in range(len(arms_L)):
            chances_RL[r, l] = 0.0
            if arms_L[l] >= 0:
                chances_RL[r, l] = epsilon / size + ((1.0 - epsilon) / equal if scores_L[l] == best else 0.0)
