"""What an approximate index loses: its lists beside those of exact search by the same model.

B users of a block, U test users compared, I items, K list.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.metrics.intervals import Sample, paired_differences
from recsys_dl.protocols import Ranking

from . import ties

COMPARED = 10_000  # test users, at most

AskModel = Callable[[Any, np.ndarray, int], Ranking]  # model, positions among the test users [B], length of list


def beside_exact(
    model: Any,
    ask: AskModel,
    relevant: sp.csr_matrix,
    per_user: Mapping[str, np.ndarray],
    k: int,
    *,
    length: int,
    size: int,
    confidence: float,
    how: Mapping[str, Any],
) -> list[str]:
    """Return a note of what share of exact search's lists is found, and of both NDCGs, where a model searches an index that misses some.

    Args:
        model: whose attribute `exact` is a recommender of the same scores that misses nothing; or has none, or None.
        ask: for a model's lists of test users.
        relevant: CSR [U, I] of grades.
        per_user: the metrics of each test user.
        k: length of list that is compared.
        length: of the lists that `per_user` was measured on, of which an index may find other ones than of shorter lists.
        size: users asked for at once.
        confidence: of the interval.
        how: conventions of NDCG.
    """
    exact, metric = getattr(model, "exact", None), f"ndcg@{k}"
    if exact is None:
        return []
    num_users, num_items = relevant.shape
    chosen = np.unique(np.linspace(0, num_users - 1, min(num_users, COMPARED)).astype(np.int64))
    shares, ndcg = [], []
    for start in range(0, len(chosen), size):
        at_B = chosen[start : start + size]
        whole, found = ask(exact, at_B, min(k + 1, num_items)), ask(model, at_B, length)
        shares.append(_found(found.items_BK[:, :k], whole.items_BK[:, :k]))
        judged = ties.accuracy(
            lambda at_B, length: ask(exact, at_B, length), whole, at_B, relevant[at_B], ["ndcg"], [k], **how
        )
        ndcg.append(judged[metric])
    mine, its = Sample(per_user[metric][chosen]), Sample(np.concatenate(ndcg))
    apart = paired_differences([mine], its, confidence=confidence)[0]
    some = "" if len(chosen) == num_users else f" ({len(chosen):,} of {num_users:,} users)"
    return [
        f"lists are found by {type(model.index).__name__}, an index that may miss items (asked for {length} at once): "
        f"{np.concatenate(shares).mean():.2%} of exact search's first {k} are among its first {k}, and NDCG@{k} is {mine.value:.4f} "
        f"beside {its.value:.4f} of exact search ({apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]){some}"
    ]


def _found(items_BK: np.ndarray, exact_BK: np.ndarray) -> np.ndarray:
    """Return float64 [B]: the share of each exact list that the other holds; 1 of an empty one."""
    hits_BK = (exact_BK[:, :, None] == items_BK[:, None, :]).any(axis=2) & (exact_BK >= 0)
    num_B = (exact_BK >= 0).sum(axis=1)
    return np.where(num_B > 0, hits_BK.sum(axis=1) / np.maximum(1, num_B), 1.0)
