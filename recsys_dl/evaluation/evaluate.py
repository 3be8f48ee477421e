"""A recommender and a split become figures over the whole catalog, with intervals and conventions.

B users of a block, U test users, I items, K list, P pairs, D vector size.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.relevance import relevant_items
from recsys_dl.metrics import ranking
from recsys_dl.metrics.intervals import check_resampling
from recsys_dl.metrics.rating import errors_per_user
from recsys_dl.metrics.sampled import TIES
from recsys_dl.progress import track
from recsys_dl.protocols import Ranking, Recommender

from . import ties
from .approximate import beside_exact
from .beyond import BeyondAccuracy
from .finite import check_finite, check_lists
from .notes import mostly_excluded, trained_otherwise, unreachable
from .scorecard import Evaluation

log = logging.getLogger(__name__)

BEYOND_METRICS = ("coverage", "gini", "novelty", "diversity", "popularity_lift")
RATING_METRICS = ("rmse", "mae")
METRICS = (*ranking.METRICS, *BEYOND_METRICS, *RATING_METRICS)
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
    are stands among the conventions.

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
    profiles = (known if histories is None else histories).by_user[users]
    beyond = BeyondAccuracy([name for name in names if name in BEYOND_METRICS], ks, known, profiles, item_vectors_ID)
    accuracy = [name for name in names if name in ranking.METRICS]
    parts: list[dict[str, np.ndarray]] = []
    flat: list[np.ndarray] = []
    unknown_I = known.item_counts_I == 0
    shown_unknown = found_unknown = False

    def ask_of(one: Recommender, at_B: np.ndarray, length: int) -> Ranking:
        return answer(one, *questions.request(users[at_B]), length)

    ask = partial(ask_of, model)

    size = block_size(memory, known.num_items, ks[-1])
    if accuracy or beyond.names:
        check_finite(model, users, users if histories is None else histories.of_users(users), known.num_items)
    # One more item shows whether a tie continues; a pipeline's lists depend on their length, so its stages are used instead.
    length = ks[-1] if getattr(model, "staged", False) else min(ks[-1] + 1, known.num_items)
    for block in track(blocks(len(users), size) if accuracy or beyond.names else [], "evaluate"):
        at_B = np.arange(block.start, block.stop)
        first = ask(at_B, length)
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
    if flat and np.concatenate(flat).all():
        log.warning(
            "%s gives all items of a list the same score, for each of %d users: it does not rank, and its figures are those of a random ranking",
            type(model).__name__,
            len(users),
        )
    per_user = {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())}
    weights = beyond.weights()
    num_excluded = _num_excluded(relevant, left_out.by_user[users], profiles)
    notes = [*trained_otherwise(model, known), *mostly_excluded(relevant, num_excluded)]
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
            + (["more"] if more else [])
        ),
        "excluded_test_items": num_excluded,
        "gains": gains,
        "ties": TIES,
        "users": len(users),
        "blank_users": f"{blank_users.replace('_', ' ')} ({questions.num_blank:,})",
        "data": _digest(
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
    )


@dataclass(frozen=True, eq=False)
class Questions:
    """The queries and ground truth of an evaluation.

    Attributes:
        known: the training interactions.
        asked: test interactions.
        more: further interactions to exclude from lists, or None.
        seen_only: other interactions of train's users, or None.
        histories: from which users are folded in, or None.
        left_out: `known`, `seen_only` and `more`.
        users: rows of the test users, ascending.
        relevant: CSR [U, I] of grades, 0 for items that are not relevant.
        num_blank: number of test users without a relevant item.
        rule: the relevance rule, in words.
    """

    known: Interactions
    asked: Interactions
    more: Interactions | None
    seen_only: Interactions | None
    histories: Interactions | None
    left_out: Interactions
    users: np.ndarray
    relevant: sp.csr_matrix
    num_blank: int
    rule: str

    @classmethod
    def of(
        cls,
        model: Recommender,
        train: Dataset | Interactions,
        test: Dataset | Interactions,
        exclude: Dataset | Interactions | None,
        relevant_from: float | None = None,
    ) -> Questions:
        """Build the queries of `evaluate` from its arguments.

        Raises:
            ValueError: rows of different logs, or nothing to evaluate.
        """
        known, asked = as_interactions(train), _beside(train, test, "test")
        if exclude is not None:
            _beside(train, exclude, "exclude")
        more = None if exclude is None or exclude is train or exclude is known else seen_of(exclude)
        seen_only = train.seen_only if isinstance(train, Dataset) else None
        check_numbering(train, getattr(model, "users", None), getattr(model, "items", None))
        if (fitted := getattr(model, "num_items", None)) is not None and fitted != known.num_items:
            raise ValueError(
                f"train must be over the {fitted:,} items that {type(model).__name__} was fitted on, got {known.num_items:,}; split one "
                "log, fit on its train part and evaluate with that"
            )
        users = np.unique(asked.users_N)
        if not len(users):
            raise ValueError("evaluation needs a test interaction, got an empty test; check how the log was split")
        relevant, rule = relevant_items(test, known, relevant_from)
        relevant = relevant[users]
        num_blank = len(users) - len(np.unique((relevant > 0).nonzero()[0]))
        histories = test.histories if isinstance(test, Dataset) else None
        left_out = seen_of(train) if more is None else Interactions.concat([seen_of(train), more])
        return cls(known, asked, more, seen_only, histories, left_out, users, relevant, num_blank, rule)

    def request(self, users_B: np.ndarray) -> tuple[np.ndarray | Interactions, Interactions]:
        """Return these users, as rows or as histories to fold in, and the interactions excluded from their lists."""
        if self.histories is None:
            return users_B, self.left_out
        mine = self.histories.of_users(users_B)
        return mine, Interactions.concat([mine, self.left_out.of_users(users_B)])


def answer(model: Recommender, users: np.ndarray | Interactions, unwanted: Interactions, k: int) -> Ranking:
    """Return the model's answer to a request."""
    state = model.fold_in(users) if isinstance(users, Interactions) else users
    return model.recommend(state, k, exclude=unwanted)


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


def _beside(train: Dataset | Interactions, other: Dataset | Interactions, noun: str) -> Interactions:
    """Return the interactions of `other`, which must be over the rows of train."""
    known, given = as_interactions(train), as_interactions(other)
    shapes = [(part.num_users, part.num_items) for part in (known, given)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{noun} must be over the rows of train, {shapes[0][0]} users x {shapes[0][1]} items, got {shapes[1][0]} x "
            f"{shapes[1][1]}. Split one log, or set num_users and num_items for both."
        )
    if isinstance(train, Dataset) and isinstance(other, Dataset):
        for name, one, two in (("user", train.users, other.users), ("item", train.items, other.items)):
            if one is not two and one.content_hash != two.content_hash:
                raise ValueError(f"{noun} must have the same {name}s in the same rows as train; split one log")
    return given


def _why_not_rated(
    model: Recommender, known: Interactions, asked: Interactions, test: Dataset | Interactions, histories: Any
) -> str | None:
    """Return why there are no rating errors; None if there are."""
    if histories is not None:
        return "and test users are given by histories"
    if not callable(getattr(model, "predict", None)):
        return f"and {type(model).__name__} has no predict()"
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
    parts = [
        model.predict(asked.users_N[block], asked.items_N[block])  # type: ignore[attr-defined]
        for block in track(blocks(len(asked), PAIRS_AT_ONCE), "predict ratings")
    ]
    ratings_N = np.concatenate(parts)
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


def _num_excluded(relevant: sp.csr_matrix, *unwanted: sp.csr_matrix) -> int:
    """Return how many relevant items are excluded from lists."""
    out = sum((_pattern(matrix) for matrix in unwanted[1:]), start=_pattern(unwanted[0]))
    return int((relevant > 0).multiply(out).nnz)


def _pattern(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return ones wherever the matrix stores an entry, including weights of 0."""
    return sp.csr_matrix((np.ones(matrix.nnz, np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)


def _digest(*parts: Interactions | None, graded: bool) -> str:
    """Return an order-independent hash of each part's interactions, including grades if gains depend on them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"-")
        if part is not None:
            matrix = part.by_user
            weights = matrix.data if graded else matrix.data > 0
            digest.update(repr(matrix.shape).encode())
            for array in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), weights):
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
