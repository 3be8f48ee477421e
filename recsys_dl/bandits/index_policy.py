"""The base of policies that show the arms with the highest index, such as an upper confidence bound."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from recsys_dl.kernels.bandits.choosing import best_first, first_chances, tie_chances

from .bandit_policy import BanditPolicy, Chances
from .requests import Requests


class IndexPolicy(BanditPolicy):
    """Shows arms in the order of `_scores`. Only ties are random: each order of equal arms has the same chance."""

    @abstractmethod
    def _scores(self, requests: Requests) -> np.ndarray:
        """Return float64 [R, L]: the index of each candidate, not NaN; anything at padding."""

    def _choose(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores_RL = self._scores(requests)
        places_BK = np.empty((len(requests), k), np.int32)
        best_first(scores_RL, requests.arms_RL, self._key(), requests.keys_B, places_BK)
        return places_BK, scores_RL

    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        chances_BK, joint_B = np.empty(places_BK.shape), np.empty(len(places_BK))
        tie_chances(scores_RL, requests.arms_RL, places_BK, chances_BK, joint_B)
        return chances_BK, joint_B

    def _first(self, requests: Requests) -> np.ndarray:
        scores_RL = self._scores(requests)
        chances_RL = np.empty((max(len(scores_RL), len(requests.arms_RL)), scores_RL.shape[1]))
        first_chances(scores_RL, requests.arms_RL, 0.0, chances_RL)
        return chances_RL
