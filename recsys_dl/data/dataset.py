"""A log with the names of things: interactions, vocabularies, side features, titles and texts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl

from .interactions import Interactions
from .vocabulary import Vocabulary

WeightKind = Literal["ratings", "counts"]


@dataclass(frozen=True)
class ReadReport:
    """What a log was read as, what was left out, and which rows repeat others.

    Attributes:
        rows: seen in all.
        skipped: how many were dropped, by reason.
        first: for each reason, where the first one stands and what was found.
        copies: rows with the user, item, time and weight of another; each is one event.
        repeated: further interactions that repeat a user and an item.
        repeats: what became of these, see `recsys_dl.data.repeats.fold`; None where there are none.
        columns: one line that says which column was read as what, and what was left out.
    """

    rows: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    copies: int = 0
    repeated: int = 0
    repeats: str | None = None
    columns: str = ""

    def __str__(self) -> str:
        reasons = "; ".join(
            f"{count:,} {reason} (first at {self.first[reason]})" for reason, count in self.skipped.items()
        )
        told = f"{sum(self.skipped.values()):,} of {self.rows:,} rows skipped{': ' if reasons else ''}{reasons}"
        if self.copies:
            told += f"; {self.copies:,} are copies of others, and one event with them"
        return told + (
            f"; {self.repeated:,} repeat a user and an item (repeats={self.repeats})" if self.repeated else ""
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything known about one log.

    Attributes:
        interactions: in rows.
        users: id of each user row.
        items: id of each item row.
        user_features: one row a user row, any columns; None where there are none.
        item_features: one row an item row; likewise.
        item_titles: what to show a person, one a row; null where unknown.
        item_texts: free text about each item (plot, tags), one a row; null where unknown.
        histories: only for test users that training left out (strong generalization): what is known of them when they
            are asked for, over the same rows; `evaluate` folds it in.
        seen_only: what users interacted with beside `interactions` and nothing is learned from: below a threshold, outside a
            window, of weight 0. It is never recommended again; see `seen` and `learn_from`.
        weight_kind: "ratings" (how much it was liked) or "counts" (how often it happened); None where weights are neither, or it is not
            known.
        name: where it came from, in a word.
        report: which rows of a file were skipped; None if it was not read from one.

    Raises:
        ValueError: a part has another number of rows than its vocabulary.
    """

    interactions: Interactions
    users: Vocabulary
    items: Vocabulary
    user_features: pl.DataFrame | None = None
    item_features: pl.DataFrame | None = None
    item_titles: pl.Series | None = None
    item_texts: pl.Series | None = None
    histories: Interactions | None = None
    seen_only: Interactions | None = None
    weight_kind: WeightKind | None = None
    name: str = "log"
    report: ReadReport | None = None

    def __post_init__(self) -> None:
        for noun, vocabulary, size in (
            ("users", self.users, self.interactions.num_users),
            ("items", self.items, self.interactions.num_items),
        ):
            if len(vocabulary) != size:
                raise ValueError(f"interactions over {size} {noun} need as many ids, got {len(vocabulary)}")
        for part, size in (
            ("user_features", self.num_users),
            ("item_features", self.num_items),
            ("item_titles", self.num_items),
            ("item_texts", self.num_items),
        ):
            value = getattr(self, part)
            if value is not None and len(value) != size:
                raise ValueError(f"{part} must have one row for each of {size}, got {len(value)}")
        for part in ("histories", "seen_only"):
            log = getattr(self, part)
            if log is not None and (log.num_users, log.num_items) != (self.num_users, self.num_items):
                raise ValueError(
                    f"{part} must be over the same {self.num_users} users and {self.num_items} items, got "
                    f"{(log.num_users, log.num_items)}"
                )

    def __len__(self) -> int:
        return len(self.interactions)

    def __repr__(self) -> str:
        extras = [
            part
            for part in ("user_features", "item_features", "item_titles", "item_texts", "histories", "seen_only")
            if getattr(self, part) is not None
        ]
        return f"Dataset({self.name}: {self.interactions!r}{', ' if extras else ''}{', '.join(extras)})"

    @property
    def num_users(self) -> int:
        """U."""
        return self.interactions.num_users

    @property
    def num_items(self) -> int:
        """I."""
        return self.interactions.num_items

    @cached_property
    def seen(self) -> Interactions:
        """Everything that users interacted with: `interactions`, and `seen_only` with weights of 0."""
        if self.seen_only is None:
            return self.interactions
        return Interactions.concat(
            [self.interactions, self.seen_only.with_weights(np.zeros(len(self.seen_only), np.float32))]
        )

    @cached_property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over the interactions in their order, the ids, and whatever rides along.

        The same log gives the same hash whatever the format it was read from; in another order of rows, another.
        """
        digest = hashlib.sha256()
        for part in (self.interactions, self.users, self.items, self.histories):
            digest.update((part.content_hash if part is not None else "-").encode())
        for side in (self.user_features, self.item_features, self.item_titles, self.item_texts):
            frame = side.to_frame() if isinstance(side, pl.Series) else side
            if frame is None:
                digest.update(b"-")
                continue
            digest.update(str(frame.schema).encode())
            for block in frame.iter_slices(1 << 16):
                digest.update(block.write_ndjson().encode())
        if self.seen_only is not None:
            digest.update(self.seen_only.content_hash.encode())
        return digest.hexdigest()

    def with_interactions(self, interactions: Interactions, *, histories: Interactions | None = None) -> Dataset:
        """Return the same users, items and features with another part of the log."""
        return replace(self, interactions=interactions, histories=histories)

    def learn_from(self, chosen_N: np.ndarray) -> Dataset:
        """Return the same log, of which models learn the chosen interactions alone; the others stay `seen`.

        Args:
            chosen_N: bool, one an interaction: those of a time window, ratings of 4 and more, everything but dislikes, ...

        Raises:
            ValueError: not one bool an interaction, or none is chosen.
        """
        chosen_N = np.asarray(chosen_N)
        if chosen_N.dtype != bool or chosen_N.shape != (len(self),):
            raise ValueError(
                f"chosen must be one bool for each of {len(self):,} interactions, got {chosen_N.dtype} of shape {chosen_N.shape}"
            )
        if chosen_N.all():
            return self
        if not chosen_N.any():
            raise ValueError(f"chosen must leave an interaction to learn from, got none of {len(self):,}")
        rest = self.interactions.select(~chosen_N)
        return replace(
            self,
            interactions=self.interactions.select(chosen_N),
            seen_only=rest if self.seen_only is None else Interactions.concat([self.seen_only, rest]),
        )


def check_numbering(data: Dataset | Interactions | None, users: Vocabulary | None, items: Vocabulary | None) -> None:
    """Check that a Dataset's rows mean the users and items that a model learned; None is not checked.

    Raises:
        ValueError: it numbers its ids otherwise.
    """
    if not isinstance(data, Dataset):
        return
    for noun, mine, theirs in (("users", data.users, users), ("items", data.items, items)):
        if theirs is not None and not mine.begins(theirs):
            raise ValueError(
                f"this Dataset numbers its {noun} otherwise than the data the model was fitted on, so its rows mean others. "
                "Use parts of the same Dataset, or read the same file in the same order; partial_fit matches by id."
            )


def seen_of(data: Dataset | Interactions) -> Interactions:
    """Return everything that users interacted with: `Dataset.seen`, or the interactions themselves."""
    return data.seen if isinstance(data, Dataset) else as_interactions(data)


def as_interactions(data: Dataset | Interactions) -> Interactions:
    """Return the interactions of a dataset, or the interactions themselves."""
    if isinstance(data, Dataset):
        return data.interactions
    if isinstance(data, Interactions):
        return data
    raise TypeError(
        f"expected a Dataset or Interactions, got {type(data).__name__}. "
        "Use read_log() for files and frames, Interactions.from_csr() for a sparse matrix."
    )
