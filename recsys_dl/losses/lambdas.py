"""Pairwise losses weighted by each pair's effect on a ranking metric in the current order.

The weights are constants to the gradient, which is then the lambda of each item. B lists, L candidates, N anchors (padded.py).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recsys_dl.arguments import Count, NotNegative, Positive

from .ndcg import Gains, discounts, ideal_dcg, item_gains
from .padded import PaddedLists, Pairs, mean_where, positives_beside_all, preferences, read

Weighting = Literal["ndcg1", "ndcg2", "ndcg2++", "lambdarank", "ranknet", "arp1", "arp2"]


def lambdarank_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    sigma: Positive = 1.0,
    k: Count | None = None,
    gains: Gains = "exponential",
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return sum |NDCG change| * -log sigmoid(sigma (s_i - s_j)) over the pairs whose label i is higher, averaged over lists.

    The change is from swapping i and j in the current order. The gradient is Burges's lambda: Burges et al. 2006, "Learning
    to Rank with Nonsmooth Cost Functions", and Burges 2010, "From RankNet to LambdaRank to LambdaMART", section 4; and that of
    LightGBM with `lambdarank_norm=False`, where k is `lambdarank_truncation_level`. Equal scores rank by their position in the
    list. The average is over the lists with a pair.

    Args:
        scores_BL: scores.
        labels_BL: grades, not negative.
        valid_BL: False at padding.
        sigma: slope of the sigmoid.
        k: only pairs with an item in the top k count, and the ideal DCG is over k ranks; None for all.
        gains: gain of a grade.
        weights_BL: weight of each pair's preferred item.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import lambdarank_loss
        >>> scores, grades = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(lambdarank_loss(scores, grades).item(), 3)
        0.526
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    pairs = preferences(lists)
    worth_NL = _worth(lists, pairs, "lambdarank", gains, k=k, mu=0.0)
    return _mean_over_lists(pairs, worth_NL, sigma)


def lambda_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    weighting: Weighting = "ndcg2++",
    sigma: Positive = 1.0,
    mu: NotNegative = 10.0,
    gains: Gains = "exponential",
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return sum worth_ij * -log2 sigmoid(sigma (s_i - s_j)) over the pairs of a list, averaged over the lists with a pair.

    Wang et al. 2018, "The LambdaLoss Framework for Ranking Metric Optimization", with G the gain over the ideal DCG, r the
    current rank and D(r) = log2(1 + r):

        ndcg1       G_i / D(r_i), over all j != i: bounds 1 - NDCG
        ndcg2       (G_i - G_j) d_ij, d_ij = 1 / D(|r_i - r_j|) - 1 / D(|r_i - r_j| + 1)
        ndcg2++     (G_i - G_j) (|1 / D(r_i) - 1 / D(r_j)| + mu d_ij)
        lambdarank  (G_i - G_j) |1 / D(r_i) - 1 / D(r_j)|: `lambdarank_loss` / ln 2
        ranknet     1
        arp1        label_i, over all j != i: bounds the sum of label times (rank - 1)
        arp2        label_i - label_j

    Pairs have label i higher than label j unless stated. Equal scores rank by their position in the list.

    Args:
        scores_BL: scores.
        labels_BL: grades, not negative.
        valid_BL: False at padding.
        weighting: see above.
        sigma: slope of the sigmoid.
        mu: weight of d_ij in ndcg2++; 10 is allRank's default.
        gains: gain of a grade, for the ndcg weightings and lambdarank.
        weights_BL: weight of each pair's item i.

    Raises:
        ValueError: an unknown weighting.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import lambda_loss
        >>> scores, grades = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(lambda_loss(scores, grades, weighting="ranknet").item(), 3)
        2.347
    """
    if weighting not in get_args(Weighting):
        raise ValueError(f"weighting must be one of {', '.join(get_args(Weighting))}, got {weighting!r}")
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    pairs = positives_beside_all(lists) if weighting in ("ndcg1", "arp1") else preferences(lists)
    worth_NL = _worth(lists, pairs, weighting, gains, k=None, mu=mu)
    return _mean_over_lists(pairs, worth_NL, sigma) / math.log(2)


def _worth(lists: PaddedLists, pairs: Pairs, weighting: Weighting, gains: Gains, *, k: int | None, mu: float) -> Tensor:
    """Return the weight of each pair, [N, L] or [N, 1]."""
    labels_BL = lists.labels_BL
    if weighting == "ranknet":
        return torch.ones_like(pairs.of_anchor(labels_BL))
    if weighting == "arp1":
        return pairs.of_anchor(labels_BL)
    if weighting == "arp2":
        return pairs.of_anchor(labels_BL) - pairs.of_list(labels_BL)
    gains_BL = item_gains(lists, gains)
    ideal_B = ideal_dcg(gains_BL, k)
    gains_BL = gains_BL / ideal_B.masked_fill(ideal_B == 0, 1.0).unsqueeze(1)
    ranks_BL = _ranks(lists)
    if weighting == "ndcg1":
        return pairs.of_anchor(gains_BL * discounts(ranks_BL))
    ranks_N1, ranks_NL = pairs.of_anchor(ranks_BL), pairs.of_list(ranks_BL)
    if weighting == "ndcg2":
        per_gain_NL = _by_distance(ranks_N1, ranks_NL)
    else:
        per_gain_NL = (discounts(ranks_N1) - discounts(ranks_NL)).abs()
        if weighting == "ndcg2++":
            per_gain_NL = per_gain_NL + mu * _by_distance(ranks_N1, ranks_NL)
    if k is not None:
        per_gain_NL = per_gain_NL.masked_fill(torch.minimum(ranks_N1, ranks_NL) > k, 0.0)
    return (pairs.of_anchor(gains_BL) - pairs.of_list(gains_BL)) * per_gain_NL


def _by_distance(ranks_N1: Tensor, ranks_NL: Tensor) -> Tensor:
    apart_NL = (ranks_N1 - ranks_NL).abs().clamp(min=1)  # 0 only for an item with itself, which is not a pair
    return discounts(apart_NL) - discounts(apart_NL + 1)


def _ranks(lists: PaddedLists) -> Tensor:
    """Return the rank of each item by score, from 1, in the dtype of the scores; padding ranks last."""
    scores_BL = lists.scores_BL.detach().masked_fill(~lists.valid_BL, -torch.inf)
    order_BL = scores_BL.argsort(dim=1, descending=True, stable=True)
    ranks_L = torch.arange(1, scores_BL.shape[1] + 1, dtype=scores_BL.dtype, device=scores_BL.device)
    return torch.empty_like(scores_BL).scatter_(1, order_BL, ranks_L.expand_as(scores_BL))


def _mean_over_lists(pairs: Pairs, worth_NL: Tensor, sigma: float) -> Tensor:
    losses_N = pairs.sum_pairs(worth_NL * -logsigmoid(sigma * pairs.differences_NL))
    return mean_where(pairs.sum_anchors(pairs.weights_N * losses_N), pairs.sum_anchors(pairs.counts_N) > 0)
