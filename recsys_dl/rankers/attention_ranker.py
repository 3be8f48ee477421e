"""Self-attention over the candidates of a list."""

from __future__ import annotations

from typing import Any

from .networks import AttentionNetwork
from .neural import NeuralRanker


class AttentionRanker(NeuralRanker):
    """Scores every candidate in the light of the others in its list (Pobrotyn et al. 2020), see `networks.AttentionNetwork`.

    Args:
        width: of the blocks.
        num_blocks: of attention and perceptron.
        num_heads: of attention; must divide `width`.
        dropout: share of units left out at random in training.
        training: `loss`, `normalization`, `epochs` and the rest of `NeuralRanker`.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, *, width: int = 32, num_blocks: int = 1, num_heads: int = 2, dropout: float = 0.1, **training: Any
    ) -> None:
        super().__init__(**training)
        self.width, self.num_blocks, self.num_heads, self.dropout = width, num_blocks, num_heads, dropout
        if min(width, num_blocks, num_heads) < 1 or width % num_heads or not 0 <= dropout < 1:
            raise ValueError(
                "width, num_blocks and num_heads must be at least 1, num_heads divide width, and dropout lie in [0, 1), got "
                f"{width}, {num_blocks}, {num_heads} and {dropout}"
            )

    def _build(self, num_outputs: int) -> AttentionNetwork:
        return AttentionNetwork(
            self.num_features, self.width, self.num_blocks, self.num_heads, self.dropout, num_outputs
        )
