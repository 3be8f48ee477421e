"""Users' histories as sequences: self-attention over ordered items (Kang and McAuley 2018, "Self-Attentive Sequential
Recommendation").

B batch, N items encoded in a step, H items of a history, J = 1 + H places of a sequence, D embedding size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoders import FeatureNet

INITIAL_SCALE = 0.02  # standard deviation of the places' embeddings at the start


class TransformerBlock(nn.Module):
    """Causal self-attention with several heads, then two linear maps with a ReLU between; pre-norm with residual connections.

    Args:
        size: D.
        num_heads: of the attention; divides D.
        dropout: dropout rate.
    """

    def __init__(self, size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.forward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.projections = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, states_BJD: Tensor) -> Tensor:
        """Return states of the same shape; none depends on later positions."""
        num, length, size = states_BJD.shape
        projected = self.projections(self.attention_norm(states_BJD))
        heads = projected.view(num, length, 3, self.num_heads, size // self.num_heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], dropout_p=dropout, is_causal=True)
        mixed = self.output(mixed.transpose(1, 2).reshape(num, length, size))
        states_BJD = states_BJD + F.dropout(mixed, self.dropout, self.training)
        hidden = self.down(F.relu(self.up(self.forward_norm(states_BJD))))
        return states_BJD + F.dropout(hidden, self.dropout, self.training)


class SequenceUser(nn.Module):
    """Users' histories and features -> vectors: the state after the newest item.

    A sequence starts with an extra position for the user's features; its state serves users without a history.

    Args:
        size: D.
        history_size: H.
        num_blocks: number of attention blocks.
        num_heads: attention heads per block.
        num_values: V of users' features.
        num_dense: F of users' features.
        dropout: share of numbers set to 0 in training.
    """

    newest_first = False

    def __init__(
        self,
        size: int,
        history_size: int,
        *,
        num_blocks: int,
        num_heads: int,
        num_values: int = 1,
        num_dense: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.profile = FeatureNet(num_values, num_dense, size)
        self.places = nn.Parameter(torch.randn(1 + history_size, size) * INITIAL_SCALE)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList([TransformerBlock(size, num_heads, dropout) for _ in range(num_blocks)])
        self.norm = nn.LayerNorm(size)

    def states(
        self, vectors_ND: Tensor, places_BH: Tensor, codes_BM: Tensor, weights_BM: Tensor, dense_BF: Tensor
    ) -> Tensor:
        """Return [B, 1 + H, D]: the state before any item, then after each item, oldest first."""
        start_BD = self.profile(codes_BM, weights_BM, dense_BF)
        root = float(vectors_ND.size(1)) ** 0.5
        inputs_BJD = torch.cat([start_BD.unsqueeze(1), vectors_ND[places_BH] * root], dim=1)
        states_BJD = self.dropout(inputs_BJD + self.places[: inputs_BJD.size(1)])
        for block in self.blocks:
            states_BJD = block(states_BJD)
        return self.norm(states_BJD)

    def forward(
        self,
        vectors_ND: Tensor,
        places_BH: Tensor,
        valid_BH: Tensor,
        codes_BM: Tensor,
        weights_BM: Tensor,
        dense_BF: Tensor,
    ) -> Tensor:
        """Return [B, D].

        Args:
            vectors_ND: item vectors, each item once.
            places_BH: rows of `vectors_ND`, oldest first; arbitrary where not valid.
            valid_BH: float32, 1 or 0; zeros follow ones.
            codes_BM, weights_BM, dense_BF: users' features.
        """
        states_BJD = self.states(vectors_ND, places_BH, codes_BM, weights_BM, dense_BF)
        last_B = valid_BH.sum(1).long()
        return states_BJD.gather(1, last_B.view(-1, 1, 1).expand(-1, 1, states_BJD.size(2))).squeeze(1)
