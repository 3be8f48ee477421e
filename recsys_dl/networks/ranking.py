"""Networks of the rankers. B lists, L candidates, F features, H units, G outputs per candidate (1, or one per grade)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class MLPRankerNetwork(nn.Module):
    """Scores each candidate independently with a ReLU MLP; without hidden layers, a linear score.

    Args:
        num_features: F.
        hidden_sizes: of the hidden layers.
        dropout: dropout rate of the hidden layers.
        num_outputs: G.
    """

    def __init__(self, num_features: int, hidden_sizes: Sequence[int], dropout: float, num_outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = num_features
        for size in hidden_sizes:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_outputs))

    def forward(self, features_BLF: Tensor, valid_BL: Tensor) -> Tensor:
        """Return [B, L, G]."""
        return self.layers(features_BLF)

    @staticmethod
    def bytes_of(length: int) -> int:
        """Return the approximate memory in bytes for a list of this length, beyond its features."""
        return 0


class AttentionRankerNetwork(nn.Module):
    """Scores each candidate in the context of the others: self-attention over the list, without positions.

    Pobrotyn, Bartczak, Synowiec, Białobrzeski and Bojar 2020, "Context-Aware Learning to Rank with Self-Attention", section 4.
    Permutation equivariant: reordering candidates reorders their scores; padding is not attended to and has no effect.

    Args:
        num_features: F.
        width: H, width of the blocks.
        num_blocks: number of attention + MLP blocks, each with pre-layer-norm and residuals.
        num_heads: attention heads; must divide `width`.
        dropout: dropout rate.
        num_outputs: G.
    """

    def __init__(
        self, num_features: int, width: int, num_blocks: int, num_heads: int, dropout: float, num_outputs: int
    ) -> None:
        super().__init__()
        self.entry = nn.Linear(num_features, width)
        self.blocks = nn.ModuleList(_Block(width, num_heads, dropout) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, num_outputs)
        self.num_heads = num_heads

    def forward(self, features_BLF: Tensor, valid_BL: Tensor) -> Tensor:
        """Return [B, L, G]."""
        # Padding attends to itself: attention to nothing would give NaN.
        itself_LL = torch.eye(valid_BL.shape[1], dtype=torch.bool, device=valid_BL.device)
        attended_BLL = valid_BL[:, None, :] | itself_LL
        units_BLH = self.entry(features_BLF)
        for block in self.blocks:
            units_BLH = block(units_BLH, attended_BLL)
        return self.output(self.norm(units_BLH))

    def bytes_of(self, length: int) -> int:
        """Return the approximate memory in bytes for a list of this length, beyond its features."""
        return 4 * length * (2 * self.num_heads * length + 8 * self.norm.normalized_shape[0])


class _Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)) (Vaswani et al. 2017; norm first, Xiong et al. 2020)."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, units_BLH: Tensor, attended_BLL: Tensor) -> Tensor:
        size, length, width = units_BLH.shape
        parts = self.queries_keys_values(self.attention_norm(units_BLH))
        parts = parts.view(size, length, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts  # each [B, heads, L, H / heads]
        seen = scaled_dot_product_attention(queries, keys, values, attn_mask=attended_BLL[:, None])
        units_BLH = units_BLH + self.dropout(self.mix(seen.transpose(1, 2).reshape(size, length, width)))
        return units_BLH + self.dropout(self.perceptron(self.perceptron_norm(units_BLH)))
