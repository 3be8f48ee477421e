"""Recommenders: one file each, and one YAML of the same name in `conf/model/`.

`from recsys_dl.models import ItemKNN` finds `item_knn.py`: a class lives in the file that is its name in lower case, with
underscores between the words. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

_FILES = {file.stem.replace("_", ""): file.stem for file in Path(__file__).parent.glob("[!_]*.py")}


def __getattr__(name: str) -> Any:
    module = _FILES.get(name.lower())
    value = getattr(importlib.import_module(f".{module}", __name__), name, None) if module else None
    if value is None:
        raise AttributeError(
            f"module 'recsys_dl.models' has no model {name!r}; there are files for {sorted(_FILES.values())}"
        )
    return value
