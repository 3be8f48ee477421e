"""Metrics as if every relevant item had been equally likely to be observed, beside those of what was observed.

U test users, I items, K list, B users of a block, N test pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.arguments import NotNegative, Seed, checked
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.metrics.intervals import check_resampling
from recsys_dl.metrics.off_policy import effective_sample_size
from recsys_dl.protocols import Recommender

from .evaluate import block_size, blocks, lengths
from .notes import trained_otherwise
from .questions import Questions, answer
from .scorecard import Evaluation

FEW = 100  # effective test pairs below which figures are doubtful


@checked
def evaluate_counterfactual(
    model: Recommender,
    train: Dataset | Interactions,
    test: Dataset | Interactions,
    *,
    k: int | Sequence[int] = 10,
    propensities: Any = None,
    power: NotNegative = 0.5,
    clip: float = 0.0,
    exclude: Dataset | Interactions | None = None,
    relevant_from: float | None = None,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: Seed = 0,
) -> Evaluation:
    """Return recall and DCG over observed test pairs, and over all relevant pairs, estimated by inverse propensities.

    Test interactions are not a random sample of what users like: popular items are seen more often. If a relevant pair (u, i) is
    observed with probability p_ui, then the sum over observed pairs of gain / p_ui estimates that over all relevant pairs without bias (Schnabel et
    al. 2016, "Recommendations as Treatments", section 3; Yang et al. 2018, "Unbiased Offline Recommender Evaluation for Missing-Not-At-Random
    Implicit Feedback"; Saito et al. 2020, "Unbiased Recommender Learning from Missing-Not-At-Random Implicit Feedback"). The figures
    are self-normalized: that sum over the sum of 1 / p_ui, a mean over relevant pairs, for which only ratios of propensities matter. It is
    consistent, with a bias of order 1 / pairs.

    NDCG is left out: its ideal depends on how many items are relevant to each user, which is not observed, and is not linear in that number, so
    that an estimate of the number gives a biased ideal for any number of users. The ideal is the same for all models, which DCG compares.

    What must hold: every relevant pair could have been observed (p > 0), independently of others, and the propensities are right. Those from
    popularity are an assumption: p_i is proportional to ((interactions in train + 1) / (most + 1))^power.

    Args:
        model: fitted on `train`.
        train: as in `evaluate`.
        test: likewise.
        k: list length or lengths.
        propensities: of each item [I], or of pairs, a sparse matrix [U, I] with an entry at every relevant test pair; None: from popularity.
        power: of popularity; 0.5 as in Saito et al. 2020; 0 makes all items equal, and both figures too.
        clip: propensities below are raised to it: bias for less variance.
        exclude: as in `evaluate`.
        relevant_from: likewise.
        confidence: of the intervals (bootstrap over users).
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        recall@k and dcg@k (mean over observed pairs of 1 / log2(rank + 1) within k), unbiased_recall@k and unbiased_dcg@k.

    Raises:
        ValueError: as in `evaluate`; propensities of zero, above one or not finite, or none for a relevant test pair.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.evaluation import evaluate_counterfactual
        >>> from recsys_dl.models import Popularity
        >>> train = Interactions([0, 1, 2, 3], [0, 0, 0, 1], num_users=4, num_items=3)
        >>> test = Interactions([0, 3], [1, 0], num_users=4, num_items=3)
        >>> found = evaluate_counterfactual(Popularity().fit(train), train, test, k=1, propensities=[1.0, 0.25, 0.25])
        >>> found.values["recall@1"], found.values["unbiased_recall@1"]
        (1.0, 1.0)
    """
    check_resampling(confidence, num_resamples)
    questions = Questions.of(model, train, test, exclude, relevant_from)
    known, users = questions.known, questions.users
    ks = lengths(k, known.num_items)
    relevant = (questions.relevant > 0).astype(np.float64).tocsr()
    if not relevant.nnz:
        raise ValueError("no test interaction is relevant, so there is nothing to average; lower relevant_from")
    inverse, how = _inverse(propensities, relevant, users, known, power, clip)
    figures = {"recall": relevant, "dcg": relevant, "unbiased_recall": inverse, "unbiased_dcg": inverse}
    gained = {f"{name}@{n}": np.zeros(len(users)) for name in figures for n in ks}
    for block in blocks(len(users), block_size("1GiB", known.num_items, ks[-1])):
        items_BK = answer(model, *questions.request(users[block]), ks[-1]).items_BK
        for matrix, names in ((relevant, ("recall", "dcg")), (inverse, ("unbiased_recall", "unbiased_dcg"))):
            weights_BK = _entries(matrix[block], items_BK)
            discounted_BK = weights_BK / np.log2(np.arange(2, items_BK.shape[1] + 2))
            for name, terms_BK in zip(names, (weights_BK, discounted_BK), strict=True):
                for n in ks:
                    gained[f"{name}@{n}"][block] = terms_BK[:, :n].sum(axis=1)
    totals = {name: np.asarray(matrix.sum(axis=1)).ravel() for name, matrix in figures.items()}
    per_user, weights = {}, {}
    for name, sums_U in gained.items():
        weights[name] = totals[name.partition("@")[0]]
        per_user[name] = np.divide(sums_U, weights[name], out=np.full(len(users), np.nan), where=weights[name] > 0)
    effective = effective_sample_size(inverse.data)
    notes = trained_otherwise(model, questions)
    if effective < FEW:
        notes.append(
            f"the effective number of test pairs is {effective:.0f} of {inverse.nnz:,}: the unbiased figures rest on few; "
            "clip, or test more"
        )
    return Evaluation.measured(
        users,
        per_user,
        weights=weights,
        figures={},
        order=list(per_user),
        conventions={
            "means": "over relevant test pairs",
            "relevant": questions.rule,
            "candidates": f"all {known.num_items:,} items",
            "propensities": how,
            "effective_test_pairs": f"{effective:,.0f} of {inverse.nnz:,}",
            "largest_weight": f"{inverse.data.max() / inverse.data.mean():.3g} x the mean",
            "ties": "as listed",
            "users": len(users),
        },
        notes=notes,
        k=ks,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
    )


def popularity_propensities(train: Interactions, power: float = 0.5) -> np.ndarray:
    """Return float64 [I] in (0, 1]: ((interactions + 1) / (most + 1))^power, the propensities assumed of items by popularity.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.evaluation import popularity_propensities
        >>> popularity_propensities(Interactions([0, 1, 2], [0, 0, 0], num_items=2))
        array([1. , 0.5])
    """
    counts_I = train.item_counts_I.astype(np.float64)
    return np.asarray(((counts_I + 1) / (counts_I.max() + 1)) ** power)


def _inverse(
    propensities: Any, relevant: sp.csr_matrix, users: np.ndarray, known: Interactions, power: float, clip: float
) -> tuple[sp.csr_matrix, str]:
    """Return CSR [U, I]: 1 / propensity at each relevant pair, and where the propensities are from."""
    owners_N = np.repeat(np.arange(len(users)), np.diff(relevant.indptr))
    items_N = relevant.indices
    if propensities is None:
        found_N, how = popularity_propensities(known, power)[items_N], f"popularity to the power of {power:g}"
    elif sp.issparse(propensities):
        if propensities.shape != (known.num_users, known.num_items):
            raise ValueError(
                f"propensities of pairs must be a matrix of {known.num_users} users x {known.num_items} items, got {propensities.shape}"
            )
        found_N, how = np.asarray(propensities.tocsr()[users[owners_N], items_N]).ravel(), "given for pairs"
    else:
        try:
            given_I = np.asarray(propensities, np.float64)
        except (TypeError, ValueError):
            raise ValueError(
                f"propensities must be numbers, one for each of {known.num_items} items, or a sparse matrix of pairs, got "
                f"{type(propensities).__name__}"
            ) from None
        if given_I.shape != (known.num_items,):
            raise ValueError(f"propensities must be one for each of {known.num_items} items, got {given_I.shape}")
        found_N, how = given_I[items_N], "given for items"
    wrong_N = ~((found_N > 0) & (found_N <= 1))
    if wrong_N.any():
        at = int(wrong_N.argmax())
        raise ValueError(
            f"propensities must be above 0 and at most 1 at every relevant test pair, got {found_N[at]} for user row {users[owners_N[at]]} and "
            f"item row {items_N[at]} ({int(wrong_N.sum()):,} of {len(wrong_N):,}): a pair that could not be observed was"
        )
    if not 0 <= clip < 1:
        raise ValueError(f"clip must be at least 0 and below 1, got {clip}")
    how += f", at least {clip:g}" if clip else ""
    data = 1 / np.maximum(found_N, clip)
    return sp.csr_matrix((data, items_N.copy(), relevant.indptr.copy()), shape=relevant.shape), how


def _entries(matrix: sp.csr_matrix, items_BK: np.ndarray) -> np.ndarray:
    """Return float64 [B, K]: the entry of each listed item, 0 at padding."""
    rows_BK = np.broadcast_to(np.arange(len(items_BK))[:, None], items_BK.shape)
    found = np.asarray(matrix[rows_BK.ravel(), np.maximum(items_BK, 0).ravel()]).reshape(items_BK.shape)
    return np.where(items_BK >= 0, found, 0.0)
