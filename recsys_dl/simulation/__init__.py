"""Worlds whose truth is known, to see what a policy loses in them: one file each, and one YAML of the same name in `conf/world/`.

Nothing is imported before it is used.
"""

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files

if TYPE_CHECKING:
    from .curves import Curve, regret_table
    from .factors import Factors
    from .fixed_arms import FixedArms
    from .labeled import Labeled
    from .replaying import Replayed, replay
    from .running import Simulated, simulate
    from .tastes import Tastes
    from .world import World

__all__ = [
    "Curve",
    "Factors",
    "FixedArms",
    "Labeled",
    "Replayed",
    "Simulated",
    "Tastes",
    "World",
    "regret_table",
    "replay",
    "simulate",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = from_files(
        __name__,
        __all__,
        {
            "Replayed": "replaying",
            "replay": "replaying",
            "Curve": "curves",
            "regret_table": "curves",
            "Simulated": "running",
            "simulate": "running",
        },
    )
