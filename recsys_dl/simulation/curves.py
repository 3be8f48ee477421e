"""Regret over seeds: the mean with its band, how fast it grows, and a table. S seeds, P points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import t as student

from recsys_dl.data.messages import shorten

from .running import Simulated


@dataclass(frozen=True)
class Curve:
    """The regret of one policy in one kind of world, over seeds.

    Attributes:
        label: of the policy.
        rounds_P: int64.
        regret_SP: float64, cumulative.
        clicks_S: float64, clicks per round.
        best_S: float64, expected clicks per round of the best slates.
        seconds: in the policy, the median over seeds.
    """

    label: str
    rounds_P: np.ndarray
    regret_SP: np.ndarray
    clicks_S: np.ndarray
    best_S: np.ndarray
    seconds: float

    @classmethod
    def of(cls, label: str, runs: Sequence[Simulated]) -> Curve:
        """Collect the runs of several seeds.

        Raises:
            ValueError: no runs, or something else.
        """
        if not isinstance(runs, Sequence) or not runs or not all(isinstance(one, Simulated) for one in runs):
            raise ValueError(
                f"a curve is of a list of what simulate() returned, one or more, got {shorten(repr(runs))}"
            )
        rounds = int(runs[0].rounds_P[-1])
        return cls(
            label,
            runs[0].rounds_P,
            np.stack([one.regret_P for one in runs]),
            np.array([one.clicks_P[-1] / rounds for one in runs]),
            np.array([one.best for one in runs]),
            float(np.median([one.seconds for one in runs])),  # the first may compile,
        )

    @cached_property
    def mean_P(self) -> np.ndarray:
        """float64, over seeds."""
        return self.regret_SP.mean(axis=0)

    @cached_property
    def band_2P(self) -> np.ndarray:
        """float64, the ends of the 95% interval of the mean over seeds (Student's t); NaN of a single seed."""
        seeds = len(self.regret_SP)
        if seeds < 2:
            return np.full((2, len(self.rounds_P)), np.nan)
        half_P = student.ppf(0.975, seeds - 1) * self.regret_SP.std(axis=0, ddof=1) / np.sqrt(seeds)
        return np.stack([self.mean_P - half_P, self.mean_P + half_P])

    @property
    def late(self) -> float:
        """The regret of the last nine tenths of the rounds, the tenfold from R / 10 on: constant factors aside, what rates are about."""
        return gained(self.rounds_P, self.mean_P)

    @cached_property
    def exponent(self) -> float:
        """The slope of log regret on log rounds over the last tenth to the end: 1 is linear, 0.5 a square root, towards 0 a logarithm."""
        late_P = (self.rounds_P >= self.rounds_P[-1] / 10) & (self.mean_P > 0)
        if late_P.sum() < 2:
            return np.nan
        return float(np.polyfit(np.log(self.rounds_P[late_P]), np.log(self.mean_P[late_P]), 1)[0])


def gained(rounds_P: np.ndarray, values_P: np.ndarray) -> float:
    """Return by how much a curve rises from a tenth of the rounds to their end."""
    return float(values_P[-1] - np.interp(np.log(rounds_P[-1] / 10), np.log(rounds_P), values_P))


HEADER = (
    "policy",
    "regret",
    "95% over seeds",
    "of it late",
    "grows as",
    "clicks/round",
    "best possible",
    "ms/1,000 rounds",
)


def regret_table(curves: Sequence[Curve]) -> list[list[str]]:
    """Return rows under `HEADER`, the lowest final regret first.

    Raises:
        ValueError: something that is no curve.
    """
    if not isinstance(curves, Sequence) or not all(isinstance(one, Curve) for one in curves):
        raise ValueError(f"a table is of a list of curves, Curve.of(label, runs), got {shorten(repr(curves))}")
    rows = []
    for curve in sorted(curves, key=lambda one: float(one.mean_P[-1])):
        low, high = curve.band_2P[:, -1]
        rows.append(
            [
                curve.label,
                f"{curve.mean_P[-1]:,.1f}",
                "one seed" if np.isnan(low) else f"[{low:,.1f}, {high:,.1f}]",
                f"{curve.late:,.1f}",
                "-" if np.isnan(curve.exponent) else f"t^{curve.exponent:.2f}",
                f"{curve.clicks_S.mean():.4f}",
                f"{curve.best_S.mean():.4f}",
                f"{1e6 * curve.seconds / curve.rounds_P[-1]:,.0f}",
            ]
        )
    return rows
