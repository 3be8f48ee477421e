"""The base of policies that order arms by independent random scores."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from recsys_dl.kernels.bandits.choosing import best_first

from .bandit_policy import BanditPolicy, Chances
from .random_order import Order, Scores
from .requests import Requests


class SampledPolicy(BanditPolicy):
    """Draws a score for each arm, independently, and shows the arms with the highest draws."""

    distribution: ClassVar[Callable[..., Scores]]

    @abstractmethod
    def _parameters(self, requests: Requests) -> tuple[np.ndarray, ...]:
        """Return the parameters of each candidate's distribution, [R, L] each; anything at padding."""

    @abstractmethod
    def _draw(self, requests: Requests) -> np.ndarray:
        """Return float64 [B, L]: a draw for each candidate, -inf at padding."""

    def _choose(self, requests: Requests, k: int) -> tuple[np.ndarray, np.ndarray]:
        draws_BL = self._draw(requests)
        places_BK = np.empty((len(requests), k), np.int32)
        best_first(draws_BL, requests.arms_RL, self._key(), requests.keys_B, places_BK)
        return places_BK, draws_BL

    def _chances(self, requests: Requests, places_BK: np.ndarray, scores_RL: np.ndarray) -> Chances:
        chances_BK, joint_B = np.full(places_BK.shape, np.nan), np.ones(len(requests))
        orders = self._orders(requests, places_BK.shape[1])
        valid_L, order = next(orders, (np.zeros(0, np.int64), None))
        known: dict[tuple[int, ...], tuple[np.ndarray, float]] = {}
        for b, places_K in enumerate(places_BK):
            if b and (found := next(orders, None)):
                (valid_L, order), known = found, {}
            count = int((places_K >= 0).sum())
            if order is None:
                continue
            slate = tuple(places_K[:count])
            if slate not in known:
                known[slate] = order.of_shown(np.searchsorted(valid_L, places_K[:count]))
            chances_BK[b, :count], joint_B[b] = known[slate]
        return chances_BK, joint_B

    def _first(self, requests: Requests) -> np.ndarray:
        rows = [(valid_L, None if order is None else order.first()) for valid_L, order in self._orders(requests, 1)]
        chances_RL = np.zeros((len(rows), requests.arms_RL.shape[1]))
        for row, (valid_L, first_L) in enumerate(rows):
            if first_L is not None:
                chances_RL[row, valid_L] = first_L
        return chances_RL

    def _orders(self, requests: Requests, k: int) -> Iterator[tuple[np.ndarray, Order | None]]:
        """Yield, for each row that has a distribution of its own, its candidates without padding, and their random order."""
        parameters = self._parameters(requests)
        for row in range(max(len(requests.arms_RL), len(parameters[0]))):
            valid_L = np.flatnonzero(requests.arms_RL[min(row, len(requests.arms_RL) - 1)] >= 0)
            order = None
            if len(valid_L):
                one = (values_RL[min(row, len(values_RL) - 1)][valid_L] for values_RL in parameters)
                order = Order.of(type(self).distribution(*one), k)
            yield valid_L, order
