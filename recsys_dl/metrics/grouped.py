"""Ranking metrics for documents grouped by query, and LETOR's own NDCG.

All metrics in `ranking` apply: a query is a user there, a blank query a blank user. N documents over all groups,
Q groups, K ranks. How other programs differ from `ranking`:

- LightGBM and XGBoost: NDCG with gains 2^g - 1 and blank queries counted as 1; their MAP@k divides by min(k, relevant).
- trec_eval: linear gains; blank queries 0.
- All of them break ties in their own order (of rows or document names), which a sorted file can exploit.
- LETOR's tool (Eval-Score-4.0.pl, Qin and Liu 2013): gains 2^g - 1; no discount at rank 2 (rank r >= 2 has 1 / log2(r)); at k,
  queries with fewer than k documents count 0; blank queries 0. Its MAP is `average_precision`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from .ranking import Judged, judge


def judge_groups(scores_N: np.ndarray, labels_N: np.ndarray, starts_Q: np.ndarray, *, k: int | None = None) -> Judged:
    """Return the grades of each group's documents in score order; equal scores are tied, see `ranking`.

    Args:
        scores_N: one real number per document.
        labels_N: grades.
        starts_Q: [Q + 1]; the documents of group q are `starts_Q[q]:starts_Q[q + 1]`.
        k: ranks kept; None means the size of the longest group.

    Raises:
        ValueError: not one score per document, a NaN score, or a negative or infinite grade.
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
    alone_N = ranks_N == 0
    alone_N[1:] |= scores_N[order][1:] != scores_N[order][:-1]
    tied_N = ranks_N[np.maximum.accumulate(np.where(alone_N, np.arange(len(order)), 0))]
    length = int(sizes_Q.max(initial=1))
    if k is not None:
        length = max(k, int(ranks_N[tied_N < k].max(initial=0)) + 1)
    documents_QK = np.full((len(sizes_Q), length), -1, np.int64)
    tied_QK = np.tile(np.arange(length), (len(sizes_Q), 1))
    listed = ranks_N < length
    documents_QK[owners_N[listed], ranks_N[listed]] = order[listed]
    tied_QK[owners_N[listed], ranks_N[listed]] = tied_N[listed]
    grades = sp.csr_matrix((labels_N, np.arange(len(labels_N)), starts_Q), shape=(len(sizes_Q), len(labels_N)))
    return replace(judge(documents_QK, grades), tied_BK=tied_QK, ranks=k)


def all_tied(scores_N: np.ndarray, starts_Q: np.ndarray) -> bool:
    """Return whether all scores are equal within every group of two or more documents, so that nothing is ranked."""
    owners_N = np.repeat(np.arange(len(starts_Q) - 1), np.diff(starts_Q))
    same = owners_N[1:] == owners_N[:-1]
    return bool(same.any() and (scores_N[1:][same] == scores_N[:-1][same]).all())


def letor_ndcg(judged: Judged, sizes_Q: np.ndarray, k: int) -> np.ndarray:
    """Return float64 [Q]: NDCG@k as computed by LETOR's own tool, except for ties; see the module docstring.

    Args:
        judged: from `judge_groups`, with at least k ranks.
        sizes_Q: documents per group.
        k: ranks counted.
    """
    discounts_K = 1 / np.log2(np.maximum(np.arange(1, k + 1), 2))
    gains_QK, ideal_QK = np.exp2(judged.labels_BK) - 1, np.exp2(judged.ideal_BK) - 1
    found_Q, ideal_Q = (
        judged.first(judged.tie_means(gains_QK), k) @ discounts_K,
        judged.first(ideal_QK, k) @ discounts_K,
    )
    ndcg_Q = np.divide(found_Q, ideal_Q, out=np.zeros(len(judged)), where=ideal_Q > 0)
    return np.where(sizes_Q >= k, ndcg_Q, 0.0)
