"""The ranker's training examples: candidates from retrievers that were not fitted on the labels.

A ranker trained on candidates of retrievers that saw the labels learns to trust them too much: they find what they were fitted on.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import Order, leave_last_out, time_split
from recsys_dl.data.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

By = Literal["last", "newest", "folds"]


@dataclass(frozen=True)
class RankerExamples:
    """How the log is split into retrievers' training data and the ranker's labels.

    Attributes:
        by: "last": labels are each user's last interactions, retrievers see everything before. "newest": labels are the newest share of all
            interactions, retrievers see those before; users and items new in it are new to the retrievers. "folds": labels are a random
            fold, retrievers see the others; for logs without times.
        last: interactions per user, for `by="last"`.
        share: share of the interactions, for `by="newest"`.
        rounds: "last" and "newest" are repeated on the previous round's retriever data, as long as it can be split; for "folds" the
            number of folds. Retrievers are fitted once per round, and finally on everything.
        order: of a user's interactions: "time", or "log" if a log without times is in time order.
        validation: share of the users whose candidates are held out for early stopping of the ranker.
        max_users: users per round, sampled at random; bounds memory: users * candidates * features * 4 bytes.
        seed: for folds and sampling.

    Raises:
        ValueError: a value out of range.
    """

    by: By = "last"
    last: int = 1
    share: float = 0.1
    rounds: int = 1
    order: Order = "time"
    validation: float = 0.2
    max_users: int = 20_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.by not in get_args(By):
            raise ValueError(f"examples must be by one of {', '.join(get_args(By))}, got {self.by!r}")
        least = 2 if self.by == "folds" else 1
        for name, value, low in (
            ("last", self.last, 1),
            ("rounds", self.rounds, least),
            ("max_users", self.max_users, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"{name} must be an integer of at least {low}, got {value!r}")
        for name, share in (("share", self.share), ("validation", self.validation)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
                raise ValueError(f"{name} must be between 0 and 1, got {share!r}")
        if self.order not in get_args(Order):
            raise ValueError(f"order must be one of {', '.join(get_args(Order))}, got {self.order!r}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {self.seed!r}")

    @classmethod
    def of(cls, arguments: Any) -> RankerExamples:
        """Build from a mapping of arguments.

        Raises:
            ValueError: not a mapping, or an unknown argument.
        """
        known = [one.name for one in fields(cls)]
        if not isinstance(arguments, Mapping) or (wrong := [name for name in arguments if name not in known]):
            got = repr(wrong[0]) if isinstance(arguments, Mapping) else f"{arguments!r:.200}"
            raise ValueError(f"examples must be a mapping of {', '.join(known)}, got {got}")
        return cls(**arguments)

    def cut(self, train: Dataset | Interactions) -> Iterator[tuple[Dataset | Interactions, Interactions]]:
        """Yield for each round the retrievers' training data and the labels. No pair is in both.

        Raises:
            ValueError: a log without times although they are needed, or too short a log.
        """
        log = as_interactions(train)
        data = train if isinstance(train, Dataset) else None
        if self.by == "folds":
            fold_N = np.random.default_rng(self.seed).permutation(len(log)) % self.rounds
        for number in range(self.rounds):
            try:
                if self.by == "folds":
                    seen, asked = log.select(fold_N != number), log.select(fold_N == number)
                else:
                    seen, asked = self._cut(log)
                    log = seen
                asked = _new_pairs(seen, asked)
                if not len(seen) or not len(asked):
                    raise ValueError(
                        f"examples by {self.by} leave {len(seen):,} interactions for the retrievers and {len(asked):,} labels"
                    )
            except ValueError as error:
                if not number:
                    raise
                logger.warning("examples end after %d of %d rounds: %s", number, self.rounds, error)
                return
            yield (seen if data is None else data.with_interactions(seen)), asked

    def _cut(self, log: Interactions) -> tuple[Interactions, Interactions]:
        whole = _nameless(log)
        if self.by == "last":
            split = leave_last_out(whole, num_validation=0, num_test=self.last, order=self.order)
        else:
            split = time_split(whole, validation=0, test=self.share)
        return split.train.interactions, split.test.interactions

    def users(self, asked: Interactions, number: int) -> np.ndarray:
        """Return the users of a round, ascending: those with a label of positive weight, at most `max_users`."""
        users = np.unique(asked.users_N[asked.weights_N > 0])
        if len(users) > self.max_users:
            drawn = np.random.default_rng([self.seed, number]).choice(users, self.max_users, replace=False)
            users = np.sort(drawn)
        return users

    def held_out(self, users: np.ndarray) -> np.ndarray:
        """Return bool: users held out for validation; each user is on the same side in every round."""
        drawn_U = np.random.default_rng([self.seed, 1]).random(int(users.max(initial=0)) + 1)
        return drawn_U[users] < self.validation


def relevant(asked: Interactions, users_B: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
    """Return float32 [B, L]: 1 if a candidate is relevant, else 0."""
    wanted = asked.select(asked.weights_N > 0)
    keys = np.unique(wanted.users_N.astype(np.int64) * asked.num_items + wanted.items_N)
    mine_BL = users_B[:, None].astype(np.int64) * asked.num_items + items_BL
    return (np.isin(mine_BL, keys) & (items_BL >= 0)).astype(np.float32)


def _new_pairs(seen: Interactions, asked: Interactions) -> Interactions:
    """Return the labels without pairs seen by the retrievers, which lists never repeat."""
    keys = seen.users_N.astype(np.int64) * seen.num_items + seen.items_N
    return asked.select(~np.isin(asked.users_N.astype(np.int64) * asked.num_items + asked.items_N, keys))


def _nameless(log: Interactions) -> Dataset:
    """Return a log as a Dataset whose ids are rows, for the splits, which need one."""
    users = Vocabulary(np.arange(log.num_users).tolist(), noun="user")
    return Dataset(log, users, Vocabulary(np.arange(log.num_items).tolist(), noun="item"))
