"""Matrix factorization with features: users and items as sums of their features' embeddings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, CountOrZero, NotNegative, Positive, Seed, ShareBelowOne
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.features import Features
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.evidence import num_influential
from recsys_dl.families.feature_vectors import FeatureVectors, UsedFeatures
from recsys_dl.kernels.device import Device
from recsys_dl.kernels.draws import ItemWeights
from recsys_dl.kernels.feature_mf import feature_epoch, fold_users
from recsys_dl.kernels.feature_sides import START, Side, vectors
from recsys_dl.kernels.negatives import item_weights
from recsys_dl.progress import track
from recsys_dl.protocols import Served, UserState

log = logging.getLogger(__name__)

FOLD_EPOCHS = 20  # passes over a new user's history


class FeatureMF(FeatureVectors):
    """score(u, i) = p_u . q_i + b_u + b_i, where embeddings and biases are sums over the features of u and i, ids included.

    Kula 2015, "Metadata Embeddings for User and Item Cold-start Recommendations" (LightFM). With w_if the weight of feature f of
    item i (1 for a category and for the item's own id, 1 / sqrt(n) for each of a list's n values, a number's distance from
    the mean in standard deviations, a text vector's entries): q_i = sum_f w_if e_f, b_i = sum_f w_if b_f; users likewise.
    Trained by Adagrad on pairs of the log and items drawn for them; the losses are those of `kernels.feature_mf`, which trains on
    the CPU, bitwise identically for any number of threads.

    An item that nobody interacted with is scored by its features, a user without interactions by theirs. A new user with a
    history (`fold_in`) gets an embedding trained on it, on top of their features if given. A user with
    neither gets the most popular items; an item without any information is never recommended. Without any features this is matrix factorization by ids.

    Args:
        embedding_size: D.
        loss: "warp" ranks the first places best; "bpr"; "logistic", a classification of pairs and drawn items.
        epochs: passes over the pairs.
        learning_rate: of Adagrad in the first epoch; it decays linearly to 0.
        regularization: penalty on the embedding and bias of a feature, for every pair that it takes part in.
        id_dropout: share of items with features whose id is left out of a batch, so that features learn to work alone.
        max_sampled: draws per pair until an item violates the margin; "warp" only.
        popularity_exponent: items are drawn in proportion to their users to this power; 0 draws uniformly, as "warp" always
            does, since it estimates ranks.
        features: which features of a Dataset to use: "all", "items", "users" or "none".
        item_kinds: column -> kind, to override inference; see `FeatureEncoder`.
        user_kinds: likewise.
        min_count: rows a feature value must occur in.
        text_size: dimensions of an item's text vector.
        seed: for the initial embeddings and all sampling.
        device: where to recommend.

    Attributes:
        user_table_VW: float32, embeddings and biases of features, then of user rows.
        item_table_VW: likewise.
        user_emb_UD: float32, vectors of the users: embedding, bias, 1.
        item_emb_ID: float32, vectors of the items: embedding, 1, bias.
        train_UI: CSR float32, all training interactions, for `fine_tune`.
        epochs_taken: int64 scalar; so that `fine_tune` draws new samples.

    Raises:
        ValueError: an argument out of range; features that cannot be encoded.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import FeatureMF
        >>> genres = pl.DataFrame({"genre": ["sea", "sea", "sea", "war", "war", "war"]})
        >>> log = Interactions([0, 0, 1, 1, 2, 2], [0, 1, 3, 4, 3, 4], num_items=6)  # nobody has items 2 and 5 yet
        >>> data = Dataset(log, Vocabulary(["a", "b", "c"]), Vocabulary(list("ijklmn")), item_features=genres)
        >>> model = FeatureMF(embedding_size=8, epochs=40, min_count=1, device="cpu").fit(data)
        >>> model.recommend([0, 1], k=1, exclude=data).items_BK
        array([[2],
               [5]], dtype=int32)
    """

    fitted = ("user_table_VW", "item_table_VW", "train_UI", "epochs_taken")
    user_table_VW: np.ndarray
    item_table_VW: np.ndarray
    train_UI: sp.csr_matrix
    epochs_taken: np.ndarray

    def __init__(
        self,
        *,
        embedding_size: Count = 64,
        loss: Literal["warp", "bpr", "logistic"] = "warp",
        epochs: CountOrZero = 30,
        learning_rate: Positive = 0.1,
        regularization: NotNegative = 1.0,
        id_dropout: ShareBelowOne = 0.0,
        max_sampled: Count = 10,
        popularity_exponent: float = 0.0,
        features: UsedFeatures = "all",
        item_kinds: Mapping[str, str] | None = None,
        user_kinds: Mapping[str, str] | None = None,
        min_count: Count = 3,
        text_size: Count = 64,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        if popularity_exponent and loss == "warp":
            raise ValueError(
                f'popularity_exponent={popularity_exponent} would have no effect: loss="warp" estimates ranks by uniform draws. '
                'Leave it at 0, or use loss="bpr"'
            )
        self.embedding_size = embedding_size
        self.loss = loss
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.id_dropout = id_dropout
        self.max_sampled = max_sampled
        self.popularity_exponent = popularity_exponent
        self.features = features
        self.item_kinds = dict(item_kinds or {})
        self.user_kinds = dict(user_kinds or {})
        self.min_count = min_count
        self.text_size = text_size
        self.seed = seed
        self.device = device
        for noun, kinds in (("item", self.item_kinds), ("user", self.user_kinds)):
            self._encoder(noun, kinds)

    def fit(self, train: Dataset | Interactions) -> Self:
        """Fit to `train`; return self."""
        interactions = self._begin(train)
        if self.item_side is None and self.user_side is None and self.features != "none":
            log.info("FeatureMF: the data has no features, so this is matrix factorization by ids alone")
        self.user_table_VW = self._initial("user", 0, self._num_values("user"))
        self.item_table_VW = self._initial("item", 0, self._num_values("item"))
        self.epochs_taken = np.zeros((), np.int64)
        self._learn(interactions, self.epochs, "FeatureMF")
        return self

    def fine_tune(self, new: Dataset | Interactions, *, epochs: int = 10) -> Self:
        """Continue training with new interactions of known and new users and items; return self.

        All interactions since `fit` are kept (8 bytes each, also in saved folders), and `epochs` more epochs run over old and
        new ones together from the current embeddings, with new sums of squared gradients. New ids start as in `fit`, from
        their features, which are encoded as in `fit`.

        Args:
            new: a Dataset, matched by ids, if the model was fitted on one: known ids keep their rows, new ones are appended.
                Interactions if it was fitted on Interactions: rows past the known ones are new.
            epochs: passes over the pairs, old and new; they decay from `learning_rate` as in `fit`.

        Raises:
            ValueError: a Dataset for a model without ids, Interactions with new rows for a model with ids, or features missing
                or with a different type than in training.
        """
        fresh = self._added(new)
        self._learn(
            Interactions.concat([Interactions.from_csr(self.train_UI), fresh]), epochs, "FeatureMF, fine-tuning"
        )
        return self

    def grow(self, new: Dataset | Interactions) -> Self:
        """Add rows for users and items of `new` that were not in training, without training them; return self.

        New rows are served by their features alone; trained rows keep their embeddings bit for bit. Interactions of `new` are not
        learned from: `fine_tune` does that.

        Args:
            new: as in `fine_tune`.

        Raises:
            ValueError: as in `fine_tune`.
        """
        fresh = self._added(new)
        past = Interactions.from_csr(self.train_UI).over(fresh.num_users, fresh.num_items)
        self._remember(past)
        self.train_UI = past.by_user
        self._extend_tables()
        self._prepare()
        return self

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users; see `CatalogModel.fold_in`. User features of a Dataset are used too."""
        state = super().fold_in(histories)
        if not isinstance(histories, Dataset) or self.user_encoder is None or histories.user_features is None:
            return state
        side = self.user_encoder.transform(histories.user_features)
        vectors_BW = self._folded(state.histories, self._user_start(side, len(state)))
        return UserState((vectors_BW, state.values[1] | side.known_R), state.histories, self)

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export; new users get the most popular items."""
        from recsys_dl.families.served import inner_product, stored

        served = inner_product(self, seen, stored(self, seen)[0], self.item_emb_ID)
        known_U = served.known_U if self.user_side is None else served.known_U | self.user_side.known_R
        return replace(served, known_U=known_U)

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        for noun, size in (("user", self.num_users), ("item", self.num_items)):
            table = getattr(self, f"{noun}_table_VW")
            shape = (self._num_values(noun) + size, self.embedding_size + 2)
            if table.shape != shape:
                raise ValueError(
                    f"the {noun} table must have a row for each of {shape[0] - size} feature values and {size} {noun}s, and "
                    f"{shape[1]} columns, got {table.shape}: the folder is of another model; save it again"
                )
        self._prepare()

    def _bytes_needed(self) -> int:
        return 4 * super()._bytes_needed()  # embeddings, sums of squares, vectors, and room to compute them

    # Features

    def _num_values(self, noun: str) -> int:
        """Return the number of feature values, whose rows precede those of ids in a table."""
        encoder = getattr(self, f"{noun}_encoder")
        return 0 if encoder is None else encoder.num_values + encoder.num_dense

    def _side(self, noun: str, rows: np.ndarray) -> Side:
        """Return the features of some rows, with the ids of those that have interactions."""
        table, side = getattr(self, f"{noun}_table_VW"), getattr(self, f"{noun}_side")
        counts = self.user_counts_U if noun == "user" else self.item_counts_I
        first_id = self._num_values(noun)
        ids = sp.diags(counts > 0, dtype=np.float32, format="csr")[rows]
        parts = [feature_matrix(side, first_id)[rows]] if side is not None else []
        matrix = sp.hstack([*parts, ids], format="csr", dtype=np.float32)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        constant = self.embedding_size + (noun == "user")
        squares = np.full_like(table, START)
        return Side(matrix.indptr.astype(np.int64), matrix.indices, matrix.data, first_id, constant, table, squares)

    def _user_start(self, side: Features | None, num: int) -> np.ndarray:
        """Return vectors of new users by their features alone."""
        size = self._num_values("user")
        matrix = sp.csr_matrix((num, size), dtype=np.float32) if side is None else feature_matrix(side, size)
        columns = (matrix.indptr.astype(np.int64), matrix.indices, matrix.data)
        table = self.user_table_VW
        return vectors(Side(*columns, size, self.embedding_size + 1, table, table), np.arange(num))

    def _added(self, new: Dataset | Interactions) -> Interactions:
        """Return new interactions in this model's rows; remember new ids and their features."""
        self._check_fitted()
        known = {"user": self.num_users, "item": self.num_items}
        fresh = self._aligned(new)
        self._take_in_features(new, known)
        for noun, size in (("user", fresh.num_users), ("item", fresh.num_items)):
            self._extend_side(noun, size)
        return fresh

    def _extend_side(self, noun: str, size: int) -> None:
        """Give new rows without a Dataset's features empty ones."""
        side = getattr(self, f"{noun}_side")
        if side is not None and len(side) < size:
            more = size - len(side)
            grown = {name: np.pad(part, ((0, more), *[(0, 0)] * (part.ndim - 1))) for name, part in vars(side).items()}
            setattr(self, f"{noun}_side", Features(**grown))

    # Training

    def _initial(self, noun: str, first: int, stop: int) -> np.ndarray:
        """Return new rows of a table: uniform embeddings in ±1 / (2 D), biases of 0."""
        rng = np.random.default_rng([self.seed, noun == "item", first])
        table = np.zeros((stop - first, self.embedding_size + 2), np.float32)
        table[:, : self.embedding_size] = (rng.random((stop - first, self.embedding_size)) - 0.5) / self.embedding_size
        return table

    def _extend_tables(self) -> None:
        """Copy the tables, with rows for all users and items."""
        for noun, size in (("user", self.num_users), ("item", self.num_items)):
            table = getattr(self, f"{noun}_table_VW")
            added = self._initial(noun, len(table), self._num_values(noun) + size)
            setattr(self, f"{noun}_table_VW", np.concatenate([table, added]))

    def _learn(self, interactions: Interactions, epochs: int, name: str) -> None:
        """Grow the tables to the shape of the interactions, and run epochs over them."""
        self._remember(interactions)
        self.train_UI = interactions.by_user
        self._extend_tables()
        met_M = np.flatnonzero(self.item_counts_I)
        users, items = self._side("user", np.arange(self.num_users)), self._side("item", met_M)
        indptr_U1, places_N = self._in_places(self.train_UI)
        weights = self._draw_weights(places_N)
        for epoch in track(range(epochs), name):
            feature_epoch(
                indptr_U1,
                places_N,
                users,
                items,
                loss=self.loss,
                max_sampled=self.max_sampled,
                learning_rate=self.learning_rate * (epochs - epoch) / epochs,
                regularization=self.regularization,
                id_dropout=self.id_dropout,
                seed=self.seed,
                epoch=int(self.epochs_taken) + epoch,
                weights=weights,
            )
        if not (np.isfinite(self.user_table_VW).all() and np.isfinite(self.item_table_VW).all()):
            raise ValueError(
                f"training diverged: learning_rate {self.learning_rate} is too large for this log; lower it, or raise regularization"
            )
        self.epochs_taken = self.epochs_taken + epochs
        self._prepare()

    def _in_places(self, by_user: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        """Return a CSR's indptr, and its items numbered among those with interactions; others are left out."""
        met_I = self.item_counts_I > 0
        kept_N = met_I[by_user.indices]
        ends_N1 = np.concatenate([[0], np.cumsum(kept_N)])
        places_I = np.cumsum(met_I) - 1
        return ends_N1[by_user.indptr], places_I[by_user.indices[kept_N]].astype(np.int32)

    def _influential_items(self) -> np.ndarray:
        return self.item_counts_I > 0

    def _draw_weights(self, places_N: np.ndarray) -> ItemWeights | None:
        if not self.popularity_exponent:
            return None
        counts_M = self.item_counts_I[self.item_counts_I > 0]
        return item_weights(counts_M ** float(self.popularity_exponent), places_N)

    def _prepare(self) -> None:
        """Compute the vectors of all users and items."""
        self.user_emb_UD = vectors(self._side("user", np.arange(self.num_users)), np.arange(self.num_users))
        self.item_emb_ID = vectors(self._side("item", np.arange(self.num_items)), np.arange(self.num_items))
        self._fill_unknown_items()

    def _fold(self, histories: Interactions) -> tuple[np.ndarray, np.ndarray]:
        """Take steps as in training on each user's own embedding, with items fixed."""
        start_BW = self._user_start(None, histories.num_users)
        return self._folded(histories, start_BW), num_influential(histories, self._influential_items()) > 0

    def _folded(self, histories: Interactions, start_BW: np.ndarray) -> np.ndarray:
        indptr_B1, places_N = self._in_places(histories.by_user)
        return fold_users(
            indptr_B1,
            places_N,
            start_BW,
            self.item_emb_ID[self.item_counts_I > 0],
            loss=self.loss,
            max_sampled=self.max_sampled,
            epochs=FOLD_EPOCHS,
            learning_rate=self.learning_rate,
            regularization=self.regularization,
            seed=self.seed,
            weights=self._draw_weights(places_N),
        )


def feature_matrix(side: Features, num_values: int) -> sp.csr_matrix:
    """Return encoded features as CSR [R, V]: codes first, dense columns last; a list's values weigh 1 / sqrt(n).

    Rows of which no value is known are empty, as those of users and items that come without features.
    """
    num_rows, width = side.codes_RM.shape
    rows_N = np.repeat(np.arange(num_rows), width)
    codes = sp.csr_matrix(
        (np.sqrt(side.weights_RM.ravel()), (rows_N, side.codes_RM.ravel())),
        shape=(num_rows, num_values - side.dense_RF.shape[1]),
    )
    matrix = sp.hstack([codes, sp.csr_matrix(side.dense_RF)], format="csr", dtype=np.float32)
    matrix = sp.diags(side.known_R, dtype=np.float32, format="csr") @ matrix
    matrix.eliminate_zeros()
    return matrix
