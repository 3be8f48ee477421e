"""Self-attention over the candidates of a list."""

from __future__ import annotations

from typing_extensions import Unpack

from recsys_dl.arguments import Count, ShareBelowOne
from recsys_dl.networks.ranking import AttentionRankerNetwork

from .neural import NeuralRanker, RankerTraining


class AttentionRanker(NeuralRanker):
    """Scores every candidate in the context of its list (Pobrotyn et al. 2020), see `networks.AttentionRankerNetwork`.

    Args:
        width: width of the blocks.
        num_blocks: number of attention + MLP blocks.
        num_heads: attention heads; must divide `width`.
        dropout: dropout rate.
        training: `loss`, `normalization`, `epochs` and the rest of `NeuralRanker`.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> from recsys_dl.data.groups import Groups
        >>> from recsys_dl.rankers import AttentionRanker
        >>> groups = Groups([[1.0], [0.0], [0.0], [1.0]] * 8, [1, 0, 0, 1] * 8, [2] * 16)  # the label is the feature
        >>> ranker = AttentionRanker(width=8, epochs=20, learning_rate=0.02, device="cpu").fit(groups)
        >>> ranker.score_rows([[0.0], [1.0]]).argsort()
        array([0, 1])
    """

    def __init__(
        self,
        *,
        width: Count = 32,
        num_blocks: Count = 1,
        num_heads: Count = 2,
        dropout: ShareBelowOne = 0.1,
        **training: Unpack[RankerTraining],
    ) -> None:
        super().__init__(**training)
        self.width, self.num_blocks, self.num_heads, self.dropout = width, num_blocks, num_heads, dropout
        if width % num_heads:
            raise ValueError(f"num_heads must divide width={width}, got {num_heads}")

    def _build(self, num_outputs: int) -> AttentionRankerNetwork:
        return AttentionRankerNetwork(
            self.num_features, self.width, self.num_blocks, self.num_heads, self.dropout, num_outputs
        )
