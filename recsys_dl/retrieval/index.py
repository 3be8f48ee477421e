"""The interface of an index of item vectors. B queries, I items, N items added, D embedding size, K list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from typing_extensions import Self

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.protocols import Ranking

Lists = np.ndarray | Sequence[int] | Interactions | ItemLists


@runtime_checkable
class Index(Protocol):
    """Finds the items whose vectors have the largest inner products with a query."""

    num_items: int

    def build(self, item_emb_ID: np.ndarray) -> Self:
        """Index the vectors of items 0 ... I - 1, replacing any previous ones; return self."""
        ...

    def search(
        self, query_BD: np.ndarray, k: int, *, exclude: Lists | None = None, allow: Lists | None = None
    ) -> Ranking:
        """Return min(k, number of permitted items) items for each query, best first."""
        ...

    def add(self, item_emb_ND: np.ndarray, items: np.ndarray | Sequence[int] | None = None) -> Self:
        """Add items, without a rebuild; return self."""
        ...

    def remove(self, items: np.ndarray | Sequence[int]) -> Self:
        """Remove items, without a rebuild; return self."""
        ...

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index to a folder, atomically."""
        ...
