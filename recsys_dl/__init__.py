"""A GPU-accelerated deep-learning framework for recommender systems.

The names below are imported when first used, so that `import recsys_dl` and `recsys-dl --help` cost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from recsys_dl.version import __version__

if TYPE_CHECKING:
    from recsys_dl.data.dataset import Dataset
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.data.split import leave_last_out
    from recsys_dl.data.vocabulary import Vocabulary
    from recsys_dl.evaluation import attribute, compare, evaluate
    from recsys_dl.fine_tuning import fine_tune
    from recsys_dl.protocols import Ranking, Recommender
    from recsys_dl.readers.log import read_log
    from recsys_dl.runs import load_run

_HOMES = {
    "Dataset": "recsys_dl.data.dataset",
    "Interactions": "recsys_dl.data.interactions",
    "Ranking": "recsys_dl.protocols",
    "Recommender": "recsys_dl.protocols",
    "Vocabulary": "recsys_dl.data.vocabulary",
    "attribute": "recsys_dl.evaluation",
    "compare": "recsys_dl.evaluation",
    "evaluate": "recsys_dl.evaluation",
    "fine_tune": "recsys_dl.fine_tuning",
    "leave_last_out": "recsys_dl.data.split",
    "load_run": "recsys_dl.runs",
    "read_log": "recsys_dl.readers.log",
}

__all__ = [
    "Dataset",
    "Interactions",
    "Ranking",
    "Recommender",
    "Vocabulary",
    "__version__",
    "attribute",
    "compare",
    "evaluate",
    "fine_tune",
    "leave_last_out",
    "load_run",
    "read_log",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'recsys_dl' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted([*globals(), *_HOMES])
