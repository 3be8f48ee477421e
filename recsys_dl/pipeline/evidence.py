"""Each retriever's scores and ranks of the candidates, from which ranker features are computed. B users, L candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recsys_dl.data.groups import BLOCK_BYTES
from recsys_dl.kernels.item_lists import read_only
from recsys_dl.kernels.merge import ranks
from recsys_dl.kernels.threads import at_most
from recsys_dl.protocols import Ranking, Recommender, Users, UserState

from .stages import Stages


@dataclass(frozen=True)
class Evidence:
    """Scores and ranks of candidates, by retriever.

    Attributes:
        scores: float32 [B, L], whether or not the retriever returned the candidate; -inf if it has no score.
        ranks: int32 [B, L], from 1, in the retriever's list; 0 if the candidate is not in it.
    """

    scores: dict[str, np.ndarray]
    ranks: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        retrievers: Mapping[str, Recommender],
        lists: Mapping[str, Ranking],
        asked: Mapping[str, Any],
        items_BL: np.ndarray,
        *,
        silent: Sequence[str] = (),
    ) -> Evidence:
        """Return scores and ranks of candidates; retrievers in `silent` returned nothing and have no scores.

        Args:
            retrievers: by name, fitted.
            lists: the list each of them returned for these users.
            asked: the users in the form that each of them takes.
            items_BL: item rows, -1 where there is no candidate.
            silent: names of retrievers without an answer.
        """
        scores = {name: one.score(asked[name], items_BL) for name, one in retrievers.items()}
        ranks_in_lists = {name: ranks_in(lists[name].items_BK, items_BL) for name in retrievers}
        for name in silent:
            scores[name] = np.full(items_BL.shape, -np.inf, np.float32)
            ranks_in_lists[name] = np.zeros(items_BL.shape, np.int32)
        return cls(scores, ranks_in_lists)

    def part(self, chosen: slice) -> Evidence:
        """Return the evidence for some users."""
        return Evidence(*({name: one[chosen] for name, one in kind.items()} for kind in (self.scores, self.ranks)))


def features_of(pipeline: Stages, features: Any, users: Users, items_BL: np.ndarray, evidence: Evidence) -> np.ndarray:
    """Return float32 [B, L, F]: the ranker's input, identical in training and serving."""
    ranks = evidence.ranks if pipeline.returned_ranks else None
    return features.compute(users, items_BL, evidence.scores, retriever_ranks=ranks)


def ranked(
    pipeline: Stages,
    users: Users,
    rows: np.ndarray,
    merged: Ranking,
    lists: Mapping[str, Ranking],
    retrievers: Mapping[str, Recommender],
    asked: Mapping[str, Any],
) -> Ranking:
    """Return candidates sorted by the ranker's scores; features are computed for a block of users at a time.

    Args:
        pipeline: fitted, with a ranker.
        users: user rows, or the state that `Pipeline.fold_in` returned.
        rows: of the users, or of that state.
        merged: their candidates; ties keep this order.
        lists: the list of each retriever that answered.
        retrievers: those that answered.
        asked: the users in the form that each of them takes.
    """
    items_BL = merged.items_BK
    silent = [name for name in pipeline.retrievers if name not in retrievers]
    evidence = Evidence.of(retrievers, lists, asked, items_BL, silent=silent)
    scores_BL = np.full(items_BL.shape, -np.inf, np.float32)
    size = max(1, BLOCK_BYTES // (4 * max(1, items_BL.shape[1]) * len(pipeline.features.names)))
    for start in range(0, len(rows), size):
        block = slice(start, min(start + size, len(rows)))
        some: Users = rows[block]
        if isinstance(users, UserState):
            some = UserState(None, users.histories.of_users(rows[block]))
        features_BLF = features_of(pipeline, pipeline.features, some, items_BL[block], evidence.part(block))
        scores_BL[block] = pipeline.ranker.score(features_BLF, items_BL[block] >= 0)
    order_BL = np.argsort(-scores_BL, axis=1, kind="stable")
    return Ranking(np.take_along_axis(items_BL, order_BL, axis=1), np.take_along_axis(scores_BL, order_BL, axis=1))


def ranks_in(list_BK: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
    """Return int32 [B, L]: the first rank, from 1, of each item in its user's list; 0 if it is not in it, or is -1."""
    ranks_BL = np.empty(items_BL.shape, np.int32)
    with at_most(len(ranks_BL)):
        ranks(read_only(list_BK, np.int32), read_only(items_BL, np.int32), ranks_BL)
    return ranks_BL


def of_retriever(users: Users, name: str) -> Users:
    """Return the users of a pipeline in the form for one of its retrievers."""
    return users.values[name] if isinstance(users, UserState) else users
