"""A recommender and a split become figures over the whole catalog, with intervals and conventions.

B users of a block, U test users, I items, K list, P pairs, D vector size.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.metrics import ranking
from recsys_dl.metrics.intervals import check_resampling
from recsys_dl.metrics.rating import errors_per_user
from recsys_dl.metrics.sampled import TIES
from recsys_dl.names import without_predict
from recsys_dl.processes import current
from recsys_dl.progress import track
from recsys_dl.protocols import Ranking, Recommender

from . import ties
from .approximate import beside_exact
from .beyond import BeyondAccuracy
from .finite import check_finite, check_lists
from .notes import mostly_excluded, trained_otherwise, unreachable
from .questions import Questions, answer, count_excluded, digest_of
from .scorecard import OTHER_PARTS, Evaluation
from .segment_figures import SegmentFigures
from .segments import Segmentation

log = logging.getLogger(__name__)

BEYOND_METRICS = ("coverage", "gini", "novelty", "diversity", "popularity_lift")
RATING_METRICS = ("rmse", "mae")
METRICS = (*ranking.METRICS, *BEYOND_METRICS, *RATING_METRICS)
USERS_AT_ONCE = 1024  # at most, so that several processes judge the blocks that one does
PAIRS_AT_ONCE = 1 << 20  # of ratings predicted


def evaluate(
    model: Recommender,
    train: Dataset | Interactions,
    test: Dataset | Interactions,
    k: int | Sequence[int] = 10,
    *,
    metrics: Sequence[str] | None = None,
    exclude: Dataset | Interactions | None = None,
    relevant_from: float | None = None,
    gains: ranking.Gains = "binary",
    blank_users: ranking.BlankUsers = "left_out",
    item_vectors_ID: np.ndarray | None = None,
    segments: Segmentation | None = None,
    memory: str | int = "1GiB",
    confidence: float = 0.95,
    num_resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Return how well a fitted model recommends what test users did, over the whole catalog.

    Every user with a test interaction is asked for. Which test items are relevant says
    `relevant_from`; an item's weight is its grade. Of an item that a user comes to repeatedly, weights are averaged, counts summed. Where `test.histories` is given (strong generalization), users are folded in from it and their histories are left
    out of their lists; without it, a user with nothing in train gets the model's answer to the unknown. Items that only
    the test knows can be recommended and count as relevant. Test items that are excluded count as missed; how many there
    are stands among the conventions. Several processes (`recsys_dl.processes.together`) judge some users each; all return the figures of
    one process, exactly.

    Args:
        model: fitted on `train`.
        train: what the model was fitted on; all that users have `seen` by then is left out of the lists, and popularity is
            counted in the interactions.
        test: over the same user and item rows.
        k: list length or lengths.
        metrics: of precision, recall, hit_rate, map, mrr, ndcg (see `metrics.ranking`), coverage, gini, novelty, diversity,
            popularity_lift (`metrics.catalog`), rmse, mae. None means all except diversity, included if
            `item_vectors_ID` is given, and rmse and mae, included if the weights are ratings and the model has
            `predict(users_P, items_P)`. For a model that searches an approximate index, a note reports the loss.
        exclude: further interactions to exclude from lists, such as the validation part.
        relevant_from: minimum weight of a relevant test item, such as 4 of 5 stars; 0 takes every interaction, whether
            or not users liked it. None takes, for ratings (a Dataset's `weight_kind`), those in
            the upper third of the scale, and for other logs every interaction.
        gains: gain of a grade in NDCG: "binary", "linear", "exponential" (2^grade - 1).
        blank_users: how users without a relevant item count: "left_out", "zero", "one".
        item_vectors_ID: vectors for diversity; None uses shared users in train.
        segments: "cold" reports warm and cold users and items beside each other, and users by their number of known interactions, in
            `Evaluation.segments`; "user:COLUMN" and "item:COLUMN" those with each value of a feature of train. Several as a list; or a mapping of such names
            to labels, one per row, as `{"user:plan": plans}`. See docs/cold_start.md.
        memory: limit for one block of users, such as "512MiB" or bytes; determines the block size.
        confidence: of the intervals.
        num_resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: train, test or exclude over different rows, nothing to evaluate, k out of range, an unknown metric or
            convention, rating metrics although the model has no `predict` or there are no ratings.

    Examples:
        >>> from recsys_dl import Interactions, evaluate
        >>> from recsys_dl.models import Popularity
        >>> train = Interactions([0, 1, 1], [0, 0, 1], num_items=3)
        >>> test = Interactions([0], [1], num_users=2, num_items=3)
        >>> evaluate(Popularity().fit(train), train, test, k=2).values["ndcg@2"]
        1.0
    """
    ranking.check_conventions(gains, blank_users)
    check_resampling(confidence, num_resamples)
    questions = Questions.of(model, train, test, exclude, relevant_from)
    known, asked, more, histories = questions.known, questions.asked, questions.more, questions.histories
    users, relevant, left_out = questions.users, questions.relevant, questions.left_out
    ks = lengths(k, known.num_items)
    rateable = _why_not_rated(model, known, asked, test, histories)
    names = _names(metrics, with_vectors=item_vectors_ID is not None, why_not_rated=rateable)
    profiles = (known if histories is None else histories).by_user
    beyond_names = [name for name in names if name in BEYOND_METRICS]
    beyond = BeyondAccuracy(beyond_names, ks, known, profiles, users, item_vectors_ID)
    accuracy = [name for name in names if name in ranking.METRICS]
    parts: list[dict[str, np.ndarray]] = []
    flat: list[np.ndarray] = []
    unknown_I = known.item_counts_I == 0
    shown_unknown = found_unknown = False

    def ask_of(one: Recommender, at_B: np.ndarray, length: int, allow: np.ndarray | None = None) -> Ranking:
        return answer(one, *questions.request(users[at_B]), length, allow)

    ask = partial(ask_of, model)
    length = wide = ties.reach(model, ks[-1], known.num_items)
    parted = None
    if segments is not None:
        parted = SegmentFigures(segments, model, questions, train, ks, metrics, gains=gains, blank_users=blank_users)
        wide = max(length, parted.length)
    # where a list's beginning depends on its length, segments get lists of their own
    apart = wide > length and (getattr(model, "staged", False) or getattr(model, "exact", None) is not None)
    size = block_size(memory, known.num_items, ks[-1] if parted is None else max(ks[-1], parted.ks[-1]))
    if accuracy or beyond.names:
        check_finite(model, users, users if histories is None else histories.of_users(users), known.num_items)
    group = current()
    size = min(size, USERS_AT_ONCE)
    whole = blocks(len(users), size) if accuracy or beyond.names or parted else []
    for block in track(whole[group.rank :: group.size], "evaluate"):
        at_B = np.arange(block.start, block.stop)
        first = longer = ask(at_B, length if apart else wide)
        if wide > length and not apart:
            first = Ranking(longer.items_BK[:, :length], longer.scores_BK[:, :length])
        if parted is not None:
            parted.judge(at_B, ask(at_B, wide) if apart else longer, ask)
        check_lists(model, users[block], *questions.request(users[block]), first, known.num_items)
        items_BK = first.items_BK[:, : ks[-1]]
        rows_N, ranks_N = (unknown_I[items_BK] & (items_BK >= 0)).nonzero()
        if len(rows_N):
            shown_unknown = True
            found_unknown |= bool((np.asarray(relevant[block.start + rows_N, items_BK[rows_N, ranks_N]]) > 0).any())
        columns = beyond.per_user(items_BK, block)
        if accuracy:
            judged = ties.accuracy(
                ask, first, at_B, relevant[block], accuracy, ks, gains=gains, blank_users=blank_users
            )
            columns = judged | columns
        parts.append(columns)
        flat.append(ties.orders_nothing(first, ks[-1]))
    parts, flat = group.in_turn(parts, len(whole)), group.in_turn(flat, len(whole))
    shown_unknown, found_unknown = (any(group.gather(flag)) for flag in (shown_unknown, found_unknown))
    beyond.join(group)
    if parted is not None:
        parted.join(group)
    if flat and np.concatenate(flat).all():
        log.warning(
            "%s gives all items of a list the same score, for each of %d users: it does not rank, and its figures are those of a random ranking",
            type(model).__name__,
            len(users),
        )
    per_user = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    weights = beyond.weights()
    num_excluded = count_excluded(relevant, users, left_out.by_user, profiles)
    notes = [*trained_otherwise(model, questions), *mostly_excluded(relevant, num_excluded)]
    if accuracy and not found_unknown:
        notes += unreachable(model, relevant, unknown_I, shown=shown_unknown)
    if metrics is None:
        how = {"gains": gains, "blank_users": blank_users}
        sizes = {"length": length, "size": size}
        notes += beside_exact(model, ask_of, relevant, per_user, ks[0], **sizes, confidence=confidence, how=how)
    conventions = {
        "relevant": questions.rule,
        "candidates": f"all {known.num_items:,} items",
        "excluded": " and ".join(
            ["train"]
            + ([] if histories is None else ["histories"])
            + ([] if questions.seen_only is None else ["what else was seen"])
            + ([OTHER_PARTS] if more else [])
        ),
        "excluded_test_items": num_excluded,
        "gains": gains,
        "ties": TIES,
        "users": len(users),
        "blank_users": f"{blank_users.replace('_', ' ')} ({questions.num_blank:,})",
        "data": digest_of(
            *(known, asked, histories, more),
            *(() if questions.seen_only is None else (questions.seen_only,)),
            graded=gains != "binary",
        ),
    }
    if rated := [name for name in names if name in RATING_METRICS]:
        owner_N = np.searchsorted(users, asked.users_N)
        errors = errors_per_user(_predicted(model, asked), asked.weights_N, owner_N, len(users))
        per_user |= {name: errors[name] for name in rated}
        weights |= dict.fromkeys(rated, np.bincount(owner_N, minlength=len(users)).astype(np.float64))
        conventions["ratings"] = hashlib.sha256(asked.weights_N.tobytes()).hexdigest()[:16]
    return Evaluation.measured(
        users,
        per_user,
        weights=weights,
        figures=beyond.figures(),
        order=[name if name in RATING_METRICS else f"{name}@{n}" for name in names for n in ks],
        conventions=conventions,
        notes=notes,
        k=ks,
        confidence=confidence,
        num_resamples=num_resamples,
        seed=seed,
        segments=None
        if parted is None
        else parted.table(confidence=confidence, num_resamples=num_resamples, seed=seed),
    )


def lengths(k: int | Sequence[int], most: int) -> list[int]:
    """Return the distinct list lengths, ascending.

    Raises:
        ValueError: one is not an integer in [1, most], or there are none.
    """
    given: list = [k] if np.isscalar(k) else list(k)  # type: ignore[arg-type]
    bad = [n for n in given if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= most]
    if bad or not given:
        raise ValueError(f"k must be between 1 and the {most} items, got {bad[0] if bad else 'none'!r}")
    return sorted({int(n) for n in given})


def blocks(num_rows: int, size: int) -> list[slice]:
    """Return slices of at most `size` rows that cover all."""
    return [slice(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]


def _why_not_rated(
    model: Recommender, known: Interactions, asked: Interactions, test: Dataset | Interactions, histories: Any
) -> str | None:
    """Return why there are no rating errors; None if there are."""
    if histories is not None:
        return "and test users are given by histories"
    if not callable(getattr(model, "predict", None)):
        return f"and {without_predict(type(model).__name__)}"
    kind = test.weight_kind if isinstance(test, Dataset) else None
    least, most = (end(end(log.weights_N) for log in (known, asked) if len(log)) for end in (min, max))
    if kind == "counts" or (kind is None and least == most):
        return "and this log has none: its weights " + ("are counts" if kind else f"are all {least:g}")
    return None


def _names(metrics: Sequence[str] | None, *, with_vectors: bool, why_not_rated: str | None) -> list[str]:
    if metrics is None:
        unasked = {"diversity"} - ({"diversity"} if with_vectors else set())
        return [name for name in METRICS if name not in unasked and (not why_not_rated or name not in RATING_METRICS)]
    names = list(dict.fromkeys([metrics] if isinstance(metrics, str) else metrics))
    unknown = [name for name in names if name not in METRICS]
    if unknown or not names:
        raise ValueError(
            f"metrics must be among {', '.join(METRICS)}, got {unknown[0] if unknown else 'none'!r}; "
            "set the list length with k"
        )
    if why_not_rated and (rated := [name for name in names if name in RATING_METRICS]):
        raise ValueError(f"{rated[0]} compares predicted ratings with true ones, {why_not_rated}; leave it out")
    return names


def _predicted(model: Recommender, asked: Interactions) -> np.ndarray:
    """Return a predicted rating for each test interaction."""
    group, whole = current(), blocks(len(asked), PAIRS_AT_ONCE)
    parts = [
        model.predict(asked.users_N[block], asked.items_N[block])  # type: ignore[attr-defined]
        for block in track(whole[group.rank :: group.size], "predict ratings")
    ]
    ratings_N = np.concatenate(group.in_turn(parts, len(whole)))
    if (bad_N := ~np.isfinite(ratings_N)).any():
        raise ValueError(
            f"{type(model).__name__} predicts ratings that are NaN or infinite, {bad_N.sum():,} of {len(bad_N):,}, the first for user "
            f"row {asked.users_N[bad_N.argmax()]}, so it cannot be evaluated: lower its learning_rate and fit it again"
        )
    return ratings_N


def block_size(memory: str | int, num_items: int, k: int) -> int:
    """Return how many users fit: a model may hold two scores per item, and judging takes about 200 bytes per rank."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?)?B?\s*", str(memory), re.IGNORECASE)
    if not match:
        raise ValueError(f'memory must be bytes, or a size such as "512MiB", got {memory!r}')
    unit = 1 if match[2] is None else (1000 if len(match[2]) == 1 else 1024) ** ("KMGT".index(match[2][0].upper()) + 1)
    return max(1, int(float(match[1]) * unit) // (8 * num_items + 200 * k + 24 * k * k))
