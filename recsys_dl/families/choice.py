"""The softmax loss of tower models, over all items or over sampled candidates.

B batch, N items encoded together, T targets, C candidates, L = T + C, D embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recsys_dl.losses import sampled_softmax_loss

from .histories import Candidates


def choice_loss(
    users_BD: Tensor,
    vectors_ND: Tensor,
    targets_BT: Tensor,
    valid_BT: Tensor,
    *,
    candidates: Candidates | None = None,
    places_C: Tensor | None = None,
    owners_B: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of targets under the softmax over items, averaged over each user's targets, then over users.

    Without candidates the softmax is over all of `vectors_ND`. With them its sum is estimated: the user's targets enter
    exactly, every other candidate counts exp(score) / (its expected count among the candidates), and candidates that are one of
    the user's targets, or targets of the same user in another example, are masked (Bengio and Senécal 2008; in-batch: Yi et al. 2019,
    "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", section 3). Unlike in Yi et al. the target's
    own score is not corrected, since it is always present rather than sampled, as argued by Khrylchenko et al. 2025 ("Correcting the
    LogQ Correction: Revisiting Sampled Softmax for Large-Scale Retrieval", arXiv 2507.09331; their example weights are
    not used). The sum over sampled candidates is then an unbiased estimate, its logarithm is not.

    Args:
        users_BD: user vectors.
        vectors_ND: item vectors, each item once.
        targets_BT: rows of `vectors_ND`; arbitrary where not valid.
        valid_BT: bool, at least one in each row.
        candidates: the sampled candidates; None for the full softmax.
        places_C: rows of the candidates in `vectors_ND`.
        owners_B: user rows, compared with `candidates.owners_C`.
    """
    if candidates is None:
        scores_BN = (users_BD @ vectors_ND.T).float()
        apart_BT = scores_BN.logsumexp(1, keepdim=True) - scores_BN.gather(1, targets_BT)
        return ((apart_BT * valid_BT).sum(1) / valid_BT.sum(1)).mean()
    assert places_C is not None
    assert owners_B is not None
    own_BC = candidates.owners_C == owners_B[:, None]
    for targets_B, valid_B in zip(targets_BT.T, valid_BT.T, strict=True):
        own_BC = own_BC | ((places_C == targets_B[:, None]) & valid_B[:, None])
    targets_scores_BT = torch.einsum("bd,btd->bt", users_BD, vectors_ND[targets_BT])
    scores_BL = torch.cat([targets_scores_BT, users_BD @ vectors_ND[places_C].T], dim=1).float()
    log_counts_L = torch.cat([scores_BL.new_zeros(targets_BT.shape[1]), candidates.log_counts_C])
    return sampled_softmax_loss(
        scores_BL,
        torch.cat([valid_BT.float(), torch.zeros_like(own_BC, dtype=torch.float32)], dim=1),
        torch.cat([valid_BT, ~own_BC], dim=1),
        log_q_BL=log_counts_L[None],
    )
