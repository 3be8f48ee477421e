"""Ranking metrics of recommendation lists, one value per user.

Lists are judged once (`judge`, `judge_scores`); every metric is then a function of the judged lists and k, and returns
float64 [B]. B users, I items, K ranks, L candidates.

Ties are not broken. Every metric is its mean over all orders of tied items, in closed form (McSherry and
Najork 2008, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores"), so that a model
with constant scores gets the value of a random ranking, regardless of how the file is sorted.

Conventions, following trec_eval: an item is relevant if its grade is above 0. Precision divides by k, even if the list
is shorter. Recall and average precision divide by all relevant items, not by min(k, relevant). NDCG discounts rank r by
1 / log2(r + 1). A user without a relevant item is blank: every metric gives 0, until `per_user` applies `blank_users`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse as sp

Gains = Literal["binary", "linear", "exponential"]
BlankUsers = Literal["left_out", "zero", "one"]


@dataclass(frozen=True)
class Judged:
    """Ranked lists with the grades of their items.

    Attributes:
        labels_BK: float64, grade of the item at each rank; 0 if it is not relevant or past the end of the list.
        ideal_BK: float64, each user's K highest grades, descending, padded with 0.
        num_relevant_B: int64, relevant items of each user, in the list or not.
        tied_BK: int64, the first rank, from 0, with the same score as each rank; None if there are
            no ties.
        ranks: number of ranks that may be counted; further columns hold the rest of ties. None means all.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores
        >>> judged = judge_scores([[0.9, 0.7, 0.1]], [[0, 2, 1]], k=2)
        >>> judged.labels_BK, judged.ideal_BK, judged.num_relevant_B
        (array([[0., 2.]]), array([[2., 1.]]), array([2]))
    """

    labels_BK: np.ndarray
    ideal_BK: np.ndarray
    num_relevant_B: np.ndarray
    tied_BK: np.ndarray | None = None
    ranks: int | None = None

    def __len__(self) -> int:
        return len(self.labels_BK)

    @property
    def blank_B(self) -> np.ndarray:
        """True where a user has no relevant item."""
        return self.num_relevant_B == 0

    def tie_sums(self, values_BK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return at each rank the sum of the values tied there, and their number."""
        if self.tied_BK is None:
            return values_BK, np.ones(values_BK.shape, np.int64)
        rows, length = self.tied_BK.shape
        groups = (np.arange(rows)[:, None] * length + self.tied_BK).ravel()
        sums = np.bincount(groups, weights=values_BK.ravel(), minlength=rows * length)
        sizes = np.bincount(groups, minlength=rows * length)
        return sums[groups].reshape(rows, length), sizes[groups].reshape(rows, length)

    def tie_means(self, values_BK: np.ndarray) -> np.ndarray:
        """Return the expected value at each rank, over all orders of ties."""
        sums_BK, sizes_BK = self.tie_sums(values_BK)
        return sums_BK / sizes_BK

    def first(self, values_BK: np.ndarray, k: int) -> np.ndarray:
        """Return the values of the first k ranks.

        Raises:
            ValueError: k exceeds the judged ranks, or is below 1.
        """
        most = values_BK.shape[1] if self.ranks is None else self.ranks
        if not 1 <= k <= most:
            raise ValueError(
                f"k must be between 1 and the {most} ranks that were judged, got {k}; pad lists that are complete with -1"
            )
        return values_BK[:, :k]


def judge(items_BK: np.ndarray, relevant: sp.csr_matrix, scores_BK: np.ndarray | None = None) -> Judged:
    """Judge recommended items.

    Args:
        items_BK: item rows, best first, padded with -1.
        relevant: CSR [B, I] of grades; an entry of 0 is known and not relevant.
        scores_BK: of the items; equal ones are tied. Items tied with the last counted rank must be included.
            None means no ties.

    Raises:
        ValueError: not one row of `relevant` per list, an item out of range or repeated in a list, a negative grade,
            or scores of a different shape.

    Examples:
        >>> import numpy as np, scipy.sparse as sp
        >>> from recsys_dl.metrics.ranking import judge, recall
        >>> relevant = sp.csr_matrix([[1, 0, 1, 0]])
        >>> recall(judge(np.array([[3, 2, 1]]), relevant), 3)
        array([0.5])
    """
    items_BK = _array(items_BK)
    if items_BK.ndim != 2 or not np.issubdtype(items_BK.dtype, np.integer):
        raise ValueError(f"lists must be item rows of shape [B, K], got {items_BK.dtype} of shape {items_BK.shape}")
    if relevant.shape[0] != len(items_BK):
        raise ValueError(f"relevant must have one row for each of {len(items_BK)} lists, got {relevant.shape[0]}")
    if not relevant.has_canonical_format:
        relevant = relevant.copy()
        relevant.sum_duplicates()
    rows, num_items = relevant.shape
    if items_BK.max(initial=-1) >= num_items:
        raise ValueError(f"items must be in [0, {num_items}), or -1, got {items_BK.max()}")
    ordered = np.sort(items_BK, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        b = int(twice.any(axis=1).argmax())
        raise ValueError(
            f"an item may occur only once in a list, got item {ordered[b, 1:][twice[b]][0]} twice in list {b}"
        )

    owner = np.repeat(np.arange(rows), np.diff(relevant.indptr))
    keys = owner * num_items + relevant.indices  # ascending, as the format is canonical
    wanted = np.arange(rows)[:, None] * num_items + items_BK
    found = np.searchsorted(keys, wanted)
    grades = np.append(relevant.data.astype(np.float64), 0.0)
    hit = (np.append(keys, -1)[found] == wanted) & (items_BK >= 0)
    labels_BK = np.where(hit, grades[found], 0.0)
    tied_BK = None
    if scores_BK is not None:
        scores_BK = _array(scores_BK)
        if scores_BK.shape != items_BK.shape:
            raise ValueError(f"scores must be one per item, shape {items_BK.shape}, got {scores_BK.shape}")
        tied_BK = first_tied(scores_BK, items_BK >= 0)
    return Judged(labels_BK, *_ideal(grades[:-1], owner, relevant.indptr, items_BK.shape[1]), tied_BK)


def first_tied(scores_BK: np.ndarray, there_BK: np.ndarray) -> np.ndarray:
    """Return int64 [B, K]: the first rank, from 0, with the same score; lists are sorted by score."""
    alone_BK = np.ones(scores_BK.shape, bool)
    alone_BK[:, 1:] = (scores_BK[:, 1:] != scores_BK[:, :-1]) | ~there_BK[:, 1:] | ~there_BK[:, :-1]
    return np.maximum.accumulate(np.where(alone_BK, np.arange(scores_BK.shape[1]), 0), axis=1)


def with_whole_ties(tied_BK: np.ndarray, k: int) -> int:
    """Return how many ranks cover the top k and everything tied with them."""
    return max(k, int((tied_BK < k).sum(axis=1).max(initial=0)))


def judge_scores(scores_BL: Any, labels_BL: Any, valid_BL: Any = None, *, k: int) -> Judged:
    """Judge the k best candidates by score; equal scores are tied.

    Args:
        scores_BL: one real number per candidate, NumPy or torch.
        labels_BL: grades, 0 if not relevant.
        valid_BL: False at padding; None for no padding.
        k: ranks kept; shorter lists are padded.

    Raises:
        ValueError: shapes differ, a valid score is NaN, or a grade is negative or not finite.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores, ndcg
        >>> ndcg(judge_scores([[0.9, 0.7, 0.1]], [[0, 1, 0]], k=3), 3).round(3)
        array([0.631])
    """
    scores_BL, labels_BL = _array(scores_BL).astype(np.float64), _array(labels_BL).astype(np.float64)
    valid_BL = np.ones(scores_BL.shape, bool) if valid_BL is None else _array(valid_BL).astype(bool)
    if not scores_BL.shape == labels_BL.shape == valid_BL.shape or scores_BL.ndim != 2:
        raise ValueError(
            f"scores, labels and valid must have the same shape [B, L], got {scores_BL.shape}, {labels_BL.shape}, {valid_BL.shape}"
        )
    if np.isnan(scores_BL[valid_BL]).any():
        raise ValueError(f"scores must be numbers, got NaN for {int(np.isnan(scores_BL[valid_BL]).sum())} candidates")
    labels_BL = np.where(valid_BL, labels_BL, 0.0)
    order_BL = np.lexsort((-scores_BL, ~valid_BL), axis=1)
    sorted_BL = (np.take_along_axis(array_BL, order_BL, axis=1) for array_BL in (scores_BL, labels_BL, valid_BL))
    scores_BL, ranked_BL, there_BL = sorted_BL
    tied_BL = first_tied(scores_BL, there_BL)
    length = with_whole_ties(tied_BL, k)
    labels_BK, tied_BK = np.zeros((len(scores_BL), length)), np.tile(np.arange(length), (len(scores_BL), 1))
    kept = min(length, scores_BL.shape[1])
    labels_BK[:, :kept], tied_BK[:, :kept] = ranked_BL[:, :kept], tied_BL[:, :kept]
    owner, _ = np.nonzero(labels_BL)
    starts = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(scores_BL)))])
    return Judged(labels_BK, *_ideal(labels_BL[labels_BL != 0], owner, starts, length), tied_BK, k)


def precision(judged: Judged, k: int) -> np.ndarray:
    """Return the share of the top k ranks with a relevant item.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores, precision
        >>> precision(judge_scores([[0.9, 0.7, 0.1]], [[1, 0, 1]], k=2), 2)
        array([0.5])
    """
    return judged.first(judged.tie_means(_hits(judged)), k).sum(axis=1) / k


def recall(judged: Judged, k: int) -> np.ndarray:
    """Return the share of the relevant items that are in the top k.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores, recall
        >>> recall(judge_scores([[0.9, 0.7, 0.1]], [[1, 1, 1]], k=2), 2).round(3)
        array([0.667])
    """
    return judged.first(judged.tie_means(_hits(judged)), k).sum(axis=1) / np.maximum(judged.num_relevant_B, 1)


def hit_rate(judged: Judged, k: int) -> np.ndarray:
    """Return 1 if the top k contain a relevant item, else 0; the probability if it depends on ties.

    Examples:
        >>> from recsys_dl.metrics.ranking import hit_rate, judge_scores
        >>> hit_rate(judge_scores([[0.9, 0.7, 0.1]], [[1, 0, 1]], k=2), 2)
        array([1.])
    """
    return 1 - judged.first(1 - _hazards(judged), k).prod(axis=1)


def average_precision(judged: Judged, k: int) -> np.ndarray:
    """Return the sum of precisions at the ranks of relevant items, divided by the number of relevant items; its mean is MAP.

    Examples:
        >>> from recsys_dl.metrics.ranking import average_precision, judge_scores
        >>> average_precision(judge_scores([[0.9, 0.7, 0.1]], [[1, 0, 1]], k=3), 3).round(3)
        array([0.833])
    """
    hits_BK = _hits(judged)
    sums_BK, sizes_BK = judged.tie_sums(hits_BK)
    ranks_K = np.arange(hits_BK.shape[1])
    within_BK = np.zeros(hits_BK.shape, np.int64) if judged.tied_BK is None else ranks_K - judged.tied_BK
    before_BK = np.cumsum(hits_BK, axis=1) - hits_BK  # hits above each rank
    if judged.tied_BK is not None:
        before_BK = np.take_along_axis(before_BK, judged.tied_BK, axis=1)  # hits above its tie
    # Given a relevant item at a rank, the other tied items are equally likely at any other position of the tie.
    above_BK = within_BK * (sums_BK - 1) / np.maximum(sizes_BK - 1, 1)
    values_BK = sums_BK / sizes_BK * ((before_BK + 1 + above_BK) / (ranks_K + 1))
    return judged.first(values_BK, k).sum(axis=1) / np.maximum(judged.num_relevant_B, 1)


def reciprocal_rank(judged: Judged, k: int) -> np.ndarray:
    """Return 1 / rank of the first relevant item, 0 if the top k contain none; its mean is MRR.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores, reciprocal_rank
        >>> reciprocal_rank(judge_scores([[0.9, 0.7, 0.1]], [[0, 1, 1]], k=3), 3)
        array([0.5])
    """
    hazards_BK = judged.first(_hazards(judged), k)
    none_above_BK = np.ones(hazards_BK.shape)
    none_above_BK[:, 1:] = np.cumprod(1 - hazards_BK, axis=1)[:, :-1]
    return (none_above_BK * hazards_BK / np.arange(1, k + 1)).sum(axis=1)


def ndcg(judged: Judged, k: int, gains: Gains = "binary") -> np.ndarray:
    """Return the discounted gain of the top k divided by that of the best possible order.

    Järvelin and Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with the discount 1 / log2(rank + 1).

    Args:
        judged: the lists.
        k: ranks counted.
        gains: gain of a grade g > 0: "binary" 1; "linear" g, as in trec_eval; "exponential" 2^g - 1 (Burges et al. 2005,
            "Learning to rank using gradient descent").

    Raises:
        ValueError: exponential gains of grades above 1000, which overflow.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores, ndcg
        >>> ndcg(judge_scores([[0.9, 0.7, 0.1]], [[1, 0, 2]], k=3), 3, gains="linear").round(3)
        array([0.76])
    """
    discounts_K = 1 / np.log2(np.arange(2, k + 2))
    ideal_B = _gain(judged.first(judged.ideal_BK, k), gains) @ discounts_K
    found_B = judged.first(judged.tie_means(_gain(judged.labels_BK, gains)), k) @ discounts_K
    return np.divide(found_B, ideal_B, out=np.zeros(len(judged)), where=ideal_B > 0)


METRICS: dict[str, Callable[..., np.ndarray]] = {
    "precision": precision,
    "recall": recall,
    "hit_rate": hit_rate,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
}


def per_user(
    judged: Judged,
    metrics: Iterable[str],
    ks: Iterable[int],
    *,
    gains: Gains = "binary",
    blank_users: BlankUsers = "left_out",
) -> dict[str, np.ndarray]:
    """Return float64 [B] for each of `metrics` at each of `ks`, under names such as "ndcg@10".

    Args:
        judged: the lists, at least as long as the largest k.
        metrics: of `METRICS`.
        ks: ranks counted, each at least 1.
        gains: gain of a grade in NDCG; see `ndcg`.
        blank_users: value of every metric for a user without a relevant item: NaN ("left_out"), 0 or 1.

    Raises:
        ValueError: an unknown name, or a k that is not positive or exceeds the lists.

    Examples:
        >>> from recsys_dl.metrics.ranking import judge_scores, per_user
        >>> per_user(judge_scores([[0.9, 0.7, 0.1]], [[0, 1, 1]], k=3), ["recall", "mrr"], [2])
        {'recall@2': array([0.5]), 'mrr@2': array([0.5])}
    """
    check_conventions(gains, blank_users)
    ks = list(ks)
    columns = {}
    for metric in metrics:
        if metric not in METRICS:
            raise ValueError(f"{metric!r} is not a ranking metric; there are {', '.join(METRICS)}")
        for k in ks:
            values_B = METRICS[metric](judged, k, gains) if metric == "ndcg" else METRICS[metric](judged, k)
            columns[f"{metric}@{k}"] = np.where(judged.blank_B, _BLANK[blank_users], values_B)
    return columns


_BLANK = {"left_out": np.nan, "zero": 0.0, "one": 1.0}


def check_conventions(gains: str, blank_users: str) -> None:
    """Raise ValueError for an unknown convention."""
    for name, word, words in (
        ("gains", gains, get_args(Gains)),
        ("blank_users", blank_users, get_args(BlankUsers)),
    ):
        if word not in words:
            raise ValueError(f"{name} must be one of {', '.join(words)}, got {word!r}")


def _hits(judged: Judged) -> np.ndarray:
    """Return float64 [B, K]: 1 where a rank holds a relevant item."""
    return (judged.labels_BK > 0).astype(np.float64)


def _hazards(judged: Judged) -> np.ndarray:
    """Return float64 [B, K]: the probability that a rank holds a relevant item if no rank above it does."""
    sums_BK, sizes_BK = judged.tie_sums(_hits(judged))
    if judged.tied_BK is None:
        return sums_BK
    left_BK = sizes_BK - (np.arange(sizes_BK.shape[1]) - judged.tied_BK)  # tied items from this rank on
    return np.minimum(sums_BK / left_BK, 1.0)


def _gain(grades_BK: np.ndarray, gains: Gains) -> np.ndarray:
    if gains == "binary":
        return (grades_BK > 0).astype(np.float64)
    if gains == "linear":
        return grades_BK
    if grades_BK.max(initial=0) > 1000:
        raise ValueError(
            f'gains="exponential" needs grades up to 1000, got {grades_BK.max():g}: map counts to grades such as 0-4, or '
            'take "linear"'
        )
    return np.exp2(grades_BK) - 1


def _ideal(grades: np.ndarray, owner: np.ndarray, starts: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k highest grades of each user, and how many are above 0; `grades[starts[b]:starts[b + 1]]` are b's."""
    if grades.size and not (np.isfinite(grades).all() and grades.min() >= 0):
        raise ValueError("grades must be finite and not negative; map disliked items to 0")
    rows = len(starts) - 1
    order = np.lexsort((-grades, owner))
    ranks = np.arange(len(grades)) - starts[owner]
    kept = ranks < k
    ideal_BK = np.zeros((rows, k))
    ideal_BK[owner[kept], ranks[kept]] = grades[order][kept]
    return ideal_BK, np.bincount(owner[grades > 0], minlength=rows)


def _array(values: Any) -> np.ndarray:
    """Return an array, or a torch tensor on any device, as a NumPy array."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
