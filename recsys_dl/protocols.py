"""The nouns that rooms share: what a recommender promises, and what it answers with.

B batch of users, U users, I items, K list, L candidates, H length of a history, S size of a user's state, D embedding size.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions

if TYPE_CHECKING:
    import scipy.sparse as sp
    from torch import nn


@dataclass(frozen=True)
class Ranking:
    """Items best first.

    Attributes:
        items_BK: int32 item rows, padded with -1.
        scores_BK: float32, not increasing along K, padded with -inf.
    """

    items_BK: np.ndarray
    scores_BK: np.ndarray

    def __len__(self) -> int:
        return len(self.items_BK)


@dataclass(frozen=True)
class Reranked(Ranking):
    """What a re-ranker answers: a ranking, and what happened to each item.

    The order is that of the places; `scores_BK` is each item's score or, where a better place holds a lower one, that
    lower one, so that scores never increase. L candidates of a list, N messages.

    Attributes:
        places_BK: int32, where the item stood among the candidates, 0 the first; -1 at padding and where it was none of them.
        moved_BK: int16, position in `reasons` of what put the item where it is; 0 where nothing did.
        dropped_BL: int16, position in `reasons` of what took a candidate out; 0 where nothing did.
        reasons: names of rules or stages; the first is empty.
        unmet_N2: int32, what could not be kept: row of the list, position in `messages`.
        messages: in words.
        propensities_BK: float64, the probability with which this item was put at this place; None where nothing was
            left to chance.
    """

    places_BK: np.ndarray
    moved_BK: np.ndarray
    dropped_BL: np.ndarray
    reasons: tuple[str, ...] = ("",)
    unmet_N2: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    messages: tuple[str, ...] = ()
    propensities_BK: np.ndarray | None = None

    def unmet(self, b: int) -> list[str]:
        """Return in words what could not be kept in list b."""
        return [self.messages[message] for message in self.unmet_N2[self.unmet_N2[:, 0] == b, 1]]


@dataclass(frozen=True)
class Stage:
    """One stage of a pipeline's answer.

    Attributes:
        name: as configured.
        kind: what it is.
        ranking: lists after it, a `Reranked` of a re-ranker; of a retriever, what it found itself.
        seconds: that it took for the whole batch.
    """

    name: str
    kind: Literal["retriever", "merge", "ranker", "reranker"]
    ranking: Ranking
    seconds: float


@dataclass(frozen=True)
class Staged(Ranking):
    """What a pipeline answers: a ranking, how it came about, and what did not go as it should.

    Attributes:
        stages: in the order in which they ran; one that was passed over is missing.
        notes_N2: int32, row of the list (-1: every list), position in `messages`.
        messages: in words.
    """

    stages: tuple[Stage, ...]
    notes_N2: np.ndarray
    messages: tuple[str, ...]

    def notes(self, b: int) -> list[str]:
        """Return in words what list b went without."""
        mine = (self.notes_N2[:, 0] == b) | (self.notes_N2[:, 0] == -1)
        return [self.messages[message] for message in self.notes_N2[mine, 1]]


@dataclass(frozen=True)
class UserState:
    """Users that are not rows of the training data, as a model sees them: what `fold_in` returns.

    Attributes:
        values: one row a user; only the model that made it knows its meaning.
        histories: what they were made from, user b in row b.
        maker: the model that made it, which alone takes it; None is not checked.
    """

    values: Any
    histories: Interactions
    maker: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return self.histories.num_users


Users = np.ndarray | Sequence[int] | UserState


@runtime_checkable
class Recommender(Protocol):
    """Whatever fits a log and ranks items: a model, or a whole pipeline."""

    def fit(self, train: Dataset | Interactions) -> Any:
        """Learn from `train`; return self."""
        ...

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> Ranking:
        """Rank the catalog for each user and return the best k."""
        ...

    def score(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L]: how much user b wants each of items_BL[b]; -inf where the item is -1."""
        ...

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the k items nearest to each item, itself left out."""
        ...

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of users never seen, from what they did; `recommend` takes it in place of rows."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted model to a folder that appears whole or not at all."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Whatever puts candidates into another order: for diversity, by rules, by chance."""

    def prepare(self, train: Dataset | Interactions, *, item_vectors_ID: np.ndarray | None = None) -> Any:
        """Learn from `train` what lists are judged by (attributes, histories, ages); return self."""
        ...

    def rerank(
        self, users: Users, candidates: Ranking, k: int, *, keep: int | None = None, request: int = 0
    ) -> Reranked:
        """Fill k places for each user from the candidates; `keep` appends the rest in its order, up to that length."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write what `prepare` learned to a folder that appears whole or not at all."""
        ...


@dataclass(frozen=True)
class Input:
    """A tensor that a user tower wants beside the history.

    Attributes:
        name: ends in its axes, e.g. "weights_BH", "age_BF".
        dtype: of its numbers.
        shape: after B: ("H",) for one number an item of the history, else sizes, e.g. (3,).
        fill: what stands where nobody says anything.
    """

    name: str
    dtype: Literal["float32", "int64", "bool"]
    shape: tuple[int | Literal["H"], ...]
    fill: float = 0.0


@dataclass(frozen=True)
class Served:
    """A fitted model as arrays and torch modules that run without it: what `served` returns and `recsys_dl.export` writes.

    The modules are compiled by TorchScript and traced by `torch.export` with B and H open, so: typed arguments, no branch on
    a number inside a tensor (but under `torch.jit.is_scripting()`), fitted arrays as buffers. They are given away: whoever
    takes them freezes them and moves them to the CPU. The rules in full: docs/export.md.

    Attributes:
        states: float32 [U, S], dense or CSR: what the scorer needs of each user row.
        known_U: bool [U]; where False, the state says nothing, and the row is answered as someone unseen.
        scorer: `forward(state_BS: Tensor) -> Tensor`, float32 scores [B, I] of the whole catalog.
        user_tower: `forward(history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor`, the states [B, S] of people unseen.
            history_BH holds int64 item rows, oldest first, the rest of a row filled with -1; it may be all -1. `extra`
            has a tensor for each of `inputs`. None: this model cannot serve them.
        inputs: beside the history.
        item_emb_ID: float32 [I, S] if `scorer` is the inner product of state and embedding (biases as columns more); else None.
        popularity_I: float32, the scores for whoever has neither a state nor a history, and for all unseen where `user_tower`
            is None. None: the model's own answer means something, so the user tower takes empty histories, and rows that
            are not known have the state of one.
        pair_floats: float32 numbers that the scorer holds at once for each user and item, for the size of blocks.
    """

    states: np.ndarray | sp.csr_matrix
    known_U: np.ndarray
    scorer: nn.Module
    user_tower: nn.Module | None = None
    inputs: tuple[Input, ...] = ()
    item_emb_ID: np.ndarray | None = None
    popularity_I: np.ndarray | None = None
    pair_floats: int = 1


@runtime_checkable
class Exportable(Protocol):
    """A recommender that can leave this package."""

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the fitted model as arrays and torch modules.

        Args:
            seen: what users had by now, by the same rows. A user that training had nothing of, but who is here, gets the
                state that `fold_in` gives.
        """
        ...
