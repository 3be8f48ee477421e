"""A model and an index of its item vectors, together: lists as the model gives them, found as fast as the index can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from typing_extensions import Self

from recsys_dl.data.dataset import Dataset, check_numbering
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import item_lists
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.protocols import Ranking, Recommender, Users, UserState

from .index import Index
from .vector_index import VectorIndex

SAMPLE = 32  # vectors compared of an index and a model


class HasVectors(Recommender, Protocol):
    """A recommender whose scores are inner products, up to a number of the user's own."""

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D]; None if there is no such form."""
        ...

    def queries(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return float32 [B, D], and bool [B]: who is answered otherwise."""
        ...


class Retriever:
    """Recommends what `model` would, from `index`. `build` puts the model's item vectors in; add and remove are the index's.

    Scores are inner products, which for some models differ from `model.score` by a number of the user's own. Whoever the
    model answers otherwise, as by popularity, is answered by the model.

    Raises:
        ValueError: the model's scores are no inner products, or, when it is asked, the index holds other vectors than the model's.
    """

    def __init__(self, model: HasVectors, index: Index) -> None:
        self.model = model
        self.index = index
        self._matched: tuple[Any, ...] = ()

    def build(self) -> Self:
        """Build the index from the model's item vectors; return self."""
        vectors = self.model.item_vectors()
        if vectors is None:
            raise ValueError(_without_vectors(self.model))
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
        self._check_index()
        for given in (exclude, allow):
            if isinstance(given, Dataset):
                check_numbering(given, self.users, self.items)
        query_BD, otherwise_B = self.model.queries(users)
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

    @property
    def users(self) -> Vocabulary | None:
        """Ids of the model's user rows."""
        return getattr(self.model, "users", None)

    @property
    def items(self) -> Vocabulary | None:
        """Ids of the model's item rows."""
        return getattr(self.model, "items", None)

    def _check_index(self) -> None:
        """Check that the index holds the model's vectors, by some of them; again only when the model has learned since.

        Raises:
            ValueError: it is not built, of other sizes, or of other vectors.
        """
        state = (self.index, getattr(self.model, "item_counts_I", None))
        if len(self._matched) == 2 and all(one is two for one, two in zip(state, self._matched, strict=True)):
            return
        vectors_ID = self.model.item_vectors()
        if vectors_ID is None:
            raise ValueError(_without_vectors(self.model))
        advice = f"call Retriever(model, {type(self.index).__name__}()).build(), again after each fit or partial_fit of the model"
        if not hasattr(self.index, "num_items"):
            raise ValueError(f"the index holds nothing yet: {advice}")
        size = getattr(self.index, "embedding_size", vectors_ID.shape[1])
        if self.index.num_items < len(vectors_ID) or size != vectors_ID.shape[1]:
            raise ValueError(
                f"the index must hold the vectors of this model's {len(vectors_ID)} items, {vectors_ID.shape[1]} numbers each, "
                f"got {self.index.num_items} of {size}: {advice}"
            )
        if isinstance(self.index, VectorIndex) and self.index.exact_vectors:
            items_N = np.flatnonzero(self.index.present_I[: len(vectors_ID)])
            items_N = items_N[np.linspace(0, len(items_N) - 1, min(SAMPLE, len(items_N))).astype(np.int64)]
            own_ND, its_ND = self.index._checked(vectors_ID[items_N], "item vectors"), self.index.vectors(items_N)
            if not np.allclose(own_ND, its_ND, rtol=1e-4, atol=1e-5 * max(1e-30, float(np.abs(own_ND).max(initial=0)))):
                raise ValueError(
                    f"the index holds other vectors than this model's, of another fit or other items: {advice}"
                )
        self._matched = state

    def fold_in(self, histories: Any) -> UserState:
        """Return the state of users never seen, as the model does."""
        return self.model.fold_in(histories)


def _without_vectors(model: Any) -> str:
    return (
        f"the scores of {type(model).__name__} are no inner products of vectors, so no index can hold them: take a factorization "
        "or a two-tower model, such as als, bpr, svd"
    )
