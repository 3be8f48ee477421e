"""The recommender compiled by TorchScript: takes ids and any k. See `recommender` for coding conventions.

B batch, K list, H length of a history, E of a list of exclusions, A of allowed items, I items, S size of a state.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .parts import Port
from .recommender import Catalog, best_rows
from .states import Users

BLOCK_BYTES = 64 << 20  # scores and related buffers held at a time


class Fills(nn.Module):
    """Named inputs, completed with default values."""

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
                raise ValueError(f"there is no input {name}; available: {list(self.templates.keys())}")
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
        self, catalog: Catalog, fills: Fills, user_ids: list[str], item_ids: list[str], bytes_a_user: int
    ) -> None:
        super().__init__()
        self.catalog, self.fills = catalog, fills
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
        num_items = self.catalog.num_items
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
            scores_BI = self.catalog(users_B[first:end], history_BH[first:end], out_BE, allow_I, part)
            items_BK[first:end], scores_BK[first:end] = best_rows(scores_BI, k)
        return items_BK, scores_BK

    @torch.jit.export
    def recommend(
        self, user_ids: list[str], k: int, exclude: list[list[str]] | None = None, allow: list[str] | None = None
    ) -> tuple[list[list[str]], Tensor]:
        """Return for each user id the ids of at most k items, best first, and scores [B, K]; unknown ids are treated as new users."""
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
        """Return the same for new users, from the ids of their items, oldest first; unknown ids are ignored."""
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
        """Return int64 rows of items, -1 for unknown ids and padding; at least one column."""
        longest = 1
        for some in ids:
            longest = max(longest, len(some))
        rows: list[list[int]] = []
        for some in ids:
            mine = [self.item_rows.get(one, -1) for one in some]
            rows.append(mine + [-1] * (longest - len(mine)))
        return torch.tensor(rows, dtype=torch.int64, device=self._device()).reshape(len(ids), longest)

    def _device(self) -> torch.device:
        return self.catalog.users.known_U.device
