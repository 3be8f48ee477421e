"""Losses of the form 1 - NDCG with a smooth relaxation of the order: 0 is perfect, 1 the worst.

B lists, L candidates, N items with a gain, K ranks (as many as candidates).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from recsys_dl.arguments import Count, Positive

from .padded import PaddedLists, mean_where, positives_beside_all, read

Gains = Literal["exponential", "linear", "binary"]  # 2^label - 1, label, label > 0; labels must not be negative


def item_gains(lists: PaddedLists, gains: Gains) -> Tensor:
    """Return the gain of each item, [B, L], 0 at padding.

    Raises:
        ValueError: unknown gains.
    """
    if gains == "exponential":
        return torch.exp2(lists.labels_BL) - 1
    if gains == "linear":
        return lists.labels_BL
    if gains == "binary":
        return (lists.labels_BL > 0).to(lists.labels_BL.dtype)
    raise ValueError(f"gains must be exponential, linear or binary, got {gains!r}")


def discounts(ranks: Tensor) -> Tensor:
    """Return 1 / log2(rank + 1), ranks from 1."""
    return 1 / torch.log2(ranks + 1)


def ideal_dcg(gains_BL: Tensor, k: int | None = None) -> Tensor:
    """Return the DCG of the best order, [B], over the first k ranks."""
    best_BK = gains_BL.sort(dim=1, descending=True).values[:, :k]
    ranks_K = torch.arange(1, best_BK.shape[1] + 1, dtype=gains_BL.dtype, device=gains_BL.device)
    return (best_BK * discounts(ranks_K)).sum(dim=1)


def approx_ndcg_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    temperature: Positive = 0.1,
    gains: Gains = "exponential",
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return 1 - NDCG at approximate ranks, averaged over the lists with a positive.

    The rank of item i is 1 + sum_{j != i} sigmoid((s_j - s_i) / temperature): Qin et al. 2010, "A General Approximation Framework
    for Direct Optimization of Information Retrieval Measures", section 4 (their alpha is 1 / temperature). As the temperature goes to 0
    it approaches the true NDCG, and its gradient 0. Weights multiply gains, also in the ideal order.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import approx_ndcg_loss
        >>> scores, grades = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(approx_ndcg_loss(scores, grades).item(), 3)  # second of three: 1 - 1 / log2(3)
        0.369
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    gains_BL = lists.weights_BL * item_gains(lists, gains)
    pairs = positives_beside_all(lists)
    ranks_N = 1 + pairs.sum_pairs((-pairs.differences_NL / temperature).sigmoid())
    dcg_B = pairs.sum_anchors(pairs.of_anchor(gains_BL).squeeze(1) * discounts(ranks_N))
    return _one_minus(dcg_B, ideal_dcg(gains_BL))


def neural_ndcg_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    temperature: Positive = 1.0,
    sinkhorn_steps: Count = 30,
    gains: Gains = "exponential",
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return 1 - NDCG of a relaxed sort, averaged over the lists with a positive.

    NeuralSort (Grover et al. 2019, "Stochastic Optimization of Sorting Networks via Continuous Relaxations", theorem 4) gives each
    rank k of n a softmax over the items with logits ((n + 1 - 2k) s_j - sum_l |s_j - s_l|) / temperature; Sinkhorn scaling makes
    items sum to 1 as well as ranks, so that no gain counts twice: Pobrotyn and Białobrzeski 2021, "NeuralNDCG: Direct
    Optimization of a Ranking Metric via Differentiable Relaxation of Sorting", sections 3 and 4, deterministic. Memory is [B, L, L].
    Weights multiply gains, also in the ideal order.

    Args:
        scores_BL: scores; their scale is relative to the temperature.
        labels_BL: grades, not negative.
        valid_BL: False at padding.
        temperature: as it goes to 0, the loss approaches the true NDCG, and the gradient 0.
        sinkhorn_steps: number of column and row scalings. Fixed, unlike the paper's tolerance: a list's loss
            must not depend on other lists in the batch.
        gains: gain of a grade.
        weights_BL: weight of each item.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import neural_ndcg_loss
        >>> scores, grades = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(neural_ndcg_loss(scores, grades, temperature=0.1).item(), 3)  # second of three: 1 - 1 / log2(3)
        0.369
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    gains_BL = lists.weights_BL * item_gains(lists, gains)
    with torch.autocast(
        lists.scores_BL.device.type, enabled=False
    ):  # the products below must not run in half precision
        order_BKL = _relaxed_order(lists, temperature)
        by_item_B1L, by_rank_BK1 = _sinkhorn(order_BKL, sinkhorn_steps)
        gain_at_BK = (by_rank_BK1 * (order_BKL @ (by_item_B1L * gains_BL.unsqueeze(1)).mT)).squeeze(2)
    ranks_K = torch.arange(1, gain_at_BK.shape[1] + 1, dtype=gain_at_BK.dtype, device=gain_at_BK.device)
    return _one_minus((gain_at_BK * discounts(ranks_K)).sum(dim=1), ideal_dcg(gains_BL))


def _relaxed_order(lists: PaddedLists, temperature: float) -> Tensor:
    """Return [B, K, L], each item's share of each rank; rows sum to 1, rows past the valid items and padding columns are 0."""
    scores_BL, valid_BL = lists.scores_BL, lists.valid_BL
    both_BLL = valid_BL.unsqueeze(1) & valid_BL.unsqueeze(2)
    gaps_BLL = (scores_BL.unsqueeze(2) - scores_BL.unsqueeze(1)).abs().masked_fill(~both_BLL, 0.0)
    ranks_K = torch.arange(1, scores_BL.shape[1] + 1, device=scores_BL.device)
    sizes_B1 = valid_BL.sum(dim=1, keepdim=True)
    slopes_BK = (sizes_B1 + 1 - 2 * ranks_K).to(scores_BL.dtype)
    logits_BKL = (slopes_BK.unsqueeze(2) * scores_BL.unsqueeze(1) - gaps_BLL.sum(dim=2).unsqueeze(1)) / temperature
    lowest = torch.finfo(scores_BL.dtype).min
    order_BKL = logits_BKL.masked_fill(~valid_BL.unsqueeze(1), lowest).softmax(dim=2)
    return order_BKL.masked_fill(~((ranks_K <= sizes_B1).unsqueeze(2) & valid_BL.unsqueeze(1)), 0.0)


def _sinkhorn(order_BKL: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return column factors [B, 1, L] and row factors [B, K, 1] that make both sums 1, rows last.

    Factors instead of matrices: a step costs two products with the same matrix, and only vectors are kept for the gradient.
    """
    by_rank_BK1 = order_BKL.new_ones(*order_BKL.shape[:2], 1)
    by_item_B1L = order_BKL.new_ones(order_BKL.shape[0], 1, order_BKL.shape[2])
    for _ in range(steps):
        by_item_B1L = 1 / (by_rank_BK1.mT @ order_BKL).clamp(min=1e-10)
        by_rank_BK1 = 1 / (order_BKL @ by_item_B1L.mT).clamp(min=1e-10)
    return by_item_B1L, by_rank_BK1


def _one_minus(dcg_B: Tensor, ideal_B: Tensor) -> Tensor:
    has_gain_B = ideal_B > 0
    return mean_where(1 - dcg_B / ideal_B.masked_fill(~has_gain_B, 1.0), has_gain_B)
