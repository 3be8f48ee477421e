"""User states: looked up if stored, else computed from a history. See `recommender` for coding conventions.

B batch, U users, H length of a history, L of the longest row of a sparse matrix, S size of a state.
"""

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys_dl.protocols import Served


class DenseStates(nn.Module):
    """States looked up in a table."""

    def __init__(self, states_US: np.ndarray) -> None:
        super().__init__()
        self.states_US = buffer(np.asarray(states_US, np.float32))

    def forward(self, rows_B: Tensor) -> Tensor:
        """Return the states [B, S] of rows in [0, U)."""
        return self.states_US[rows_B]


class Rows(nn.Module):
    """Columns of the rows of a sparse matrix."""

    def __init__(self, matrix: sp.csr_matrix) -> None:
        super().__init__()
        self.starts_U1 = buffer(matrix.indptr.astype(np.int64))
        self.columns_N = buffer(np.append(matrix.indices, 0).astype(np.int32))  # never empty, so that indexing works
        self.longest = max(1, int(np.diff(matrix.indptr).max(initial=0)))
        self.num_columns = int(matrix.shape[1])

    def places(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions of each row's entries, int64 [B, L], and their validity mask."""
        starts_B1 = self.starts_U1[rows_B].unsqueeze(1)
        places_BL = starts_B1 + torch.arange(self.longest, device=rows_B.device)
        return places_BL.clamp(max=self.columns_N.size(0) - 1), places_BL < self.starts_U1[rows_B + 1].unsqueeze(1)

    def forward(self, rows_B: Tensor) -> Tensor:
        """Return int64 [B, L]: the columns of rows in [0, U), padded with -1."""
        places_BL, inside_BL = self.places(rows_B)
        return torch.where(inside_BL, self.columns_N[places_BL].long(), -1)


class SparseStates(nn.Module):
    """States expanded from a sparse matrix."""

    def __init__(self, states: sp.csr_matrix) -> None:
        super().__init__()
        self.rows = Rows(states)
        self.values_N = buffer(np.append(states.data, 0).astype(np.float32))

    def forward(self, rows_B: Tensor) -> Tensor:
        """Return the states [B, S] of rows in [0, U)."""
        places_BL, inside_BL = self.rows.places(rows_B)
        columns_BL = torch.where(inside_BL, self.rows.columns_N[places_BL].long(), 0)
        values_BL = torch.where(inside_BL, self.values_N[places_BL], 0.0)
        nothing_BS = values_BL.new_zeros([rows_B.size(0), self.rows.num_columns])
        return nothing_BS.scatter_add(1, columns_BL, values_BL)


class Users(nn.Module):
    """Users and histories in, states out: stored if available, else computed by the model's tower."""

    along: list[str]

    def __init__(self, served: Served, num_items: int) -> None:
        super().__init__()
        states: Any = served.states
        self.states: nn.Module = SparseStates(states.tocsr()) if sp.issparse(states) else DenseStates(states)
        self.known_U = buffer(np.asarray(served.known_U, bool))
        self.tower = served.user_tower
        self.num_items = num_items
        self.along = [one.name for one in served.inputs if one.shape == ("H",)]

    def rows(self, users_B: Tensor) -> Tensor:
        """Return the users' rows, -1 for users without a state."""
        num_users = self.known_U.size(0)
        safe_B = users_B.clamp(0, num_users - 1)
        return torch.where((users_B >= 0) & (users_B < num_users) & self.known_U[safe_B], safe_B, -1)

    def forward(self, users_B: Tensor, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return the states [B, S]; zeros for users the model cannot serve."""
        rows_B = self.rows(users_B)
        stored_BS = self.states(rows_B.clamp(min=0))
        known_B1 = (rows_B >= 0).unsqueeze(1)
        tower = self.tower
        if tower is None:
            return torch.where(known_B1, stored_BS, 0.0)
        if torch.jit.is_scripting() and bool(known_B1.all()):
            return stored_BS
        order_BH, real_BH = self._order(history_BH)
        ordered = {name: value.gather(1, order_BH) if name in self.along else value for name, value in extra.items()}
        history_BH = torch.where(real_BH, history_BH.gather(1, order_BH), -1)
        return torch.where(known_B1, stored_BS, tower(history_BH, ordered))

    def _order(self, history_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Return the order that moves known items to the front, stably, and the mask of positions they fill."""
        length = history_BH.size(1)
        known_BH = (history_BH >= 0) & (history_BH < self.num_items)
        places_BH = torch.where(known_BH, known_BH.long().cumsum(1) - 1, length)
        at_H = torch.arange(length, device=history_BH.device)
        nowhere_BH = torch.zeros_like(
            torch.cat([history_BH, history_BH[:, :1]], 1)
        )  # an extra position for unknown items
        order_BH = nowhere_BH.scatter(1, places_BH, at_H.expand_as(places_BH))[:, :length]
        return order_BH, at_H < known_BH.sum(1, keepdim=True)


def buffer(array: np.ndarray) -> nn.Buffer:
    """Return an array as a buffer; copied only if read-only."""
    return nn.Buffer(torch.from_numpy(np.require(array, requirements=["C", "W"])))
