"""Networks that learn, over the vectors of a fitted factor model, what the content of new items is worth.

B batch, U users, I items, N items of a step, L candidates, E columns of the base model's vectors, P pairs.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self, Unpack

from recsys_dl.arguments import Count, Counts, NotNegative, Positive, ShareBelowOne
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.item_content import content_of, content_of_new
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.protocols import Recommender, Served
from recsys_dl.training.batches import mixed
from recsys_dl.training.pairs import LabeledLists, PairExamples
from recsys_dl.training.surroundings import scoring

from .content_based import ContentBased, check_factor_model
from .content_mapping import ContentMapping, vectors_by_others
from .factors import grown
from .network_model import TrainingArguments
from .neural import NeuralModel
from .served import inner_product, stored

ITEMS_AT_ONCE = 8192


class ContentNetwork(nn.Module):
    """Vectors of users and items from those of a base model and from content, all with entries of about unit variance.

    Args:
        user_UE, item_IE: vectors of the base model.
        content_IE: of items, made from their content.
        hidden_I: bool, items without a vector in the base model.
        replaceable_I: bool, items whose vectors may be hidden in training, since they have content.

    Attributes:
        user_unit, item_unit: what entries of 1 are in the base model's vectors.
    """

    user_UE: Tensor
    item_IE: Tensor
    content_IE: Tensor
    hidden_I: Tensor
    replaceable_I: Tensor
    user_unit, item_unit = 1.0, 1.0

    def __init__(
        self, user_UE: Tensor, item_IE: Tensor, content_IE: Tensor, hidden_I: Tensor, replaceable_I: Tensor
    ) -> None:
        super().__init__()
        tables = {"user_UE": user_UE, "item_IE": item_IE, "content_IE": content_IE}
        for name, table in (tables | {"hidden_I": hidden_I, "replaceable_I": replaceable_I}).items():
            self.register_buffer(name, table, persistent=False)
        self.size = item_IE.shape[1]

    @abstractmethod
    def items(self, rows_N: Tensor, hidden_N: Tensor) -> Tensor:
        """Return [N, E]; of hidden ones from content alone."""

    def users(self, base_BE: Tensor) -> Tensor:
        """Return [B, E] from vectors of the base model."""
        return base_BE


class ContentNetworkArguments(TrainingArguments, total=False):
    """The arguments of `ContentNetworkModel` besides `base`."""

    hidden_sizes: Counts
    hidden_share: ShareBelowOne
    num_negatives: Count
    scale: Positive
    kinds: Mapping[str, str] | None
    column_weights: Mapping[str, NotNegative] | None
    min_count: Count


class ContentNetworkModel(ContentBased, NeuralModel):
    """score(u, i) = <vector of u, vector of i>, both by a network over the vectors of `base`; of a new item over its content alone.

    Content enters as the vector that a ridge regression makes of an item's profile (see `Bootstrap`); of items in training by a ridge of the
    items in four other folds, so that the network learns from vectors no better than those of new items. In each step the base vectors of some items
    are hidden. `base` is not changed. New items enter by `grow(new)`, without a fit.

    Args:
        base: a model with item vectors of its own: als, bpr, svd, funk_svd, svd_pp or explicit_als.
        hidden_sizes: of the network.
        hidden_share: of the items whose base vectors are hidden in a step.
        num_negatives: items sampled per pair, anew in each epoch.
        scale: of the vectors of items without interactions; above 1 they are recommended more often, at the cost of known ones.
        kinds: column of the item features -> kind, see `Content`.
        column_weights: column -> weight, likewise.
        min_count: items that a term must occur in.
        training: `epochs`, `batch_size`, `optimizer`, `learning_rate` and the rest of `NeuralModel`.

    Attributes:
        base: the fitted model.
        user_emb_UD: float32, vectors of the training users.
        item_emb_ID: float32, vectors of all items; the products of both are the scores.

    Raises:
        ValueError: an argument out of range, a base without item vectors of its own, a log without item features or texts.
    """

    fitted = ("train_UI", "content_known_I", "user_base_UE", "content_IE")
    batch_type = LabeledLists
    network: ContentNetwork
    user_base_UE: np.ndarray
    content_IE: np.ndarray
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray

    def __init__(
        self,
        base: Recommender,
        *,
        hidden_sizes: Counts = (128,),
        hidden_share: ShareBelowOne = 0.5,
        num_negatives: Count = 4,
        scale: Positive = 1.0,
        kinds: Mapping[str, str] | None = None,
        column_weights: Mapping[str, NotNegative] | None = None,
        min_count: Count = 2,
        **training: Unpack[TrainingArguments],
    ) -> None:
        super().__init__(**training)
        check_factor_model(base)
        self.base = base
        self.hidden_sizes = list(hidden_sizes)
        self.hidden_share = hidden_share
        self.num_negatives = num_negatives
        self.scale = scale
        self.min_count = min_count
        self._take_columns(kinds, column_weights)

    # Implemented by models

    @abstractmethod
    def _network(self, *tables: Tensor) -> ContentNetwork:
        """Return a new network; the tables are the arguments of `ContentNetwork`."""

    @abstractmethod
    def _loss(self, network: Any, users_B: Tensor, rows_N: Tensor, places_BL: Tensor, batch: LabeledLists) -> Tensor:
        """Return the loss of a batch.

        Args:
            network: of `_network`.
            users_B: rows.
            rows_N: distinct item rows of the batch.
            places_BL: where in `rows_N` each item of the lists is.
            batch: all items of the lists that are valid have a vector in `base`.
        """

    # Public methods

    def with_scale(self, scale: float) -> Self:
        """Return a copy with another `scale`, without a fit: to choose it on validation.

        Raises:
            ValueError: not fitted, or a scale that is not above 0.
        """
        self._check_fitted()
        type(self)(self.base, **(self.arguments() | {"scale": scale}))
        other = copy.copy(self)
        other.item_emb_ID = self.item_emb_ID.copy()
        other.item_emb_ID[self.base.item_counts_I == 0] *= scale / self.scale
        other.scale = float(scale)
        return other

    def item_vectors(self) -> np.ndarray:
        """Return `item_emb_ID`."""
        self._check_fitted()
        return self.item_emb_ID

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        of_base = self.base.served(seen)
        tower = MappedUser(of_base.user_tower, copy.deepcopy(self.network))
        served = inner_product(self, seen, stored(self, seen), self.item_emb_ID, tower)
        return dataclasses.replace(served, inputs=of_base.inputs)

    # Training

    def _begin(self, train: Dataset | Interactions) -> Interactions:
        log = super()._begin(train)
        content = content_of(train)
        self.encoder = self._new_encoder().fit(*content)
        profiles = self.encoder.transform(*content)
        self.base = type(self.base)(**self.base.arguments()).fit(train)
        vectors_IE, counts_I = self.base.item_vectors(), self.item_counts_I
        known = np.flatnonzero((counts_I > 0) & profiles.known_R)
        mapping = ContentMapping("ridge", None, (), self.seed)
        self.mapping_fitted = mapping.fit(profiles.rows(known), vectors_IE[known].astype(np.float64), counts_I[known])
        self.content_IE = mapping.predict(profiles)
        self.content_IE[~profiles.known_R] = 0
        self.content_IE[known] = vectors_by_others(mapping, profiles.rows(known), vectors_IE[known], counts_I[known])
        self.content_known_I = profiles.known_R | (counts_I > 0)
        self.user_base_UE = self._base_queries(self.base._values(np.arange(self.num_users)))
        return log

    def _base_queries(self, values: Any) -> np.ndarray:
        """Return float32 [B, E], zeros for users of whom `base` knows nothing."""
        queries_BE = np.array(self.base._queries(values), np.float32)
        queries_BE[self.base._without_evidence(values)] = 0
        return queries_BE

    def _units(self) -> tuple[float, float]:
        """Return the root mean squares of the base model's user and item vectors."""
        tables = self.user_base_UE[self.base.user_counts_U > 0], self.base.item_vectors()[self.base.item_counts_I > 0]
        users, items = (max(float(np.sqrt(np.square(table, dtype=np.float64).mean())), 1e-12) for table in tables)
        return users, items

    @property
    def _score_unit(self) -> float:
        """The score in `base` of a product of 1 in the network."""
        return self.network.user_unit * self.network.item_unit

    def _build(self) -> ContentNetwork:
        users, items = self._units()
        hidden_I = self.base.item_counts_I == 0
        tables = (self.user_base_UE / users, self.base.item_vectors() / items, self.content_IE / items)
        network = self._network(
            *(torch.from_numpy(table.astype(np.float32)) for table in tables),
            torch.from_numpy(hidden_I),
            torch.from_numpy(self.content_IE.any(axis=1) & ~hidden_I),
        )
        network.user_unit, network.item_unit = users, items
        return network

    def _examples(self, log: Interactions) -> PairExamples:
        return self._pairs(log, log)

    def _tuning_examples(self, fresh: Interactions, replayed: Interactions) -> PairExamples:
        known = Interactions.from_csr(self.train_UI)
        new = np.flatnonzero((fresh.user_counts_U > 0) & (self.base.user_counts_U == 0))
        self.user_base_UE = self.user_base_UE.copy()
        self.user_base_UE[new] = self._base_queries(self.base._fold(known.of_users(new)))
        vectors_BE = torch.from_numpy(self.user_base_UE[new] / np.float32(self.network.user_unit))
        self.network.user_UE[self._ints(new)] = vectors_BE.to(self.torch_device)
        return self._pairs(Interactions.concat([fresh, replayed]), known)

    def _pairs(self, log: Interactions, known: Interactions) -> PairExamples:
        return PairExamples(
            log,
            known=known,
            num_negatives=self.num_negatives,
            negatives="uniform",
            seed=mixed(self.seed, 3),
            device=self.torch_device,
        )

    def _objective(self, network: nn.Module, batch: LabeledLists) -> Tensor:
        assert isinstance(network, ContentNetwork)
        valid_BL = ~network.hidden_I[batch.items_BL]
        batch = batch._replace(valid_BL=valid_BL if batch.valid_BL is None else valid_BL & batch.valid_BL)
        rows_N, places_BL = torch.unique(batch.items_BL, return_inverse=True)
        return self._loss(network, batch.users_B, rows_N, places_BL, batch)

    def _some_hidden(self, network: ContentNetwork, rows_N: Tensor) -> Tensor:
        """Return bool [N], drawn anew: items with content whose base vectors are hidden in this step."""
        drawn_N = torch.rand(len(rows_N), device=rows_N.device) < self.hidden_share
        return network.hidden_I[rows_N] | (drawn_N & network.replaceable_I[rows_N])

    def _liked(self, users_B: Tensor, rows_N: Tensor) -> Tensor:
        """Return bool [B, N], whether each user interacted with each item."""
        liked = self.train_UI[users_B.cpu().numpy()][:, rows_N.cpu().numpy()].toarray() != 0
        return torch.from_numpy(liked).to(users_B.device)

    def _take_in(self, new: Dataset | Interactions, known: dict[str, int]) -> None:
        self.base = grown(self.base, self.num_users, self.num_items)
        self.base.users, self.base.items = self.users, self.items
        self.user_base_UE = np.pad(self.user_base_UE, ((0, self.num_users - known["user"]), (0, 0)))
        content_IE = np.pad(self.content_IE, ((0, self.num_items - known["item"]), (0, 0)))
        known_I = np.pad(self.content_known_I, (0, self.num_items - known["item"]))
        content = content_of_new(new, self.items, known["item"])
        if content is not None:
            profiles = self.encoder.transform(*content)
            known_I[known["item"] :] = profiles.known_R
            content_IE[known["item"] :] = self.mapping_fitted.predict(profiles) * profiles.known_R[:, None]
        self.content_IE, self.content_known_I = content_IE, known_I

    def _identity(self, log: Interactions) -> dict[str, Any]:
        return super()._identity(log) | {"base": repr(self.base)}

    # Serving

    def _prepare(self) -> None:
        network = self.network
        rows = torch.arange(self.num_items, device=self.torch_device)
        parts = [network.items(some, network.hidden_I[some]) for some in rows.split(ITEMS_AT_ONCE)]
        self.item_emb_ID = network.item_unit * torch.cat(parts).cpu().numpy()
        self.item_emb_ID[self.base.item_counts_I == 0] *= self.scale
        self.item_emb_ID[~self.content_known_I] = 0
        self.user_emb_UD = self._mapped(self.user_base_UE)

    def _mapped(self, base_BE: np.ndarray) -> np.ndarray:
        """Return users' vectors from those of the base model; zeros stay, since nothing is known of such users."""
        unit = self.network.user_unit
        with scoring():
            vectors_BE = self.network.users(torch.from_numpy(base_BE / np.float32(unit)).to(self.torch_device))
        return np.asarray(vectors_BE.cpu().numpy() * (unit * base_BE.any(axis=1, keepdims=True)), np.float32)

    def _influential_items(self) -> np.ndarray:
        influential_I: np.ndarray = self.base._influential_items()
        return influential_I

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return self.user_emb_UD[users_B]

    def _fold(self, histories: Interactions) -> np.ndarray:
        return self._mapped(self._base_queries(self.base._fold(histories)))

    def _queries(self, values: np.ndarray) -> np.ndarray:
        return values

    def _scores(self, values: np.ndarray) -> np.ndarray:
        scores_BI = values @ self.item_emb_ID.T
        bias_I = self._unlisted_bias()
        return scores_BI if bias_I is None else scores_BI + bias_I

    def _top_k(
        self, values: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        bias_I = self._unlisted_bias()
        return top_k_dot(
            values, self.item_emb_ID, k, item_bias_I=bias_I, exclude=exclude, allow=allow, device=self.device
        )

    def _item_directions(self) -> np.ndarray:
        return self.item_emb_ID


class MappedUser(nn.Module):
    """A new user's state for export: the network over that of the base model."""

    def __init__(self, tower: nn.Module, network: ContentNetwork) -> None:
        super().__init__()
        self.tower, self.unit = tower, network.user_unit
        self.mapped: nn.Module = getattr(network, "user_net", nn.Identity())

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, E]."""
        base_BE = self.tower(history_BH, extra)
        return self.unit * self.mapped(base_BE / self.unit)


class Correction(nn.Module):
    """x -> x + a perceptron of it, which is 0 at first.

    Args:
        size: of x.
        hidden_sizes: of the perceptron.
        more: further inputs of the perceptron.
    """

    def __init__(self, size: int, hidden_sizes: Sequence[int], more: int = 0) -> None:
        super().__init__()
        self.size = size
        parts: list[nn.Module] = []
        width = size + more
        for hidden in hidden_sizes:
            parts += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        last = nn.Linear(width, size)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*parts, last)

    def forward(self, x_BS: Tensor) -> Tensor:
        """Return [B, size]; `x_BS` begins with x."""
        return x_BS[:, : self.size] + self.layers(x_BS)
