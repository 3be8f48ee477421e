"""Rankers: candidates and their features in, scores out. One interface (`ranker.Ranker`) for trees and networks.

One YAML each in `conf/ranker/`. `features` computes features of retrieved candidates, `propensity` corrects the position bias of
clicks. Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .attention_ranker import AttentionRanker
    from .features import CandidateFeatures
    from .lambdamart import LambdaMART
    from .mlp_ranker import MLPRanker

__all__ = [
    "AttentionRanker",
    "CandidateFeatures",
    "LambdaMART",
    "MLPRanker",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__, {"CandidateFeatures": "features"})
