"""The base of every re-ranker: validating a request, building the answer, saving and loading.

B lists, L candidates, K positions, M positions including those kept after them, D vector size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from typing_extensions import Self

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.kernels.rerank.candidate_lists import NOT_FINITE, REPEATED, faults, min_max, written
from recsys_dl.protocols import Ranking, Reranked, Users, UserState
from recsys_dl.saving import Saved

Relevance = Literal["min_max", "scores"]


@dataclass(frozen=True)
class RerankBatch:
    """A validated request.

    Attributes:
        users: rows [B], or the state of new users.
        items_BL: int32, C-contiguous, -1 where there is no candidate.
        scores_BL: float32, C-contiguous.
        requests_B: int64, number of each request.
    """

    users: np.ndarray | UserState
    items_BL: np.ndarray
    scores_BL: np.ndarray
    requests_B: np.ndarray

    def rows(self, num_users: int) -> np.ndarray:
        """Return user rows, int64 [B].

        Raises:
            ValueError: one is outside the users passed to `prepare`.
        """
        assert isinstance(self.users, np.ndarray)
        bad = self.users[(self.users < 0) | (self.users >= num_users)]
        if bad.size:
            raise ValueError(
                f"user row {bad[0]} is outside the {num_users} users seen in training. "
                "Pass the state from a model's fold_in(), which holds the user's history."
            )
        return self.users


@dataclass
class Chosen:
    """A re-ranker's decisions.

    Attributes:
        places_BK: int32, positions among the candidates, or -1.
        outside_BK: int32, items that are not candidates, where `places_BK` is -1; else -1.
        scores_BL: float32, the candidates' scores if the re-ranker changed them.
        moved_BK: int16, as in `Reranked`.
        dropped_BL: int16, as in `Reranked`.
        reasons: names, without the empty first one.
        unmet_N2: as in `Reranked`.
        messages: as in `Reranked`.
        propensities_BK: as in `Reranked`, 1 after the chosen positions.
        joint_B: as in `Reranked`.
        draws: as in `Reranked`.
        contexts_BF: as in `Reranked`.
    """

    places_BK: np.ndarray
    outside_BK: np.ndarray | None = None
    scores_BL: np.ndarray | None = None
    moved_BK: np.ndarray | None = None
    dropped_BL: np.ndarray | None = None
    reasons: Sequence[str] = ()
    unmet_N2: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int32))
    messages: Sequence[str] = ()
    propensities_BK: np.ndarray | None = None
    joint_B: np.ndarray | None = None
    draws: int = 0
    contexts_BF: np.ndarray | None = None


class ListReranker(Saved):
    """A re-ranker of candidate lists.

    A subclass stores its arguments under their own names, lists the arrays that `_learn` sets in `fitted`, and implements
    `_choose`. Its answer for a user depends only on that user, the candidates, k and the request.

    Attributes:
        num_users: U, user rows in training.
        num_items: I.
    """

    noun = "re-ranker"
    fitted: ClassVar[tuple[str, ...]] = ()
    adjustable: ClassVar[dict[str, str]] = {}  # what one request may change -> the argument it sets
    num_users: int
    num_items: int

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        return f"{type(self).__name__}({arguments}){'' if hasattr(self, 'num_items') else ', not prepared'}"

    # Implemented by re-rankers

    @abstractmethod
    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        """Set the attributes listed in `fitted`."""

    @abstractmethod
    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        """Fill k positions of each list."""

    # Public methods

    def prepare(self, train: Dataset | Interactions, *, item_vectors_ID: np.ndarray | None = None) -> Self:
        """Fit the re-ranker and return self. Cheap: call it again when attributes (stock, prices) change.

        Args:
            train: interactions, and item features if the re-ranker uses a column of them.
            item_vectors_ID: float, one row per item, for re-rankers that compare items by vectors.

        Raises:
            ValueError: a column is missing, or the configuration is infeasible for these items.
        """
        interactions = as_interactions(train)
        self.num_users, self.num_items = interactions.num_users, interactions.num_items
        self._learn(train, item_vectors_ID)
        return self

    def rerank(
        self, users: Users, candidates: Ranking, k: int, *, keep: int | None = None, request: int | np.ndarray = 0
    ) -> Reranked:
        """Return k items of each candidate list in a new order.

        Args:
            users: one per list: user rows, or the state from a model's `fold_in`.
            candidates: items of each list, best first, padded with -1; scores are their relevance.
            k: positions to fill; a list with fewer candidates is padded.
            keep: length of the answer if it must extend beyond k, for a later stage: candidates that were
                neither chosen nor removed follow in order. None means k.
            request: number of the request, or of each user's request; only random choices depend on it.

        Raises:
            ValueError: not prepared, k or keep out of range, items out of range or repeated in a list, a score that is NaN
                or infinite.
        """
        self._check_fitted()
        for name, value, least in (("k", k, 1), ("keep", k if keep is None else keep, k)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        batch = self._checked(users, candidates, request)
        chosen = self._choose(batch, int(k))
        return self._answer(batch, chosen, int(k if keep is None else keep))

    # Saving

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name."""
        learned = {name: getattr(self, name) for name in self.fitted}
        return {"shape_UI": np.array([self.num_users, self.num_items]), **learned}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `prepare`."""
        self.num_users, self.num_items = map(int, arrays["shape_UI"])
        for name in self.fitted:
            setattr(self, name, arrays[name])

    # Internal

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_items"):
            raise ValueError(f"this {type(self).__name__} has not been prepared; call prepare(train) first")

    def _checked(self, users: Users, candidates: Ranking, request: int | np.ndarray) -> RerankBatch:
        items_BL, scores_BL = np.asarray(candidates.items_BK), np.asarray(candidates.scores_BK)
        given: np.ndarray | UserState
        if isinstance(users, UserState):
            given, size = users, len(users)
            if users.histories.num_items != self.num_items:
                raise ValueError(
                    f"histories must be over the {self.num_items} items of training, got {users.histories.num_items}"
                )
        else:
            given = np.atleast_1d(np.asarray(users))
            size = len(given)
            if given.ndim != 1 or (size and given.dtype.kind not in "iu"):
                raise ValueError(f"users must be rows, integers in one dimension, got {given.dtype} of {given.shape}")
            given = given.astype(np.int64)
        if items_BL.ndim != 2 or items_BL.shape != scores_BL.shape or len(items_BL) != size:
            raise ValueError(
                f"candidates must be items and scores of the same shape [{size}, L], one row per user, "
                f"got {items_BL.shape} and {scores_BL.shape}"
            )
        if items_BL.size and items_BL.dtype.kind not in "iu":
            raise ValueError(f"item rows must be integers, got {items_BL.dtype}")
        if items_BL.min(initial=0) < -1 or items_BL.max(initial=-1) >= self.num_items:
            bad = items_BL.min() if items_BL.min() < -1 else items_BL.max()
            raise ValueError(f"item row {bad} is outside the {self.num_items} items seen in training")
        items_BL = np.ascontiguousarray(items_BL, np.int32)
        scores_BL = np.ascontiguousarray(scores_BL, np.float32)
        found_B2 = faults(items_BL, scores_BL)
        if found_B2[:, 0].any():
            b = int(np.argmax(found_B2[:, 0] > 0))
            fault, l = found_B2[b]
            item, score = items_BL[b, l], scores_BL[b, l]
            if fault == NOT_FINITE:
                raise ValueError(f"scores of candidates must be finite, got {score} for item row {item} in list {b}")
            assert fault == REPEATED
            raise ValueError(f"an item must occur only once in a list, got item row {item} twice in list {b}")
        numbers = np.asarray(request)
        if numbers.dtype.kind not in "iu" or numbers.shape not in ((), (size,)):
            raise ValueError(f"request must be a number, or {size} numbers, one per user, got {shorten(repr(request))}")
        return RerankBatch(given, items_BL, scores_BL, np.full(size, numbers, np.int64))

    def _answer(self, batch: RerankBatch, chosen: Chosen, length: int) -> Reranked:
        places_BK = np.ascontiguousarray(chosen.places_BK, np.int32)
        rows, k = places_BK.shape
        outside_BK = np.full((rows, k), -1, np.int32) if chosen.outside_BK is None else chosen.outside_BK
        dropped_BL = np.zeros(batch.items_BL.shape, np.int16) if chosen.dropped_BL is None else chosen.dropped_BL
        scores_BL = batch.scores_BL if chosen.scores_BL is None else chosen.scores_BL
        items_BM, out_places_BM = np.empty((rows, length), np.int32), np.empty((rows, length), np.int32)
        scores_BM = np.empty((rows, length), np.float32)
        written(batch.items_BL, scores_BL, places_BK, outside_BK, dropped_BL, items_BM, scores_BM, out_places_BM)
        if chosen.moved_BK is None:  # a single reason: the item changed position
            moved_BM = ((out_places_BM != np.arange(length)) & (items_BM >= 0)).astype(np.int16)
            moved_BM[:, k:] = 0
        else:
            moved_BM = np.zeros((rows, length), np.int16)
            moved_BM[:, :k] = chosen.moved_BK
        chances_BM = None
        if chosen.propensities_BK is not None:
            chances_BM = (items_BM >= 0).astype(np.float64)
            chances_BM[:, :k] = chosen.propensities_BK
        return Reranked(
            items_BM,
            scores_BM,
            out_places_BM,
            moved_BM,
            dropped_BL,
            ("", *chosen.reasons),
            chosen.unmet_N2,
            tuple(chosen.messages),
            chances_BM,
            chosen.joint_B,
            chosen.draws,
            chosen.contexts_BF,
        )


def relevance(batch: RerankBatch, scale: Relevance) -> np.ndarray:
    """Return float64 [B, L]: the candidates' relevance on the given scale; -inf at padding.

    `min_max` runs from 0, the lowest score of the list, to 1, its highest, so that it can be combined with another term
    for any model; `scores` are unchanged.
    """
    if scale == "min_max":
        return min_max(batch.items_BL, batch.scores_BL)
    return np.where(batch.items_BL >= 0, batch.scores_BL, -np.inf).astype(np.float64)


def plain(value: Any) -> Any:
    """Convert mappings to dicts and sequences to lists, for YAML."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(part) for part in value]
    return value
