"""Beyond-accuracy metrics, accumulated block by block. B users of a block, U test users, I items, K list, D vector size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.blocks import blocks
from recsys_dl.data.interactions import Interactions
from recsys_dl.metrics import catalog
from recsys_dl.processes import Group

USERS = 1 << 14  # whose profiles are copied at once


class BeyondAccuracy:
    """Coverage, Gini, novelty, diversity and popularity lift of the lists of test users.

    Args:
        names: of the requested metrics.
        ks: list lengths.
        known: the training interactions, which define popularity.
        profiles: CSR, the known interactions of each user, by row.
        users: rows of the test users.
        item_vectors_ID: vectors for diversity; None uses shared users in `known`.
    """

    def __init__(
        self,
        names: Sequence[str],
        ks: Sequence[int],
        known: Interactions,
        profiles: sp.csr_matrix,
        users: np.ndarray,
        item_vectors_ID: np.ndarray | None,
    ) -> None:
        if item_vectors_ID is not None and len(item_vectors_ID) != known.num_items:
            raise ValueError(
                f"item vectors must have one row for each of {known.num_items} items, got {len(item_vectors_ID)}"
            )
        self.names, self.ks, self.known = names, ks, known
        if "diversity" in names:
            self.similarity: Callable[[np.ndarray], np.ndarray] = (
                catalog.CommonUsers(known.by_item).similarity
                if item_vectors_ID is None
                else partial(catalog.vector_similarity, unit_ID=catalog.unit_rows(item_vectors_ID))
            )
        self.num_active = int((known.user_counts_U > 0).sum())
        self.popularity_I = known.item_counts_I / max(self.num_active, 1)
        means = (catalog.profile_means(profiles[users[part]], self.popularity_I) for part in blocks(len(users), USERS))
        self.profile_U = np.concatenate(list(means))
        self.exposures = {k: np.zeros(known.num_items, np.int64) for k in ks}

    def per_user(self, items_BK: np.ndarray, block: slice) -> dict[str, np.ndarray]:
        """Return the metrics that are means over users, float64 [B] each, and update the counts for the others."""
        columns = {}
        similarity_BK = self.similarity(items_BK) if "diversity" in self.names else None
        for name in self.names:
            for k in self.ks:
                key = f"{name}@{k}"
                if name == "novelty":
                    columns[key] = catalog.novelty(items_BK, k, self.known.item_counts_I, self.num_active)
                elif similarity_BK is not None and name == "diversity":
                    columns[key] = catalog.diversity(similarity_BK, items_BK, k)
                elif name == "popularity_lift":
                    recommended_B = catalog.list_means(items_BK, k, self.popularity_I)
                    columns[key] = catalog.popularity_lift(recommended_B, self.profile_U[block])
        for k in self.ks:
            self.exposures[k] += catalog.exposures(items_BK, k, self.known.num_items)
        return columns

    def join(self, group: Group) -> None:
        """Add the counts of the other processes."""
        self.exposures = {k: group.sum(exposures_I) for k, exposures_I in self.exposures.items()}

    def weights(self) -> dict[str, np.ndarray]:
        """Return user weights, for the metrics that are weighted."""
        return {f"popularity_lift@{k}": self.profile_U for k in self.ks} if "popularity_lift" in self.names else {}

    def figures(self) -> dict[str, float]:
        """Return the metrics over all lists."""
        whole = {"coverage": catalog.coverage, "gini": catalog.gini}
        return {f"{name}@{k}": whole[name](self.exposures[k]) for name in self.names if name in whole for k in self.ks}
