"""The base of every recommender here: validating requests, ranking the catalog in blocks, saving and loading.

A model scores; this base class implements `protocols.Recommender` on top. B batch, I items, K list, L candidates.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import takes_histories
from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import check_item_rows, item_lists, item_table, list_length, user_rows
from recsys_dl.data.vocabulary import Vocabulary, load_vocabularies, save_vocabularies
from recsys_dl.earlier import model_arrays
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.item_lists import ItemLists, lists_of
from recsys_dl.kernels.topk import top_k
from recsys_dl.learning import learns_whole
from recsys_dl.names import without_predict
from recsys_dl.protocols import Ranking, Users, UserState
from recsys_dl.saving import Saved, load_arrays

from .aligned import aligned
from .evidence import num_influential, warn_of_unknown, without_evidence
from .factors import cosines
from .learned import check_learned, check_size
from .rows import LookedUp, block_of

COUNTS = ("user_counts_U", "item_counts_I")
BLOCK_BYTES = 32 << 20  # float32 scores held at a time while the catalog is ranked


class CatalogModel(Saved):
    """A model that can score its whole catalog for a block of users.

    A subclass stores its arguments under their own names, lists its fitted arrays in `fitted`, and implements `fit`, `_fold`,
    `_values`, `_scores` and `_item_scores`. `fit` starts with `self._begin(train)`.

    A user without interactions (in training, or with an empty history in `fold_in`), or only with items the model learned nothing
    about, gets the most popular items, scored by the share of users who interacted with them, unless the model sets
    `popularity_fallback = False` because its own scores are meaningful for such users.

    Attributes:
        num_users: U, user rows in training.
        num_items: I.
        users: ids of the user rows, or None if fitted on bare Interactions.
        items: ids of the item rows, likewise.
        user_counts_U: int64, distinct items of each user in training.
        item_counts_I: int64, distinct users of each item in training.
    """

    noun = "model"
    fitted: ClassVar[tuple[str, ...]] = ()
    popularity_fallback: ClassVar[bool] = True
    item_parameters: ClassVar[tuple[str, ...]] = ()  # arrays of an item's vector or bias in each row
    bounded: ClassVar[bool] = False  # whether fit reads a log larger than memory (data.mapped) in parts
    needs_content: ClassVar[bool] = False  # whether fit needs item features or texts
    shares_fit: ClassVar[bool] = False  # whether the processes of `processes.together` share the work of `fit`
    device: Device = "cpu"
    sparse_advice: ClassVar[str] = ""  # how to weaken regularization otherwise, for a warning

    num_users: int
    num_items: int
    users: Vocabulary | None
    items: Vocabulary | None
    user_counts_U: np.ndarray
    item_counts_I: np.ndarray

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        known = f" of {self.num_users:,} users and {self.num_items:,} items" if hasattr(self, "num_items") else None
        return f"{type(self).__name__}({arguments}){known or ', not fitted'}"

    if not TYPE_CHECKING:  # else type checkers would take any name

        def __getattr__(self, name: str) -> Any:
            """Say what is missing; called only for names that are not found."""
            mine = type(self).__name__
            said = without_predict(mine) if name == "predict" else f"{mine!r} object has no attribute {name!r}"
            raise AttributeError(said, name=name, obj=self)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        learns_whole(cls, ("fit", "fine_tune", "grow"))
        takes_histories(cls)

    # Implemented by models

    @abstractmethod
    def fit(self, train: Dataset | Interactions) -> Self:
        """Fit to `train`; return self."""

    @abstractmethod
    def _values(self, users_B: np.ndarray) -> Any:
        """Return the input of `_scores` for training users, by row."""

    @abstractmethod
    def _fold(self, histories: Interactions) -> Any:
        """Return the same for new users from their histories, one for each of `histories.num_users`."""

    @abstractmethod
    def _scores(self, values: Any) -> np.ndarray:
        """Return float32 scores [B, I] of every item, in an array the caller may modify."""

    @abstractmethod
    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Return float32 [B, I]: the similarity of every item to each of `items_B`; -inf where unrelated."""

    def _known_items(self) -> np.ndarray:
        """Return bool [I]: items that the model learned something about."""
        return self.item_counts_I > 0

    def _influential_items(self) -> np.ndarray:
        """Return bool [I]: items whose presence in a history changes the scores."""
        return self._known_items()

    def _without_evidence(self, values: Any) -> np.ndarray:
        """Return bool [B]: users whose values give every item the same score."""
        return without_evidence(values)

    def _pair_scores(self, values: Any, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L] scores of valid item rows. Override if scoring a few items is cheaper than scoring all."""
        return np.take_along_axis(self._scores(values), items_BL, axis=1)

    def _top_k(
        self, values: Any, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the best k items and their scores, both [B, K]. Override to avoid materializing all scores."""
        size = (values[0] if isinstance(values, tuple) else values).shape[0]
        items_BK, scores_BK = np.empty((size, k), np.int32), np.empty((size, k), np.float32)
        for block in self._blocks(size):
            items_BK[block], scores_BK[block] = top_k(
                self._scores(block_of(values, block)),
                k,
                exclude=lists_of(exclude, block),
                allow=lists_of(allow, block),
                device=self.device,
            )
        return items_BK, scores_BK

    def _queries(self, values: Any) -> np.ndarray:
        """Return users' values as vectors whose inner products with `item_vectors` are the scores, if the model has them."""
        raise ValueError(
            f"the scores of {type(self).__name__} are not inner products of vectors, so they cannot be indexed"
        )

    # Public methods

    def recommend(
        self,
        users: Users,
        k: int,
        *,
        exclude: Dataset | Interactions | None = None,
        allow: np.ndarray | Sequence[int] | Interactions | None = None,
    ) -> Ranking:
        """Rank the catalog for each user and return the best k.

        Args:
            users: user rows [B], or the state that `fold_in` returned.
            k: length of each list, between 1 and the number of items.
            exclude: interactions whose items are excluded, by user row; for a `fold_in` state by position in it.
            allow: the only item rows that may be recommended, for all users or, as Interactions, per user.

        Returns:
            Ranking of [B, k]. Ties go to the lower row; a list that runs out of items is padded with -1 / -inf.

        Raises:
            ValueError: k, a user row or an item row out of range; exclude or allow over different rows.
        """
        rows, values, blank_B = self.looked_up(users)
        k = list_length(k, self.num_items)
        out = self._lists(exclude, rows, "exclude")
        within = self._lists(allow, rows, "allow")
        items_BK, scores_BK = self._top_k(values, k, out, within)
        if self.popularity_fallback and blank_B.any():
            for block in self._blocks(len(rows)):
                blank = np.arange(len(rows))[block][blank_B[block]]
                scores_bI = np.tile(self._popularity(), (len(blank), 1))
                items_BK[blank], scores_BK[blank] = top_k(
                    scores_bI, k, exclude=lists_of(out, blank), allow=lists_of(within, blank), device=self.device
                )
        return Ranking(items_BK, scores_BK)

    def score(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L]: the score of items_BL[b] for user b, -inf where the item is -1.

        Raises:
            ValueError: a user or item row out of range, or not one row of items per user.
        """
        rows, values, blank_B = self.looked_up(users)
        items_BL = item_table(items_BL, len(rows))
        self._check_items(items_BL, lowest=-1)
        scores_BL = np.empty(items_BL.shape, np.float32)
        for block in self._blocks(len(rows)):
            safe_BL = np.maximum(items_BL[block], 0)
            scores_BL[block] = self._pair_scores(block_of(values, block), safe_BL)
            if self.popularity_fallback and blank_B[block].any():
                scores_BL[block][blank_B[block]] = self._popularity()[safe_BL[blank_B[block]]]
        scores_BL[items_BL < 0] = -np.inf
        return scores_BL

    def looked_up(self, users: Users | LookedUp) -> LookedUp:
        """Return users as `recommend` and `score` need them, for a request that calls both; errors are those of `recommend`."""
        return users if isinstance(users, LookedUp) else LookedUp(*self._resolved(users))

    def similar_items(self, items: np.ndarray | Sequence[int], k: int) -> Ranking:
        """Return the k items most similar to each item, excluding itself; padded where fewer are related.

        Raises:
            ValueError: k or an item row out of range.
        """
        rows = np.atleast_1d(np.asarray(items))
        self._check_items(rows)
        k = list_length(k, self.num_items)
        items_BK = np.empty((len(rows), k), np.int32)
        scores_BK = np.empty((len(rows), k), np.float32)
        for block in self._blocks(len(rows)):
            itself = np.arange(len(rows[block]))
            out = ItemLists(itself, itself + 1, rows[block].astype(np.int32))
            scores_BI = self._item_scores(rows[block])
            items_BK[block], scores_BK[block] = top_k(scores_BI, k, exclude=out, device=self.device)
        return Ranking(items_BK, scores_BK)

    @takes_histories
    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users, which `recommend` and `score` accept in place of rows.

        Args:
            histories: their interactions with items of training: Interactions whose user rows are 0..B-1, or one list of
                item rows per user. A user with an empty history, or (with a warning) one of items that the model learned nothing
                about, gets the most popular items.

        Raises:
            ValueError: an item row that was not in training.
        """
        self._check_fitted()
        if isinstance(histories, Dataset | Interactions):
            check_numbering(histories, None, self.items)
            known = as_interactions(histories)
        else:
            known = Interactions.from_histories(histories, num_items=self.num_items)
        if known.num_items != self.num_items:
            raise ValueError(f"histories must be over the {self.num_items} items of training, got {known.num_items}")
        state = UserState(self._fold(known), known, self)
        warn_of_unknown(self, known.user_counts_U > 0, self._resolved(state)[2])
        return state

    @classmethod
    def has_vectors(cls) -> bool:
        """Return whether scores are inner products of `item_vectors` and `query_vectors`; known before any fit."""
        return cls.item_vectors is not CatalogModel.item_vectors

    def never_listed(self) -> np.ndarray:
        """Return the rows of items that are never recommended because nothing is known of them; their scores are -inf."""
        self._check_fitted()
        return np.empty(0, np.int64)

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D] whose inner products with `query_vectors` are the scores; None if the model has no such form."""
        self._check_fitted()
        return None

    def query_vectors(self, users: Users) -> np.ndarray:
        """Return float32 [B, D] to search an index of `item_vectors` with.

        Raises:
            ValueError: a user row out of range or without interactions, or a model without `item_vectors`.
        """
        query_BD, otherwise_B = self.queries(users)
        if otherwise_B.any():
            raise ValueError(
                f"users without interactions have no vector, such as the one at position {int(otherwise_B.argmax())}: leave "
                "them out, or use Retriever(model, index), which gives them the most popular items"
            )
        return query_BD

    def queries(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return the result of `query_vectors`, arbitrary for users without a vector, and bool [B] marking those users."""
        _, values, blank_B = self._resolved(users)
        return self._queries(values), blank_B & self.popularity_fallback

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B], what the answer to each user rests on: "history", "popularity", or "no history" of the model's own; see `SaysSources`."""
        _, _, blank_B = self._resolved(users)
        counts_B = users.histories.user_counts_U if isinstance(users, UserState) else self.user_counts_U[users]
        popular_B = blank_B & self.popularity_fallback
        return np.where(popular_B, "popularity", np.where(counts_B > 0, "history", "no history"))

    def item_sources(self) -> np.ndarray:
        """Return text [I], what the scores of each item rest on: "interactions", or "nothing" for items without; see `SaysSources`."""
        self._check_fitted()
        return np.where(self.item_counts_I > 0, "interactions", "nothing")

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name: NumPy arrays and CSR matrices. Those that are None are left out."""
        arrays = {name: getattr(self, name) for name in (*COUNTS, *self.fitted)}
        return {name: array for name, array in arrays.items() if array is not None}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        for name in (*COUNTS, *self.fitted):
            setattr(self, name, arrays.get(name))
        self.num_users, self.num_items = len(self.user_counts_U), len(self.item_counts_I)

    def _write(self, folder: Path) -> dict[str, Any]:
        save_vocabularies(folder, self.users, self.items)
        return super()._write(folder)

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        model = cls(**config["arguments"])
        model.users, model.items = load_vocabularies(folder, config["sha256"])
        model.restore(model_arrays(load_arrays(folder / "arrays.npz")))
        return model

    # For subclasses

    def _begin(self, train: Dataset | Interactions) -> Interactions:
        """Check and remember the shape of the training data; return its interactions."""
        interactions = as_interactions(train)
        if not len(interactions):
            raise ValueError("training needs at least one interaction, got an empty log")
        if not interactions.weights_N.any():
            raise ValueError(
                "training needs an interaction with a weight above 0, but all weights are 0; weights=binary, or "
                "recsys_dl.data.weights.binary(data), counts each as 1"
            )
        self.users, self.items = (train.users, train.items) if isinstance(train, Dataset) else (None, None)
        self._remember(interactions)
        check_size(self, interactions, self._bytes_needed())
        return interactions

    def _bytes_needed(self) -> int:
        """Return the approximate memory in bytes that embeddings take during training."""
        return 4 * getattr(self, "embedding_size", 0) * (self.num_users + self.num_items)

    def _remember(self, interactions: Interactions) -> None:
        self.num_users, self.num_items = interactions.num_users, interactions.num_items
        self.user_counts_U = interactions.user_counts_U
        self.item_counts_I = interactions.item_counts_I

    def _aligned(self, new: Dataset | Interactions) -> Interactions:
        """Return new interactions in this model's rows, extended by new users and items; remember their ids."""
        return aligned(self, new)

    def _cosines(self, emb_ID: np.ndarray, items_B: np.ndarray) -> np.ndarray:
        """Return float32 [B, I], the cosine of every item with each of `items_B`; -inf where either has no users."""
        return cosines(emb_ID, items_B, self.item_counts_I > 0)

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_items"):
            raise ValueError(f"this {type(self).__name__} has not been fitted; call fit(train) first")

    def _check_items(self, items: np.ndarray, lowest: int = 0) -> None:
        self._check_fitted()
        check_item_rows(items, self.num_items, lowest)

    def _blocks(self, num_rows: int) -> Iterator[slice]:
        size = max(1, BLOCK_BYTES // (4 * self.num_items))
        return (slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size))

    # Internal

    _check_learned = check_learned

    def _resolved(self, users: Users) -> tuple[np.ndarray, Any, np.ndarray]:
        """Return rows into exclude / allow, the users' values, and which users have no interactions to go by."""
        self._check_fitted()
        if isinstance(users, UserState):
            if users.maker is not None and users.maker is not self:
                made_by = f"another model ({type(users.maker).__name__})"
                raise ValueError(f"this state was created by {made_by}: call fold_in() on the model you query")
            heard_B = num_influential(users.histories, self._influential_items()) > 0
            return np.arange(len(users)), users.values, ~heard_B | self._without_evidence(users.values)
        rows = user_rows(users, self.num_users)
        values = self._values(rows)
        return rows, values, (self.user_counts_U[rows] == 0) | self._without_evidence(values)

    def _lists(
        self, given: Dataset | Interactions | np.ndarray | Sequence[int] | None, rows: np.ndarray, name: str
    ) -> ItemLists | None:
        if given is None:
            return None
        if isinstance(given, Dataset | Interactions):
            check_numbering(given, self.users, self.items)
        return ItemLists(*item_lists(given, rows, num_items=self.num_items, name=name))

    def _popularity(self) -> np.ndarray:
        active = max(1, int((self.user_counts_U > 0).sum()))
        return (self.item_counts_I / active).astype(np.float32)
