"""The modules that are exported: users in, the best k items out. Once compiled or traced they need nothing of this package.

B batch, U users, I items, K list, H length of a history, E of a list of exclusions, A of allowed items, L of the longest
row of a sparse matrix, S size of a state. Written in the part of Python that TorchScript compiles; `torch.export` and ONNX
trace the same code.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys_dl.protocols import Served

from .parts import Port

BLOCK_BYTES = 64 << 20  # of scores and what goes with them, held at once by a compiled recommender


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
        self.columns_N = buffer(np.append(matrix.indices, 0).astype(np.int32))  # never empty, so that it can be indexed
        self.longest = max(1, int(np.diff(matrix.indptr).max(initial=0)))
        self.num_columns = int(matrix.shape[1])

    def places(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return where the entries of each row lie, int64 [B, L], and which of these are the row's."""
        starts_B1 = self.starts_U1[rows_B].unsqueeze(1)
        places_BL = starts_B1 + torch.arange(self.longest, device=rows_B.device)
        return places_BL.clamp(max=self.columns_N.size(0) - 1), places_BL < self.starts_U1[rows_B + 1].unsqueeze(1)

    def forward(self, rows_B: Tensor) -> Tensor:
        """Return int64 [B, L]: the columns of rows in [0, U), padded with -1."""
        places_BL, inside_BL = self.places(rows_B)
        return torch.where(inside_BL, self.columns_N[places_BL].long(), -1)


class SparseStates(nn.Module):
    """States written out from a sparse matrix."""

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
    """Users and histories in, states out: stored where there is one, else made by the model's tower."""

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
        """Return the users' rows, -1 for whoever has no state."""
        num_users = self.known_U.size(0)
        safe_B = users_B.clamp(0, num_users - 1)
        return torch.where((users_B >= 0) & (users_B < num_users) & self.known_U[safe_B], safe_B, -1)

    def forward(self, users_B: Tensor, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return the states [B, S]; zeros for whoever the model cannot serve."""
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
        """Return the order that brings known items to the front, each in its turn, and which places they then fill."""
        length = history_BH.size(1)
        known_BH = (history_BH >= 0) & (history_BH < self.num_items)
        places_BH = torch.where(known_BH, known_BH.long().cumsum(1) - 1, length)
        at_H = torch.arange(length, device=history_BH.device)
        nowhere_BH = torch.zeros_like(torch.cat([history_BH, history_BH[:, :1]], 1))  # one place more, for the unknown
        order_BH = nowhere_BH.scatter(1, places_BH, at_H.expand_as(places_BH))[:, :length]
        return order_BH, at_H < known_BH.sum(1, keepdim=True)


class Catalogue(nn.Module):
    """Scores of all items, -inf for those that may not be recommended."""

    def __init__(
        self, served: Served, num_items: int, seen: sp.csr_matrix | None, allowed_I: np.ndarray | None
    ) -> None:
        super().__init__()
        self.users = Users(served, num_items)
        self.scorer = served.scorer
        self.popularity_I = None if served.popularity_I is None else buffer(served.popularity_I)
        self.seen = None if seen is None else Rows(seen)
        self.allowed_I = None if allowed_I is None else buffer(allowed_I)
        self.num_items = num_items
        self.folds_in = served.user_tower is not None
        self.excludes_seen = seen is not None

    def forward(
        self,
        users_B: Tensor,
        history_BH: Tensor,
        exclude_BE: Tensor | None,
        allow_I: Tensor | None,
        extra: dict[str, Tensor],
    ) -> Tensor:
        """Return float32 [B, I]."""
        scores_BI = self.scorer(self.users(users_B, history_BH, extra))
        popularity_I = self.popularity_I
        if popularity_I is not None:
            blank_B = self.users.rows(users_B) < 0
            if self.folds_in:
                blank_B = blank_B & ((history_BH < 0) | (history_BH >= self.num_items)).all(1)
            scores_BI = torch.where(blank_B.unsqueeze(1), popularity_I, scores_BI)
        allowed_I = self.allowed_I
        if allowed_I is not None:
            scores_BI = torch.where(allowed_I, scores_BI, -math.inf)
        if allow_I is not None:
            scores_BI = torch.where(allow_I, scores_BI, -math.inf)
        if exclude_BE is not None:
            scores_BI = self._without(scores_BI, exclude_BE)
        if self.excludes_seen:
            scores_BI = self._without(scores_BI, history_BH)
        seen = self.seen
        if seen is not None:
            within_B = (users_B >= 0) & (users_B < seen.starts_U1.size(0) - 1)
            had_BL = seen(torch.where(within_B, users_B, 0))
            scores_BI = self._without(scores_BI, torch.where(within_B.unsqueeze(1), had_BL, -1))
        return scores_BI

    def _without(self, scores_BI: Tensor, items_BX: Tensor) -> Tensor:
        """Return the scores with -inf at items; what is no item is passed over."""
        valid_BX = (items_BX >= 0) & (items_BX < self.num_items)
        wide_BI1 = torch.cat([scores_BI, scores_BI[:, :1]], 1)  # one column more, for what is no item
        return wide_BI1.scatter(1, torch.where(valid_BX, items_BX, self.num_items), -math.inf)[:, : self.num_items]


def best_rows(scores_BI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return int32 items and float32 scores, both [B, K], best first, equal scores by row; -1 / -inf where there are no more.

    `topk` alone may take any of equal scores. So: all above the k-th score, then as many of those equal to it as are
    missing, from the lowest row on; in the order of their rows, which a stable sort by score keeps.
    """
    scores_BI = torch.where(scores_BI > -math.inf, scores_BI, -math.inf) + 0.0  # no NaN, and one zero of both
    worst_B1 = scores_BI.topk(k, 1)[0][:, -1:]
    above_BI, equal_BI = scores_BI > worst_B1, scores_BI == worst_B1
    taken_BI = above_BI | (equal_BI & (equal_BI.cumsum(1) <= k - above_BI.sum(1, keepdim=True)))
    num_items = scores_BI.size(1)
    falling_I = num_items - torch.arange(num_items, dtype=torch.int32, device=scores_BI.device)
    items_BK = (num_items - torch.where(taken_BI, falling_I, 0).topk(k, 1)[0]).long()
    order_BK = scores_BI.gather(1, items_BK).sort(stable=True, dim=1, descending=True)[1]
    return _listed(scores_BI, items_BK.gather(1, order_BK))


def _listed(scores_BI: Tensor, items_BK: Tensor) -> tuple[Tensor, Tensor]:
    scores_BK = scores_BI.gather(1, items_BK)
    return torch.where(scores_BK > -math.inf, items_BK, -1).to(torch.int32), scores_BK


class Traced(nn.Module):
    """A recommender with a fixed k, for `torch.export`."""

    def __init__(self, catalogue: Catalogue, inputs: Sequence[Port], k: int) -> None:
        super().__init__()
        self.catalogue = catalogue
        self.names = [one.name for one in inputs]
        self.k = k

    def forward(
        self, users_B: Tensor, history_BH: Tensor, exclude_BE: Tensor, allow_I: Tensor, *extra: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return items and scores, both [B, K]."""
        named = dict(zip(self.names, extra, strict=True))
        return self.best(self.catalogue(users_B, history_BH, exclude_BE, allow_I, named))

    def best(self, scores_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best k; equal scores go to the lower row."""
        return best_rows(scores_BI, self.k)


class TracedForOnnx(Traced):
    """The same for ONNX, whose operator TopK gives equal values in the order of their rows, by its specification."""

    def best(self, scores_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best k."""
        scores_BI = torch.where(scores_BI > -math.inf, scores_BI, -math.inf)
        return _listed(scores_BI, scores_BI.topk(self.k, 1)[1])


class TracedUsers(nn.Module):
    """The user tower with named inputs in a row, for `torch.export` and ONNX."""

    def __init__(self, users: Users, inputs: Sequence[Port]) -> None:
        super().__init__()
        self.users = users
        self.names = [one.name for one in inputs]

    def forward(self, users_B: Tensor, history_BH: Tensor, *extra: Tensor) -> Tensor:
        """Return the states [B, S]."""
        return self.users(users_B, history_BH, dict(zip(self.names, extra, strict=True)))


class Fills(nn.Module):
    """Named inputs, completed by what stands where nobody says anything."""

    templates: dict[str, Tensor]
    along: list[str]

    def __init__(self, inputs: Sequence[Port]) -> None:
        super().__init__()
        self.along = [one.name for one in inputs if "H" in one.shape]
        self.templates = {}
        for one in inputs:
            sizes = [1 if isinstance(size, str) else size for size in one.shape]
            self.templates[one.name] = torch.full(sizes, one.fill or 0).to(getattr(torch, one.dtype))

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Return a tensor for each input."""
        given: dict[str, Tensor] = {}
        if extra is not None:
            given = extra
        for name in given.keys():  # noqa: SIM118  TorchScript
            if name not in self.templates:
                raise ValueError(f"there is no input {name}; there are: {list(self.templates.keys())}")
        filled: dict[str, Tensor] = {}
        for name, template in self.templates.items():
            if name in given:
                filled[name] = given[name]
            else:
                shape = list(template.shape)
                shape[0] = history_BH.size(0)
                if name in self.along:
                    shape[1] = history_BH.size(1)
                filled[name] = template.to(history_BH.device).expand(shape)
        return filled


class CompiledUsers(nn.Module):
    """The user tower alone, for TorchScript."""

    def __init__(self, users: Users, fills: Fills) -> None:
        super().__init__()
        self.users, self.fills = users, fills

    def forward(self, users_B: Tensor, history_BH: Tensor, extra: dict[str, Tensor] | None = None) -> Tensor:
        """Return the states [B, S]."""
        return self.users(users_B, history_BH, self.fills(history_BH, extra))


class Compiled(nn.Module):
    """A recommender that knows ids, for TorchScript."""

    user_rows: dict[str, int]
    item_rows: dict[str, int]
    item_ids: list[str]

    def __init__(
        self, catalogue: Catalogue, fills: Fills, user_ids: list[str], item_ids: list[str], bytes_a_user: int
    ) -> None:
        super().__init__()
        self.catalogue, self.fills = catalogue, fills
        self.user_rows = {one: row for row, one in enumerate(user_ids)}
        self.item_rows = {one: row for row, one in enumerate(item_ids)}
        self.item_ids = item_ids
        self.block = max(1, BLOCK_BYTES // bytes_a_user)

    def forward(
        self,
        users_B: Tensor,
        history_BH: Tensor,
        exclude_BE: Tensor | None,
        allow_A: Tensor | None,
        k: int,
        extra: dict[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return int32 items and float32 scores, both [B, K]."""
        num_items = self.catalogue.num_items
        if k < 1 or k > num_items:
            raise ValueError(f"k must be between 1 and the {num_items} known items, got {k}")
        filled = self.fills(history_BH, extra)
        allow_I: Tensor | None = None
        if allow_A is not None:
            mask_I = torch.zeros([num_items], dtype=torch.bool, device=users_B.device)
            mask_I[allow_A[(allow_A >= 0) & (allow_A < num_items)]] = True
            allow_I = mask_I
        items_BK = torch.full([users_B.size(0), k], -1, dtype=torch.int32, device=users_B.device)
        scores_BK = torch.full([users_B.size(0), k], -math.inf, device=users_B.device)
        for first in range(0, users_B.size(0), self.block):
            end = first + self.block
            part = {name: value[first:end] for name, value in filled.items()}
            out_BE: Tensor | None = None
            if exclude_BE is not None:
                out_BE = exclude_BE[first:end]
            scores_BI = self.catalogue(users_B[first:end], history_BH[first:end], out_BE, allow_I, part)
            items_BK[first:end], scores_BK[first:end] = best_rows(scores_BI, k)
        return items_BK, scores_BK

    @torch.jit.export
    def recommend(
        self, user_ids: list[str], k: int, exclude: list[list[str]] | None = None, allow: list[str] | None = None
    ) -> tuple[list[list[str]], Tensor]:
        """Return for each user id the ids of at most k items, best first, and scores [B, K]; ids never seen are unseen users."""
        rows = [self.user_rows.get(one, -1) for one in user_ids]
        users_B = torch.tensor(rows, dtype=torch.int64, device=self._device())
        return self._answer(users_B, torch.full_like(users_B, -1).unsqueeze(1), k, exclude, allow, None)

    @torch.jit.export
    def recommend_histories(
        self,
        histories: list[list[str]],
        k: int,
        exclude: list[list[str]] | None = None,
        allow: list[str] | None = None,
        extra: dict[str, Tensor] | None = None,
    ) -> tuple[list[list[str]], Tensor]:
        """Return the same for people unseen, from the ids of what they had, oldest first; ids never seen are passed over."""
        history_BH = self._padded(histories)
        users_B = torch.full([len(histories)], -1, dtype=torch.int64, device=history_BH.device)
        return self._answer(users_B, history_BH, k, exclude, allow, extra)

    def _answer(
        self,
        users_B: Tensor,
        history_BH: Tensor,
        k: int,
        exclude: list[list[str]] | None,
        allow: list[str] | None,
        extra: dict[str, Tensor] | None,
    ) -> tuple[list[list[str]], Tensor]:
        exclude_BE: Tensor | None = None
        if exclude is not None:
            if len(exclude) != users_B.size(0):
                raise ValueError(f"exclude must have a list for each of {users_B.size(0)} users, got {len(exclude)}")
            exclude_BE = self._padded(exclude)
        allow_A: Tensor | None = None
        if allow is not None:
            allow_A = self._padded([allow])[0]
        items_BK, scores_BK = self.forward(users_B, history_BH, exclude_BE, allow_A, k, extra)
        lists: list[list[str]] = []
        for b in range(items_BK.size(0)):
            filled = int((items_BK[b] >= 0).sum())
            rows: list[int] = items_BK[b][:filled].long().tolist()
            lists.append([self.item_ids[row] for row in rows])
        return lists, scores_BK

    def _padded(self, ids: list[list[str]]) -> Tensor:
        """Return int64 rows of items, -1 for ids never seen and after the end; at least one column."""
        longest = 1
        for some in ids:
            longest = max(longest, len(some))
        rows: list[list[int]] = []
        for some in ids:
            mine = [self.item_rows.get(one, -1) for one in some]
            rows.append(mine + [-1] * (longest - len(mine)))
        return torch.tensor(rows, dtype=torch.int64, device=self._device()).reshape(len(ids), longest)

    def _device(self) -> torch.device:
        return self.catalogue.users.known_U.device


def buffer(array: np.ndarray) -> nn.Buffer:
    """Return an array as a buffer; copied only where it may not be written to."""
    return nn.Buffer(torch.from_numpy(np.require(array, requirements=["C", "W"])))
