"""Matrix factorization for rankings: Bayesian personalized ranking."""

from __future__ import annotations

import logging
from typing import ClassVar

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, CountOrZero, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.item_ring import ItemRing
from recsys_dl.kernels.bpr import bpr_epoch, fold_users
from recsys_dl.kernels.bpr_blocks import num_blocks, user_blocks
from recsys_dl.kernels.device import Device, fetch, place, resolve
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.negatives import integer_weights
from recsys_dl.kernels.pair_dots import pair_dots
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.processes import current
from recsys_dl.progress import track
from recsys_dl.protocols import Served
from recsys_dl.sizes import LogSize, Part, Sizes, Work

log = logging.getLogger(__name__)

FOLD_EPOCHS = 40  # passes over a new user's history; on MovieLens more did not improve the lists


class BPR(CatalogModel):
    """score(u, i) = b_i + p_u . q_i, learned from pairs: items a user interacted with should score above others.

    Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback", with item
    biases. An epoch takes one SGD step for each distinct pair (u, i) of the log, regardless of
    weight, against one item sampled from those u did not interact with: see `kernels.bpr`, also for how this is parallel and yet
    bitwise identical on any number of threads; and, on the CPU, of processes (`recsys_dl.processes`), each of which takes the steps of some users.

    A user without interactions gets the most popular items; one who interacted with all items learns nothing and is ranked
    by the biases. An item without users is trained only as a negative: it ranks low, and is similar to none.

    Args:
        embedding_size: D.
        epochs: steps per interaction.
        learning_rate: step size in the first epoch; it decays linearly to 0, so that sampling noise
            averages out.
        regularization: penalty on each embedding and bias that a step touches.
        popularity_exponent: negatives are sampled in proportion to max(1, users of the item) to this power; 0 samples
            uniformly. Higher values focus on ranking popular items, lower ones on the whole catalog.
        initial_scale: initial standard deviation of the embeddings, times sqrt(D).
        seed: for the initial embeddings and all sampling.
        device: where to train and recommend. Each is bitwise reproducible; the two differ by rounding.

    Attributes:
        user_emb_UD: float32.
        item_emb_ID: float32.
        item_bias_I: float32.
        train_UI: CSR float32, all training interactions, for `fine_tune`.
        epochs_taken: int64 scalar; so that `fine_tune` draws new samples.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import BPR
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> BPR(embedding_size=2, device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    shares_fit = True
    fitted = ("user_emb_UD", "item_emb_ID", "item_bias_I", "train_UI", "epochs_taken")
    bounded = True
    item_parameters: ClassVar[tuple[str, ...]] = ("item_emb_ID", "item_bias_I")
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray
    item_bias_I: np.ndarray
    train_UI: sp.csr_matrix
    epochs_taken: np.ndarray

    def __init__(
        self,
        *,
        embedding_size: Count = 64,
        epochs: CountOrZero = 150,
        learning_rate: Positive = 0.1,
        regularization: NotNegative = 0.025,
        popularity_exponent: float = 0.25,
        initial_scale: NotNegative = 1.0,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        if learning_rate * regularization >= 1:
            raise ValueError(
                f"learning_rate times regularization must be below 1, got {learning_rate} times {regularization}"
            )
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.popularity_exponent = popularity_exponent
        self.initial_scale = initial_scale
        self.seed = seed
        self.device = device

    def fit(self, train: Dataset | Interactions) -> Self:
        """Fit to `train`; return self."""
        interactions = self._begin(train)
        self.user_emb_UD = self.item_emb_ID = np.empty((0, self.embedding_size), np.float32)
        self.item_bias_I = np.empty(0, np.float32)
        self.epochs_taken = np.zeros((), np.int64)
        self._learn(interactions, self.epochs, "BPR")
        return self

    def fine_tune(self, new: Dataset | Interactions, *, epochs: int = 20) -> Self:
        """Continue training with new interactions of known and new users and items; return self.

        All interactions since `fit` are kept (8 bytes each, also in saved folders), and `epochs` more epochs run over old and
        new ones together from the current embeddings: positives are never sampled as negatives, and nothing is forgotten.
        New rows start as in `fit`.

        Args:
            new: a Dataset, matched by ids, if the model was fitted on one: known ids keep their rows, new ones are appended.
                Interactions if it was fitted on Interactions: rows past the known ones are new.
            epochs: steps per interaction, old or new; they decay from `learning_rate` as in `fit`.

        Raises:
            ValueError: a Dataset for a model without ids, or Interactions with new rows for a model with ids.
        """
        fresh = self._aligned(new)
        self._learn(Interactions.concat([Interactions.from_csr(self.train_UI), fresh]), epochs, "BPR, fine-tuning")
        return self

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import inner_product, stored

        return inner_product(self, seen, self._queries(stored(self, seen)), self.item_vectors())

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training takes: see `recsys_dl.sizes`."""
        size, num = self.embedding_size, log.num_interactions
        users, items = 4.0 * size * log.num_users, 4.0 * (size + 1) * log.num_items
        return Sizes(
            [
                Part("tables", "user_emb_UD", users, "users", saved=True),
                Part("tables", "item_emb_ID, item_bias_I", items, "items", saved=True),
                Part("interactions", "by user", 8.0 * num + 12 * log.num_users, "interactions", saved=True),
                Part("work", "random numbers", 3.0 * max(users, items), "users", when="start"),
                Part("work", "drawn triples", 12.0 * num, "interactions", when="epoch"),
                Part("work", "weights of negatives, blocks", 28.0 * log.num_items, "items", when="epoch"),
            ],
            work=[
                Work("steps", 12.0 * num * size, 24.0 * num * size),
                Work("draws", float(num), 24.0 * num),
            ],
            steps=1,
            epochs=self.epochs,
            vector_size=size + 1,
        )

    def item_vectors(self) -> np.ndarray:
        """Return the item embeddings with the biases as an extra column."""
        self._check_fitted()
        return np.column_stack([self.item_emb_ID, self.item_bias_I])

    def _learn(self, interactions: Interactions, epochs: int, name: str) -> None:
        """Grow the embeddings to the shape of the interactions, and run epochs over them."""
        self._remember(interactions)
        self.train_UI = interactions.by_user
        arrays = (
            self.train_UI.indptr.astype(np.int64),
            self.train_UI.indices,
            self._grown(self.user_emb_UD, self.num_users, 0),
            self._grown(self.item_emb_ID, self.num_items, 1),
            np.pad(self.item_bias_I, (0, self.num_items - len(self.item_bias_I))),
        )
        indptr, indices, users, items, bias = place(arrays, self.device)
        weights_I = self._negative_weights()
        group, blocks = current(), num_blocks(self.num_users, self.num_items, self.train_UI.nnz)
        shared = 1 < group.size <= blocks and resolve(self.device) == "cpu"
        if group.size > 1 and not shared:
            log.warning(
                "BPR is not shared by %d processes, each fits all of it: this log has %d blocks, on %s",
                *(group.size, blocks, resolve(self.device)),
            )
        ring = ItemRing(group, items, bias) if shared else None
        for epoch in track(range(epochs), name):
            bpr_epoch(
                indptr,
                indices,
                users,
                items,
                bias,
                learning_rate=self.learning_rate * (epochs - epoch) / epochs,
                regularization=self.regularization,
                seed=self.seed,
                epoch=int(self.epochs_taken) + epoch,
                weights_I=weights_I,
                ring=ring,
                device=self.device,
            )
        if ring is not None:
            bounds_P1 = user_blocks(indptr, blocks)[blocks * np.arange(group.size + 1) // group.size]
            users = group.stacked(users[slice(*bounds_P1[group.rank : group.rank + 2])], bounds_P1)
        learned = fetch(users), fetch(items), fetch(bias)
        if not all(np.isfinite(table).all() for table in learned):
            raise ValueError(
                f"training diverged: learning_rate {self.learning_rate} is too large for this log; "
                "lower it, or raise regularization"
            )
        self.user_emb_UD, self.item_emb_ID, self.item_bias_I = learned
        self.epochs_taken = self.epochs_taken + epochs

    def _grown(self, emb: np.ndarray, size: int, side: int) -> np.ndarray:
        """Return a copy with added rows, initialized as in `fit`."""
        rng = np.random.default_rng([self.seed, side, len(emb)])
        scale = self.initial_scale / np.sqrt(self.embedding_size)
        added = scale * rng.standard_normal((size - len(emb), self.embedding_size))
        return np.concatenate([emb, added.astype(np.float32)])

    def _negative_weights(self) -> np.ndarray:
        return integer_weights(np.maximum(self.item_counts_I, 1) ** float(self.popularity_exponent))

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return self.user_emb_UD[users_B]

    def _queries(self, values: np.ndarray) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, 1)), constant_values=1)  # times the bias

    def _fold(self, histories: Interactions) -> np.ndarray:
        """Take steps as in training, with items fixed."""
        by_user = histories.by_user
        return fold_users(
            by_user.indptr.astype(np.int64),
            by_user.indices,
            self.item_emb_ID,
            self.item_bias_I,
            epochs=FOLD_EPOCHS,
            learning_rate=self.learning_rate,
            regularization=self.regularization,
            seed=self.seed,
            weights_I=self._negative_weights(),
            device=self.device,
        )

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return values @ self.item_emb_ID.T + self.item_bias_I

    def _pair_scores(self, values: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
        return pair_dots(values, self.item_emb_ID, items_BL) + self.item_bias_I[items_BL]

    def _top_k(
        self, values: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return top_k_dot(
            values,
            self.item_emb_ID,
            k,
            item_bias_I=self.item_bias_I,
            exclude=exclude,
            allow=allow,
            device=self.device,
        )

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the embeddings."""
        return self._cosines(self.item_emb_ID, items_B)
