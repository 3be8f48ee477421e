"""Which items to show a new user first, so that the answers teach most about them. U users, I items, K shown, D vector size."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from recsys_dl.arguments import Count, Seed, checked
from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.messages import shorten
from recsys_dl.evaluation import Evaluation
from recsys_dl.evaluation.questions import check_rows
from recsys_dl.protocols import Recommender

from .clicks import folded_from, histories_of

By = Literal["information", "helf", "popularity_entropy", "popularity", "random"]
SAMPLED = 20_000  # training users, at most, whose vectors are the prior


@checked
def interview_items(
    train: Dataset | Interactions, k: Count, *, by: By = "information", model: Any = None, seed: Seed = 7
) -> np.ndarray:
    """Return int32 [K]: the items to show every new user, in order of choice.

    With p the share of training users who interacted with an item, and H the entropy of its ratings in bits:

    - "popularity": the largest p.
    - "popularity_entropy": the largest log(number of users) * H (Rashid et al. 2002, "Getting to Know You", section 3).
    - "helf": the largest harmonic mean of log(number of users) / log(U) and H / log(number of rating levels) (Rashid, Karypis, Riedl 2008, "Learning
      Preferences of New Users in Recommender Systems").
    - "information": a user's vector is Gaussian with the mean and covariance of the training users' vectors, and an answer observes its product with the item's vector under
      noise as large as such products vary. Each step takes the item that reduces most the variance of all scores around their mean, weighted by p, times
      the chance p that the user knows it at all; items like those chosen already add little.
    - "random": items with an interaction, all alike.

    Args:
        train: what the model was fitted on; with ratings as weights for the two that need entropy.
        k: items to show.
        by: how they are chosen.
        model: fitted on train, with vectors, such as ALS or BPR; "information" only.
        seed: for "random".

    Raises:
        ValueError: more items than train knows, a log without ratings for entropy, a model without vectors, or of other rows than train, for information.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.cold_start import interview_items
        >>> log = Interactions([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 2], [5, 5, 5, 1, 5, 3])  # all like item 0
        >>> interview_items(log, 1, by="popularity"), interview_items(log, 1, by="popularity_entropy")
        (array([0], dtype=int32), array([1], dtype=int32))
    """
    log = as_interactions(train)
    known = np.flatnonzero(log.item_counts_I)
    if k > len(known):
        raise ValueError(f"k must be at most the {len(known):,} items with an interaction in train, got {k}")
    if by == "random":
        return np.random.default_rng(seed).permutation(known)[:k].astype(np.int32)
    if by == "information":
        return _informative(train, k, model)
    counts_I = log.item_counts_I.astype(np.float64)
    if by == "popularity":
        worth_I = counts_I
    else:
        entropy_I, levels = _entropy(log, by)
        logs_I = np.log2(np.maximum(counts_I, 1))
        if by == "popularity_entropy":
            worth_I = logs_I * entropy_I
        else:
            often_I, mixed_I = logs_I / np.log2(max(2, log.num_users)), entropy_I / np.log2(levels)
            worth_I = 2 * often_I * mixed_I / np.maximum(often_I + mixed_I, 1e-12)
    worth_I = np.where(counts_I > 0, worth_I, -np.inf)
    return np.lexsort((-counts_I, -worth_I))[:k].astype(np.int32)


def answers(histories: Interactions, items: np.ndarray) -> Interactions:
    """Return what users answer who are shown items: their interactions with those of them that they know.

    Args:
        histories: of the users.
        items: rows of the items shown, in any order; none is an interview without questions.

    Raises:
        ValueError: items that are not rows of the histories' items.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.cold_start import answers
        >>> answers(Interactions([0, 0, 1], [3, 5, 4]), [5, 4]).items_N
        array([5, 4], dtype=int32)
    """
    return histories.select(np.isin(histories.items_N, _shown(items, histories.num_items)))


def judge_interview(model: Recommender, train: Dataset, test: Dataset, items: np.ndarray, **how: Any) -> Evaluation:
    """Return the evaluation of new users who are folded in from their answers to the items shown.

    A user knows a shown item if it is in `test.histories`. The relevant items, `test.interactions`, and the candidates, all items outside the
    histories, are the same whatever is shown, so that choices can be compared, user by user.

    Args:
        model: fitted on `train`, which has none of the test users (split=user).
        train: the training part.
        test: with histories.
        items: rows of the items shown.
        how: further arguments of `evaluate`, such as k.

    Raises:
        ValueError: a test part without histories, items that are not rows of train, or as in `evaluate`.

    Examples:
        >>> from recsys_dl.cold_start import interview_items, judge_interview
        >>> from recsys_dl.data.generated import generated
        >>> from recsys_dl.data.split import user_split
        >>> from recsys_dl.models import ItemKNN
        >>> train, _, test = user_split(generated(num_users=50, num_items=50, num_interactions=250), seed=7)
        >>> shown = interview_items(train, 3, by="popularity")
        >>> len(judge_interview(ItemKNN(device="cpu").fit(train), train, test, shown, k=10).users)
        5
    """
    return folded_from(model, train, test, answers(histories_of(test), items), **how)


def _shown(items: Any, num_items: int) -> np.ndarray:
    """Return item rows as an array.

    Raises:
        ValueError: they are not integers in one dimension, or one is out of range.
    """
    rows = np.asarray(items)
    if rows.ndim == 1 and not rows.size:
        return rows.astype(np.int64)
    if rows.ndim == 1 and np.issubdtype(rows.dtype, np.integer):
        bad = rows[(rows < 0) | (rows >= num_items)]
        if not bad.size:
            return rows
        got = str(bad[0])
    else:
        got = shorten(repr(items))
    raise ValueError(
        f"items must be rows of the items shown, integers in [0, {num_items:,}), got {got}; ids become rows through train.items.rows(ids)"
    )


def _entropy(log: Interactions, by: str) -> tuple[np.ndarray, int]:
    """Return the entropy of each item's ratings in bits, and the number of rating levels."""
    levels, level_N = np.unique(log.weights_N, return_inverse=True)
    if len(levels) < 2:
        raise ValueError(
            f"by={by!r} needs ratings, whose entropy it weighs, but all weights are {levels[0]:g}; use by='popularity' or 'information', or hand over the log "
            "before its ratings became binary"
        )
    counts_IL = np.zeros((log.num_items, len(levels)))
    np.add.at(counts_IL, (log.items_N, level_N), 1)
    share_IL = counts_IL / np.maximum(counts_IL.sum(axis=1, keepdims=True), 1)
    logs_IL = np.log2(np.where(share_IL > 0, share_IL, 1))
    return -(share_IL * logs_IL).sum(axis=1), len(levels)


def _informative(train: Dataset | Interactions, k: int, model: Any) -> np.ndarray:
    """Choose greedily by the reduction of the scores' variance."""
    log = as_interactions(train)
    vectors_ID = model.item_vectors() if hasattr(model, "item_vectors") else None
    if vectors_ID is None:
        name = "model=None" if model is None else type(model).__name__
        raise ValueError(
            f"by='information' needs a fitted model whose scores are products of vectors, such as ALS, got {name}"
        )
    check_rows(model, train, ("users", "items"))
    users = np.flatnonzero(log.user_counts_U)
    some = users[np.linspace(0, len(users) - 1, min(SAMPLED, len(users))).astype(np.int64)]
    covariance_DD = np.cov(model.query_vectors(some).T.astype(np.float64)).reshape(2 * vectors_ID.shape[1:])
    emb_ID = vectors_ID.astype(np.float64)
    known_I = log.item_counts_I / len(users)
    noise = float(known_I @ np.einsum("id,de,ie->i", emb_ID, covariance_DD, emb_ID) / known_I.sum())
    apart_ID = emb_ID - known_I @ emb_ID / known_I.sum()  # lists depend on how scores differ, not on their level
    weights_DD = apart_ID.T @ (known_I[:, None] * apart_ID)
    chosen: list[int] = []
    for _ in range(k):
        spread_ID = emb_ID @ covariance_DD
        variance_I = noise + (spread_ID * emb_ID).sum(axis=1)
        gain_I = known_I * ((spread_ID @ weights_DD) * spread_ID).sum(axis=1) / np.maximum(variance_I, 1e-30)
        gain_I[known_I == 0] = -np.inf
        gain_I[chosen] = -np.inf
        best = int(gain_I.argmax())
        chosen.append(best)
        covariance_DD = covariance_DD - np.outer(spread_ID[best], spread_ID[best]) / max(variance_I[best], 1e-30)
    return np.array(chosen, np.int32)
