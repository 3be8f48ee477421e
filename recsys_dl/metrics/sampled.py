"""Metrics over one relevant item and sampled others, for reproducing papers that report them.

They are not estimates of the metrics over the whole catalog and may order models differently (Krichene and Rendle 2020, "On
Sampled Metrics for Item Recommendation"); hence every name starts with "sampled_". B users, L candidates.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

TIES = "mean over all orders of equal scores"


def sampled_ranking_metrics(
    scores_BL: np.ndarray, ks: Iterable[int], *, valid_BL: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Return float64 [B] "sampled_hit_rate@k" and "sampled_ndcg@k" of the candidate in column 0 among its row.

    Ties count as the mean over all orders (McSherry and Najork 2008, "Computing information retrieval performance
    measures efficiently in the presence of tied scores"): a model with constant scores gets the value of a random ranking.

    Args:
        scores_BL: the relevant candidate in column 0, the sampled ones after it.
        ks: ranks counted, each at least 1.
        valid_BL: False for candidates to ignore, such as padding or the relevant item sampled among the others.

    Raises:
        ValueError: mismatched shapes, a NaN, a k below 1, or a row whose column 0 is not valid.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.metrics.sampled import sampled_ranking_metrics
        >>> sampled_ranking_metrics(np.array([[0.5, 0.9, 0.1], [0.8, 0.2, 0.3]]), [1, 2])["sampled_hit_rate@1"]
        array([0., 1.])
    """
    scores_BL = np.asarray(scores_BL, np.float64)
    valid_BL = np.ones(scores_BL.shape, bool) if valid_BL is None else np.asarray(valid_BL, bool)
    if scores_BL.ndim != 2 or valid_BL.shape != scores_BL.shape or not scores_BL.shape[1]:
        raise ValueError(f"scores and valid must both be [B, L], got shapes {scores_BL.shape} and {valid_BL.shape}")
    if not valid_BL[:, 0].all() or np.isnan(scores_BL[valid_BL]).any():
        raise ValueError("column 0 must hold the relevant candidate of each row, and scores must not be NaN")
    above_B = (valid_BL & (scores_BL > scores_BL[:, :1])).sum(axis=1)
    among_B = (valid_BL & (scores_BL == scores_BL[:, :1])).sum(axis=1)  # including itself
    ranks_L = np.arange(1, scores_BL.shape[1] + 1)
    columns = {}
    for k in ks:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        for name, worth_L in (("hit_rate", 1.0 * (ranks_L <= k)), ("ndcg", (ranks_L <= k) / np.log2(ranks_L + 1))):
            total = np.concatenate(
                [[0.0], np.cumsum(worth_L)]
            )  # over ranks 1..r; its possible ranks are above + 1 .. above + among
            columns[f"sampled_{name}@{k}"] = (total[above_B + among_B] - total[above_B]) / among_B
    return columns
