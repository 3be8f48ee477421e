"""A policy in a world, round by round. R rounds, P points, K positions."""

from __future__ import annotations

import time
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.protocols import Decisions, Policy, as_policy

from .world import World

POINTS = 200  # at most, of a curve


@dataclass(frozen=True)
class Simulated:
    """What one policy did in one world.

    Attributes:
        rounds_P: int64, ascending; the last is R.
        regret_P: float64, cumulative: expected clicks that the best slates would have had more, so far.
        clicks_P: float64, cumulative clicks.
        best: mean expected clicks of the best slate.
        seconds: in the policy: decisions and updates.
    """

    rounds_P: np.ndarray
    regret_P: np.ndarray
    clicks_P: np.ndarray
    best: float
    seconds: float


def simulate(
    policy: Policy, world: World, *, rounds: int, batch: int = 1, k: int = 1, log: FeedbackLog | None = None
) -> Simulated:
    """Start a policy in a world and let it learn: decisions in batches, each followed by an update with the feedback that has arrived.

    Args:
        policy: started here.
        world: as it was drawn; `world.begin(seed)` draws another.
        rounds: R.
        batch: requests decided before the next update.
        k: K, arms shown for each request.
        log: takes every decision, and the feedback as it arrives; without one, policies that can leave out propensities do.

    Raises:
        ValueError: k above the number of arms, a size below 1, a batch that is longer than all rounds, a policy that shows an arm there is not,
            or needs contexts that this world does not have.

    Examples:
        >>> from recsys_dl.simulation import FixedArms, simulate
        >>> from recsys_dl.bandits import EpsilonGreedy
        >>> done = simulate(EpsilonGreedy(epsilon=1.0), FixedArms(means=[0.2, 0.6]), rounds=1000, batch=100)
        >>> 150 < done.regret_P[-1] < 250  # uniform draws lose 0.2 a round
        True
    """
    as_policy(policy)
    if not isinstance(world, World):
        raise ValueError(f"world must be a World, such as FixedArms(means=[0.2, 0.5]), got {type(world).__name__}")
    if log is not None and not isinstance(log, FeedbackLog):
        raise ValueError(
            f"log must be a FeedbackLog, such as FeedbackLog(folder, num_arms={world.num_arms}, context_size={world.context_size}), got "
            f"{type(log).__name__}"
        )
    for name, value in (("rounds", rounds), ("batch", batch), ("k", k)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if k > world.num_arms:
        raise ValueError(f"k must be at most the {world.num_arms} arms of this world, got {k}")
    if batch > rounds:
        raise ValueError(f"batch must be at most rounds, {rounds}, since a policy learns after each batch, got {batch}")
    _check_contexts(policy, world)
    began = time.perf_counter()
    policy.start(world.num_arms, context_size=world.context_size, arm_features_AF=world.arm_features_AF)
    seconds = time.perf_counter() - began
    regret_R, clicks_R, best_R = np.empty(rounds), np.empty(rounds), np.empty(rounds)
    waiting = _Waiting(world, rounds, k)
    decide: Any = policy.select
    needless = log is None and "propensities" in signature(decide).parameters
    only_decisions = {"propensities": False} if needless else {}
    for start in range(0, rounds, batch):
        requests_B = np.arange(start, min(start + batch, rounds))
        contexts_BF = world.contexts(requests_B)
        began = time.perf_counter()
        shown = decide(contexts_BF, k, requests_B=requests_B, **only_decisions)
        seconds += time.perf_counter() - began
        best_R[requests_B] = world.best(requests_B, k)
        regret_R[requests_B] = best_R[requests_B] - world.values(requests_B, shown.arms_BK)
        rewards_BK = world.rewards(requests_B, shown.arms_BK)
        clicks_R[requests_B] = np.nansum(rewards_BK, axis=1)
        if log is not None:
            _write_decisions(log, shown, requests_B, world)
        waiting.add(requests_B, shown, rewards_BK)
        arrived = waiting.arrived(start + batch)
        if len(arrived):
            began = time.perf_counter()
            policy.update(arrived)
            seconds += time.perf_counter() - began
            if log is not None:
                _write_rewards(log, arrived)
    points_P = np.unique(np.geomspace(1, rounds, POINTS).astype(np.int64))
    regret_P, clicks_P = np.cumsum(regret_R)[points_P - 1], np.cumsum(clicks_R)[points_P - 1]
    return Simulated(points_P, regret_P, clicks_P, float(best_R.mean()), seconds)


def _check_contexts(policy: Any, world: World) -> None:
    """Raise what a contextual policy gets in a world without contexts, or without vectors of arms that fit them."""
    name = type(policy).__name__
    if getattr(policy, "contextual", False) and not world.context_size:
        raise ValueError(
            f"{name} needs contexts, and {type(world).__name__} has none; choose tastes, factors or labeled"
        )
    features = 0 if world.arm_features_AF is None else world.arm_features_AF.shape[1]
    if getattr(policy, "needs_vectors", False) and features != world.context_size:
        raise ValueError(
            f"{name} needs vectors of arms as long as contexts, and {type(world).__name__} has {features} and {world.context_size} numbers; choose "
            "factors, whose arms and users are those of a fitted model"
        )


def _write_decisions(log: FeedbackLog, shown: Decisions, requests_B: np.ndarray, world: World) -> None:
    log.append(
        shown.arms_BK,
        shown.propensities_BK,
        requests_B=requests_B,
        users_B=world.users(requests_B),
        contexts_BF=world.contexts(requests_B),
        times_B=requests_B,
        joint_B=shown.joint_B,
        draws=shown.draws,
    )


def _write_rewards(log: FeedbackLog, arrived: BanditFeedback) -> None:
    at, places = np.nonzero(arrived.arms_RK >= 0)
    assert arrived.times_R is not None
    requests = arrived.times_R[at]  # a request's time is its number
    log.reward(requests, arrived.arms_RK[at, places], arrived.rewards_RK[at, places], requests)


class _Waiting:
    """Feedback that has not arrived yet: columns over all rounds, and when each arrives."""

    def __init__(self, world: World, rounds: int, k: int) -> None:
        self.world, self.draws = world, 0
        self.arms_RK = np.full((rounds, k), -1, np.int32)
        self.rewards_RK, self.propensities_RK = np.full((rounds, k), np.nan), np.full((rounds, k), np.nan)
        self.joint_R: np.ndarray | None = None
        self.arrivals_R = np.full(rounds, np.inf)

    def add(self, requests_B: np.ndarray, shown: Decisions, rewards_BK: np.ndarray) -> None:
        self.arms_RK[requests_B], self.rewards_RK[requests_B] = shown.arms_BK, rewards_BK
        self.propensities_RK[requests_B] = shown.propensities_BK
        if shown.joint_B is not None:
            self.joint_R = np.full(len(self.arms_RK), np.nan) if self.joint_R is None else self.joint_R
            self.joint_R[requests_B] = shown.joint_B
        self.draws = max(self.draws, shown.draws)
        self.arrivals_R[requests_B] = self.world.arrivals(requests_B)

    def arrived(self, now: int) -> BanditFeedback:
        """Take out what arrives before request `now`."""
        rows = np.flatnonzero(self.arrivals_R < now)
        self.arrivals_R[rows] = np.inf
        return BanditFeedback(
            self.arms_RK[rows],
            self.rewards_RK[rows],
            None if np.isnan(self.propensities_RK[rows, 0]).any() else self.propensities_RK[rows],
            self.world.num_arms,
            contexts_RF=self.world.contexts(rows),
            joint_R=None if self.joint_R is None else self.joint_R[rows],
            times_R=rows,
            users_R=self.world.users(rows),
            draws=self.draws,
        )


def rows_of(feedback: BanditFeedback, chosen: Any) -> BanditFeedback:
    """Return some rows of bandit feedback."""
    names = (
        *("arms_RK", "rewards_RK", "propensities_RK", "contexts_RF", "joint_R"),
        *("positions_R", "times_R", "users_R"),
    )
    columns: dict[str, Any] = {
        name: None if (one := getattr(feedback, name)) is None else one[chosen] for name in names
    }
    return BanditFeedback(**columns, num_arms=feedback.num_arms, draws=feedback.draws)
