"""Ranking metrics of documents in rows, grouped by query, and LETOR's own NDCG.

Every metric of `ranking` serves: a query is a user there, a blank query a blank user. N documents of all groups together,
Q groups, K ranks. How other programs differ from `ranking`:

- LightGBM and XGBoost: NDCG with gains 2^g - 1 and blank queries counted 1; their MAP@k divides by min(k, relevant).
- trec_eval: linear gains; blank queries 0.
- LETOR's tool (Eval-Score-4.0.pl, Qin and Liu 2013): gains 2^g - 1; no discount at rank 2 (rank r >= 2 has 1 / log2(r)); at k,
  queries with fewer than k documents count 0; blank queries 0. Its MAP is `average_precision`.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from .ranking import Judged, judge


def judge_groups(scores_N: np.ndarray, labels_N: np.ndarray, starts_Q: np.ndarray, *, k: int | None = None) -> Judged:
    """Return the grades of each group's documents in the order of their scores; equal scores keep the order of rows.

    Args:
        scores_N: any real number a document.
        labels_N: its grade.
        starts_Q: [Q + 1]; the documents of group q are `starts_Q[q]:starts_Q[q + 1]`.
        k: ranks kept; None keeps as many as the longest group has.

    Raises:
        ValueError: not one score for each document, a score that is NaN, a grade that is negative or not finite.
    """
    scores_N, labels_N = np.asarray(scores_N, np.float64), np.asarray(labels_N, np.float64)
    if scores_N.shape != labels_N.shape or labels_N.shape != (starts_Q[-1],):
        raise ValueError(
            f"scores and labels must be one for each of {starts_Q[-1]} documents, got {scores_N.shape} and {labels_N.shape}"
        )
    if np.isnan(scores_N).any():
        raise ValueError(f"scores must be numbers, got NaN for {int(np.isnan(scores_N).sum())} documents")
    sizes_Q = np.diff(starts_Q)
    owners_N = np.repeat(np.arange(len(sizes_Q)), sizes_Q)
    order = np.lexsort((-scores_N, owners_N))
    ranks_N = np.arange(len(order)) - starts_Q[owners_N]
    length = int(sizes_Q.max(initial=1)) if k is None else k
    documents_QK = np.full((len(sizes_Q), length), -1, np.int64)
    listed = ranks_N < length
    documents_QK[owners_N[listed], ranks_N[listed]] = order[listed]
    grades = sp.csr_matrix((labels_N, np.arange(len(labels_N)), starts_Q), shape=(len(sizes_Q), len(labels_N)))
    return judge(documents_QK, grades)


def letor_ndcg(judged: Judged, sizes_Q: np.ndarray, k: int) -> np.ndarray:
    """Return float64 [Q]: NDCG@k as LETOR's own tool counts it; see the top of this file.

    Args:
        judged: of `judge_groups`, at least k ranks.
        sizes_Q: documents of each group.
        k: ranks counted.
    """
    discounts_K = 1 / np.log2(np.maximum(np.arange(1, k + 1), 2))
    found_Q, ideal_Q = ((np.exp2(grades[:, :k]) - 1) @ discounts_K for grades in (judged.labels_BK, judged.ideal_BK))
    ndcg_Q = np.divide(found_Q, ideal_Q, out=np.zeros(len(judged)), where=ideal_Q > 0)
    return np.where(sizes_Q >= k, ndcg_Q, 0.0)
