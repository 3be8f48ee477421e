"""Training examples for history-based towers: histories and the items that follow. Each is a function of (seed, epoch, number).

B examples on one process, G in the whole batch, H items of a history, T targets, C candidates, N interactions, U users, I items.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from recsys_dl.data.interactions import Interactions
from recsys_dl.training.batches import mixed

Softmax = Literal["full", "sampled", "in_batch"]


class Histories:
    """Each user's items, oldest first: in time order, else in log order.

    Attributes:
        items_N: int32, grouped by user.
        starts_U1: int64, where each user's items start; the last is N.
        ages_N: float32 in [0, 1], age of each interaction relative to the newest overall, as a share of the time span of
            the log; None without times.
    """

    def __init__(self, items_N: np.ndarray, starts_U1: np.ndarray, ages_N: np.ndarray | None = None) -> None:
        self.items_N, self.starts_U1, self.ages_N = items_N, starts_U1, ages_N

    @classmethod
    def of(cls, log: Interactions) -> Histories:
        """Return the histories of a log."""
        order_N, starts_U1 = log.sequences
        if log.times_N is None:
            return cls(log.items_N[order_N], starts_U1.astype(np.int64))
        times_N = log.times_N[order_N]
        ages_N = ((times_N.max() - times_N) / max(1, np.ptp(times_N))).astype(np.float32) if len(log) else None
        return cls(log.items_N[order_N], starts_U1.astype(np.int64), ages_N)

    def newest(self, history_size: int) -> Histories:
        """Return the last `history_size` items per user, without ages."""
        counts_U = np.minimum(np.diff(self.starts_U1), history_size)
        starts_U1 = np.concatenate([[0], np.cumsum(counts_U)])
        offsets_U = self.starts_U1[1:] - starts_U1[1:]
        at = np.arange(starts_U1[-1]) + np.repeat(offsets_U, counts_U)
        return Histories(self.items_N[at], starts_U1)

    def followed_by(self, log: Interactions) -> Interactions:
        """Return these followed by a later log, without times: the order is chronological."""
        if log.times_N is not None:
            log = log.select(np.argsort(log.times_N, kind="stable"))
        users_N = np.repeat(np.arange(len(self.starts_U1) - 1), np.diff(self.starts_U1))
        return Interactions(
            np.concatenate([users_N, log.users_N]),
            np.concatenate([self.items_N, log.items_N]),
            num_users=log.num_users,
            num_items=log.num_items,
        )

    def padded(self, users_B: np.ndarray, history_size: int, *, newest_first: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return int64 items [B, H] padded with 0 at the end, and bool [B, H]; H is the longest of these histories, at least 1."""
        ends_B = self.starts_U1[users_B + 1]
        counts_B = np.minimum(ends_B - self.starts_U1[users_B], history_size)
        step_H = np.arange(max(1, counts_B.max(initial=0)))
        valid_BH = step_H < counts_B[:, None]
        places_BH = (ends_B - 1)[:, None] - step_H if newest_first else (ends_B - counts_B)[:, None] + step_H
        if not len(self.items_N):
            return np.zeros(valid_BH.shape, np.int64), valid_BH
        items_BH = self.items_N[np.where(valid_BH, places_BH, 0)].astype(np.int64)
        return np.where(valid_BH, items_BH, 0), valid_BH


def newest(log: Interactions, num: int | np.ndarray) -> Interactions:
    """Return the last `num` interactions of each user, one number for all or [U], in log order."""
    order_N, starts_U1 = log.sequences
    counts_U = np.diff(starts_U1)
    before_end_N = np.repeat(starts_U1[1:], counts_U) - np.arange(len(order_N))  # 1 for the last
    chosen_N = before_end_N <= np.repeat(np.broadcast_to(num, len(counts_U)), counts_U)
    return log.select(np.sort(order_N[chosen_N]))


class Candidates(NamedTuple):
    """Sampled softmax candidates of a batch, shared by all its examples.

    Attributes:
        items_C: int64 rows.
        log_counts_C: log of each one's expected count among the candidates.
        owners_C: int64 rows of the users whose targets they are, -1 for sampled items.
    """

    items_C: Tensor
    log_counts_C: Tensor
    owners_C: Tensor


class Splits(NamedTuple):
    """A batch of histories and the items that follow.

    Attributes:
        users_B: int64 rows.
        history_BH: int64 item rows, newest first, 0 where not valid.
        history_valid_BH: float32, 1 or 0.
        targets_BT: int64 item rows, 0 where not valid.
        valid_BT: bool; the first is always valid.
        ages_B: float32, age of the first target, see `Histories`; None without times.
        candidates: None for the full softmax.
    """

    users_B: Tensor
    history_BH: Tensor
    history_valid_BH: Tensor
    targets_BT: Tensor
    valid_BT: Tensor
    ages_B: Tensor | None
    candidates: Candidates | None


class Windows(NamedTuple):
    """Windows of users' histories, in which each item is a target of those before it.

    Attributes:
        users_B: int64 rows.
        items_BH: int64 item rows, oldest first, 0 where not valid.
        valid_BH: bool.
        mean_length: mean number of items per window, over the whole batch on all processes.
        candidates: None for the full softmax.
    """

    users_B: Tensor
    items_BH: Tensor
    valid_BH: Tensor
    mean_length: Tensor
    candidates: Candidates | None


class _Histories:
    """Shared by both kinds of examples: histories on the device, and candidates.

    Args:
        histories: of all users.
        history_size: H.
        num_items: I.
        candidates: "full": every item; "sampled": `num_negatives` drawn in proportion to their interactions to the power
            `popularity_exponent`; "in_batch": the targets of the batch, on all processes.
        seed: for sampling.
        device: where batches are created.
    """

    def __init__(
        self,
        histories: Histories,
        history_size: int,
        num_items: int,
        *,
        candidates: str,
        num_negatives: int,
        popularity_exponent: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self.history_size, self.num_items, self.seed, self.device = history_size, num_items, seed, device
        self.kind, self.num_negatives = candidates, num_negatives
        self.items_N = torch.from_numpy(histories.items_N.astype(np.int64)).to(device)
        self.starts_U1 = torch.from_numpy(histories.starts_U1).to(device)
        self.counts_U = self.starts_U1.diff()
        self.users_N = torch.arange(len(self.counts_U), device=device).repeat_interleave(self.counts_U)
        self.ages_N = None if histories.ages_N is None else torch.from_numpy(histories.ages_N).to(device)
        if candidates == "sampled":
            shares_I = self._shares(torch.ones(len(self.items_N), device=device)) ** popularity_exponent
            self.shares_I = torch.where(self._shares(torch.ones(len(self.items_N), device=device)) > 0, shares_I, 0.0)
            self.shares_I = self.shares_I / self.shares_I.sum()
            self._bounds_I = self.shares_I.cumsum(0)

    def _shares(self, weights_N: Tensor) -> Tensor:
        """Return float64 [I], each item's share of the weights."""
        sums_I = torch.zeros(self.num_items, dtype=torch.float64, device=self.device)
        return sums_I.index_add_(0, self.items_N, weights_N.double()) / weights_N.sum()

    def _drawn(self, epoch: int, step: int) -> Candidates:
        """Return items drawn with replacement."""
        rng = torch.Generator().manual_seed(mixed(self.seed, epoch, step))
        chances_C = torch.rand(self.num_negatives, dtype=torch.float64, generator=rng).to(self.device)
        items_C = torch.searchsorted(self._bounds_I, chances_C * self._bounds_I[-1], right=True).clamp_max(
            self.num_items - 1
        )
        log_counts_C = (self.num_negatives * self.shares_I[items_C]).log().float()
        return Candidates(items_C, log_counts_C, torch.full_like(items_C, -1))


class SplitExamples(_Histories):
    """Examples that split a history at a position: the items before it, and the items that follow.

    Args:
        histories: of all users.
        history_size: H.
        num_items: I.
        num_targets: T, number of items after the position that are targets.
        per_user: positions drawn per user and epoch, without replacement; users with fewer use all.
        shuffled: shuffle each user's items in each epoch, for logs whose order is meaningless.
        options: candidates, seed and device, see `_Histories`.
    """

    def __init__(
        self,
        histories: Histories,
        history_size: int,
        num_items: int,
        *,
        num_targets: int,
        per_user: int,
        shuffled: bool,
        **options: Any,
    ) -> None:
        super().__init__(histories, history_size, num_items, **options)
        self.num_targets, self.per_user, self.shuffled = num_targets, per_user, shuffled
        self.size = int(self.counts_U.clamp_max(per_user).sum())
        if self.kind == "in_batch":
            weights_N = (self.counts_U.clamp_max(per_user) / self.counts_U.clamp_min(1))[self.users_N]
            self.shares_I = self._shares(weights_N)
        self.ordered_N = self.items_N

    def __len__(self) -> int:
        return self.size

    def begin(self, epoch: int) -> None:
        """Shuffle histories if requested, and draw the positions."""
        rng = torch.Generator().manual_seed(mixed(self.seed, epoch))
        num = len(self.items_N)
        if self.shuffled:
            order_N = (self.users_N + torch.rand(num, dtype=torch.float64, generator=rng).to(self.device)).argsort()
            self.ordered_N = self.items_N[order_N]
        if self.size == num:
            self.places_N = torch.arange(num, device=self.device)
            return
        order_N = (self.users_N + torch.rand(num, dtype=torch.float64, generator=rng).to(self.device)).argsort()
        rank_N = torch.arange(num, device=self.device) - self.starts_U1[self.users_N]
        self.places_N = order_N[rank_N < self.per_user]

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> Splits:
        """Return the histories and targets of some examples."""
        places_G = self.places_N[chosen_G]
        users_G = self.users_N[places_G]
        ahead_GT = places_G[:, None] + torch.arange(self.num_targets, device=self.device)
        valid_GT = ahead_GT < self.starts_U1[users_G + 1][:, None]
        targets_GT = torch.where(valid_GT, self.ordered_N[torch.where(valid_GT, ahead_GT, 0)], 0)
        candidates = None
        if self.kind == "sampled":
            candidates = self._drawn(epoch, step)
        elif self.kind == "in_batch":
            candidates = in_batch(users_G, targets_GT, valid_GT, self.shares_I)
        places_B, users_B = places_G[mine], users_G[mine]
        num_before_B = (places_B - self.starts_U1[users_B]).clamp_max(self.history_size)
        step_H = torch.arange(max(1, int(num_before_B.max())), device=self.device)
        known_BH = step_H < num_before_B[:, None]
        history_BH = self.ordered_N[torch.where(known_BH, places_B[:, None] - 1 - step_H, 0)]
        ages_B = None if self.ages_N is None else self.ages_N[places_B]
        return Splits(
            users_B,
            torch.where(known_BH, history_BH, 0),
            known_BH.float(),
            targets_GT[mine],
            valid_GT[mine],
            ages_B,
            candidates,
        )


class WindowExamples(_Histories):
    """Examples that are windows of up to H items of a user, including the newest; long histories yield as many as cover them.

    Args: see `_Histories`.
    """

    def __init__(self, histories: Histories, history_size: int, num_items: int, **options: Any) -> None:
        super().__init__(histories, history_size, num_items, **options)
        windows_U = (self.counts_U + history_size - 1) // history_size
        self.window_users_W = torch.arange(len(self.counts_U), device=self.device).repeat_interleave(windows_U)
        self.is_last_W = torch.ones(len(self.window_users_W), dtype=torch.bool, device=self.device)
        self.is_last_W[:-1] = self.window_users_W.diff() > 0
        if self.kind == "in_batch":
            self.shares_I = self._shares(torch.ones(len(self.items_N), device=self.device))

    def __len__(self) -> int:
        return len(self.window_users_W)

    def begin(self, epoch: int) -> None:
        """Draw where windows start."""
        rng = torch.Generator().manual_seed(mixed(self.seed, epoch))
        users_W = self.window_users_W
        slack_W = (self.counts_U[users_W] - self.history_size).clamp_min(0)
        drawn_W = (torch.rand(len(users_W), dtype=torch.float64, generator=rng).to(self.device) * (slack_W + 1)).long()
        self.firsts_W = self.starts_U1[users_W] + torch.where(self.is_last_W, slack_W, drawn_W)

    def take(self, chosen_G: Tensor, mine: slice, *, epoch: int, step: int) -> Windows:
        """Return the windows of some examples."""
        users_G, items_GH, valid_GH = self._windows(chosen_G)
        candidates = None
        if self.kind == "sampled":
            candidates = self._drawn(epoch, step)
        elif self.kind == "in_batch":
            candidates = in_batch(users_G, items_GH, valid_GH, self.shares_I)
        mean_length = valid_GH.sum() / len(valid_GH)
        return Windows(users_G[mine], items_GH[mine], valid_GH[mine], mean_length, candidates)

    def _windows(self, chosen_G: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        users_G, firsts_G = self.window_users_W[chosen_G], self.firsts_W[chosen_G]
        lengths_G = self.counts_U[users_G].clamp_max(self.history_size)
        step_H = torch.arange(int(lengths_G.max()), device=self.device)
        valid_GH = step_H < lengths_G[:, None]
        items_GH = self.items_N[torch.where(valid_GH, firsts_G[:, None] + step_H, 0)]
        return users_G, torch.where(valid_GH, items_GH, 0), valid_GH


def in_batch(users_G: Tensor, targets_GT: Tensor, valid_GT: Tensor, shares_I: Tensor) -> Candidates:
    """Return all targets of a batch as candidates; an item occurs as often as it is a target."""
    items_C = targets_GT[valid_GT]
    owners_C = users_G[:, None].expand_as(targets_GT)[valid_GT]
    return Candidates(items_C, (len(items_C) * shares_I[items_C]).log().float(), owners_C)
