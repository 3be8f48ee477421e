"""Correcting position bias: clicks show what was examined and liked, not everything that is liked.

Position-based model: a document at rank k is examined with probability p_k (its propensity), and clicked if examined and liked.
N documents shown, K ranks.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from recsys_dl.data.groups import Groups


def per_click(groups: Groups, propensities_K: Sequence[float] | np.ndarray) -> Groups:
    """Return one group per click, in which only the clicked document is relevant, weighted by 1 / propensity of its rank.

    Summed over clicks, a ranker's loss on these groups is an unbiased estimate of its loss summed over the relevant documents,
    regardless of the order in which they were shown (Joachims, Swaminathan and Schnabel 2017, "Unbiased Learning-to-Rank with
    Biased Feedback", section 4; Agarwal et al. 2019, "A General Framework for Counterfactual Learning-to-Rank"). Groups
    without a click carry no information and are dropped; clicks on the same document of the same list become one group with
    their total weight. Weights are scaled to a mean of 1.

    Args:
        groups: one per session: labels above 0 are clicks, `positions_N` the ranks shown. Documents that were not shown
            (position 0) are kept as negatives.
        propensities_K: of ranks 1, 2, ...; above 0. Only their ratios matter. Clip those that are tiny or estimated
            from little data (`np.maximum(propensities, 0.05)`): a little bias for much less variance.

    Raises:
        ValueError: no positions, no clicks, or a click on a document that was not shown or at a rank without a propensity.
    """
    propensities = np.asarray(propensities_K, np.float64)
    if propensities.ndim != 1 or not propensities.size or not (np.isfinite(propensities) & (propensities > 0)).all():
        raise ValueError(f"propensities must be numbers above 0, one per rank, got {propensities.tolist()}")
    if groups.positions_N is None:
        raise ValueError("propensities correct clicks at logged positions, but these groups have none; set positions_N")
    clicks = np.flatnonzero(groups.labels_N > 0)
    if not clicks.size:
        raise ValueError("correcting clicks needs at least one, got none (all labels are 0)")
    ranks = groups.positions_N[clicks]
    if ranks.min() < 1 or ranks.max() > len(propensities):
        bad = ranks.min() if ranks.min() < 1 else ranks.max()
        raise ValueError(f"clicks must be at ranks 1 to {len(propensities)}, which have propensities, got one at {bad}")
    weights = 1 / propensities[ranks - 1]
    if groups.weights_N is not None:
        weights = weights * groups.weights_N[clicks]
    twins_Q = _first_alike(groups)
    owners = groups.owners_N[clicks]
    clicked = twins_Q[owners] * (int(groups.sizes_Q.max()) + 1) + clicks - groups.starts_Q[owners]
    _, first, merged = np.unique(clicked, return_index=True, return_inverse=True)
    together = np.bincount(merged, weights=weights)
    clicks, owners = clicks[first], owners[first]
    rows_BL, valid_BL = groups.places(owners)
    rows, sizes = rows_BL[valid_BL], groups.sizes_Q[owners]
    return Groups(
        groups.features_NF[rows],
        (rows_BL == clicks[:, None])[valid_BL].astype(np.float32),
        sizes,
        group_ids=[f"{groups.group_ids[q]} click {row}" for q, row in zip(owners, clicks, strict=True)],
        names=groups.names,
        weights_N=np.repeat(together / together.mean(), sizes),
    )


def _first_alike(groups: Groups) -> np.ndarray:
    """Return int64 [Q]: the first group with exactly the same documents as each."""
    first: dict[bytes, int] = {}
    bounds = groups.starts_Q
    return np.array(
        [first.setdefault(groups.features_NF[bounds[q] : bounds[q + 1]].tobytes(), q) for q in range(len(groups))]
    )


def randomized_propensities(positions_N: Any, clicks_N: Any) -> np.ndarray:
    """Return float64 [K], the first 1: propensities from lists that were shown in random order.

    Documents are then equally relevant at every rank on average, so that the click rate is proportional to the propensity
    (Joachims et al. 2017, section 5.2).

    Args:
        positions_N: rank of each document shown, from 1.
        clicks_N: above 0 where it was clicked.

    Raises:
        ValueError: a rank that was never shown, or never clicked.
    """
    positions, clicks = _shown(positions_N, clicks_N)
    shown_K = np.bincount(positions)[1:]
    clicked_K = np.bincount(positions, weights=clicks)[1:]
    if (clicked_K == 0).any():
        rank = int((clicked_K == 0).argmax()) + 1
        raise ValueError(
            f"every rank up to {len(shown_K)} needs a click, got none at rank {rank}; log more, or truncate the lists there"
        )
    rates_K = clicked_K / shown_K
    return rates_K / rates_K[0]


def harvested_propensities(documents_N: Any, positions_N: Any, clicks_N: Any) -> np.ndarray:
    """Return float64 [K], the first 1: propensities from documents that were shown at several ranks.

    A query's document is equally relevant at ranks k and l, so if both were logged (by two rankers, an A/B test, or
    deliberate swaps) its clicks determine the ratio of propensities. All pairs of ranks are fitted together by maximum likelihood (Agarwal et
    al. 2019, "Estimating Position Bias without Intrusive Interventions", section 5.3, the all-pairs estimator). The choice of
    ranker must not depend on the user.

    Args:
        documents_N: integers, the same for the same document of the same query.
        positions_N: rank at which it was shown, from 1.
        clicks_N: above 0 where it was clicked.

    Raises:
        ValueError: a rank that no chain of such documents connects to rank 1, or without a click.
    """
    positions, clicks = _shown(positions_N, clicks_N)
    documents = np.asarray(documents_N)
    if documents.shape != positions.shape:
        raise ValueError(f"documents must be one for each of {len(positions)} shown, got shape {documents.shape}")
    num_ranks = int(positions.max())
    _, documents = np.unique(documents, return_inverse=True)
    cells, cell_of = np.unique(documents * (num_ranks + 1) + positions, return_inverse=True)
    rate_C = np.bincount(cell_of, weights=clicks) / np.bincount(cell_of)
    owner_C, rank_C = np.divmod(cells, num_ranks + 1)
    rank_C = rank_C - 1
    clicked_KK, passed_KK = np.zeros((num_ranks, num_ranks)), np.zeros((num_ranks, num_ranks))
    starts = np.flatnonzero(np.diff(owner_C, prepend=-1, append=-1))
    for start, end in itertools.pairwise(starts):  # [k, l]: at rank k, of documents that were also shown at l
        ranks, rates = rank_C[start:end], rate_C[start:end]
        clicked_KK[np.ix_(ranks, ranks)] += rates[:, None]
        passed_KK[np.ix_(ranks, ranks)] += 1 - rates[:, None]
    for matrix in (clicked_KK, passed_KK):
        np.fill_diagonal(matrix, 0)
    _check_linked(clicked_KK, clicked_KK + passed_KK)
    return _all_pairs(clicked_KK, passed_KK)


def _all_pairs(clicked_KK: np.ndarray, passed_KK: np.ndarray) -> np.ndarray:
    """Maximize sum over k != l of clicked[k, l] log(p_k r_kl) + passed[k, l] log(1 - p_k r_kl), r symmetric."""
    size = len(clicked_KK)
    upper = np.triu_indices(size, 1)

    def split(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        relevance_KK = np.zeros((size, size))
        relevance_KK[upper] = parameters[size:]
        return parameters[:size], relevance_KK + relevance_KK.T

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logit_K, logit_KK = split(parameters)
        p_K, r_KK = 1 / (1 + np.exp(-logit_K)), 1 / (1 + np.exp(-logit_KK))
        seen_KK = np.minimum(p_K[:, None] * r_KK, 1 - 1e-12)
        value = -(clicked_KK * np.log(seen_KK) + passed_KK * np.log1p(-seen_KK)).sum()
        by_log_KK = -clicked_KK + passed_KK * seen_KK / (1 - seen_KK)  # derivative with respect to log(p_k r_kl)
        slope_K = (by_log_KK.sum(axis=1)) * (1 - p_K)
        slope_KK = by_log_KK * (1 - r_KK)
        return value, np.concatenate([slope_K, (slope_KK + slope_KK.T)[upper]])

    start = np.zeros(size + len(upper[0]))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(-20, 20)] * len(start), options={"maxiter": 2000}
    )
    logit_K, _ = split(found.x)
    p_K = 1 / (1 + np.exp(-logit_K))
    return p_K / p_K[0]


def _check_linked(clicked_KK: np.ndarray, shown_KK: np.ndarray) -> None:
    linked = (clicked_KK > 0) & (clicked_KK.T > 0)
    reached = np.zeros(len(linked), bool)
    reached[0] = True
    for _ in range(len(linked)):
        reached |= linked[reached].any(axis=0)
    if not reached.all():
        rank = int((~reached).argmax()) + 1
        raise ValueError(
            f"every rank must share clicked documents with others, up to rank 1, but rank {rank} of {len(linked)} does not "
            f"(documents shown there and elsewhere: {shown_KK[rank - 1].sum():.0f}); log several rankers or swaps, or cut the "
            "lists there"
        )


def _shown(positions_N: Any, clicks_N: Any) -> tuple[np.ndarray, np.ndarray]:
    positions, clicks = np.asarray(positions_N), np.asarray(clicks_N) > 0
    if positions.shape != clicks.shape or positions.ndim != 1 or not positions.size:
        raise ValueError(
            f"positions and clicks must be one per document shown, got {positions.shape} and {clicks.shape}"
        )
    if not np.issubdtype(positions.dtype, np.integer) or positions.min() < 1:
        raise ValueError(f"positions must be ranks from 1, got {positions.dtype} from {positions.min()}")
    return positions, clicks.astype(np.float64)
