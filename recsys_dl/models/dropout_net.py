"""DropoutNet: a network that scores like a factor model, and learns to do so without the item's vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recsys_dl.families.content_network import ContentNetwork, ContentNetworkModel, Correction
from recsys_dl.training.pairs import LabeledLists


class DropoutNetNetwork(ContentNetwork):
    """An item's vector from its base vector, or zeros, and its content beside it."""

    def __init__(self, *tables: Tensor, hidden_sizes: list[int]) -> None:
        super().__init__(*tables)
        self.item_net = Correction(self.size, hidden_sizes, more=2 * self.size)

    def items(self, rows_N: Tensor, hidden_N: Tensor) -> Tensor:
        """Return [N, E]; the network starts as the base vector or, if hidden, the content vector."""
        kept_N1 = (~hidden_N).float()[:, None]
        known_NE, content_NE = self.item_IE[rows_N] * kept_N1, self.content_IE[rows_N]
        return self.item_net(torch.cat([known_NE + content_NE * (1 - kept_N1), known_NE, content_NE], dim=1))


class DropoutNet(ContentNetworkModel):
    """score(u, i) = <u's vector in `base`, f(i's vector in `base` or zeros, i's content)>.

    f minimizes the squared error of the scores of `base` for the users and items of a batch, all pairs, while the vectors of `hidden_share` of the items are
    dropped to zero. After Volkovs, Yu, Poutanen 2017, "DropoutNet: Addressing Cold Start in Recommender Systems", section 4. Unlike there, users keep
    their vectors, which `base` solves for new users too, and f starts as the base vector or, where that is dropped, as a ridge regression of it on the content. See
    `ContentNetworkModel` for the arguments.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import SVD, DropoutNet
        >>> items = pl.DataFrame({"genres": [["War"], ["War"], ["Comedy"], ["Comedy"], ["Comedy"]]})
        >>> log = Interactions([0, 0, 1, 1], [0, 1, 2, 3], num_items=5)
        >>> train = Dataset(log, Vocabulary(["ann", "bob"]), Vocabulary(list("abcde")), item_features=items)
        >>> model = DropoutNet(SVD(embedding_size=2, seed=7), epochs=1, device="cpu").fit(train)
        >>> model.recommend([1], k=1, exclude=train).items_BK
        array([[4]], dtype=int32)
    """

    def _network(self, *tables: Tensor) -> DropoutNetNetwork:
        return DropoutNetNetwork(*tables, hidden_sizes=self.hidden_sizes)

    def _loss(self, network: Any, users_B: Tensor, rows_N: Tensor, places_BL: Tensor, batch: LabeledLists) -> Tensor:
        counted_N = (~network.hidden_I[rows_N]).float()
        vectors_NE = network.items(rows_N, self._some_hidden(network, rows_N))
        errors_BN = network.user_UE[users_B] @ (vectors_NE - network.item_IE[rows_N]).T
        return (errors_BN.square() * counted_N).mean() / network.size
