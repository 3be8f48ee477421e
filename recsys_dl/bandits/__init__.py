"""Policies that choose among arms and learn from what they earn: one file each, and one YAML of the same name in `conf/policy/`.

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .boltzmann import Boltzmann
    from .cascading import Cascading
    from .epsilon_greedy import EpsilonGreedy
    from .gaussian_thompson import GaussianThompson
    from .kl_ucb import KLUCB
    from .linear_thompson import LinearThompson
    from .linucb import LinUCB
    from .logistic_thompson import LogisticThompson
    from .neural_linear import NeuralLinear
    from .position_based import PositionBased, examination_of
    from .thompson import Thompson
    from .ucb1 import UCB1

__all__ = [
    "KLUCB",
    "UCB1",
    "Boltzmann",
    "Cascading",
    "EpsilonGreedy",
    "GaussianThompson",
    "LinUCB",
    "LinearThompson",
    "LogisticThompson",
    "NeuralLinear",
    "PositionBased",
    "Thompson",
    "examination_of",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__, {"examination_of": "position_based"})
