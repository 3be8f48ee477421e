"""A model and an index of its item vectors, together: lists as the model gives them, found as fast as the index can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from typing_extensions import Self

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.lists import item_lists
from recsys_dl.kernels.topk import ItemLists
from recsys_dl.protocols import Ranking, Recommender, Users, UserState

from .index import Index


class HasVectors(Recommender, Protocol):
    """A recommender whose scores are inner products, up to a number of the user's own."""

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D]; None if there is no such form."""
        ...

    def query_vectors(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [B, D], and bool [B]: who is answered otherwise."""
        ...


class Retriever:
    """Recommends what `model` would, from `index`. `build` puts the model's item vectors in; add and remove are the index's.

    Scores are inner products, which for some models differ from `model.score` by a number of the user's own. Whoever the
    model answers otherwise, as by popularity, is answered by the model.

    Raises:
        ValueError: the model's scores are no inner products.
    """

    def __init__(self, model: HasVectors, index: Index) -> None:
        self.model = model
        self.index = index
        self.users = getattr(model, "users", None)
        self.items = getattr(model, "items", None)

    def build(self) -> Self:
        """Build the index from the model's item vectors; return self."""
        vectors = self.model.item_vectors()
        if vectors is None:
            raise ValueError(
                f"the scores of {type(self.model).__name__} are no inner products of vectors, so no index can hold them: "
                "take a factorisation or a two-tower model, such as als, bpr, svd"
            )
        self.index.build(vectors)
        return self

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> Ranking:
        """Return the k best items for each user, as far as the index finds them; arguments as of the model's `recommend`."""
        query_BD, otherwise_B = self.model.query_vectors(users)
        rows = np.arange(len(users)) if isinstance(users, UserState) else np.atleast_1d(np.asarray(users))
        out, within = (
            None if given is None else ItemLists(*item_lists(given, rows, num_items=self.index.num_items, name=name))
            for name, given in (("exclude", exclude), ("allow", allow))
        )
        ranking = self.index.search(query_BD, k, exclude=out, allow=within)
        if otherwise_B.any():
            asked = users if isinstance(users, UserState) else rows[otherwise_B]
            mine = self.model.recommend(asked, k, exclude=exclude, allow=allow)
            chosen = otherwise_B if isinstance(users, UserState) else slice(None)
            ranking.items_BK[otherwise_B] = mine.items_BK[chosen]
            ranking.scores_BK[otherwise_B] = mine.scores_BK[chosen]
        return ranking

    def fold_in(self, histories: Any) -> UserState:
        """Return the state of users never seen, as the model does."""
        return self.model.fold_in(histories)
