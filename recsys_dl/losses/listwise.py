"""Listwise losses: the likelihood of the labels' order, or of its top item."""

from __future__ import annotations

import torch
from torch import Tensor

from .padded import mean_where, read
from .softmax import surprise


def listnet_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of softmax(labels) under softmax(scores), in nats, averaged over the lists with a valid item.

    Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach", section 4 (top one). Never below the entropy
    of softmax(labels); for equal labels it pulls the scores together.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import listnet_loss
        >>> scores, grades = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1.0, 2.0, 0.0]])
        >>> round(listnet_loss(scores, grades).item(), 3)
        1.253
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    lowest = torch.finfo(lists.labels_BL.dtype).min
    targets_BL = lists.labels_BL.masked_fill(~lists.valid_BL, lowest).softmax(dim=1)
    loss_B = (lists.weights_BL * targets_BL * surprise(lists.scores_BL, lists.valid_BL)).sum(dim=1)
    return mean_where(loss_B, lists.valid_BL.any(dim=1))


def listmle_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the negative log-likelihood, in nats per list, of the labels' order, averaged over the lists with unequal labels.

    The Plackett-Luce model fills position after position by softmax over the remaining items:
    sum_i log sum_{j: y_j <= y_i} exp(s_j) - s_i (Xia et al. 2008, "Listwise Approach to Learning to Rank: Theory and Algorithm",
    section 4). Ties have no preferred order: all items with equal labels share the risk set of the first of them
    (Breslow 1974, "Covariance Analysis of Censored Survival Data"), and items with the lowest label, which remain at the
    end, are in risk sets but never picked. So the loss is smooth and independent of the order in the list; with one
    positive and zeros it is the softmax loss. Weights multiply each item's term.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import listmle_loss
        >>> scores, grades = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2.0, 1.0, 0.0]])
        >>> round(listmle_loss(scores, grades).item(), 3)
        0.721
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    labels_BL, order_BL = lists.labels_BL.masked_fill(~lists.valid_BL, -torch.inf).sort(dim=1, descending=True)
    lowest = torch.finfo(lists.scores_BL.dtype).min
    scores_BL = lists.scores_BL.masked_fill(~lists.valid_BL, lowest).gather(1, order_BL)
    left_BL = scores_BL.flip(1).logcumsumexp(dim=1).flip(1)  # log sum exp over each position and all after it
    places_L = torch.arange(labels_BL.shape[1], device=labels_BL.device)
    begins_BL = torch.ones_like(labels_BL, dtype=torch.bool)
    begins_BL[:, 1:] = labels_BL[:, 1:] != labels_BL[:, :-1]
    first_BL = (places_L * begins_BL).cummax(dim=1).values  # where the run of equal labels starts
    picked_BL = labels_BL > lists.lowest_B.unsqueeze(1)
    loss_BL = lists.weights_BL.gather(1, order_BL) * (left_BL.gather(1, first_BL) - scores_BL)
    return mean_where(loss_BL.masked_fill(~picked_BL, 0.0).sum(dim=1), picked_BL.any(dim=1))
