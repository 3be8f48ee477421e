"""Softmax losses: cross-entropy under the softmax of a list's scores."""

from __future__ import annotations

import torch
from torch import Tensor

from .padded import mean_where, read


def softmax_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of the labels under softmax(scores), in nats, averaged over the lists with a positive.

    -sum_i y_i log softmax(s)_i / sum_i y_i over the positives (label > 0): with one positive, its negative log-likelihood
    against the rest of the list; with several, the target is distributed in proportion to labels (Bruch et al. 2019, "An Analysis of the
    Softmax Cross Entropy Loss for Learning-to-Rank with Binary Relevance"). Weights of 1 / propensity make it the
    counterfactual loss of Ai et al. 2018, "Unbiased Learning to Rank with Unbiased Propensity Estimation".

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import softmax_loss
        >>> scores, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(softmax_loss(scores, labels).item(), 3)
        0.408
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    labels_BL = lists.labels_BL.clamp(min=0)
    totals_B = labels_BL.sum(dim=1)
    targets_BL = labels_BL / totals_B.masked_fill(totals_B == 0, 1.0).unsqueeze(1)
    loss_B = (lists.weights_BL * targets_BL * surprise(lists.scores_BL, lists.valid_BL)).sum(dim=1)
    return mean_where(loss_B, totals_B > 0)


def sampled_softmax_loss(
    scores_BL: Tensor,
    labels_BL: Tensor,
    valid_BL: Tensor | None = None,
    *,
    log_q_BL: Tensor,
    weights_BL: Tensor | None = None,
) -> Tensor:
    """Return `softmax_loss` of the scores minus log_q, an estimate of the full softmax over the sampled population.

    exp(s_j) / E[count of j in the sample] sums over the sample to the full partition function in expectation, so frequently
    sampled items are not penalized for it (Bengio and Senécal 2008, "Adaptive Importance Sampling to Accelerate Training of
    a Neural Probabilistic Language Model"; in-batch negatives: Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling for
    Large Corpus Item Recommendations", section 3). A constant added to log_q has no effect.

    Args:
        scores_BL: scores of the positive and of the sampled candidates; where the positive was also sampled, mark that
            candidate not valid.
        labels_BL: a positive is > 0.
        valid_BL: False at padding.
        log_q_BL: log of the expected count, or of the probability, of each candidate in the sample; [1, L] if all lists share
            their candidates.
        weights_BL: weight of each positive.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import sampled_softmax_loss
        >>> scores, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> counts = torch.tensor([[1.0, 2.0, 0.5]])  # how often each is expected in the sample
        >>> round(sampled_softmax_loss(scores, labels, log_q_BL=counts.log()).item(), 3)
        0.375
    """
    if log_q_BL.shape not in (scores_BL.shape, (1, *scores_BL.shape[1:])):
        raise ValueError(
            f"log_q must have one entry for each score, shape {tuple(scores_BL.shape)}, or one row for all lists, got {tuple(log_q_BL.shape)}"
        )
    return softmax_loss(scores_BL - log_q_BL, labels_BL, valid_BL, weights_BL=weights_BL)


def surprise(scores_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """Return -log softmax over the valid items; arbitrary finite numbers at padding, where the target is 0."""
    lowest = torch.finfo(scores_BL.dtype).min  # not -inf: 0 times inf, and a list of only padding, would be NaN
    return -scores_BL.masked_fill(~valid_BL, lowest).log_softmax(dim=1)
