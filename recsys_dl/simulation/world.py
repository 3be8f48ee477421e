"""What every simulated world does: contexts, clicks by position, late and lost feedback, and the truth to judge by.

B requests, K positions, A arms, F numbers of a context.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import numpy as np

from recsys_dl.arguments import NotNegative, Seed, ShareBelowOne, checked, show_arguments

from .chance import DELAYS, EXAMINED, LOST, REWARDS, uniform

Clicks = Literal["position", "cascade"]


class World(ABC):
    """A world that answers requests; rewards are 0 or 1.

    Its answer to a request is a function of the seed and the request's number: all policies meet the same users, and an arm shown
    in the same request and position earns the same. A subclass sets `num_arms`, and `context_size` and `arm_features_AF` if it has
    any, in `_begin`, and implements `chances`.

    Args:
        position_bias: exponent b: position p is examined with probability p^-b, as in Joachims et al. 2017; 0: all are.
        clicks: "position": examined positions are clicked independently of each other; "cascade": the user reads from the top and leaves
            at the first click, so that position_bias is how many get as far.
        delay: mean number of requests until feedback arrives, geometric; 0: at once, after its batch.
        missing: share of requests whose feedback never arrives.
        seed: for everything random.

    Attributes:
        num_arms: A.
        context_size: F; 0 without contexts.
        arm_features_AF: float32, what is known of the arms beforehand; None if nothing.
    """

    num_arms: int
    context_size: int = 0
    arm_features_AF: np.ndarray | None = None

    @checked
    def __init__(
        self,
        *,
        position_bias: NotNegative = 0.0,
        clicks: Clicks = "position",
        delay: NotNegative = 0.0,
        missing: ShareBelowOne = 0.0,
        seed: Seed = 0,
    ) -> None:
        self.position_bias, self.clicks = position_bias, clicks
        self.delay, self.missing, self.seed = delay, missing, seed
        self.begin(seed)
        if self.num_arms < 2:
            raise ValueError(f"a world needs at least two arms, got {self.num_arms}")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        setattr(cls, "__init__", checked(cls.__init__))  # noqa: B010  an assignment would hide the arguments from jedi
        show_arguments(cls)

    # Implemented by worlds

    @abstractmethod
    def _begin(self, rng: np.random.Generator) -> None:
        """Draw the world: arms, users."""

    @abstractmethod
    def chances(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float64 [B, A]: the probability that each arm earns 1 if it is examined."""

    def contexts(self, requests_B: np.ndarray) -> np.ndarray | None:
        """Return float32 [B, F], or None."""
        return None

    def users(self, requests_B: np.ndarray) -> np.ndarray | None:
        """Return int32 user rows [B], or None if requests have no users."""
        return None

    def theory(self, rounds_P: np.ndarray) -> dict[str, np.ndarray]:
        """Return known curves of the cumulative regret after so many rounds with one arm shown, by name."""
        return {}

    def slate_theory(self, rounds_P: np.ndarray, k: int) -> dict[str, np.ndarray]:
        """Return likewise curves of slates of k arms."""
        return {}

    # Of every world

    def begin(self, seed: int) -> None:
        """Draw the world anew, from another seed."""
        self.seed = seed
        self._begin(np.random.default_rng(seed))

    def rewards(self, requests_B: np.ndarray, arms_BK: np.ndarray) -> np.ndarray:
        """Return float64 [B, K]: 1 where the arm at a position was clicked, else 0; NaN at padding."""
        shown_BK = arms_BK >= 0
        chances_BK = self._of_shown(requests_B, arms_BK)
        liked_BK = uniform(self.seed, REWARDS, requests_B, arms_BK) < chances_BK
        examined_BK = self._examined(requests_B, arms_BK.shape[1])
        if self.clicks == "cascade":
            before_BK: np.ndarray = np.cumsum(liked_BK & shown_BK, axis=1) - (liked_BK & shown_BK)
            liked_BK &= before_BK == 0
        return np.where(shown_BK, liked_BK & examined_BK, np.nan)

    def values(self, requests_B: np.ndarray, arms_BK: np.ndarray) -> np.ndarray:
        """Return float64 [B]: the expected number of clicks on each slate, the truth."""
        return self._value(np.where(arms_BK >= 0, self._of_shown(requests_B, arms_BK), 0.0))

    def best(self, requests_B: np.ndarray, k: int) -> np.ndarray:
        """Return float64 [B]: the expected number of clicks on the best slate of k arms."""
        chances_BA = self.chances(requests_B)
        top_BK = -np.sort(-np.partition(chances_BA, -k, axis=1)[:, -k:], axis=1)
        return self._value(top_BK)

    def arrivals(self, requests_B: np.ndarray) -> np.ndarray:
        """Return float64 [B]: the request number at which the feedback of each request arrives; infinite if never."""
        late_B = np.zeros(len(requests_B))
        if self.delay > 0:
            share = 1 / (1 + self.delay)
            late_B = np.floor(np.log(uniform(self.seed, DELAYS, requests_B)) / np.log1p(-share))
        lost_B = uniform(self.seed, LOST, requests_B) < self.missing
        return np.where(lost_B, np.inf, requests_B + late_B)

    def _of_shown(self, requests_B: np.ndarray, arms_BK: np.ndarray) -> np.ndarray:
        return np.take_along_axis(self.chances(requests_B), np.maximum(arms_BK, 0).astype(np.int64), axis=1)

    def _examination(self, k: int) -> np.ndarray:
        """Return float64 [K]: the probability that a position is examined."""
        return np.arange(1.0, k + 1) ** -self.position_bias

    def _examined(self, requests_B: np.ndarray, k: int) -> np.ndarray:
        """Return bool [B, K]: a user examines either independently, or down to some position."""
        one = uniform(self.seed, EXAMINED, requests_B)[:, None]
        each = uniform(self.seed, EXAMINED, requests_B, np.tile(np.arange(k), (len(requests_B), 1)))
        return (one if self.clicks == "cascade" else each) < self._examination(k)

    def _value(self, chances_BK: np.ndarray) -> np.ndarray:
        examination_K = self._examination(chances_BK.shape[1])
        if self.clicks == "cascade":  # reaching a position and clicking nothing above it
            passed_BK = np.cumprod(1 - chances_BK, axis=1)
            chances_BK = chances_BK * np.concatenate([np.ones((len(chances_BK), 1)), passed_BK[:, :-1]], axis=1)
        return chances_BK @ examination_K
