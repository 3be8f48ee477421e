"""Models that recommend only items of which something is known."""

from __future__ import annotations

import numpy as np

from .catalog import CatalogModel


class KnownItems(CatalogModel):
    """A model in which items without users and features score -inf: their weights were never trained as those of liked items."""

    def never_listed(self) -> np.ndarray:
        """Return the rows of items without users and features."""
        self._check_fitted()
        return np.flatnonzero(~self._known_items())

    def _popularity(self) -> np.ndarray:
        return np.where(self._known_items(), super()._popularity(), -np.inf).astype(np.float32)

    def _unlisted_bias(self) -> np.ndarray | None:
        """Return float32 [I]: -inf for items that are never listed, else 0; None if there are none."""
        known_I = self._known_items()
        return None if known_I.all() else np.where(known_I, 0, -np.inf).astype(np.float32)
