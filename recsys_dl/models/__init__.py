"""Recommenders: one file each, one YAML of the same name in `conf/model/`. Imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .als import ALS
    from .bpr import BPR
    from .ease import EASE
    from .explicit_als import ExplicitALS
    from .funk_svd import FunkSVD
    from .item_knn import ItemKNN
    from .popularity import Popularity
    from .rp3beta import RP3beta
    from .svd import SVD
    from .svd_pp import SVDpp
    from .user_knn import UserKNN

_HOMES = {
    "ALS": "als",
    "BPR": "bpr",
    "EASE": "ease",
    "ExplicitALS": "explicit_als",
    "FunkSVD": "funk_svd",
    "ItemKNN": "item_knn",
    "Popularity": "popularity",
    "RP3beta": "rp3beta",
    "SVD": "svd",
    "SVDpp": "svd_pp",
    "UserKNN": "user_knn",
}

__all__ = [
    "ALS",
    "BPR",
    "EASE",
    "SVD",
    "ExplicitALS",
    "FunkSVD",
    "ItemKNN",
    "Popularity",
    "RP3beta",
    "SVDpp",
    "UserKNN",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'recsys_dl.models' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
