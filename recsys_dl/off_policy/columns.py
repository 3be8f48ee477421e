"""What estimators need of each round, and each estimator by its name. R rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recsys_dl.metrics import off_policy as estimators_of
from recsys_dl.metrics.intervals import Sample
from recsys_dl.metrics.off_policy import slope

from .cross_fitting import CrossFitted

CANDIDATES = 12  # clips, thresholds or shrinkages among which SLOPE chooses


@dataclass(frozen=True)
class Columns:
    """What the estimators need of each round.

    Attributes:
        rewards_R: known.
        weights_R: probability under the policy over propensity.
        matches_R: whether the policy, drawn once, shows the logged arm; None if the log is not uniform.
        model: predictions; None if no estimator needs them.
        largest: largest possible weight, as far as known.
        repeats_R: how many equal rounds each entry stands for; None: one.
    """

    rewards_R: np.ndarray
    weights_R: np.ndarray
    matches_R: np.ndarray | None
    model: CrossFitted | None
    largest: float
    repeats_R: np.ndarray | None = None


def sample_of(name: str, columns: Columns, setting: float | None) -> Sample:
    """Return the sample of an estimator."""
    return replace(_estimated(name, columns, setting), repeats_U=columns.repeats_R)


def _estimated(name: str, columns: Columns, setting: float | None) -> Sample:
    rewards_R, weights_R, model = columns.rewards_R, columns.weights_R, columns.model
    if name == "replay":
        return estimators_of.replay(rewards_R, columns.matches_R)
    if name == "ips":
        return estimators_of.ips(rewards_R, weights_R)
    if name == "snips":
        return estimators_of.snips(rewards_R, weights_R)
    if name == "clipped_ips":
        return estimators_of.clipped_ips(rewards_R, weights_R, clip=float(setting or 0))
    assert model is not None
    predicted_R, expected_R = model.predicted_R, model.expected_R
    if name == "dm":
        return estimators_of.direct_method(expected_R)
    if name == "dr":
        return estimators_of.doubly_robust(rewards_R, weights_R, predicted_R, expected_R)
    if name == "switch_dr":
        return estimators_of.switch_dr(rewards_R, weights_R, predicted_R, expected_R, threshold=float(setting or 0))
    return estimators_of.shrunk_dr(rewards_R, weights_R, predicted_R, expected_R, shrinkage=float(setting or 0))


def setting_of(name: str, columns: Columns, given: float | str) -> float:
    """Return the clip, threshold or shrinkage of an estimator: the given one, or the one that SLOPE chooses among `CANDIDATES`."""
    if given != "slope":
        return float(given)
    most = float(columns.weights_R.max())
    if most <= 1:
        return float("inf")
    limits = [float("inf"), *np.geomspace(most, 1.0, CANDIDATES)[1:].tolist()]
    candidates = [limit**2 for limit in limits] if name == "dros" else limits
    return candidates[slope([sample_of(name, columns, one) for one in candidates])]


def bernstein_of(
    name: str, columns: Columns, setting: float | None, reward_range: tuple[float, float], confidence: float
) -> tuple[float, float]:
    """Return an empirical Bernstein interval: of a mean of bounded terms; averaged over folds, each at its share of the confidence."""
    if name in ("snips", "dm"):
        return float("nan"), float("nan")
    low, high = reward_range
    sample, largest = sample_of(name, columns, setting), columns.largest
    if name == "replay":
        return estimators_of.bernstein(sample.values_U, low, high, confidence=confidence)
    if name in ("ips", "clipped_ips"):
        most = largest if name == "ips" else min(largest, float(setting or np.inf))
        return estimators_of.bernstein(
            sample.values_U, min(0.0, most * low), max(0.0, most * high), confidence=confidence
        )
    assert columns.model is not None
    most = largest
    if name == "switch_dr":
        most = min(largest, float(setting or np.inf))
    if name == "dros" and setting is not None and np.isfinite(setting):
        most = min(largest, np.sqrt(setting) / 2)
    folds_R = columns.model.folds_R
    sizes = np.bincount(folds_R)
    each = 1 - (1 - confidence) / len(sizes)
    ends = np.array(
        [
            estimators_of.bernstein(
                sample.values_U[folds_R == fold], low - most * (high - low), high + most * (high - low), confidence=each
            )
            for fold in range(len(sizes))
        ]
    )
    lower, upper = sizes @ ends / sizes.sum()
    return max(float(lower), low), min(float(upper), high)
