"""Evaluation of fitted recommenders on a split, and comparison of models, with confidence intervals."""

from .attribution import Attribution, attribute
from .compare import Comparison, compare
from .counterfactual import evaluate_counterfactual, popularity_propensities
from .evaluate import evaluate
from .sampled import evaluate_sampled
from .scorecard import Evaluation

__all__ = [
    "Attribution",
    "Comparison",
    "Evaluation",
    "attribute",
    "compare",
    "evaluate",
    "evaluate_counterfactual",
    "evaluate_sampled",
    "popularity_propensities",
]
