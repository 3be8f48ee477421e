"""Examples of (user, item) pairs: each observed pair with items drawn among those that the user did not have.

B examples of one process, G of all, L = 1 + S items of a list, S negatives, N pairs, U users, I items, M hard candidates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.device import Device, place
from recsys_dl.kernels.negatives import item_masses, sample_negatives

from .batches import mixed

Negatives = Literal["uniform", "popularity", "hard"]
KINDS: tuple[Negatives, ...] = ("uniform", "popularity", "hard")
HARD_SHARE = 0.5  # of the negatives, where they are hard; the rest is drawn alike, so that easy items stay low


class Lists(NamedTuple):
    """A list of items for each user: one had, then those drawn.

    Attributes:
        users_B: int64 rows.
        items_BL: int64 rows, 0 where not valid.
        labels_BL: float32, 1 for what was had, else 0.
        valid_BL: bool; False where nothing could be drawn. None where all are valid.
    """

    users_B: Tensor
    items_BL: Tensor
    labels_BL: Tensor
    valid_BL: Tensor | None


class PairExamples:
    """One example for each distinct pair of the log.

    Args:
        log: what users had, and is learnt.
        known: all that users had, which is not drawn for them; None: the log.
        num_negatives: S, drawn anew in each epoch.
        negatives: "uniform": all that the user did not have alike; "popularity": in proportion to users of the item to the
            power `popularity_exponent`; "hard": half of them alike, half from the best `num_hard` that the model would now
            recommend.
        popularity_exponent: see there.
        num_hard: M, see there.
        best: returns int32 [U, M], the model's best items for each user without what they had, -1 where there are fewer; asked
            at the start of each epoch of "hard".
        seed: of the draws.
        device: where batches are made and stay.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        log: Interactions,
        *,
        known: Interactions | None = None,
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
        known = log if known is None else known
        learnt, had = log.by_user, known.by_user
        self.num_items, self.num_negatives, self.seed, self.device = log.num_items, num_negatives, seed, device
        users_N = np.repeat(np.arange(log.num_users), np.diff(learnt.indptr))
        self.users_N = torch.from_numpy(users_N).to(device)
        self.items_N = torch.from_numpy(learnt.indices.astype(np.int64)).to(device)
        self._where: Device = "cuda" if device.type == "cuda" else "cpu"
        self._starts, self._had = place((had.indptr.astype(np.int64), had.indices), self._where)
        self.masses = None
        if negatives == "popularity":
            self.masses = item_masses(np.maximum(known.item_counts_I, 1) ** float(popularity_exponent), had.indices)
        self.num_hard = num_hard if negatives == "hard" else 0
        self._best = best
        self.hard_UM: Tensor | None = None
        self._labels = torch.zeros(0, device=device)

    def __len__(self) -> int:
        return len(self.users_N)

    def begin(self, epoch: int) -> None:
        """Ask the model for the hardest items."""
        if self.num_hard and self._best is not None:
            best_UM = self._best(min(self.num_hard, self.num_items))
            self.hard_UM = torch.from_numpy(best_UM.astype(np.int64)).to(self.device)

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> Lists:
        """Return lists of one pair and its negatives, which are a function of (seed, epoch, step, place in the batch)."""
        users_G = self.users_N[chosen_G]
        drawn = sample_negatives(
            users_G.to(torch.int32) if self._where == "cuda" else users_G.numpy(),
            self._starts,
            self._had,
            self.num_items,
            self.num_negatives,
            seed=mixed(self.seed, epoch),
            epoch=step,
            masses=self.masses,
            device=self._where,
        )
        negatives_GS = torch.as_tensor(drawn, device=self.device).long()
        if self.hard_UM is not None:
            negatives_GS = self._with_hard(negatives_GS, users_G, epoch, step)
        users_B, negatives_BS = users_G[mine], negatives_GS[mine]
        items_BL = torch.cat([self.items_N[chosen_G[mine]][:, None], negatives_BS], dim=1)
        if len(self._labels) < len(users_B):
            self._labels = torch.zeros(len(users_B), 1 + self.num_negatives, device=self.device)
            self._labels[:, 0] = 1
        valid_BL = items_BL >= 0
        if valid_BL.all():
            return Lists(users_B, items_BL, self._labels[: len(users_B)], None)
        return Lists(users_B, items_BL.clamp_min(0), self._labels[: len(users_B)], valid_BL)

    def _with_hard(self, negatives_GS: Tensor, users_G: Tensor, epoch: int, step: int) -> Tensor:
        assert self.hard_UM is not None
        rng = torch.Generator().manual_seed(mixed(self.seed, epoch, step, 1))
        num = max(1, round(HARD_SHARE * self.num_negatives))
        places = torch.randint(self.hard_UM.shape[1], (len(users_G), num), generator=rng).to(self.device)
        hard_Gs = self.hard_UM[users_G[:, None], places]
        negatives_GS[:, :num] = torch.where(hard_Gs >= 0, hard_Gs, negatives_GS[:, :num])
        return negatives_GS
