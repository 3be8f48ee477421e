"""Models of the reward of each arm, which the direct method and doubly robust estimators need.

B requests, A arms, F numbers of a context.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import numpy as np
from annotated_types import Ge
from typing_extensions import Self

from recsys_dl.arguments import Count, NotNegative, Positive, ShortSeed, checked
from recsys_dl.data.feedback import BanditFeedback, as_feedback
from recsys_dl.data.messages import shorten


class RewardModel(Protocol):
    """What predicts rewards from a log: any class with these two methods, which must not keep anything of an earlier `fit`."""

    def fit(self, feedback: BanditFeedback) -> Any:
        """Fit to a log of one arm a row; return self."""
        ...

    def predict(self, contexts_BF: np.ndarray | None, positions_B: np.ndarray | None) -> np.ndarray:
        """Return float64 [B, A]: the expected reward of each arm; one row if there are neither contexts nor positions."""
        ...


def as_reward_model(model: Any) -> RewardModel:
    """Return a reward model as it is, or the default for None.

    Raises:
        ValueError: something else, such as its name.
    """
    if model is None:
        return Linear()
    if isinstance(model, type) or not (hasattr(model, "fit") and hasattr(model, "predict")):
        got = f"the class {model.__name__}" if isinstance(model, type) else shorten(repr(model))
        raise ValueError(f"reward_model must be a reward model, such as Linear(), ArmMeans() or LightGBM(), got {got}")
    found: RewardModel = model
    return found


@checked
class ArmMeans:
    """The mean reward of each arm (at each position), shrunk towards the mean of all; contexts are not looked at.

    Args:
        smoothing: rounds of the overall mean that are added to each arm.

    Examples:
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import ArmMeans
        >>> log = BanditFeedback([[0], [0], [1]], [[1.0], [0.0], [1.0]], [[0.5], [0.5], [0.5]], num_arms=2)
        >>> ArmMeans(smoothing=0).fit(log).predict(None, None)
        array([[0.5, 1. ]])
    """

    def __init__(self, *, smoothing: NotNegative = 10.0) -> None:
        self.smoothing = smoothing

    def fit(self, feedback: BanditFeedback) -> Self:
        """Average."""
        rewards, positions = _rewards(feedback), _positions(feedback)
        size = int(positions.max()) + 1
        cells = positions * feedback.num_arms + feedback.arms_RK[:, 0]
        counts, sums = (np.bincount(cells, weights, size * feedback.num_arms) for weights in (None, rewards))
        total = counts + self.smoothing
        mean = np.full(len(total), rewards.mean())
        self.means_PA = np.divide(sums + self.smoothing * mean, total, out=mean, where=total > 0).reshape(size, -1)
        return self

    def predict(self, contexts_BF: np.ndarray | None, positions_B: np.ndarray | None) -> np.ndarray:
        """Return the means."""
        if positions_B is None:
            return np.repeat(self.means_PA[:1], 1 if contexts_BF is None else len(contexts_BF), axis=0)
        return self.means_PA[np.minimum(positions_B, len(self.means_PA) - 1)]


@checked
class Linear:
    """Linear in the context, the arm and the position: logistic regression if all rewards are 0 or 1, else ridge (scikit-learn).

    There are no products of context and arm, so that it orders the arms equally in every context.

    Args:
        regularization: L2 penalty on the coefficients of standardized contexts, and of arms and positions.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import Linear
        >>> arms = np.tile([[0], [1]], (50, 1))
        >>> log = BanditFeedback(arms, 1.0 * (arms == 1), np.full((100, 1), 0.5), num_arms=2)
        >>> Linear().fit(log).predict(None, None).round(1)
        array([[0.1, 0.9]])
    """

    def __init__(self, *, regularization: Positive = 1.0) -> None:
        self.regularization = regularization

    def fit(self, feedback: BanditFeedback) -> Self:
        """Fit by scikit-learn."""
        import scipy.sparse as sp
        from sklearn.linear_model import LogisticRegression, Ridge

        rewards, contexts = _rewards(feedback), feedback.contexts_RF
        self.num_arms, positions = feedback.num_arms, _positions(feedback)
        self.num_positions = int(positions.max()) + 1
        self.size = 0 if contexts is None else contexts.shape[1]
        if contexts is not None:
            self.mean_F, deviation = contexts.mean(axis=0, dtype=np.float64), contexts.std(axis=0, dtype=np.float64)
            self.scale_F = np.where(deviation > 0, deviation, 1.0)
        rows = np.arange(len(rewards))
        ones = np.ones(len(rewards))
        parts = [
            sp.csr_matrix((ones, (rows, feedback.arms_RK[:, 0])), shape=(len(rows), self.num_arms)),
            sp.csr_matrix((ones, (rows, positions)), shape=(len(rows), self.num_positions)),
        ]
        if contexts is not None:
            parts.append(sp.csr_matrix((contexts - self.mean_F) / self.scale_F))
        self.binary = _is_binary(rewards)
        if (rewards == rewards[0]).all():  # nothing to regress
            self.binary, self.coefficients, self.intercept = (
                False,
                np.zeros(sum(one.shape[1] for one in parts)),
                rewards[0],
            )
            return self
        table = sp.hstack(parts).tocsr()
        found: Any = (
            LogisticRegression(C=1 / self.regularization, max_iter=1000) if self.binary else Ridge(self.regularization)
        ).fit(table, rewards)
        self.coefficients, self.intercept = np.ravel(found.coef_), float(np.ravel(found.intercept_)[0])
        return self

    def predict(self, contexts_BF: np.ndarray | None, positions_B: np.ndarray | None) -> np.ndarray:
        """Return the fitted means."""
        arms_A, positions_P, slopes_F = np.split(self.coefficients, [self.num_arms, self.num_arms + self.num_positions])
        base = np.full((1, 1), float(self.intercept))
        if contexts_BF is not None:
            base = base + (((contexts_BF - self.mean_F) / self.scale_F) @ slopes_F)[:, None]
        places = np.zeros(1, int) if positions_B is None else np.minimum(positions_B, self.num_positions - 1)
        scores_BA = base + positions_P[places][:, None] + arms_A
        return 1 / (1 + np.exp(-scores_BA)) if self.binary else scores_BA


@checked
class LightGBM:
    """Boosted trees over the context, the arm (categorical) and the position; needs the extra `rank`.

    Args:
        num_trees: number of trees.
        learning_rate: shrinkage of each.
        num_leaves: of each.
        min_rounds: least rounds in a leaf.
        seed: of ties.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> from recsys_dl.off_policy import LightGBM
        >>> arms = np.tile([[0], [1]], (500, 1))
        >>> log = BanditFeedback(arms, 1.0 * (arms == 1), np.full((1000, 1), 0.5), num_arms=2)
        >>> LightGBM().fit(log).predict(None, None).round(1)
        array([[0., 1.]])
    """

    def __init__(
        self,
        *,
        num_trees: Count = 100,
        learning_rate: Positive = 0.05,
        num_leaves: Annotated[int, Ge(2)] = 15,
        min_rounds: Count = 50,
        seed: ShortSeed = 7,
    ) -> None:
        self.num_trees, self.learning_rate, self.num_leaves = num_trees, learning_rate, num_leaves
        self.min_rounds, self.seed = min_rounds, seed

    def fit(self, feedback: BanditFeedback) -> Self:
        """Fit by LightGBM, a classifier if all rewards are 0 or 1."""
        try:
            import lightgbm as lgb
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "this reward model needs the package lightgbm, which is not installed: pip install 'recsys_dl[rank]'"
            ) from error
        rewards = _rewards(feedback)
        self.num_arms = feedback.num_arms
        self.binary = _is_binary(rewards) and not (rewards == rewards[0]).all()
        kind: Any = lgb.LGBMClassifier if self.binary else lgb.LGBMRegressor
        self.trees = kind(
            n_estimators=self.num_trees,
            learning_rate=self.learning_rate,
            num_leaves=self.num_leaves,
            min_child_samples=self.min_rounds,
            random_state=self.seed,
            deterministic=True,
            force_row_wise=True,
            n_jobs=1,
            verbose=-1,
        )
        table = self._table(feedback.contexts_RF, _positions(feedback), feedback.arms_RK[:, 0])
        self.trees.fit(table, rewards, categorical_feature=[0])
        return self

    def predict(self, contexts_BF: np.ndarray | None, positions_B: np.ndarray | None) -> np.ndarray:
        """Return the sums of the trees, as probabilities if rewards were 0 or 1."""
        given = contexts_BF if contexts_BF is not None else positions_B
        size = 1 if given is None else len(given)
        rows = np.repeat(np.arange(size), self.num_arms)
        positions = np.zeros(size, int) if positions_B is None else positions_B
        contexts = None if contexts_BF is None else contexts_BF[rows]
        table = self._table(contexts, positions[rows], np.tile(np.arange(self.num_arms), size))
        booster = self.trees.booster_
        return np.asarray(booster.predict(table), np.float64).reshape(size, self.num_arms)

    @staticmethod
    def _table(contexts: np.ndarray | None, positions: np.ndarray, arms: np.ndarray) -> np.ndarray:
        columns = [arms[:, None], positions[:, None], *([] if contexts is None else [contexts])]
        return np.concatenate(columns, axis=1).astype(np.float32 if arms.max(initial=0) < 1 << 24 else np.float64)


def _rewards(feedback: BanditFeedback) -> np.ndarray:
    """Return the rewards of a log that a model can be fitted to.

    Raises:
        ValueError: it has no rounds, several arms a row, or rewards that are not known.
    """
    rewards_RK = as_feedback(feedback).rewards_RK
    if not len(rewards_RK) or rewards_RK.shape[1] != 1 or np.isnan(rewards_RK).any():
        raise ValueError(
            f"a reward model is fitted to rounds of one arm each with known rewards, got {len(rewards_RK):,} rounds of {rewards_RK.shape[1]}, "
            f"{int(np.isnan(rewards_RK).sum()):,} rewards of them not known"
        )
    return np.asarray(rewards_RK[:, 0])


def _positions(feedback: BanditFeedback) -> np.ndarray:
    return np.zeros(len(feedback), np.int64) if feedback.positions_R is None else feedback.positions_R.astype(np.int64)


def _is_binary(rewards: np.ndarray) -> bool:
    return bool(((rewards == 0) | (rewards == 1)).all())
