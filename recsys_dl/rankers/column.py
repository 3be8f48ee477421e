"""The interface of a feature column: a few candidate features that belong together.

U users, I items, B users in a block, L candidates, C features in a column.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from recsys_dl.arguments import parameters_of
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions


@dataclass(frozen=True)
class Known:
    """The data that features are computed from.

    Attributes:
        log: interactions up to `now`.
        data: the same with ids and side features; None if only interactions were given.
        now: seconds since 1970; None if the log has no times.
        retrievers: names of the retrievers whose scores come with candidates.
        num_learned: items, the first rows, whose features columns learn their encoding from; None: all.
    """

    log: Interactions
    data: Dataset | None
    now: int | None
    retrievers: tuple[str, ...]
    num_learned: int | None = None


@dataclass(frozen=True)
class Block:
    """A block of candidates to compute features for.

    Attributes:
        users_B: user rows; None for new users.
        histories: of new users, user b in row b; None for user rows.
        items_BL: item rows, 0 at padding.
        valid_BL: False at padding.
        retriever_scores: by retriever, float32 [B, L], -inf if it has no score for the candidate.
        retriever_ranks: by retriever, int32 [B, L], from 1, in the retriever's list; 0 if the candidate is not in it.
    """

    users_B: np.ndarray | None
    histories: Interactions | None
    items_BL: np.ndarray
    valid_BL: np.ndarray
    retriever_scores: Mapping[str, np.ndarray]
    retriever_ranks: Mapping[str, np.ndarray]


class Column(ABC):
    """A few features that belong together. Arguments are plain values, stored under their own names.

    A subclass sets `names` in `fit` and lists its learned arrays in `fitted`. `values` must be bitwise independent of the other users
    in the block: training computes thousands at once, serving one.

    Attributes:
        names: of the C features.
    """

    fitted: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...]

    @abstractmethod
    def fit(self, known: Known) -> None:
        """Learn what is needed from users and items."""

    @abstractmethod
    def values(self, block: Block) -> np.ndarray:
        """Return float32 [B, L, C], finite; arbitrary at padding."""

    def grow(self, known: Known) -> None:  # noqa: B027  what is of users or of retrievers knows nothing of items
        """Take in items after those of `fit`, without interactions; what was learned of the others stays. `known.log` has no times."""

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the learned arrays."""
        return {name: getattr(self, name) for name in self.fitted} | {"names": np.array(self.names, np.str_)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Restore from `arrays`."""
        for name in self.fitted:
            setattr(self, name, arrays[name])
        self.names = tuple(arrays["names"].tolist())


class ItemColumn(Column):
    """Features of the item alone: a subclass sets `values_IC` and `names` in `fit`."""

    fitted = ("values_IC",)
    values_IC: np.ndarray

    def grow(self, known: Known) -> None:
        """Add the values of items without interactions."""
        num_new = known.log.num_items - len(self.values_IC)
        self.values_IC = np.concatenate([self.values_IC, np.tile(self._of_new(), (num_new, 1))])

    def _of_new(self) -> np.ndarray:
        """Return float32 [C], the values of an item without interactions."""
        return np.zeros(self.values_IC.shape[1], np.float32)

    def values(self, block: Block) -> np.ndarray:
        """Return the items' rows."""
        return self.values_IC[block.items_BL]


class UserColumn(Column):
    """Features of a user's interactions, for known and new users: a subclass implements `_of` and sets `names`."""

    fitted: ClassVar[tuple[str, ...]] = ("values_UC", "now")
    values_UC: np.ndarray
    now: np.ndarray

    @abstractmethod
    def _of(self, log: Interactions, now: int) -> np.ndarray:
        """Return float32 [U, C] of a log's users; `now` is 0 without times."""

    def fit(self, known: Known) -> None:
        """Compute features of the log's users."""
        self.now = np.asarray(known.now or 0)
        self.values_UC = self._of(known.log, int(self.now))

    def values(self, block: Block) -> np.ndarray:
        """Return the users' rows, the same for every candidate."""
        if block.histories is not None:
            values_BC = self._of(block.histories, int(self.now))
        else:
            values_BC = self.values_UC[block.users_B]
        return np.broadcast_to(values_BC[:, None], (*block.items_BL.shape, values_BC.shape[1]))
