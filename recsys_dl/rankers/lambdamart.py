"""LambdaMART, using LightGBM."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le, Lt
from typing_extensions import Self

from recsys_dl.arguments import Count, CountOrZero, NotNegative, Positive, ShareAboveZero
from recsys_dl.data.groups import Groups
from recsys_dl.metrics.ranking import Gains

from .ranker import Ranker

try:
    import lightgbm as lgb
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "LambdaMART needs the package lightgbm, which is not installed: pip install 'recsys_dl[rank]'"
    ) from error

# 2^30 - 1 is the largest gain in LightGBM's own table; one such document outweighs a billion of grade 1.
HIGHEST_GRADE = {"exponential": 30, "linear": 10_000}
MOST_DOCUMENTS = 10_000  # per group, LightGBM's limit


class LambdaMART(Ranker):
    """Boosted regression trees on LambdaRank's gradients (Burges 2010, "From RankNet to LambdaRank to LambdaMART"), by LightGBM.

    Every document is scored independently. Early stopping uses NDCG@k in `metrics.ranking`'s convention, leaving out queries without
    a relevant document; LightGBM's own figure counts those as 1, which changes the figure but never the best round. The same seed
    gives the same trees on any number of threads.

    Args:
        num_trees: maximum number of trees.
        learning_rate: shrinkage of each tree.
        num_leaves: maximum number of leaves per tree.
        min_documents: minimum number of documents per leaf.
        regularization: L2 penalty on leaf values.
        feature_fraction: share of the features available to each tree.
        query_fraction: share of the queries each tree is fitted on.
        truncation: only pairs whose better document is within this many ranks count.
        gains: gain of a grade, in gradients and NDCG: "exponential" 2^g - 1, or "linear" g.
        k: of the validation NDCG.
        patience: training stops after this many rounds without a better validation NDCG@k; the trees up to the best round are kept.
            Without validation all trees are kept.
        monotone: feature (name, or number from 0) -> 1 or -1, if the score may only increase or only decrease with it.
        propensities: of ranks 1, 2, ...: labels are clicks at logged positions, to be corrected for position bias; see `propensity.per_click`.
        learn_position_bias: let LightGBM estimate and subtract a bias for each logged position during training. Validation is
            not corrected: use grades, or clicks on randomly ordered lists.
        position_regularization: of these biases.
        seed: for the fractions.

    Attributes:
        booster: LightGBM's booster, truncated after the best round.

    Raises:
        ValueError: an argument out of range, an unknown monotone feature, grades that are not whole numbers up to 30
            (10,000 with linear gains), a group of more than 10,000 documents.

    Examples:
        >>> from recsys_dl.data.groups import Groups
        >>> from recsys_dl.rankers import LambdaMART
        >>> groups = Groups([[1.0], [0.0], [0.0], [1.0]] * 8, [1, 0, 0, 1] * 8, [2] * 16)  # the label is the feature
        >>> ranker = LambdaMART(num_trees=5, min_documents=1).fit(groups)
        >>> ranker.score_rows([[0.0], [1.0]]).argsort()
        array([0, 1])
    """

    booster: lgb.Booster

    def __init__(
        self,
        *,
        num_trees: Count = 500,
        learning_rate: Positive = 0.05,
        num_leaves: Annotated[int, Ge(2), Le(131_072)] = 31,
        min_documents: CountOrZero = 20,
        regularization: NotNegative = 0.0,
        feature_fraction: ShareAboveZero = 1.0,
        query_fraction: ShareAboveZero = 1.0,
        truncation: Count = 30,
        gains: Gains = "exponential",
        k: Count = 10,
        patience: Count = 50,
        monotone: Mapping[str | int, int] | None = None,
        propensities: Sequence[Positive] | None = None,
        learn_position_bias: bool = False,
        position_regularization: NotNegative = 0.0,
        seed: Annotated[int, Ge(0), Lt(1 << 31)] = 0,
    ) -> None:
        if gains == "binary":
            raise ValueError('gains must be "exponential" or "linear"; for binary grades the two are the same')
        if learn_position_bias and propensities is not None:
            raise ValueError(
                "set either propensities or learn_position_bias, not both: position bias must be corrected only once"
            )
        self.num_trees, self.learning_rate, self.num_leaves = num_trees, learning_rate, num_leaves
        self.min_documents, self.regularization = min_documents, regularization
        self.feature_fraction, self.query_fraction, self.truncation = feature_fraction, query_fraction, truncation
        self.gains, self.k, self.patience = gains, k, patience
        self.monotone = None if monotone is None else dict(monotone)
        self.propensities = None if propensities is None else list(propensities)
        self.learn_position_bias, self.position_regularization = learn_position_bias, position_regularization
        self.seed = seed

    def fit(self, groups: Groups, *, validation: Groups | None = None) -> Self:
        """Grow trees; with `validation`, until its NDCG@k has not improved for `patience` rounds."""
        groups, validation = self._begin(groups, validation)
        grades = groups.labels_N
        if (broken := grades[grades != np.round(grades)]).size:
            raise ValueError(
                f"LambdaMART needs grades that are whole numbers, got {broken[0]:g}: round or bin the labels, as "
                "np.digitize(labels, edges) does, or use a ranker that regresses on them, such as MLPRanker(loss='mse_loss')"
            )
        highest = HIGHEST_GRADE[self.gains]
        if grades.max(initial=0) > highest:
            raise ValueError(
                f'LambdaMART with gains="{self.gains}" takes grades up to {highest:,}, got {grades.max():g}: bin the labels into a '
                "few grades, as np.digitize(labels, np.quantile(labels[labels > 0], [0, 0.5, 0.8, 0.95])) does into 0 to 4"
                + (', or use gains="linear"' if self.gains == "exponential" else "")
            )
        if groups.sizes_Q.max() > MOST_DOCUMENTS:
            at = int(groups.sizes_Q.argmax())
            raise ValueError(
                f"LambdaMART learns from groups of up to {MOST_DOCUMENTS:,} documents, got {groups.sizes_Q[at]:,} in group "
                f"{groups.group_ids[at]!r}; keep the most relevant candidates, or use another ranker"
            )
        if self.learn_position_bias and groups.positions_N is None:
            raise ValueError("learn_position_bias needs the positions at which documents were shown; set positions_N")
        data = lgb.Dataset(
            groups.features_NF,
            grades,
            group=groups.sizes_Q,
            weight=groups.weights_N,
            position=groups.positions_N if self.learn_position_bias else None,
            free_raw_data=False,
        )
        callbacks: list[Any] = []
        valid_sets = []
        feval = None
        if validation is not None:
            known = validation
            valid_sets = [data.create_valid(known.features_NF, known.labels_N, group=known.sizes_Q)]

            def feval(scores_N: np.ndarray, _: lgb.Dataset) -> tuple[str, float, bool]:
                self.history.append(self._ndcg(scores_N, known))
                return f"ndcg@{self.k}", self.history[-1], True

            callbacks = [lgb.early_stopping(self.patience, verbose=False)]
        booster = lgb.train(
            self._parameters(grades), data, self.num_trees, valid_sets=valid_sets, feval=feval, callbacks=callbacks
        )
        best = booster.best_iteration if validation is not None else booster.current_iteration()
        self.booster = lgb.Booster(model_str=booster.model_to_string(num_iteration=best))
        self._report(groups)
        return self

    def feature_importance(self, groups: Groups | None = None, *, seed: int = 0) -> dict[str, float]:
        """Return each feature's share of the gain of all splits; with `groups`, the NDCG@k lost by permuting it, see `Ranker`."""
        if groups is not None:
            return super().feature_importance(groups, seed=seed)
        self._check_fitted()
        gain_F = self.booster.feature_importance("gain")
        shares_F = gain_F / max(gain_F.sum(), 1e-300)
        return {self._name(feature): float(share) for feature, share in enumerate(shares_F)}

    def _parameters(self, grades_N: np.ndarray) -> dict[str, Any]:
        levels = np.arange(int(grades_N.max(initial=0)) + 2)
        gains = np.exp2(levels) - 1 if self.gains == "exponential" else levels
        return {
            "objective": "lambdarank",
            "metric": "None",
            "learning_rate": self.learning_rate,
            "num_leaves": self.num_leaves,
            "min_data_in_leaf": self.min_documents,
            "lambda_l2": self.regularization,
            "feature_fraction": self.feature_fraction,
            "bagging_fraction": self.query_fraction,
            "bagging_freq": int(self.query_fraction < 1),
            "bagging_by_query": True,
            "lambdarank_truncation_level": self.truncation,
            # Normalization shrinks the gradients of badly ranked lists, so that losses over clicks would not add up.
            "lambdarank_norm": self.propensities is None,
            "lambdarank_position_bias_regularization": self.position_regularization,
            "label_gain": gains.tolist(),
            "monotone_constraints": self._directions(),
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }

    def check_features(self, names: Sequence[str]) -> None:
        """Check that monotone names features."""
        trial = copy.copy(self)
        trial.num_features, trial.names = len(names), tuple(names)
        trial._directions()

    def _directions(self) -> list[int] | None:
        if not self.monotone:
            return None
        directions = [0] * self.num_features
        for feature, direction in self.monotone.items():
            if isinstance(feature, int) and 0 <= feature < self.num_features:
                at = feature
            elif self.names is not None and feature in self.names:
                at = self.names.index(str(feature))
            else:
                known = f"0 to {self.num_features - 1}" if self.names is None else ", ".join(self.names)
                raise ValueError(f"monotone must name features of training ({known}), got {feature!r}")
            if direction not in (1, -1):
                raise ValueError(f"monotone directions must be 1 or -1, got {direction!r} for {feature!r}")
            directions[at] = direction
        return directions

    def _scores(self, features_BLF: np.ndarray, valid_BL: np.ndarray) -> np.ndarray:
        scores_BL = np.zeros(valid_BL.shape, np.float32)
        scores_BL[valid_BL] = self.booster.predict(features_BLF[valid_BL])
        return scores_BL

    def arrays(self) -> dict[str, Any]:
        """Return the fitted state; `model` is LightGBM's text model as UTF-8 bytes."""
        text = self.booster.model_to_string().encode()
        return super().arrays() | {"model": np.frombuffer(text, np.uint8)}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the fitted state that `arrays` returned, in place of `fit`."""
        super().restore(arrays)
        self.booster = lgb.Booster(model_str=arrays["model"].tobytes().decode())
