"""Neural collaborative filtering with an MLP."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from recsys_dl.arguments import Counts, ShareBelowOne
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.pair_network import PairArguments, PairModel, PairNetwork
from recsys_dl.kernels.perceptron import perceptron_scores
from recsys_dl.protocols import Served

ITEMS_AT_ONCE = 8192  # catalog items per block, so that activations take a few megabytes


class Layers(nn.Module):
    """An MLP over a pair whose first layer is split: W [p; q] + b = W_p p + (W_q q + b).

    The first layer of width H then costs H additions per pair instead of an H x 2D product.

    Args:
        embedding_size: D, for user and item each.
        hidden_sizes: widths of the hidden layers, at least one.
        dropout: dropout rate of the hidden layers.
    """

    def __init__(self, embedding_size: int, hidden_sizes: Sequence[int], dropout: float) -> None:
        super().__init__()
        first = hidden_sizes[0]
        self.user_part = nn.Linear(embedding_size, first, bias=False)
        self.item_part = nn.Linear(embedding_size, first)
        self.hidden = nn.ModuleList(nn.Linear(one, two) for one, two in pairwise(hidden_sizes))
        self.output = nn.Linear(hidden_sizes[-1], 1, bias=False)
        self.dropout = dropout
        for layer in (self.user_part, self.item_part, *self.hidden, self.output):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, user_part_BH: Tensor, item_part_BLH: Tensor) -> Tensor:
        """Return [B, L]; the parts broadcast."""
        units = torch.relu_(user_part_BH[..., None, :] + item_part_BLH)
        for layer in self.hidden:
            if self.training and self.dropout:
                units = F.dropout(units, self.dropout)
            units = torch.relu_(layer(units))
        return units @ self.output.weight[0]

    def catalog(self, user_part_BH: Tensor, item_part_IH: Tensor) -> Tensor:
        """Return [B, I], in blocks of a few thousand pairs to bound memory."""
        if len(self.hidden) and user_part_BH.device.type == "cpu":
            layers: Any = self.hidden
            scores_BI = perceptron_scores(
                user_part_BH.contiguous().numpy(),
                item_part_IH.numpy(),
                [layer.weight.detach().T.contiguous().numpy() for layer in layers],
                [layer.bias.detach().numpy() for layer in layers],
                self.output.weight[0].detach().contiguous().numpy(),
            )
            return torch.from_numpy(scores_BI)
        pairs_BI = user_part_BH.new_empty(len(user_part_BH), len(item_part_IH))
        for b, user_part_H in enumerate(user_part_BH):
            for first in range(0, len(item_part_IH), ITEMS_AT_ONCE):
                some = slice(first, first + ITEMS_AT_ONCE)
                pairs_BI[b, some] = self(user_part_H, item_part_IH[some])
        return pairs_BI


class MLPNetwork(PairNetwork):
    """score(u, i) = perceptron([p_u; q_i])."""

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_size: int,
        hidden_sizes: Sequence[int],
        dropout: float,
        **table: Any,
    ) -> None:
        super().__init__(num_users, num_items, embedding_size, [hidden_sizes[0]], **table)
        self.layers = Layers(embedding_size, hidden_sizes, dropout)

    def user_parts(self, user_emb_BE: Tensor) -> tuple[Tensor, ...]:
        """Return the user's part of the first layer."""
        return (self.layers.user_part(user_emb_BE),)

    def item_parts(self, item_emb_XE: Tensor) -> tuple[Tensor, ...]:
        """Return the item's part of the first layer."""
        return (self.layers.item_part(item_emb_XE),)

    def interact(self, user_parts: Sequence[Tensor], item_parts: Sequence[Tensor]) -> Tensor:
        """Return the MLP's output for both parts."""
        return self.layers(user_parts[0], item_parts[0])

    def catalog(self, user_state_BS: Tensor, item_state_IS: Tensor) -> Tensor:
        """Return the scores of all items."""
        return self.layers.catalog(user_state_BS, item_state_IS)


class MLP(PairModel):
    """score(u, i) = perceptron([p_u; q_i]): a learned function of both embeddings instead of an inner product.

    He, Liao, Zhang, Nie, Hu, Chua 2017, "Neural Collaborative Filtering", section 3.3.

    Args:
        hidden_sizes: widths of the hidden layers.
        dropout: dropout rate of the hidden layers.
        pair: `embedding_size`, `loss`, `num_negatives` and the rest of `PairModel`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import MLP
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> model = MLP(embedding_size=4, epochs=1, device="cpu").fit(train)
        >>> model.recommend([0], k=2, exclude=train).items_BK.shape
        (1, 2)
    """

    network: MLPNetwork

    def __init__(
        self, *, hidden_sizes: Counts = (128, 64), dropout: ShareBelowOne = 0.0, **pair: Unpack[PairArguments]
    ) -> None:
        super().__init__(**pair)
        self.hidden_sizes, self.dropout = list(hidden_sizes), dropout

    def _build(self) -> MLPNetwork:
        return MLPNetwork(
            self.num_users,
            self.num_items,
            self.embedding_size,
            self.hidden_sizes,
            self.dropout,
            **self._table_options(),
        )

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import perceptron

        return perceptron(self, seen, self.network.layers, self.item_state_IS.cpu().numpy(), self.hidden_sizes)
