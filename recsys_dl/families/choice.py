"""The softmax by which towers learn: a target told from all items, or from some.

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
    """Return -log of the share that targets have in the softmax over items, a mean over each user's targets, then over users.

    Without candidates the softmax is over all of `vectors_ND`. With them its sum is estimated: the user's targets stand for
    themselves, every other candidate counts exp(score) / (times it is expected among them), and those that are one of the user's
    targets, or somebody's targets who is the same user, are left out (Bengio and Senécal 2008; in-batch: Yi et al. 2019,
    "Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations", section 3). Unlike in Yi et al. the target's
    own score is not corrected, since it is there for sure and not by chance, as Khrylchenko et al. 2025 say ("Correcting the LogQ
    Correction: Revisiting Sampled Softmax for Large-Scale Retrieval", arXiv 2507.09331; the weights that they give examples are
    not taken). The sum over candidates that were drawn is then estimated without bias, its logarithm is not.

    Args:
        users_BD: of users.
        vectors_ND: of items, each once.
        targets_BT: rows of `vectors_ND`; any where not valid.
        valid_BT: bool, at least one in each row.
        candidates: what targets are told from.
        places_C: rows of `vectors_ND` that are the candidates.
        owners_B: whose users' rows these are, to compare with `candidates.owners_C`.
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
