"""The exported modules: users in, top k items out. Once compiled or traced they do not need this package.

B batch, U users, I items, K list, H length of a history, E of a list of exclusions, L of the longest list of seen items, S
size of a state. Written in the subset of Python that TorchScript compiles; `torch.export` and ONNX trace the same code.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys_dl.protocols import Served

from .parts import Port
from .states import Rows, Users, buffer


class Catalog(nn.Module):
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
        influential_I = np.ones(num_items, bool) if served.influential_I is None else served.influential_I
        self.influential_I = buffer(influential_I)
        self.num_items = num_items
        self.folds_in = served.user_tower is not None

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
                known_BH = (history_BH >= 0) & (history_BH < self.num_items)
                influential_BH = self.influential_I[history_BH.clamp(0, self.num_items - 1)]
                blank_B = blank_B & ~(known_BH & influential_BH).any(1)
            scores_BI = torch.where(blank_B.unsqueeze(1), popularity_I, scores_BI)
        allowed_I = self.allowed_I
        if allowed_I is not None:
            scores_BI = torch.where(allowed_I, scores_BI, -math.inf)
        if allow_I is not None:
            scores_BI = torch.where(allow_I, scores_BI, -math.inf)
        out: list[Tensor] = [history_BH]
        if exclude_BE is not None:
            out.append(exclude_BE)
        seen = self.seen
        if seen is not None:
            within_B = (users_B >= 0) & (users_B < seen.starts_U1.size(0) - 1)
            seen_BL = seen(torch.where(within_B, users_B, 0))
            out.append(torch.where(within_B.unsqueeze(1), seen_BL, -1))
        items_BX = torch.cat(out, 1)
        items_BX = torch.where((items_BX >= 0) & (items_BX < self.num_items), items_BX, self.num_items)
        wide_BI1 = torch.cat([scores_BI, scores_BI[:, :1]], 1)  # an extra column for padding
        return wide_BI1.scatter(1, items_BX, -math.inf)[:, : self.num_items]


def best_rows(scores_BI: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return int32 items and float32 scores, both [B, K], best first, ties by row; padded with -1 / -inf.

    `topk` alone breaks ties arbitrarily. So take all items above the k-th score, then as many of those equal to it as
    needed, from the lowest row on; a stable sort by score then keeps ties in row order.
    """
    scores_BI = torch.where(scores_BI > -math.inf, scores_BI, -math.inf) + 0.0  # no NaN, and -0 becomes 0
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

    def __init__(self, catalog: Catalog, inputs: Sequence[Port], k: int) -> None:
        super().__init__()
        self.catalog = catalog
        self.names = [one.name for one in inputs]
        self.k = k

    def forward(
        self, users_B: Tensor, history_BH: Tensor, exclude_BE: Tensor, allow_I: Tensor, *extra: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return items and scores, both [B, K]."""
        named = dict(zip(self.names, extra, strict=True))
        return self.best(self.catalog(users_B, history_BH, exclude_BE, allow_I, named))

    def best(self, scores_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Return the top k; ties go to the lower row."""
        return best_rows(scores_BI, self.k)


class TracedForOnnx(Traced):
    """The same for ONNX, whose TopK operator breaks ties by lower index, by specification."""

    def best(self, scores_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Return the top k."""
        scores_BI = torch.where(scores_BI > -math.inf, scores_BI, -math.inf)
        return _listed(scores_BI, scores_BI.topk(self.k, 1)[1])


class TracedUsers(nn.Module):
    """The user tower with positional inputs, for `torch.export` and ONNX."""

    def __init__(self, users: Users, inputs: Sequence[Port]) -> None:
        super().__init__()
        self.users = users
        self.names = [one.name for one in inputs]

    def forward(self, users_B: Tensor, history_BH: Tensor, *extra: Tensor) -> Tensor:
        """Return the states [B, S]."""
        return self.users(users_B, history_BH, dict(zip(self.names, extra, strict=True)))
