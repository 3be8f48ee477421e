"""Training examples of (user, item) pairs: each observed pair with sampled negatives.

B examples on one process, G over all, L = 1 + S items in a list, S negatives, N pairs, U users, I items, M hard candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.device import Device, place
from recsys_dl.kernels.negatives import item_weights, sample_negatives

from .batches import mixed

Negatives = Literal["uniform", "popularity", "hard"]
KINDS: tuple[Negatives, ...] = ("uniform", "popularity", "hard")
HARD_SHARE = 0.5  # share of hard negatives; the rest is uniform, so that easy items stay low


class LabeledLists(NamedTuple):
    """A list of items per user: one positive, then sampled negatives.

    Attributes:
        users_B: int64 rows.
        items_BL: int64 rows, 0 where not valid.
        labels_BL: float32, 1 for the positive, else 0.
        valid_BL: bool; False where nothing could be sampled. None if all are valid.
    """

    users_B: Tensor
    items_BL: Tensor
    labels_BL: Tensor
    valid_BL: Tensor | None


class PairLists:
    """Lists of a positive pair and negatives sampled among items its user did not interact with.

    Args:
        known: all interactions, which are never sampled as negatives.
        num_negatives: S, sampled anew in each epoch.
        negatives: "uniform" over items without interaction; "popularity": in proportion to users of the item to the
            power `popularity_exponent`, which takes 8 more bytes per interaction; "hard": half of them uniform,
            half from the `num_hard` items the model currently ranks highest.
        popularity_exponent: see `negatives`.
        num_hard: M, see `negatives`.
        best: returns int32 [U, M], the model's top items per user excluding interactions, padded with -1; called
            at the start of each epoch for "hard".
        seed: for sampling.
        device: where batches are created.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        known: Interactions,
        *,
        num_negatives: int,
        negatives: Negatives,
        popularity_exponent: float = 0.75,
        num_hard: int = 100,
        best: Callable[[int], np.ndarray] | None = None,
        seed: int,
        device: torch.device,
    ) -> None:
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, got {num_negatives}")
        if negatives not in KINDS:
            raise ValueError(f"negatives must be one of {', '.join(KINDS)}, got {negatives!r}")
        by_user = known.by_user
        self.num_items, self.num_negatives, self.seed, self.device = known.num_items, num_negatives, seed, device
        self._where: Device = "cuda" if device.type == "cuda" else "cpu"
        self._starts, self._by_user = place((by_user.indptr.astype(np.int64), by_user.indices), self._where)
        self.draw_weights = None
        if negatives == "popularity":
            self.draw_weights = item_weights(
                np.maximum(known.item_counts_I, 1) ** float(popularity_exponent), by_user.indices
            )
        self.num_hard = num_hard if negatives == "hard" else 0
        self._best = best
        self.hard_UM: Tensor | None = None
        self._hard_of = -1
        self._labels = torch.zeros(0, device=device)

    def begin(self, epoch: int) -> None:
        """Get the hardest items from the model, unless they were restored from a checkpoint of this epoch."""
        if self.num_hard and self._best is not None and self._hard_of != epoch:
            best_UM = self._best(min(self.num_hard, self.num_items))
            self.hard_UM, self._hard_of = torch.from_numpy(best_UM.astype(np.int32)).to(self.device), epoch

    def kept(self) -> dict[str, Any]:
        """Return the checkpoint state needed to resume this epoch: its hardest items."""
        return {"epoch": self._hard_of, "hard_UM": self.hard_UM}

    def keep(self, kept: dict[str, Any]) -> None:
        """Restore the state from `kept`."""
        self._hard_of = kept["epoch"]
        self.hard_UM = None if kept["hard_UM"] is None else kept["hard_UM"].to(self.device)

    def lists(self, users_G: Tensor, items_G: Tensor, mine: slice, *, epoch: int, step: int) -> LabeledLists:
        """Return lists of some pairs, with negatives that are a function of (seed, epoch, step, position in the batch)."""
        drawn = sample_negatives(
            users_G.to(torch.int32) if self._where == "cuda" else users_G.numpy(),
            self._starts,
            self._by_user,
            self.num_items,
            self.num_negatives,
            seed=mixed(self.seed, epoch),
            epoch=step,
            weights=self.draw_weights,
            device=self._where,
        )
        negatives_GS = torch.as_tensor(drawn, device=self.device).long()
        if self.hard_UM is not None:
            negatives_GS = self._with_hard(negatives_GS, users_G, epoch, step)
        users_B, negatives_BS = users_G[mine], negatives_GS[mine]
        items_BL = torch.cat([items_G[mine][:, None], negatives_BS], dim=1)
        if len(self._labels) < len(users_B):
            self._labels = torch.zeros(len(users_B), 1 + self.num_negatives, device=self.device)
            self._labels[:, 0] = 1
        valid_BL = items_BL >= 0
        if valid_BL.all():
            return LabeledLists(users_B, items_BL, self._labels[: len(users_B)], None)
        return LabeledLists(users_B, items_BL.clamp_min(0), self._labels[: len(users_B)], valid_BL)

    def _with_hard(self, negatives_GS: Tensor, users_G: Tensor, epoch: int, step: int) -> Tensor:
        assert self.hard_UM is not None
        rng = torch.Generator().manual_seed(mixed(self.seed, epoch, step, 1))
        num = max(1, round(HARD_SHARE * self.num_negatives))
        places = torch.randint(self.hard_UM.shape[1], (len(users_G), num), generator=rng).to(self.device)
        hard_Gs = self.hard_UM[users_G[:, None], places].long()
        negatives_GS[:, :num] = torch.where(hard_Gs >= 0, hard_Gs, negatives_GS[:, :num])
        return negatives_GS


class PairExamples(PairLists):
    """One example per distinct pair of the log.

    Args:
        log: positive interactions to train on.
        known: all interactions, which are never sampled as negatives; None means the log.
        drawing: `num_negatives` and the rest of `PairLists`.
    """

    def __init__(self, log: Interactions, *, known: Interactions | None = None, **drawing: Any) -> None:
        super().__init__(log if known is None else known, **drawing)
        learned = log.by_user
        users_N = np.repeat(np.arange(log.num_users), np.diff(learned.indptr))
        self.users_N = torch.from_numpy(users_N).to(self.device)
        self.items_N = torch.from_numpy(learned.indices.astype(np.int64)).to(self.device)

    def __len__(self) -> int:
        return len(self.users_N)

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> LabeledLists:
        """Return this process's lists of a batch."""
        return self.lists(self.users_N[chosen_G], self.items_N[chosen_G], mine, epoch=epoch, step=step)
