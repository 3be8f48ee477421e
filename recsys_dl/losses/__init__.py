"""Losses: pure functions of scores, labels and a padding mask, all with the same signature.

    loss(scores_BL, labels_BL, valid_BL=None, *, weights_BL=None, ...) -> scalar

Padding (`valid_BL` False) has no influence and a gradient of exactly 0, whatever its values. Half-precision scores are
computed in float32. Pointwise losses are the mean over the valid items of the batch; all others are the mean over the lists
that have a loss: a list without one (no valid item, no positive, no pair) is left out of the mean,
and if no list has one the loss is 0. `weights_BL` (importance, 1 / propensity) multiply an item's term but never the
divisor; a pair takes the weight of its preferred item. `docs/losses.md` lists all of them.
"""

from .lambdas import lambda_loss, lambdarank_loss
from .listwise import listmle_loss, listnet_loss
from .ndcg import approx_ndcg_loss, neural_ndcg_loss
from .pairwise import bpr_loss, hinge_loss, margin_loss, ranknet_loss, warp_loss
from .pointwise import bce_loss, expected_grades, mse_loss, ordinal_loss
from .softmax import sampled_softmax_loss, softmax_loss

__all__ = [
    "approx_ndcg_loss",
    "bce_loss",
    "bpr_loss",
    "expected_grades",
    "hinge_loss",
    "lambda_loss",
    "lambdarank_loss",
    "listmle_loss",
    "listnet_loss",
    "margin_loss",
    "mse_loss",
    "neural_ndcg_loss",
    "ordinal_loss",
    "ranknet_loss",
    "sampled_softmax_loss",
    "softmax_loss",
    "warp_loss",
]
