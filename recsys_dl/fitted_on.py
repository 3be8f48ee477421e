"""What a fitted recommender, and each one inside it, was fitted on, as far as its counts tell: compared with a log. U users, I items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions

SEVERAL = {"parts": "part", "retrievers": "retriever"}  # attributes that hold recommenders by name
ONE = {"base": "base", "model": "", "inner": ""}  # attributes that hold one; "" is called as what holds it


@dataclass(frozen=True, eq=False)
class FittedOtherwise:
    """A recommender that was fitted on other pairs of users and items than a log's.

    Attributes:
        name: in words, such as "ItemKNN" or "the part knn (ItemKNN) of Hybrid".
        trained: distinct pairs that it was fitted on.
        given: those of the log.
        more_U: int64, how many more pairs than in the log each user had.
        more_I: likewise each item; None if it does not say.
    """

    name: str
    trained: int
    given: int
    more_U: np.ndarray
    more_I: np.ndarray | None

    @property
    def num_more(self) -> int:
        """How many pairs it was fitted on, at least, that are not in the log."""
        return _at_least(self.more_U, self.more_I)

    def words(self, log: str = "train") -> str:
        """Return the two numbers in words."""
        others = " others" if self.trained == self.given else ""
        return f"{self.name} was fitted on {self.trained:,} pairs of users and items, but {log} holds {self.given:,}{others}"

    def may_know(self, other: Interactions, log: Interactions) -> bool:
        """Return whether it was fitted on as many more pairs of every user and item as another part has beside the log: then very likely on these."""
        pairs = _ones(other.by_user)
        fresh = pairs - pairs.multiply(_ones(log.by_user))
        fresh_U, fresh_I = (np.asarray(fresh.sum(axis=axis)).ravel().astype(np.int64) for axis in (1, 0))
        if self.more_I is None or not fresh_U.any():
            return False
        pairs_of = ((self.more_U, fresh_U), (self.more_I, fresh_I))
        return all(bool((more >= _padded(mine, len(more))).all()) for more, mine in pairs_of)


def fitted_otherwise(model: Any, log: Interactions, name: str | None = None) -> list[FittedOtherwise]:
    """Return the recommenders, a model and those inside it, that were fitted on other pairs than a log's, in the order in which they are found.

    Those without counts of their own say nothing. One inside that saw what its holder saw is not named beside it.

    Args:
        model: fitted.
        log: over the same rows.
        name: of the model, in words; None: its class.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.fitted_on import fitted_otherwise
        >>> from recsys_dl.models import Popularity
        >>> whole, train = Interactions([0, 1, 1], [0, 0, 1]), Interactions([0, 1], [0, 0], num_items=2)
        >>> [(one.name, one.trained, one.given) for one in fitted_otherwise(Popularity().fit(whole), train)]
        [('Popularity', 3, 2)]
    """
    return list(_found(model, name or type(model).__name__, log, None))


def num_beyond(model: Any, other: Any) -> int:
    """Return how many pairs of users and items, at least, a model was fitted on and another of the same rows was not."""
    return _at_least(
        _difference(model.user_counts_U, other.user_counts_U), _difference(model.item_counts_I, other.item_counts_I)
    )


def _at_least(*more: np.ndarray | None) -> int:
    return max(int(np.maximum(one, 0).sum()) for one in more if one is not None)


def _found(model: Any, name: str, log: Interactions, holder: Any) -> Iterator[FittedOtherwise]:
    counts_U, counts_I = _counts(model)
    if counts_U is not None:
        more_U = _difference(counts_U, log.user_counts_U)
        more_I = None if counts_I is None else _difference(counts_I, log.item_counts_I)
        differs = more_U.any() or (more_I is not None and more_I.any())
        if differs and not (holder is not None and _same(_counts(holder)[0], counts_U)):
            yield FittedOtherwise(name, int(counts_U.sum()), int(log.user_counts_U.sum()), more_U, more_I)
    within = vars(model) if hasattr(model, "__dict__") else {}
    for attribute, noun in SEVERAL.items():
        several = within.get(attribute)
        for key, one in several.items() if isinstance(several, dict) else ():
            yield from _found(one, f"the {noun} {key} ({type(one).__name__}) of {name}", log, model)
    for attribute, noun in ONE.items():
        one = within.get(attribute)
        if hasattr(one, "recommend"):
            yield from _found(one, f"the {noun} ({type(one).__name__}) of {name}" if noun else name, log, model)


def _counts(model: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    return getattr(model, "user_counts_U", None), getattr(model, "item_counts_I", None)


def _same(one: np.ndarray | None, other: np.ndarray) -> bool:
    return one is not None and not _difference(one, other).any()


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    size = max(len(one), len(other))
    difference: np.ndarray = _padded(one, size).astype(np.int64) - _padded(other, size)
    return difference


def _padded(counts: np.ndarray, size: int) -> np.ndarray:
    return np.pad(counts, (0, max(0, size - len(counts))))


def _ones(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return int8 ones wherever the matrix stores an entry, including weights of 0."""
    return sp.csr_matrix((np.ones(matrix.nnz, np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)
