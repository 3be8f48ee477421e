"""The base of every policy: validating requests and feedback, arms that come and go, saving, loading and merging.

B requests, R rows (1: the same for all requests, else B), L candidates, K positions, A arms, F numbers of a context or of an arm.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from typing_extensions import Self

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.messages import shorten
from recsys_dl.kernels.random import stream_key
from recsys_dl.protocols import Decisions
from recsys_dl.saving import Saved

BLOCK = 1 << 22  # request-candidate pairs scored at a time
Chances = tuple[np.ndarray, np.ndarray | None]  # float64 [B, K] of each arm at its position, and [B] of the slate


@dataclass(frozen=True)
class Requests:
    """Validated requests.

    Attributes:
        keys_B: uint64, each request's number.
        arms_RL: int32, the candidates, padded with -1; one row if they are the same for all.
        contexts_BF: float32, or None.
    """

    keys_B: np.ndarray
    arms_RL: np.ndarray
    contexts_BF: np.ndarray | None

    def __len__(self) -> int:
        return len(self.keys_B)

    def blocks(self) -> Iterator[Requests]:
        """Return parts that bound memory."""
        size = max(1, BLOCK // max(1, self.arms_RL.shape[1]))
        for start in range(0, max(1, len(self)), size):
            part = slice(start, start + size)
            arms_RL = self.arms_RL if len(self.arms_RL) == 1 else self.arms_RL[part]
            yield Requests(self.keys_B[part], arms_RL, None if self.contexts_BF is None else self.contexts_BF[part])


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
        self._check_size("num_arms", num_arms, 1)
        self._check_size("context_size", context_size, 0)
        features_AF = self._checked_features(arm_features_AF, int(num_arms))
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
        self._check_size("count", count, 1)
        features_AF = self._checked_features(arm_features_AF, int(count))
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
        self._check_arms(rows)
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
        self._check_size("k", k, 1)
        num_active = int(self.active_A.sum())
        if k > num_active:
            raise ValueError(
                f"k must be at most the {num_active} active arms, got {k}: ask for fewer, or add arms with add_arms"
            )
        parts = [self._decide(part, int(k), propensities) for part in requests.blocks()]
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
        self._check_size("num_requests", num_requests, 0)
        requests = self._checked_requests(contexts_BF, np.arange(int(num_requests)), candidates_BL)
        width = self.num_arms if candidates_BL is None else requests.arms_RL.shape[1]
        chances_BW = np.zeros((len(requests), width))
        start = 0
        for part in requests.blocks():
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
        if not isinstance(feedback, BanditFeedback):
            raise ValueError(
                f"feedback must be a BanditFeedback (recsys_dl.data.feedback), got {type(feedback).__name__}"
            )
        known_RK = (feedback.arms_RK >= 0) & ~np.isnan(feedback.rewards_RK)
        self._check_arms(feedback.arms_RK[feedback.arms_RK >= 0])
        if self.contextual:
            self._checked_contexts(feedback.contexts_RF, len(feedback))
        self._check_rewards(feedback.rewards_RK[known_RK])
        if self.half_life is not None and feedback.times_R is None:
            raise ValueError(
                "a policy with a half_life needs feedback with times, seconds that tell how old it is, got none"
            )
        if known_RK.any():
            weights_R = None
            if self.half_life is not None:
                times_R = np.asarray(feedback.times_R, np.float64)
                self._age(max(self.clock, float(times_R[known_RK.any(1)].max())))
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
        if not states:
            raise ValueError("merged needs at least one state, got none")
        for at, state in enumerate(states):
            self._check_sibling(state, f"state {at}")
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

    # Saving

    def arrays(self) -> dict[str, Any]:
        """Return the state by name."""
        shape = np.array([self.num_arms, self.context_size, self.num_rewards])
        return {
            "shape": shape,
            "clock": np.array(self.clock),
            "active_A": self.active_A,
            **self.prior(),
            **self.statistics(),
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

    def _check_sibling(self, state: Any, name: str) -> None:
        if type(state) is not type(self):
            raise ValueError(f"{name} must be a {type(self).__name__} like this policy, got {type(state).__name__}")
        state._check_fitted()
        for argument, value in self.arguments().items():
            if state.arguments()[argument] != value:
                raise ValueError(
                    f"{name} must have the arguments of this policy, but its {argument} is "
                    f"{shorten(repr(state.arguments()[argument]))}, not {shorten(repr(value))}"
                )
        for what in ("num_arms", "context_size"):
            if getattr(state, what) != getattr(self, what):
                raise ValueError(
                    f"{name} must have the {what} of this policy, {getattr(self, what)}, got {getattr(state, what)}; merge first, "
                    "then add arms"
                )
        theirs = state.prior()
        for part, values in self.prior().items():
            if not np.array_equal(theirs[part], values):
                raise ValueError(
                    f"{name} must have the prior of this policy, but its {part} differs: merge copies of one start"
                )
        if state.num_rewards < self.num_rewards:
            raise ValueError(
                f"{name} has learned from {state.num_rewards:,} rewards, fewer than the {self.num_rewards:,} of this policy: it must "
                "have begun as a copy of it"
            )

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
        contexts = self._checked_contexts(contexts_BF, len(numbers)) if self.contextual else None
        if candidates_BL is None:
            arms = np.flatnonzero(self.active_A).astype(np.int32)[None, :]
        else:
            arms = self._checked_candidates(candidates_BL, len(numbers))
        return Requests(numbers.astype(np.uint64), arms, contexts)

    def _checked_contexts(self, contexts: Any, rows: int) -> np.ndarray:
        if contexts is None:
            raise ValueError(
                f"{type(self).__name__} needs contexts, {rows} rows of {self.context_size} numbers, got None"
            )
        found = np.asarray(contexts, np.float32)
        if found.shape != (rows, self.context_size):
            raise ValueError(
                f"contexts must be {rows} rows, one a request, of the {self.context_size} numbers that start() was given, got "
                f"{found.shape}"
            )
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
            raise ValueError(f"contexts must be finite, got {found[row][~np.isfinite(found[row])][0]} in row {row}")
        return np.ascontiguousarray(found)

    def _checked_candidates(self, candidates_BL: Any, rows: int) -> np.ndarray:
        found = np.asarray(candidates_BL)
        if found.ndim != 2 or len(found) != rows or not found.shape[1] or found.dtype.kind not in "iu":
            raise ValueError(
                f"candidates must be a matrix of integers with {rows} rows, one a request, padded with -1, got {found.dtype} {found.shape}"
            )
        self._check_arms(found[found != -1])
        arms = np.ascontiguousarray(found, np.int32)
        gone = arms[(arms >= 0) & ~self.active_A[arms]]
        if len(gone):
            raise ValueError(f"candidates must be active arms, but arm {gone[0]} was retired")
        ordered = np.sort(arms, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        if twice.any():
            row, at = np.argwhere(twice)[0]
            raise ValueError(
                f"an arm must occur once among the candidates, got arm {ordered[row, at]} twice in row {row}"
            )
        return arms

    def _checked_features(self, arm_features_AF: Any, rows: int) -> np.ndarray | None:
        if arm_features_AF is None:
            return None
        found = np.asarray(arm_features_AF, np.float32)
        if found.ndim != 2 or len(found) != rows:
            raise ValueError(f"arm features must be a matrix of {rows} rows, one an arm, got {found.shape}")
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found).all(1))[0])
            raise ValueError(f"arm features must be finite, got {found[row][~np.isfinite(found[row])][0]} in row {row}")
        return np.ascontiguousarray(found)

    def _check_arms(self, arms: np.ndarray) -> None:
        wrong = arms[(arms < 0) | (arms >= self.num_arms)]
        if len(wrong):
            raise ValueError(f"arms must be in [0, {self.num_arms}), got {wrong[0]}; add new ones with add_arms")

    def _as_rewards(self, scores_BK: np.ndarray) -> np.ndarray:
        """Return what decisions show as scores."""
        return scores_BK

    def _check_rewards(self, rewards: np.ndarray) -> None:
        """Raise ValueError for rewards outside the policy's range; any finite ones are valid by default."""

    def _check_size(self, name: str, value: Any, least: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_between_0_and_1(rewards: np.ndarray, policy: str) -> None:
    """Raise ValueError if a reward is outside [0, 1]."""
    wrong = rewards[(rewards < 0) | (rewards > 1)]
    if len(wrong):
        raise ValueError(
            f"{policy} needs rewards between 0 and 1, got {wrong[0]:g} ({len(wrong):,} of {len(rewards):,} are outside): scale them"
        )
