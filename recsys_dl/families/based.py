"""The base of models that answer by another fitted model. B batch, I items, L candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.protocols import Recommender, Served
from recsys_dl.saving import load_arrays, load_saved, save_arrays

from .catalog import CatalogModel


class HoldsBase(CatalogModel):
    """A model built on another fitted one, `base`, which saves itself in a folder of its own.

    A subclass takes `base` as its first argument, replaces it in `fit`, lists its own arrays in `fitted`, and restores what `arrays` adds to them in `_restore_more`.

    Attributes:
        base: a `CatalogModel`.
    """

    base: Any

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments but `base`."""
        return {name: value for name, value in super().arguments().items() if name != "base"}

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state, with that of `base`."""
        return super().arrays() | {f"base_{name}": array for name, array in self.base.arrays().items()}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        if theirs := beginning("base_", arrays):
            self.base.restore(theirs)
        self._restore_more(arrays)
        super().restore(arrays)

    def _restore_more(self, arrays: dict[str, Any]) -> None:
        """Restore what a subclass adds to `arrays`."""

    def _write(self, folder: Path) -> dict[str, Any]:
        self.base.save(folder / "base")
        own = {name: array for name, array in self.arrays().items() if not name.startswith("base_")}
        save_arrays(folder / "arrays.npz", own)
        return {}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        base = load_saved(folder / "base", CatalogModel, noun="model")
        make: Any = cls
        model: Self = make(base, **config["arguments"])
        model.users, model.items = base.users, base.items
        model.restore(load_arrays(folder / "arrays.npz"))
        return model


class BasedModel(HoldsBase):
    """A model whose scores are those of `base`."""

    def __init__(self, base: Recommender) -> None:
        self.base = base
        self.device = base.device  # type: ignore[attr-defined]

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        served: Served = self.base.served(seen)
        return dataclasses.replace(served, influential_I=self._influential_items())

    def item_vectors(self) -> np.ndarray | None:
        """Return the item vectors of `base`, as changed."""
        self._check_fitted()
        vectors: np.ndarray | None = self.base.item_vectors()
        return vectors

    def _values(self, users_B: np.ndarray) -> Any:
        return self.base._values(users_B)

    def _fold(self, histories: Interactions) -> Any:
        return self.base._fold(histories)

    def _without_evidence(self, values: Any) -> np.ndarray:
        silent_B: np.ndarray = self.base._without_evidence(values)
        return silent_B

    def _scores(self, values: Any) -> np.ndarray:
        scores_BI: np.ndarray = self.base._scores(values)
        return scores_BI

    def _pair_scores(self, values: Any, items_BL: np.ndarray) -> np.ndarray:
        scores_BL: np.ndarray = self.base._pair_scores(values, items_BL)
        return scores_BL

    def _top_k(
        self, values: Any, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        found: tuple[np.ndarray, np.ndarray] = self.base._top_k(values, k, exclude, allow)
        return found

    def _queries(self, values: Any) -> np.ndarray:
        query_BD: np.ndarray = self.base._queries(values)
        return query_BD


def beginning(prefix: str, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays whose names begin so, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
