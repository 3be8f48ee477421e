"""Features of retrieved candidates, declared as a list of columns; training and serving run the same code.

U users, I items, B users, L candidates, F features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from typing_extensions import Self

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.groups import BLOCK_BYTES
from recsys_dl.data.interactions import Interactions
from recsys_dl.earlier import current_path
from recsys_dl.protocols import Users, UserState
from recsys_dl.saving import Saved
from recsys_dl.trust import class_named

from .column import Block, Column, Known


class CandidateFeatures(Saved):
    """A ranker's input features for each (user, candidate).

    Args:
        columns: of `rankers.columns` and `rankers.side_columns`, or mappings of `_target_` (import path) and arguments.

    Attributes:
        names: of the F features.
        num_users: U, of the log it was fitted on.
        num_items: I.

    Raises:
        ValueError: no columns.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.columns import ItemPopularity
        >>> features = CandidateFeatures([ItemPopularity()]).fit(Interactions([0, 1, 1], [0, 0, 1]))
        >>> features.names, features.compute([0], [[0, 1]]).round(2)
        (('popularity',), array([[[1.1 ],
                [0.69]]], dtype=float32))
    """

    noun = "set of candidate features"
    names: tuple[str, ...]
    num_users: int
    num_items: int

    def __init__(self, columns: Sequence[Column | Mapping[str, Any]]) -> None:
        self.columns = [column if isinstance(column, Column) else _built(column) for column in columns]
        if not self.columns:
            raise ValueError("candidates need at least one column of features, got none")

    def fit(self, train: Dataset | Interactions, *, now: int | None = None, retrievers: Sequence[str] = ()) -> Self:
        """Fit the columns.

        Args:
            train: the log up to `now`; when training a ranker, only interactions before the labels.
            now: reference time, seconds since 1970; None means the log's latest time.
            retrievers: names of the retrievers whose scores are passed to `compute`.

        Raises:
            ValueError: an interaction is later than `now`, or a column needs data that is missing.
        """
        log = as_interactions(train)
        if log.times_N is not None and len(log):
            latest = int(log.times_N.max())
            if now is not None and latest > now:
                raise ValueError(
                    f"features must not use interactions after now={now}, but the log extends to {latest}; cut the "
                    "log there"
                )
            now = latest if now is None else now
        elif now is not None:
            raise ValueError("now requires a log with times; include a time column, or leave now out")
        known = Known(log, train if isinstance(train, Dataset) else None, now, tuple(retrievers))
        self.num_users, self.num_items = log.num_users, log.num_items
        for column in self.columns:
            column.fit(known)
        self._name()
        return self

    def grow(self, data: Dataset, *, num_learned: int) -> Self:
        """Take in items that follow those of `fit`, as a trained ranker sees them; return self.

        Args:
            data: the same log, whose times are not needed, over more items, with all their features.
            num_learned: items of the log in `fit`, the first rows.

        Raises:
            ValueError: not fitted, or features of other columns.
        """
        self._check_fitted()
        names, columns = self.names, [copy.copy(column) for column in self.columns]
        known = Known(data.interactions, data, None, (), num_learned)
        for column in columns:
            column.grow(known)
        if (now := tuple(name for column in columns for name in column.names)) != names:
            raise ValueError(f"items must have the features of training, {', '.join(names)}, got {', '.join(now)}")
        self.columns, self.num_items = columns, data.num_items
        return self

    def compute(
        self,
        users: Users,
        items_BL: np.ndarray,
        retriever_scores: Mapping[str, np.ndarray] | None = None,
        valid_BL: np.ndarray | None = None,
        *,
        retriever_ranks: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Return float32 [B, L, F], 0 at padding. A user's features are bitwise independent of the other users.

        Args:
            users: user rows, or the state that a recommender's `fold_in` returned.
            items_BL: item rows of each user's candidates, -1 at padding.
            retriever_scores: by name, [B, L], -inf if the retriever has no score for the candidate.
            valid_BL: False at padding; None means items that are not -1.
            retriever_ranks: by name, [B, L], the candidate's rank from 1 in the retriever's list, 0 if it is
                not in it. None: a candidate with a score counts as returned, at its rank by score.

        Raises:
            ValueError: rows out of range, shapes that differ, a retriever's scores or ranks missing.
        """
        if not hasattr(self, "num_items"):
            raise ValueError("these CandidateFeatures have not been fitted; call fit(train) first")
        items = np.asarray(items_BL)
        valid = items >= 0 if valid_BL is None else np.asarray(valid_BL).astype(bool)
        histories = users.histories if isinstance(users, UserState) else None
        rows = None if isinstance(users, UserState) else np.atleast_1d(np.asarray(users))
        size = len(users) if rows is None else len(rows)
        if items.ndim != 2 or len(items) != size or valid.shape != items.shape:
            raise ValueError(
                f"items and valid must be [B, L] with a row for each of {size} users, got {items.shape} and {valid.shape}"
            )
        if rows is not None and rows.size and not 0 <= rows.min() <= rows.max() < self.num_users:
            bad = rows[(rows < 0) | (rows >= self.num_users)][0]
            raise ValueError(
                f"user row {bad} is outside the {self.num_users} users seen in training. Use fold_in() with the user's history."
            )
        if histories is not None and histories.num_items != self.num_items:
            raise ValueError(
                f"histories must be over the {self.num_items} items of training, got {histories.num_items}"
            )
        met = items[valid]
        if met.size and not 0 <= met.min() <= met.max() < self.num_items:
            raise ValueError(
                f"item row {met[(met < 0) | (met >= self.num_items)][0]} is outside the {self.num_items} items seen in training"
            )
        scores = _of_candidates(retriever_scores or {}, "scores", np.float32, valid.shape)
        if retriever_ranks is None:
            ranks = {name: ranks_by_score(one, valid) for name, one in scores.items()}
        else:
            ranks = _of_candidates(retriever_ranks, "ranks", np.int32, valid.shape)
        whole = Block(rows, histories, np.where(valid, items, 0), valid, scores, ranks)
        features_BLF = np.empty((*items.shape, len(self.names)), np.float32)
        step = max(1, BLOCK_BYTES // (4 * max(1, items.shape[1]) * max(64, len(self.names))))
        for start in range(0, size, step):
            block = whole if step >= size else _part(whole, slice(start, min(start + step, size)))
            at = 0
            for column in self.columns:
                features_BLF[start : start + step, :, at : at + len(column.names)] = column.values(block)
                at += len(column.names)
        features_BLF[~valid] = 0
        return features_BLF

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return {
            "columns": [
                {"_target_": f"{type(column).__module__}.{type(column).__qualname__}"} | column.arguments()
                for column in self.columns
            ]
        }

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name."""
        own: dict[str, Any] = {"num_users": np.int64(self.num_users), "num_items": np.int64(self.num_items)}
        for at, column in enumerate(self.columns):
            own |= {f"{at}.{name}": array for name, array in column.arrays().items()}
        return own

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        self.num_users, self.num_items = int(arrays["num_users"]), int(arrays["num_items"])
        for at, column in enumerate(self.columns):
            column.restore(
                {name.removeprefix(f"{at}."): array for name, array in arrays.items() if name.startswith(f"{at}.")}
            )
        self._name()

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_items"):
            raise ValueError("these CandidateFeatures have not been fitted; call fit(train) first")

    def _name(self) -> None:
        self.names = tuple(name for column in self.columns for name in column.names)
        if len(set(self.names)) < len(self.names):
            twice = next(name for at, name in enumerate(self.names) if name in self.names[:at])
            raise ValueError(f"every feature needs its own name, but two are called {twice!r}; remove one column")


def ranks_by_score(scores_BL: np.ndarray, valid_BL: np.ndarray) -> np.ndarray:
    """Return int32 [B, L]: ranks from 1 among the candidates with a score, ties in list order; else 0."""
    scored_BL = valid_BL & ~np.isneginf(scores_BL)
    order_BL = np.argsort(np.where(scored_BL, -scores_BL, np.float32(np.inf)), axis=1, kind="stable")
    ranks_BL = np.empty(order_BL.shape, np.int32)
    np.put_along_axis(ranks_BL, order_BL, np.arange(1, order_BL.shape[1] + 1, dtype=np.int32)[None], axis=1)
    return np.where(scored_BL, ranks_BL, np.int32(0))


def _of_candidates(
    given: Mapping[str, np.ndarray], what: str, dtype: DTypeLike, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return each retriever's values for the candidates, as arrays of the same shape and type."""
    arrays = {name: np.asarray(one, dtype) for name, one in given.items()}
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"the {what} of {name!r} must be one per candidate, shape {shape}, got {array.shape}")
    return arrays


def _part(block: Block, chosen: slice) -> Block:
    """Return some users of a block."""
    return replace(
        block,
        users_B=None if block.users_B is None else block.users_B[chosen],
        histories=None if block.histories is None else block.histories.of_users(np.arange(chosen.start, chosen.stop)),
        items_BL=block.items_BL[chosen],
        valid_BL=block.valid_BL[chosen],
        retriever_scores={name: scores[chosen] for name, scores in block.retriever_scores.items()},
        retriever_ranks={name: ranks[chosen] for name, ranks in block.retriever_ranks.items()},
    )


def _built(column: Mapping[str, Any]) -> Column:
    """Build a column from a mapping of `_target_` and arguments."""
    arguments = dict(column)
    home = current_path(str(arguments.pop("_target_", "")))
    return class_named(home, Column, where="a column of features")(**arguments)
