"""Several models combined: weighted, switching, mixed or cascade (Burke 2002, "Hybrid Recommender Systems: Survey and Experiments").

B users, K list, I items, P parts, S segments of users.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import Count, Counts, OpenShare, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.requests import check_item_rows, item_table
from recsys_dl.families.combination_choice import (
    check_num_candidates,
    check_segments,
    check_thresholds,
    check_weights,
    chosen_weights,
    segment_of,
    steps_of,
)
from recsys_dl.families.combined import CombinedModel, Folded
from recsys_dl.families.held_out import HeldOutOrder, hold_out
from recsys_dl.families.part_scores import Normalize, first_knowing, normalized, weighted_sum
from recsys_dl.kernels.item_lists import ItemLists, lists_of
from recsys_dl.kernels.merge import take_turns
from recsys_dl.kernels.topk import top_k
from recsys_dl.protocols import Served, Users

log = logging.getLogger(__name__)

How = Literal["weighted", "switching", "mixed", "cascade"]


class Hybrid(CombinedModel):
    """Scores of several models of one log, combined over the whole catalog.

    - "weighted": the weighted mean of the parts' comparable scores (`normalize`). Weights are given, or tuned: the parts are
      fitted without some interactions of each user (`holdout`), the simplex is searched for the best NDCG of these, and the
      parts are fitted again on everything. With `validation`, that takes the place of the held-out interactions.
    - "switching": of each item, the comparable score of the first part, in their order, that knows the item, and for which
      user and item have enough interactions. So the last part should be the one that knows most: a model of content.
    - "mixed": the parts' lists interleaved, each in turn its best item that is not in the list yet.
    - "cascade": the first part's best `num_candidates` items, reordered by the second part, and so on.

    An item that a part does not know (without interactions, for a part that knows items by these alone) is scored by the other
    parts, and comes last if all of those have weight 0; if none knows it, it has the user's lowest score. A user without interactions is answered by the parts with
    scores of their own for such users; if there is none, by the most popular items. Similar items are those of the first
    part, or of the largest weight, that knows the item.

    Args:
        parts: name -> model; fitted, for `combine`, or not. Any recommender: models, served by an index or not, pipelines, hybrids.
        how: see above.
        weights: weighted: name -> weight, of every part; not negative, scaled to sum to 1. None tunes them.
        normalize: what makes the parts' scores of a user comparable: "z_score", "min_max" or "rank"; see
            `families.part_scores.normalized`.
        segments: weighted, tuned: numbers of known interactions at which a new segment of users begins, ascending, each with
            weights of its own; None is one segment. One of fewer than 100 users has the weights of all users.
        metric_k: weighted, tuned: k of the NDCG.
        holdout: weighted, tuned: share of each user's interactions held out.
        holdout_order: "last", "random", or "auto": "last" for a log with times. As the model will be tested.
        min_user_interactions: switching: name -> interactions of the user that the part needs.
        min_item_interactions: switching: name -> interactions of the item that the part needs.
        num_candidates: cascade: length of the list that the second part reorders, of which each further part reorders the best half; or a list, one
            length for each part after the first.
        seed: of the draw of what is held out.

    Attributes:
        parts: name -> model, fitted.
        weights_SP: float32, by segment, summing to 1; None unless weighted.

    Raises:
        ValueError: no parts, an object that is not a recommender, an argument out of range, for an unknown part or of another `how`.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import EASE, Hybrid, ItemKNN
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> parts = {"ease": EASE(regularization=1, device="cpu"), "knn": ItemKNN(device="cpu")}
        >>> hybrid = Hybrid(parts, weights={"ease": 0.7, "knn": 0.3}).fit(train)
        >>> hybrid.recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    fitted = ("weights_SP",)
    weights_SP: np.ndarray | None

    def __init__(
        self,
        parts: Mapping[str, Any],
        *,
        how: How = "weighted",
        weights: Mapping[str, Any] | None = None,
        normalize: Normalize = "z_score",
        segments: Counts | None = None,
        metric_k: Count = 10,
        holdout: OpenShare = 0.1,
        holdout_order: HeldOutOrder = "auto",
        min_user_interactions: Mapping[str, Any] | None = None,
        min_item_interactions: Mapping[str, Any] | None = None,
        num_candidates: Count | Counts = 100,
        seed: Seed = 0,
    ) -> None:
        self._set_parts(parts)
        self.how, self.normalize = how, normalize
        self.weights = check_weights(weights, self.parts, how)
        self.segments = check_segments(segments, self.weights, how)
        self.metric_k = metric_k
        self.holdout, self.holdout_order = holdout, holdout_order
        self.min_user_interactions = check_thresholds("min_user_interactions", min_user_interactions, self.parts, how)
        self.min_item_interactions = check_thresholds("min_item_interactions", min_item_interactions, self.parts, how)
        self.num_candidates = check_num_candidates(num_candidates, self.parts, how)
        self.seed = seed

    # Fitting

    def fit(self, train: Dataset | Interactions, *, validation: Any = None, trainer: Any = None) -> Self:
        """Fit copies of the parts; tune the weights, unless given.

        Args:
            train: the log.
            validation: interactions that are not in `train`, for tuning, and for parts that stop early. None: part of `train` is
                held out for tuning, and the parts are fitted twice.
            trainer: `TrainerOptions` for neural parts; single process only.

        Raises:
            ValueError: an empty log; a part that cannot be fitted; nothing relevant in `validation`.
        """
        self._begin(train)
        inner = None
        if self._is_tuned() and validation is None:
            inner = hold_out(train, self.holdout, self.holdout_order, self.seed)
            if inner is None:
                log.warning("no user has two interactions, so no weights can be tuned: the parts weigh the same")
        if inner is not None:
            trial = copy.copy(self)
            trial._begin(inner[0])
            trial._adopt(self._fitted_parts(inner[0], trainer=trainer, when="tuning"))
            self.weights_SP = trial._weights(*inner)
        self._adopt(self._fitted_parts(train, validation=validation, trainer=trainer, when="all"))
        if inner is None:
            self.weights_SP = self._weights(train, validation)
        return self

    def combine(self, train: Dataset | Interactions, validation: Dataset | Interactions | None = None) -> Self:
        """Take the parts as they are fitted; tune the weights on `validation`, unless given. On an error all is as it was.

        Args:
            train: the log that the parts were fitted on; a part that was fitted on other pairs of it is warned of.
            validation: interactions that the parts have not seen; for tuning alone.

        Raises:
            ValueError: a part that was not fitted, or on another log, or on `validation` too; no validation for tuning.
        """
        self._check_parts(train)
        if self._is_tuned() and validation is None:
            raise ValueError(
                "the weights of fitted parts are tuned on interactions that these have not seen: combine(train, validation); or "
                f"give them: weights={dict.fromkeys(self.parts, 1)}"
            )
        self._check_unseen(train, validation if self._is_tuned() else None)
        self._begin(train)
        self._adopt(self.parts)
        self.weights_SP = self._weights(train, validation)
        return self

    def _is_tuned(self) -> bool:
        return self.how == "weighted" and self.weights is None and len(self.parts) > 1

    def _weights(self, train: Dataset | Interactions, validation: Dataset | Interactions | None) -> np.ndarray | None:
        """Return float32 [S, P]; with parts fitted on `train`."""
        if self.how != "weighted":
            return None
        if self._is_tuned() and validation is not None:
            return chosen_weights(
                self,
                train,
                validation,
                normalize=self.normalize,
                segments=self.segments,
                k=self.metric_k,
                seed=self.seed,
            )
        weights_P = np.array(list((self.weights or dict.fromkeys(self.parts, 1.0)).values()))
        return np.tile(weights_P / weights_P.sum(), (len(self.segments or []) + 1, 1)).astype(np.float32)

    # Answering

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`.

        Raises:
            ValueError: mixed or cascade, whose answer is not a score of each item; or a part that cannot be exported.
        """
        from recsys_dl.families import served_combined as modules

        if self.how in ("mixed", "cascade"):
            raise ValueError(
                f"a hybrid with how={self.how} cannot be exported, since it has lists, not scores: weighted and switching can"
            )
        served = modules.served_parts(self, seen)
        scores = modules.PartScores(served, self._know_items(), self.normalize)
        if self.how == "switching":
            scorer: Any = modules.Switching(scores, *self._demands())
        else:
            assert self.weights_SP is not None
            scorer = modules.Weighted(scores, self.weights_SP, self.segments or [])
        return modules.combination(self, seen, scorer, served)

    def _scores(self, values: np.ndarray | Folded) -> np.ndarray:
        if self.how in ("mixed", "cascade"):
            items_BI = self._ordered(values, self.num_items)
            scores_BI = np.empty(items_BI.shape, np.float32)
            np.put_along_axis(
                scores_BI, items_BI, np.broadcast_to(_by_position(self.num_items), items_BI.shape), axis=1
            )
            return scores_BI
        scores_PBI, knows_PBI = self._part_scores(values)
        scores_PBI = normalized(scores_PBI, knows_PBI, self.normalize)
        if self.how == "switching":
            return first_knowing(scores_PBI, knows_PBI & self._enough(values))
        return weighted_sum(scores_PBI, knows_PBI, self._user_weights(values))

    def _top_k(
        self, values: Any, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.how in ("weighted", "switching"):
            return super()._top_k(values, k, exclude, allow)
        items_BK = np.empty((values.shape[0], k), np.int32)
        for block in self._blocks(len(items_BK)):
            out, within = lists_of(exclude, block), lists_of(allow, block)
            items_BK[block] = self._ordered(values[block], k, exclude=out, allow=within)
        return items_BK, np.where(items_BK >= 0, _by_position(k), np.float32(-np.inf))

    def _ordered(
        self, values: np.ndarray | Folded, k: int, exclude: ItemLists | None = None, allow: ItemLists | None = None
    ) -> np.ndarray:
        """Return int32 [B, K], the interleaved or reordered lists; items that a part does not know are last in its list."""
        scores_PBI, knows_PBI = self._part_scores(values)
        np.copyto(scores_PBI, np.finfo(np.float32).min, where=~knows_PBI)
        steps = steps_of(self.num_candidates, len(self.parts)) if self.how == "cascade" else []
        length = min(max(k, *steps, 1), self.num_items)
        lists_P = [
            top_k(scores_BI, length, exclude=exclude, allow=allow, device="cpu")[0]
            for scores_BI in (scores_PBI if self.how == "mixed" else scores_PBI[:1])
        ]
        if self.how == "mixed":
            items_BK = np.empty((len(lists_P[0]), k), np.int32)
            lists_BPN = np.stack(lists_P, axis=1)
            known_BPN = np.take_along_axis(knows_PBI.swapaxes(0, 1), np.maximum(lists_BPN, 0), axis=2)
            take_turns(np.where(known_BPN, lists_BPN, -1), np.full(len(lists_P), length), True, items_BK)
            if not known_BPN.all():  # what no part knows comes last
                one_after_other = np.zeros((len(items_BK), 2, length), np.int32)
                one_after_other[:, 0], one_after_other[:, 1] = -1, lists_P[0]
                one_after_other[:, 0, :k] = items_BK
                take_turns(one_after_other, np.full(2, length), False, items_BK)
            return items_BK
        items_BL = lists_P[0]
        for count, scores_BI in zip(steps, scores_PBI[1:], strict=True):
            some_BN = items_BL[:, :count]
            mine_BN = np.where(some_BN >= 0, np.take_along_axis(scores_BI, np.maximum(some_BN, 0), axis=1), -np.inf)
            order_BN = np.argsort(-mine_BN, axis=1, kind="stable")
            items_BL[:, :count] = np.take_along_axis(some_BN, order_BN, axis=1)
        return items_BL[:, :k]

    def _user_weights(self, values: np.ndarray | Folded) -> np.ndarray:
        """Return float32 [B, P], the weights of each user's segment."""
        assert self.weights_SP is not None
        counts_B = self._counts(values)
        weights_BP = self.weights_SP[segment_of(counts_B, self.segments)]
        weights_BP *= self._know_users(values).T
        nobody_B = ~weights_BP.any(axis=1)
        weights_BP[nobody_B] = self._know_users(values).T[nobody_B]
        return weights_BP

    def _enough(self, values: np.ndarray | Folded) -> np.ndarray:
        """Return bool [P, B, I], whether a part's demands of users and items are met."""
        of_users_P, enough_PI = self._demands()
        users_PB = self._counts(values) >= of_users_P[:, None]
        return users_PB[:, :, None] & enough_PI[:, None, :]

    def _demands(self) -> tuple[np.ndarray, np.ndarray]:
        """Return int64 [P], the interactions of the user that a part needs, and bool [P, I], whether the items have enough."""
        of_users_P, of_items_P = (
            np.array([(demands or {}).get(name, 0) for name in self.parts])
            for demands in (self.min_user_interactions, self.min_item_interactions)
        )
        return of_users_P, self.item_counts_I >= of_items_P[:, None]

    def answered_by(self, users: Users, items_BL: np.ndarray) -> np.ndarray:
        """Return text [B, L], the names of the parts whose scores an item's position rests on, joined by " + ".

        It is "popularity" for a user without interactions whom no part has scores for, and "" for an item that no part knows.

        Raises:
            ValueError: as in `score`.
        """
        rows, values, blank_B = self._resolved(users)
        items_BL = item_table(items_BL, len(rows))
        check_item_rows(items_BL, self.num_items)
        said_BL = np.empty(items_BL.shape, object)
        for block in self._blocks(len(rows)):
            uses_PBI = self._uses(values[block])
            said_BL[block] = self._named(np.take_along_axis(uses_PBI, items_BL[block][None], axis=2))
        said_BL[blank_B] = "popularity"
        return said_BL

    def reasons_of_parts(self, users: Users, items_BL: np.ndarray) -> list[list[Any]]:
        """Return for each item the reason of the first part that its position rests on and that has one, `families.reasons.Reason`; else None.

        Raises:
            ValueError: as in `score`.
        """
        names_BL = self.answered_by(users, items_BL)
        _, values, _ = self._resolved(users)
        given = self._part_reasons(values, item_table(items_BL, len(names_BL)))
        return [
            [
                next(
                    (
                        given[part][b][at]
                        for part in names.split(" + ")
                        if part in given and given[part][b][at] is not None
                    ),
                    None,
                )
                for at, names in enumerate(names_L)
            ]
            for b, names_L in enumerate(names_BL)
        ]

    def _uses(self, values: np.ndarray | Folded) -> np.ndarray:
        """Return bool [P, B, I], whether a part's score of the item counts."""
        scores_PBI, knows_PBI = self._part_scores(values)
        if self.how == "switching":
            knows_PBI &= self._enough(values)
            return knows_PBI & (np.cumsum(knows_PBI, axis=0) == 1)
        if self.how == "weighted":
            weigh_PBI = knows_PBI & (self._user_weights(values).T[:, :, None] > 0)
            return weigh_PBI | (knows_PBI & ~weigh_PBI.any(axis=0))
        if self.how == "mixed":
            ranks_PBI = np.where(knows_PBI, -scores_PBI, np.inf).argsort(axis=2).argsort(axis=2)
            ranks_PBI[~knows_PBI] = self.num_items
            knows_PBI &= np.arange(len(self.parts))[:, None, None] == ranks_PBI.argmin(axis=0)
        return knows_PBI

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        order = list(self.parts)
        if self.weights_SP is not None:
            order = [order[at] for at in np.argsort(-self.weights_SP.mean(axis=0), kind="stable")]
        know = dict(zip(self.parts, self._know_items(), strict=True))
        scores_BI = np.full((len(items_B), self.num_items), -np.inf, np.float32)
        left_B = np.ones(len(items_B), bool)
        for name in order:
            mine_B = left_B & know[name][items_B]
            if mine_B.any():
                scores_BI[mine_B] = self._similarities(name, items_B[mine_B])
            left_B &= ~mine_B
        scores_BI[:, ~self._known_items()] = -np.inf
        return scores_BI


def _by_position(length: int) -> np.ndarray:
    return (1 / np.arange(1, length + 1)).astype(np.float32)
