"""Exact propensities of policies that order arms by independent random scores, such as draws from their posteriors.

L candidates, K positions, N nodes in P panels of G nodes each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
from scipy.special import betainc, betaincinv, betaln, expit, log_expit, ndtr, ndtri

from recsys_dl.kernels.bandits.order_chances import position_chances, slate_chance

NODES = 12  # per panel
OUTSIDE = 1e-13  # chance left out at either end
ERROR = 1e-10  # of a density's integral over a panel
ROUNDS = 40  # of halving panels: widths down to 1e-12 of the range


class Scores(Protocol):
    """Distributions of independent scores, one a candidate."""

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 [L] twice: below and above which a score lies with chance `OUTSIDE`."""
        ...

    def at(self, t_N: np.ndarray, some_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 [N, L] twice: the distribution functions and the densities of some candidates."""
        ...


@dataclass(frozen=True)
class Normals:
    """Normal scores; float64 [L] each."""

    means_L: np.ndarray
    widths_L: np.ndarray

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the quantiles."""
        reach_L = -ndtri(OUTSIDE) * self.widths_L
        return self.means_L - reach_L, self.means_L + reach_L

    def at(self, t_N: np.ndarray, some_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distribution functions and densities."""
        z_NL = (t_N[:, None] - self.means_L[some_L]) / self.widths_L[some_L]
        return ndtr(z_NL), np.exp(-0.5 * z_NL * z_NL) / (np.sqrt(2 * np.pi) * self.widths_L[some_L])


@dataclass(frozen=True)
class Gumbels:
    """Standard Gumbel scores around a location, float64 [L]."""

    locations_L: np.ndarray

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the quantiles."""
        return self.locations_L - np.log(-np.log(OUTSIDE)), self.locations_L - np.log(OUTSIDE)

    def at(self, t_N: np.ndarray, some_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distribution functions and densities."""
        rate_NL = np.exp(np.minimum(self.locations_L[some_L] - t_N[:, None], 700))  # infinity * 0 is not a number
        cdf_NL = np.exp(-rate_NL)
        return cdf_NL, rate_NL * cdf_NL


@dataclass(frozen=True)
class Betas:
    """Logits of beta-distributed scores; float64 [L] each, above 0. On this scale densities are smooth with any parameters."""

    successes_L: np.ndarray
    failures_L: np.ndarray

    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the quantiles."""
        low_L = np.maximum(betaincinv(self.successes_L, self.failures_L, OUTSIDE), 1e-300)
        high_L = np.maximum(betaincinv(self.failures_L, self.successes_L, OUTSIDE), 1e-300)  # of 1 - t
        return np.log(low_L) - np.log1p(-low_L), np.log1p(-high_L) - np.log(high_L)

    def at(self, t_N: np.ndarray, some_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return distribution functions and densities."""
        won_L, lost_L, t_N1 = self.successes_L[some_L], self.failures_L[some_L], t_N[:, None]
        cdf_NL = np.where(t_N1 < 0, betainc(won_L, lost_L, expit(t_N1)), 1 - betainc(lost_L, won_L, expit(-t_N1)))
        return cdf_NL, np.exp(won_L * log_expit(t_N1) + lost_L * log_expit(-t_N1) - betaln(won_L, lost_L))


@cache
def _rule() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss and Legendre on [-1, 1], and weights [G, G] of the integral from -1 to each node."""
    nodes_G, weights_G = np.polynomial.legendre.leggauss(NODES)
    basis_GG = np.polynomial.legendre.legvander(nodes_G, NODES - 1)
    integrals_GG = np.stack(
        [
            np.polynomial.legendre.legval(nodes_G, np.polynomial.legendre.legint(np.eye(NODES)[degree], lbnd=-1))
            for degree in range(NODES)
        ],
        axis=1,
    )
    return nodes_G, weights_G, integrals_GG @ np.linalg.inv(basis_GG)


@dataclass(frozen=True)
class Order:
    """The random order of candidates with independent scores, ready to be integrated over.

    Attributes:
        some_L: int64, candidates that can be among the first k.
        cdf_NL: float64, of these.
        pdf_NL: float64, of these.
        weights_N: float64, of the quadrature.
        halves_P: float64, half the width of each panel.
        size: candidates in all.
    """

    some_L: np.ndarray
    cdf_NL: np.ndarray
    pdf_NL: np.ndarray
    weights_N: np.ndarray
    halves_P: np.ndarray
    size: int

    @classmethod
    def of(cls, scores: Scores, k: int) -> Order:
        """Place panels such that every density that matters for the first k positions integrates to 1e-10 over each of them."""
        nodes_G, weights_G, _ = _rule()
        lows_L, highs_L = scores.ends()
        k = min(k, len(lows_L))
        low = float(np.partition(lows_L, -k)[-k])  # k scores lie above
        some_L = np.flatnonzero(highs_L > low)
        edges = np.linspace(low, float(highs_L.max()), 17)
        left_P, right_P = edges[:-1], edges[1:]
        done: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
        for _ in range(ROUNDS):
            halves_P = (right_P - left_P) / 2
            t_PG = (left_P + right_P)[:, None] / 2 + halves_P[:, None] * nodes_G
            cdf_NL, pdf_NL = scores.at(t_PG.ravel(), some_L)
            cdf_PGL, pdf_PGL = (one.reshape(len(left_P), NODES, -1) for one in (cdf_NL, pdf_NL))
            found_PL = halves_P[:, None] * np.einsum("g,pgl->pl", weights_G, pdf_PGL)
            true_PL = scores.at(right_P, some_L)[0] - scores.at(left_P, some_L)[0]
            bad_P = np.abs(found_PL - true_PL).max(1) > ERROR
            done.append((left_P[~bad_P], halves_P[~bad_P], cdf_PGL[~bad_P], pdf_PGL[~bad_P]))
            if not bad_P.any():
                break
            middle_P = (left_P[bad_P] + right_P[bad_P]) / 2
            left_P, right_P = np.concatenate([left_P[bad_P], middle_P]), np.concatenate([middle_P, right_P[bad_P]])
        order_P = np.argsort(np.concatenate([one[0] for one in done]))
        halves_P, cdf_PGL, pdf_PGL = (np.concatenate([one[n] for one in done])[order_P] for n in (1, 2, 3))
        flat = (len(order_P) * NODES, len(some_L))
        weights_N = (halves_P[:, None] * weights_G).ravel()
        return cls(some_L, cdf_PGL.reshape(flat), pdf_PGL.reshape(flat), weights_N, halves_P, len(lows_L))

    def first(self) -> np.ndarray:
        """Return float64 [L]: the chance of each candidate at the first position; sums to 1."""
        log_NL = np.log(np.maximum(self.cdf_NL, 1e-300))
        others_NL = np.exp(log_NL.sum(1, keepdims=True) - log_NL)
        chances_L = np.zeros(self.size)
        chances_L[self.some_L] = self.weights_N @ (self.pdf_NL * others_NL)
        return chances_L / chances_L.sum()

    def of_shown(self, shown_K: np.ndarray) -> tuple[np.ndarray, float]:
        """Return the chances float64 [K] of shown candidates at their positions, and of the whole slate.

        The candidates must be among those that the order was made for with k of at least K.
        """
        at_K = np.searchsorted(self.some_L, shown_K)
        chances_K = np.empty(len(shown_K))
        position_chances(self.cdf_NL, self.pdf_NL, self.weights_N, at_K, chances_K)
        joint = slate_chance(self.cdf_NL, self.pdf_NL, self.weights_N, self.halves_P, _rule()[2], at_K)
        return chances_K, joint
