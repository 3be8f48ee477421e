"""Clicks simulated from known grades, so that the true position bias to correct for is known.

S sessions; the rest as in `groups`.
"""

from __future__ import annotations

import numpy as np

from .groups import Groups


def simulate_clicks(
    groups: Groups,
    shown_by_N: np.ndarray,
    *,
    num_sessions: int,
    severity: float = 1.0,
    noise: float = 0.1,
    swap: bool = False,
    seed: int = 0,
) -> Groups:
    """Return one group per session, labels 1 where a document was clicked, with the ranks at which documents were shown.

    Position-based model: the document at rank k is examined with probability (1 / k)^severity; an examined one is clicked with
    probability noise + (1 - noise) (2^g - 1) / (2^G - 1), with g its grade and G the highest grade (as Ai et al. 2018, "Unbiased Learning
    to Rank with Unbiased Propensity Estimation", section 5.1).

    Args:
        groups: with their true grades.
        shown_by_N: logging scores: each group is shown in descending order of these.
        num_sessions: sessions per group.
        severity: exponent of the position bias; 0 means every document is examined.
        noise: probability of a click on an irrelevant document, once examined.
        swap: in each session the first document is swapped with one at a random rank (Joachims et al. 2017, section 5.2),
            so that propensities can be estimated by intervention harvesting.
        seed: for clicks and swaps.

    Returns:
        Groups named "query/session", the documents of each in the order of `groups`; `positions_N` from 1.

    Raises:
        ValueError: shares outside [0, 1], or no relevant document.
    """
    highest = float(groups.labels_N.max(initial=0))
    if not 0 <= noise <= 1 or severity < 0 or num_sessions < 1 or not highest:
        raise ValueError(
            "clicks need noise in [0, 1], severity of at least 0, a session and a grade above 0, got "
            f"noise={noise}, severity={severity}, num_sessions={num_sessions}, highest grade {highest:g}"
        )
    rng = np.random.default_rng(seed)
    order = np.lexsort((-np.asarray(shown_by_N, np.float64), groups.owners_N))
    ranks_N = np.empty(groups.num_documents, np.int64)
    ranks_N[order] = np.arange(groups.num_documents) - np.repeat(groups.starts_Q[:-1], groups.sizes_Q) + 1
    sessions_S = np.repeat(np.arange(len(groups)), num_sessions)
    rows_SL, valid_SL = groups.places(sessions_S)
    ranks_SL = np.where(valid_SL, ranks_N[rows_SL], 0)
    if swap:
        partner_S = rng.integers(1, groups.sizes_Q[sessions_S] + 1)
        first_SL, other_SL = ranks_SL == 1, ranks_SL == partner_S[:, None]
        ranks_SL = np.where(first_SL, partner_S[:, None], np.where(other_SL, 1, ranks_SL))
    liked_N = noise + (1 - noise) * (np.exp2(groups.labels_N) - 1) / (np.exp2(highest) - 1)
    examined_SL = np.maximum(ranks_SL, 1.0) ** -severity
    clicks_SL = rng.random(rows_SL.shape) < examined_SL * liked_N[rows_SL]
    rows = rows_SL[valid_SL]
    return Groups(
        groups.features_NF[rows],
        clicks_SL[valid_SL].astype(np.float32),
        groups.sizes_Q[sessions_S],
        group_ids=[f"{groups.group_ids[q]}/{s % num_sessions}" for s, q in enumerate(sessions_S)],
        names=groups.names,
        positions_N=ranks_SL[valid_SL],
    )
