"""The base of two-tower models: encoded features, the softmax over items, and precomputed vectors ranked by inner product.

B batch, U users, I items, N items encoded together, H items of a history, T targets, C candidates, D embedding size.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Count, Positive, ShareBelowOne
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.features import Features
from recsys_dl.data.interactions import Interactions
from recsys_dl.networks.encoders import Encoded, ItemEncoder, TowerNetwork, UserTower
from recsys_dl.networks.sharded import Sharding
from recsys_dl.processes import current
from recsys_dl.protocols import Input, Served, UserState
from recsys_dl.sizes import LogSize, Sizes
from recsys_dl.training.batches import mixed
from recsys_dl.training.surroundings import scoring

from .evidence import num_influential
from .feature_vectors import UsedFeatures
from .growing_towers import GrowingTowers
from .histories import Candidates, Histories, Softmax
from .mapped_tables import mapped_rows
from .network_model import TrainingArguments
from .neural_sizes import network_sizes, tower_step, weights_of
from .served import inner_product, stored

ITEMS_AT_ONCE, USERS_AT_ONCE = 8192, 1024  # encoded at a time for serving


class TowerArguments(TrainingArguments, total=False):
    """The arguments of `TowerModel`."""

    embedding_size: Count
    history_size: Count
    features: UsedFeatures
    item_kinds: Mapping[str, str] | None
    user_kinds: Mapping[str, str] | None
    min_count: Count
    text_size: Count
    feature_sizes: Sequence[Count] | None
    id_dropout: ShareBelowOne
    dropout: ShareBelowOne
    softmax: Softmax
    num_negatives: Count
    popularity_exponent: float
    normalize: bool
    temperature: Positive


class TowerModel(GrowingTowers):
    """score(u, i) = <vector of the user's history and features, vector of the item and its features>.

    New users are encoded from their history and, if `fold_in` is given a Dataset, their features; new items
    from their features. A user with neither gets the most popular items. An item without any information scores -inf, so that it
    is never recommended; its vector is the mean of those of the rarest tenth of the training items.

    Args:
        embedding_size: D.
        history_size: H, the number of a user's newest items used.
        features: which features of a Dataset to use: "all", "items", "users" or "none".
        item_kinds: column -> kind, to override inference; see `FeatureEncoder`.
        user_kinds: likewise.
        min_count: rows a feature value must occur in.
        text_size: dimensions of an item's text vector.
        feature_sizes: hidden layers between an item's features and its vector; empty means a linear map.
        id_dropout: share of items whose own embedding is dropped in a step, so that features learn to work alone.
        dropout: dropout rate, and the share of users whose features are dropped, so that histories learn to work
            alone too.
        softmax: the softmax is over "full": all training items; "sampled": items sampled for the step;
            "in_batch": the targets of the whole batch on all processes. See `choice_loss`.
        num_negatives: items sampled per step; "sampled" only.
        popularity_exponent: 0 samples uniformly, 1 in proportion to interactions; "sampled" only.
        normalize: scale user and item vectors to length 1.
        temperature: divisor of the scores.
        training: `epochs`, `batch_size`, `optimizer`, `learning_rate` and the rest of `NeuralModel`.

    Attributes:
        user_emb_UD: float32, vectors of the training users.
        item_emb_ID: float32, vectors of all items; the products of both are the scores.
        item_encoder: encoder of item features; None if not used. Likewise user_encoder.

    Raises:
        ValueError: an argument out of range; features that cannot be encoded.
    """

    fitted = ("train_UI", "history_N", "history_starts_U1")
    extra_dense = 0  # additional dense user columns that a model fills in each step
    network: TowerNetwork
    history_N: np.ndarray
    history_starts_U1: np.ndarray
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray

    def __init__(
        self,
        *,
        embedding_size: Count = 64,
        history_size: Count = 50,
        features: UsedFeatures = "all",
        item_kinds: Mapping[str, str] | None = None,
        user_kinds: Mapping[str, str] | None = None,
        min_count: Count = 3,
        text_size: Count = 64,
        feature_sizes: Sequence[Count] | None = None,
        id_dropout: ShareBelowOne = 0.1,
        dropout: ShareBelowOne = 0.1,
        softmax: Softmax = "full",
        num_negatives: Count = 1024,
        popularity_exponent: float = 0.5,
        normalize: bool = False,
        temperature: Positive = 1.0,
        **training: Unpack[TrainingArguments],
    ) -> None:
        super().__init__(**training)
        self.embedding_size = embedding_size
        self.history_size = history_size
        self.features = features
        self.item_kinds = dict(item_kinds or {})
        self.user_kinds = dict(user_kinds or {})
        self.min_count = min_count
        self.text_size = text_size
        self.feature_sizes = list(feature_sizes or ())
        self.id_dropout = id_dropout
        self.dropout = dropout
        self.softmax = softmax
        self.num_negatives = num_negatives
        self.popularity_exponent = popularity_exponent
        self.normalize = normalize
        self.temperature = temperature
        for noun, kinds in (("item", self.item_kinds), ("user", self.user_kinds)):
            self._encoder(noun, kinds)

    @property
    def shards_tables(self) -> bool:  # type: ignore[override]
        """Whether tables can be divided among processes: not with the full softmax, for which each step takes every item's vector."""
        return self.softmax != "full"

    # Implemented by models

    @abstractmethod
    def _user_net(self, num_values: int, num_dense: int) -> nn.Module:
        """Return a new user tower for the given numbers of feature values and dense features."""

    def _input_net(self) -> ItemEncoder | None:
        """Return the encoder of history items, if it differs from the item tower."""
        return None

    # Features

    def _profile(self, side: Features | None, num: int) -> Encoded:
        """Return users' features on the device, zeros where unknown, followed by the `extra_dense` columns."""
        if side is None:
            num_codes = 0 if self.user_side is None else 1
            num_dense = 0 if self.user_side is None else self.user_side.dense_RF.shape[1]
            parts = (np.zeros((num, num_codes)), np.zeros((num, num_codes)), np.zeros((num, num_dense)))
        else:
            parts = (side.codes_RM, side.weights_RM, side.dense_RF)
        dense_NF = np.concatenate([parts[2], np.zeros((num, self.extra_dense))], axis=1)
        tensors = (torch.from_numpy(part.astype(np.float32)).to(self.torch_device) for part in (parts[1], dense_NF))
        return Encoded(self._ints(parts[0]), *tensors)

    def _profiles(self, users_B: Tensor) -> Encoded:
        """Return users' features for a training step."""
        profile = self.profile.at(users_B.to(self.profile.codes_NM.device)).to(users_B.device)
        if self.user_side is None or not self.dropout:
            return profile
        kept_B1 = (torch.rand(len(users_B), 1, device=users_B.device) >= self.dropout).float()
        return Encoded(profile.codes_NM, profile.weights_NM * kept_B1, profile.dense_NF * kept_B1)

    # Training

    @abstractmethod
    def _vectors(self, log: LogSize) -> tuple[float, float, int]:
        """Return, for a log of that size, examples per epoch, user vectors per example, and targets of each."""

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training on a log of that size takes, without features; see `recsys_dl.sizes`."""
        weights = weights_of(self)
        sizes = network_sizes(self, log, weights, tower_step(self, log, weights, *self._vectors(log)))
        return (
            sizes
            if self.features == "none"
            else replace(sizes, notes=("features of users and items, if the log has any",))
        )

    def _imagine(self) -> None:
        self.item_counts_I = np.ones(self.num_items, np.int64)
        self.item_encoder = self.user_encoder = self.item_side = self.user_side = None

    def _build(self) -> TowerNetwork:
        """Return new towers."""
        num_values = 1 if self.user_encoder is None else self.user_encoder.num_values
        num_dense = 0 if self.user_encoder is None else self.user_encoder.num_dense
        user = self._user_net(num_values, num_dense + self.extra_dense)
        return TowerNetwork(
            self._item_net(), user, inputs=self._input_net(), normalize=self.normalize, temperature=self.temperature
        )

    def _item_net(self) -> ItemEncoder:
        features = None
        if self.item_side is not None:
            side = self.item_side
            codes_RM = torch.from_numpy(side.codes_RM.astype(np.int64))
            features = Encoded(codes_RM, torch.from_numpy(side.weights_RM), torch.from_numpy(side.dense_RF))
        return ItemEncoder(
            torch.from_numpy(self.item_counts_I > 0),
            self.embedding_size,
            features=features,
            num_values=1 if self.item_encoder is None else self.item_encoder.num_values,
            hidden_sizes=self.feature_sizes,
            dropout=self.dropout,
            id_dropout=self.id_dropout,
            sparse=self.optimizer == "row_adam",
            sharding=self.sharding,
        )

    def _take(self, log: Interactions) -> None:
        self._keep(Histories.of(log))
        super()._take(log)

    def _example_options(self) -> dict[str, Any]:
        return {
            "candidates": self.softmax,
            "num_negatives": self.num_negatives,
            "popularity_exponent": self.popularity_exponent,
            "seed": mixed(self.seed, 3),
            "device": self.torch_device,
        }

    def _encoded(
        self, network: TowerNetwork, rows: Sequence[Tensor], candidates: Candidates | None
    ) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """Return unnormalized vectors [N, D], the position of each of `rows` among them, and of the candidates.

        Each item is encoded once: without candidates all training items, else those needed by the step.
        """
        if candidates is None:
            return network.items(network.met_N), [network.place_I[some] for some in rows], None
        rows = [*rows, candidates.items_C]
        distinct_N, places = torch.unique(torch.cat([some.flatten() for some in rows]), return_inverse=True)
        parts = places.split([some.numel() for some in rows])
        *others, places_C = [part.view_as(some) for part, some in zip(parts, rows, strict=True)]
        return network.items(distinct_N), others, places_C

    # Serving

    def _prepare(self) -> None:
        self.profile = self._profile(self.user_side, self.num_users)
        if self.sharding is not None:
            self._prepare_divided(self.sharding)
            return
        network, everything = self.network, torch.arange(self.num_items, device=self.torch_device)
        raw = [network.items(rows) for rows in everything.split(ITEMS_AT_ONCE)]
        self.item_emb_ID = torch.cat([network.towers(part, of_users=False) for part in raw]).cpu().numpy()
        if network.inputs is not None:
            raw = [network.inputs(rows) for rows in everything.split(ITEMS_AT_ONCE)]
        self.input_emb_ID = torch.cat(raw)
        self._fill_unknown_items()
        self.user_emb_UD = self._user_vectors(Histories(self.history_N, self.history_starts_U1), self.profile)

    def _prepare_divided(self, sharding: Sharding) -> None:
        """Compute the serving state in files that all processes map, each process the vectors of its items and of some users."""
        network, known_I = self.network, self._known_items()
        inputs = network.items if network.inputs is None else network.inputs

        def encoded(encoder: ItemEncoder, items_N: np.ndarray) -> Tensor:
            table: Any = encoder.item_emb
            return encoder.encoded(self._ints(items_N), table.weight[self._ints(items_N - table.first)])

        def vectors(items_N: np.ndarray) -> Tensor:
            return network.towers(encoded(network.items, items_N), of_users=False)

        rare, table = self._rare_items(), network.items.item_emb
        own = rare[(table.first <= rare) & (rare < table.last)]
        sum_D = torch.zeros(self.embedding_size, dtype=torch.float64)
        for start in range(0, len(own), ITEMS_AT_ONCE):
            sum_D += vectors(own[start : start + ITEMS_AT_ONCE]).double().sum(0)
        of_unknown_D = torch.from_numpy(current().sum(sum_D.numpy()) / max(1, len(rare))).float()

        def item_rows(start: int, end: int) -> Tensor:
            known_N1 = torch.from_numpy(known_I[start:end, None])
            return torch.where(known_N1, vectors(np.arange(start, end)), of_unknown_D)

        def user_rows(start: int, end: int) -> Tensor:
            blocks = range(start, end, USERS_AT_ONCE)
            histories = Histories(self.history_N, self.history_starts_U1)
            return torch.cat(
                [
                    self._encoded_users(histories, self.profile, np.arange(first, min(first + USERS_AT_ONCE, end)))
                    for first in blocks
                ]
            )

        size = self.embedding_size
        self.item_emb_ID = mapped_rows(self.num_items, size, sharding, item_rows).numpy()
        self.input_emb_ID = mapped_rows(
            self.num_items, size, sharding, lambda start, end: encoded(inputs, np.arange(start, end))
        )
        self.user_emb_UD = mapped_rows(self.num_users, size, sharding, user_rows).numpy()

    def _user_vectors(self, histories: Histories, profile: Encoded) -> np.ndarray:
        user_emb_UD = np.empty((len(profile.codes_NM), self.embedding_size), np.float32)
        for start in range(0, len(user_emb_UD), USERS_AT_ONCE):
            rows = np.arange(start, min(start + USERS_AT_ONCE, len(user_emb_UD)))
            user_emb_UD[rows] = self._encoded_users(histories, profile, rows).cpu().numpy()
        return user_emb_UD

    def _encoded_users(self, histories: Histories, profile: Encoded, rows_B: np.ndarray) -> Tensor:
        """Return [B, D], vectors of some users."""
        items_BH, valid_BH = histories.padded(rows_B, self.history_size, newest_first=self.network.user.newest_first)
        valid = torch.from_numpy(valid_BH.astype(np.float32)).to(self.torch_device)
        places_BH, input_emb_ND = self._ints(items_BH), self.input_emb_ID
        if (
            self.sharding is not None or self.mapped
        ):  # the network may compute something of all vectors that it is given
            distinct_N, places_BH = torch.unique(places_BH, return_inverse=True)
            input_emb_ND = input_emb_ND[distinct_N]
        with scoring():
            encoded_BD: Tensor = self.network(input_emb_ND, places_BH, valid, *profile.at(self._ints(rows_B)))
        return encoded_BD

    def fold_in(self, histories: Dataset | Interactions | Sequence[Sequence[int]]) -> UserState:
        """Return the state of new users; see `CatalogModel.fold_in`. User features of a Dataset are used too."""
        state = super().fold_in(histories)
        if not isinstance(histories, Dataset) or self.user_encoder is None or histories.user_features is None:
            return state
        side = self.user_encoder.transform(histories.user_features)
        vectors_BD = self._user_vectors(Histories.of(state.histories), self._profile(side, len(state)))
        return UserState((vectors_BD, state.values[1] | side.known_R), state.histories, self)

    def _fold(self, histories: Interactions) -> tuple[np.ndarray, np.ndarray]:
        vectors_BD = self._user_vectors(Histories.of(histories), self._profile(None, histories.num_users))
        return vectors_BD, num_influential(histories, self._influential_items()) > 0

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the fitted towers as arrays and torch modules; see `UserTower` for its inputs besides a history."""
        tower = UserTower(copy.deepcopy(self.network), self.input_emb_ID, self.history_size)
        widths = {name: part.shape[1] for name, part in zip(UserTower.inputs, self.profile, strict=True)}
        inputs = [
            Input(name, "int64" if name == "codes_BM" else "float32", (width,))
            for name, width in widths.items()
            if width
        ]
        served = inner_product(self, seen, stored(self, seen)[0], self.item_emb_ID, tower)
        known_U = served.known_U if self.user_side is None else served.known_U | self.user_side.known_R
        return replace(served, inputs=tuple(inputs), known_U=known_U)
