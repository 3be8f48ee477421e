"""What lists a run is asked for, and its answers as rows. B lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Ranking


@dataclass(frozen=True)
class Requests:
    """The requested lists.

    Attributes:
        names: user ids in the output.
        rows_B: rows of known users, or None.
        histories: of new users, list b in row b, or None.
        tastes: stated by the only new user, or None.
    """

    names: pl.Series
    rows_B: np.ndarray | None
    histories: Interactions | None
    tastes: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def part(self, block: slice) -> Requests:
        """Return some of them."""
        if self.rows_B is not None:
            return Requests(self.names[block], self.rows_B[block], None)
        assert self.histories is not None
        return Requests(self.names[block], None, self.histories.of_users(np.arange(len(self))[block]), self.tastes)


@dataclass(frozen=True)
class Flat:
    """The non-padding entries of a ranking, flattened."""

    lists: np.ndarray
    items: np.ndarray
    ranks: np.ndarray
    scores: np.ndarray


def flattened(ranking: Ranking) -> Flat:
    """Return a ranking's entries without the padding."""
    lists, places = np.nonzero(ranking.items_BK >= 0)
    return Flat(lists, ranking.items_BK[lists, places], places + 1, ranking.scores_BK[lists, places])
