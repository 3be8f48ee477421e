"""Exporting the classical models: the torch modules and states that their `served` returns.

B batch, U users, I items, D embedding size, H length of a history, K neighbors, S size of a state. Written in the subset of
Python that TorchScript compiles. Scores agree with the model's to float32 rounding.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys_dl.data.interactions import Interactions
from recsys_dl.protocols import Input, Served

from .catalog import CatalogModel
from .evidence import num_influential

ITEMS_AT_ONCE = 1024  # scored by an MLP at a time; more if there would be over 64 blocks to trace
TOGETHER = 8  # neighbors of an item gathered at a time


def weights(fill: float = 1.0) -> Input:
    """Return the input for the weights of a history's interactions."""
    return Input("weights_BH", "float32", ("H",), fill)


def stored(model: CatalogModel, seen: Interactions | None) -> Any:
    """Return the values of all user rows; users only in `seen` are folded in."""
    values = model._values(np.arange(model.num_users))
    if seen is None:
        return values
    fresh = np.flatnonzero(known(model, seen) & (model.user_counts_U == 0))
    if not len(fresh):
        return values
    folded = model.fold_in(seen.of_users(fresh)).values
    if isinstance(values, tuple):
        return tuple(_put(old, fresh, new) for old, new in zip(values, folded, strict=True))
    return _put(values, fresh, folded)


def known(model: CatalogModel, seen: Interactions | None) -> np.ndarray:
    """Return bool [U]: users whose stored values are meaningful."""
    known_U = (model.user_counts_U > 0) & ~model._without_evidence(model._values(np.arange(model.num_users)))
    if seen is not None:
        known_U[: seen.num_users] |= num_influential(seen, model._influential_items()) > 0
    return known_U


def _conditions(model: CatalogModel) -> dict[str, Any]:
    """Return `influential_I` and `listed_I`; None where they are all items."""
    influential_I, listed_I = model._influential_items(), np.ones(model.num_items, bool)
    listed_I[model.never_listed()] = False
    return {
        "influential_I": None if influential_I.all() else influential_I,
        "listed_I": None if listed_I.all() else listed_I,
    }


def _put(old: Any, rows: np.ndarray, new: Any) -> Any:
    order = np.arange(old.shape[0])
    order[rows] = old.shape[0] + np.arange(len(rows))
    return sp.vstack([old, new], format="csr")[order] if sp.issparse(old) else np.concatenate([old, new])[order]


def inner_product(
    model: CatalogModel,
    seen: Interactions | None,
    states: np.ndarray,
    item_emb: np.ndarray,
    user_tower: nn.Module | None = None,
    *,
    fill: float = 1.0,
) -> Served:
    """Return a model whose scores are inner products of states and item embeddings."""
    return Served(
        states=states,
        known_U=known(model, seen),
        scorer=InnerProduct(item_emb),
        user_tower=user_tower,
        inputs=() if user_tower is None else (weights(fill),),
        item_emb_ID=item_emb,
        popularity_I=model._popularity() if model.popularity_fallback else None,
        **_conditions(model),
    )


def item_to_item(
    model: CatalogModel,
    seen: Interactions | None,
    scorer: nn.Module,
    user_tower: nn.Module | None = None,
    *,
    pair_floats: int = 1,
) -> Served:
    """Return a model whose scores are a user's item weights times an items x items matrix; with a `History` user tower unless given."""
    return Served(
        states=stored(model, seen),
        known_U=known(model, seen),
        scorer=scorer,
        user_tower=History(model.num_items) if user_tower is None else user_tower,
        inputs=(weights(),),
        popularity_I=model._popularity(),
        **_conditions(model),
        pair_floats=pair_floats,
    )


def perceptron(
    model: CatalogModel,
    seen: Interactions | None,
    layers: nn.Module,
    item_states_IT: np.ndarray,
    widths: Sequence[int],
    *,
    products: int = 0,
) -> Served:
    """Return a model that scores pairs by an MLP plus an inner product of the first columns."""
    num_items = len(item_states_IT)
    together = min(num_items, max(ITEMS_AT_ONCE, -(-num_items // 64)))
    return Served(
        states=stored(model, seen),
        known_U=known(model, seen),
        scorer=Perceptron(copy.deepcopy(layers), item_states_IT, products, together),
        popularity_I=model._popularity(),
        **_conditions(model),
        pair_floats=-(-2 * sum(widths) * together // num_items),
    )


class InnerProduct(nn.Module):
    """score = <state, item embedding>."""

    def __init__(self, item_emb_ID: np.ndarray) -> None:
        super().__init__()
        self.item_emb_ID = buffer(item_emb_ID)

    def forward(self, state_BS: Tensor) -> Tensor:
        """Return scores [B, I]."""
        return state_BS @ self.item_emb_ID.t()


class Weights(nn.Module):
    """score = sum over the history of the weight from each item to the item scored; dense weights."""

    def __init__(self, weights_II: np.ndarray) -> None:
        super().__init__()
        self.weights_II = buffer(weights_II)

    def forward(self, state_BI: Tensor) -> Tensor:
        """Return scores [B, I]; small batches use only the weight rows of their items."""
        present_H = (state_BI != 0).any(0).nonzero().squeeze(1)
        if torch.jit.is_scripting() and 4 * present_H.size(0) > state_BI.size(1):
            return state_BI @ self.weights_II
        return state_BI[:, present_H] @ self.weights_II[present_H]


class Neighbors(nn.Module):
    """score = sum over the scored item's neighbors of similarity times their weight in the history."""

    def __init__(self, neighbors_II: sp.csr_matrix) -> None:
        super().__init__()
        self.items_IK, self.similarity_IK = (buffer(array) for array in padded(neighbors_II))

    def forward(self, state_BI: Tensor) -> Tensor:
        """Return scores [B, I], a few neighbors of every item at a time."""
        scores_BI = torch.zeros_like(state_BI)
        for first in range(0, self.items_IK.size(1), 8):  # TOGETHER; TorchScript cannot use module constants
            items_IK, similarity_IK = self.items_IK[:, first : first + 8], self.similarity_IK[:, first : first + 8]
            some_BIK = state_BI.index_select(1, items_IK.flatten()).unflatten(1, similarity_IK.shape)
            scores_BI = scores_BI + (some_BIK * similarity_IK).sum(2)
        return scores_BI


class Followers(nn.Module):
    """score = sum over the user's recent items of their weight times the rule from them to the item scored."""

    def __init__(self, rules_II: sp.csr_matrix) -> None:
        super().__init__()
        self.items_IK, self.rules_IK = (buffer(array) for array in padded(rules_II))

    def forward(self, state_BI: Tensor) -> Tensor:
        """Return scores [B, I]; only rules from items in the histories are densified."""
        present_H = (state_BI != 0).any(0).nonzero().squeeze(1)
        nothing_HI = state_BI.new_zeros([present_H.size(0), state_BI.size(1)])
        rules_HI = nothing_HI.scatter_add(1, self.items_IK[present_H].long(), self.rules_IK[present_H])
        return state_BI[:, present_H] @ rules_HI


class Perceptron(nn.Module):
    """score = <state, item state> over the first columns + an MLP over the others, a block of items at a time."""

    def __init__(self, layers: nn.Module, item_states_IT: np.ndarray, products: int, together: int) -> None:
        super().__init__()
        self.layers = layers
        self.item_states_IT = buffer(item_states_IT)
        self.products, self.together = products, together

    def forward(self, state_BS: Tensor) -> Tensor:
        """Return scores [B, I]."""
        parts: list[Tensor] = []
        for first in range(0, self.item_states_IT.size(0), self.together):
            items_LT = self.item_states_IT[first : first + self.together]
            units_BL = self.layers(state_BS[:, self.products :], items_LT[:, self.products :].unsqueeze(0))
            parts.append(units_BL + state_BS[:, : self.products] @ items_LT[:, : self.products].t())
        return torch.cat(parts, 1)


class History(nn.Module):
    """A new user's state: the weight of each item in the history; with an exponent, its share to that power."""

    def __init__(self, num_items: int, exponent: float | None = None) -> None:
        super().__init__()
        self.num_items = num_items
        self.exponent = exponent

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, I]; repeated items are summed."""
        weights_BH = torch.where(history_BH >= 0, extra["weights_BH"], 0.0)
        nothing_BI = weights_BH.new_zeros([history_BH.size(0), self.num_items])
        state_BI = nothing_BI.scatter_add(1, history_BH.clamp(min=0), weights_BH)
        exponent = self.exponent
        if exponent is None:
            return state_BI
        share_BI = state_BI / weights_BH.sum(1, keepdim=True).clamp(min=1e-30)
        return torch.where(state_BI > 0, share_BI**exponent, 0.0)


class Recent(nn.Module):
    """A new user's state: the weights of the newest items, each divided by its position from the end."""

    def __init__(self, num_items: int, history_size: int) -> None:
        super().__init__()
        self.num_items, self.history_size = num_items, history_size

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, I]; repeated items are summed."""
        real_BH = (history_BH >= 0).to(extra["weights_BH"].dtype)
        places_BH = real_BH.flip(1).cumsum(1).flip(1)
        near_BH = real_BH * (places_BH <= self.history_size)
        weights_BH = near_BH * extra["weights_BH"] / places_BH.clamp(min=1)
        nothing_BI = weights_BH.new_zeros([history_BH.size(0), self.num_items])
        return nothing_BI.scatter_add(1, history_BH.clamp(min=0), weights_BH)


class Projection(nn.Module):
    """A new user's state: the weighted sum of the embeddings of the history's items."""

    def __init__(self, item_emb_ID: np.ndarray) -> None:
        super().__init__()
        self.item_emb_ID = buffer(item_emb_ID)

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, D]."""
        weights_BH = torch.where(history_BH >= 0, extra["weights_BH"], 0.0)
        return (self.item_emb_ID[history_BH.clamp(min=0)] * weights_BH.unsqueeze(2)).sum(1)


class SolvedUser(nn.Module):
    """A new user's state, solved exactly with all items fixed: one ALS half-step (see `kernels.als`)."""

    def __init__(
        self,
        item_emb_ID: np.ndarray,
        *,
        all_weight: float,
        confidence: float | None,
        regularization: float,
        unobserved: float,
        exponent: float,
    ) -> None:
        """`confidence` None: weight = target = r; the penalty is `regularization (history length + unobserved)^exponent`."""
        super().__init__()
        items = item_emb_ID.astype(np.float64)
        self.item_emb_ID = buffer(item_emb_ID)
        self.gram_DD = buffer(all_weight * (items.T @ items))
        self.confidence = confidence
        self.regularization, self.unobserved, self.exponent = regularization, unobserved, exponent

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, D]."""
        share_BH, r_BH = distinct(history_BH, extra["weights_BH"], self.item_emb_ID.size(0))
        weights_BH, targets_BH = r_BH, r_BH
        confidence = self.confidence
        if confidence is not None:
            weights_BH = r_BH * confidence
            targets_BH = (1 + weights_BH) * (r_BH > 0)
        penalty_B = self.regularization * (share_BH.sum(1) + self.unobserved) ** self.exponent
        items_BHD = self.item_emb_ID[history_BH.clamp(min=0)].double()
        weighted_BHD = items_BHD * (weights_BH * share_BH).unsqueeze(2)
        gram_BDD = self.gram_DD + weighted_BHD.transpose(1, 2) @ items_BHD
        right_BD = (items_BHD * (targets_BH * share_BH).unsqueeze(2)).sum(1)
        return solved(gram_BDD, penalty_B.clamp(min=1e-12).unsqueeze(1), right_BD).float()


class RatingUser(nn.Module):
    """A new user's state: bias and embedding solved from their ratings, with all items fixed.

    State: the embedding, mean + b_u, and 1; so that its product with an item's embedding, 1 and b_i is the rating. With
    `implicit`, the embedding starts from the sum of those divided by the square root of the number of ratings (SVD++).
    """

    def __init__(
        self,
        item_emb_ID: np.ndarray,
        bias_I: np.ndarray,
        mean: float,
        *,
        regularization: float,
        bias_regularization: float,
        implicit_emb_ID: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        ones = np.ones((len(bias_I), 1), np.float32)
        self.item_emb_IE = buffer(np.hstack([item_emb_ID, ones]))
        self.bias_I = buffer(bias_I)
        penalty_E = np.full(item_emb_ID.shape[1] + 1, regularization)
        penalty_E[-1] = bias_regularization
        self.penalty_E = buffer(penalty_E + 1e-9)
        self.implicit_emb_ID = None if implicit_emb_ID is None else buffer(implicit_emb_ID)
        self.mean = mean

    def forward(self, history_BH: Tensor, extra: dict[str, Tensor]) -> Tensor:
        """Return [B, D + 2]."""
        safe_BH = history_BH.clamp(min=0)
        share_BH, total_BH = distinct(history_BH, extra["weights_BH"], self.bias_I.size(0))
        num_B1 = share_BH.sum(1, keepdim=True).clamp(min=1)
        items_BHE = self.item_emb_IE[safe_BH].double()
        # repeated ratings are averaged: share is 1 / number of repetitions
        left_BH = (total_BH * share_BH - self.mean - self.bias_I[safe_BH]) * share_BH
        start_BE = torch.zeros_like(items_BHE[:, 0])
        implicit_emb_ID = self.implicit_emb_ID
        if implicit_emb_ID is not None:
            start_BD = (implicit_emb_ID[safe_BH] * share_BH.unsqueeze(2)).sum(1) / num_B1.sqrt()
            start_BE = torch.cat([start_BD, torch.zeros_like(num_B1)], 1)
            left_BH = left_BH - (items_BHE * start_BE.unsqueeze(1)).sum(2) * share_BH
        gram_BEE = (items_BHE * share_BH.unsqueeze(2)).transpose(1, 2) @ items_BHE
        right_BE = (items_BHE * left_BH.unsqueeze(2)).sum(1)
        user_BE = solved(gram_BEE, self.penalty_E * num_B1, right_BE) + start_BE
        return torch.cat([user_BE[:, :-1], user_BE[:, -1:] + self.mean, torch.ones_like(num_B1)], 1).float()


def distinct(history_BH: Tensor, weights_BH: Tensor, num_items: int) -> "tuple[Tensor, Tensor]":
    """Return float64 [B, H]: 1 / the item's count in its history (0 at padding), and its total weight."""
    real_BH = (history_BH >= 0).double()
    safe_BH = history_BH.clamp(min=0)
    nothing_BI = real_BH.new_zeros([history_BH.size(0), num_items])
    times_BH = nothing_BI.scatter_add(1, safe_BH, real_BH).gather(1, safe_BH)
    total_BH = nothing_BI.scatter_add(1, safe_BH, weights_BH.double() * real_BH).gather(1, safe_BH)
    return real_BH / times_BH.clamp(min=1), total_BH


def solved(gram_BDD: Tensor, penalty_BD: Tensor, right_BD: Tensor) -> Tensor:
    """Return [B, D], the solution of (gram + diag(penalty)) x = right."""
    matrix_BDD = gram_BDD + torch.diag_embed(penalty_BD.expand_as(right_BD))
    return torch.linalg.solve_ex(matrix_BDD, right_BD.unsqueeze(2))[0].squeeze(2)


def padded(lists_II: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return int32 columns and float32 values [I, K] of a CSR matrix's rows, padded with 0."""
    sizes = np.diff(lists_II.indptr)
    filled_IK = np.arange(max(1, sizes.max(initial=0))) < sizes[:, None]
    items_IK, values_IK = np.zeros(filled_IK.shape, np.int32), np.zeros(filled_IK.shape, np.float32)
    items_IK[filled_IK], values_IK[filled_IK] = lists_II.indices, lists_II.data
    return items_IK, values_IK


def buffer(array: np.ndarray) -> nn.Buffer:
    """Return an array as a buffer; copied only if read-only."""
    return nn.Buffer(torch.from_numpy(np.require(array, requirements=["C", "W"])))
