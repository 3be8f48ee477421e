"""Predicted rewards of each round by a model that was fitted without it. R rounds, A arms, B rounds of a block."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys_dl.data.feedback import BanditFeedback

from .reward_models import RewardModel
from .targets import Target, blocks


@dataclass(frozen=True)
class CrossFitted:
    """What a cross-fitted reward model says of each round.

    Attributes:
        predicted_R: float64, of the logged arm.
        expected_R: float64, sum over arms of the policy's probability x the prediction.
        folds_R: int64, the fold of each round; its model was fitted to the other folds.
    """

    predicted_R: np.ndarray
    expected_R: np.ndarray
    folds_R: np.ndarray


def cross_fit(
    feedback: BanditFeedback,
    target: Target,
    model: RewardModel,
    *,
    num_folds: int,
    reward_range: tuple[float, float],
    seed: int,
) -> CrossFitted:
    """Fit a copy of the model to all folds but one, and predict the rounds of that one; for each fold.

    Folds are random, of whole users where the log has users. Predictions are cut to the range of rewards.

    Raises:
        ValueError: fewer rounds (or users) than folds.
    """
    folds_R = fold_of(feedback, num_folds, seed)
    predicted_R, expected_R = np.empty(len(feedback)), np.empty(len(feedback))
    for rows_B, means_BA in predictions(feedback, model, folds_R, reward_range):
        predicted_R[rows_B] = means_BA[np.arange(len(rows_B)), feedback.arms_RK[rows_B, 0]]
        expected_R[rows_B] = np.einsum("ba,ba->b", target.rows(rows_B), means_BA)
    return CrossFitted(predicted_R, expected_R, folds_R)


def predictions(
    feedback: BanditFeedback, model: RewardModel, folds_R: np.ndarray, reward_range: tuple[float, float]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks of rows, and float64 [B, A] the rewards that models fitted to the other folds predict; each row once."""
    contexts, positions = feedback.contexts_RF, feedback.positions_R
    alike_R = _alike(feedback)
    for fold in range(int(folds_R.max()) + 1):
        fitted = copy.deepcopy(model)
        fitted.fit(feedback.take(folds_R != fold))
        rows = np.flatnonzero(folds_R == fold)
        rows = rows[np.argsort(alike_R[rows], kind="stable")]
        for rows_B in blocks(rows, feedback.num_arms):
            _, first, place_B = np.unique(alike_R[rows_B], return_index=True, return_inverse=True)
            some = rows_B[first]
            found = fitted.predict(
                None if contexts is None else contexts[some], None if positions is None else positions[some]
            )
            found = np.clip(np.broadcast_to(found, (len(some), feedback.num_arms)), *reward_range)
            yield rows_B, found[place_B]


def fold_of(feedback: BanditFeedback, num_folds: int, seed: int) -> np.ndarray:
    """Return int64 [R]: the fold of each round, random and of equal sizes; rounds of a user are in one."""
    groups_R = np.arange(len(feedback))
    if feedback.users_R is not None:
        _, groups_R = np.unique(feedback.users_R, return_inverse=True)
    size = int(groups_R.max(initial=-1)) + 1
    if size < num_folds:
        what = "rounds" if feedback.users_R is None else "users"
        raise ValueError(
            f"cross-fitting in {num_folds} folds needs at least as many {what}, got {size}: take fewer folds, or estimators without a "
            "reward model: ips, clipped_ips, snips"
        )
    return (np.random.default_rng(seed).permutation(size) % num_folds)[groups_R]


def _alike(feedback: BanditFeedback) -> np.ndarray:
    """Return int64 [R]: equal for rounds of the same context and position, for which every prediction is the same."""
    columns = []
    if feedback.positions_R is not None:
        columns.append(feedback.positions_R.astype(np.float32)[:, None])
    if feedback.contexts_RF is not None:
        columns.append(feedback.contexts_RF)
    if not columns:
        return np.zeros(len(feedback), np.int64)
    table = np.ascontiguousarray(np.concatenate(columns, axis=1))
    as_bytes = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).ravel()
    return np.unique(as_bytes, return_inverse=True)[1].astype(np.int64)
