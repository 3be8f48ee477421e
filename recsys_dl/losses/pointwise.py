"""Losses of one item at a time: means over the valid items of the batch. G grades above 0."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from .padded import check_shapes, mean_where, read


def bce_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the binary cross-entropy of "label > 0" under sigmoid(score), in nats, averaged over valid items.

    -log sigmoid(s) for a positive and -log(1 - sigmoid(s)) otherwise (He et al. 2017, "Neural Collaborative Filtering",
    equation 7).

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import bce_loss
        >>> scores, labels = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[1.0, 0.0, 0.0]])
        >>> round(bce_loss(scores, labels).item(), 3)
        0.378
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    targets_BL = (lists.labels_BL > 0).to(lists.scores_BL.dtype)
    loss_BL = binary_cross_entropy_with_logits(lists.scores_BL, targets_BL, reduction="none")
    return mean_where(lists.weights_BL * loss_BL, lists.valid_BL)


def mse_loss(
    scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the squared error (score - label)^2, averaged over valid items: pointwise regression.

    Cossock and Zhang 2006, "Subset Ranking Using Regression".

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import mse_loss
        >>> scores, ratings = torch.tensor([[4.5, 2.0, 3.0]]), torch.tensor([[5.0, 3.0, 3.0]])
        >>> round(mse_loss(scores, ratings).item(), 3)
        0.417
    """
    lists = read(scores_BL, labels_BL, valid_BL, weights_BL)
    return mean_where(lists.weights_BL * (lists.scores_BL - lists.labels_BL).square(), lists.valid_BL)


def ordinal_loss(
    scores_BLG: Tensor, labels_BL: Tensor, valid_BL: Tensor | None = None, *, weights_BL: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy of "the label is at least g", in nats, summed over the grades g = 1 .. G, averaged over valid items.

    Niu et al. 2016, "Ordinal Regression with Multiple Output CNN for Age Estimation", section 3; for ranking Pobrotyn et al.
    2020, "Context-Aware Learning to Rank with Self-Attention", section 3.3.

    Args:
        scores_BLG: logits; entry g - 1 is the logit of P(label >= g). The proportional odds model (McCullagh 1980)
            is the special case `scores_BL.unsqueeze(-1) - thresholds_G`.
        labels_BL: grades 0 .. G; larger ones count as G.
        valid_BL: False at padding.
        weights_BL: weight of each item.

    Rank by `expected_grades(scores_BLG)`.

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import ordinal_loss
        >>> logits, grades = torch.tensor([[[2.0, -1.0], [0.0, -3.0]]]), torch.tensor([[1.0, 0.0]])
        >>> round(ordinal_loss(logits, grades).item(), 3)
        0.591
    """
    if scores_BLG.ndim != 3 or scores_BLG.shape[2] == 0:
        raise ValueError(
            "scores of the ordinal loss must be logits of shape [B, L, G], one for each grade above 0, got shape "
            f"{tuple(scores_BLG.shape)}; from one score per item, compute them by subtracting G learned thresholds"
        )
    check_shapes(scores_BLG.shape[:2], labels=labels_BL, valid=valid_BL, weights=weights_BL)
    lists = read(scores_BLG[..., 0], labels_BL, valid_BL, weights_BL)
    logits_BLG = scores_BLG.to(lists.scores_BL.dtype).masked_fill(~lists.valid_BL.unsqueeze(-1), 0.0)
    grades_G = torch.arange(1, scores_BLG.shape[2] + 1, device=scores_BLG.device)
    reached_BLG = (lists.labels_BL.unsqueeze(-1) >= grades_G).to(logits_BLG.dtype)
    loss_BLG = binary_cross_entropy_with_logits(logits_BLG, reached_BLG, reduction="none")
    return mean_where(lists.weights_BL * loss_BLG.sum(dim=-1), lists.valid_BL)


def expected_grades(scores_BLG: Tensor) -> Tensor:
    """Return [B, L]: the expected label under the logits of `ordinal_loss`, the sum over g of P(label >= g).

    Examples:
        >>> import torch
        >>> from recsys_dl.losses import expected_grades
        >>> expected_grades(torch.tensor([[[2.0, -1.0], [0.0, 0.0]]])).round(decimals=2)
        tensor([[1.1500, 1.0000]])
    """
    return scores_BLG.sigmoid().sum(dim=-1)
