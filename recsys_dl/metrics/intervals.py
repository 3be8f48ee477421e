"""Confidence intervals and tests: bootstrap over users, paired between models, with correction for multiple tests.

The resampling unit is the user, since users are independent and one user's items are not. U users, M figures, R resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr, ndtri

CHUNK_BYTES = 64 << 20  # resample counts held at a time


@dataclass(frozen=True)
class Sample:
    """One figure over users: (sum of weight * value^power / sum of weights)^(1 / power).

    Attributes:
        values_U: float64; NaN where a user does not count.
        weights_U: float64, not negative; None weights all users equally.
        power: 1 for a mean, 2 for a root mean square.
        repeats_U: int64, how many equal users each entry stands for; None: one. Samples compared have the same.
    """

    values_U: np.ndarray
    weights_U: np.ndarray | None = None
    power: int = 1
    repeats_U: np.ndarray | None = None

    @cached_property
    def columns_U2(self) -> np.ndarray:
        """float64 [U, 2]: weighted value and weight of each user; the figure is a function of their sums."""
        counts = ~np.isnan(self.values_U)
        weights_U = counts * (1.0 if self.weights_U is None else self.weights_U)
        return np.stack([weights_U * np.where(counts, self.values_U, 0.0) ** self.power, weights_U], axis=1)

    def figure(self, sums: np.ndarray) -> np.ndarray:
        """Return the figure from sums [..., 2] of the columns; 0 if no user counts."""
        mean = np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0)
        return mean if self.power == 1 else mean ** (1 / self.power)

    @cached_property
    def value(self) -> float:
        """The figure over all users."""
        return float(self.figure(self.total(self.columns_U2)))

    def total(self, terms: np.ndarray) -> np.ndarray:
        """Return the sum over users of terms [U, ...], each as often as it stands for a user."""
        return np.asarray(terms.sum(axis=0) if self.repeats_U is None else self.repeats_U @ terms)


def clustered(sample: Sample, groups_U: np.ndarray) -> Sample:
    """Return the same mean over groups, in [0, G), whose members depend on each other: resampling then draws whole groups.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.intervals import Sample, clustered
        >>> clustered(Sample(np.array([1.0, 0.0, 1.0])), np.array([0, 0, 1])).values_U
        array([0.5, 1. ])
    """
    if sample.power != 1 or sample.repeats_U is not None:
        raise ValueError("only means over users that are not counted together have groups")
    sums_G, weights_G = (np.bincount(groups_U, column) for column in sample.columns_U2.T)
    values_G = np.divide(sums_G, weights_G, out=np.full(len(sums_G), np.nan), where=weights_G > 0)
    return Sample(values_G, weights_G)


def resampled(samples: Sequence[Sample], num_resamples: int, seed: int, *, together: bool = False) -> np.ndarray:
    """Return float64 [R, M]: each figure over R draws of U users with replacement, the same draws for every figure.

    Memory is bounded for any R and U; the same seed and U give the same draws. `together`: users who are equal in every sample
    are drawn by one multinomial count, which has the same distribution and is faster where few differ.
    """
    columns = np.concatenate([sample.columns_U2 for sample in samples], axis=1)
    size, repeats = len(columns), samples[0].repeats_U
    sums = np.empty((num_resamples, columns.shape[1]))
    rng = np.random.default_rng(seed)
    chunk = max(1, min(num_resamples, CHUNK_BYTES // (8 * size)))
    if repeats is None and together:
        distinct, counts = _distinct(columns)
        if len(distinct) * 4 < size:  # a multinomial count costs as much as several draws
            columns, repeats = distinct, counts
    if repeats is not None:
        users = int(repeats.sum())
        for start in range(0, num_resamples, chunk):
            drawn = rng.multinomial(users, repeats / users, min(chunk, num_resamples - start))
            sums[start : start + len(drawn)] = drawn @ columns
        return _figures(samples, sums)
    draws = np.empty((chunk, size))
    for start in range(0, num_resamples, chunk):
        rows = min(chunk, num_resamples - start)
        for row in range(rows):
            draws[row] = np.bincount(rng.integers(0, size, size, dtype=np.int32), minlength=size)
        sums[start : start + rows] = draws[:rows] @ columns
    return _figures(samples, sums)


def _figures(samples: Sequence[Sample], sums: np.ndarray) -> np.ndarray:
    return np.stack([sample.figure(sums[:, 2 * m : 2 * m + 2]) for m, sample in enumerate(samples)], axis=1)


def _distinct(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows that differ, and how often each occurs; equal ones may be among them."""
    keys = columns @ np.random.default_rng(0).random(columns.shape[1])
    _, first, place, repeats = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    if (columns == columns[first][place]).all():
        return columns[first], repeats
    return np.unique(columns, axis=0, return_counts=True)  # different rows of one key: all but impossible


def intervals(
    samples: Sequence[Sample],
    *,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
    together: bool = False,
) -> np.ndarray:
    """Return float64 [M, 2]: lower and upper ends of each figure's confidence interval.

    Bias-corrected and accelerated bootstrap (Efron 1987, "Better Bootstrap Confidence Intervals"), the acceleration from the
    figures' influence values. A figure that is the same for every user, or based on a single user, has both ends at its value.

    Raises:
        ValueError: a confidence outside (0, 1), or fewer than 100 resamples.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.intervals import Sample, intervals
        >>> intervals([Sample(np.ones(5))])
        array([[1., 1.]])
    """
    check_resampling(confidence, num_resamples)
    figures_RM = resampled(samples, num_resamples, seed, together=together)
    return np.array([_bca(sample, figures_RM[:, m], confidence) for m, sample in enumerate(samples)]).reshape(-1, 2)


def _bca(sample: Sample, figures_R: np.ndarray, confidence: float) -> tuple[float, float]:
    weighted_U, weights_U = sample.columns_U2.T
    total = sample.total(weights_U)
    influence_U = weighted_U - weights_U * (sample.total(weighted_U) / total if total else 0.0)
    spread = float(sample.total(influence_U**2))
    if spread <= 1e-24 * float(sample.total(weighted_U**2)):  # only rounding
        return sample.value, sample.value
    acceleration = sample.total(influence_U**3) / (6 * spread**1.5)
    below = (figures_R < sample.value).mean() + 0.5 * (figures_R == sample.value).mean()
    edge = 0.5 / len(figures_R)
    bias = ndtri(np.clip(below, edge, 1 - edge))
    normal = bias + ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    low, high = np.quantile(figures_R, ndtr(bias + normal / (1 - acceleration * normal)))
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """The difference between two models' figures over the same users.

    Attributes:
        value: first minus second.
        low: lower end of the confidence interval.
        high: upper end.
        p_value: two-sided probability of a difference at least as large under the null hypothesis.
    """

    value: float
    low: float
    high: float
    p_value: float


def paired_differences(
    samples: Sequence[Sample],
    baseline: Sample,
    *,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
    together: bool = False,
) -> list[Difference]:
    """Return each sample's figure minus the baseline's, with a percentile interval and a two-sided p-value.

    All samples share the same draws, so that a user counts in both or in neither. The p-value is from the shifted bootstrap test
    (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 16): the share of resampled differences at
    least as far from the observed one as that is from 0, including the observed one.

    Raises:
        ValueError: samples over different numbers of users, a confidence outside (0, 1), fewer than 100 resamples.
    """
    check_resampling(confidence, num_resamples)
    sizes = {len(sample.values_U) for sample in (*samples, baseline)}
    if len(sizes) > 1:
        raise ValueError(f"a paired test needs the same users on both sides, got samples of {sorted(sizes)} users")
    figures_RM = resampled([*samples, baseline], num_resamples, seed, together=together)
    differences = []
    for m, sample in enumerate(samples):
        value = sample.value - baseline.value
        drawn_R = figures_RM[:, m] - figures_RM[:, -1]
        low, high = np.quantile(drawn_R, [(1 - confidence) / 2, (1 + confidence) / 2])
        as_far = np.abs(drawn_R - value) >= abs(value) - 1e-12  # rounding must not make equal models differ
        p_value = (1 + as_far.sum()) / (1 + num_resamples)
        differences.append(Difference(value, float(low), float(high), float(p_value)))
    return differences


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple testing, in order.

    Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure": rejecting those below a level keeps the probability
    of any false rejection below it.

    Examples:
        >>> from recsys_dl.metrics.intervals import holm
        >>> holm([0.25, 0.125, 0.5])
        [0.5, 0.375, 0.5]
    """
    given = np.asarray(p_values, np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    corrected = np.empty(len(given))
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected.tolist()


def check_resampling(confidence: float, num_resamples: int) -> None:
    """Raise ValueError for a confidence outside (0, 1) or too few resamples to have tails."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, such as 0.95, got {confidence}")
    if num_resamples < 100:
        raise ValueError(f"num_resamples must be at least 100, got {num_resamples}")
