"""From a fitted recommender and a split to figures that can be trusted, and to a verdict between models."""

from .attribution import Attribution, attribute
from .compare import Comparison, compare
from .evaluate import evaluate
from .sampled import evaluate_sampled
from .scorecard import Evaluation

__all__ = ["Attribution", "Comparison", "Evaluation", "attribute", "compare", "evaluate", "evaluate_sampled"]
