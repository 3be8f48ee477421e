"""Exploration: random items at given positions, with logged propensities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Counts, Seed
from recsys_dl.data.dataset import Dataset, seen_of
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.random import stream_keys
from recsys_dl.kernels.rerank.explore import explore
from recsys_dl.protocols import Decisions

from .attributes import meets
from .list_reranker import Chosen, RerankBatch, plain
from .policy_stage import PolicyStage, check_policy


class Exploration(PolicyStage):
    """Keeps the candidates' order, but draws random items at some positions, so that logs reveal the value of other items.

    Draws are uniform and without replacement, or a policy chooses, which learns by `update` from what its positions earned. `Reranked.propensities_BK` holds the probability of each shown item at its
    position: 1 over the size of the pool at an exploring position, 1 elsewhere; over the pool they sum to 1 at each exploring
    position. They are the weights' denominators in inverse propensity weighting (Li et al. 2011, "Unbiased Offline Evaluation of
    Contextual-bandit-based News Article Recommendation Algorithms"). Put this stage last: reordering after it would invalidate
    them. A pool smaller than the number of positions is shown entirely.

    The same user and request get the same draw, in any batch and on any number of threads. A user is identified by row, a new
    one by history.

    Args:
        policy: of `recsys_dl.bandits`, chooses the items of all exploring positions together; None: uniform draws.
        places: exploring positions, from 1; those beyond k are ignored.
        pool: condition on item features (as in Rules) for items to draw from the catalog, excluding the user's training
            items and items in the list; None draws from the candidates that would not be shown.
        contexts: whether the policy sees the user, as it must for linear ones; see `PolicyStage`.
        content: column of item features that are the arms' features; None: none.
        seed: for the draws.

    Attributes:
        pool_P: int32, ascending; empty without a condition.
        had_UI: CSR, users' training items; empty without a condition.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.rerankers import Exploration
        >>> candidates = Ranking(np.array([[0, 1, 2, 3]]), np.array([[1.0, 0.9, 0.8, 0.7]]))
        >>> explored = Exploration(places=[2]).prepare(Interactions([0], [0], num_items=4)).rerank([0], candidates, k=2)
        >>> explored.items_BK[:, 0], explored.propensities_BK.round(2)
        (array([0], dtype=int32), array([[1.  , 0.33]]))
    """

    fitted = ("pool_P", "had_UI", "item_vectors_ID", "user_contexts_UF")
    adjustable: ClassVar[dict[str, str]] = {"exploration": "places"}
    pool_P: np.ndarray
    had_UI: sp.csr_matrix

    def __init__(
        self,
        policy: Any = None,
        *,
        places: Counts,
        pool: Mapping[str, Any] | None = None,
        contexts: bool = False,
        content: str | None = None,
        seed: Seed = 0,
    ) -> None:
        check_policy(policy)
        if policy is None and (contexts or content is not None):
            raise ValueError("contexts and content are what a policy sees, and there is none; give a policy")
        self.policy, self.contexts, self.content = policy, contexts, content
        if len(set(places)) < len(places):
            raise ValueError(f"places must be distinct, got {places!r}")
        self.places = list(places)
        self.pool = plain(pool)
        self.seed = seed

    def update(self, feedback: BanditFeedback) -> Self:
        """Let the policy learn from the rewards at exploring positions, and return self; those of other items are none of its doing.

        Raises:
            ValueError: not prepared, or rewards that the policy does not take.
        """
        mine_K = np.isin(np.arange(feedback.arms_RK.shape[1]) + 1, self.places)
        return super().update(replace(feedback, rewards_RK=np.where(mine_K, feedback.rewards_RK, np.nan)))

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        super()._learn(train, item_vectors_ID)
        by_user = seen_of(train).by_user
        if self.pool is None:
            self.pool_P = np.zeros(0, np.int32)
            self.had_UI = sp.csr_matrix(by_user.shape, dtype=np.int8)
            return
        self.pool_P = np.flatnonzero(meets(train, self.pool, "the pool of exploration")).astype(np.int32)
        if not len(self.pool_P):
            raise ValueError(f"the exploration pool must not be empty, but none of {train.num_items} meets {self.pool}")
        self.had_UI = sp.csr_matrix((np.ones(by_user.nnz, np.int8), by_user.indices, by_user.indptr), by_user.shape)

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        users_B, matrix, rows = self._users(batch, self.had_UI)
        starts_B, ends_B = matrix.indptr[rows].astype(np.int64), matrix.indptr[rows + 1].astype(np.int64)
        slots_S = np.array(sorted(place - 1 for place in self.places if place <= k), np.int64)
        if self.policy is not None and len(slots_S):
            return self._chosen_by_policy(batch, k, slots_S, users_B, matrix[rows])
        seen_H = matrix.indices.astype(np.int32, copy=False)
        shape = (len(rows), k)
        places_BK, outside_BK = np.empty(shape, np.int32), np.empty(shape, np.int32)
        chances_BK, moved_BK = np.empty(shape, np.float64), np.empty(shape, np.int16)
        drawn_from = (stream_keys(self.seed, batch.requests_B), users_B, self.pool_P, starts_B, ends_B, seen_H)
        explore(batch.items_BL, slots_S, *drawn_from, places_BK, outside_BK, chances_BK, moved_BK)
        return Chosen(
            places_BK,
            outside_BK=outside_BK,
            moved_BK=moved_BK,
            reasons=["exploration"],
            propensities_BK=chances_BK,
            joint_B=_without_replacement(chances_BK, moved_BK),
        )

    def _chosen_by_policy(
        self, batch: RerankBatch, k: int, slots_S: np.ndarray, users_B: np.ndarray, seen_BI: sp.csr_matrix
    ) -> Chosen:
        """Fill the exploring positions by the policy."""
        there_BL = batch.items_BL >= 0
        sure_BL = there_BL & (np.cumsum(there_BL, axis=1) <= k - len(slots_S))
        if self.pool is None:
            pool_BP = np.where(there_BL & ~sure_BL, batch.items_BL, -1)
        else:
            barred_BP = seen_BI[:, self.pool_P].toarray() != 0
            lists, at_list = np.nonzero(sure_BL)
            at = np.minimum(np.searchsorted(self.pool_P, batch.items_BL[lists, at_list]), len(self.pool_P) - 1)
            same = self.pool_P[at] == batch.items_BL[lists, at_list]
            barred_BP[lists[same], at[same]] = True
            pool_BP = np.where(barred_BP, -1, self.pool_P)
        if not (pool_BP >= 0).any():
            pool_BP = np.full((len(there_BL), 1), -1, np.int32)
        shown, contexts_BF = self._decide(batch, users_B, np.ascontiguousarray(pool_BP, np.int32), len(slots_S))
        places_BK, outside_BK, chances_BK, moved_BK = _filled(batch.items_BL, k, slots_S, shown)
        return Chosen(
            places_BK,
            outside_BK=outside_BK,
            moved_BK=moved_BK,
            reasons=["exploration"],
            propensities_BK=chances_BK,
            joint_B=shown.joint_B,
            draws=shown.draws,
            contexts_BF=contexts_BF,
        )


def _filled(
    items_BL: np.ndarray, k: int, slots_S: np.ndarray, shown: Decisions
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return lists [B, K]: positions among the candidates and -1 for items that are not, those items, propensities, and 1 where a draw is shown.

    The j-th slot takes the j-th drawn item; other positions, and slots for which there is no draw, take the best candidates that were not drawn.
    """
    there_BL = items_BL >= 0
    same_BSL = (items_BL[:, None] == shown.arms_BK[:, :, None]) & there_BL[:, None]
    free_BL = there_BL & ~same_BSL.any(axis=1)
    best_BL = np.argsort(~free_BL, axis=1, kind="stable")
    slot_K = np.full(k, -1)
    slot_K[slots_S] = np.arange(len(slots_S))
    drawn_BK = (slot_K >= 0) & (slot_K < (shown.arms_BK >= 0).sum(axis=1)[:, None])
    turn_BK = np.cumsum(~drawn_BK, axis=1) - 1
    filled_BK = drawn_BK | (turn_BK < free_BL.sum(axis=1)[:, None])
    draw_BK = np.where(drawn_BK, slot_K, 0)
    found_BS = np.where(same_BSL.any(axis=2), same_BSL.argmax(axis=2), -1)
    found_BK = np.take_along_axis(found_BS, draw_BK, axis=1)
    next_BK = np.take_along_axis(best_BL, np.clip(turn_BK, 0, items_BL.shape[1] - 1), axis=1)
    columns = (
        np.where(filled_BK, np.where(drawn_BK, found_BK, next_BK), -1).astype(np.int32),
        np.where(drawn_BK & (found_BK < 0), np.take_along_axis(shown.arms_BK, draw_BK, axis=1), -1).astype(np.int32),
        np.where(drawn_BK, np.take_along_axis(shown.propensities_BK, draw_BK, axis=1), filled_BK * 1.0),
        drawn_BK.astype(np.int16),
    )
    order_BK = np.argsort(~filled_BK, axis=1, kind="stable")  # lists have no gaps
    places_BK, outside_BK, chances_BK, moved_BK = (np.take_along_axis(one, order_BK, axis=1) for one in columns)
    return places_BK, outside_BK, chances_BK, moved_BK


def _without_replacement(chances_BK: np.ndarray, moved_BK: np.ndarray) -> np.ndarray:
    """Return float64 [B]: the probability of all draws of a list, each among one item fewer than the one before."""
    earlier_BK = np.cumsum(moved_BK, axis=1) - moved_BK
    left_BK = np.where(moved_BK > 0, 1 / np.where(moved_BK > 0, chances_BK, 1.0) - earlier_BK, 1.0)
    return 1 / left_BK.prod(axis=1)
