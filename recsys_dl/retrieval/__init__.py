"""Vectors -> nearest items: exact, and FAISS on CPU and GPU. One file an index, and one YAML of the same name in `conf/index/`.

`from recsys_dl.retrieval import IVFPQ` finds `ivf_pq.py`, as in `recsys_dl.models`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

_FILES = {file.stem.replace("_", ""): file.stem for file in Path(__file__).parent.glob("[!_]*.py")}


def __getattr__(name: str) -> Any:
    if name == "load_index":
        return importlib.import_module(".vector_index", __name__).load_index
    module = _FILES.get(name.lower())
    value = getattr(importlib.import_module(f".{module}", __name__), name, None) if module else None
    if value is None:
        raise AttributeError(
            f"module 'recsys_dl.retrieval' has no {name!r}; there are load_index and files for {sorted(_FILES.values())}"
        )
    return value
