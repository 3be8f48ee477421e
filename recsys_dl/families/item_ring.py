"""Blocks of items that go round among processes, each of which owns users: BPR's diagonals. I items, D embedding size."""

from __future__ import annotations

import numpy as np

from recsys_dl.processes import Group


class ItemRing:
    """What `kernels.bpr.bpr_epoch` needs of several processes.

    Args:
        group: the processes.
        item_emb_ID: float32, changed in place.
        item_bias_I: likewise.

    Attributes:
        rank, size: of this process, of the group.
    """

    def __init__(self, group: Group, item_emb_ID: np.ndarray, item_bias_I: np.ndarray) -> None:
        self.group, self.rank, self.size = group, group.rank, group.size
        self.emb_ID, self.bias_I = item_emb_ID, item_bias_I

    def pass_on(self, out: np.ndarray, into: np.ndarray) -> None:
        """Send the rows `out` to the process before, and take the rows `into` from the one after."""
        sent_P, received_P = np.zeros((2, self.size), np.int64)
        sent_P[self.rank - 1], received_P[(self.rank + 1) % self.size] = len(out), len(into)
        self._put(into, self.group.exchange(self._rows(out), sent_P, received_P))

    def collect(self, order_I: np.ndarray, bounds_P1: np.ndarray) -> None:
        """Take all items: process r has the newest order_I[bounds_P1[r]:bounds_P1[r + 1]]."""
        mine = order_I[bounds_P1[self.rank] : bounds_P1[self.rank + 1]]
        self._put(order_I, self.group.stacked(self._rows(mine), bounds_P1))

    def _rows(self, items: np.ndarray) -> np.ndarray:
        return np.column_stack([self.emb_ID[items], self.bias_I[items]])

    def _put(self, items: np.ndarray, rows: np.ndarray) -> None:
        self.emb_ID[items], self.bias_I[items] = rows[:, :-1], rows[:, -1]
