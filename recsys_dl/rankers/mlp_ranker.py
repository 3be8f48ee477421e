"""An MLP over each candidate's features."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Unpack

from recsys_dl.arguments import Count, ShareBelowOne
from recsys_dl.networks.ranking import MLPRankerNetwork

from .neural import NeuralRanker, RankerTraining


class MLPRanker(NeuralRanker):
    """score(candidate) = MLP(features), independently for each candidate.

    Args:
        hidden_sizes: widths of the hidden layers; empty makes the score linear.
        dropout: dropout rate of the hidden layers.
        training: `loss`, `normalization`, `epochs` and the rest of `NeuralRanker`.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> from recsys_dl.data.groups import Groups
        >>> from recsys_dl.rankers import MLPRanker
        >>> groups = Groups([[1.0], [0.0], [0.0], [1.0]] * 8, [1, 0, 0, 1] * 8, [2] * 16)  # the label is the feature
        >>> ranker = MLPRanker(epochs=10, learning_rate=0.1, device="cpu").fit(groups)
        >>> ranker.score_rows([[0.0], [1.0]]).argsort()
        array([0, 1])
    """

    def __init__(
        self,
        *,
        hidden_sizes: Sequence[Count] = (64, 32),
        dropout: ShareBelowOne = 0.1,
        **training: Unpack[RankerTraining],
    ) -> None:
        super().__init__(**training)
        self.hidden_sizes, self.dropout = list(hidden_sizes), dropout

    def _build(self, num_outputs: int) -> MLPRankerNetwork:
        return MLPRankerNetwork(self.num_features, self.hidden_sizes, self.dropout, num_outputs)
