"""The nouns that rooms share: what a recommender promises, and what it answers with.

B batch of users, I items, K list, L candidates.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions


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
class UserState:
    """Users that are not rows of the training data, as a model sees them: what `fold_in` returns.

    Attributes:
        values: one row a user; only the model that made it knows its meaning.
        histories: what they were made from, user b in row b.
    """

    values: Any
    histories: Interactions

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
        """Rank the catalogue for each user and return the best k."""
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
