"""Features of retrieved candidates, declared as a list of columns; training and serving run the same lines.

U users, I items, B users, L candidates, F features.
"""

from __future__ import annotations

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
    """What a ranker sees of each (user, candidate).

    Args:
        columns: of `rankers.columns` and `rankers.side_columns`, or mappings of `_target_` (import path) and arguments that name one.

    Attributes:
        names: of the F features.
        num_users: U, of the log it was fitted on.
        num_items: I.

    Raises:
        ValueError: no column.
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
        """Learn what the columns need to know of users and items.

        Args:
            train: the log up to `now`; for a ranker's training that is before the labels' period.
            now: seconds since 1970 of the moment that is described; None takes the log's latest time.
            retrievers: names of those whose scores `compute` will be given.

        Raises:
            ValueError: something in the log comes after `now`, or a column needs what is not there.
        """
        log = as_interactions(train)
        if log.times_N is not None and len(log):
            latest = int(log.times_N.max())
            if now is not None and latest > now:
                raise ValueError(
                    f"features of a moment may know nothing later, but the log goes on to {latest} and now is {now}; cut the "
                    "log there"
                )
            now = latest if now is None else now
        elif now is not None:
            raise ValueError("now has no meaning for a log without times; read a time column, or leave now out")
        known = Known(log, train if isinstance(train, Dataset) else None, now, tuple(retrievers))
        self.num_users, self.num_items = log.num_users, log.num_items
        for column in self.columns:
            column.fit(known)
        self._name()
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
        """Return float32 [B, L, F], 0 at padding. What a user gets does not depend on who else is asked for, to the bit.

        Args:
            users: user rows, or the state that a recommender's `fold_in` returned.
            items_BL: item rows of each user's candidates, -1 at padding.
            retriever_scores: by name, [B, L], -inf where the retriever gives the candidate none.
            valid_BL: False at padding; None takes what is not -1.
            retriever_ranks: by name, [B, L], the rank from 1 of the candidate in the list that the retriever returned, 0 where
                that does not hold it. None: a candidate with a score counts as returned, at its rank by score among these.

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
            block = _part(whole, slice(start, min(start + step, size)))
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
        """Return all that was learned, by name."""
        own: dict[str, Any] = {"num_users": np.int64(self.num_users), "num_items": np.int64(self.num_items)}
        for at, column in enumerate(self.columns):
            own |= {f"{at}.{name}": array for name, array in column.arrays().items()}
        return own

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take what `arrays` returned, in place of `fit`."""
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
            raise ValueError(
                f"every feature needs a name of its own, but two are called {twice!r}; leave one column out"
            )


def ranks_by_score(scores_BL: np.ndarray, valid_BL: np.ndarray) -> np.ndarray:
    """Return int32 [B, L]: ranks from 1 among the candidates of a list that have a score, equal ones as they stand; else 0."""
    scored_BL = valid_BL & ~np.isneginf(scores_BL)
    order_BL = np.argsort(np.where(scored_BL, -scores_BL, np.float32(np.inf)), axis=1, kind="stable")
    ranks_BL = np.empty(order_BL.shape, np.int32)
    np.put_along_axis(ranks_BL, order_BL, np.arange(1, order_BL.shape[1] + 1, dtype=np.int32)[None], axis=1)
    return np.where(scored_BL, ranks_BL, np.int32(0))


def _of_candidates(
    given: Mapping[str, np.ndarray], what: str, dtype: DTypeLike, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Return what each retriever says of candidates, as arrays of one shape and type."""
    arrays = {name: np.asarray(one, dtype) for name, one in given.items()}
    for name, array in arrays.items():
        if array.shape != shape:
            raise ValueError(f"the {what} of {name!r} must be one a candidate, shape {shape}, got {array.shape}")
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
    """Return the column that a mapping of `_target_` and arguments names."""
    arguments = dict(column)
    home = current_path(str(arguments.pop("_target_", "")))
    return class_named(home, Column, where="a column of features")(**arguments)
