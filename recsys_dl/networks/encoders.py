"""Networks that encode features, items, and users by pooling their history.

B batch, N rows of items or of features, M values per row, F dense features, V rows of the value embedding table, I items, H items of a
history, D embedding size. The user side is written in the subset of Python that TorchScript compiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .sharded import Sharding, draw, embedding

INITIAL_SCALE = 0.1  # initial standard deviation of embedding entries, times sqrt(64 / D)


class Encoded(NamedTuple):
    """Features as tensors, see `recsys_dl.data.features.Features`; without features, rows with zero columns."""

    codes_NM: Tensor  # int64
    weights_NM: Tensor
    dense_NF: Tensor

    def at(self, rows: Tensor) -> Encoded:
        """Return some rows."""
        return Encoded(self.codes_NM[rows], self.weights_NM[rows], self.dense_NF[rows])

    def to(self, device: torch.device) -> Encoded:
        """Return the same on a device."""
        return Encoded(*(tensor.to(device) for tensor in self))


class FeatureNet(nn.Module):
    """Features -> vectors: the sum of value embeddings and a linear map of dense features, through optional hidden layers.

    Args:
        num_values: V.
        num_dense: F.
        size: of the vectors.
        hidden_sizes: of the hidden layers; empty makes it linear.
        dropout: dropout rate of the hidden layers.
    """

    def __init__(
        self, num_values: int, num_dense: int, size: int, *, hidden_sizes: Sequence[int] = (), dropout: float = 0.0
    ) -> None:
        super().__init__()
        first = [*hidden_sizes, size][0]
        self.values = nn.Embedding(num_values, first, padding_idx=0)
        nn.init.normal_(self.values.weight, std=INITIAL_SCALE * (64 / first) ** 0.5)
        with torch.no_grad():
            self.values.weight[0] = 0
        self.bias = nn.Parameter(torch.zeros(first))
        self.dense = nn.Linear(num_dense, first, bias=False) if num_dense else None
        self.layers = layers([*hidden_sizes, size], dropout)

    def forward(self, codes_NM: Tensor, weights_NM: Tensor, dense_NF: Tensor) -> Tensor:
        """Return [N, size]."""
        first_ND = weighted_sum(self.values.weight, codes_NM, weights_NM) + self.bias
        if self.dense is not None:
            first_ND = first_ND + self.dense(dense_NF)
        return self.layers(first_ND)


class ItemEncoder(nn.Module):
    """Item rows -> vectors: the item's own embedding plus its encoded features.

    An item's own embedding is 0 if it was not in training, and is dropped in training with probability `id_dropout`, so that
    features learn to work alone (Volkovs et al. 2017, "DropoutNet: Addressing Cold Start in Recommender Systems").

    Args:
        met_I: bool, whether the item was in training.
        size: D.
        features: of all items; None if there are none.
        num_values: V.
        hidden_sizes: of the network over features.
        dropout: likewise.
        id_dropout: see above; without features nothing is dropped.
        sparse: whether the gradient of the embeddings contains only the rows in a batch.
        sharding: which rows of the embeddings this process holds; None: all.
    """

    met_I: Tensor
    codes_IM: Tensor
    weights_IM: Tensor
    dense_IF: Tensor

    def __init__(
        self,
        met_I: Tensor,
        size: int,
        *,
        features: Encoded | None = None,
        num_values: int = 1,
        hidden_sizes: Sequence[int] = (),
        dropout: float = 0.0,
        id_dropout: float = 0.0,
        sparse: bool = False,
        sharding: Sharding | None = None,
    ) -> None:
        super().__init__()
        self.id_dropout = id_dropout
        self.register_buffer("met_I", met_I.float(), persistent=False)
        self.item_emb = embedding(len(met_I), size, sparse=sparse, sharding=sharding)
        draw(self.item_emb, INITIAL_SCALE * (64 / size) ** 0.5)
        self.feature_net = None
        if features is not None:
            for name, tensor in zip(("codes_IM", "weights_IM", "dense_IF"), features, strict=True):
                self.register_buffer(name, tensor, persistent=False)
            num_dense = features.dense_NF.shape[1]
            self.feature_net = FeatureNet(num_values, num_dense, size, hidden_sizes=hidden_sizes, dropout=dropout)

    def forward(self, rows_N: Tensor) -> Tensor:
        """Return [N, D]."""
        return self.encoded(rows_N, self.item_emb(rows_N))

    def encoded(self, rows_N: Tensor, item_emb_ND: Tensor) -> Tensor:
        """Return [N, D] from the items' own embeddings."""
        own_N = self.met_I[rows_N]
        if self.feature_net is None:
            return item_emb_ND * own_N[:, None]
        if self.training and self.id_dropout:
            own_N = own_N * (torch.rand_like(own_N) >= self.id_dropout)
        features = (self.codes_IM[rows_N], self.weights_IM[rows_N], self.dense_IF[rows_N])
        return item_emb_ND * own_N[:, None] + self.feature_net(*features)


class Pooling(nn.Module):
    """Vectors of a history -> one vector: their mean, or a learned weighted mean.

    With attention an item's weight is the softmax over the history of a . tanh(A v) + r_h, with v its vector and h its position
    counted from the newest; it does not depend on the item to be scored, so that user vectors can be precomputed.

    Args:
        size: D.
        history_size: H, the longest history.
        attention: see above.
    """

    def __init__(self, size: int, history_size: int, *, attention: bool) -> None:
        super().__init__()
        self.relevance = None
        if attention:
            self.relevance = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1, bias=False))
            self.recency = nn.Parameter(torch.zeros(history_size))

    def forward(self, vectors_ND: Tensor, places_BH: Tensor, valid_BH: Tensor) -> Tensor:
        """Return [B, D], zeros for an empty history.

        Args:
            vectors_ND: item vectors, each item once.
            places_BH: rows of `vectors_ND`, newest first; arbitrary where not valid.
            valid_BH: float32, 1 or 0.
        """
        if self.relevance is None:
            weights_BH = valid_BH / valid_BH.sum(dim=1, keepdim=True).clamp(min=1.0)
        else:
            scores_BH = self.relevance(vectors_ND).squeeze(-1)[places_BH] + self.recency[: places_BH.size(1)]
            weights_BH = torch.softmax(scores_BH.masked_fill(valid_BH == 0, -1e4), dim=1) * valid_BH
        return weighted_sum(vectors_ND, places_BH, weights_BH)


class PooledUser(nn.Module):
    """Users' histories and features -> vectors: the pooled history plus encoded features, through optional hidden layers.

    Args:
        size: D.
        history_size: H.
        attention: how histories are pooled, see `Pooling`.
        num_values: V of user features.
        num_dense: F of user features.
        hidden_sizes: of the hidden layers; empty means none.
        dropout: dropout rate of the pooled history and the hidden layers.
    """

    newest_first = True

    def __init__(
        self,
        size: int,
        history_size: int,
        *,
        attention: bool = False,
        num_values: int = 1,
        num_dense: int = 0,
        hidden_sizes: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        first = [*hidden_sizes, size][0]
        self.pooling = Pooling(size, history_size, attention=attention)
        self.dropout = nn.Dropout(dropout)
        self.first = nn.Linear(size, first, bias=False) if hidden_sizes else nn.Identity()
        self.profile = FeatureNet(num_values, num_dense, first)
        self.layers = layers([*hidden_sizes, size], dropout)

    def forward(
        self,
        vectors_ND: Tensor,
        places_BH: Tensor,
        valid_BH: Tensor,
        codes_BM: Tensor,
        weights_BM: Tensor,
        dense_BF: Tensor,
    ) -> Tensor:
        """Return [B, D]; histories as in `Pooling`, then user features."""
        pooled_BD = self.dropout(self.pooling(vectors_ND, places_BH, valid_BH))
        return self.layers(self.first(pooled_BD) + self.profile(codes_BM, weights_BM, dense_BF))


class TowerNetwork(nn.Module):
    """Two towers: items -> vectors, and histories and features -> vectors; a score is their inner product.

    Args:
        items: the item tower.
        user: the user tower: a `PooledUser` or a `SequenceUser`.
        inputs: encoder of history items, if it differs from `items`.
        normalize: scale both vectors to length 1.
        temperature: divisor of the scores.
    """

    met_N: Tensor
    place_I: Tensor
    user: Any

    def __init__(
        self,
        items: ItemEncoder,
        user: nn.Module,
        *,
        inputs: ItemEncoder | None = None,
        normalize: bool,
        temperature: float,
    ) -> None:
        super().__init__()
        self.items, self.user, self.inputs = items, user, inputs
        self.normalize, self.temperature = normalize, temperature
        met_I = items.met_I > 0
        self.register_buffer("met_N", met_I.nonzero().squeeze(1), persistent=False)
        self.register_buffer("place_I", (met_I.cumsum(0) - 1).clamp_min(0), persistent=False)

    def towers(self, raw_ND: Tensor, *, of_users: bool) -> Tensor:
        """Return vectors [N, D] for the inner product, from an encoder's output."""
        vectors_ND = F.normalize(raw_ND, dim=-1) if self.normalize else raw_ND
        return vectors_ND / self.temperature if of_users else vectors_ND

    def forward(
        self,
        history_vectors_ND: Tensor,
        places_BH: Tensor,
        valid_BH: Tensor,
        codes: Tensor,
        weights: Tensor,
        dense: Tensor,
    ) -> Tensor:
        """Return users' vectors [B, D]; arguments as for the user tower."""
        raw_BD = self.user(history_vectors_ND, places_BH, valid_BH, codes, weights, dense)
        return self.towers(raw_BD, of_users=True)


def weighted_sum(table_ND: Tensor, rows_BH: Tensor, weights_BH: Tensor) -> Tensor:
    """Return [B, D], sum_h weights[b, h] table[rows[b, h]]."""
    if torch.is_grad_enabled() and not torch.jit.is_scripting() and rows_BH.size(1) > 0:
        weights_BH = weights_BH.to(table_ND.dtype)
        return F.embedding_bag(
            rows_BH, table_ND, mode="sum", per_sample_weights=weights_BH
        )  # no [B, H, D] intermediate
    return (table_ND[rows_BH] * weights_BH.unsqueeze(-1)).sum(1)


def layers(sizes: Sequence[int], dropout: float) -> nn.Sequential:
    """Return ReLU, dropout and a linear map for each size but the first."""
    parts: list[nn.Module] = []
    for one, two in itertools.pairwise(sizes):
        parts += [nn.ReLU(), nn.Dropout(dropout), nn.Linear(one, two)]
    return nn.Sequential(*parts)


class UserTower(nn.Module):
    """A user tower with the vectors of history items, for export.

    Besides a history it takes, if the model uses user features, their codes, weights and dense values from
    `FeatureEncoder`; zeros where unknown.
    """

    inputs = ("codes_BM", "weights_BM", "dense_BF")

    def __init__(self, network: TowerNetwork, input_emb_ID: Tensor, history_size: int) -> None:
        super().__init__()
        self.user, self.normalize, self.temperature = network.user, network.normalize, network.temperature
        self.newest_first, self.history_size = bool(network.user.newest_first), history_size
        self.register_buffer("input_emb_ID", input_emb_ID)

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, D]; histories oldest first, padded with -1."""
        given_B1 = (history_BH >= 0).sum(1, keepdim=True)
        counts_B1 = given_B1.clamp(max=self.history_size)
        steps_1H = torch.arange(self.history_size, device=history_BH.device).unsqueeze(0)
        at_BH = given_B1 - 1 - steps_1H if self.newest_first else given_B1 - counts_B1 + steps_1H
        valid_BH = steps_1H < counts_B1
        items_BH = history_BH.gather(1, torch.where(valid_BH, at_BH, 0)).clamp(min=0)
        nothing_B0 = history_BH.new_zeros([history_BH.size(0), 0])
        codes_BM = extra.get("codes_BM", nothing_B0)
        weights_BM = extra.get("weights_BM", nothing_B0.float())
        dense_BF = extra.get("dense_BF", nothing_B0.float())
        users_BD = self.user(self.input_emb_ID, items_BH, valid_BH.float(), codes_BM, weights_BM, dense_BF)
        if self.normalize:
            users_BD = torch.nn.functional.normalize(users_BD, dim=-1)
        return users_BD / self.temperature
