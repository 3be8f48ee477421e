"""A fitted recommender in a catalog that has since gained items which it does not know.

B users, K list, L candidates, I items.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import takes_histories
from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import check_item_rows, item_lists, item_table, list_length
from recsys_dl.data.vocabulary import Vocabulary, load_vocabularies, save_vocabularies
from recsys_dl.protocols import Ranking, Recommender, SaysSources, Users, UserState
from recsys_dl.saving import Saved, load_saved, save_arrays


class WiderCatalog(Saved):
    """`inner` with the rows of a longer vocabulary: it never recommends the items at its end, which it does not know.

    A part of a hybrid or a retriever of a pipeline that knows items only by their interactions becomes one when items are added.

    Args:
        inner: a fitted recommender that says its sources.
        num_items: I, at least those that `inner` knows.
        items: their ids, which begin with those of `inner`; None if it was fitted without ids.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import Popularity
        >>> from recsys_dl.wider import WiderCatalog
        >>> wider = WiderCatalog(Popularity().fit(Interactions([0, 1, 1], [0, 0, 1])), 3)
        >>> wider.recommend([0], k=3).items_BK, wider.score([0], [[1, 2]])
        (array([[ 0,  1, -1]], dtype=int32), array([[ 0.5, -inf]], dtype=float32))
    """

    noun = "model"

    def __init__(self, inner: Recommender, num_items: int, items: Vocabulary | None = None) -> None:
        if not isinstance(inner, SaysSources):
            raise ValueError(
                f"a model must have user_sources and item_sources for items to be added beside it, which {type(inner).__name__} lacks"
            )
        self.inner: Any = inner
        self.num_items = num_items
        self.items = items

    def __repr__(self) -> str:
        return f"WiderCatalog({self.inner!r}, {self.num_items:,} items)"

    @property
    def num_users(self) -> int:
        """U, user rows in training."""
        return int(self.inner.num_users)

    @property
    def users(self) -> Vocabulary | None:
        """Ids of the user rows."""
        found: Vocabulary | None = self.inner.users
        return found

    def fit(self, train: Dataset | Interactions) -> Self:
        """Fit `inner` to a log, whose items are then all that there are."""
        self.inner.fit(train)
        self.num_items, self.items = self.inner.num_items, self.inner.items
        return self

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> Ranking:
        """Return the top k items among those that `inner` knows, padded with -1 / -inf; arguments as in its `recommend`."""
        k = list_length(k, self.num_items)
        known = int(self.inner.num_items)
        found = self.inner.recommend(
            self._asked(users),
            min(k, known),
            exclude=self._known(exclude, "exclude"),
            allow=self._known(allow, "allow"),
        )
        return _padded(found, k)

    def score(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L], the scores by `inner`; -inf for items that it does not know."""
        items_BL = item_table(items_BL, len(users))
        check_item_rows(items_BL, self.num_items, lowest=-1)
        mine_BL = np.where(items_BL < self.inner.num_items, items_BL, -1)
        scores_BL: np.ndarray = self.inner.score(self._asked(users), mine_BL)
        return scores_BL

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the k most similar items that `inner` knows; none of items that it does not know."""
        rows = np.atleast_1d(np.asarray(items))
        check_item_rows(rows, self.num_items)
        k = list_length(k, self.num_items)
        items_BK = np.full((len(rows), k), -1, np.int32)
        scores_BK = np.full((len(rows), k), -np.inf, np.float32)
        mine_B = rows < self.inner.num_items
        if mine_B.any():
            found = _padded(self.inner.similar_items(rows[mine_B], min(k, int(self.inner.num_items))), k)
            items_BK[mine_B], scores_BK[mine_B] = found.items_BK, found.scores_BK
        return Ranking(items_BK, scores_BK)

    @takes_histories
    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users by the items of their histories that `inner` knows.

        Raises:
            ValueError: an item row out of range.
        """
        if isinstance(histories, Dataset | Interactions):
            check_numbering(histories, None, self.items)
            known = as_interactions(histories)
        else:
            known = Interactions.from_histories(histories, num_items=self.num_items)
        if known.num_items != self.num_items:
            raise ValueError(f"histories must be over the {self.num_items} items, got {known.num_items}")
        return UserState(self.inner.fold_in(self.narrowed(known)), known, self)

    def narrowed(self, log: Interactions) -> Interactions:
        """Return the interactions with items that `inner` knows, over these alone."""
        mine = log.select(log.items_N < self.inner.num_items)
        return Interactions(
            *(mine.users_N, mine.items_N, mine.weights_N, mine.times_N),
            num_users=log.num_users,
            num_items=int(self.inner.num_items),
        )

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B], what the answers of `inner` rest on."""
        sources_B: np.ndarray = self.inner.user_sources(self._asked(users))
        return sources_B

    def item_sources(self) -> np.ndarray:
        """Return text [I], what the scores of each item rest on; "nothing" where `inner` does not know it."""
        return np.concatenate([self.inner.item_sources(), np.full(self._num_unknown, "nothing")])

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D], the vectors of `inner` and zeros; None if it has none."""
        vectors_ID = self.inner.item_vectors() if hasattr(self.inner, "item_vectors") else None
        return None if vectors_ID is None else np.pad(vectors_ID, ((0, self._num_unknown), (0, 0)))

    # Saving

    def arguments(self) -> dict[str, Any]:
        """Return the number of items; `inner` and the ids are saved separately."""
        return {"num_items": self.num_items}

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state of `inner`."""
        arrays: dict[str, Any] = self.inner.arrays()
        return arrays

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state of `inner`."""
        self.inner.restore(arrays)

    def _check_fitted(self) -> None:
        self.inner._check_fitted()

    def _write(self, folder: Path) -> dict[str, Any]:
        self.inner.save(folder / "inner")
        save_vocabularies(folder, self.users, self.items)
        save_arrays(folder / "arrays.npz", {})
        return {}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        inner = load_saved(folder / "inner", Recommender, noun="model")
        return cls(inner, items=load_vocabularies(folder, config["sha256"])[1], **config["arguments"])

    # Internal

    @property
    def _num_unknown(self) -> int:
        return self.num_items - int(self.inner.num_items)

    def _asked(self, users: Users) -> Users:
        if not isinstance(users, UserState):
            return users
        if users.maker is not None and users.maker is not self:
            raise ValueError("this state was created by another model: call fold_in() on the model you query")
        state: UserState = users.values
        return state

    def _known(self, given: Any, name: str) -> Any:
        """Return what of `exclude` or `allow` `inner` knows."""
        if given is None:
            return None
        if isinstance(given, Dataset):
            check_numbering(given, self.users, self.items)
        if isinstance(given, Dataset | Interactions):
            log = seen_of(given)
            if log.num_items > self.num_items:
                raise ValueError(f"{name} must cover at most {self.num_items} items, got {log.num_items}")
            return self.narrowed(log)
        rows = item_lists(given, np.zeros(1, np.int64), num_items=self.num_items, name=name)[2]
        return rows[rows < self.inner.num_items]


def scores_new_items(model: Any) -> bool:
    """Return whether a fitted model scores items by what they are about, so that it `grow`s by items without interactions."""
    several = getattr(model, "parts", None) or getattr(model, "retrievers", None)
    if isinstance(several, dict):
        return any(scores_new_items(one) for one in several.values())
    inner = getattr(model, "model", model)  # of what serves a model, that
    encoders = ("encoder", "item_encoder")
    return callable(getattr(model, "grow", None)) and any(getattr(inner, name, None) is not None for name in encoders)


def with_new_items(model: Any, new: Dataset, num_items: int, items: Vocabulary | None) -> Any:
    """Return a fitted model in a catalog that has the items of `new` too; the given one stays as it is.

    One that scores items by their content has grown by them, another is the same in a `WiderCatalog`.

    Args:
        model: a part of a hybrid, or a retriever of a pipeline.
        new: items with features, without interactions.
        num_items: I, with the new ones.
        items: their ids.
    """
    if scores_new_items(model) and not hasattr(
        model, "retrievers"
    ):  # a pipeline within another is not asked for its stages
        return copy.copy(model).grow(new)
    return WiderCatalog(model.inner if isinstance(model, WiderCatalog) else model, num_items, items)


def _padded(ranking: Ranking, k: int) -> Ranking:
    more = ((0, 0), (0, k - ranking.items_BK.shape[1]))
    return Ranking(
        np.pad(ranking.items_BK, more, constant_values=-1),
        np.pad(ranking.scores_BK, more, constant_values=-np.inf),
    )
