"""Scores of several models made comparable, user by user, and combined.

B users, I items, P parts.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Normalize = Literal["z_score", "min_max", "rank"]
RANK_OFFSET = 60.0  # of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009)


def normalized(scores_PBI: np.ndarray, knows_PBI: np.ndarray, normalize: Normalize) -> np.ndarray:
    """Return float32 [P, B, I], comparable scores; 0 where a part does not know the item.

    "z_score" and "min_max" are linear, by the mean and standard deviation, or the range, over the items that every part knows, so
    that an item which only some know is placed where it would be among those. "rank" is 1 / (60 + rank) among all items that
    the part knows. A part that scores those items all alike gives 0 to every item.

    Args:
        scores_PBI: float32; overwritten.
        knows_PBI: bool, whether the part knows the item.
        normalize: see above.
    """
    if normalize == "rank":
        return _reciprocal_ranks(scores_PBI, knows_PBI)
    np.copyto(scores_PBI, 0, where=~knows_PBI)
    common_BI: np.ndarray = np.all(knows_PBI, axis=0)
    few_B = common_BI.sum(axis=1) < 2
    for scores_BI, knows_BI in zip(scores_PBI, knows_PBI, strict=True):
        over_BI = np.where(few_B[:, None], knows_BI, common_BI) if few_B.any() else common_BI
        if normalize == "z_score":
            low_B1, span_B1 = moments(scores_BI, over_BI)
        else:
            low_B1 = scores_BI.min(axis=1, where=over_BI, initial=np.inf)[:, None].astype(np.float64)
            span_B1 = scores_BI.max(axis=1, where=over_BI, initial=-np.inf)[:, None] - low_B1
        alike_B1 = ~(span_B1 > 1e-6 * np.maximum(np.abs(low_B1), 1e-30)) | ~np.isfinite(span_B1)
        scores_BI -= np.where(alike_B1, 0, low_B1).astype(np.float32)
        scores_BI *= np.where(alike_B1, 0, 1 / np.where(alike_B1, 1, span_B1)).astype(np.float32)
    np.copyto(scores_PBI, 0, where=~knows_PBI)
    return scores_PBI


def moments(scores_BI: np.ndarray, over_BI: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 [B, 1], mean and standard deviation of each row over some of its items; 0 over none."""
    count_B1 = np.maximum(over_BI.sum(axis=1, keepdims=True), 1)
    mean_B1 = scores_BI.sum(axis=1, keepdims=True, where=over_BI, dtype=np.float64) / count_B1
    centered_BI = np.where(over_BI, scores_BI - mean_B1.astype(np.float32), 0)
    square_B1 = np.einsum("bi,bi->b", centered_BI, centered_BI, dtype=np.float64)[:, None] / count_B1
    return mean_B1, np.sqrt(square_B1)


def weighted_sum(scores_PBI: np.ndarray, knows_PBI: np.ndarray, weights_BP: np.ndarray) -> np.ndarray:
    """Return float32 [B, I], the weighted mean over the parts that know an item; the user's lowest score where none does.

    Items that only parts of weight 0 know come below the others, in the order of these parts.

    The mean of fewer parts varies more than that of all. So the scores of items which only some parts know are brought, linearly,
    to the mean and standard deviation that all parts together have over the items that all know.

    Args:
        scores_PBI: float32, comparable.
        knows_PBI: bool, whether the part knows the item.
        weights_BP: float32, not negative, by user.
    """
    total_BI, share_BI = _mean(scores_PBI, knows_PBI, weights_BP)
    nobody_BI = share_BI <= 0
    full_BI = share_BI > weights_BP.sum(axis=1, keepdims=True) * (1 - 1e-6)
    if not (full_BI | nobody_BI).all():
        total_BI = _matched(total_BI, full_BI | nobody_BI, full_BI, scores_PBI, knows_PBI, weights_BP)
    if nobody_BI.any():
        spare_BI, parts_BI = _mean(scores_PBI, knows_PBI, weights_BP <= 0)
        below_BI = nobody_BI & (parts_BI > 0)
        highest_B1 = spare_BI.max(axis=1, keepdims=True, where=below_BI, initial=-np.inf)
        highest_B1[~np.isfinite(highest_B1)] = 0
        np.copyto(total_BI, _lowest(total_BI, ~nobody_BI) + spare_BI - highest_B1, where=below_BI)
        nobody_BI &= ~below_BI
        np.copyto(total_BI, _lowest(total_BI, ~nobody_BI), where=nobody_BI)
    return total_BI


def first_knowing(scores_PBI: np.ndarray, may_PBI: np.ndarray) -> np.ndarray:
    """Return float32 [B, I], the score of the first part that may answer; the user's lowest score where none does."""
    chosen_BI = may_PBI.argmax(axis=0)
    some_BI: np.ndarray = np.any(may_PBI, axis=0)
    scores_BI = np.take_along_axis(scores_PBI, chosen_BI[None], axis=0)[0]
    return np.where(some_BI, scores_BI, _lowest(scores_BI, some_BI))


def _lowest(scores_BI: np.ndarray, over_BI: np.ndarray) -> np.ndarray:
    """Return float32 [B, 1], the lowest score over some items of each row; 0 over none."""
    lowest_B1 = scores_BI.min(axis=1, keepdims=True, where=over_BI, initial=np.inf)
    return np.where(np.isfinite(lowest_B1), lowest_B1, np.float32(0))


def _mean(scores_PBI: np.ndarray, knows_PBI: np.ndarray, weights_BP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 [B, I], the weighted mean over the parts that know an item, 0 if none of weight does, and their weight."""
    total_BI, share_BI = (np.zeros(scores_PBI.shape[1:], np.float32) for _ in range(2))
    for scores_BI, knows_BI, weights_B in zip(scores_PBI, knows_PBI, weights_BP.T.astype(np.float32), strict=True):
        total_BI += scores_BI * weights_B[:, None]  # scores of items that a part does not know are 0
        share_BI += knows_BI * weights_B[:, None]
    np.divide(total_BI, share_BI, out=total_BI, where=share_BI > 0)
    return total_BI, share_BI


def _matched(
    total_BI: np.ndarray,
    done_BI: np.ndarray,
    full_BI: np.ndarray,
    scores_PBI: np.ndarray,
    knows_PBI: np.ndarray,
    weights_BP: np.ndarray,
) -> np.ndarray:
    """Return the scores with those of items that only some parts know on the scale of the others."""
    mean_B1, deviation_B1 = moments(total_BI, full_BI)
    enough_B1 = full_BI.sum(axis=1, keepdims=True) > 1
    bits_P = 2 ** np.arange(len(knows_PBI))
    pattern_BI = np.tensordot(bits_P, knows_PBI, 1)
    matched_BI = total_BI.copy()
    for pattern in np.unique(pattern_BI[~done_BI]):
        some_BP = weights_BP * ((pattern & bits_P) > 0)
        everywhere_PBI = np.broadcast_to(np.array(True), scores_PBI.shape)
        alone_BI, _ = _mean(scores_PBI, everywhere_PBI, some_BP)
        its_mean_B1, its_deviation_B1 = moments(alone_BI, full_BI)
        scale_B1 = np.divide(deviation_B1, its_deviation_B1, out=np.ones_like(deviation_B1), where=its_deviation_B1 > 0)
        placed_BI = mean_B1 + (total_BI - its_mean_B1) * scale_B1
        np.copyto(matched_BI, placed_BI.astype(np.float32), where=(pattern_BI == pattern) & ~done_BI & enough_B1)
    return matched_BI


def _reciprocal_ranks(scores_PBI: np.ndarray, knows_PBI: np.ndarray) -> np.ndarray:
    order_PBI = np.argsort(np.where(knows_PBI, -scores_PBI, np.inf), axis=2, kind="stable")
    values_I = (1 / (RANK_OFFSET + 1 + np.arange(scores_PBI.shape[2]))).astype(np.float32)
    np.put_along_axis(scores_PBI, order_PBI, np.broadcast_to(values_I, scores_PBI.shape), axis=2)
    np.copyto(scores_PBI, 0, where=~knows_PBI)
    return scores_PBI
