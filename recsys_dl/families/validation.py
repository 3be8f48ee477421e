"""A ranking metric over the full catalog, for early stopping here and in your own Trainer.

B users of a block, K list, T relevant items, H items of a history.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.relevance import relevant_items
from recsys_dl.metrics import ranking

from .network_model import NetworkModel

USERS_AT_ONCE = 1024


class Validation:
    """The metric used for early stopping; its users are distributed over processes.

    Raises:
        ValueError: a part over different rows than the log, or without an interaction of positive weight.
    """

    def __init__(self, model: NetworkModel, part: Dataset | Interactions, log: Interactions, metric: str) -> None:
        check_numbering(part, model.users, model.items)
        self.model, self.log = model, log
        self.histories = part.histories if isinstance(part, Dataset) else None
        asked = as_interactions(part)
        if (asked.num_users, asked.num_items) != (log.num_users, log.num_items):
            raise ValueError(
                f"validation must be over the rows of train, {log.num_users} users x {log.num_items} items, got "
                f"{asked.num_users} x {asked.num_items}. Split one log."
            )
        relevant, _ = relevant_items(part, log, part="validation")
        self.users = np.unique((relevant > 0).nonzero()[0])
        self.relevant = relevant[self.users]
        self.relevant.eliminate_zeros()
        self.name, self.k = metric_of(metric, log.num_items)

    def figure(self) -> float:
        """Return the mean over users; the same for any number of processes."""
        self.model._serve()
        several = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank, size = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if several else (0, 1)
        values = torch.zeros(len(self.users), dtype=torch.float64)
        for start in range(rank * USERS_AT_ONCE, len(self.users), size * USERS_AT_ONCE):
            block = slice(start, start + USERS_AT_ONCE)
            histories = None if self.histories is None else self.histories.of_users(self.users[block])
            values[block] = torch.from_numpy(
                per_user(self.model, self.users[block], self.relevant[block], self.log, histories, self.name, self.k)
            )
        if several:
            there = values.to(self.model.torch_device)
            torch.distributed.all_reduce(there)  # each user's value is set on one process and zero on the others
            values = there.cpu()
        return float(values.mean())

    def batches(self) -> list[dict[str, Tensor]]:
        """Return its users in blocks: `users_B`, `relevant_BT` and, for users not in training, `history_BH`."""
        found = []
        for start in range(0, len(self.users), USERS_AT_ONCE):
            block = slice(start, start + USERS_AT_ONCE)
            batch = {
                "users_B": torch.from_numpy(self.users[block].astype(np.int64)),
                "relevant_BT": _padded(np.split(self.relevant[block].indices, self.relevant[block].indptr[1:-1])),
            }
            if self.histories is not None:
                mine = self.histories.of_users(self.users[block])
                order_N, starts_B1 = mine.sequences
                batch["history_BH"] = _padded(np.split(mine.items_N[order_N], starts_B1[1:-1]))
            found.append(batch)
        return found


def per_user(
    model: NetworkModel,
    users_B: np.ndarray,
    relevant: sp.csr_matrix,
    log: Interactions,
    histories: Interactions | None,
    name: str,
    k: int,
) -> np.ndarray:
    """Return a metric of each user's list: by row, excluding the log, or folded in from histories, excluding these."""
    if histories is None:
        lists_BK = model.recommend(users_B, k, exclude=log).items_BK
    else:
        lists_BK = model.recommend(model.fold_in(histories), k, exclude=histories).items_BK
    judged = ranking.judge(lists_BK, relevant)
    return ranking.per_user(judged, [name], [k], gains="binary", blank_users="left_out")[f"{name}@{k}"]


def metric_of(metric: str, num_items: int) -> tuple[str, int]:
    """Return the name of a metric such as "ndcg@10", and its k, at most the number of items."""
    name, _, k = metric.partition("@")
    return name, min(int(k), num_items)


def _padded(lists: list[np.ndarray]) -> Tensor:
    """Return int64 [B, L], padded with -1."""
    rows_BL = np.full((len(lists), max([1, *map(len, lists)])), -1, np.int64)
    for row, items in zip(rows_BL, lists, strict=True):
        row[: len(items)] = items
    return torch.from_numpy(rows_BL)
