"""The base of policies that order arms by independent random scores."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from recsys_dl.kernels.bandits.choosing import best_first

from .bandit_policy import BanditPolicy, Chances
from .random_order import Order, Scores
from .requests import Requests


class SampledPolicy(BanditPolicy):
    """Draws a score for each arm, independently, and shows the arms with the highest draws."""

    @abstractmethod
    def _draw(self, requests: Requests) -> np.ndarray:
        """Return float64 [B, L]: a draw for each candidate, -inf at padding."""

    @abstractmethod
    def _distributions(self, requests: Requests, row: int, valid_L: np.ndarray) -> Scores:
        """Return what the scores of one row's candidates, without padding, are drawn from."""

    def _choose(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        draws_BL = self._draw(requests)
        places_BK = np.empty((len(requests), k), np.int32)
        best_first(draws_BL, requests.arms_RL, self._key(), requests.keys_B, places_BK)
        return places_BK, draws_BL

    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        k = places_BK.shape[1]
        chances_BK, joint_B = np.full(places_BK.shape, np.nan), np.ones(len(requests))
        order: Order | None = None
        known: dict[tuple[int, ...], tuple[np.ndarray, float]] = {}
        for b, places_K in enumerate(places_BK):
            count = int((places_K >= 0).sum())
            if not count:
                continue
            row = self._row(requests, b)
            valid_L = np.flatnonzero(requests.arms_RL[min(b, len(requests.arms_RL) - 1)] >= 0)
            if order is None or row > 0:
                order, known = Order.of(self._distributions(requests, row, valid_L), k), {}
            slate = tuple(places_K[:count])
            if slate not in known:
                known[slate] = order.of_shown(np.searchsorted(valid_L, places_K[:count]))
            chances_BK[b, :count], joint_B[b] = known[slate]
        return chances_BK, joint_B

    def _first(self, requests: Requests) -> np.ndarray:
        num_rows = len(requests) if self.contextual else len(requests.arms_RL)
        chances_RL = np.zeros((num_rows, requests.arms_RL.shape[1]))
        for row in range(num_rows):
            valid_L = np.flatnonzero(requests.arms_RL[min(row, len(requests.arms_RL) - 1)] >= 0)
            if len(valid_L):
                chances_RL[row, valid_L] = Order.of(self._distributions(requests, row, valid_L), 1).first()
        return chances_RL

    def _row(self, requests: Requests, b: int) -> int:
        """Return the row of request b: 0 for all requests that share their distributions."""
        return b if self.contextual or len(requests.arms_RL) > 1 else 0
