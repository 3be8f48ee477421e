"""Exporting content-based filtering. B batch, I items, T terms and vector entries, H length of a history, M terms of an item."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Served

from .preferences import DAMPING
from .served import TOGETHER, buffer, padded, stored, weights


def content(model, seen: Interactions | None) -> Served:  # type: ignore[no-untyped-def]
    """Return a fitted `Content` as arrays and torch modules; with decay by time, new users get the most popular items."""
    profiles = _together(model.terms_IT, model.dense_IE)
    states = _together(*stored(model, seen))
    tower = None
    if model.half_life_days is None:
        tower = Profile(profiles, float(model.mean), model.dislikes)
    return Served(
        states=states,
        known_U=np.diff(states.indptr) > 0,
        scorer=Terms(profiles, model._popularity()),
        user_tower=tower,
        inputs=() if tower is None else (weights(),),
        popularity_I=model._popularity(),
        pair_floats=2 * TOGETHER,
    )


class Terms(nn.Module):
    """score = <profile of the user, profile of the item>; an empty profile gets the most popular items."""

    def __init__(self, profiles_IT: sp.csr_matrix, popularity_I: np.ndarray) -> None:
        super().__init__()
        self.terms_IM, self.values_IM = (buffer(array) for array in padded(profiles_IT))
        self.popularity_I = buffer(popularity_I)

    def forward(self, state_BT: Tensor) -> Tensor:
        """Return scores [B, I], a few terms of every item at a time."""
        scores_BI = state_BT.new_zeros([state_BT.size(0), self.terms_IM.size(0)])
        for first in range(0, self.terms_IM.size(1), 8):  # TOGETHER; TorchScript cannot use module constants
            terms_IM, values_IM = self.terms_IM[:, first : first + 8], self.values_IM[:, first : first + 8]
            some_BIM = state_BT.index_select(1, terms_IM.flatten()).unflatten(1, values_IM.shape)
            scores_BI = scores_BI + (some_BIM * values_IM).sum(2)
        empty_B1 = state_BT.abs().sum(1, keepdim=True) == 0
        return torch.where(empty_B1, self.popularity_I, scores_BI)


class Profile(nn.Module):
    """A new user's profile: the liked items' mean minus `dislikes` times the disliked ones', of length 1 (see `preferences`)."""

    def __init__(self, profiles_IT: sp.csr_matrix, mean: float, dislikes: float) -> None:
        super().__init__()
        self.terms_IM, self.values_IM = (buffer(array) for array in padded(profiles_IT))
        self.num_terms, self.mean, self.dislikes, self.damping = profiles_IT.shape[1], mean, dislikes, DAMPING

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, T]."""
        real_BH = (history_BH >= 0).to(extra["weights_BH"].dtype)
        weights_BH = extra["weights_BH"] * real_BH
        center_B1 = torch.zeros_like(weights_BH.sum(1, keepdim=True))
        if self.mean != 0.0:
            count_B1 = real_BH.sum(1, keepdim=True)
            center_B1 = (weights_BH.sum(1, keepdim=True) + self.damping * self.mean) / (count_B1 + self.damping)
            center_B1 = center_B1 * (
                ((weights_BH != 1) & (history_BH >= 0)).sum(1, keepdim=True) > 0
            )  # else no ratings
        above_BH = weights_BH - center_B1
        liked_BH = torch.where(above_BH >= 0, weights_BH, 0.0) * real_BH
        disliked_BH = torch.where(above_BH < 0, -above_BH, 0.0) * real_BH
        parts_BH = liked_BH / liked_BH.sum(1, keepdim=True).clamp(min=1e-30)
        parts_BH = parts_BH - self.dislikes * disliked_BH / disliked_BH.sum(1, keepdim=True).clamp(min=1e-30)
        safe_BH = history_BH.clamp(min=0)
        values_BHM = self.values_IM[safe_BH] * parts_BH.unsqueeze(2)
        nothing_BT = weights_BH.new_zeros([history_BH.size(0), self.num_terms])
        profile_BT = nothing_BT.scatter_add(1, self.terms_IM[safe_BH].long().flatten(1), values_BHM.flatten(1))
        profile_BT = profile_BT * (liked_BH.sum(1, keepdim=True) > 0)
        return profile_BT / profile_BT.square().sum(1, keepdim=True).sqrt().clamp(min=1e-30)


def _together(terms_RT: sp.csr_matrix, dense_RE: np.ndarray) -> sp.csr_matrix:
    """Return terms and vectors as one CSR matrix."""
    return sp.hstack([terms_RT, sp.csr_matrix(dense_RE)], format="csr").astype(np.float32)
