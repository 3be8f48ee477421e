"""Models built on a factor model that know items without interactions by their content. B batch, I items, D columns of the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from recsys_dl.data.profile_encoder import ProfileEncoder

from .based import HoldsBase, beginning
from .content_mapping import ContentMapping


class ContentBased(HoldsBase):
    """A model on a factor model, `base`, and a fitted map from item profiles to its vectors.

    Attributes:
        encoder: of item features.
        mapping_fitted: the fitted map.
        content_known_I: bool, items with content or interactions.
    """

    needs_content: ClassVar[bool] = True
    kinds: dict[str, str]
    column_weights: dict[str, float]
    min_count: int
    encoder: ProfileEncoder
    mapping_fitted: ContentMapping
    content_known_I: np.ndarray

    def item_sources(self) -> np.ndarray:
        """Return text [I], what the scores of each item rest on: "interactions", "features" or "nothing"."""
        sources_I = super().item_sources()
        return np.where((sources_I == "nothing") & self.content_known_I, "features", sources_I)

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state of base, encoder and map, by name of part and array."""
        parts: dict[str, Any] = {"encoder": self.encoder, "mapping": self.mapping_fitted}
        return super().arrays() | {
            f"{name}_{key}": array for name, part in parts.items() for key, array in part.arrays().items()
        }

    def _restore_more(self, arrays: dict[str, Any]) -> None:
        self.encoder = ProfileEncoder.from_arrays(beginning("encoder_", arrays))
        self.mapping_fitted = ContentMapping.from_arrays(beginning("mapping_", arrays))

    def _new_encoder(self) -> ProfileEncoder:
        return ProfileEncoder(kinds=self.kinds, column_weights=self.column_weights, min_count=self.min_count)

    def _take_columns(self, kinds: Mapping[str, str] | None, column_weights: Mapping[str, float] | None) -> None:
        """Store how columns are encoded; raise ValueError for what is not understood."""
        self.kinds = dict(kinds or {})
        self.column_weights = dict(column_weights or {})
        self._new_encoder()

    def _known_items(self) -> np.ndarray:
        return self.content_known_I

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the vectors; -inf where either has neither interactions nor content."""
        vectors_ID = np.asarray(self._item_directions())
        unit_ID = vectors_ID / np.maximum(np.linalg.norm(vectors_ID, axis=1, keepdims=True), 1e-30)
        cosines_BI = unit_ID[items_B] @ unit_ID.T
        cosines_BI[:, ~self.content_known_I] = -np.inf
        cosines_BI[~self.content_known_I[items_B]] = -np.inf
        return cosines_BI

    def _item_directions(self) -> np.ndarray:
        """Return the vectors whose cosines say how similar items are."""
        vectors_ID: np.ndarray = self.base.item_emb_ID
        return vectors_ID


def check_factor_model(base: Any) -> None:
    """Check that a model has item vectors of its own.

    Raises:
        ValueError: it has none.
    """
    if isinstance(base, type) or not getattr(base, "item_parameters", ()):
        name = base.__name__ if isinstance(base, type) else type(base).__name__
        got = f"the class {name}: write {name}()" if isinstance(base, type) else name
        raise ValueError(f"base must be a model with item vectors of its own, such as als, bpr or svd, got {got}")
