"""The chance that independent random scores order the candidates in a given way, by quadrature over the score.

L candidates, K positions, N nodes in panels of G nodes each.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _add(counts_K, below):
    """Let one more candidate be below t with this chance; counts_K[j] is the chance that j are above t."""
    for j in range(len(counts_K) - 1, 0, -1):
        counts_K[j] = counts_K[j] * below + counts_K[j - 1] * (1.0 - below)
    counts_K[0] *= below


@njit(cache=True, nogil=True)
def position_chances(cdf_NL, pdf_NL, weights_N, shown_K, chances_K):
    """Write the chance that each shown candidate is exactly at its position.

    The integral over t of its density times the chance that j of the others are above t, a Poisson binomial distribution.

    Args:
        cdf_NL: float64, of each candidate's score.
        pdf_NL: float64.
        weights_N: float64, of the quadrature.
        shown_K: int64 candidates, distinct.
        chances_K: out, float64.
    """
    k = len(shown_K)
    chances_K[:] = 0.0
    is_shown_L = np.zeros(cdf_NL.shape[1], np.bool_)
    is_shown_L[shown_K] = True
    rest_K, counts_K = np.empty(k), np.empty(k)
    for n in range(len(weights_N)):
        rest_K[:] = 0.0
        rest_K[0] = 1.0
        for l in range(cdf_NL.shape[1]):
            if not is_shown_L[l] and cdf_NL[n, l] < 1.0:
                _add(rest_K, cdf_NL[n, l])
        for place in range(k):
            density = pdf_NL[n, shown_K[place]] * weights_N[n]
            if density > 0.0:
                counts_K[:] = rest_K
                for other in range(k):
                    if other != place:
                        _add(counts_K, cdf_NL[n, shown_K[other]])
                chances_K[place] += density * counts_K[place]


@njit(cache=True, nogil=True)
def slate_chance(cdf_NL, pdf_NL, weights_N, halves_P, inside_GG, shown_K):
    """Return the chance that exactly the shown candidates come first, in this order.

    Iterated integrals from the last position to the first, each cumulated over the panels.

    Args:
        cdf_NL: float64.
        pdf_NL: float64.
        weights_N: float64, of the quadrature.
        halves_P: float64, half the width of each panel.
        inside_GG: float64, weights of the integral from a panel's start to each of its nodes, for half-width 1.
        shown_K: int64 candidates, distinct.
    """
    size = len(inside_GG)
    is_shown_L = np.zeros(cdf_NL.shape[1], np.bool_)
    is_shown_L[shown_K] = True
    below_N = np.ones(len(weights_N))
    for l in range(cdf_NL.shape[1]):
        if not is_shown_L[l]:
            below_N *= cdf_NL[:, l]
    total = 0.0
    for place in range(len(shown_K) - 1, -1, -1):
        total = 0.0
        for p in range(len(halves_P)):
            density_G = pdf_NL[p * size : (p + 1) * size, shown_K[place]] * below_N[p * size : (p + 1) * size]
            for g in range(size):
                inside = 0.0
                for other in range(size):
                    inside += inside_GG[g, other] * density_G[other]
                below_N[p * size + g] = total + halves_P[p] * inside
            for g in range(size):
                total += weights_N[p * size + g] * density_G[g]
    return total
