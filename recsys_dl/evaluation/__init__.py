"""Evaluation of fitted recommenders on a split, and comparison of models, with confidence intervals."""

from .attribution import Attribution, attribute
from .compare import Comparison, compare
from .evaluate import evaluate
from .sampled import evaluate_sampled
from .scorecard import Evaluation

__all__ = ["Attribution", "Comparison", "Evaluation", "attribute", "compare", "evaluate", "evaluate_sampled"]
