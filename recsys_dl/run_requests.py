"""What lists a run is asked for, and its answers as rows. B lists."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking

log = logging.getLogger(__name__)

NOTHING_LEFT = "no item is left: the user has interacted with all items that are allowed, they are excluded, or the model knows nothing of them"


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


def requests_of_log(histories: Dataset, items: Vocabulary, folder: Path) -> Requests:
    """Return the users of a log that the run does not know; what it says of items unknown to the run is dropped.

    `items`, `folder`: of the run.

    Raises:
        ValueError: the run knows none of the items.
    """
    given = histories.seen
    known_I = items.find(histories.items.ids)
    items_N = known_I[given.items_N]
    kept = items_N >= 0
    if not kept.any():
        raise ValueError(
            f"none of the {len(histories.items):,} items in the histories is known to {folder}: they look like "
            f"{_some(histories.items.ids)}, the run's like {_some(items.ids)}"
        )
    if not kept.all():
        strange = histories.items.ids.filter(pl.Series(known_I < 0))
        log.warning(
            "%d of %d rows of the histories name items unknown to the run (%s) and are dropped",
            (~kept).sum(),
            len(kept),
            _some(strange),
        )
    lost = np.setdiff1d(given.users_N, given.users_N[kept])
    if len(lost):
        log.warning(
            "nothing is left of the histories of %d of %d users, such as %r: they are treated as users without a history, and "
            "usually get the most popular items",
            *(len(lost), given.num_users, histories.users.ids[int(lost[0])]),
        )
    times = None if given.times_N is None else given.times_N[kept]
    columns = (given.users_N[kept], items_N[kept], given.weights_N[kept], times)
    return Requests(histories.users.ids, None, Interactions(*columns, num_users=given.num_users, num_items=len(items)))


def _some(ids: pl.Series) -> str:
    return ", ".join(map(repr, ids.head(3)))


def counted_lists(requests: Requests, tables: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Yield tables of the requested lists; with the last, log how many lists are empty and why that may be."""
    having, ahead = 0, None
    for table in tables:
        if ahead is not None:
            yield ahead
        having, ahead = having + table["user_id"].n_unique(), table
    if having < (size := requests.names.n_unique()):
        log.warning("empty lists: %d of %d; %s", size - having, size, NOTHING_LEFT)
    if ahead is not None:
        yield ahead
