"""A GPU-accelerated deep-learning framework for recommender systems.

The names below are imported when first used, so that `import recsys_dl` and `recsys-dl --help` cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_dl.lazy import from_files
from recsys_dl.version import __version__

if TYPE_CHECKING:
    from recsys_dl.data.dataset import Dataset
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.data.split import leave_last_out
    from recsys_dl.data.vocabulary import Vocabulary
    from recsys_dl.evaluation import attribute, compare, evaluate
    from recsys_dl.fine_tuning import fine_tune
    from recsys_dl.new_items import add_items
    from recsys_dl.protocols import Ranking, Recommender
    from recsys_dl.readers.log import read_log
    from recsys_dl.runs import load_run

__all__ = [
    "Dataset",
    "Interactions",
    "Ranking",
    "Recommender",
    "Vocabulary",
    "__version__",
    "add_items",
    "attribute",
    "compare",
    "evaluate",
    "fine_tune",
    "leave_last_out",
    "load_run",
    "read_log",
]


if not TYPE_CHECKING:
    _HOMES = {
        "Dataset": "data.dataset",
        "Interactions": "data.interactions",
        "Ranking": "protocols",
        "Recommender": "protocols",
        "Vocabulary": "data.vocabulary",
        "add_items": "new_items",
        "attribute": "evaluation",
        "compare": "evaluation",
        "evaluate": "evaluation",
        "fine_tune": "fine_tuning",
        "leave_last_out": "data.split",
        "load_run": "runs",
        "read_log": "readers.log",
    }
    __getattr__, __dir__ = from_files(__name__, __all__, _HOMES)
