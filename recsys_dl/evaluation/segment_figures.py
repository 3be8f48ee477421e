"""Judging a model's lists once more for each set of relevant items, and what that gives for segments.

B users of a block, U test users, I items, K list.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.metrics import ranking
from recsys_dl.metrics.intervals import Sample, intervals
from recsys_dl.processes import Group
from recsys_dl.protocols import Ranking, Recommender, SaysSources

from . import ties
from .questions import Questions
from .segment_table import SegmentRow, SegmentTable
from .segments import COLD, Segment, Segmentation, segments_of

OF_COLD = ("recall@20", "recall@100", "ndcg@20")


class Ask(Protocol):
    """Asks a model for lists."""

    def __call__(self, at_B: np.ndarray, length: int, allow: np.ndarray | None = None) -> Ranking:
        """Return the lists of test users, by position among them; `allow`: the only items in them."""
        ...


class SegmentFigures:
    """Collects the figures of segments while an evaluation passes over its users.

    Lists are asked for once for all segments, except that of the cold items alone, for users who have any. A view is a set of relevant items and of
    candidates; segments of users are cut out of the view's values.

    Args:
        asked: as `evaluate` takes it.
        model: the model.
        questions: of the evaluation.
        train: as `evaluate` takes it.
        ks: list lengths of the evaluation.
        metrics: of the evaluation; None for its defaults.
        gains, blank_users: conventions of the evaluation; users without a relevant item in a set of items are always left out.

    Attributes:
        length: of the lists needed, with one more item than judged where that shows a tie.
    """

    def __init__(
        self,
        asked: Segmentation,
        model: Recommender,
        questions: Questions,
        train: Dataset | Interactions,
        ks: Sequence[int],
        metrics: Sequence[str] | None,
        *,
        gains: ranking.Gains,
        blank_users: ranking.BlankUsers,
    ) -> None:
        self.segments, self.notes = segments_of(asked, questions, train)
        self.model, self.questions, self.gains, self.blank_users = model, questions, gains, blank_users
        self.num_items = questions.known.num_items
        self.cold_items = np.flatnonzero(questions.known.item_counts_I == 0)
        words = [asked] if isinstance(asked, str) else list(asked)
        self.names = self._names(ks, metrics, COLD in words)
        self.ks = sorted({int(name.partition("@")[2]) for name in self.names})
        self.length = ties.reach(model, self.ks[-1], self.num_items)
        self.views = {(id(one.items_I), one.alone): one for one in self.segments}
        self.values: dict[Any, dict[str, np.ndarray]] = {
            view: {name: np.full(len(questions.users), np.nan) for name in self.names} for view in self.views
        }
        self.numbers = {view: np.zeros(len(questions.users), np.int64) for view in self.views}
        self.sources_U = np.full(len(questions.users), "", dtype=object)
        # not isinstance(model, SaysSources): an index passes on what its model has, which Python 3.12 does not see
        self.says: SaysSources | None = model if hasattr(model, "user_sources") else None  # type: ignore[assignment]
        self.item_sources = None if self.says is None else self.says.item_sources()
        self.unordered = self.asked_alone = 0
        self.judged: list[np.ndarray] = []

    def _names(self, ks: Sequence[int], metrics: Sequence[str] | None, cold: bool) -> list[str]:
        chosen = ["ndcg", "recall"] if metrics is None else [name for name in metrics if name in ranking.METRICS]
        if not chosen:
            raise ValueError(
                f"segments need a ranking metric, of {', '.join(ranking.METRICS)}, got metrics={list(metrics or [])}"
            )
        names = {f"{name}@{k}" for name in chosen for k in ks}
        if cold and metrics is None:
            names |= {name for name in OF_COLD if int(name.partition("@")[2]) <= self.num_items}
        return sorted(names, key=lambda name: (name.partition("@")[0], int(name.partition("@")[2])))

    def judge(self, at_B: np.ndarray, lists: Ranking, ask: Ask) -> None:
        """Take a block's lists of `length`, and how to ask for others."""
        metrics = list(dict.fromkeys(name.partition("@")[0] for name in self.names))
        how: dict[str, Any] = {"metrics": metrics, "ks": self.ks, "gains": self.gains}
        whole = self.questions.relevant[at_B]
        self.judged.append(at_B)
        self._note_sources(at_B)
        for view, one in self.views.items():
            relevant = whole if one.items_I is None else _only(whole, one.items_I)
            number_B = np.asarray((relevant > 0).sum(axis=1)).ravel()
            self.numbers[view][at_B] = number_B
            mine = np.arange(len(at_B)) if one.items_I is None else np.flatnonzero(number_B)
            if not len(mine):
                continue
            allow = self.cold_items if one.alone else None
            some = partial(ask, allow=allow)
            if one.alone:
                found = some(at_B[mine], self.length)
                self.asked_alone += len(mine)
                self.unordered += int(ties.orders_nothing(found, self.ks[-1]).sum())
            else:
                found = lists if len(mine) == len(at_B) else ties.rows_of(lists, mine)
            blank: ranking.BlankUsers = self.blank_users if one.items_I is None else "left_out"
            judged = ties.accuracy(some, found, at_B[mine], relevant[mine], blank_users=blank, **how)
            for name in self.names:
                self.values[view][name][at_B[mine]] = judged[name]

    def join(self, group: Group) -> None:
        """Take in what other processes have found for their users."""
        if group.size == 1:
            return
        at = np.concatenate([np.zeros(0, np.int64), *self.judged])
        columns = [*self.numbers.values(), *(array for one in self.values.values() for array in one.values())]
        columns.append(self.sources_U)
        for theirs, found in group.gather((at, [column[at] for column in columns])):
            for column, values in zip(columns, found, strict=True):
                column[theirs] = values
        self.unordered, self.asked_alone = sum(
            np.array(pair) for pair in group.gather((self.unordered, self.asked_alone))
        ).tolist()  # type: ignore[union-attr]

    def _note_sources(self, at_B: np.ndarray) -> None:
        if self.says is not None:
            users, _ = self.questions.request(self.questions.users[at_B])
            state = self.model.fold_in(users) if isinstance(users, Interactions) else users
            self.sources_U[at_B] = self.says.user_sources(state)

    def table(self, *, confidence: float, num_resamples: int, seed: int) -> SegmentTable:
        """Return the figures, with intervals."""
        how = {"confidence": confidence, "num_resamples": num_resamples, "seed": seed}
        rows, empty = [], []
        for one in self.segments:
            row = self._row(one, how)
            if row.users:
                rows.append(row)
            else:
                empty.append(one.name)
        notes = list(self.notes)
        if empty:
            notes.append(f"no users with a relevant item: {'; '.join(dict.fromkeys(empty))}")
        if self.unordered:
            notes.append(
                f"{type(self.model).__name__} gives all cold items the same score for {self.unordered:,} of {self.asked_alone:,} users: among cold items "
                "alone, their order is random"
            )
        return SegmentTable(tuple(rows), tuple(self.names), len(self.cold_items), tuple(notes))

    def _row(self, one: Segment, how: dict[str, Any]) -> SegmentRow:
        view = (id(one.items_I), one.alone)
        number_U, values = self.numbers[view], self.values[view]
        mine_U = np.ones(len(number_U), bool) if one.users_U is None else one.users_U
        counted_U = mine_U & ~np.isnan(values[self.names[0]])
        kept_U = mine_U if one.items_I is None else counted_U
        per_user = {name: array[kept_U] for name, array in values.items()}
        samples = [Sample(array) for array in per_user.values()]
        ends = intervals(samples, **how) if counted_U.any() else np.zeros((0, 2))
        return SegmentRow(
            segment=one.name,
            candidates="cold items" if one.alone else "all items",
            users=int(counted_U.sum()),
            left_out=int((mine_U & (number_U == 0)).sum()),
            items=int(number_U[counted_U].sum()),
            answered_by=_shares_of(self.sources_U[counted_U]),
            scored_by=self._scored_by(one, counted_U),
            values={name: sample.value for name, sample in zip(per_user, samples, strict=True)},
            intervals={name: (float(low), float(high)) for name, (low, high) in zip(per_user, ends, strict=False)},
            rows=self.questions.users[kept_U],
            per_user=per_user,
        )

    def _scored_by(self, one: Segment, counted_U: np.ndarray) -> dict[str, float]:
        """Return what cold items are scored by, as shares of the relevant ones; nothing for other segments."""
        if (
            self.item_sources is None
            or one.items_I is None
            or (self.questions.known.item_counts_I[one.items_I] > 0).any()
        ):
            return {}
        relevant = _only(self.questions.relevant[np.flatnonzero(counted_U)], one.items_I)
        return _shares_of(self.item_sources[relevant.indices[relevant.data > 0]])


def _only(relevant: sp.csr_matrix, items_I: np.ndarray) -> sp.csr_matrix:
    """Return the same grades, 0 for items outside the segment."""
    some = relevant.copy()
    some.data[~items_I[some.indices]] = 0
    return some


def _shares_of(words: np.ndarray) -> dict[str, float]:
    """Return the share of each word, leaving out "", for unknown."""
    found, counts = np.unique(words[words != ""].astype(str), return_counts=True)
    return {str(word): float(count / counts.sum()) for word, count in zip(found, counts, strict=True)}
