"""Features that follow from what the user had last.

U users, I items, B users of a block, L candidates, H items had last, N numbers, V values of categories and lists, G side features of
such, C = N + G.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_dl.data.features import FeatureEncoder
from recsys_dl.data.interactions import Interactions

from .column import Block, Column, Known
from .side_columns import NONE, encoded, side


class LastItems(Column):
    """How like the items that the user had last the candidate is, in each of the items' side features.

    Of a number: minus the distance from their mean, in standard deviations. Of a category or a list: the cosine of the candidate's
    values with the sum of theirs. 0 where nothing is known of either. What came last is told by times, and by the log's order without
    them.

    Args:
        last: H.
        columns: of `Dataset.item_features`; None takes all.
        num_values: of categories and lists that are kept, the most frequent.

    Raises:
        ValueError: last below 1.
    """

    fitted = ("numbers_IN", "known_IN", "unit_IV", "group_V", "recent_UH")
    numbers_IN: np.ndarray
    known_IN: np.ndarray
    unit_IV: np.ndarray
    group_V: np.ndarray
    recent_UH: np.ndarray

    def __init__(self, *, last: int = 3, columns: Sequence[str] | None = None, num_values: int = 50) -> None:
        if last < 1:
            raise ValueError(f"last must be at least 1, got {last}")
        self.last, self.columns = last, None if columns is None else list(columns)
        self.num_values = num_values

    def fit(self, known: Known) -> None:
        """Encode the side features, and note what each user had last."""
        frame = side(known, "item", self.columns)
        values_IC, names = encoded(FeatureEncoder(noun="item").fit(frame), frame, self.num_values, "item")
        valued = [at for at, name in enumerate(names) if "=" in name and not name.endswith(f"={NONE}")]
        numbers = [at for at, name in enumerate(names) if f"{name} missing" in names]
        groups = sorted({names[at].partition("=")[0] for at in valued})
        self.group_V = np.array([groups.index(names[at].partition("=")[0]) for at in valued], np.int32)
        self.numbers_IN = values_IC[:, numbers]
        self.known_IN = 1 - values_IC[:, [names.index(f"{names[at]} missing") for at in numbers]]
        self.unit_IV = self._unit(values_IC[:, valued], len(groups))
        self.recent_UH = self._recent(known.log)
        of_last = "the last" if self.last == 1 else f"the last {self.last}"
        self.names = tuple(f"{name} like {of_last}" for name in [*(names[at] for at in numbers), *groups])

    def values(self, block: Block) -> np.ndarray:
        """Return likenesses."""
        recent_BH = self.recent_UH[block.users_B] if block.histories is None else self._recent(block.histories)
        seen_BH1 = (recent_BH >= 0).astype(np.float32)[:, :, None]
        known_BHN = self.known_IN[recent_BH] * seen_BH1
        count_BN = known_BHN.sum(axis=1)
        mean_BN = (self.numbers_IN[recent_BH] * known_BHN).sum(axis=1) / np.maximum(count_BN, 1)
        far_BLN = np.abs(self.numbers_IN[block.items_BL] - mean_BN[:, None])
        far_BLN *= self.known_IN[block.items_BL] * (count_BN > 0)[:, None]
        num_groups = len(self.names) - self.numbers_IN.shape[1]
        theirs_BV = self._unit((self.unit_IV[recent_BH] * seen_BH1).sum(axis=1), num_groups)
        shared_BLV = self.unit_IV[block.items_BL] * theirs_BV[:, None]
        # Summed along one axis, never by a matrix product: that adds in another order for another number of users.
        cosines = [shared_BLV[:, :, self.group_V == g].sum(axis=2, dtype=np.float32) for g in range(num_groups)]
        return np.concatenate([-far_BLN, np.stack(cosines, axis=2)] if cosines else [-far_BLN], axis=2)

    def _unit(self, values_RV: np.ndarray, num_groups: int) -> np.ndarray:
        """Return values of length 1 within each group, or 0."""
        unit_RV = np.zeros(values_RV.shape, np.float32)
        for g in range(num_groups):
            some_RV = values_RV[:, self.group_V == g]
            lengths_R = np.sqrt(np.square(some_RV).sum(axis=1, dtype=np.float32))
            unit_RV[:, self.group_V == g] = some_RV / np.maximum(lengths_R, np.float32(1e-12))[:, None]
        return unit_RV

    def _recent(self, log: Interactions) -> np.ndarray:
        """Return int32 [U, H], newest first, -1 where a user had fewer."""
        order_N, starts_U1 = log.sequences
        places_UH = starts_U1[1:, None] - 1 - np.arange(self.last)
        seen_UH = places_UH >= starts_U1[:-1, None]
        items_N = log.items_N[order_N] if len(log) else np.zeros(1, np.int32)
        return np.where(seen_UH, items_N[np.where(seen_UH, places_UH, 0)], -1).astype(np.int32)
