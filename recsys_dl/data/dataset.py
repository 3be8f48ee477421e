"""A log with its metadata: interactions, vocabularies, side features, titles and texts."""

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
    """How a log was read: columns, skipped rows, and repeated rows.

    Attributes:
        rows: total number read.
        skipped: number of rows dropped, by reason.
        first: for each reason, the location of the first one and what was found.
        copies: rows with the same user, item, time and weight as another; these count as one event.
        repeated: other interactions that repeat a user and an item.
        repeats: how these were handled, see `recsys_dl.data.repeats.fold`; None if there are none.
        columns: one line that reports which column was read as what, and which were ignored.
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
        summary = f"{sum(self.skipped.values()):,} of {self.rows:,} rows skipped{': ' if reasons else ''}{reasons}"
        if self.copies:
            summary += f"; {self.copies:,} are exact copies of other rows and count once"
        return summary + (
            f"; {self.repeated:,} repeat a user and an item (repeats={self.repeats})" if self.repeated else ""
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything known about one log.

    Attributes:
        interactions: as rows, not ids.
        users: id of each user row.
        items: id of each item row.
        user_features: one row per user row, any columns; None if there are none.
        item_features: one row per item row; likewise.
        item_titles: display titles, one per row; null where unknown.
        item_texts: free text about each item (plot, tags), one per row; null where unknown.
        histories: only for test users excluded from training (strong generalization): their known interactions at
            recommendation time, over the same rows; `evaluate` folds them in.
        seen_only: interactions besides `interactions` that are not used for training: below a threshold, outside a
            window, of weight 0. They are never recommended again; see `seen` and `learn_from`.
        weight_kind: "ratings" (how much it was liked) or "counts" (how often it happened); None if weights are neither, or
            if that is unknown.
        name: short name of the source.
        report: which rows of a file were skipped; None if not read from a file.

    Raises:
        ValueError: the number of rows of a part differs from its vocabulary's.

    Examples:
        >>> from recsys_dl import Dataset, Interactions, Vocabulary
        >>> log = Interactions([0, 0, 1], [0, 1, 1])
        >>> data = Dataset(log, users=Vocabulary(["ann", "bob"]), items=Vocabulary(["b42", "b7"]))
        >>> data.items.at(data.interactions.items_N).to_list()
        ['b42', 'b7', 'b7']
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
        """Hexadecimal SHA-256 over the interactions in their order, the ids, and all other fields.

        The same log has the same hash regardless of file format; a different row order changes it.
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
        """Return the same users, items and features with different interactions."""
        return replace(self, interactions=interactions, histories=histories)

    def learn_from(self, chosen_N: np.ndarray) -> Dataset:
        """Return the same log, restricted to the chosen interactions for training; the others stay `seen`.

        Args:
            chosen_N: bool, one per interaction: those in a time window, ratings of 4 or more, everything but dislikes, ...

        Raises:
            ValueError: not one bool per interaction, or none is chosen.
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
    """Check that a Dataset's rows match the users and items a model was fitted on; None is not checked.

    Raises:
        ValueError: it numbers its ids differently.
    """
    if not isinstance(data, Dataset):
        return
    for noun, mine, theirs in (("users", data.users, users), ("items", data.items, items)):
        if theirs is not None and not mine.begins(theirs):
            raise ValueError(
                f"this Dataset numbers its {noun} differently from the data the model was fitted on, so rows would be mixed up. "
                "Use parts of the same Dataset, or read the same file in the same order; fine_tune matches by id."
            )


def seen_of(data: Dataset | Interactions) -> Interactions:
    """Return all known interactions: `Dataset.seen`, or the interactions themselves."""
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
