"""Shared interfaces and result types: recommenders, re-rankers and their answers.

B batch of users, U users, I items, K list, L candidates, H length of a history, S size of a user's state, D embedding size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import nn


@dataclass(frozen=True)
class Ranking:
    """Items best first.

    Attributes:
        items_BK: int32 item rows, padded with -1.
        scores_BK: float32, not increasing along K, padded with -inf.

    Examples:
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.models import Popularity
        >>> ranking = Popularity().fit(Interactions([0, 1, 1], [0, 0, 1])).recommend([0], k=2)
        >>> isinstance(ranking, Ranking), ranking.items_BK, ranking.scores_BK
        (True, array([[0, 1]], dtype=int32), array([[1. , 0.5]], dtype=float32))
    """

    items_BK: np.ndarray
    scores_BK: np.ndarray

    def __len__(self) -> int:
        return len(self.items_BK)


@dataclass(frozen=True)
class Reranked(Ranking):
    """A re-ranker's answer: a ranking, and what happened to each item.

    The order is by position; `scores_BK` is each item's score, lowered to that of the item above it if needed,
    so that scores never increase. L candidates in a list, N messages.

    Attributes:
        places_BK: int32, the item's position among the candidates, from 0; -1 at padding and for other items.
        moved_BK: int16, index in `reasons` of what moved the item; 0 if nothing did.
        dropped_BL: int16, index in `reasons` of what removed a candidate; 0 if nothing did.
        reasons: names of rules or stages; the first is empty.
        unmet_N2: int32, unsatisfied rules: row of the list, index in `messages`.
        messages: text.
        propensities_BK: float64, the probability of this item at this position; None if nothing was
            random.
        joint_B: float64, the probability of the whole list; None if it is not known.
        draws: 0 if the propensities are exact, else the number of draws from which they are estimated.
        contexts_BF: float32, what a policy saw of each request; None if it saw nothing.
    """

    places_BK: np.ndarray
    moved_BK: np.ndarray
    dropped_BL: np.ndarray
    reasons: tuple[str, ...] = ("",)
    unmet_N2: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    messages: tuple[str, ...] = ()
    propensities_BK: np.ndarray | None = None
    joint_B: np.ndarray | None = None
    draws: int = 0
    contexts_BF: np.ndarray | None = None

    def unmet(self, b: int) -> list[str]:
        """Return messages about unsatisfied rules of list b."""
        return [self.messages[message] for message in self.unmet_N2[self.unmet_N2[:, 0] == b, 1]]


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline's answer.

    Attributes:
        name: as configured.
        kind: retriever, merge, ranker or reranker.
        ranking: lists after it, a `Reranked` for a re-ranker; for a retriever, its own lists.
        seconds: for the whole batch.
    """

    name: str
    kind: Literal["retriever", "merge", "ranker", "reranker"]
    ranking: Ranking
    seconds: float


@dataclass(frozen=True)
class Staged(Ranking):
    """A pipeline's answer: a ranking, its stages, and notes on what went wrong.

    Attributes:
        stages: in execution order, without skipped ones.
        notes_N2: int32, row of the list (-1: every list), index in `messages`.
        messages: text.
    """

    stages: tuple[Stage, ...]
    notes_N2: np.ndarray
    messages: tuple[str, ...]

    @property
    def chance(self) -> Reranked | None:
        """The answer of the stage that drew items at random, whose propensities are those of the list; None if nothing was random.

        Raises:
            ValueError: a later stage, or another one, makes them wrong.
        """
        random = [
            stage.name
            for stage in self.stages
            if isinstance(stage.ranking, Reranked) and stage.ranking.propensities_BK is not None
        ]
        last = self.stages[-1].name
        if len(random) > 1 or (random and random[0] != last):
            raise ValueError(
                f"the propensities of {random[0]} do not hold after {random[1] if len(random) > 1 else last}: a pipeline whose answers are "
                "logged has one stage that draws, and it is the last"
            )
        found = self.stages[-1].ranking
        return found if random and isinstance(found, Reranked) else None

    def notes(self, b: int) -> list[str]:
        """Return the notes on list b."""
        mine = (self.notes_N2[:, 0] == b) | (self.notes_N2[:, 0] == -1)
        return [self.messages[message] for message in self.notes_N2[mine, 1]]


@dataclass(frozen=True)
class UserState:
    """Model states of users that are not rows of the training data, returned by `fold_in`.

    Attributes:
        values: one row per user; meaningful only to the model that created it.
        histories: the histories it was computed from, user b in row b.
        maker: the model that created it, the only one that accepts it; None is not checked.
    """

    values: Any
    histories: Interactions
    maker: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.histories.num_users


Users = np.ndarray | Sequence[int] | UserState


@runtime_checkable
class Recommender(Protocol):
    """Anything that fits a log and ranks items: a model, or a whole pipeline.

    Examples:
        >>> from recsys_dl import Recommender
        >>> from recsys_dl.models import Popularity
        >>> isinstance(Popularity(), Recommender)
        True
    """

    def fit(self, train: Dataset | Interactions) -> Any:
        """Fit to `train`; return self."""
        ...

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> Ranking:
        """Rank the catalog for each user and return the top k."""
        ...

    def score(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L]: the scores of items_BL[b] for user b; -inf where the item is -1."""
        ...

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the k items most similar to each item, excluding itself."""
        ...

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users from their histories; `recommend` accepts it in place of rows."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model to a folder, atomically."""
        ...


@runtime_checkable
class SaysSources(Protocol):
    """A recommender that says what its answers rest on; evaluation reports it for cold users and items.

    Words are free; those in use: "history" (what the user interacted with), "features", "popularity"; of items "interactions",
    "features", and "nothing" where scores mean nothing.
    """

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B]: what the answer to each user rests on."""
        ...

    def item_sources(self) -> np.ndarray:
        """Return text [I]: what the scores of each item rest on."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Anything that reorders candidates: for diversity, by rules, at random."""

    def prepare(self, train: Dataset | Interactions, *, item_vectors_ID: np.ndarray | None = None) -> Any:
        """Collect attributes, histories and ages from `train`; return self."""
        ...

    def rerank(
        self, users: Users, candidates: Ranking, k: int, *, keep: int | None = None, request: int | np.ndarray = 0
    ) -> Reranked:
        """Fill k positions for each user from the candidates; `keep` appends the rest in order, up to that length.

        `request`: the number of the request, or one for each user.
        """
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the prepared state to a folder, atomically."""
        ...


@dataclass(frozen=True)
class Decisions:
    """What a policy shows: arms, best position first, and the probability of each.

    Attributes:
        arms_BK: int32, padded with -1 where there are fewer arms than positions.
        propensities_BK: float64, the probability that this policy shows this arm at this position, given the request; NaN at
            padding.
        joint_B: float64, the probability of the whole slate; None where it is not known.
        scores_BK: float32, what the order rests on, e.g. an upper confidence bound or a draw; -inf at padding.
        draws: 0 if the propensities are exact, else the number of draws from which they are estimated.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.protocols import Decisions
        >>> shown = Decisions(np.array([[3, 1]]), np.array([[0.9, 0.5]]), np.array([0.4]), np.array([[0.2, 0.1]]))
        >>> len(shown), shown.draws
        (1, 0)
    """

    arms_BK: np.ndarray
    propensities_BK: np.ndarray
    joint_B: np.ndarray | None
    scores_BK: np.ndarray
    draws: int = 0

    def __len__(self) -> int:
        return len(self.arms_BK)


@runtime_checkable
class Policy(Protocol):
    """Anything that chooses among arms and learns from what they earn.

    Arms are rows, usually of items. `start` gives the state before any feedback, `update` that after it. Requests are numbered
    by `requests_B`: the same seed, request and state give the same decision, in any batch and on any number of threads.

    Attributes:
        num_arms: A, with retired ones.
    """

    num_arms: int

    def start(self, num_arms: int, *, context_size: int = 0, arm_features_AF: np.ndarray | None = None) -> Any:
        """Take the state before any feedback, with a prior from the arms' features if the policy uses them; return self."""
        ...

    def select(
        self,
        contexts_BF: np.ndarray | None,
        k: int = 1,
        *,
        requests_B: np.ndarray,
        candidates_BL: np.ndarray | None = None,
    ) -> Decisions:
        """Choose k distinct arms for each request, among all active arms or its candidates (padded with -1)."""
        ...

    def probabilities(
        self, contexts_BF: np.ndarray | None, *, num_requests: int, candidates_BL: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float64 [B, A] (or [B, L]): the probability that each arm is shown first; rows sum to 1."""
        ...

    def update(self, feedback: BanditFeedback) -> Any:
        """Learn from known rewards (NaN is skipped), in any order and any batches; return self."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the state to a folder, atomically."""
        ...


def as_policy(value: Any, *, started: bool = False) -> Policy:
    """Return a policy, started if it must be, as it is.

    Raises:
        ValueError: something else, such as its name, its class or its folder.
    """
    if isinstance(value, type) or not all(hasattr(value, one) for one in ("start", "select", "update")):
        got = repr(value) if isinstance(value, str | type) else type(value).__name__
        raise ValueError(
            f"policy must be one of recsys_dl.bandits, such as Thompson(seed=7), or have the methods of Policy, got {shorten(got)}"
        )
    if started and not hasattr(value, "num_arms"):
        raise ValueError(f"this {type(value).__name__} has not been started; call start(num_arms) first")
    return value


@dataclass(frozen=True)
class Input:
    """An input tensor of a user tower, in addition to the history.

    Attributes:
        name: ends in its axes, e.g. "weights_BH", "age_BF".
        dtype: of its numbers.
        shape: after B: ("H",) for one number per history item, else sizes, e.g. (3,).
        fill: default value.
    """

    name: str
    dtype: Literal["float32", "int64", "bool"]
    shape: tuple[int | Literal["H"], ...]
    fill: float = 0.0


@dataclass(frozen=True)
class Served:
    """A fitted model as arrays and torch modules that run without it: returned by `served`, written by `recsys_dl.export`.

    The modules are compiled by TorchScript and traced by `torch.export` with B and H open, so: typed arguments, no branch on
    a number inside a tensor (except under `torch.jit.is_scripting()`), fitted arrays as buffers. Ownership is transferred: the
    caller freezes them and moves them to the CPU. Full rules: docs/export.md.

    Attributes:
        states: float32 [U, S], dense or CSR: the scorer's input for each user row.
        known_U: bool [U]; where False, the state is meaningless, and the row is treated as a new user.
        scorer: `forward(state_BS: Tensor) -> Tensor`, float32 scores [B, I] of the whole catalog.
        user_tower: `forward(history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor`, the states [B, S] of new users.
            history_BH holds int64 item rows, oldest first, padded with -1; it may be all -1. `extra`
            has a tensor for each of `inputs`. None: this model cannot serve new users.
        inputs: in addition to the history.
        item_emb_ID: float32 [I, S] if `scorer` is the inner product of state and embedding (biases as extra columns); else None.
        popularity_I: float32, the scores for users with neither a state nor a history, and for all new users if `user_tower`
            is None. None: the model's own scores are meaningful, so the user tower accepts empty histories, and unknown
            rows have that state.
        influential_I: bool [I]; new users whose histories hold none of these items also get `popularity_I`. None: all.
        listed_I: bool [I], the only items that may be recommended. None: all.
        pair_floats: float32 numbers that the scorer holds per user and item, for the block size.
    """

    states: np.ndarray | sp.csr_matrix
    known_U: np.ndarray
    scorer: nn.Module
    user_tower: nn.Module | None = None
    inputs: tuple[Input, ...] = ()
    item_emb_ID: np.ndarray | None = None
    popularity_I: np.ndarray | None = None
    influential_I: np.ndarray | None = None
    listed_I: np.ndarray | None = None
    pair_floats: int = 1


@runtime_checkable
class Exportable(Protocol):
    """A recommender that can be exported."""

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the fitted model as arrays and torch modules.

        Args:
            seen: known interactions, in the same rows. A user without training interactions, but with some here, gets the
                state from `fold_in`.
        """
        ...
