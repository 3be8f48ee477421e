"""Policies that choose among arms and learn from what they earn: one file each, and one YAML of the same name in `conf/policy/`.

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .epsilon_greedy import EpsilonGreedy
    from .thompson import Thompson
    from .ucb1 import UCB1

__all__ = [
    "UCB1",
    "EpsilonGreedy",
    "Thompson",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__)
