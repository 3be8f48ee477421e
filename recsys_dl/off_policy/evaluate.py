"""What a policy would have earned on a log of another: one call from bandit feedback and a policy to a table with intervals.

R rounds, A arms.
"""

from __future__ import annotations

import logging as messages
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge

from recsys_dl.arguments import Seed, Share, checked
from recsys_dl.data.feedback import BanditFeedback, as_feedback
from recsys_dl.metrics import off_policy as estimators_of
from recsys_dl.metrics.intervals import Sample, check_resampling, clustered, intervals, paired_differences
from recsys_dl.metrics.off_policy import effective_sample_size, importance_weights, standard_error

from .columns import Columns, bernstein_of, sample_of, setting_of
from .cross_fitting import CrossFitted, cross_fit
from .report import Estimate, PolicyValue
from .reward_models import RewardModel, as_reward_model
from .support import Support, is_uniform, support_of
from .targets import Target

log = messages.getLogger(__name__)

ESTIMATORS: tuple[Any, ...] = ("replay", "ips", "clipped_ips", "snips", "dm", "dr", "switch_dr", "dros")
OF_A_MODEL = ("dm", "dr", "switch_dr", "dros")
FEW_EFFECTIVE, FEW_REWARDED, FEW_DRAWN = 100, 50, 100  # below these, figures are warned of

MODEL_LEFT_OUT = "the interval is over rounds for this reward model: it leaves out the error of the model, which is this estimator's bias"
BIASED = "biased by design: the interval is for the expectation of the estimator, and does not count the choice of its setting"
NO_BOUND = "no interval: there is no empirical Bernstein bound for this estimator"
ALL_ALIKE = 'no interval: all its rounds are alike, from which the bootstrap cannot tell how far others would be; the interval "bernstein" holds here too'


@checked
def evaluate_policy(
    feedback: BanditFeedback,
    policy: Any,
    *,
    estimators: Sequence[Literal["replay", "ips", "clipped_ips", "snips", "dm", "dr", "switch_dr", "dros"]]
    | None = None,
    reward_model: RewardModel | None = None,
    num_folds: Annotated[int, Ge(2)] = 5,
    logging: Any = None,
    reward_range: Sequence[float] = (0.0, 1.0),
    clip: float | Literal["slope"] = "slope",
    threshold: float | Literal["slope"] = "slope",
    shrinkage: float | Literal["slope"] = "slope",
    interval: Literal["bootstrap", "bernstein"] = "bootstrap",
    confidence: float = 0.95,
    num_resamples: int = 1000,
    allowed_missing: Share = 0.01,
    names: Sequence[str] | None = None,
    seed: Seed = 0,
) -> PolicyValue:
    """Estimate the mean reward a round that a policy would have earned in the rounds of a log.

    What must hold: see `recsys_dl.metrics.off_policy`. Log and policy have the same arms, in one order.

    Args:
        feedback: the log, with propensities and known rewards, one arm a row.
        policy: a `Policy` (its probabilities, given each context), or a table of probabilities: [A] of every round, [P, A] of each
            position, [R, A] of each round.
        estimators: None for all that apply; replay applies to uniformly random logs.
        reward_model: for dm, dr, switch_dr and dros; None for `Linear()`. A copy is fitted to each fold's complement.
        num_folds: of cross-fitting.
        logging: the logging policy itself, if known, like `policy`: then support is checked against its probabilities,
            else arms that were never logged are taken to have no support.
        reward_range: least and largest possible reward; also bounds predictions and the Bernstein interval.
        clip: of clipped_ips, or "slope" for the choice by SLOPE; likewise `threshold` of switch_dr and `shrinkage` of dros.
        threshold: largest weight that switch_dr uses.
        shrinkage: of dros.
        interval: "bootstrap" over rounds, or over users if the log has users (BCa), accurate for large samples; "bernstein" holds for any number of rounds, and is wide.
        confidence: of the intervals.
        num_resamples: of the bootstrap.
        allowed_missing: share of the policy's probability that may lie on arms which the log lacks; above, it is an error.
        names: of the arms, for messages.
        seed: of folds, bootstrap and replay's draws.

    Raises:
        ValueError: missing support (which arms, how often the policy wants them), rewards that are not known or outside
            their range, propensities that are missing or not those of `logging`, probabilities that are none.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import evaluate_policy
        >>> rng = np.random.default_rng(0)
        >>> arms = rng.integers(0, 2, (1000, 1))
        >>> clicks = 1.0 * (rng.random((1000, 1)) < 0.2 + 0.4 * arms)  # the second arm is worth 0.6
        >>> log = BanditFeedback(arms, clicks, np.full((1000, 1), 0.5), num_arms=2)
        >>> found = evaluate_policy(log, [0.0, 1.0], estimators=["snips", "dr"])
        >>> round(found["dr"].value, 1), found["dr"].low < 0.6 < found["dr"].high
        (0.6, True)
    """
    low, high = check_log(feedback, reward_range)
    check_resampling(confidence, num_resamples)
    if names is not None and len(names) != feedback.num_arms:
        raise ValueError(f"names must be one for each of the {feedback.num_arms:,} arms, got {len(names):,}")
    target = Target(policy, feedback)
    known = None if logging is None else Target(logging, feedback, what="logging policy")
    _check_logging(feedback, known)
    support = support_of(feedback, target, known)
    warnings = check_support(support, allowed_missing, names, high - low)
    uniform = is_uniform(feedback)
    wanted: list[Any] = list(dict.fromkeys(estimators or [one for one in ESTIMATORS if uniform or one != "replay"]))
    if "replay" in wanted and not uniform:
        raise ValueError(
            "replay needs the log of a uniformly random policy, and this log's propensities differ from 1 / arms"
        )
    weights_R = importance_weights(np.minimum(target.of_arms(), 1.0), feedback.propensities_RK[:, 0])  # type: ignore[index]
    model = None
    if set(wanted) & set(OF_A_MODEL):
        model = cross_fit(
            feedback, target, as_reward_model(reward_model), num_folds=num_folds, reward_range=(low, high), seed=seed
        )
    largest = float(weights_R.max()) if support.largest_weight is None else support.largest_weight
    matches_R = _matches(feedback, target, seed) if "replay" in wanted else None
    if matches_R is not None and not matches_R.any() and estimators is None:
        wanted.remove("replay")
        warnings.append(
            f"no replay: the policy, drawn once, showed the logged arm in none of the {len(feedback):,} rounds"
        )
    columns = Columns(
        feedback.rewards_RK[:, 0],
        weights_R,
        matches_R,
        model,
        largest,
    )
    given = {"clipped_ips": clip, "switch_dr": threshold, "dros": shrinkage}
    settings = {name: setting_of(name, columns, value) for name, value in given.items() if name in wanted}
    samples = [sample_of(name, columns, settings.get(name)) for name in wanted]
    how = {"confidence": confidence, "num_resamples": num_resamples, "seed": seed}
    logged = Sample(columns.rewards_R)
    if feedback.users_R is not None:  # rounds of a user depend on each other
        _, users_R = np.unique(feedback.users_R, return_inverse=True)
        logged, *samples = (clustered(one, users_R) for one in (logged, *samples))
        if interval == "bernstein":
            warnings.append("empirical Bernstein intervals take rounds as independent, also those of one user")
    differences = paired_differences(samples, logged, together=True, **how)  # type: ignore[arg-type]
    if interval == "bootstrap":
        ends = intervals([logged, *samples], together=True, **how)  # type: ignore[arg-type]
    else:
        bound = {name: bernstein_of(name, columns, settings.get(name), (low, high), confidence) for name in wanted}
        ends = np.array([estimators_of.bernstein(columns.rewards_R, low, high, confidence=confidence), *bound.values()])
        if support.largest_weight is None:
            warnings.append(
                "the empirical Bernstein intervals take the largest weight in the log for the largest possible one; give "
                "`logging`, the logging policy, for the largest possible one"
            )
    found = []
    for name, sample, difference, end in zip(wanted, samples, differences, ends[1:], strict=True):
        note = MODEL_LEFT_OUT if name == "dm" else BIASED if np.isfinite(settings.get(name, np.inf)) else ""
        paired = (difference.low, difference.high)
        if not standard_error(sample) > 0:
            paired = (np.nan, np.nan)
            end, note = (paired, ALL_ALIKE) if interval == "bootstrap" else (end, note)
        if np.isnan(end[0]) and interval == "bernstein":
            note = NO_BOUND
        found.append(
            Estimate(
                name, sample.value, float(end[0]), float(end[1]), difference.value, *paired, settings.get(name), note
            )
        )
    if not standard_error(logged) > 0 and interval == "bootstrap":
        ends[0] = np.nan
    warnings += doubts(columns.rewards_R, weights_R, feedback)
    for one in warnings:
        log.warning("%s", one)
    error = standard_error(Sample(weights_R))
    nan = float("nan")
    return PolicyValue(
        found,
        Estimate("logged", logged.value, float(ends[0][0]), float(ends[0][1]), nan, nan, nan),
        len(feedback),
        effective_sample_size(weights_R),
        float(weights_R.max()),
        float(weights_R.mean()),
        error,
        support.share,
        warnings,
        _conventions(feedback, interval, confidence, as_reward_model(reward_model), num_folds, model, settings, given),
    )


def check_log(feedback: BanditFeedback, reward_range: Sequence[float]) -> tuple[float, float]:
    """Return the range of rewards, after checking that a log can value policies.

    Raises:
        ValueError: it cannot.
    """
    if len(reward_range) != 2 or not reward_range[0] < reward_range[1]:
        raise ValueError(f"reward_range must be the least and the largest possible reward, got {list(reward_range)}")
    if not len(as_feedback(feedback)):
        raise ValueError("a policy is valued on at least one round, got none")
    if feedback.arms_RK.shape[1] != 1:
        raise ValueError(
            f"this log has slates of {feedback.arms_RK.shape[1]} positions a row; use recsys_dl.off_policy.evaluate_slates"
        )
    if (feedback.arms_RK < 0).any():
        raise ValueError(f"{int((feedback.arms_RK < 0).sum()):,} rounds showed nothing (arm -1); leave them out")
    if feedback.propensities_RK is None:
        raise ValueError(
            "the log has no propensities, without which no estimator is unbiased; log them with each decision"
        )
    rewards, (low, high) = feedback.rewards_RK[:, 0], (float(reward_range[0]), float(reward_range[1]))
    known_rewards(rewards)
    wrong = (rewards < low) | (rewards > high)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"rewards must be within reward_range, {low:g} to {high:g}, got {rewards[row]:g} in round {row} ({int(wrong.sum()):,} of "
            f"{len(rewards):,} are outside); set reward_range to the least and largest possible reward"
        )
    return low, high


def known_rewards(rewards: np.ndarray) -> None:
    """Raise ValueError if a reward is not known."""
    unknown = int(np.isnan(rewards).sum())
    if unknown:
        raise ValueError(
            f"the rewards of {unknown:,} of {len(rewards):,} rounds are not known (yet). Wait for them, or leave out every round "
            "since a time, known or not; leaving out only those without a reward would bias the estimate"
        )


def _check_logging(feedback: BanditFeedback, logging: Target | None) -> None:
    if logging is None:
        return
    assert feedback.propensities_RK is not None
    logged, theirs = feedback.propensities_RK[:, 0], logging.of_arms()
    tolerance = 1e-4 if not feedback.draws else 5 * np.sqrt(1 / np.maximum(theirs * feedback.draws, 1e-12))
    far = np.abs(logged - theirs) > tolerance * np.maximum(theirs, 1e-12)
    if far.any():
        row = int(far.argmax())
        raise ValueError(
            f"the logged propensities must be those of the logging policy, but round {row} has {logged[row]:.6g} where it has "
            f"{theirs[row]:.6g} ({int(far.sum()):,} of {len(far):,} rounds differ); leave `logging` out or correct it"
        )


def check_support(support: Support, allowed: float, names: Sequence[str] | None, width: float) -> list[str]:
    """Return a warning of missing support, if there is any.

    Raises:
        ValueError: more is missing than allowed.
    """
    if not support.share:
        return []
    what = "has no chance to log" if support.known else "never logged"
    text = (
        f"missing support: {support.share:.2%} of the policy's choices are arms that the logging policy {what}: "
        f"{support.describe(names)}. What they would earn is not in the log: the error can be as large as {support.share * width:.3g}"
    )
    if support.share > allowed:
        raise ValueError(
            f"{text}. Value a policy of logged arms, log these arms, or accept it with allowed_missing={_ceil(support.share)}"
        )
    return [text]


def _ceil(share: float) -> float:
    return min(1.0, float(np.ceil(share * 1000) / 1000))


def _matches(feedback: BanditFeedback, target: Target, seed: int) -> np.ndarray:
    """Draw the policy once a round; whether it shows the logged arm."""
    chances_R = target.of_arms()
    return np.random.default_rng([seed, 1]).random(len(feedback)) < chances_R


def doubts(rewards_R: np.ndarray, weights_R: np.ndarray, feedback: BanditFeedback) -> list[str]:
    """Return what makes estimates by these weights doubtful."""
    found = []
    effective, size = effective_sample_size(weights_R), len(weights_R)
    if effective < FEW_EFFECTIVE:
        found.append(
            f"the effective sample size is {effective:.0f} of {size:,} rounds: estimates by weights rest on few rounds, and their "
            "intervals may be too narrow"
        )
    error = standard_error(Sample(weights_R))
    if abs(weights_R.mean() - 1) > 4 * error:
        found.append(
            f"weights average to {weights_R.mean():.3f} +- {error:.3f}, not to 1: the propensities are not those of the logged "
            "decisions, or the policy shows arms that the logging policy cannot"
        )
    rewarded = effective_sample_size(weights_R * (rewards_R - rewards_R.min()))
    if rewarded < FEW_REWARDED:
        found.append(
            f"estimates by weights rest on {rewarded:.0f} rounds with a reward (effective number): intervals are approximate"
        )
    if feedback.draws:
        assert feedback.propensities_RK is not None
        used = weights_R > 0
        fewest = float((feedback.propensities_RK[used, 0] * feedback.draws).min()) if used.any() else np.inf
        if fewest < FEW_DRAWN:
            found.append(
                f"propensities are estimated from {feedback.draws:,} draws, the smallest from about {fewest:.0f}: 1 / propensity is then too "
                f"large by about {1 / max(fewest, 1):.0%} on average; draw more, or clip"
            )
    return found


def _conventions(
    feedback: BanditFeedback,
    interval: str,
    confidence: float,
    reward_model: RewardModel,
    num_folds: int,
    model: CrossFitted | None,
    settings: dict[str, float],
    given: dict[str, float | Literal["slope"]],
) -> list[str]:
    how = (
        f"bias-corrected bootstrap over {'rounds' if feedback.users_R is None else 'users'}"
        if interval == "bootstrap"
        else "empirical Bernstein, for any number of rounds"
    )
    parts = [f"brackets: {confidence:.0%} confidence, {how}; differences: paired bootstrap"]
    if model is not None:
        parts.append(f"reward model: {type(reward_model).__name__}, cross-fitted in {num_folds} folds")
    chosen = [name for name in settings if given[name] == "slope"]
    if chosen:
        parts.append(f"setting of {', '.join(chosen)}: chosen by SLOPE on the same rounds")
    return [" | ".join(parts)]
