"""CLCRec: content vectors learned by contrast, with the vectors of items and of the users who like them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Unpack

from recsys_dl.arguments import Positive, Share
from recsys_dl.families.content_network import (
    ContentNetwork,
    ContentNetworkArguments,
    ContentNetworkModel,
    Correction,
)
from recsys_dl.protocols import Recommender
from recsys_dl.training.pairs import LabeledLists


class CLCRecNetwork(ContentNetwork):
    """Known items keep their base vectors; others have an encoder's of their content."""

    def __init__(self, *tables: Tensor, hidden_sizes: list[int]) -> None:
        super().__init__(*tables)
        self.encoder = Correction(self.size, hidden_sizes)

    def joined(self, rows_N: Tensor, hidden_N: Tensor, encoded_NE: Tensor) -> Tensor:
        """Return [N, E], the base vector or, if hidden, the encoded content."""
        return torch.where(hidden_N[:, None], encoded_NE, self.item_IE[rows_N])

    def items(self, rows_N: Tensor, hidden_N: Tensor) -> Tensor:
        """Return [N, E]."""
        return self.joined(rows_N, hidden_N, self.encoder(self.content_IE[rows_N]))


class CLCRec(ContentNetworkModel):
    """score(u, i) = that of `base`, in which the vectors of items without interactions are those of a content encoder, learned by contrast.

    Two cross-entropies are added, each over the items of a batch: `item_share` times that of an item's base vector with its own encoded content against the content of
    others (cosine / `item_temperature`), and 1 - `item_share` times that of a user with an item of theirs against sampled ones and those of other users
    (score / `temperature`), where `hidden_share` of the items have encoded content in place of their vector, so that new and known items learn to compete in one list. After Wei et al. 2021, "Contrastive
    Learning for Cold-Start Recommendation", section 3. Unlike there, the vectors of users and items are those of `base`, so that known items keep their order, and the encoder
    starts as a ridge regression of them on the content. See `ContentNetworkModel` for the other arguments.

    Args:
        base: a model with item vectors of its own.
        temperature: divisor of the scores; the larger, the higher new items come.
        item_temperature: divisor of the cosines.
        item_share: see above.
        more: the arguments of `ContentNetworkModel`.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> from recsys_dl.models import SVD, CLCRec
        >>> items = pl.DataFrame({"genres": [["War"], ["War"], ["Comedy"], ["Comedy"], ["Comedy"]]})
        >>> log = Interactions([0, 0, 1, 1], [0, 1, 2, 3], num_items=5)
        >>> train = Dataset(log, Vocabulary(["ann", "bob"]), Vocabulary(list("abcde")), item_features=items)
        >>> model = CLCRec(SVD(embedding_size=2, seed=7), epochs=1, device="cpu").fit(train)
        >>> model.recommend([1], k=1, exclude=train).items_BK
        array([[4]], dtype=int32)
    """

    def __init__(
        self,
        base: Recommender,
        *,
        temperature: Positive = 0.1,
        item_temperature: Positive = 0.2,
        item_share: Share = 0.5,
        **more: Unpack[ContentNetworkArguments],
    ) -> None:
        super().__init__(base, **more)
        self.temperature = temperature
        self.item_temperature = item_temperature
        self.item_share = item_share

    def _network(self, *tables: Tensor) -> CLCRecNetwork:
        return CLCRecNetwork(*tables, hidden_sizes=self.hidden_sizes)

    def _loss(self, network: Any, users_B: Tensor, rows_N: Tensor, places_BL: Tensor, batch: LabeledLists) -> Tensor:
        encoded_NE = network.encoder(network.content_IE[rows_N])
        vectors_NE = network.joined(rows_N, self._some_hidden(network, rows_N), encoded_NE)
        scores_BN = network.user_UE[users_B] @ vectors_NE.T * (self._score_unit / self.temperature)
        own_BN = self._liked(users_B, rows_N) | network.hidden_I[rows_N]
        own_BN[torch.arange(len(users_B)), places_BL[:, 0]] = False
        of_users = F.cross_entropy(scores_BN.masked_fill(own_BN, -torch.inf), places_BL[:, 0])
        few_N = network.replaceable_I[rows_N].nonzero().squeeze(1)
        if not len(few_N):
            return of_users
        known_nE = F.normalize(network.item_IE[rows_N[few_N]], dim=1)
        cosines_nn = known_nE @ F.normalize(encoded_NE.index_select(0, few_N), dim=1).T
        of_items = F.cross_entropy(cosines_nn / self.item_temperature, torch.arange(len(few_N), device=rows_N.device))
        return self.item_share * of_items + (1 - self.item_share) * of_users
