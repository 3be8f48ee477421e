"""What users did with items: columns of rows, and the same as CSR both ways.

N interactions, U users, I items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import scipy.sparse as sp


class Interactions:
    """An immutable log of (user, item, weight, time), in rows, not ids.

    Attributes:
        users_N: int32 user rows, each in [0, num_users).
        items_N: int32 item rows, each in [0, num_items).
        weights_N: float32, finite and >= 0; ones where none were given.
        times_N: int64 seconds since 1970, or None.
        num_users: U; may exceed the largest row, so that a split keeps the shape of the whole.
        num_items: I; likewise.

    Raises:
        ValueError: columns of unequal length, rows out of range, weights that are NaN, infinite or negative.
    """

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
        self.users_N = _rows(users_N, num_users, "user")
        self.items_N = _rows(items_N, num_items, "item")
        self.num_users = int(self.users_N.max(initial=-1)) + 1 if num_users is None else int(num_users)
        self.num_items = int(self.items_N.max(initial=-1)) + 1 if num_items is None else int(num_items)
        n = len(self.users_N)
        self.weights_N = np.ones(n, np.float32) if weights_N is None else np.ascontiguousarray(weights_N, np.float32)
        self.times_N = None if times_N is None else np.ascontiguousarray(times_N, np.int64)
        for name, column in (("items", self.items_N), ("weights", self.weights_N), ("times", self.times_N)):
            if column is not None and column.shape != (n,):
                raise ValueError(f"every column must have the {n} entries of users, got {name} of shape {column.shape}")
        bad = ~np.isfinite(self.weights_N) | (self.weights_N < 0)
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(
                f"weights must be finite and not negative, got {self.weights_N[at]} at position {at} "
                f"({int(bad.sum())} in all). Drop these interactions, or map them to a weight >= 0."
            )
        for column in (self.users_N, self.items_N, self.weights_N, self.times_N):
            if column is not None:
                column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.users_N)

    def __repr__(self) -> str:
        times = "" if self.times_N is None else ", with times"
        return f"Interactions({len(self):,} of {self.num_users:,} users and {self.num_items:,} items{times})"

    @classmethod
    def from_csr(cls, matrix: sp.spmatrix | sp.sparray) -> Interactions:
        """Take every stored entry of a SciPy sparse matrix, users x items, with its value as weight."""
        coo = sp.coo_matrix(matrix)
        return cls(coo.row, coo.col, coo.data, num_users=coo.shape[0], num_items=coo.shape[1])

    @classmethod
    def from_histories(cls, histories: Iterable[Sequence[int]], *, num_items: int) -> Interactions:
        """Take one list of item rows for each user; user b is row b of the result."""
        lists = [np.asarray(items, np.int64).ravel() for items in histories]
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
        """int64 [U]: distinct items of each user."""
        return np.diff(self.by_user.indptr).astype(np.int64)

    @cached_property
    def item_counts_I(self) -> np.ndarray:
        """int64 [I]: distinct users of each item."""
        return np.diff(self.by_item.indptr).astype(np.int64)

    @cached_property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over the shape and all columns, in their order."""
        digest = hashlib.sha256(f"{self.num_users},{self.num_items},{self.times_N is not None}".encode())
        for column in (self.users_N, self.items_N, self.weights_N, self.times_N):
            if column is not None:
                digest.update(column.data)
        return digest.hexdigest()

    def select(self, chosen: np.ndarray) -> Interactions:
        """Return the interactions at a boolean mask or an array of positions, over the same users and items."""
        return Interactions(
            self.users_N[chosen],
            self.items_N[chosen],
            self.weights_N[chosen],
            None if self.times_N is None else self.times_N[chosen],
            num_users=self.num_users,
            num_items=self.num_items,
        )

    def with_weights(self, weights_N: np.ndarray) -> Interactions:
        """Return the same interactions with other weights."""
        return Interactions(
            self.users_N, self.items_N, weights_N, self.times_N, num_users=self.num_users, num_items=self.num_items
        )

    def of_users(self, users_B: np.ndarray) -> Interactions:
        """Return the interactions of some users, renumbered: `users_B[b]` becomes row b. Repeated users are repeated."""
        order = np.argsort(self.users_N, kind="stable")
        starts = np.searchsorted(self.users_N[order], users_B, side="left")
        counts = np.searchsorted(self.users_N[order], users_B, side="right") - starts
        ends = np.cumsum(counts)
        positions = order[np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)]
        return Interactions(
            np.repeat(np.arange(len(users_B)), counts),
            self.items_N[positions],
            self.weights_N[positions],
            None if self.times_N is None else self.times_N[positions],
            num_users=len(users_B),
            num_items=self.num_items,
        )

    @staticmethod
    def concat(parts: Sequence[Interactions]) -> Interactions:
        """Return all interactions of the parts, in order; times are kept if every part has them."""
        timed = all(part.times_N is not None for part in parts)
        return Interactions(
            np.concatenate([part.users_N for part in parts]),
            np.concatenate([part.items_N for part in parts]),
            np.concatenate([part.weights_N for part in parts]),
            np.concatenate([part.times_N for part in parts]) if timed else None,  # type: ignore[misc]
            num_users=max(part.num_users for part in parts),
            num_items=max(part.num_items for part in parts),
        )


def _rows(values: np.ndarray | Sequence[int], size: int | None, noun: str) -> np.ndarray:
    rows = np.asarray(values)
    if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or rows.size == 0):
        raise ValueError(
            f"{noun} rows must be a one-dimensional array of integers, got {rows.dtype} of shape {rows.shape}"
        )
    low, high = int(rows.min(initial=0)), int(rows.max(initial=-1))
    limit = np.iinfo(np.int32).max if size is None else size
    if low < 0 or high >= limit:
        raise ValueError(f"{noun} rows must lie in [0, {limit}), got {low if low < 0 else high}")
    return np.ascontiguousarray(rows, np.int32)
