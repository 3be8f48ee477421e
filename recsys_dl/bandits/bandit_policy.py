"""The base of every policy: validating requests and feedback, arms that come and go, saving, loading and merging.

B requests, R rows (1: the same for all requests, else B), L candidates, K positions, A arms, F numbers of a context or of an arm.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from recsys_dl.data.feedback import BanditFeedback, as_feedback
from recsys_dl.data.messages import shorten
from recsys_dl.kernels.random import stream_key
from recsys_dl.protocols import Decisions
from recsys_dl.saving import Saved

from .requests import Requests, check_arms, check_size, checked_candidates, checked_contexts, checked_features
from .siblings import check_sibling

Chances = tuple[np.ndarray, np.ndarray | None]  # float64 [B, K] of each arm at its position, and [B] of the slate


class BanditPolicy(Saved):
    """A policy over arms.

    A subclass stores its arguments under their own names and implements `_begin`, `_grow`, `_choose`, `_first`, `_learn`,
    `statistics`, `_set_statistics` and `prior`. Its decision depends only on its seed, its state, the request's number, context and
    candidates.

    Attributes:
        num_arms: A, with retired ones.
        context_size: F, 0 if `start` named none.
        active_A: bool, False for retired arms.
        num_rewards: how many known rewards it has learned from.
        clock: the latest time of feedback, for policies with a half-life; NaN before any.
    """

    noun = "policy"
    contextual: ClassVar[bool] = False  # whether decisions depend on contexts
    draws: int = 0  # of propensities; 0: exact
    block: ClassVar[int] = 1 << 22  # request-candidate pairs scored at a time
    half_life: float | None = None  # seconds after which feedback counts half; None: never forgets
    seed: int
    num_arms: int
    context_size: int
    active_A: np.ndarray
    num_rewards: int
    clock: float

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({arguments}){'' if hasattr(self, 'num_arms') else ', not started'}"

    # Implemented by policies

    @abstractmethod
    def _begin(self, arm_features_AF: np.ndarray | None) -> None:
        """Set the state before any feedback; `num_arms` and `context_size` are known."""

    @abstractmethod
    def _grow(self, count: int, arm_features_AF: np.ndarray | None) -> None:
        """Add arms to the state, after the existing ones."""

    @abstractmethod
    def _choose(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return int32 [B, K] positions among the candidates, -1 where there are fewer, and float64 [R, L] their scores."""

    @abstractmethod
    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        """Return the propensities of what `_choose` returned."""

    @abstractmethod
    def _first(self, requests: Requests) -> np.ndarray:
        """Return float64 [R, L]: the chance of each candidate at the first position."""

    @abstractmethod
    def _learn(self, feedback: BanditFeedback, known_RK: np.ndarray, weights_R: np.ndarray | None) -> None:
        """Learn from the rewards where `known_RK`, each row with its weight; None: all 1."""

    @abstractmethod
    def statistics(self) -> dict[str, np.ndarray]:
        """Return what feedback adds to, float64 by name: sums over rewards, so that those of two processes can be added."""

    def state(self) -> dict[str, np.ndarray]:
        """Return what decisions are computed from; it is saved beside the prior."""
        return self.statistics()

    @abstractmethod
    def _set_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        """Set the state from sums over rewards."""

    @abstractmethod
    def prior(self) -> dict[str, np.ndarray]:
        """Return what feedback does not change, by name."""

    # Public methods

    def start(
        self,
        num_arms: int,
        *,
        context_size: int = 0,
        arm_features_AF: np.ndarray | None = None,
    ) -> Self:
        """Set the state before any feedback and return self.

        Args:
            num_arms: A, at least 1.
            context_size: numbers of a context.
            arm_features_AF: float, one row an arm, for policies that use them.

        Raises:
            ValueError: no arms, or features that are not finite or not one row an arm.
        """
        check_size("num_arms", num_arms, 1)
        check_size("context_size", context_size, 0)
        features_AF = checked_features(arm_features_AF, int(num_arms))
        self.num_arms, self.context_size, self.num_rewards = int(num_arms), int(context_size), 0
        self.active_A = np.ones(self.num_arms, bool)
        self.clock = float("nan")
        self._begin(features_AF)
        return self

    def add_arms(self, count: int, *, arm_features_AF: np.ndarray | None = None) -> Self:
        """Add arms after the existing ones, with the prior of `start` or one from their features, and return self.

        Args:
            count: at least 1.
            arm_features_AF: float, one row a new arm; needed if `start` got them.

        Raises:
            ValueError: not started, or features of another length.
        """
        self._check_fitted()
        check_size("count", count, 1)
        features_AF = checked_features(arm_features_AF, int(count))
        self._grow(int(count), features_AF)
        self.num_arms += int(count)
        self.active_A = np.concatenate([self.active_A, np.ones(int(count), bool)])
        return self

    def retire(self, arms: Sequence[int] | np.ndarray) -> Self:
        """Never show these arms again, and return self; rewards that still arrive for them are accepted.

        Raises:
            ValueError: an arm out of range, or none would be left.
        """
        self._check_fitted()
        rows = np.atleast_1d(np.asarray(arms))
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(f"arms to retire must be a list of integers, got {rows.dtype} {rows.shape}")
        check_arms(rows, self.num_arms)
        active_A = self.active_A.copy()
        active_A[rows.astype(np.int64)] = False
        if not active_A.any():
            raise ValueError(
                f"at least one of the {self.num_arms} arms must stay active; add others with add_arms first"
            )
        self.active_A = active_A
        return self

    def select(
        self,
        contexts_BF: np.ndarray | None,
        k: int = 1,
        *,
        requests_B: np.ndarray | Sequence[int],
        candidates_BL: np.ndarray | None = None,
        propensities: bool = True,
    ) -> Decisions:
        """Choose k distinct arms for each request.

        Args:
            contexts_BF: one row a request, for contextual policies; others ignore it.
            k: positions to fill.
            requests_B: the number of each request, not negative. The same seed, number and state give the same decision.
            candidates_BL: arms to choose from, padded with -1; None: all active ones. A row with fewer than k is padded.
            propensities: False leaves them NaN, and is faster where they have no closed form: for feedback that no other policy
                will be judged by.

        Raises:
            ValueError: not started, k above the number of active arms, contexts of another length or not finite, candidates that
                are out of range, retired or repeated.
        """
        requests = self._checked_requests(contexts_BF, requests_B, candidates_BL)
        check_size("k", k, 1)
        num_active = int(self.active_A.sum())
        if k > num_active:
            raise ValueError(
                f"k must be at most the {num_active} active arms, got {k}: ask for fewer, or add arms with add_arms"
            )
        parts = [self._decide(part, int(k), propensities) for part in requests.blocks(self.block)]
        if len(parts) == 1:
            return parts[0]
        joint = [part.joint_B for part in parts if part.joint_B is not None]
        return Decisions(
            np.concatenate([part.arms_BK for part in parts]),
            np.concatenate([part.propensities_BK for part in parts]),
            np.concatenate(joint) if joint else None,
            np.concatenate([part.scores_BK for part in parts]),
            parts[0].draws,
        )

    def probabilities(
        self, contexts_BF: np.ndarray | None, *, num_requests: int, candidates_BL: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float64 [B, A], or [B, L] of the candidates: the probability that each arm is shown first; rows sum to 1.

        Args:
            contexts_BF: as in `select`.
            num_requests: B.
            candidates_BL: as in `select`.

        Raises:
            ValueError: as in `select`.
        """
        self._check_fitted()
        check_size("num_requests", num_requests, 0)
        requests = self._checked_requests(contexts_BF, np.arange(int(num_requests)), candidates_BL)
        width = self.num_arms if candidates_BL is None else requests.arms_RL.shape[1]
        chances_BW = np.zeros((len(requests), width))
        start = 0
        for part in requests.blocks(self.block):
            first_RL = self._first(part)
            rows = slice(start, start + len(part))
            if candidates_BL is None:
                chances_BW[rows, requests.arms_RL[0]] = first_RL
            else:
                chances_BW[rows] = first_RL
            start += len(part)
        return chances_BW

    def update(self, feedback: BanditFeedback) -> Self:
        """Learn from known rewards (NaN is skipped) and return self; any order and batches give the same state, up to rounding.

        Raises:
            ValueError: not started, an arm out of range, a reward outside the policy's range, contexts of another length.
        """
        self._check_fitted()
        feedback = as_feedback(feedback)
        known_RK = self._observed(feedback)
        check_arms(feedback.arms_RK[feedback.arms_RK >= 0], self.num_arms)
        if self.contextual:
            checked_contexts(feedback.contexts_RF, len(feedback), self.context_size, type(self).__name__)
        self.check_rewards(feedback.rewards_RK[(feedback.arms_RK >= 0) & ~np.isnan(feedback.rewards_RK)])
        self._check_feedback(feedback)
        if self.half_life is not None and feedback.times_R is None:
            raise ValueError(
                "a policy with a half_life needs feedback with times, seconds that tell how old it is, got none"
            )
        if known_RK.any():
            weights_R = None
            if self.half_life is not None:
                times_R = np.asarray(feedback.times_R, np.float64)
                self._age(float(np.fmax(self.clock, times_R[known_RK.any(1)].max())))  # of NaN and a number the number
                weights_R = 0.5 ** ((self.clock - times_R) / self.half_life)
            self._learn(feedback, known_RK, weights_R)
            self.num_rewards += int(known_RK.sum())
        return self

    def merged(self, states: Sequence[BanditPolicy]) -> Self:
        """Return a new policy that knows what each of `states` learned since it was a copy of this one.

        Each state began as this policy (by `load` or a copy) and learned from feedback of its own; the result is what one process
        would have that learned from all of it, up to rounding. Arms retired in one are retired.

        Raises:
            ValueError: no states, another class, other arguments, another number of arms, another prior, or fewer rewards than
                this policy.
        """
        self._check_fitted()
        if not isinstance(states, Sequence) or isinstance(states, str):
            raise ValueError(f"merged needs a list of policies, each a state, got {type(states).__name__}")
        if not states:
            raise ValueError("merged needs at least one state, got none")
        for at, state in enumerate(states):
            check_sibling(self, state, f"state {at}")
        result = copy.deepcopy(self)
        clocks = [self.clock, *(state.clock for state in states)]
        result.clock = max((clock for clock in clocks if clock == clock), default=float("nan"))  # NaN: no feedback yet
        mine = self._statistics_at(result.clock)
        total = dict(mine)
        for state in states:
            theirs = state._statistics_at(result.clock)
            total = {name: total[name] + (theirs[name] - mine[name]) for name in mine}
            result.num_rewards += state.num_rewards - self.num_rewards
            result.active_A = result.active_A & state.active_A
        if not result.active_A.any():
            raise ValueError("together the states retire every arm; at least one must stay active")
        result._set_statistics(total)
        return result

    def check_rewards(self, rewards: np.ndarray) -> None:
        """Raise ValueError for rewards outside the policy's range; any finite ones are valid by default."""

    # Saving

    def arrays(self) -> dict[str, Any]:
        """Return the state by name."""
        shape = np.array([self.num_arms, self.context_size, self.num_rewards])
        return {
            "shape": shape,
            "clock": np.array(self.clock),
            "active_A": self.active_A,
            **self.prior(),
            **self.state(),
        }

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `start` and `update`."""
        self.num_arms, self.context_size, self.num_rewards = map(int, arrays["shape"])
        self.active_A, self.clock = arrays["active_A"], float(arrays["clock"])
        self._restore(arrays)

    @abstractmethod
    def _restore(self, arrays: dict[str, Any]) -> None:
        """Set the prior and the statistics."""

    # Internal

    def _decide(self, requests: Requests, k: int, propensities: bool) -> Decisions:
        places_BK, scores_RL = self._choose(requests, k)
        rows_B1 = np.arange(len(requests))[:, None]
        shown_BK = places_BK >= 0
        arms_BK = requests.arms_RL[np.minimum(rows_B1, len(requests.arms_RL) - 1), places_BK]
        scores_BK = scores_RL[np.minimum(rows_B1, len(scores_RL) - 1), places_BK]
        if propensities:
            chances_BK, joint_B = self._chances(requests, places_BK, scores_RL)
        else:
            chances_BK, joint_B = np.full(places_BK.shape, np.nan), None
        return Decisions(
            np.where(shown_BK, arms_BK, -1).astype(np.int32),
            chances_BK,
            joint_B,
            np.where(shown_BK, self._as_rewards(scores_BK), -np.inf).astype(np.float32),
            self.draws if propensities else 0,
        )

    def _statistics_at(self, clock: float) -> dict[str, np.ndarray]:
        """Return `statistics` as they will be at a later time without feedback."""
        statistics = self.statistics()
        if self.half_life is None or not self.clock < clock:
            return statistics
        kept = 0.5 ** ((clock - self.clock) / self.half_life)
        return {name: kept * values for name, values in statistics.items()}

    def _age(self, clock: float) -> None:
        if self.clock < clock:
            self._set_statistics(self._statistics_at(clock))
        self.clock = clock

    def _key(self) -> np.uint64:
        return stream_key(self.seed)

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_arms"):
            raise ValueError(f"this {type(self).__name__} has not been started; call start(num_arms) first")

    def _checked_requests(self, contexts_BF: Any, requests_B: Any, candidates_BL: Any) -> Requests:
        self._check_fitted()
        numbers = np.atleast_1d(np.asarray(requests_B))
        if (
            numbers.ndim != 1
            or (numbers.size and numbers.dtype.kind not in "iu")
            or (numbers.size and numbers.min() < 0)
        ):
            raise ValueError(
                f"requests must be a list of integers of at least 0, one a request, got {shorten(repr(requests_B))}"
            )
        contexts = None
        if self.contextual:
            contexts = checked_contexts(contexts_BF, len(numbers), self.context_size, type(self).__name__)
        if candidates_BL is None:
            arms = np.flatnonzero(self.active_A).astype(np.int32)[None, :]
        else:
            arms = checked_candidates(candidates_BL, len(numbers), self.active_A)
            if len(arms) and arms.min() >= 0 and (arms == arms[0]).all():
                arms = arms[:1]  # scored once
        return Requests(numbers.astype(np.uint64), arms, contexts)

    def _as_rewards(self, scores_BK: np.ndarray) -> np.ndarray:
        """Return what decisions show as scores."""
        return scores_BK

    def _observed(self, feedback: BanditFeedback) -> np.ndarray:
        """Return bool [R, K]: the rewards to learn from."""
        return np.asarray((feedback.arms_RK >= 0) & ~np.isnan(feedback.rewards_RK))

    def _check_feedback(self, feedback: BanditFeedback) -> None:
        """Raise ValueError for other feedback that the policy cannot use."""
