"""Exporting combinations of models. B batch, I items, P parts, S segments of users, Q patterns of parts that know an item.

A user's state: the number of known interactions, whether each part answers the user, and the parts' states. Written in the subset of
Python that TorchScript compiles. The arithmetic is that of `part_scores`.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Exportable, Input, Served

from .combined import CombinedModel
from .evidence import num_influential
from .part_scores import RANK_OFFSET
from .served import buffer, distinct, known


def combination(model: CombinedModel, seen: Interactions | None, scorer: nn.Module, served: list[Served]) -> Served:
    """Return a combination of its parts' `served`; `scorer` takes the states described above."""
    rows = np.arange(model.num_users)
    counts_U = model.user_counts_U.astype(np.float32)
    answers_PU = model._know_users(rows)
    known_U = known(model, seen) | model._know_blank(rows, rows).any(axis=0)
    if seen is not None:
        seen_U = num_influential(seen, model._influential_items())
        fresh_U = (counts_U == 0)[: seen.num_users] & (seen_U > 0)
        counts_U[: seen.num_users][fresh_U] = seen_U[fresh_U]
        answers_PU[:, : seen.num_users][:, fresh_U] = True
    own_UE = np.column_stack([counts_U, answers_PU.T.astype(np.float32)])
    states = [own_UE, *(one.states for one in served)]
    joined = sp.hstack(states, format="csr") if any(map(sp.issparse, states)) else np.hstack(states)
    without_history_P = np.array([one.popularity_I is None for one in served])
    towers = [one.user_tower for one in served if one.user_tower is not None]
    whole = len(towers) == len(served)
    meaningful = whole and bool(without_history_P.any())
    return Served(
        states=joined.astype(np.float32),
        known_U=known_U,
        scorer=scorer,
        user_tower=Towers(towers, model._influential_items(), without_history_P) if whole else None,
        inputs=_inputs(served) if whole else (),
        popularity_I=None if meaningful else model._popularity(),
        influential_I=model._influential_items(),
        pair_floats=sum(one.pair_floats for one in served) + 2 * len(served) + 4,
    )


def served_parts(model: CombinedModel, seen: Interactions | None) -> list[Served]:
    """Return each part as arrays and modules.

    Raises:
        ValueError: a part that cannot be exported.
    """
    for name, part in model.parts.items():
        if not isinstance(part, Exportable):
            raise ValueError(
                f"the part {name} ({type(part).__name__}) cannot be exported; docs/export.md says which models can"
            )
    return [part.served(seen) for part in model.parts.values()]


def _inputs(served: Sequence[Served]) -> tuple[Input, ...]:
    found: dict[str, Input] = {}
    for one in (one for part in served for one in part.inputs):
        if found.setdefault(one.name, one) != one:
            raise ValueError(f"parts that need different inputs of the name {one.name} cannot be exported together")
    return tuple(found.values())


class OnePart(nn.Module):
    """A part's scores, from its columns of the state."""

    def __init__(self, scorer: nn.Module, start: int, stop: int) -> None:
        super().__init__()
        self.scorer = scorer
        self.start, self.stop = start, stop

    def forward(self, state_BS: Tensor) -> Tensor:
        """Return scores [B, I]."""
        return self.scorer(state_BS[:, self.start : self.stop])


class PartScores(nn.Module):
    """The parts' comparable scores; see `part_scores.normalized`."""

    def __init__(self, served: Sequence[Served], knows_PI: np.ndarray, normalize: str) -> None:
        super().__init__()
        ends = np.cumsum([1 + len(served), *(one.states.shape[1] for one in served)]).tolist()
        pairs = itertools.pairwise(ends)
        self.parts = nn.ModuleList(OnePart(one.scorer, *pair) for one, pair in zip(served, pairs, strict=True))
        common_I = knows_PI.all(axis=0)
        self.knows_PI = buffer(knows_PI)
        self.over_PI = buffer(np.tile(common_I, (len(served), 1)) if common_I.sum() > 1 else knows_PI)
        self.normalize = normalize
        self.offset = RANK_OFFSET

    def forward(self, state_BS: Tensor) -> "tuple[Tensor, Tensor]":
        """Return scores and whether a part answers, both [B, P, I]."""
        found: list[Tensor] = []
        for part in self.parts:
            found.append(part(state_BS))
        scores_BPI = torch.stack(found, 1)
        num_parts = self.knows_PI.size(0)
        knows_BPI = self.knows_PI.unsqueeze(0) & (state_BS[:, 1 : 1 + num_parts] > 0).unsqueeze(2)
        if self.normalize == "rank":
            lowered_BPI = torch.where(knows_BPI, scores_BPI, -float("inf"))
            order_BPI = torch.sort(lowered_BPI, dim=2, descending=True, stable=True)[1]
            at_I = torch.arange(scores_BPI.size(2), device=scores_BPI.device).to(scores_BPI.dtype)
            values_I = 1 / (self.offset + 1 + at_I)
            comparable_BPI = torch.zeros_like(scores_BPI).scatter(2, order_BPI, values_I.expand_as(scores_BPI))
        else:
            low_BP1, span_BP1 = spread(scores_BPI, self.over_PI.unsqueeze(0).expand_as(scores_BPI), self.normalize)
            alike_BP1 = span_BP1 <= 1e-6 * low_BP1.abs().clamp(min=1e-30)
            moved_BPI = (scores_BPI - low_BP1.to(scores_BPI.dtype)) / torch.where(alike_BP1, 1.0, span_BP1).to(
                scores_BPI.dtype
            )
            comparable_BPI = torch.where(alike_BP1, torch.zeros_like(moved_BPI), moved_BPI)
        return torch.where(knows_BPI, comparable_BPI, torch.zeros_like(comparable_BPI)), knows_BPI


class Weighted(nn.Module):
    """The weighted mean over the parts that know an item; see `part_scores.weighted_sum`."""

    def __init__(self, scores: PartScores, weights_SP: np.ndarray, segments: Sequence[int]) -> None:
        super().__init__()
        self.scores = scores
        self.weights_SP = buffer(weights_SP)
        self.segments_N = buffer(np.array([*segments, np.inf], np.float32))
        patterns = np.unique(scores.knows_PI.numpy().T, axis=0)
        patterns = patterns[~patterns.all(axis=1) & patterns.any(axis=1)]
        self.num_patterns = len(patterns)
        self.patterns_QP = buffer(
            np.vstack([patterns, np.zeros_like(patterns[:0], shape=(1, patterns.shape[1]))])
        )  # never empty

    def forward(self, state_BS: Tensor) -> Tensor:
        """Return scores [B, I]."""
        scores_BPI, knows_BPI = self.scores(state_BS)
        answers_BP = state_BS[:, 1 : 1 + scores_BPI.size(1)]
        segment_B = (state_BS[:, :1] >= self.segments_N).sum(1)
        weights_BP = self.weights_SP[segment_B] * answers_BP
        weights_BP = torch.where(weights_BP.sum(1, keepdim=True) > 0, weights_BP, answers_BP)
        share_BI = (weights_BP.unsqueeze(2) * knows_BPI.to(weights_BP.dtype)).sum(1)
        total_BI = (weights_BP.unsqueeze(2) * scores_BPI).sum(1) / torch.where(share_BI > 0, share_BI, 1.0)
        some_BI = share_BI > 0
        full_BI = share_BI > weights_BP.sum(1, keepdim=True) * (1 - 1e-6)
        mean_B1, deviation_B1 = spread(total_BI, full_BI, "z_score")
        enough_B1 = full_BI.sum(1, keepdim=True) > 1
        matched_BI = total_BI
        for q in range(self.num_patterns):
            mine_P = self.patterns_QP[q]
            some_BP = weights_BP * mine_P.to(weights_BP.dtype)
            alone_BI = (some_BP.unsqueeze(2) * scores_BPI).sum(1) / some_BP.sum(1, keepdim=True).clamp(min=1e-30)
            its_mean_B1, its_deviation_B1 = spread(alone_BI, full_BI, "z_score")
            scale_B1 = deviation_B1 / torch.where(its_deviation_B1 > 0, its_deviation_B1, deviation_B1.clamp(min=1e-30))
            placed_BI = (mean_B1 + (total_BI - its_mean_B1) * scale_B1).to(total_BI.dtype)
            alike_BI = (knows_BPI == mine_P.unsqueeze(0).unsqueeze(2)).all(1)
            matched_BI = torch.where(alike_BI & some_BI & ~full_BI & enough_B1, placed_BI, matched_BI)
        placed_BI = lowest_elsewhere(matched_BI, some_BI)
        spare_BPI = (knows_BPI & (weights_BP <= 0).unsqueeze(2)).to(scores_BPI.dtype)
        parts_BI = spare_BPI.sum(1)
        below_BI = ~some_BI & (parts_BI > 0)
        spare_BI = (spare_BPI * scores_BPI).sum(1) / parts_BI.clamp(min=1)
        highest_B1 = torch.where(below_BI, spare_BI, -float("inf")).amax(1, keepdim=True)
        below = placed_BI + spare_BI - torch.where(below_BI.any(1, keepdim=True), highest_B1, 0.0)
        return lowest_elsewhere(torch.where(below_BI, below, placed_BI), some_BI | below_BI)


class Switching(nn.Module):
    """The score of the first part that may answer; see `part_scores.first_knowing`."""

    def __init__(self, scores: PartScores, of_users_P: np.ndarray, enough_PI: np.ndarray) -> None:
        super().__init__()
        self.scores = scores
        self.of_users_P = buffer(of_users_P.astype(np.float32))
        self.enough_PI = buffer(enough_PI)

    def forward(self, state_BS: Tensor) -> Tensor:
        """Return scores [B, I]."""
        scores_BPI, knows_BPI = self.scores(state_BS)
        may_BPI = knows_BPI & self.enough_PI.unsqueeze(0) & (state_BS[:, :1] >= self.of_users_P).unsqueeze(2)
        first_BPI = may_BPI & (may_BPI.long().cumsum(1) == 1)
        chosen_BI = torch.where(first_BPI, scores_BPI, torch.zeros_like(scores_BPI)).sum(1)
        return lowest_elsewhere(chosen_BI, may_BPI.any(1))


class Towers(nn.Module):
    """A new user's state, from that of each part."""

    def __init__(self, towers: Sequence[nn.Module], influential_I: np.ndarray, without_history_P: np.ndarray) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.influential_I = buffer(influential_I)
        self.without_history_P = buffer(without_history_P if without_history_P.any() else ~without_history_P)

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, S]."""
        counted_BH = torch.where(self.influential_I[history_BH.clamp(min=0)], history_BH, -1)
        share_BH, _ = distinct(counted_BH, torch.ones_like(history_BH).float(), self.influential_I.size(0))
        count_B1 = share_BH.sum(1, keepdim=True).round().float()
        answers_BP = ((count_B1 > 0) | self.without_history_P.unsqueeze(0)).float()
        states: list[Tensor] = [count_B1, answers_BP]
        for tower in self.towers:
            states.append(tower(history_BH, extra).float())
        return torch.cat(states, 1)


def spread(scores: Tensor, over: Tensor, normalize: str) -> "tuple[Tensor, Tensor]":
    """Return float64 [..., 1]: mean and standard deviation, or minimum and range, over some of the items."""
    if normalize == "min_max":
        low = torch.where(over, scores, float("inf")).amin(-1, keepdim=True).double()
        return low, torch.where(over, scores, -float("inf")).amax(-1, keepdim=True).double() - low
    count = over.sum(-1, keepdim=True).clamp(min=1).double()
    mean = torch.where(over, scores.double(), 0.0).sum(-1, keepdim=True) / count
    square = torch.where(over, scores.double() - mean, 0.0).square().sum(-1, keepdim=True) / count
    return mean, square.sqrt()


def lowest_elsewhere(scores_BI: Tensor, some_BI: Tensor) -> Tensor:
    """Return the scores, with the lowest of the user where `some_BI` is False; 0 if it always is."""
    lowest_B1 = torch.where(some_BI, scores_BI, float("inf")).amin(1, keepdim=True)
    lowest_B1 = torch.where(some_BI.any(1, keepdim=True), lowest_B1, 0.0)
    return torch.where(some_BI, scores_BI, lowest_B1)
