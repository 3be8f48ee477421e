"""A fitted model and a split, for the jobs that evaluate. U users, I items, K list, D embedding size."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions

K = 10
HELD = 0.1  # share of the pairs that are tested


class Judged:
    """ALS on nine tenths of a log, to be judged by the rest; the same in every process."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        from recsys_dl.models.als import ALS

        held_N = np.random.default_rng(7).random(log_UI.nnz) < HELD
        pairs = log_UI.tocoo()
        self.train, self.test = (
            Interactions(pairs.row[some], pairs.col[some], num_users=pairs.shape[0], num_items=pairs.shape[1])
            for some in (~held_N, held_N)
        )
        self.model = ALS(embedding_size=size, epochs=2, solver="cg", device="cpu").fit(self.train)

    @cached_property
    def items_UK(self) -> np.ndarray:
        """Return the list of every user, int32 [U, K]."""
        users_U = np.arange(self.train.num_users)
        return self.model.recommend(users_U, K, exclude=self.train).items_BK

    @cached_property
    def tested_U(self) -> np.ndarray:
        """Return the users with a test item."""
        return np.flatnonzero(self.test.user_counts_U)
