"""What a policy would have earned with slates, from a log of slates. R rounds, K positions, A arms, P = K A pairs."""

from __future__ import annotations

import logging as messages
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_dl.arguments import Seed, Share, checked
from recsys_dl.data.feedback import BanditFeedback, as_feedback
from recsys_dl.metrics.intervals import Sample, check_resampling, intervals, paired_differences
from recsys_dl.metrics.off_policy import effective_sample_size, importance_weights, ips, snips, standard_error
from recsys_dl.metrics.off_policy_slates import position_ips, pseudoinverse_weights
from recsys_dl.protocols import Policy

from .evaluate import check_support, doubts, known_rewards
from .report import Estimate, PolicyValue
from .support import support_of
from .tables import position_table
from .targets import Target, as_table

log = messages.getLogger(__name__)

BY_POSITION = "unbiased if the reward at a position depends on the arm there alone"
LINEAR = "unbiased if a slate's expected reward is a sum of terms of its positions"


@checked
def evaluate_slates(
    feedback: BanditFeedback,
    policy: Any,
    *,
    pairs_PP: Any = None,
    joint_R: Any = None,
    draws: int = 100_000,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    allowed_missing: Share = 0.01,
    names: Sequence[str] | None = None,
    seed: Seed = 0,
) -> PolicyValue:
    """Estimate the mean reward of a slate, the sum over its positions, that a policy would have earned in the rounds of a log.

    position_ips weighs each position's reward by its own propensity; pseudoinverse weighs the slate's reward by the pairs of its positions;
    slate_ips and slate_snips by the joint propensity, under no assumption about slates, with the largest weights.

    Args:
        feedback: slates with propensities of each position, and known rewards.
        policy: probability of each arm at each position, [K, A]; or a `Policy` that looks at no contexts, of which slates are drawn.
        pairs_PP: probabilities of pairs under the logging policy, for pseudoinverse (`metrics.off_policy_slates.uniform_pairs`,
            `independent_pairs`, `estimated_pairs`), for full slates only; None: leave it out.
        joint_R: probability of each logged slate under the policy, for slate_ips; the log has joint propensities. None: leave it out.
        draws: number of slates drawn of a `Policy`.
        confidence: of the intervals, a bootstrap over rounds (BCa).
        num_resamples: of the bootstrap.
        allowed_missing: as in `evaluate_policy`; share of the positions.
        names: of the arms, for messages.
        seed: of draws and bootstrap.

    Raises:
        ValueError: missing support, unknown rewards, no propensities, a table of another shape, joint probabilities that are none.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import evaluate_slates
        >>> slates = np.tile([[0, 1], [1, 0]], (200, 1))  # both orders equally often; only arm 1 is clicked
        >>> log = BanditFeedback(slates, 1.0 * (slates == 1), np.full((400, 2), 0.5), num_arms=2)
        >>> evaluate_slates(log, [[0.0, 1.0], [1.0, 0.0]])["position_ips"].value
        1.0
    """
    check_resampling(confidence, num_resamples)
    feedback = as_feedback(feedback)
    if feedback.propensities_RK is None:
        raise ValueError("the log has no propensities of positions, without which no estimator is unbiased")
    shown_RK = feedback.arms_RK >= 0
    if not len(feedback) or not shown_RK.any(axis=1).all():
        raise ValueError("slates are valued on at least one round, and each must show an arm")
    known_rewards(feedback.rewards_RK[shown_RK])
    size = feedback.arms_RK.shape[1]
    table_KA = (
        position_table(policy, size, draws=draws, seed=seed)
        if isinstance(policy, Policy)
        else as_table(policy, "policy")
    )
    if table_KA.shape != (size, feedback.num_arms):
        raise ValueError(
            f"the policy must be a table of {size} positions x {feedback.num_arms} arms, got {table_KA.shape}"
        )
    rows, places = np.nonzero(shown_RK)
    arms = feedback.arms_RK[rows, places]
    flat = BanditFeedback(
        arms[:, None],
        feedback.rewards_RK[rows, places][:, None],
        feedback.propensities_RK[rows, places][:, None],
        feedback.num_arms,
        positions_R=places,
        draws=feedback.draws,
    )
    warnings = check_support(support_of(flat, Target(table_KA, flat), None), allowed_missing, names, 1.0)
    weights_N = importance_weights(np.minimum(table_KA[places, arms], 1.0), flat.propensities_RK[:, 0])  # type: ignore[index]
    weights_RK = np.full(shown_RK.shape, np.nan)
    weights_RK[rows, places] = weights_N
    totals_R = np.where(shown_RK, feedback.rewards_RK, 0.0).sum(axis=1)
    samples: dict[str, tuple[Sample, str]] = {
        "position_ips": (position_ips(feedback.rewards_RK, weights_RK), BY_POSITION)
    }
    if pairs_PP is not None:
        weights_R = pseudoinverse_weights(feedback.arms_RK, table_KA, pairs_PP)
        samples["pseudoinverse"] = (Sample(weights_R * totals_R), LINEAR)
    if joint_R is not None:
        if feedback.joint_R is None:
            raise ValueError("the log has no joint propensities of slates; leave joint_R out")
        weights_R = importance_weights(joint_R, feedback.joint_R)
        samples |= {"slate_ips": (ips(totals_R, weights_R), ""), "slate_snips": (snips(totals_R, weights_R), "")}
    warnings += doubts(flat.rewards_RK[:, 0], weights_N, flat)
    for one in warnings:
        log.warning("%s", one)
    how: dict[str, Any] = {"confidence": confidence, "num_resamples": num_resamples, "seed": seed, "together": True}
    plain = [sample for sample, _ in samples.values()]
    logged = Sample(totals_R)
    ends = intervals([logged, *plain], **how)
    found = [
        Estimate(name, sample.value, float(low), float(high), one.value, one.low, one.high, note=note)
        for (name, (sample, note)), (low, high), one in zip(
            samples.items(), ends[1:], paired_differences(plain, logged, **how), strict=True
        )
    ]
    nan = float("nan")
    return PolicyValue(
        found,
        Estimate("logged", logged.value, float(ends[0, 0]), float(ends[0, 1]), nan, nan, nan),
        len(feedback),
        effective_sample_size(weights_N),
        float(weights_N.max()),
        float(weights_N.mean()),
        standard_error(Sample(weights_N)),
        0.0,
        warnings,
        [f"brackets: {confidence:.0%} confidence, bias-corrected bootstrap over rounds | weights: of positions"],
    )
