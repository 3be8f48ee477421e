"""The base of all indexes: request validation, the items present, adding, removing, saving and loading.

B queries, I items, N items added, D embedding size, K list.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import psutil
from typing_extensions import Self

from recsys_dl.data.requests import item_lists, list_length
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.processes import current
from recsys_dl.protocols import Ranking
from recsys_dl.saving import Saved

from .index import Lists

Measure = Literal["dot", "cosine"]


class VectorIndex(Saved):
    """Item vectors, searched by inner product ("dot") or cosine similarity ("cosine").

    A subclass stores its arguments under their own names and implements `_build`, `_add`, `_search`, `vectors`, `arrays` and
    `restore`. Vectors are copied; queries and vectors may be NumPy arrays or torch tensors.

    Attributes:
        num_items: I, one more than the highest item row; removed items count.
        embedding_size: D.
        present_I: bool, False where an item was removed or never added.
        num_present: the number of items present; also `len(index)`.
    """

    noun = "index"
    measure: Measure = "dot"
    lower: ClassVar[str]  # what to do where memory does not suffice
    tunable: ClassVar[tuple[str, ...]] = ()  # arguments that may be changed after the build
    exhaustive: ClassVar[bool] = False  # whether every vector is compared, so that nothing is missed

    num_items: int
    embedding_size: int
    present_I: np.ndarray
    num_present: int = 0

    def __len__(self) -> int:
        return self.num_present

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments().items())
        built = f" of {len(self):,} items" if hasattr(self, "present_I") else ", not built"
        return f"{type(self).__name__}({arguments}){built}"

    # What an index gives

    @abstractmethod
    def _build(self, emb_ID: np.ndarray) -> None:
        """Replace all vectors by these, which are validated."""

    @abstractmethod
    def _add(self, emb_ND: np.ndarray, items_N: np.ndarray) -> None:
        """Add vectors of items that are not present; `num_items` and `present_I` are not updated yet."""

    @abstractmethod
    def _remove(self, items_N: np.ndarray) -> None:
        """Remove items that are present; `present_I` is not updated yet."""

    @abstractmethod
    def _search(
        self, query_BD: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return items and scores, both [B, K]."""

    @abstractmethod
    def vectors(self, items_N: np.ndarray) -> np.ndarray:
        """Return float32 [N, D]: the vectors of items as they are scored; arbitrary for items that are not present."""

    @abstractmethod
    def arrays(self) -> dict[str, Any]:
        """Return the arrays of the index, by name."""

    @abstractmethod
    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `build`."""

    @abstractmethod
    def bytes_needed(self, num_items: int, size: int) -> int:
        """Return the approximate memory, in bytes, of an index of `num_items` vectors of length `size`."""

    @property
    def exact_vectors(self) -> bool:
        """Whether `vectors` returns the vectors that were added, unchanged."""
        return True

    @property
    @abstractmethod
    def num_bytes(self) -> int:
        """Memory used by the index, in bytes."""

    # What users call

    def check(self, num_items: int) -> None:
        """Check what can be checked without vectors: that requirements are installed, and that there are enough items.

        Raises:
            ValueError: too few items for this index.
            ImportError, RuntimeError: FAISS, or the GPU asked for, is missing; says what to install.
        """

    def build(self, item_emb_ID: np.ndarray) -> Self:
        """Index the vectors of items 0 ... I - 1, replacing any previous ones; return self.

        Within `processes.together` this is collective: every process must build the same index of the same vectors, and has all of it
        afterwards.

        Raises:
            ValueError: not numbers of shape [I, D], NaN or infinite, or too few of them for this index; other processes build another.
            MemoryError: they do not fit into memory.
            ImportError, RuntimeError: FAISS, or the GPU asked for, is missing; says what to install.
        """
        if len(shape := np.shape(item_emb_ID)) == 2:
            self._check_memory(*shape)  # before anything is read or copied
        emb_ID = self._checked(item_emb_ID, "item vectors")
        if not emb_ID.size:
            raise ValueError(f"an index needs at least one vector of at least one number, got shape {emb_ID.shape}")
        self.check(len(emb_ID))
        _check_alike(f"{type(self).__name__} of {len(emb_ID):,} vectors of {emb_ID.shape[1]}")
        self._build(emb_ID)
        self.num_items, self.embedding_size = emb_ID.shape
        self._present(np.ones(self.num_items, bool))
        return self

    def search(
        self, query_BD: np.ndarray, k: int, *, exclude: Lists | None = None, allow: Lists | None = None
    ) -> Ranking:
        """Return min(k, number of permitted items) items for each query, best first.

        Args:
            query_BD: one vector a row, of the embedding size of the index.
            k: length of each list, between 1 and the number of items; any length that memory holds.
            exclude: item rows to leave out, for all queries; or Interactions, of which user b counts for query b; or
                ItemLists (ascending).
            allow: likewise, the item rows that alone may be returned.

        Returns:
            Ranking of [B, k]; of equal scores among those found the lower row comes first, and a list that runs out of
            permitted items is padded with -1 / -inf.

        Raises:
            ValueError: not built, a query of another size, NaN or infinite, k or an item row out of range.
        """
        self._check_fitted()
        query_BD = self._checked(query_BD, "queries", self.embedding_size)
        k = list_length(k, self.num_items, "items of the index")
        out = self._lists(exclude, len(query_BD), "exclude")
        within = self._lists(allow, len(query_BD), "allow")
        if not len(query_BD):
            return Ranking(np.empty((0, k), np.int32), np.empty((0, k), np.float32))
        return Ranking(*self._search(query_BD, int(k), out, within))

    def add(self, item_emb_ND: np.ndarray, items: np.ndarray | Sequence[int] | None = None) -> Self:
        """Add items, without a rebuild; return self.

        Args:
            item_emb_ND: their vectors.
            items: their rows: new ones, or ones that were removed. None appends them after the last row.

        Raises:
            ValueError: vectors as in `build`, or rows that are present, repeated, negative or not as many as vectors.
        """
        self._check_fitted()
        emb_ND = self._checked(item_emb_ND, "item vectors", self.embedding_size)
        if items is None:
            rows = np.arange(self.num_items, self.num_items + len(emb_ND))
        else:
            rows = self._rows(items)
        if len(rows) != len(emb_ND):
            raise ValueError(f"items must have one row for each of {len(emb_ND)} vectors, got {len(rows)}")
        known = rows[rows < self.num_items]
        if (there := known[self.present_I[known]]).size:
            raise ValueError(f"item row {there[0]} is in the index already; remove it first, then add its new vector")
        if not len(rows):
            return self
        size = max(self.num_items, int(rows.max()) + 1)
        self._check_memory(size - self.num_items, self.embedding_size)
        self._add(emb_ND, rows)
        present_I = np.concatenate([self.present_I, np.zeros(size - self.num_items, bool)])
        present_I[rows] = True
        self._present(present_I)
        self.num_items = size
        return self

    def remove(self, items: np.ndarray | Sequence[int]) -> Self:
        """Remove items, without a rebuild; return self.

        Raises:
            ValueError: a row that is not present, or given twice.
        """
        self._check_fitted()
        rows = self._rows(items)
        absent = rows[rows >= self.num_items]
        absent = absent if absent.size else rows[~self.present_I[rows]]
        if absent.size:
            raise ValueError(f"item row {absent[0]} is not in the index, so it cannot be removed")
        self._remove(rows)
        self.present_I[rows] = False
        self.num_present -= len(rows)
        return self

    # For subclasses

    def _checked(self, values: Any, noun: str, size: int | None = None) -> np.ndarray:
        """Return vectors as float32 [N, D] in memory, of length 1 if compared by cosine."""
        array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise ValueError(f"{noun} must be numbers of shape [N, D], got {array.dtype} of shape {array.shape}")
        if size is not None and array.shape[1] != size:
            raise ValueError(f"{noun} must have the embedding size {size} of the index, got {array.shape[1]}")
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, np.float32)
        if array.size and not (np.isfinite(array.min()) and np.isfinite(array.max())):
            bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
            raise ValueError(f"{noun} must be finite, got NaN or infinity in row {bad[0]} ({len(bad):,} rows in all)")
        if self.measure == "cosine":
            array = array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), np.float32(1e-30))
        return array

    def _present(self, present_I: np.ndarray) -> None:
        self.present_I, self.num_present = present_I, int(present_I.sum())

    # Inside

    def _check_fitted(self) -> None:
        if not hasattr(self, "present_I"):
            raise ValueError(f"this {type(self).__name__} holds nothing yet; call build(item_emb_ID) first")

    def _check_memory(self, num_items: int, size: int) -> None:
        needed, free = self.bytes_needed(num_items, size), psutil.virtual_memory().available
        if needed > free:
            raise MemoryError(
                f"{type(self).__name__} of {num_items:,} items of embedding size {size} needs about {needed:,} bytes of "
                f"memory, and {free:,} are free. {self.lower}"
            )

    def _lists(self, given: Lists | None, rows: int, name: str) -> ItemLists | None:
        if given is None:
            return None
        if not isinstance(given, ItemLists):
            return ItemLists(*item_lists(given, np.arange(rows), num_items=self.num_items, name=name))
        if not len(given.starts_B) == len(given.ends_B) == rows:
            raise ValueError(f"{name} must hold one list for each of {rows} queries, got {len(given.starts_B)}")
        if given.items.size and not 0 <= given.items.min() <= given.items.max() < self.num_items:
            raise ValueError(f"{name} must hold rows of the {self.num_items} items of the index")
        return given

    def _rows(self, items: np.ndarray | Sequence[int]) -> np.ndarray:
        rows = np.atleast_1d(np.asarray(items))
        if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or not rows.size):
            raise ValueError(f"items must be rows, integers in one dimension, got {rows.dtype} of shape {rows.shape}")
        rows = rows.astype(np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < np.iinfo(np.int32).max:
            raise ValueError(f"item rows must be in [0, {np.iinfo(np.int32).max}), got {rows.min()} to {rows.max()}")
        if len(np.unique(rows)) < len(rows):
            raise ValueError("items must be given once each, got one twice")
        return rows


def _check_alike(what: str) -> None:
    """Check that all processes build the same.

    Raises:
        ValueError: they do not.
    """
    group = current()
    for rank, other in enumerate(group.gather(what)):
        if other != what:
            raise ValueError(
                f"all processes must build the same index, but process {group.rank} builds {what}, and process {rank} {other}"
            )


def load_index(folder: str | os.PathLike[str]) -> VectorIndex:
    """Read a saved index of any kind.

    Raises:
        FileNotFoundError: no saved index there.
        ValueError: it is damaged, or of a format this version cannot read.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.retrieval import Exact, load_index
        >>> Exact(device="cpu").build(np.eye(3)).save("index")
        >>> load_index("index").search([[0.1, 0.9, 0.5]], k=1).items_BK
        array([[1]], dtype=int32)
    """
    return VectorIndex.load(folder)


def grown(table: np.ndarray, size: int) -> np.ndarray:
    """Return a table of at least `size` rows that begins with the given one, over-allocated so that adding is cheap."""
    if size <= len(table):
        return table
    larger = np.zeros((max(size, len(table) * 5 // 4), *table.shape[1:]), table.dtype)
    larger[: len(table)] = table
    return larger
