"""Growing tower models by new users, items and interactions: the model-specific part of `growing`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.features import Features
from recsys_dl.data.interactions import Interactions
from recsys_dl.networks.encoders import Encoded
from recsys_dl.training.batches import mixed

from .feature_vectors import FeatureVectors
from .histories import Histories, newest
from .neural import NeuralModel


class GrowingTowers(FeatureVectors, NeuralModel):
    """A model that stores users' newest items and encoded features.

    Attributes:
        history_N, history_starts_U1: the newest `history_size` items of each user of training, see `Histories`.
        profile: users' features on the device.
    """

    history_size: int
    history_N: np.ndarray
    history_starts_U1: np.ndarray
    profile: Encoded

    @abstractmethod
    def _profile(self, side: Features | None, num: int) -> Encoded:
        """Return users' features on the device, zeros where unknown."""

    def _take_in(self, new: Dataset | Interactions, known: dict[str, int]) -> None:
        self._take_in_features(new, known)
        self._keep(Histories(self.history_N, self.history_starts_U1))

    def _tuning_examples(self, fresh: Interactions, replayed: Interactions) -> Any:
        """Histories of users with new interactions, then the newest items of other users drawn at random, until as many
        interactions are replayed as requested; the last history drawn is truncated to fit."""
        kept = Histories(self.history_N, self.history_starts_U1)
        whole = kept.followed_by(fresh)
        self._keep(Histories.of(whole))
        counts_U = np.diff(kept.starts_U1)
        others = np.flatnonzero((counts_U > 0) & (fresh.user_counts_U == 0))
        others = np.random.default_rng(mixed(self.seed, 6)).permutation(others)
        left = len(replayed) - (np.cumsum(counts_U[others]) - counts_U[others])
        taken_U = np.where(fresh.user_counts_U > 0, np.iinfo(np.int64).max, 0)
        taken_U[others] = np.maximum(left, 0)
        return self._examples(newest(whole, taken_U))

    def _newcomer(self, noun: str, trained_XD: Tensor) -> Tensor:
        if self.item_side is None:
            return super()._newcomer(noun, trained_XD)
        return torch.zeros(trained_XD.shape[1])  # the feature part is added to it

    def _keep(self, histories: Histories) -> None:
        """Store the newest items of all users."""
        newest = histories.newest(self.history_size)
        self.history_N = newest.items_N
        self.history_starts_U1 = np.pad(newest.starts_U1, (0, 1 + self.num_users - len(newest.starts_U1)), mode="edge")
        self.profile = self._profile(self.user_side, self.num_users)
