"""Learning a policy from the log of another, with an estimate of its value on rounds that were held out.

R rounds, A arms, F numbers of a context.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, MinLen
from scipy.optimize import minimize

from recsys_dl.arguments import NotNegative, OpenShare, Positive, Seed, checked
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.metrics.off_policy import snips

from .cross_fitting import fold_of, predictions
from .evaluate import check_log, evaluate_policy
from .report import PolicyValue
from .reward_models import RewardModel, as_reward_model
from .softmax_policy import SoftmaxPolicy, softmax

MOST_NUMBERS = 1 << 28  # rounds x arms held at a time


@dataclass(frozen=True)
class Learned:
    """A policy learned from a log.

    Attributes:
        policy: saved by `policy.save`, valued and served like any other.
        value: what it would have earned in rounds that were used for nothing else.
        variance_penalty: the chosen one.
        candidates: (variance penalty, value by SNIPS in rounds that chose among them).
    """

    policy: SoftmaxPolicy
    value: PolicyValue
    variance_penalty: float
    candidates: Sequence[tuple[float, float]]


@checked
def learn_policy(
    feedback: BanditFeedback,
    *,
    objective: Literal["ips", "dr"] = "dr",
    variance_penalties: Annotated[Sequence[NotNegative], MinLen(1)] = (0.0, 0.3, 1.0),
    regularization: NotNegative = 1e-4,
    clip: Positive = 100.0,
    held_out: OpenShare = 0.3,
    reward_model: RewardModel | None = None,
    num_folds: Annotated[int, Ge(2)] = 3,
    reward_range: Sequence[float] = (0.0, 1.0),
    seed: Seed = 0,
) -> Learned:
    """Learn a softmax policy, linear in the context, by maximizing its estimated value less a penalty on the estimate's variance.

    Maximizes mean(u) - variance_penalty x sqrt(var(u) / R) - regularization x |weights|^2, with u the terms of IPS (min(w, clip) r) or
    doubly robust (expected + min(w, clip) (r - predicted)); counterfactual risk minimization with the penalty of POEM
    (Swaminathan and Joachims 2015, "Batch Learning from Logged Bandit Feedback through Counterfactual Risk Minimization"), by L-BFGS from the
    uniform policy. The penalty is chosen by SNIPS on a part of the rounds; the policy is then learned from that part too. The rounds of
    `held_out` are used for neither, so that the value on them is not that of the best of several. Parts are of whole users if the log
    has users.

    Args:
        feedback: the log, as for `evaluate_policy`; one position.
        objective: "ips", or "dr", of less variance.
        variance_penalties: to choose from; 0 is none.
        regularization: of the weights.
        clip: largest weight in the objective.
        held_out: share of the rounds for the final value.
        reward_model: for "dr" and the final value; None for `Linear()`.
        num_folds: of cross-fitting.
        reward_range: least and largest possible reward.
        seed: of the parts, folds and the policy's draws.

    Raises:
        ValueError: as in `evaluate_policy`; a log with positions; too few rounds for the parts.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import learn_policy
        >>> rng = np.random.default_rng(0)
        >>> arms = rng.integers(0, 2, (2000, 1))
        >>> clicks = 1.0 * (rng.random((2000, 1)) < 0.2 + 0.4 * arms)  # the second arm is worth 0.6
        >>> log = BanditFeedback(arms, clicks, np.full((2000, 1), 0.5), num_arms=2)
        >>> learned = learn_policy(log)
        >>> bool(learned.policy.probabilities(None, num_requests=1)[0, 1] > 0.9), learned.value["dr"].value > 0.5
        (True, True)
    """
    limits = check_log(feedback, reward_range)
    if feedback.positions_R is not None and feedback.positions_R.any():
        raise ValueError(
            "a policy is learned for one position; take the rounds of one: feedback.take(feedback.positions_R == 0)"
        )
    if len(feedback) * feedback.num_arms > MOST_NUMBERS:
        raise ValueError(
            f"learning holds a number for each of {len(feedback):,} rounds and {feedback.num_arms:,} arms, more than {MOST_NUMBERS:,}; take "
            "fewer rounds, or choose among fewer arms"
        )
    parts_R = fold_of(feedback, 100, seed) if len(feedback) >= 100 else None
    if parts_R is None:
        raise ValueError(f"learning and valuing a policy needs at least 100 rounds, got {len(feedback)}")
    first_held, first_chosen = round(100 * (1 - held_out)), round(70 * (1 - held_out))
    learning, choosing = (
        feedback.take(parts_R < first_chosen),
        feedback.take((parts_R >= first_chosen) & (parts_R < first_held)),
    )
    held, rest = feedback.take(parts_R >= first_held), feedback.take(parts_R < first_held)
    for name, part in (("held out", held), ("to choose the penalty", choosing)):
        if len(part) < 10:
            raise ValueError(f"too few rounds are {name}, {len(part)} of {len(feedback)}; log more, or change held_out")
    model = as_reward_model(reward_model)
    candidates = []
    if len(variance_penalties) > 1:
        problem = _Problem(learning, objective, model, num_folds, limits, clip, seed)
        for penalty in variance_penalties:
            policy = problem.solve(penalty, regularization, seed)
            candidates.append((float(penalty), _value(policy, choosing)))
    best = max(candidates, key=lambda one: one[1])[0] if candidates else float(variance_penalties[0])
    policy = _Problem(rest, objective, model, num_folds, limits, clip, seed).solve(best, regularization, seed)
    value = evaluate_policy(
        held, policy, reward_model=model, num_folds=num_folds, reward_range=limits, allowed_missing=1.0, seed=seed
    )
    return Learned(policy, value, best, candidates)


def _value(policy: SoftmaxPolicy, part: BanditFeedback) -> float:
    chances_RA = policy.probabilities(part.contexts_RF, num_requests=len(part))
    assert part.propensities_RK is not None
    chosen = chances_RA[np.arange(len(part)), part.arms_RK[:, 0]]
    return snips(part.rewards_RK[:, 0], chosen / part.propensities_RK[:, 0]).value


class _Problem:
    """The objective over a log, and its gradient."""

    def __init__(
        self,
        log: BanditFeedback,
        objective: str,
        model: RewardModel,
        num_folds: int,
        reward_range: tuple[float, float],
        clip: float,
        seed: int,
    ) -> None:
        assert log.propensities_RK is not None
        self.num_arms, self.clip = log.num_arms, clip
        self.arms_R, self.rewards_R = log.arms_RK[:, 0], log.rewards_RK[:, 0]
        self.chances_R = log.propensities_RK[:, 0]
        contexts = np.zeros((len(log), 0)) if log.contexts_RF is None else log.contexts_RF.astype(np.float64)
        deviation_F = contexts.std(axis=0)
        self.mean_F, self.scale_F = contexts.mean(axis=0), np.where(deviation_F > 0, deviation_F, 1.0)
        self.contexts_RF = (contexts - self.mean_F) / self.scale_F
        self.means_RA: np.ndarray | None = None
        if objective == "dr":
            self.means_RA = np.empty((len(log), log.num_arms))
            for rows, means in predictions(log, model, fold_of(log, num_folds, seed), reward_range):
                self.means_RA[rows] = means

    def solve(self, variance_penalty: float, regularization: float, seed: int) -> SoftmaxPolicy:
        """Return the policy that maximizes the objective."""
        size = self.contexts_RF.shape[1]
        found = minimize(
            self.loss,
            np.zeros(self.num_arms * (size + 1)),
            args=(variance_penalty, regularization),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 200},
        )
        policy = SoftmaxPolicy(seed=seed).start(self.num_arms, context_size=size)
        policy.bias_A, policy.weights_AF = self._split(found.x)
        policy.mean_F, policy.scale_F = self.mean_F, self.scale_F
        return policy

    def _split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        table = parameters.reshape(self.num_arms, -1)
        return table[:, 0], table[:, 1:]

    def loss(self, parameters: np.ndarray, variance_penalty: float, regularization: float) -> tuple[float, np.ndarray]:
        """Return what is minimized, and its gradient."""
        bias_A, weights_AF = self._split(parameters)
        policy_RA = softmax(bias_A + self.contexts_RF @ weights_AF.T)
        rows = np.arange(len(self.arms_R))
        ratios_R = policy_RA[rows, self.arms_R] / self.chances_R
        gains_R = self.rewards_R - (0.0 if self.means_RA is None else self.means_RA[rows, self.arms_R])
        terms_R = np.minimum(ratios_R, self.clip) * gains_R
        slopes_R = np.where(ratios_R < self.clip, ratios_R, 0.0) * gains_R  # of the logged arm's log-probability
        expected_R: Any = 0.0
        if self.means_RA is not None:
            expected_R = np.einsum("ra,ra->r", policy_RA, self.means_RA)
            terms_R = terms_R + expected_R
        size = len(terms_R)
        centered_R = terms_R - terms_R.mean()
        error = np.sqrt((centered_R**2).sum() / (size - 1) / size)
        moves_R = np.full(size, -1 / size)  # of the loss with each term
        if variance_penalty and error > 0:
            moves_R = moves_R + variance_penalty * centered_R / ((size - 1) * size * error)
        by_logit_RA = -(moves_R * slopes_R)[:, None] * policy_RA
        by_logit_RA[rows, self.arms_R] += moves_R * slopes_R
        if self.means_RA is not None:
            by_logit_RA += moves_R[:, None] * policy_RA * (self.means_RA - expected_R[:, None])
        gradient = np.concatenate([by_logit_RA.sum(axis=0)[:, None], by_logit_RA.T @ self.contexts_RF], axis=1).ravel()
        value = -terms_R.mean() + variance_penalty * error + regularization * (parameters**2).sum()
        return float(value), gradient + 2 * regularization * parameters
