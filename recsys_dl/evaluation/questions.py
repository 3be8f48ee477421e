"""The queries and ground truth of an evaluation: who is asked for, what is excluded from lists, which items are relevant.

B users of a block, U test users, I items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.blocks import blocks
from recsys_dl.data.dataset import Dataset, as_interactions, check_numbering, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.relevance import relevant_items
from recsys_dl.protocols import Ranking, Recommender

USERS = 1 << 14  # whose interactions are copied at once


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
            TypeError: the model is none.
            ValueError: rows of different logs, or nothing to evaluate.
        """
        if isinstance(model, type) or not hasattr(model, "recommend"):
            got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
            raise TypeError(f"model must be a fitted recommender, such as ALS().fit(train), got {got}")
        known, asked = as_interactions(train), _beside(train, test, "test")
        if exclude is not None:
            _beside(train, exclude, "exclude")
        more = None if exclude is None or exclude is train or exclude is known else seen_of(exclude)
        seen_only = train.seen_only if isinstance(train, Dataset) else None
        check_rows(model, train)
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


def answer(
    model: Recommender,
    users: np.ndarray | Interactions,
    unwanted: Interactions,
    k: int,
    allow: np.ndarray | None = None,
) -> Ranking:
    """Return the model's answer to a request; `allow`: the only items in it."""
    state = model.fold_in(users) if isinstance(users, Interactions) else users
    if allow is None:
        return model.recommend(state, k, exclude=unwanted)
    return model.recommend(state, k, exclude=unwanted, allow=allow)


def check_rows(model: Any, train: Dataset | Interactions, nouns: Sequence[str] = ("items",)) -> None:
    """Check that a log's rows are those that a model was fitted on.

    Args:
        model: fitted.
        train: the log.
        nouns: "users" and "items", of which there must be as many as the model was fitted on.

    Raises:
        ValueError: it numbers its ids differently, or has more or fewer of them.
    """
    check_numbering(train, getattr(model, "users", None), getattr(model, "items", None))
    for noun in nouns:
        fitted, given = getattr(model, f"num_{noun}", None), getattr(as_interactions(train), f"num_{noun}")
        if fitted is not None and fitted != given:
            raise ValueError(
                f"train must be over the {fitted:,} {noun} that {type(model).__name__} was fitted on, got {given:,}; split one "
                "log, fit on its train part, and hand over that part"
            )


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


def count_excluded(relevant: sp.csr_matrix, users: np.ndarray, *unwanted: sp.csr_matrix) -> int:
    """Return how many relevant items of the users, one row of `relevant` each, are excluded from lists."""
    count = 0
    for part in blocks(len(users), USERS):
        first, *others = (_pattern(matrix[users[part]]) for matrix in unwanted)
        count += int((relevant[part] > 0).multiply(sum(others, start=first)).nnz)
    return count


def _pattern(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return ones wherever the matrix stores an entry, including weights of 0."""
    return sp.csr_matrix((np.ones(matrix.nnz, np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)


def digest_of(*parts: Interactions | None, graded: bool) -> str:
    """Return an order-independent hash of each part's interactions, including grades if gains depend on them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"-")
        if part is not None:
            matrix = part.by_user
            weights = matrix.data if graded else matrix.data > 0
            digest.update(repr(matrix.shape).encode())
            for array in (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32, copy=False), weights):
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
