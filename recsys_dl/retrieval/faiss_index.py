"""The base of FAISS indexes: item rows, adding and removing, filters, and k results guaranteed.

B queries, I items, N items added, P positions within FAISS (a removed item keeps its position), C candidates, K list.

FAISS returns positions; `item_P` maps them to items. A query is answered in up to three steps, and always gets
min(k, number of permitted items) results:

1. If few items are permitted (an allow-list of less than a sixteenth of all), they are scored exactly.
2. Otherwise FAISS is asked for k items plus the number of excluded ones, and items that are not permitted are dropped. FAISS itself
   skips removed items, and those outside an allow-list shared by all queries, where it can (`IDSelector`, CPU only).
   Queries with fewer than k results are repeated with twice as many candidates and twice the effort, up to `ATTEMPTS` times.
3. Queries that still have fewer, or would need more than a sixteenth of all items, have all permitted items scored exactly.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from recsys_dl.kernels.candidates import best_candidates, num_permitted
from recsys_dl.kernels.item_lists import ItemLists, lists_of

from .library import LONGEST_ON_GPU, faiss_library
from .scoring import FEW, best_permitted, is_shared, scores_of
from .vector_index import VectorIndex, grown

ATTEMPTS = 4  # the last asks for eight times what the first did
CANDIDATES = 1 << 23  # held at once: 96 MB


class FaissIndex(VectorIndex):
    """An index based on FAISS. Vectors of removed items stay in it, hidden, until `build`.

    A subclass implements `_trained`, `_parameters` and `_faiss_bytes`. Scores are float32 inner products; the answers to a query alone and
    in a batch may differ by rounding, as FAISS sums in a different order.

    Attributes:
        item_P: int32, the item at each position within FAISS.
        position_I: int32, each item's position; -1 if it is not present.
    """

    rescore: int = 0  # candidates for each of the k, scored exactly from `_table`; 0 keeps no vectors
    share: float = 1 / FEW  # of the items, that may be asked for
    filters: bool = True  # whether FAISS itself can pass over items
    longest: int | None = None  # candidates of one search, if there is a limit

    item_P: np.ndarray
    position_I: np.ndarray
    _faiss: Any
    _gpu: Any = None
    _selector: Any = None

    # What a kind gives

    @abstractmethod
    def _trained(self, emb_ID: np.ndarray) -> Any:
        """Return an empty FAISS index for such vectors, trained on them."""

    @abstractmethod
    def _parameters(self, faiss: Any, fetch: int, widen: int, selector: dict[str, Any]) -> Any:
        """Return how to search: with `widen` times the effort, through the selector if there is one."""

    @abstractmethod
    def _faiss_bytes(self) -> int:
        """Return how many bytes the FAISS index takes."""

    def _filled(self, ready_ID: np.ndarray) -> Any:
        """Return a FAISS index of such vectors; within `processes.together` all processes call this, and get the same."""
        index = self._trained(ready_ID)
        index.add(ready_ID)
        return index

    def _ready(self, emb: np.ndarray) -> np.ndarray:
        """Return vectors in the size that FAISS is given."""
        return emb

    def _place(self) -> None:
        """Put a copy on the GPU, if one was asked for."""

    def _on_gpu(self, gpu: Any) -> None:
        self._gpu, self.filters, self.longest = gpu, False, LONGEST_ON_GPU

    # What VectorIndex asks

    def check(self, num_items: int) -> None:
        """Check that FAISS is installed."""
        faiss_library()

    @property
    def num_bytes(self) -> int:
        """Memory used by the index on the CPU, in bytes."""
        own = [self.item_P, self.position_I, self.present_I, *([self._table] if self.rescore else [])]
        return self._faiss_bytes() + sum(array.nbytes for array in own)

    def _build(self, emb_ID: np.ndarray) -> None:
        self._faiss = self._filled(self._ready(emb_ID))
        self.item_P = np.arange(len(emb_ID), dtype=np.int32)
        self.position_I = self.item_P.copy()
        self._selector = None
        if self.rescore:
            self._table = np.array(emb_ID)
        self._place()

    def _add(self, emb_ND: np.ndarray, items_N: np.ndarray) -> None:
        ready, held = self._ready(emb_ND), len(self.item_P)
        self._faiss.add(ready)
        if self._gpu is not None:
            self._gpu.index.add(ready)
        self.item_P = np.concatenate([self.item_P, items_N.astype(np.int32)])
        more = max(0, int(items_N.max()) + 1 - len(self.position_I))
        self.position_I = np.pad(self.position_I, (0, more), constant_values=-1)
        self.position_I[items_N] = np.arange(held, len(self.item_P))
        self._selector = None
        if self.rescore:
            self._table = grown(self._table, len(self.item_P))
            self._table[held : len(self.item_P)] = emb_ND

    def _remove(self, items_N: np.ndarray) -> None:
        self.position_I[items_N] = -1
        self._selector = None

    def vectors(self, items_N: np.ndarray) -> np.ndarray:
        """Return float32 [N, D]: the vectors of items, as far as the index keeps them."""
        places_N = np.maximum(self.position_I[items_N], 0)
        if self.rescore:
            return self._table[places_N]
        return self._faiss.reconstruct_batch(places_N.astype(np.int64))[:, : self.embedding_size]

    def _search(
        self, query_BD: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        items_BK = np.full((len(query_BD), k), -1, np.int32)
        scores_BK = np.full((len(query_BD), k), -np.inf, np.float32)
        rows = np.arange(len(query_BD))
        if allow is not None:
            few_B = (allow.ends_B - allow.starts_B) * FEW < self.num_present
            rows = rows[~few_B]
            self._exactly(np.flatnonzero(few_B), query_BD, exclude, allow, items_BK, scores_BK)
        rows = self._attempt(rows, query_BD, exclude, allow, items_BK, scores_BK)
        self._exactly(rows, query_BD, exclude, allow, items_BK, scores_BK)
        return items_BK, scores_BK

    # Inside

    def _exactly(
        self,
        rows: np.ndarray,
        query_BD: np.ndarray,
        exclude: ItemLists | None,
        allow: ItemLists | None,
        items_BK: np.ndarray,
        scores_BK: np.ndarray,
    ) -> None:
        """Fill some rows with the best of all that is permitted."""
        if len(rows):
            items_BK[rows], scores_BK[rows] = best_permitted(
                query_BD[rows],
                items_BK.shape[1],
                self.vectors,
                self.present_I,
                exclude=lists_of(exclude, rows),
                allow=lists_of(allow, rows),
            )

    def _attempt(
        self,
        rows: np.ndarray,
        query_BD: np.ndarray,
        exclude: ItemLists | None,
        allow: ItemLists | None,
        items_BK: np.ndarray,
        scores_BK: np.ndarray,
    ) -> np.ndarray:
        """Fill some rows from FAISS; return those that could have more."""
        k = items_BK.shape[1]
        if not len(rows) or k > (self.longest or k):
            return rows
        selector, allow = self._selected(lists_of(allow, rows), allow)
        fetch_B = np.full(len(query_BD), k * max(1, self.rescore), np.float64)
        if exclude is not None:
            fetch_B += exclude.ends_B - exclude.starts_B
        if allow is not None:
            fetch_B *= self.num_present / np.maximum(1, allow.ends_B - allow.starts_B)
        if not selector:
            fetch_B *= len(self.item_P) / max(1, self.num_present)
        left = []
        for attempt in range(ATTEMPTS):
            many = fetch_B[rows] * 2**attempt > self.share * self.num_present
            left.append(rows[many])
            rows = rows[~many]
            for some, fetch in self._alike(rows, fetch_B * 2**attempt):
                found_BC, scores_BC = self._candidates(query_BD[some], fetch, 2**attempt, selector)
                items_BK[some], scores_BK[some] = best_candidates(
                    found_BC, scores_BC, k, exclude=lists_of(exclude, some), allow=lists_of(allow, some)
                )
            rows = rows[items_BK[rows, -1] < 0]
            if not len(rows):
                break
            could_B = num_permitted(
                self.present_I, len(rows), exclude=lists_of(exclude, rows), allow=lists_of(allow, rows)
            )
            rows = rows[(items_BK[rows] >= 0).sum(axis=1) < np.minimum(k, could_B)]
        return np.concatenate([*left, rows])

    def _selected(self, mine: ItemLists | None, allow: ItemLists | None) -> tuple[dict[str, Any], ItemLists | None]:
        """Return what FAISS itself is to pass over, as an argument of its parameters, and the lists that are left to drop by."""
        if not self.filters:
            return {}, allow
        shared = mine is not None and is_shared(mine)
        if not shared and self.num_present == len(self.item_P):
            return {}, allow
        if not shared and self._selector is not None:
            return {"sel": self._selector}, allow
        kept_P = self.position_I[self.item_P] == np.arange(len(self.item_P))
        if shared:
            assert mine is not None
            allowed_I = np.zeros(self.num_items, bool)
            allowed_I[mine.items[mine.starts_B[0] : mine.ends_B[0]]] = True
            kept_P &= allowed_I[self.item_P]
        selector = faiss_library().IDSelectorBitmap(np.packbits(kept_P, bitorder="little"))
        if not shared:
            self._selector = selector
        return {"sel": selector}, None if shared else allow

    def _alike(self, rows: np.ndarray, fetch_B: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """Return rows that ask for about as many candidates together, few enough to be held at once, and how many."""
        most = len(self.item_P) if self.longest is None else min(self.longest, len(self.item_P))
        wanted = np.minimum(np.ceil(fetch_B[rows]), most).astype(np.int64)
        class_of = np.ceil(np.log2(np.maximum(wanted, 64))).astype(np.int64)
        groups = []
        for number in np.unique(class_of):
            some, fetch = rows[class_of == number], int(wanted[class_of == number].max())
            step = max(1, CANDIDATES // fetch)
            groups += [(some[start : start + step], fetch) for start in range(0, len(some), step)]
        return groups

    def _candidates(
        self, query_BD: np.ndarray, fetch: int, widen: int, selector: dict[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return items and scores that FAISS finds, both [B, C]; -1 for none, and for what was removed."""
        index = self._faiss if self._gpu is None else self._gpu.index
        parameters = self._parameters(faiss_library(), fetch, widen, selector)
        scores_BC, places_BC = index.search(self._ready(query_BD), fetch, params=parameters)
        items_BC = np.where(places_BC >= 0, self.item_P[places_BC], -1)
        if self.num_present < len(self.item_P):
            items_BC = np.where(self.position_I[items_BC] == places_BC, items_BC, -1)
        if self.rescore:
            scores_BC = scores_of(query_BD, items_BC, self.vectors)
        return items_BC, scores_BC

    def arrays(self) -> dict[str, Any]:
        """Return the arrays of the index, by name."""
        kept = {"item_P": self.item_P, "position_I": self.position_I, "embedding_size": np.array(self.embedding_size)}
        if self.rescore:
            kept["emb_PD"] = self._table[: len(self.item_P)]
        return kept | {"faiss": faiss_library().serialize_index(self._faiss)}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `build`."""
        self._faiss = faiss_library().deserialize_index(arrays["faiss"])
        self.item_P, self.position_I = arrays["item_P"], arrays["position_I"]
        self.num_items, self.embedding_size = len(self.position_I), int(arrays["embedding_size"])
        self._present(self.position_I >= 0)
        if self.rescore:
            self._table = arrays["emb_PD"]
        self._place()
