"""A model served by an index of its item vectors; itself a recommender."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import takes_histories
from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import item_lists, list_length
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.learning import fit_takes
from recsys_dl.protocols import Ranking, Recommender, Served, Users, UserState
from recsys_dl.saving import Saved, load_saved

from .index import Index
from .vector_index import VectorIndex, load_index

SAMPLE = 32  # vectors compared of an index and a model
LEARNING_ON = ("fine_tune", "grow")  # methods of models after which the index is built anew

Given = Dataset | Interactions | np.ndarray | Sequence[int]


@runtime_checkable
class HasVectors(Recommender, Protocol):
    """A recommender whose scores are inner products of vectors."""

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D]; None if there is no such form."""
        ...

    def queries(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return query vectors, float32 [B, D], and bool [B], True for users that have none."""
        ...


class Retriever(Saved):
    """Recommends the model's items by searching `index`; a `Recommender`, accepted by evaluation, runs and pipelines like any other.

    `fit` fits the model and builds the index from its item vectors; `build` only builds the index of a fitted model.
    `score`, `similar_items` and other methods of the model (`predict`, ...) are delegated to it, and exact. The index is rebuilt after
    `fine_tune` and `grow`. Users without a query vector, who get the most popular items, are answered by the model. Items that the model
    never recommends are removed from the index.

    Args:
        model: with item vectors, such as ALS, BPR, SVD or a two-tower model; fitted or not.
        index: built or not. Items may be added to it and removed from it without the model.

    Raises:
        ValueError: the model's scores are not inner products; or, when recommending, the index holds other vectors than the model's.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import ALS
        >>> from recsys_dl.retrieval import Exact, Retriever
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> retriever = Retriever(ALS(embedding_size=4, device="cpu"), Exact(device="cpu")).fit(train)
        >>> retriever.recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    noun = "model"

    def __init__(self, model: HasVectors, index: Index) -> None:
        has_vectors = getattr(model, "has_vectors", None)
        if not hasattr(model, "queries") or (has_vectors is not None and not has_vectors()):
            raise ValueError(_without_vectors(model))
        self.model = model
        self.index = index
        self._matched: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        parts = ", ".join(f"{type(part).__name__}({_arguments(part)})" for part in (self.model, self.index))
        sizes = [getattr(self.model, f"num_{noun}", None) for noun in ("users", "items")]
        known = ", not fitted" if None in sizes else f" of {sizes[0]:,} users and {sizes[1]:,} items"
        return f"Retriever({parts}){known}"

    # Learning

    def fit(
        self, train: Dataset | Interactions, *, validation: Any = None, trainer: Any = None, checkpoint: Any = None
    ) -> Self:
        """Fit the model, then build the index from its item vectors; return self. On an error both are unchanged.

        Args:
            train: the log.
            validation: passed to the model's `fit`.
            trainer: likewise.
            checkpoint: likewise.

        Raises:
            ValueError: as in the model's `fit`; too few items for the index; an argument that the model's `fit` does not take.
            ImportError: FAISS is missing; says what to install, before anything is fitted.
        """
        given = {"validation": validation, "trainer": trainer, "checkpoint": checkpoint}
        more = {name: value for name, value in given.items() if value is not None}
        if foreign := [name for name in more if not fit_takes(self.model, name)]:
            raise ValueError(f"{type(self.model).__name__} is fitted without {' and '.join(foreign)}; leave it out")
        self.check_fit(train)
        return self._learn("fit", train, **more)

    def check_fit(self, train: Dataset | Interactions) -> None:
        """Check what can be checked before the model is fitted.

        Raises:
            TypeError: `train` is not a log.
            ValueError: too few items for the index.
            ImportError, RuntimeError: FAISS, or the GPU asked for, is missing; says what to install.
        """
        num_items = as_interactions(train).num_items
        if isinstance(self.index, VectorIndex):
            self.index.check(num_items)

    def build(self) -> Self:
        """Build the index from the fitted model's item vectors; return self."""
        self.index.build(_vectors(self.model))
        _leave_unlisted_out(self.index, self.model)
        return self

    def _learn(self, method: str, *args: Any, **kwargs: Any) -> Self:
        """Call a fitting method on copies of model and index, then adopt their state."""
        model, index = copy.copy(self.model), copy.copy(self.index)
        getattr(model, method)(*args, **kwargs)
        index.build(_vectors(model))
        _leave_unlisted_out(index, model)
        self.model.__dict__, self.index.__dict__ = vars(model), vars(index)
        self._matched = self._state()
        return self

    def __getattr__(self, name: str) -> Any:
        """Return other attributes of the model; its fitting methods also rebuild the index."""
        if name.startswith("__") or name in ("model", "index"):  # what copying looks for
            raise AttributeError(name)
        found = getattr(self.model, name)
        if name not in LEARNING_ON:
            return found
        return functools.wraps(found)(functools.partial(self._learn, name))

    # Answering

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> Ranking:
        """Return the top k items that the index finds for each user; arguments as in the model's `recommend`.

        Scores are the inner products returned by the index. A list is padded only if fewer than k items are permitted.
        """
        query_BD, otherwise_B = self.model.queries(users)
        self._check_fitted()
        k = list_length(k, self.index.num_items)
        for given in (exclude, allow):
            if isinstance(given, Dataset):
                check_numbering(given, self.users, self.items)
        rows = np.arange(len(users)) if isinstance(users, UserState) else np.atleast_1d(np.asarray(users))
        out, within = (
            None if given is None else ItemLists(*item_lists(given, rows, num_items=self.index.num_items, name=name))
            for name, given in (("exclude", exclude), ("allow", allow))
        )
        ranking = self.index.search(query_BD, k, exclude=out, allow=within)
        if otherwise_B.any():
            mine = self._by_model(users, rows, np.flatnonzero(otherwise_B), k, exclude, allow)
            ranking.items_BK[otherwise_B] = mine.items_BK
            ranking.scores_BK[otherwise_B] = mine.scores_BK
        return ranking

    def score(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L], the model's exact scores."""
        return self.model.score(users, items_BL)

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the model's k most similar items of each item."""
        return self.model.similar_items(items, k)

    @takes_histories
    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the model's state of new users."""
        return self.model.fold_in(histories)

    def item_vectors(self) -> np.ndarray | None:
        """Return the model's item vectors, float32 [I, D]."""
        return self.model.item_vectors()

    def queries(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return the model's query vectors, float32 [B, D], and bool [B], True for users that have none."""
        return self.model.queries(users)

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model for export, without the index: every item is scored there. See `protocols.Exportable`."""
        return self.model.served(seen)  # type: ignore[attr-defined]

    @property
    def exact(self) -> HasVectors | None:
        """The model, for exact lists; None if the index is exact too."""
        whole = isinstance(self.index, VectorIndex) and self.index.exhaustive and self.index.measure == "dot"
        return None if whole else self.model

    @property
    def users(self) -> Vocabulary | None:
        """Ids of the model's user rows."""
        return getattr(self.model, "users", None)

    @property
    def items(self) -> Vocabulary | None:
        """Ids of the model's item rows."""
        return getattr(self.model, "items", None)

    # Keeping

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments except model and index, which are saved separately."""
        return {}

    def arrays(self) -> dict[str, Any]:
        """Return the arrays of model and index, by part and array name."""
        parts: dict[str, Any] = {"model": self.model, "index": self.index}
        return {f"{name}.{key}": array for name, part in parts.items() for key, array in part.arrays().items()}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of fitting."""
        parts: dict[str, Any] = {"model": self.model, "index": self.index}
        for name, part in parts.items():
            part.restore({key.partition(".")[2]: one for key, one in arrays.items() if key.startswith(f"{name}.")})

    def _write(self, folder: Path) -> dict[str, Any]:
        self.model.save(folder / "model")
        self.index.save(folder / "index")
        return {}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        retriever = cls(load_saved(folder / "model", HasVectors, noun="model"), load_index(folder / "index"))
        try:
            retriever._check_fitted()
        except ValueError as error:
            raise ValueError(f"{folder} is damaged: model and index do not belong together ({error})") from error
        return retriever

    # Inside

    def _by_model(
        self, users: Users, rows: np.ndarray, chosen: np.ndarray, k: int, exclude: Any, allow: Any
    ) -> Ranking:
        """Return the model's own lists of some of the users, of items that are still in the index."""
        if isinstance(users, UserState):
            asked: Users = self.model.fold_in(users.histories.of_users(chosen))
            exclude, allow = (_of_rows(given, chosen) for given in (exclude, allow))
        else:
            asked = rows[chosen]
        num_items: int = self.model.num_items  # type: ignore[attr-defined]
        present_I = getattr(self.index, "present_I", np.ones(num_items, bool))[:num_items]
        if not present_I.all():
            allow = _only(present_I, allow)
        items_BK = np.full((len(chosen), k), -1, np.int32)
        scores_BK = np.full((len(chosen), k), -np.inf, np.float32)
        length = min(k, num_items)  # an index may hold more items
        mine = self.model.recommend(asked, length, exclude=exclude, allow=allow)
        items_BK[:, :length], scores_BK[:, :length] = mine.items_BK, mine.scores_BK
        return Ranking(items_BK, scores_BK)

    def _state(self) -> tuple[Any, ...]:
        return (self.index, getattr(self.model, "item_counts_I", None))

    def _check_fitted(self) -> None:
        """Check, by a sample, that the index holds the model's vectors; repeated only after the model was fitted again.

        Raises:
            ValueError: it is not built, of other sizes, or of other vectors.
        """
        state = self._state()
        if len(self._matched) == 2 and all(one is two for one, two in zip(state, self._matched, strict=True)):
            return
        vectors_ID = _vectors(self.model)
        advice = f"call Retriever(model, {type(self.index).__name__}()).build(), again after each fit or fine_tune of the model"
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
        _leave_unlisted_out(self.index, self.model)
        self._matched = state


def _leave_unlisted_out(index: Index, model: HasVectors) -> None:
    """Remove the items that the model never recommends from an index of its item vectors."""
    if hasattr(model, "never_listed") and isinstance(index, VectorIndex):
        items = model.never_listed()
        if len(items := items[index.present_I[items]]):
            index.remove(items)


def _vectors(model: HasVectors) -> np.ndarray:
    vectors_ID = model.item_vectors()
    if vectors_ID is None:
        raise ValueError(_without_vectors(model))
    return vectors_ID


def _of_rows(given: Given | None, rows: np.ndarray) -> Any:
    """Return what a request leaves out or lets in, for some of its lists."""
    return seen_of(given).of_users(rows) if isinstance(given, Dataset | Interactions) else given


def _only(present_I: np.ndarray, allow: Given | None) -> Any:
    """Return what a request lets in, without items that are not present."""
    if allow is None:
        return np.flatnonzero(present_I)
    if isinstance(allow, Dataset | Interactions):
        known = seen_of(allow)
        return known.select(present_I[known.items_N])
    items = np.asarray(allow)
    return items[present_I[items]] if items.size else items


def _arguments(part: Any) -> str:
    arguments = part.arguments() if hasattr(part, "arguments") else {}
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _without_vectors(model: Any) -> str:
    return (
        f"the scores of {type(model).__name__} are not inner products of vectors, so no index can hold them: take a factorization "
        "or a two-tower model, such as als, bpr, svd"
    )
