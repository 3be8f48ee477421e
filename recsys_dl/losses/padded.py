"""Padded lists, the input of every loss, and the pairs within them.

B lists, L candidates, N anchors: the items of the batch that are preferred to another in their list. Pairs are stored in arrays
[N, L], one row per anchor: with one positive per list that is [B, L], while all pairs would be [B, L, L].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PaddedLists(NamedTuple):
    """Validated input, with scores and labels 0 and weights 1 at padding, so that padding values have no effect."""

    scores_BL: Tensor
    labels_BL: Tensor  # dtype of the scores
    valid_BL: Tensor  # bool
    weights_BL: Tensor

    @property
    def lowest_B(self) -> Tensor:
        """The lowest label of each list, inf where it has no valid item."""
        return self.labels_BL.masked_fill(~self.valid_BL, torch.inf).amin(dim=1)


def read(scores_BL: Tensor, labels_BL: Tensor, valid_BL: Tensor | None, weights_BL: Tensor | None) -> PaddedLists:
    """Validate lists and overwrite their padding.

    Raises:
        ValueError: scores are not floats of shape [B, L] with an item; labels, valid or weights have a different shape; valid is not bool.
    """
    if scores_BL.ndim != 2 or scores_BL.shape[1] == 0 or not scores_BL.is_floating_point():
        raise ValueError(
            f"scores must be floats of shape [B, L], L at least 1, got {scores_BL.dtype} of shape {tuple(scores_BL.shape)}"
        )
    if scores_BL.dtype in (torch.float16, torch.bfloat16):
        scores_BL = scores_BL.float()
    check_shapes(scores_BL.shape, labels=labels_BL, valid=valid_BL, weights=weights_BL)
    labels_BL = labels_BL.to(scores_BL.dtype)
    one = torch.ones((), dtype=scores_BL.dtype, device=scores_BL.device)
    weights_BL = one.expand_as(scores_BL) if weights_BL is None else weights_BL.to(scores_BL.dtype)
    if valid_BL is None:
        return PaddedLists(scores_BL, labels_BL, one.bool().expand_as(scores_BL), weights_BL)
    padding_BL = ~valid_BL
    return PaddedLists(
        scores_BL.masked_fill(padding_BL, 0.0),
        labels_BL.masked_fill(padding_BL, 0.0),
        valid_BL,
        weights_BL.masked_fill(padding_BL, 1.0),
    )


def check_shapes(shape: torch.Size, **others: Tensor | None) -> None:
    """Raise ValueError if labels, valid or weights do not have the shape of the scores, or valid is not bool."""
    for name, tensor in others.items():
        if tensor is not None and tensor.shape != shape:
            raise ValueError(
                f"{name} must have one entry for each score, shape {tuple(shape)}, got {tuple(tensor.shape)}"
            )
        if tensor is not None and name == "valid" and tensor.dtype != torch.bool:
            raise ValueError(f"valid must be bool, False at padding, got {tensor.dtype}")


def mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of the counted values, 0 if there are none."""
    return values.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


class Pairs(NamedTuple):
    """Anchors, each paired with all candidates of its list.

    Attributes:
        rows_N: the list of each anchor.
        columns_N: its column there.
        differences_NL: score of the anchor minus score of the candidate.
        paired_NL: True where the anchor is preferred to the candidate.
        weights_N: weight of the anchor.
        num_lists: B.
    """

    rows_N: Tensor
    columns_N: Tensor
    differences_NL: Tensor
    paired_NL: Tensor
    weights_N: Tensor
    num_lists: int

    def of_anchor(self, values_BL: Tensor) -> Tensor:
        """Return the anchors' values, [N, 1]."""
        return values_BL[self.rows_N, self.columns_N].unsqueeze(1)

    def of_list(self, values_BL: Tensor) -> Tensor:
        """Return the values of all candidates of each anchor's list, [N, L]."""
        return values_BL.index_select(0, self.rows_N)

    def sum_pairs(self, values_NL: Tensor) -> Tensor:
        """Return each anchor's unweighted sum over its pairs, [N]."""
        return values_NL.masked_fill(~self.paired_NL, 0.0).sum(dim=1)

    def sum_anchors(self, values_N: Tensor) -> Tensor:
        """Return each list's sum over its anchors, [B]."""
        return values_N.new_zeros(self.num_lists).index_add(0, self.rows_N, values_N)

    @property
    def counts_N(self) -> Tensor:
        """Number of pairs of each anchor."""
        return self.paired_NL.sum(dim=1).to(self.differences_NL.dtype)


def preferences(lists: PaddedLists) -> Pairs:
    """Return the pairs of valid items in a list in which the anchor has the higher label."""
    anchors_BL = lists.valid_BL & (lists.labels_BL > lists.lowest_B.unsqueeze(1))
    pairs = _beside(lists, anchors_BL)
    ordered_NL = pairs.of_anchor(lists.labels_BL) > pairs.of_list(lists.labels_BL)
    return pairs._replace(paired_NL=pairs.paired_NL & ordered_NL)


def positives_beside_all(lists: PaddedLists) -> Pairs:
    """Return the pairs of an item with label > 0 and any other valid item of its list."""
    pairs = _beside(lists, lists.valid_BL & (lists.labels_BL > 0))
    places_L = torch.arange(lists.scores_BL.shape[1], device=pairs.rows_N.device)
    return pairs._replace(paired_NL=pairs.paired_NL & (places_L != pairs.columns_N.unsqueeze(1)))


def _beside(lists: PaddedLists, anchors_BL: Tensor) -> Pairs:
    rows_N, columns_N = anchors_BL.nonzero(as_tuple=True)
    differences_NL = lists.scores_BL[rows_N, columns_N].unsqueeze(1) - lists.scores_BL.index_select(0, rows_N)
    valid_NL = lists.valid_BL.index_select(0, rows_N)
    return Pairs(rows_N, columns_N, differences_NL, valid_NL, lists.weights_BL[rows_N, columns_N], anchors_BL.shape[0])
