"""User-item interactions: as columns, and as CSR by user and by item.

N interactions, U users, I items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from .blocks import count_rows


class Interactions:
    """An immutable log of (user, item, weight, time), in rows, not ids.

    Its columns are read-only. An array that already has the right type is not copied, so changing it afterwards
    changes the log.

    Attributes:
        users_N: int32 user rows, each in [0, num_users).
        items_N: int32 item rows, each in [0, num_items).
        weights_N: float32, finite and >= 0; ones if not given.
        times_N: int64 seconds since 1970, or None; given as integers, floats (rounded down) or NumPy's datetime64.
        num_users: U; may exceed the largest row, so that the parts of a split keep the full shape.
        num_items: I; likewise.

    Raises:
        ValueError: columns of unequal length, rows out of range, weights that are NaN, infinite or negative, times that
            are not numbers.

    Examples:
        >>> from recsys_dl import Interactions
        >>> log = Interactions([0, 0, 2], [1, 3, 0], [5.0, 3.0, 4.0])
        >>> log.num_users, log.num_items, log.by_user.toarray().tolist()
        (3, 4, [[0.0, 5.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0], [4.0, 0.0, 0.0, 0.0]])
    """

    mapped: ClassVar[bool] = False  # whether the columns are files, see `recsys_dl.data.mapped`

    def __init__(
        self,
        users_N: np.ndarray | Sequence[int],
        items_N: np.ndarray | Sequence[int],
        weights_N: np.ndarray | Sequence[float] | None = None,
        times_N: np.ndarray | Sequence[int] | None = None,
        *,
        num_users: int | None = None,
        num_items: int | None = None,
    ) -> None:
        users, num_users = _rows(users_N, num_users, "user")
        items, num_items = _rows(items_N, num_items, "item")
        n = len(users)
        weights = np.ones(n, np.float32) if weights_N is None else _weights(weights_N)
        times = None if times_N is None else _times(times_N)
        for name, column in (("items", items), ("weights", weights), ("times", times)):
            if column is not None and column.shape != (n,):
                raise ValueError(f"every column must have the {n} entries of users, got {name} of shape {column.shape}")
        self._take(users, items, weights, times, num_users, num_items)

    def _take(
        self,
        users_N: np.ndarray,
        items_N: np.ndarray,
        weights_N: np.ndarray,
        times_N: np.ndarray | None,
        num_users: int,
        num_items: int,
    ) -> None:
        self.users_N, self.items_N = _read_only(users_N), _read_only(items_N)
        self.weights_N = _read_only(weights_N)
        self.times_N = None if times_N is None else _read_only(times_N)
        self.num_users, self.num_items = num_users, num_items

    def _part(self, chosen: np.ndarray | slice) -> Interactions:
        """Return some interactions without validating them again."""
        part = Interactions.__new__(Interactions)
        times = None if self.times_N is None else self.times_N[chosen]
        columns = (self.users_N[chosen], self.items_N[chosen], self.weights_N[chosen])
        part._take(*columns, times, self.num_users, self.num_items)
        return part

    def __len__(self) -> int:
        return len(self.users_N)

    def __repr__(self) -> str:
        times = "" if self.times_N is None else ", with times"
        return f"Interactions({len(self):,} of {self.num_users:,} users and {self.num_items:,} items{times})"

    @classmethod
    def from_csr(cls, matrix: sp.spmatrix | sp.sparray) -> Interactions:
        """Build from every stored entry of a SciPy sparse matrix, users x items, with its value as weight.

        A CSR of float32 whose columns are sorted and distinct is kept as `by_user`, not copied.
        """
        csr = matrix if sp.issparse(matrix) and matrix.format == "csr" else None
        if csr is None or (csr.data.dtype, csr.indices.dtype) != (np.float32, np.int32) or not csr.has_canonical_format:
            coo = sp.coo_matrix(matrix)
            return cls(coo.row, coo.col, coo.data, num_users=coo.shape[0], num_items=coo.shape[1])
        num_users, num_items = csr.shape
        users = np.repeat(np.arange(num_users, dtype=np.int32), np.diff(csr.indptr))
        log = cls(users, csr.indices, csr.data, num_users=num_users, num_items=num_items)
        log.by_user = sp.csr_matrix((csr.data, csr.indices, csr.indptr), shape=csr.shape, copy=False)
        log.by_user.has_canonical_format = True
        return log

    @classmethod
    def from_histories(cls, histories: Iterable[Sequence[int]], *, num_items: int) -> Interactions:
        """Build from one list of item rows per user; user b is row b of the result."""
        lists = [np.asarray(items) for items in histories]
        if any(items.ndim != 1 for items in lists):
            raise ValueError("histories must be one list of item rows per user; for a single user write [[3, 5, 8]]")
        lists = [items if items.size else items.astype(np.int64) for items in lists]
        users = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        items = np.concatenate(lists) if lists else np.empty(0, np.int64)
        return cls(users, items, num_users=len(lists), num_items=num_items)

    @cached_property
    def by_user(self) -> sp.csr_matrix:
        """CSR [U, I] of float32 weights, columns sorted; repeated pairs are summed."""
        shape = (self.num_users, self.num_items)
        matrix = sp.csr_matrix((self.weights_N, (self.users_N, self.items_N)), shape=shape, dtype=np.float32)
        matrix.sum_duplicates()
        return matrix

    @cached_property
    def by_item(self) -> sp.csr_matrix:
        """CSR [I, U]: `by_user` transposed."""
        matrix = self.by_user.T.tocsr()
        matrix.sort_indices()
        return matrix

    @cached_property
    def user_counts_U(self) -> np.ndarray:
        """int64 [U]: distinct items per user."""
        return np.diff(self.by_user.indptr).astype(np.int64)

    @cached_property
    def item_counts_I(self) -> np.ndarray:
        """int64 [I]: distinct users per item."""
        return count_rows(self.by_user.indices, self.num_items)

    @cached_property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over the shape and all columns, in order."""
        digest = hashlib.sha256(f"{self.num_users},{self.num_items},{self.times_N is not None}".encode())
        for column in (self.users_N, self.items_N, self.weights_N, self.times_N):
            if column is not None:
                digest.update(column.data)
        return digest.hexdigest()

    def select(self, chosen: np.ndarray | Sequence[int]) -> Interactions:
        """Return the interactions selected by a boolean mask or positions, over the same users and items."""
        at = np.asarray(chosen)
        return self._part(at if at.size else at.astype(bool if at.dtype == bool else np.int64))

    def with_weights(self, weights_N: np.ndarray) -> Interactions:
        """Return the same interactions with other weights."""
        return Interactions(
            self.users_N, self.items_N, weights_N, self.times_N, num_users=self.num_users, num_items=self.num_items
        )

    def reweighted(self, change: Callable[..., np.ndarray], name: str) -> Interactions:
        """Return the same interactions with weights changed one by one.

        Args:
            change: a function of weights and times (None without), both of some interactions; returns their new weights.
            name: says what `change` does, including its settings; a log larger than memory finds its result by this name.
        """
        return self.with_weights(change(self.weights_N, self.times_N))

    def by_user_ranges(self) -> Iterator[tuple[int, int, Any, Interactions]]:
        """Yield ranges of users that fit in memory: first and last (exclusive), positions of their interactions, and these.

        A log in memory is one range.
        """
        yield 0, self.num_users, np.arange(len(self)), self

    def over(self, num_users: int, num_items: int) -> Interactions:
        """Return the same interactions over more users and items.

        Raises:
            ValueError: a row out of range.
        """
        columns = (self.users_N, self.items_N, self.weights_N, self.times_N)
        return Interactions(*columns, num_users=num_users, num_items=num_items)

    def renumbered(self, stays_U: np.ndarray, stays_I: np.ndarray) -> Interactions:
        """Return the same interactions over the users and items that stay (bool), numbered in order; all of these must stay."""
        return Interactions(
            (np.cumsum(stays_U) - 1)[self.users_N],
            (np.cumsum(stays_I) - 1)[self.items_N],
            self.weights_N,
            self.times_N,
            num_users=int(stays_U.sum()),
            num_items=int(stays_I.sum()),
        )

    @cached_property
    def positions_by_user(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions sorted stably by user, and where each user's start: one counting sort."""
        n = len(self)
        ones, bounds = np.ones(n, np.int8), np.arange(n + 1)
        sorted_ = sp.csr_matrix((ones, self.users_N, bounds), shape=(n, self.num_users)).tocsc()
        return sorted_.indices, sorted_.indptr

    @cached_property
    def sequences(self) -> tuple[np.ndarray, np.ndarray]:
        """Positions sorted by user and then oldest first, and where each user's start.

        Sorted by time; without times, and among equal times, by log order.
        """
        if self.times_N is None:
            return self.positions_by_user
        in_time = np.argsort(self.times_N, kind="stable")
        order, starts = self.select(in_time).positions_by_user
        return in_time[order], starts

    def of_users(self, users_B: np.ndarray | Sequence[int]) -> Interactions:
        """Return the interactions of some users, renumbered: `users_B[b]` becomes row b. Repeated users are repeated.

        Raises:
            ValueError: a user row out of range.
        """
        rows, _ = _rows(users_B, self.num_users, "user")
        order, starts = self.positions_by_user
        counts = starts[rows + 1] - starts[rows]
        ends = np.cumsum(counts)
        chosen = order[np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts[rows] - (ends - counts), counts)]
        part = self._part(chosen)
        part.users_N = _read_only(np.repeat(np.arange(len(rows), dtype=np.int32), counts))
        part.num_users = len(rows)
        return part

    @staticmethod
    def concat(parts: Sequence[Interactions]) -> Interactions:
        """Return all interactions of the parts, in order; times are kept if every part has them."""
        if not parts:
            raise ValueError("concat needs at least one part, got none")
        return max(parts, key=lambda part: part.mapped).joined(parts)

    def joined(self, parts: Sequence[Interactions]) -> Interactions:
        """Return what `concat` does; where one part is mapped, that one's method is called."""
        times = [part.times_N for part in parts if part.times_N is not None]
        return Interactions(
            np.concatenate([part.users_N for part in parts]),
            np.concatenate([part.items_N for part in parts]),
            np.concatenate([part.weights_N for part in parts]),
            np.concatenate(times) if len(times) == len(parts) else None,
            num_users=max(part.num_users for part in parts),
            num_items=max(part.num_items for part in parts),
        )


def _rows(values: np.ndarray | Sequence[int], size: int | None, noun: str) -> tuple[np.ndarray, int]:
    """Return rows as int32, and the total number of rows."""
    rows = np.asarray(values)
    if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or rows.size == 0):
        raise ValueError(
            f"{noun} rows must be a one-dimensional array of integers, got {rows.dtype} of shape {rows.shape}; "
            "ids become rows through a Vocabulary, or by read_log()"
        )
    low, high = int(rows.min(initial=0)), int(rows.max(initial=-1))
    limit = np.iinfo(np.int32).max if size is None else int(size)
    if not 0 <= limit <= np.iinfo(np.int32).max:
        raise ValueError(f"the number of {noun}s must be in [0, {np.iinfo(np.int32).max}], got {limit}")
    if low < 0 or high >= limit:
        raise ValueError(f"{noun} rows must be in [0, {limit}), got {low if low < 0 else high}")
    return np.ascontiguousarray(rows, np.int32), high + 1 if size is None else limit


def _weights(values: np.ndarray | Sequence[float]) -> np.ndarray:
    weights = np.asarray(values)
    if not (np.issubdtype(weights.dtype, np.number) or weights.dtype == bool) or np.iscomplexobj(weights):
        raise ValueError(f"weights must be numbers, got {weights.dtype}")
    with np.errstate(over="ignore"):
        weights = np.ascontiguousarray(weights, np.float32)
    bad = ~np.isfinite(weights) | (weights < 0)
    if bad.any():
        at = int(np.argmax(bad))
        raise ValueError(
            f"weights must be finite and not negative, got {np.ravel(values)[at]} at position {at} "
            f"({int(bad.sum())} in all). Drop these interactions, or map them to a weight >= 0."
        )
    return weights


def _times(values: np.ndarray | Sequence[int]) -> np.ndarray:
    times = given = np.asarray(values)
    if times.dtype.kind == "M":
        missing = np.isnat(times)
        times = times.astype("datetime64[s]")
    elif times.dtype.kind == "f":
        missing = ~np.isfinite(times)
        times = np.floor(times)
    elif times.dtype.kind in "iu" or times.size == 0:
        missing = np.zeros(0, bool)
    else:
        raise ValueError(f"times must be seconds since 1970, or datetime64, got {times.dtype}")
    if missing.any():
        at = int(np.argmax(missing))
        raise ValueError(f"every time must be known, got {np.ravel(values)[at]} at position {at}")
    if given.dtype.kind in "Mf" and times.ndim == 1 and (given != times).any():
        whole = np.lexsort((given, times))  # by seconds, then by the fraction
        if (whole != np.argsort(times, kind="stable")).any():
            raise ValueError(
                "times are stored in whole seconds, and the rows' order within a second contradicts their "
                "fractions; sort the rows by time first"
            )
    return np.ascontiguousarray(times, np.int64)


def _read_only(array: np.ndarray) -> np.ndarray:
    """Return a read-only view; the array itself, which may be the caller's, stays writable."""
    view = array.view()
    view.flags.writeable = False
    return view
