"""What a column of candidate features is: a few features that belong together.

U users, I items, B users of a block, L candidates, C features of a column.
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
    """What features are made from.

    Attributes:
        log: what users did up to `now`.
        data: the same with names and side features; None where the log came alone.
        now: seconds since 1970; None where the log has no times.
        retrievers: names of those whose scores come with candidates.
    """

    log: Interactions
    data: Dataset | None
    now: int | None
    retrievers: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """Candidates that features are wanted of.

    Attributes:
        users_B: user rows; None for users that are no rows.
        histories: what those did, user b in row b; None for user rows.
        items_BL: item rows, 0 at padding.
        valid_BL: False at padding.
        retriever_scores: by retriever, float32 [B, L], -inf where it gives the candidate none.
        retriever_ranks: by retriever, int32 [B, L], from 1, in the list that it returned; 0 where that does not hold the candidate.
    """

    users_B: np.ndarray | None
    histories: Interactions | None
    items_BL: np.ndarray
    valid_BL: np.ndarray
    retriever_scores: Mapping[str, np.ndarray]
    retriever_ranks: Mapping[str, np.ndarray]


class Column(ABC):
    """A few features that belong together. Arguments are plain values, kept under their own names.

    A subclass sets `names` in `fit` and lists what it learned in `fitted`. `values` must not depend on which other users are in
    the block, to the bit: training asks for thousands at once, serving for one.

    Attributes:
        names: of the C features.
    """

    fitted: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...]

    @abstractmethod
    def fit(self, known: Known) -> None:
        """Learn what is needed of users and items."""

    @abstractmethod
    def values(self, block: Block) -> np.ndarray:
        """Return float32 [B, L, C], finite; whatever at padding."""

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned."""
        return {name: getattr(self, name) for name in self.fitted} | {"names": np.array(self.names, np.str_)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take what `arrays` returned."""
        for name in self.fitted:
            setattr(self, name, arrays[name])
        self.names = tuple(arrays["names"].tolist())


class ItemColumn(Column):
    """Features of the item alone: a subclass sets `values_IC` and `names` in `fit`."""

    fitted = ("values_IC",)
    values_IC: np.ndarray

    def values(self, block: Block) -> np.ndarray:
        """Return the items' rows."""
        return self.values_IC[block.items_BL]


class UserColumn(Column):
    """Features of what a user did, whether a row of the log or not: a subclass gives `_of` and sets `names`."""

    fitted: ClassVar[tuple[str, ...]] = ("values_UC", "now")
    values_UC: np.ndarray
    now: np.ndarray

    @abstractmethod
    def _of(self, log: Interactions, now: int) -> np.ndarray:
        """Return float32 [U, C] of a log's users; `now` is 0 where there are no times."""

    def fit(self, known: Known) -> None:
        """Describe the log's users."""
        self.now = np.asarray(known.now or 0)
        self.values_UC = self._of(known.log, int(self.now))

    def values(self, block: Block) -> np.ndarray:
        """Return the users' rows, the same for every candidate."""
        if block.histories is not None:
            values_BC = self._of(block.histories, int(self.now))
        else:
            values_BC = self.values_UC[block.users_B]
        return np.repeat(values_BC[:, None], block.items_BL.shape[1], axis=1)
