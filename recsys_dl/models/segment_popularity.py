"""The most popular items of users like this one: a first list for people of whom only features are known."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from typing_extensions import Self

from recsys_dl.arguments import NotNegative
from recsys_dl.data.column_types import family_of, numbers_of, values_of
from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.names import near
from recsys_dl.protocols import Served, Users, UserState

log = logging.getLogger(__name__)

DISTINCT_NUMBERS = 10  # beyond these, numbers are cut into quarters
SINGLE = ("text", "true or false", "whole numbers", "numbers", "dates")


class SegmentPopularity(CatalogModel):
    """score(u, i) = (n_gi + prior p_i) / (n_g + prior), for the segment g of user u.

    n_g users of the segment interacted with something, n_gi of them with item i; p_i is the share among all users, toward which
    small segments are drawn. A segment is a combination of the values of the columns in `by`; numbers of more than ten
    values are cut at their quartiles. Users without a value, or of a segment that training did not have, get p_i. A
    user's own history is not looked at: the model is for users who have none.

    Args:
        by: columns of the user features; None takes all of text, truth values, numbers and dates.
        prior: in users.

    Attributes:
        counts_GI: float32, n_gi; the last row is of all users.
        sizes_G: float32, n_g, likewise.
        segments_U: int64, each user's segment; G - 1 for none.

    Raises:
        ValueError: a column that the user features do not have, or that holds lists.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import SegmentPopularity
        >>> people = pl.DataFrame({"plan": ["free", "free", "paid", "paid"]})
        >>> log = Interactions([0, 2], [0, 1], num_users=4)
        >>> train = Dataset(log, Vocabulary(["a", "b", "c", "d"]), Vocabulary(["x", "y"]), user_features=people)
        >>> SegmentPopularity(prior=1).fit(train).recommend([1, 3], k=1).items_BK.tolist()
        [[0], [1]]
    """

    fitted = ("counts_GI", "sizes_G", "segments_U")
    popularity_fallback = False
    counts_GI: np.ndarray
    sizes_G: np.ndarray
    segments_U: np.ndarray
    columns: dict[str, Any]
    known: list[str]

    def __init__(self, *, by: Sequence[str] | str | None = None, prior: NotNegative = 50.0) -> None:
        self.by = [by] if isinstance(by, str) else None if by is None else list(by)
        self.prior = prior

    def fit(self, train: Dataset | Interactions) -> Self:
        """Count distinct users per item and segment."""
        interactions = self._begin(train)
        frame = train.user_features if isinstance(train, Dataset) else None
        self.columns, self.known = self._learned(frame), []
        names_U = self._names(frame, self.num_users)
        self.known = sorted({name for name in names_U if name is not None})
        self.segments_U = self._rows(names_U)
        seen_UI = interactions.by_user.sign()
        active_U = self.user_counts_U > 0
        counts = [np.asarray(seen_UI[self.segments_U == row].sum(axis=0)).ravel() for row in range(len(self.known))]
        self.counts_GI = np.array([*counts, self.item_counts_I], np.float32)
        sizes = [(active_U & (self.segments_U == row)).sum() for row in range(len(self.known))]
        self.sizes_G = np.array([*sizes, active_U.sum()], np.float32)
        return self

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users: the segments that the user features of a Dataset put them in."""
        state = super().fold_in(histories)
        frame = histories.user_features if isinstance(histories, Dataset) else None
        return UserState(self._rows(self._names(frame, len(state))), state.histories, self)

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B]: "features" for users of a known segment, else "popularity"."""
        _, rows, _ = self._resolved(users)
        return np.where(rows < len(self.known), "features", "popularity")

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state, with the columns and the names of the segments."""
        about = {"columns": self.columns, "known": self.known}
        return super().arrays() | {"schema": np.frombuffer(json.dumps(about).encode(), np.uint8)}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        about = json.loads(arrays["schema"].tobytes().decode())
        self.columns, self.known = about["columns"], about["known"]

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`; new users get the popularity among all."""
        from recsys_dl.families.served import InnerProduct

        shares_IG = np.ascontiguousarray(self._shares().T)
        states_UG = np.eye(len(self.sizes_G), dtype=np.float32)[self.segments_U]
        return Served(
            states=states_UG,
            known_U=np.ones(self.num_users, bool),
            scorer=InnerProduct(shares_IG),
            item_emb_ID=shares_IG,
            popularity_I=shares_IG[:, -1].copy(),
        )

    # Internal

    def _learned(self, frame: pl.DataFrame | None) -> dict[str, Any]:
        """Return columns, and the cuts of those that are numbers."""
        if frame is None:
            if self.by is not None:
                raise ValueError(
                    f"by={self.by} needs user features, but the data has none: provide them with read_log(…, user_features=…), or "
                    "data.user_features=FILE on the command line"
                )
            log.warning("the data has no user features: everyone is in one segment, as with model=popularity")
            return {}
        columns: dict[str, Any] = {}
        for name in frame.columns if self.by is None else self.by:
            if name not in frame.columns:
                raise ValueError(
                    f"by names {name!r}, which is not a column of the user features{near(name, frame.columns)}; they are "
                    f"{', '.join(map(repr, frame.columns))}"
                )
            family = family_of(frame.schema[name])
            if family not in SINGLE:
                if self.by is not None:
                    raise ValueError(
                        f"by must name columns of single values, but {name!r} of the user features holds {family}"
                    )
                continue
            cuts = None
            if family in SINGLE[2:] and frame[name].n_unique() > DISTINCT_NUMBERS:
                numbers = numbers_of(frame[name], "user")
                cuts = np.unique(np.quantile(numbers[~np.isnan(numbers)], (0.25, 0.5, 0.75))).tolist()
            columns[name] = cuts
        return columns

    def _names(self, frame: pl.DataFrame | None, num: int) -> list[str | None]:
        """Return each user's combination of values as text; None where one is missing."""
        if not self.columns or frame is None:
            return [None] * num
        if missing := [name for name in self.columns if name not in frame.columns]:
            raise ValueError(
                f"the user features must have the column {missing[0]!r} as in training, got {frame.columns}"
            )
        parts = []
        for name, cuts in self.columns.items():
            if cuts is None:
                texts = values_of(frame[name])
                found = dict(zip(texts["row"].to_list(), texts["value"].to_list(), strict=True))
                parts.append([found.get(row) for row in range(num)])
            else:
                numbers = numbers_of(frame[name], "user")
                parts.append([None if np.isnan(x) else f"quarter {np.searchsorted(cuts, x)}" for x in numbers])
        return [None if None in values else json.dumps(values) for values in zip(*parts, strict=True)]

    def _rows(self, names: Sequence[str | None]) -> np.ndarray:
        at = dict(zip(self.known, itertools.count(), strict=False))
        return np.array(
            [at.get(name, len(self.known)) if name is not None else len(self.known) for name in names], np.int64
        )

    def _shares(self, segments: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return float32 [G, I], or the rows of some segments."""
        among_all_I = self.counts_GI[-1] / max(1.0, float(self.sizes_G[-1]))
        sizes = np.maximum(self.sizes_G[segments] + self.prior, 1e-9)
        return ((self.counts_GI[segments] + self.prior * among_all_I) / sizes[:, None]).astype(np.float32)

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return self.segments_U[users_B]

    def _fold(self, histories: Interactions) -> np.ndarray:
        return np.full(as_interactions(histories).num_users, len(self.known))

    def _influential_items(self) -> np.ndarray:
        return np.ones(self.num_items, bool)  # it ignores histories, so that none is unknown to it

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return self._shares(values)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the items' shares by segment; -inf where either has no users."""
        return self._cosines(np.ascontiguousarray(self._shares().T), items_B)
