"""Features from the user's most recent items.

U users, I items, B users in a block, L candidates, H recent items, N numeric features, V values of categories and lists, G features
of those kinds, C = N + G.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_dl.data.features import FeatureEncoder
from recsys_dl.data.interactions import Interactions

from .column import Block, Column, Known
from .side_columns import NONE, encoded, side


class LastItems(Column):
    """Similarity of the candidate to the user's most recent items, for each item side feature.

    For a number: minus the distance from their mean, in standard deviations. For a category or a list: the cosine of the candidate's
    values with the sum of theirs. 0 where either is unknown. Recency is by time, or by log order without times.

    Args:
        last: H.
        columns: columns of `Dataset.item_features`; None takes all.
        num_values: number of the most frequent values of categories and lists to keep.

    Raises:
        ValueError: last below 1.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl import read_log
        >>> from recsys_dl.rankers import CandidateFeatures
        >>> from recsys_dl.rankers.recent_columns import LastItems
        >>> books = pl.DataFrame({"item": ["b1", "b2", "b3"], "price": [5.0, 5.0, 20.0]})
        >>> log = read_log({"user": ["ann", "bob", "bob"], "item": ["b1", "b2", "b3"]}, item_features=books)
        >>> CandidateFeatures([LastItems()]).fit(log).compute([0], [[2]]).round(2)
        array([[[-2.12]]], dtype=float32)
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
        """Encode the side features, and store each user's most recent items."""
        self.recent_UH = self._recent(known.log)
        self.grow(known)

    def grow(self, known: Known) -> None:
        """Encode the side features; users' most recent items stay."""
        frame = side(known, "item", self.columns)
        encoder = FeatureEncoder(noun="item").fit(frame[: known.num_learned])
        values_IC, names = encoded(encoder, frame, self.num_values, "item", known.num_learned)
        valued = [at for at, name in enumerate(names) if "=" in name and not name.endswith(f"={NONE}")]
        numbers = [at for at, name in enumerate(names) if f"{name} missing" in names]
        groups = sorted({names[at].partition("=")[0] for at in valued})
        self.group_V = np.array([groups.index(names[at].partition("=")[0]) for at in valued], np.int32)
        self.numbers_IN = values_IC[:, numbers]
        self.known_IN = 1 - values_IC[:, [names.index(f"{names[at]} missing") for at in numbers]]
        self.unit_IV = self._unit(values_IC[:, valued], len(groups))
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
        # Summed along one axis, not by a matrix product, whose summation order depends on the number of users.
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
        """Return int32 [U, H], newest first, padded with -1."""
        order_N, starts_U1 = log.sequences
        places_UH = starts_U1[1:, None] - 1 - np.arange(self.last)
        seen_UH = places_UH >= starts_U1[:-1, None]
        items_N = log.items_N[order_N] if len(log) else np.zeros(1, np.int32)
        return np.where(seen_UH, items_N[np.where(seen_UH, places_UH, 0)], -1).astype(np.int32)
