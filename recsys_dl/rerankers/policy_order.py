"""A policy orders the candidates. B lists, K positions, L candidates."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.arguments import Count, Seed

from .list_reranker import Chosen, RerankBatch
from .policy_stage import PolicyStage, check_policy


class PolicyOrder(PolicyStage):
    """The policy chooses and orders the list among the best candidates; it learns from every position.

    Put this stage last: `Reranked.propensities_BK` holds the policy's propensities, `joint_B` those of whole lists.

    Args:
        policy: of `recsys_dl.bandits`.
        among: number of best candidates from which the policy chooses; the others follow in order.
        contexts: whether the policy sees the user, as it must for linear ones; see `PolicyStage`.
        content: column of item features that are the arms' features; null: none.
        seed: of the requests' numbers; the policy has its own for its draws.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Interactions, Ranking
        >>> from recsys_dl.bandits import EpsilonGreedy
        >>> from recsys_dl.rerankers import PolicyOrder
        >>> stage = PolicyOrder(EpsilonGreedy(epsilon=1.0), among=3).prepare(Interactions([0], [0], num_items=4))
        >>> answer = stage.rerank([0], Ranking(np.array([[0, 1, 2, 3]]), np.array([[1.0, 0.9, 0.8, 0.7]])), k=2)
        >>> answer.propensities_BK.round(3), answer.joint_B.round(3)
        (array([[0.333, 0.333]]), array([0.167]))
    """

    fitted = ("item_vectors_ID", "user_contexts_UF")

    def __init__(
        self, policy: Any, *, among: Count = 20, contexts: bool = False, content: str | None = None, seed: Seed = 0
    ) -> None:
        check_policy(policy)
        self.policy = policy
        self.among, self.contexts, self.content, self.seed = among, contexts, content, seed

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        histories = batch.users.histories.by_user if not isinstance(batch.users, np.ndarray) else None
        users_B, _, _ = self._users(batch, histories)
        candidates_BL = np.ascontiguousarray(batch.items_BL[:, : self.among])
        places_BK = np.full((len(candidates_BL), k), -1, np.int32)
        chances_BK = np.zeros(places_BK.shape)
        if not candidates_BL.size:
            return Chosen(places_BK, reasons=["policy"], propensities_BK=chances_BK)
        shown, contexts_BF = self._decide(batch, users_B, candidates_BL, k)
        width = shown.arms_BK.shape[1]
        there_BK = shown.arms_BK >= 0
        found_BKL = candidates_BL[:, None, :] == np.where(there_BK, shown.arms_BK, -2)[:, :, None]
        places_BK[:, :width] = np.where(there_BK, found_BKL.argmax(axis=2), -1)
        chances_BK[:, :width] = np.where(there_BK, shown.propensities_BK, 0.0)
        if width < k:  # the candidates after those follow
            after_BK = batch.items_BL[:, self.among : self.among + k - width] >= 0
            rest = slice(width, width + after_BK.shape[1])
            places_BK[:, rest] = np.where(after_BK, self.among + np.arange(after_BK.shape[1]), -1)
            chances_BK[:, rest] = after_BK
        return Chosen(
            places_BK,
            reasons=["policy"],
            propensities_BK=chances_BK,
            joint_B=shown.joint_B,
            draws=shown.draws,
            contexts_BF=contexts_BF,
        )
