"""Off-policy estimators: what a policy would have earned, from the log of another.

Assumptions, for all of them: rounds are independent; the logged propensity is the probability with which the logged arm was
chosen, given what its policy knew; the logging policy could choose every arm that the policy to be valued would choose (support); a
reward depends on the round and the arm shown, not on other rounds. A weight is the probability of the logged arm under the policy to
be valued over its propensity. Each estimator returns a `Sample`: `.value` is the estimate, `intervals` gives its interval.

R rounds, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from .intervals import Sample


def importance_weights(policy_R: Any, propensities_R: Any) -> np.ndarray:
    """Return float64 [R]: the probability of each logged arm under the policy to be valued, over its propensity.

    Args:
        policy_R: probability of the logged arm under the policy to be valued, in [0, 1].
        propensities_R: with which the logging policy chose it, in (0, 1].

    Raises:
        ValueError: unequal lengths, propensities of zero, above one or not finite, probabilities outside [0, 1].

    Examples:
        >>> from recsys_dl.metrics.off_policy import importance_weights
        >>> importance_weights([1.0, 0.0, 0.5], [0.5, 0.25, 0.25])
        array([2., 0., 2.])
    """
    policy_R, propensities_R = _columns(policy=policy_R, propensities=propensities_R)
    _check(propensities_R, (propensities_R > 0) & (propensities_R <= 1), "propensities must be above 0 and at most 1")
    _check(policy_R, (policy_R >= 0) & (policy_R <= 1), "probabilities of the policy must be in [0, 1]")
    return policy_R / propensities_R


def replay(rewards_R: Any, matches_R: Any) -> Sample:
    """Return the mean reward of the rounds whose logged arm is the one that the policy draws (Li et al. 2011).

    Li, Chu, Langford and Wang 2011, "Unbiased Offline Evaluation of Contextual-bandit-based News Article Recommendation
    Algorithms". Unbiased given at least one match, if the log is that of a uniformly random policy.

    Args:
        rewards_R: finite.
        matches_R: bool, whether the policy draws the logged arm.

    Raises:
        ValueError: matches that are not true or false, or none that is true.

    Examples:
        >>> from recsys_dl.metrics.off_policy import replay
        >>> replay([1.0, 0.0, 1.0], [True, True, False]).value
        0.5
    """
    rewards_R, matches_R = _columns(rewards=rewards_R, matches=matches_R)
    _check(matches_R, (matches_R == 0) | (matches_R == 1), "matches must be true or false")
    if not matches_R.any():
        raise ValueError(
            f"replay needs a round whose logged arm is the one that the policy draws, got none among {len(matches_R):,} rounds"
        )
    return Sample(np.where(matches_R > 0, rewards_R, np.nan))


def ips(rewards_R: Any, weights_R: Any) -> Sample:
    """Return inverse propensity scoring, the mean of weight x reward: unbiased, with the variance of the weights.

    Horvitz and Thompson 1952, "A Generalization of Sampling Without Replacement From a Finite Universe".

    Examples:
        >>> from recsys_dl.metrics.off_policy import ips
        >>> ips([1.0, 0.0, 1.0], [2.0, 1.0, 0.5]).value
        0.8333333333333334
    """
    rewards_R, weights_R = _weighted(rewards_R, weights_R)
    return Sample(weights_R * rewards_R)


def clipped_ips(rewards_R: Any, weights_R: Any, *, clip: float) -> Sample:
    """Return the mean of min(weight, clip) x reward: less variance, too low by at most the clipped weight times the reward.

    Ionides 2008, "Truncated Importance Sampling". The bias is E[(weight - clip)+ x reward], at most 0 for rewards >= 0.

    Args:
        rewards_R: finite.
        weights_R: at least 0.
        clip: largest weight, above 0; inf gives `ips`.

    Examples:
        >>> from recsys_dl.metrics.off_policy import clipped_ips
        >>> clipped_ips([1.0, 0.0, 1.0], [2.0, 1.0, 0.5], clip=1.0).value
        0.5
    """
    rewards_R, weights_R = _weighted(rewards_R, weights_R)
    return Sample(np.minimum(weights_R, _limit("clip", clip)) * rewards_R)


def snips(rewards_R: Any, weights_R: Any) -> Sample:
    """Return the mean of the rewards, weighted: consistent, with a bias of order 1 / R, and never outside the range of the rewards.

    Swaminathan and Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning".

    Raises:
        ValueError: as in `ips`, or weights that are all zero.

    Examples:
        >>> from recsys_dl.metrics.off_policy import snips
        >>> snips([1.0, 0.0, 1.0], [2.0, 1.0, 1.0]).value
        0.75
    """
    rewards_R, weights_R = _weighted(rewards_R, weights_R)
    if not weights_R.any():
        raise ValueError(
            f"snips needs a round with a weight above 0, got none among {len(weights_R):,} rounds: the policy shows none of the logged arms"
        )
    return Sample(rewards_R, weights_R)


def direct_method(expected_R: Any) -> Sample:
    """Return the mean over rounds of what a reward model expects under the policy.

    As biased as the model is. An interval over rounds leaves out the error of the model.

    Args:
        expected_R: sum over arms of the policy's probability x the predicted reward.

    Examples:
        >>> from recsys_dl.metrics.off_policy import direct_method
        >>> direct_method([0.5, 1.0]).value
        0.75
    """
    (expected_R,) = _columns(expected=expected_R)
    return Sample(expected_R)


def doubly_robust(rewards_R: Any, weights_R: Any, predicted_R: Any, expected_R: Any) -> Sample:
    """Return the mean of expected + weight x (reward - predicted): unbiased for any reward model not fitted to the same round.

    Dudik, Langford and Li 2011, "Doubly Robust Policy Evaluation and Learning". With exact propensities it is unbiased, however
    bad the model; a good model takes variance away. The model must come from other rounds (cross-fitting, Chernozhukov et
    al. 2018, "Double/Debiased Machine Learning for Treatment and Structural Parameters").

    Args:
        rewards_R: finite.
        weights_R: at least 0.
        predicted_R: reward that the model predicts for the logged arm.
        expected_R: sum over arms of the policy's probability x the predicted reward.

    Examples:
        >>> from recsys_dl.metrics.off_policy import doubly_robust
        >>> doubly_robust([1.0, 0.0], [2.0, 1.0], [0.5, 0.5], [0.5, 0.5]).value
        0.75
    """
    return switch_dr(rewards_R, weights_R, predicted_R, expected_R, threshold=np.inf)


def switch_dr(rewards_R: Any, weights_R: Any, predicted_R: Any, expected_R: Any, *, threshold: float) -> Sample:
    """Return doubly robust where the weight is at most the threshold, the reward model elsewhere.

    Wang, Agarwal and Dudik 2017, "Optimal and Adaptive Off-policy Evaluation in Contextual Bandits", section 4. The bias is that of
    the model at arms of larger weight.

    Examples:
        >>> from recsys_dl.metrics.off_policy import switch_dr
        >>> switch_dr([1.0, 0.0], [2.0, 1.0], [0.5, 0.5], [0.5, 0.5], threshold=1.5).value
        0.25
    """
    rewards_R, weights_R = _weighted(rewards_R, weights_R)
    predicted_R, expected_R, _ = _columns(predicted=predicted_R, expected=expected_R, rewards=rewards_R)
    kept_R = np.where(weights_R <= _limit("threshold", threshold), weights_R, 0.0)
    return Sample(expected_R + kept_R * (rewards_R - predicted_R))


def shrunk_dr(rewards_R: Any, weights_R: Any, predicted_R: Any, expected_R: Any, *, shrinkage: float) -> Sample:
    """Return doubly robust with weights shrunk to shrinkage x weight / (weight^2 + shrinkage).

    Su, Dimakopoulou, Krishnamurthy and Dudik 2020, "Doubly Robust Off-Policy Evaluation with Shrinkage" (optimistic: DRos).
    0 gives the direct method, inf doubly robust.

    Args:
        rewards_R: finite.
        weights_R: at least 0.
        predicted_R: as in `doubly_robust`.
        expected_R: likewise.
        shrinkage: at least 0.

    Examples:
        >>> from recsys_dl.metrics.off_policy import shrunk_dr
        >>> shrunk_dr([1.0, 0.0], [2.0, 1.0], [0.5, 0.5], [0.5, 0.5], shrinkage=4.0).value
        0.55
    """
    if not shrinkage >= 0:
        raise ValueError(f"shrinkage must be at least 0, got {shrinkage}")
    rewards_R, weights_R = _weighted(rewards_R, weights_R)
    predicted_R, expected_R, _ = _columns(predicted=predicted_R, expected=expected_R, rewards=rewards_R)
    if not np.isinf(shrinkage):
        divisor_R = weights_R**2 + shrinkage
        weights_R = np.divide(shrinkage * weights_R, divisor_R, out=np.zeros(len(weights_R)), where=divisor_R > 0)
    return Sample(expected_R + weights_R * (rewards_R - predicted_R))


def effective_sample_size(weights_R: Any) -> float:
    """Return (sum of weights)^2 / sum of squared weights: rounds of equal weight with the same variance (Kish 1965).

    Examples:
        >>> from recsys_dl.metrics.off_policy import effective_sample_size
        >>> effective_sample_size([1.0, 1.0, 0.0, 0.0])
        2.0
    """
    (weights_R,) = _columns(weights=weights_R)
    _check(weights_R, weights_R >= 0, "weights must be at least 0")
    squares = float((weights_R**2).sum())
    return float(weights_R.sum()) ** 2 / squares if squares else 0.0


def standard_error(sample: Sample) -> float:
    """Return the standard error of a weighted mean, by its influence values (the delta method).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.intervals import Sample
        >>> from recsys_dl.metrics.off_policy import standard_error
        >>> standard_error(Sample(np.array([0.0, 1.0, 0.0, 1.0])))  # 0.577 / sqrt(4)
        0.28867513459481287
    """
    counts = int(sample.total(sample.columns_U2[:, 1] != 0))
    if counts < 2:
        return float("nan")
    return float(np.sqrt(sample.total(_influence(sample) ** 2) * counts / (counts - 1)))


def _influence(sample: Sample) -> np.ndarray:
    """Return float64 [R]: how much each round moves the figure; their sum of squares is its variance."""
    weighted_R, weights_R = sample.columns_U2.T
    total = float(sample.total(weights_R))
    return (weighted_R - weights_R * sample.value) / total if total else np.zeros(len(weights_R))


def slope(samples: Sequence[Sample], *, confidence: float = 0.95, paired: bool = True) -> int:
    """Return which candidate balances bias and variance best: the place of the last before bias shows.

    Su, Srinath and Krishnamurthy 2020, "Adaptive Estimator Selection for Off-Policy Evaluation" (SLOPE): with half widths h that hold
    each candidate's deviation from its own mean, the last candidate for which all [estimate - 2 h, estimate + 2 h] up to it
    have a common point. Its error is then at most 6 times the least of |bias| + h, if bias does not decrease and h does not
    increase along the candidates. Half widths here are normal: z x standard error. Candidates computed from the same rounds move together,
    so that these widths overlook much bias; `paired` compares instead each difference of two candidates with its own half width
    (Lepski's method), and returns the last before one differs by more. Then its difference from the first candidate, if that is
    unbiased, is within the half width of this difference.

    Args:
        samples: candidates, from the least biased (such as `ips`) to the most biased (such as the smallest clip), over the same rounds.
        confidence: of the half widths.
        paired: whether to compare by the widths of differences; false is SLOPE as published.

    Raises:
        ValueError: no candidate, or a confidence outside (0, 1).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.off_policy import clipped_ips, slope
        >>> rewards, weights = np.tile([1.0, 0.0], 500), np.ones(1000)
        >>> clips = [4.0, 1.0, 0.5]  # the last halves every weight: far too biased
        >>> slope([clipped_ips(rewards, weights, clip=clip) for clip in clips])
        1
    """
    if not samples:
        raise ValueError("slope needs at least one candidate, got none")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, such as 0.95, got {confidence}")
    values_C = np.array([sample.value for sample in samples])
    influence_CR = np.stack([_influence(sample) for sample in samples])
    repeats_R = np.ones(influence_CR.shape[1]) if samples[0].repeats_U is None else samples[0].repeats_U
    rounds = float(repeats_R.sum())
    covariance_CC = (influence_CR * repeats_R) @ influence_CR.T * (rounds / max(rounds - 1, 1))
    variance_C, z = np.diag(covariance_CC), float(ndtri((1 + confidence) / 2))
    if paired:
        spread_CC = np.sqrt(np.maximum(variance_C[:, None] + variance_C - 2 * covariance_CC, 0.0))
        slack = 1e-9 * np.abs(values_C).max()  # rounding
        apart_CC = np.abs(values_C[:, None] - values_C) > z * spread_CC + slack
        apart_C = np.tril(apart_CC, -1).any(axis=1)
    else:
        half_C = 2 * z * np.sqrt(variance_C)
        low_C, high_C = np.maximum.accumulate(values_C - half_C), np.minimum.accumulate(values_C + half_C)
        apart_C = low_C > high_C
    return int(apart_C.argmax()) - 1 if apart_C.any() else len(samples) - 1


def bernstein(values_R: Any, low: float, high: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return an interval that holds the mean of bounded independent values with at least the confidence, for any number of them.

    Maurer and Pontil 2009, "Empirical Bernstein Bounds and Sample Variance Penalization", theorem 4, both sides: half width
    sqrt(2 V ln(4 / d) / n) + 7 (high - low) ln(4 / d) / (3 (n - 1)), d = 1 - confidence.

    Args:
        values_R: NaN is left out.
        low: least possible value, known beforehand.
        high: largest possible value.
        confidence: in (0, 1).

    Returns:
        Lower and upper end, within [low, high].

    Raises:
        ValueError: a value outside of [low, high], or a confidence outside (0, 1).

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.off_policy import bernstein
        >>> [round(end, 3) for end in bernstein(np.tile([0.0, 1.0], 500), 0, 1)]
        [0.443, 0.557]
    """
    (values_R,) = _columns(values=values_R, finite=False)
    values_R = values_R[~np.isnan(values_R)]
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, such as 0.95, got {confidence}")
    slack = 1e-9 * max(abs(low), abs(high))
    _check(values_R, (values_R >= low - slack) & (values_R <= high + slack), f"values must be in [{low:g}, {high:g}]")
    if len(values_R) < 2:
        return float(low), float(high)
    level = np.log(4 / (1 - confidence))
    half = np.sqrt(2 * values_R.var(ddof=1) * level / len(values_R))
    half += 7 * (high - low) * level / (3 * (len(values_R) - 1))
    mean = values_R.mean()
    return float(max(mean - half, low)), float(min(mean + half, high))


def _weighted(rewards_R: Any, weights_R: Any) -> list[np.ndarray]:
    rewards_R, weights_R = _columns(rewards=rewards_R, weights=weights_R)
    _check(weights_R, weights_R >= 0, "weights must be at least 0")
    return [rewards_R, weights_R]


def _columns(*, finite: bool = True, **columns: Any) -> list[np.ndarray]:
    """Return columns of one length as float64."""
    arrays = {name: np.asarray(values, np.float64) for name, values in columns.items()}
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1 or next(iter(arrays.values())).ndim != 1:
        found = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"there must be one number a round in each column, got {found}")
    if not len(next(iter(arrays.values()))):
        raise ValueError("an estimate needs at least one round, got none")
    if finite:
        for name, array in arrays.items():
            _check(array, np.isfinite(array), f"{name} must be finite")
    return list(arrays.values())


def _check(values_R: np.ndarray, good_R: np.ndarray, what: str) -> None:
    if not good_R.all():
        row = int((~good_R).argmax())
        raise ValueError(f"{what}, got {values_R[row]} in round {row} ({int((~good_R).sum()):,} of {len(good_R):,})")


def _limit(name: str, value: float) -> float:
    if isinstance(value, str) or not value > 0:
        raise ValueError(f"{name} must be a number above 0 (inf: none), got {value!r}")
    return value
