"""Re-rankers: one file each, and one YAML of the same name in `conf/reranker/`.

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .calibration import Calibration
    from .distinct import Distinct
    from .dpp import DPP
    from .exploration import Exploration
    from .freshness import Freshness
    from .mmr import MMR
    from .policy_order import PolicyOrder
    from .rules import Rules
    from .xquad import XQuAD

__all__ = [
    "DPP",
    "MMR",
    "Calibration",
    "Distinct",
    "Exploration",
    "Freshness",
    "PolicyOrder",
    "Rules",
    "XQuAD",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(__name__, __all__)
