"""What a training takes, as each model states it for a log of a given size: bytes by part, work of an epoch, traffic between processes.

U users, I items, N interactions, D embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

Axis = Literal["users", "items", "interactions"]
When = Literal["held", "start", "epoch", "end", "file"]

SPREAD_OF_USERS = 2.4  # mean square over squared mean of the interactions of a user: MovieLens 1M
SPREAD_OF_ITEMS = 3.0  # of an item, likewise


@dataclass(frozen=True)
class LogSize:
    """The size of a training log.

    Attributes:
        num_users: U.
        num_items: I.
        num_interactions: N.
        squares_by_user: sum over users of the squared number of their interactions; None: as spread as in MovieLens 1M.
        squares_by_item: likewise over items.
    """

    num_users: int
    num_items: int
    num_interactions: int
    squares_by_user: float | None = None
    squares_by_item: float | None = None

    @classmethod
    def of(cls, log: Any) -> LogSize:
        """Return the size of Interactions."""
        squares = [float((counts.astype(float) ** 2).sum()) for counts in (log.user_counts_U, log.item_counts_I)]
        return cls(log.num_users, log.num_items, len(log), *squares)

    @property
    def history(self) -> float:
        """Mean number of interactions per user."""
        return self.num_interactions / self.num_users

    @property
    def pairs_by_user(self) -> float:
        """Number of pairs of interactions of the same user, summed over users."""
        typical = SPREAD_OF_USERS * self.num_interactions**2 / self.num_users
        return typical if self.squares_by_user is None else self.squares_by_user

    @property
    def pairs_by_item(self) -> float:
        """Number of pairs of interactions with the same item, summed over items."""
        typical = SPREAD_OF_ITEMS * self.num_interactions**2 / self.num_items
        return typical if self.squares_by_item is None else self.squares_by_item


@dataclass(frozen=True)
class Part:
    """A part of the memory of a training.

    Attributes:
        kind: what it is, such as "tables", "gradients", "optimizer", "activations", "interactions", "work".
        name: of the array or arrays.
        num_bytes: their size.
        by: the axis along which it could be divided among processes; None if each needs all of it.
        divided: whether this version does divide it.
        when: "held" throughout, or only at the "start", during each "epoch", or at the "end": these do not add up; or in a mapped
            "file" of which the system caches what fits.
        saved: whether it is part of the saved model.
        resumed: whether it is part of a checkpoint.
    """

    kind: str
    name: str
    num_bytes: float
    by: Axis | None = None
    divided: bool = False
    when: When = "held"
    saved: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Work:
    """A kind of work of an epoch, whose seconds are proportional to its operations.

    Attributes:
        name: what is computed.
        operations: floating-point operations.
        moved: bytes read from and written to memory.
    """

    name: str
    operations: float
    moved: float


@dataclass(frozen=True)
class Sizes:
    """What a training takes.

    Attributes:
        parts: of its memory.
        work: of an epoch; of the whole fit if `epochs` is None.
        steps: steps per epoch at which processes exchange data.
        epochs: as configured; None for a model that is fitted in one pass.
        reduced: bytes that a step adds up over all processes (all-reduce of dense gradients).
        gathered: bytes that each process collects per step from all others (all-gather).
        fetched: bytes that all processes together fetch per step from each other, in proportion to their share of the work.
        vector_size: length of an item's vector in an index; None if scores are not inner products.
        notes: what is not counted, in words.
        sharded: the same with tables divided among processes (`trainer.shard_tables`); None if the model's cannot be.
    """

    parts: Sequence[Part]
    work: Sequence[Work]
    steps: int = 1
    epochs: int | None = None
    reduced: float = 0.0
    gathered: float = 0.0
    fetched: float = 0.0
    vector_size: int | None = None
    notes: Sequence[str] = ()
    sharded: Sizes | None = None


@runtime_checkable
class StatesSizes(Protocol):
    """A model that states what its training takes. `recsys-dl plan` says of others that it is unknown."""

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training on a log of that size takes, before any fit."""
        ...


def peak(parts: Sequence[Part]) -> float:
    """Return the largest sum of parts that are there at the same time, in bytes."""
    sums = dict.fromkeys(("held", "start", "epoch", "end", "file"), 0.0)
    for part in parts:
        sums[part.when] += part.num_bytes
    return sums["held"] + max(sums["start"], sums["epoch"], sums["end"])
