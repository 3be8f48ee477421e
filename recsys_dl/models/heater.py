"""Heater: content in place of a factor model's vectors at random, by a mixture of experts, and one network over both."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Count, NotNegative
from recsys_dl.families.content_network import (
    ContentNetwork,
    ContentNetworkArguments,
    ContentNetworkModel,
    Correction,
)
from recsys_dl.protocols import Recommender
from recsys_dl.training.pairs import LabeledLists


class HeaterNetwork(ContentNetwork):
    """Experts that make an item's base vector from its content, and networks over the base vectors of users and items."""

    def __init__(self, *tables: Tensor, hidden_sizes: list[int], num_experts: int) -> None:
        super().__init__(*tables)
        self.experts = nn.ModuleList(Correction(self.size, hidden_sizes) for _ in range(num_experts))
        self.gate = nn.Linear(self.size, num_experts)
        self.user_net, self.item_net = (Correction(self.size, hidden_sizes) for _ in range(2))

    def made(self, rows_N: Tensor) -> Tensor:
        """Return [N, E], the mean of the experts' vectors, weighted by the gate."""
        content_NE = self.content_IE[rows_N]
        weights_NX = self.gate(content_NE).softmax(1)
        return (torch.stack([expert(content_NE) for expert in self.experts], 1) * weights_NX[:, :, None]).sum(1)

    def joined(self, rows_N: Tensor, hidden_N: Tensor, made_NE: Tensor) -> Tensor:
        """Return [N, E], the network over the base vector or, if hidden, over the one made from content."""
        return self.item_net(torch.where(hidden_N[:, None], made_NE, self.item_IE[rows_N]))

    def items(self, rows_N: Tensor, hidden_N: Tensor) -> Tensor:
        """Return [N, E]."""
        return self.joined(rows_N, hidden_N, self.made(rows_N))

    def users(self, base_BE: Tensor) -> Tensor:
        """Return [B, E]."""
        mapped_BE: Tensor = self.user_net(base_BE)
        return mapped_BE


class Heater(ContentNetworkModel):
    """score(u, i) = <f(u's vector in `base`), g(z)>, z = i's vector in `base` or, of new items, what a mixture of experts makes of i's content.

    Trained on observed pairs (label 1) against sampled ones (label 0) by the squared error of the scores, with z made from content for `hidden_share` of the items of
    a step (randomized training), plus `similarity` times the mean squared distance of what the experts make from the base vectors. After Zhu, Sefati, Saadatpanah, Caverlee 2020,
    "Recommendation for New Users and New Items via Randomized Training and Mixture-of-Experts Transformation", section 4. Unlike there, users keep their
    vectors, which `base` solves for new users too, and all networks start as the identity, the experts on a ridge regression of the base vectors on the
    content. See `ContentNetworkModel` for the other arguments.

    Args:
        base: a model with item vectors of its own.
        num_experts: of the mixture.
        similarity: weight of the distance of what the experts make from the base vectors, whose entries have about unit variance.
        more: the arguments of `ContentNetworkModel`.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import SVD, Heater
        >>> items = pl.DataFrame({"genres": [["War"], ["War"], ["Comedy"], ["Comedy"], ["Comedy"]]})
        >>> log = Interactions([0, 0, 1, 1], [0, 1, 2, 3], num_items=5)
        >>> train = Dataset(log, Vocabulary(["ann", "bob"]), Vocabulary(list("abcde")), item_features=items)
        >>> model = Heater(SVD(embedding_size=2, seed=7), epochs=1, device="cpu").fit(train)
        >>> model.recommend([1], k=1, exclude=train).items_BK
        array([[4]], dtype=int32)
    """

    def __init__(
        self,
        base: Recommender,
        *,
        num_experts: Count = 5,
        similarity: NotNegative = 0.1,
        **more: Unpack[ContentNetworkArguments],
    ) -> None:
        super().__init__(base, **more)
        self.num_experts = num_experts
        self.similarity = similarity

    def _network(self, *tables: Tensor) -> HeaterNetwork:
        return HeaterNetwork(*tables, hidden_sizes=self.hidden_sizes, num_experts=self.num_experts)

    def _loss(self, network: Any, users_B: Tensor, rows_N: Tensor, places_BL: Tensor, batch: LabeledLists) -> Tensor:
        made_NE = network.made(rows_N)
        vectors_NE = network.joined(rows_N, self._some_hidden(network, rows_N), made_NE)
        users_BE = network.users(network.user_UE[users_B])
        own_BLE = vectors_NE.index_select(0, places_BL.flatten()).unflatten(
            0, places_BL.shape
        )  # deterministic backward
        scores_BL = self._score_unit * (users_BE[:, None] * own_BLE).sum(-1)
        errors_BL = (scores_BL - batch.labels_BL).square() * batch.valid_BL
        apart_N = (made_NE - network.item_IE[rows_N]).square().mean(1) * network.replaceable_I[rows_N]
        return errors_BL.sum() / batch.valid_BL.sum() + self.similarity * apart_N.mean()  # type: ignore[union-attr]
