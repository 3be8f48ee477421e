"""The most popular items for everyone: the baseline every other model must beat."""

from __future__ import annotations

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import Positive
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.protocols import Served, Users
from recsys_dl.sizes import LogSize, Part, Sizes, Work


class Popularity(CatalogModel):
    """score(u, i) = share of the active users who interacted with item i; 0 for an item without users.

    Args:
        window_days: count only interactions within this many days of the newest; None counts all.

    Attributes:
        popularity_I: float32, the scores.

    Raises:
        ValueError: a window that is not positive, or a window for interactions without times.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import Popularity
        >>> model = Popularity().fit(Interactions([0, 0, 1, 2], [0, 1, 1, 2]))
        >>> model.recommend([0], k=1).items_BK
        array([[1]], dtype=int32)
    """

    fitted = ("popularity_I",)
    bounded = True
    popularity_I: np.ndarray

    def __init__(self, *, window_days: Positive | None = None) -> None:
        self.window_days = window_days

    def fit(self, train: Dataset | Interactions) -> Self:
        """Count distinct users per item."""
        interactions = self._begin(train)
        if self.window_days is not None:
            if interactions.times_N is None:
                raise ValueError(
                    "window_days needs interactions with times, got none; include a time column, or set it to null"
                )
            since = interactions.times_N.max() - self.window_days * 86_400
            interactions = interactions.select(interactions.times_N >= since)
        active = max(1, int((interactions.user_counts_U > 0).sum()))
        self.popularity_I = (interactions.item_counts_I / active).astype(np.float32)
        return self

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training takes: see `recsys_dl.sizes`."""
        num = log.num_interactions
        return Sizes(
            [
                Part("tables", "popularity_I", 4.0 * log.num_items, "items", saved=True),
                Part("interactions", "by user", 8.0 * num + 4 * log.num_users, "interactions"),
            ],
            work=[Work("counts", float(num), 16.0 * num)],
        )

    def user_sources(self, users: Users) -> np.ndarray:
        """Return text [B]: "popularity" for everyone."""
        return np.full(len(self._resolved(users)[0]), "popularity")

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import inner_product

        ones_U1 = np.ones((self.num_users, 1), np.float32)
        return inner_product(self, seen, ones_U1, self.popularity_I[:, None])

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return users_B

    def _fold(self, histories: Interactions) -> np.ndarray:
        return np.arange(histories.num_users)

    def _influential_items(self) -> np.ndarray:
        return np.ones(self.num_items, bool)  # it ignores histories, so that none is unknown to it

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return np.tile(self.popularity_I, (len(values), 1))

    def _pair_scores(self, values: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
        return self.popularity_I[items_BL]

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Similarity in popularity: minus the absolute difference of the shares; -inf where either has no users."""
        apart_BI = -np.abs(self.popularity_I[items_B, None] - self.popularity_I)
        apart_BI[:, self.item_counts_I == 0] = -np.inf
        apart_BI[self.item_counts_I[items_B] == 0] = -np.inf
        return apart_BI

    def _popularity(self) -> np.ndarray:
        return self.popularity_I
