"""Losses of a whole order: the likelihood of the labels' order, or of its first place."""

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
    of softmax(labels); a list of equal labels pulls its scores together.
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    lowest = torch.finfo(lists.labels_BL.dtype).min
    targets_BL = lists.labels_BL.masked_fill(~lists.valid_BL, lowest).softmax(dim=1)
    loss_B = (lists.weights_BL * targets_BL * surprise(lists.scores_BL, lists.valid_BL)).sum(dim=1)
    return mean_where(loss_B, lists.valid_BL.any(dim=1))


def listmle_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the negative log-likelihood, in nats a list, of the labels' order, averaged over the lists of unequal labels.

    The Plackett-Luce model picks place after place by softmax over what is left:
    sum_i log sum_{j: y_j <= y_i} exp(s_j) - s_i (Xia et al. 2008, "Listwise Approach to Learning to Rank: Theory and Algorithm",
    section 4). Items of equal labels have no order to be likely: each is picked from all that its first equal is picked from
    (Breslow 1974, "Covariance Analysis of Censored Survival Data"), and those of the lowest label, which are what is left in the
    end, are picked from but not picked. So the loss is smooth and does not depend on the order in the list; with one
    positive and zeros it is the softmax loss. Weights multiply each item's pick.
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    labels_BL, order_BL = lists.labels_BL.masked_fill(~lists.valid_BL, -torch.inf).sort(dim=1, descending=True)
    lowest = torch.finfo(lists.scores_BL.dtype).min
    scores_BL = lists.scores_BL.masked_fill(~lists.valid_BL, lowest).gather(1, order_BL)
    left_BL = scores_BL.flip(1).logcumsumexp(dim=1).flip(1)  # log sum exp of each place and all after it
    places_L = torch.arange(labels_BL.shape[1], device=labels_BL.device)
    begins_BL = torch.ones_like(labels_BL, dtype=torch.bool)
    begins_BL[:, 1:] = labels_BL[:, 1:] != labels_BL[:, :-1]
    first_BL = (places_L * begins_BL).cummax(dim=1).values  # where the run of equal labels begins
    picked_BL = labels_BL > lists.lowest_B.unsqueeze(1)
    loss_BL = lists.weights_BL.gather(1, order_BL) * (left_BL.gather(1, first_BL) - scores_BL)
    return mean_where(loss_BL.masked_fill(~picked_BL, 0.0).sum(dim=1), picked_BL.any(dim=1))
