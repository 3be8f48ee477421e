"""The base of every ranker: scoring lists and rows, validation, feature importance, saving and loading.

B lists, L candidates, F features, N documents, Q groups.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.data.groups import BLOCK_BYTES, Groups
from recsys_dl.learning import learns_whole
from recsys_dl.metrics.grouped import all_tied, judge_groups
from recsys_dl.metrics.ranking import Gains, per_user
from recsys_dl.names import with_article
from recsys_dl.saving import Saved

from .propensity import per_click

log = logging.getLogger(__name__)


class Ranker(Saved):
    """Learns to order the documents of a group by their labels.

    A subclass stores its arguments under their own names as plain values, calls `_begin` first in `fit`, implements `_scores`, and
    adds its fitted state to `arrays` and `restore`.

    Attributes:
        num_features: F, of training.
        names: of the features; None if training had none.
        history: NDCG@k on validation after each round or epoch, leaving out queries without a relevant document; empty without
            validation.
    """

    noun = "ranker"
    gains: Gains
    k: int
    propensities: Sequence[float] | None

    num_features: int
    names: tuple[str, ...] | None
    history: list[float]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        learns_whole(cls, ["fit"])

    @abstractmethod
    def fit(self, groups: Groups, *, validation: Groups | None = None) -> Self:
        """Fit to `groups`; with `validation`, keep the model with the highest NDCG@k on it. Return self."""

    @abstractmethod
    def _scores(self, features_BLF: np.ndarray, valid_BL: np.ndarray) -> np.ndarray:
        """Return float32 [B, L]; arbitrary at padding."""

    def score(self, features_BLF: Any, valid_BL: Any = None) -> np.ndarray:
        """Return float32 [B, L]: scores of lists of candidates, -inf at padding. Higher is better; only the order is meaningful.

        Args:
            features_BLF: finite at every valid position.
            valid_BL: False at padding; None for no padding.

        Raises:
            ValueError: a different number of features than in training, or a value that is not finite.
        """
        features = np.asarray(features_BLF, np.float32)
        valid = np.ones(features.shape[:2], bool) if valid_BL is None else np.asarray(valid_BL).astype(bool)
        self._check_fitted()
        if features.ndim != 3 or features.shape[:2] != valid.shape or features.shape[2] != self.num_features:
            raise ValueError(
                f"features must be [B, L, {self.num_features}] as in training, and valid [B, L]; got {features.shape} and "
                f"{valid.shape}"
            )
        finite = np.isfinite(features)
        if not finite.all() and (bad := ~finite.all(axis=2) & valid).any():
            b, at = np.argwhere(bad)[0]
            feature = int((~finite[b, at]).argmax())
            raise ValueError(
                f"features must be finite, got {features[b, at, feature]} for {self._name(feature)} of list {b}"
            )
        scores_BL = np.full(valid.shape, -np.inf, np.float32)
        if not valid.any():
            return scores_BL
        size = max(1, BLOCK_BYTES // (4 * features.shape[1] * features.shape[2]))
        for start in range(0, len(features), size):
            block = slice(start, start + size)
            within = np.where(valid[block][..., None], features[block], np.float32(0))
            scores_BL[block] = np.where(valid[block], self._scores(within, valid[block]), np.float32(-np.inf))
        return scores_BL

    def score_rows(self, features_NF: Any) -> np.ndarray:
        """Return float32 [N]: scores of the documents of one list."""
        return self.score(np.asarray(features_NF)[None])[0]

    def score_groups(self, groups: Groups) -> np.ndarray:
        """Return float32 [N]: scores of all documents, in bounded memory.

        Raises:
            ValueError: different features than in training.
        """
        self._check_same(groups, "groups")
        scores_N = np.empty(groups.num_documents, np.float32)
        for part in groups.batches():
            scores_N[part.rows_BL[part.valid_BL]] = self._scores(part.features_BLF, part.valid_BL)[part.valid_BL]
        return scores_N

    def feature_importance(self, groups: Groups | None = None, *, seed: int = 0) -> dict[str, float]:
        """Return each feature's importance: the NDCG@k lost on `groups` when its values are shuffled among all documents.

        Permutation importance (Breiman 2001, "Random Forests", section 10). Redundant features share their importance.

        Raises:
            ValueError: no groups to measure it on.
        """
        if groups is None:
            raise ValueError(
                f"feature importance of {with_article(type(self).__name__)} is measured on data: pass groups"
            )
        self._check_same(groups, "groups")
        rng = np.random.default_rng(seed)
        whole = self._ndcg(self.score_groups(groups), groups)
        worth = {}
        for feature in range(self.num_features):
            features_NF = groups.features_NF.copy()
            features_NF[:, feature] = rng.permutation(features_NF[:, feature])
            shuffled = Groups(features_NF, groups.labels_N, groups.sizes_Q, names=groups.names)
            worth[self._name(feature)] = whole - self._ndcg(self.score_groups(shuffled), groups)
        return worth

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name."""
        arrays = {"num_features": np.int64(self.num_features), "history": np.array(self.history, np.float64)}
        return arrays if self.names is None else arrays | {"names": np.array(self.names, np.str_)}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        self.num_features, self.history = int(arrays["num_features"]), arrays["history"].tolist()
        self.names = tuple(arrays["names"].tolist()) if "names" in arrays else None

    def check_features(self, names: Sequence[str]) -> None:
        """Validate arguments that name features, up front.

        Raises:
            ValueError: a feature that is not in `names`.
        """

    # For subclasses

    def _begin(self, groups: Groups, validation: Groups | None) -> tuple[Groups, Groups | None]:
        """Validate the data and store its shape; return it with logged clicks corrected if there are propensities."""
        if not len(groups):
            raise ValueError("training needs at least one group, got none")
        self.num_features, self.names, self.history = groups.num_features, groups.names, []
        if validation is not None:
            self._check_same(validation, "validation")
            if not (validation.labels_N > 0).any():
                raise ValueError("validation must hold a document that is relevant (label above 0), got none")
        if self.propensities is not None:
            groups = per_click(groups, self.propensities)
            if validation is not None and validation.positions_N is not None:
                validation = per_click(validation, self.propensities)
        labels_N, first_N = groups.labels_N, np.repeat(groups.labels_N[groups.starts_Q[:-1]], groups.sizes_Q)
        if (labels_N == first_N).all():
            raise ValueError(
                "training needs a group whose documents differ in label, got none: within each of "
                f"{len(groups):,} groups all labels are equal, so there is no order to learn"
            )
        return groups, validation

    def _ndcg(self, scores_N: np.ndarray, groups: Groups) -> float:
        """Return NDCG@k, with groups weighted by the mean weight of their documents; blank groups are left out."""
        judged = judge_groups(scores_N, groups.labels_N, groups.starts_Q, k=self.k)
        ndcg_Q = per_user(judged, ["ndcg"], [self.k], gains=self.gains)[f"ndcg@{self.k}"]
        counted = ~np.isnan(ndcg_Q)
        if groups.weights_N is None:
            return float(ndcg_Q[counted].mean())
        weights_Q = np.add.reduceat(groups.weights_N.astype(np.float64), groups.starts_Q[:-1]) / groups.sizes_Q
        return float(np.average(ndcg_Q[counted], weights=weights_Q[counted]))

    def _report(self, groups: Groups) -> None:
        """Warn if the ranker does not order any of the documents it was fitted on.

        Raises:
            ValueError: scores that are not finite.
        """
        scores_N = self.score_groups(groups)
        if not np.isfinite(scores_N).all():
            raise ValueError(
                f"{type(self).__name__} learned scores that are not finite, for {int((~np.isfinite(scores_N)).sum()):,} of "
                f"{len(scores_N):,} documents; lower the learning rate, or normalize features"
            )
        if all_tied(scores_N, groups.starts_Q):
            log.warning(
                "%s gives all documents of a group the same score: it learned a constant and ranks nothing. Try "
                "features that differ within groups, fewer documents per leaf (min_documents), or more training",
                type(self).__name__,
            )

    def _name(self, feature: int) -> str:
        return f"feature {feature}" if self.names is None else self.names[feature]

    def _check_fitted(self) -> None:
        if not hasattr(self, "num_features"):
            raise ValueError(f"this {type(self).__name__} has not been fitted; call fit(groups) first")

    def _check_same(self, groups: Groups, what: str) -> None:
        self._check_fitted()
        if groups.num_features != self.num_features:
            raise ValueError(
                f"{what} must have the {self.num_features} features of training, got {groups.num_features}"
            )
        if groups.names is not None and self.names is not None and groups.names != self.names:
            at = next(i for i, pair in enumerate(zip(groups.names, self.names, strict=True)) if pair[0] != pair[1])
            raise ValueError(
                f"{what} must have the features of training in the same order, got {groups.names[at]!r} instead of "
                f"{self.names[at]!r}"
            )
