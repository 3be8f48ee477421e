"""Pairwise losses: means over the pairs of a list, then over the lists with a pair."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recsys_dl.arguments import Count, NotNegative, Positive

from .padded import Pairs, mean_where, preferences, read

EULER = 0.5772156649015329  # digamma(n + 1) + EULER = 1 + 1/2 + ... + 1/n


def ranknet_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    sigma: Positive = 1.0,
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return -log sigmoid(sigma (s_i - s_j)), in nats, over the pairs whose label i is higher than label j.

    Burges et al. 2005, "Learning to Rank Using Gradient Descent", section 3. Pairs of equal labels have no loss.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import ranknet_loss
        >>> scores, grades = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
        >>> round(ranknet_loss(scores, grades).item(), 3)
        0.251
    """
    pairs = preferences(read(scores_BL, labels_BL, valid_BL, weights_BL))
    return _mean_over_pairs(pairs, -logsigmoid(sigma * pairs.differences_NL))


def bpr_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return -log sigmoid(s_i - s_j), in nats, over the pairs of a positive i (label > 0) and a negative j.

    Rendle et al. 2009, "BPR: Bayesian Personalized Ranking from Implicit Feedback", section 4.1.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import bpr_loss
        >>> scores, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(bpr_loss(scores, labels).item(), 3)
        0.22
    """
    return ranknet_loss(scores_BL, labels_BL > 0, valid_BL, weights_BL=weights_BL)


def margin_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    margin: NotNegative = 1.0,
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return max(0, margin - (s_i - s_j)) over the pairs whose label i is higher than label j.

    Herbrich et al. 2000, "Large Margin Rank Boundaries for Ordinal Regression".

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import margin_loss
        >>> scores, grades = torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
        >>> round(margin_loss(scores, grades).item(), 3)
        0.167
    """
    pairs = preferences(read(scores_BL, labels_BL, valid_BL, weights_BL))
    return _mean_over_pairs(pairs, (margin - pairs.differences_NL).relu())


def hinge_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    margin: NotNegative = 1.0,
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return max(0, margin - (s_i - s_j)) over the pairs of a positive i (label > 0) and a negative j.

    Joachims 2002, "Optimizing Search Engines using Clickthrough Data".

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import hinge_loss
        >>> scores, labels = torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(hinge_loss(scores, labels).item(), 3)
        0.25
    """
    return margin_loss(scores_BL, labels_BL > 0, valid_BL, margin=margin, weights_BL=weights_BL)


def warp_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    margin: NotNegative = 1.0,
    num_items: Count | None = None,
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return the rank-weighted hinge of a positive, averaged over the positives of a list, then over the lists with both kinds.

    H(r) * mean of (margin - s_i + s_j) over the negatives j within the margin of positive i, with H(r) = 1 + 1/2 + ... + 1/r
    and r the rank of i: how many negatives come within the margin. H is constant to the gradient.

    Weston et al. 2011, "WSABIE: Scaling Up To Large Vocabulary Image Annotation", section 3. The paper draws negatives until one
    comes within the margin, guesses r from how long that took and steps on that one alone. Here the list's negatives are the
    draws: r is their share within the margin times `num_items`, and all of them are stepped on. Over a list of all negatives
    that is the paper's objective itself, over a sample an estimate of it, coarse where few are within the margin. H is continued
    between whole numbers by the digamma function.

    Args:
        scores_BL: scores.
        labels_BL: a positive is > 0.
        valid_BL: False at padding.
        margin: distance that costs nothing.
        num_items: how many items the negatives were drawn from, uniformly; None when the list holds all there are.
        weights_BL: weight of each positive.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import warp_loss
        >>> scores, labels = torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(warp_loss(scores, labels).item(), 3)
        0.5
    """
    pairs = preferences(read(scores_BL, labels_BL > 0, valid_BL, weights_BL))
    excess_NL = (margin - pairs.differences_NL).relu()
    within_N = (pairs.paired_NL & (excess_NL > 0)).sum(dim=1)
    ranks_N = within_N if num_items is None else within_N * (num_items / pairs.counts_N)
    rank_losses_N = torch.digamma(ranks_N.to(excess_NL.dtype) + 1) + EULER
    losses_N = pairs.weights_N * rank_losses_N * pairs.sum_pairs(excess_NL) / within_N.clamp(min=1)
    return _mean_over_anchors(pairs, losses_N, torch.ones_like(losses_N))


def _mean_over_pairs(pairs: Pairs, loss_NL: Tensor) -> Tensor:
    return _mean_over_anchors(pairs, pairs.weights_N * pairs.sum_pairs(loss_NL), pairs.counts_N)


def _mean_over_anchors(pairs: Pairs, losses_N: Tensor, counts_N: Tensor) -> Tensor:
    """Return the mean over lists of (sum of losses / sum of counts)."""
    counts_B = pairs.sum_anchors(counts_N)
    return mean_where(pairs.sum_anchors(losses_N) / counts_B.clamp(min=1), counts_B > 0)
