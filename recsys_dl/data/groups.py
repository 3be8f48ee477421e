"""Documents grouped by query: a ranker's training and evaluation data.

A group is a query with its documents, or a user with candidates. Q groups, N documents over all groups, F features;
padded: B groups, L documents in the longest of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

BLOCK_BYTES = 64 << 20  # padded features held at a time


@dataclass(frozen=True)
class Padded:
    """A batch of groups, padded to the longest.

    Attributes:
        groups_B: int64 group numbers.
        features_BLF: float32, 0 at padding.
        labels_BL: float32, 0 at padding.
        valid_BL: bool, False at padding.
        rows_BL: int64, the document at each position; 0 at padding.
        weights_BL: float32, 0 at padding; None if the groups have none.
    """

    groups_B: np.ndarray
    features_BLF: np.ndarray
    labels_BL: np.ndarray
    valid_BL: np.ndarray
    rows_BL: np.ndarray
    weights_BL: np.ndarray | None


class Groups:
    """Documents as rows, grouped contiguously. Its arrays are read-only.

    Args:
        features_NF: finite numbers; float32 C-contiguous arrays are not copied.
        labels_N: grades, or clicks; finite and not negative.
        sizes_Q: documents per group, at least one; they sum to N.
        group_ids: distinct query names, one per group; None numbers them.
        names: feature names; None if they have none.
        positions_N: rank at which each document was shown when the labels were logged, from 1; 0 if it was not shown.
            None if nothing was logged.
        weights_N: document weights, finite and not negative; None weights all equally.
        where: describes the location of document n, such as "S1.txt, line 17", for messages.

    Attributes:
        features_NF: float32.
        labels_N: float32.
        starts_Q: int64 [Q + 1]; the documents of group q are `starts_Q[q]:starts_Q[q + 1]`.
        group_ids: tuple of strings.
        names: tuple of strings, or None.
        positions_N: int32, or None.
        weights_N: float32, or None.

    Raises:
        ValueError: an argument violates the above.

    Examples:
        >>> from recsys_dl.data.groups import Groups
        >>> groups = Groups([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], labels_N=[1, 0, 0], sizes_Q=[2, 1])
        >>> len(groups), groups.num_documents, groups.num_features, groups.starts_Q.tolist()
        (2, 3, 2, [0, 2, 3])
    """

    def __init__(
        self,
        features_NF: Any,
        labels_N: Any,
        sizes_Q: Any,
        *,
        group_ids: Sequence[Any] | None = None,
        names: Sequence[str] | None = None,
        positions_N: Any = None,
        weights_N: Any = None,
        where: Callable[[int], str] | None = None,
    ) -> None:
        where = where or (lambda row: f"document {row} (from 0)")
        features = _numbers(features_NF, "features")
        if features.ndim != 2 or not features.shape[1]:
            raise ValueError(f"features must be a matrix [documents, features], got shape {features.shape}")
        count = len(features)
        self.features_NF = _read_only(np.ascontiguousarray(features, np.float32))
        bad = ~np.isfinite(self.features_NF)
        if bad.any():
            row, column = (int(at) for at in np.argwhere(bad)[0])
            name = names[column] if names is not None else f"number {column + 1}"
            raise ValueError(
                f"features must be finite, got {features[row, column]} for feature {name} at {where(row)} "
                f"({int(bad.sum()):,} in all); fill or drop it"
            )
        self.labels_N = _column(labels_N, "labels", count, where)
        sizes = np.asarray(sizes_Q)
        if sizes.ndim != 1 or not (np.issubdtype(sizes.dtype, np.integer) or not sizes.size):
            raise ValueError(f"group sizes must be integers in one dimension, got {sizes.dtype} of shape {sizes.shape}")
        if (sizes < 1).any():
            at = int((sizes < 1).argmax())
            raise ValueError(
                f"a group must hold at least one document, got {sizes[at]} for group {at} (from 0); leave it out"
            )
        if sizes.sum() != count:
            raise ValueError(f"group sizes must sum to the {count:,} documents, got {int(sizes.sum()):,}")
        self.starts_Q = _read_only(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
        self.group_ids = tuple(str(name) for name in (range(len(sizes)) if group_ids is None else group_ids))
        if len(self.group_ids) != len(sizes):
            raise ValueError(f"group_ids must name each of {len(sizes)} groups, got {len(self.group_ids)}")
        if len(set(self.group_ids)) < len(sizes):
            first: dict[str, int] = {}
            at, twice = next((q, name) for q, name in enumerate(self.group_ids) if first.setdefault(name, q) != q)
            raise ValueError(
                f"the documents of a group must be contiguous, but group {twice!r} appears again at "
                f"{where(int(self.starts_Q[at]))}; sort by group first"
            )
        self.names = None if names is None else tuple(names)
        if self.names is not None and (len(self.names) != self.num_features or len(set(self.names)) < len(self.names)):
            raise ValueError(f"names must be {self.num_features} distinct names, got {', '.join(self.names)}")
        self.positions_N: np.ndarray | None = None
        if positions_N is not None:
            positions = _column(positions_N, "positions", count, where)
            self.positions_N = _read_only(positions.astype(np.int32))
            if (positions != self.positions_N).any():
                at = int((positions != self.positions_N).argmax())
                raise ValueError(f"positions must be whole numbers, got {positions[at]} at {where(at)}")
        self.weights_N = None if weights_N is None else _column(weights_N, "weights", count, where)

    @classmethod
    def from_padded(
        cls,
        features_BLF: np.ndarray,
        labels_BL: np.ndarray,
        valid_BL: np.ndarray | None = None,
        *,
        group_ids: Sequence[Any] | None = None,
        names: Sequence[str] | None = None,
        weights_BL: np.ndarray | None = None,
    ) -> Groups:
        """Build groups from candidates as retrievers return them: one list per user, padded to the longest.

        Raises:
            ValueError: shapes differ, or a list has no valid candidate (an empty group).
        """
        features, labels = np.asarray(features_BLF), np.asarray(labels_BL)
        valid = np.ones(labels.shape, bool) if valid_BL is None else np.asarray(valid_BL).astype(bool)
        weights = None if weights_BL is None else np.asarray(weights_BL)
        shapes = [features.shape[:2], labels.shape, valid.shape, *([] if weights is None else [weights.shape])]
        if features.ndim != 3 or len(set(shapes)) > 1:
            raise ValueError(
                f"features must be [B, L, F] and labels, valid and weights [B, L], got {features.shape} and "
                f"{', '.join(map(str, shapes[1:]))}"
            )
        ends = np.cumsum(valid.sum(axis=1))

        def where(row: int) -> str:
            return f"list {int(np.searchsorted(ends, row, side='right'))}"

        return cls(
            features[valid],
            labels[valid],
            valid.sum(axis=1),
            group_ids=group_ids,
            names=names,
            weights_N=None if weights is None else weights[valid],
            where=where,
        )

    @staticmethod
    def concat(parts: Sequence[Groups]) -> Groups:
        """Return the groups of all parts, in order.

        Raises:
            ValueError: no parts, different features or names, logged positions or weights in only some of them, or a
                group in more than one.
        """
        if not parts:
            raise ValueError("concat needs at least one part, got none")
        for what in ("num_features", "names"):
            if len({getattr(part, what) for part in parts}) > 1:
                found = ", ".join(str(getattr(part, what)) for part in parts)
                raise ValueError(f"all parts must have the same features, got {what} {found}")
        columns = {}
        for what in ("positions_N", "weights_N"):
            given = [getattr(part, what) for part in parts]
            if 0 < sum(column is None for column in given) < len(parts):
                raise ValueError(f"either all parts must have {what.removesuffix('_N')} or none, got some that do")
            columns[what] = None if given[0] is None else np.concatenate(given)
        return Groups(
            np.concatenate([part.features_NF for part in parts]),
            np.concatenate([part.labels_N for part in parts]),
            np.concatenate([part.sizes_Q for part in parts]),
            group_ids=[name for part in parts for name in part.group_ids],
            names=parts[0].names,
            positions_N=columns["positions_N"],
            weights_N=columns["weights_N"],
        )

    def __len__(self) -> int:
        return len(self.starts_Q) - 1

    def __repr__(self) -> str:
        extras = [what for what in ("positions", "weights") if getattr(self, f"{what}_N") is not None]
        counts = f"{len(self):,} groups of {self.num_documents:,} documents, {self.num_features} features"
        return f"Groups({counts}{', with ' if extras else ''}{' and '.join(extras)})"

    @property
    def num_documents(self) -> int:
        """N."""
        return len(self.features_NF)

    @property
    def num_features(self) -> int:
        """F."""
        return self.features_NF.shape[1]

    @cached_property
    def sizes_Q(self) -> np.ndarray:
        """int64 [Q]: documents per group."""
        return np.diff(self.starts_Q)

    @cached_property
    def owners_N(self) -> np.ndarray:
        """int64 [N]: the group of each document."""
        return np.repeat(np.arange(len(self)), self.sizes_Q)

    @cached_property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over all contents, in order."""
        digest = hashlib.sha256(repr((self.features_NF.shape, self.group_ids, self.names)).encode())
        for column in (self.features_NF, self.labels_N, self.starts_Q, self.positions_N, self.weights_N):
            digest.update(b"-" if column is None else column.data)
        return digest.hexdigest()

    def select(self, groups_B: np.ndarray | Sequence[int]) -> Groups:
        """Return some groups, by number or mask, in the order given.

        Raises:
            ValueError: a repeated or nonexistent group.
        """
        chosen = np.asarray(groups_B)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise ValueError(f"groups must be in [0, {len(self)}), got {chosen.min()} to {chosen.max()}")
        rows_BL, valid_BL = self.places(chosen)
        rows = rows_BL[valid_BL]
        return Groups(
            self.features_NF[rows],
            self.labels_N[rows],
            self.sizes_Q[chosen],
            group_ids=[self.group_ids[q] for q in chosen],
            names=self.names,
            positions_N=None if self.positions_N is None else self.positions_N[rows],
            weights_N=None if self.weights_N is None else self.weights_N[rows],
        )

    def places(self, groups_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows_BL (int64, 0 at padding) and valid_BL of some groups: the document at each position."""
        sizes_B = self.sizes_Q[groups_B]
        steps_L = np.arange(sizes_B.max(initial=0))
        valid_BL = steps_L < sizes_B[:, None]
        return np.where(valid_BL, self.starts_Q[groups_B][:, None] + steps_L, 0), valid_BL

    def padded(self, groups_B: np.ndarray | None = None) -> Padded:
        """Return some groups, or all, as one padded batch."""
        groups_B = np.arange(len(self)) if groups_B is None else np.asarray(groups_B, np.int64)
        rows_BL, valid_BL = self.places(groups_B)
        features_BLF = self.features_NF[rows_BL]
        features_BLF[~valid_BL] = 0
        labels_BL = np.where(valid_BL, self.labels_N[rows_BL], np.float32(0))
        weights_BL = None if self.weights_N is None else np.where(valid_BL, self.weights_N[rows_BL], np.float32(0))
        return Padded(groups_B, features_BLF, labels_BL, valid_BL, rows_BL, weights_BL)

    def batches(self, *, memory: int = BLOCK_BYTES) -> Iterator[Padded]:
        """Yield all groups, shortest first, in batches of at most `memory` bytes of padded features.

        A single group that needs more is its own batch.
        """
        order = np.argsort(self.sizes_Q, kind="stable")
        start = 0
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * self.sizes_Q[order[end]] * self.num_features * 4 <= memory:
                end += 1
            yield self.padded(order[start:end])
            start = end


def _numbers(values: Any, what: str) -> np.ndarray:
    array = np.asarray(values)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise ValueError(f"{what} must be numbers, got {array.dtype}")
    return array


def _column(values: Any, what: str, count: int, where: Callable[[int], str]) -> np.ndarray:
    given = _numbers(values, what)
    if given.shape != (count,):
        raise ValueError(f"{what} must be one for each of {count:,} documents, got shape {given.shape}")
    column = np.ascontiguousarray(given, np.float32)
    bad = ~(np.isfinite(column) & (column >= 0))
    if bad.any():
        at = int(bad.argmax())
        raise ValueError(f"{what} must be finite and not negative, got {given[at]} at {where(at)}")
    return _read_only(column)


def _read_only(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view
