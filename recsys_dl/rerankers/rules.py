"""Business rules: which items may be shown, where, and how many of each kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.dataset import Dataset, seen_of
from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.rerank import search as search
from recsys_dl.kernels.rerank.rules import Seen, ruled
from recsys_dl.protocols import UserState

from .attributes import categories, column, meets
from .list_reranker import Chosen, ListReranker, RerankBatch, plain
from .rule_conflicts import check_rules
from .rule_words import Rule, gathered, read_rules

TOGETHER = "the rules together"
EVERYWHERE = 2**31 - 1  # window of a rule without one


class Rules(ListReranker):
    """Keeps the candidates' order, as far as rules allow.

    Among all lists that satisfy the rules the result is the longest, and among these the first in lexicographic candidate order.
    If no list satisfies them all, at_least rules are relaxed, the last first, each by as little as needed;
    allow, deny and at_most never are. Then a pin barred by at_most is left out, and a pin past the end of a short list is placed
    at its end. `Reranked.unmet` says which and why. Conflicts that follow from the rules, the items and k alone are errors.

    Each rule has a name and one of:

    - `allow: {price: {min: 5, max: 60}}`: only these items. A condition names columns of item features (`item_id` and `title`
      too), each with a value, a list of values, or a range; all must hold. An item without a value meets no condition.
    - `deny: {in_stock: false}`: none of these; `deny: already_had`: no item the user interacted with in training.
    - `at_most: 2`, with `per: brand` (per value, or per element of a list column) or `of:` a condition;
      `within: 3` counts only the top three positions.
    - `at_least: 1` with `of:` a condition; likewise `within`.
    - `pin: b42` with `at: 1`: this item, by id, at this position, whether or not it is a candidate; not shown if k is
      smaller.

    Args:
        rules: mappings as above, in order of importance; strings among them are paths of YAML files with lists of rules.

    Attributes:
        denied_I: int16, 1 + the first rule that removes an item for every user, or 0.
        groups_IG: CSR, groups of each item under at_most rules.
        family_G: int32, the rule of each group.
        serves_I: uint32, bit m is set if an item counts for the m-th at_least rule.
        kinds_I: int32, equal for items with the same groups and needs.
        pinned_P: int32, pinned items by ascending position.
        had_UI: CSR, users' training items; empty if no rule needs them.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl import Ranking, read_log
        >>> from recsys_dl.rerankers import Rules
        >>> log = read_log([("ann", "b1"), ("ann", "b2"), ("bob", "b3")])
        >>> candidates = Ranking(np.array([[0, 1, 2]]), np.array([[1.0, 0.9, 0.8]]))
        >>> rules = Rules(rules=[{"name": "new first", "pin": "b3", "at": 1}]).prepare(log)
        >>> rules.rerank([0], candidates, k=3).items_BK
        array([[2, 0, 1]], dtype=int32)
    """

    fitted = ("denied_I", "groups_IG", "family_G", "serves_I", "kinds_I", "pinned_P", "had_UI")
    denied_I: np.ndarray
    groups_IG: sp.csr_matrix
    family_G: np.ndarray
    serves_I: np.ndarray
    kinds_I: np.ndarray
    pinned_P: np.ndarray
    had_UI: sp.csr_matrix

    def __init__(self, *, rules: Sequence[Mapping[str, Any] | str]) -> None:
        self.rules = plain(gathered(rules))
        self._rules = read_rules(self.rules)
        self._caps = [rule for rule in self._rules if rule.kind == "at_most"]
        self._needs = [rule for rule in self._rules if rule.kind == "at_least"]
        self._pins = sorted((rule for rule in self._rules if rule.kind == "pin"), key=lambda rule: rule.number)
        self._seen = next((number for number, rule in enumerate(self._rules) if rule.forbids_seen), -1)

    def _learn(self, train: Dataset | Interactions, item_vectors_ID: np.ndarray | None) -> None:
        size = self.num_items
        self.denied_I = np.zeros(size, np.int16)
        for number, rule in enumerate(self._rules, 1):
            if rule.kind in ("allow", "deny") and rule.condition is not None:
                met_I = meets(train, rule.condition, f"rule {rule.name!r}")
                self.denied_I[(met_I == (rule.kind == "deny")) & (self.denied_I == 0)] = number
        parts = [sp.csr_matrix((size, 0), dtype=np.int8)]
        for rule in self._caps:
            where = f"rule {rule.name!r}"
            if rule.per is not None:
                parts.append(categories(column(train, rule.per, where))[0].astype(np.int8))
            else:
                assert rule.condition is not None
                parts.append(sp.csr_matrix(meets(train, rule.condition, where)[:, None], dtype=np.int8))
        self.groups_IG = sp.hstack(parts, format="csr")
        self.groups_IG.sort_indices()
        self.family_G = np.repeat(np.arange(len(self._caps)), [part.shape[1] for part in parts[1:]]).astype(np.int32)
        self.serves_I = np.zeros(size, np.uint32)
        for m, rule in enumerate(self._needs):
            assert rule.condition is not None
            self.serves_I[meets(train, rule.condition, f"rule {rule.name!r}")] |= np.uint32(1 << m)
        self.kinds_I = _kinds(self.groups_IG, self.serves_I)
        self.pinned_P = np.array([_item_row(train, pin) for pin in self._pins], np.int32)
        had_UI = seen_of(train).by_user
        if self._seen >= 0:
            self.had_UI = sp.csr_matrix((np.ones(had_UI.nnz, np.int8), had_UI.indices, had_UI.indptr), had_UI.shape)
        else:
            self.had_UI = sp.csr_matrix(had_UI.shape, dtype=np.int8)
        self._get_ready()

    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of `prepare`."""
        super().restore(arrays)
        self._get_ready()

    def _get_ready(self) -> None:
        self._checked_k: set[int] = set()
        self._check(EVERYWHERE)

    def _check(self, k: int) -> None:
        if k not in self._checked_k:
            check_rules(self._rules, self._tables(k), self.denied_I, k)
            self._checked_k.add(k)

    def _tables(self, k: int) -> tuple[search.Caps, search.Needs, search.Pins]:
        """Return the rules in the form kernels take, windows no longer than k."""
        number = {rule.name: n for n, rule in enumerate(self._rules)}

        def of(rules: Sequence[Rule], value: Any) -> np.ndarray:
            return np.array([value(rule) for rule in rules], np.int32)

        def window(rule: Rule) -> int:
            return min(k, rule.within or EVERYWHERE)

        caps = search.Caps(
            self.groups_IG.indptr,
            self.groups_IG.indices.astype(np.int32, copy=False),
            of(self._caps, lambda rule: rule.number)[self.family_G],
            of(self._caps, window)[self.family_G],
            self.family_G,
            of(self._caps, lambda rule: number[rule.name]),
        )
        least, numbers = (lambda rule: rule.number), (lambda rule: number[rule.name])
        needs = search.Needs(self.serves_I, of(self._needs, least), of(self._needs, window), of(self._needs, numbers))
        pins = search.Pins(self.pinned_P, of(self._pins, lambda rule: rule.number - 1), of(self._pins, numbers))
        return caps, needs, pins

    def _choose(self, batch: RerankBatch, k: int) -> Chosen:
        self._check(k)
        caps, needs, pins = self._tables(k)
        windows_W = np.concatenate([caps.window_G, needs.window_M])
        if len(windows_W):
            windows_W = np.unique(windows_W)
        rows, size = batch.items_BL.shape
        places_BK, outside_BK = np.empty((rows, k), np.int32), np.empty((rows, k), np.int32)
        moved_BK, dropped_BL = np.zeros((rows, k), np.int16), np.empty((rows, size), np.int16)
        problems_BR3 = np.zeros((rows, len(self._rules) + 1, 3), np.int32)
        tables = (self.denied_I, self.kinds_I, caps, needs, pins, self._seen_by(batch), windows_W)
        ruled(batch.items_BL, *tables, places_BK, outside_BK, moved_BK, dropped_BL, problems_BR3)
        unmet_N2, messages = self._in_words(problems_BR3)
        names = [rule.name for rule in self._rules]
        return Chosen(
            places_BK,
            outside_BK=outside_BK,
            moved_BK=moved_BK,
            dropped_BL=dropped_BL,
            reasons=[*names, TOGETHER],
            unmet_N2=unmet_N2,
            messages=messages,
        )

    def _seen_by(self, batch: RerankBatch) -> Seen:
        if self._seen < 0:
            nowhere = np.zeros(len(batch.items_BL), np.int64)
            return Seen(nowhere, nowhere, np.zeros(0, np.int32), -1)
        if isinstance(batch.users, UserState):
            matrix, rows = batch.users.histories.by_user, np.arange(len(batch.users))
        else:
            matrix, rows = self.had_UI, batch.rows(self.num_users)
        starts_B, ends_B = matrix.indptr[rows].astype(np.int64), matrix.indptr[rows + 1].astype(np.int64)
        return Seen(starts_B, ends_B, matrix.indices.astype(np.int32, copy=False), self._seen)

    def _in_words(self, problems_BR3: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Return which lists have which problem, int32 [N, 2], and the messages."""
        lists_N, rules_N = np.nonzero(problems_BR3[:, :, 0])
        if not len(lists_N):
            return np.zeros((0, 2), np.int32), []
        found_N4 = np.column_stack([rules_N, problems_BR3[lists_N, rules_N]])
        distinct, which_N = np.unique(found_N4, axis=0, return_inverse=True)
        messages = [self._message(*map(int, row)) for row in distinct]
        return np.column_stack([lists_N, which_N.ravel()]).astype(np.int32), messages

    def _message(self, rule: int, cause: int, count: int, other: int) -> str:
        if cause == search.SHORT:
            return f"the rules leave a list of only {count}"
        why = {
            search.FEW: f"{count} missing, no more candidates match",
            search.CAPPED: f"{count} missing, rule {self._rules[other]} allows no more",
            search.NO_ROOM: f"{count} missing, pinned items and the length of the list leave no room",
            search.TOGETHER: f"{count} missing, it cannot be satisfied together with the other rules",
            search.GIVEN_UP: f"{count} missing, no list that satisfies all rules was found in {search.STEPS} steps",
            search.SEEN: f"left out by rule {self._rules[other]}",
            search.PIN_CAPPED: "left out, barred by an at_most rule",
            search.PIN_RAISED: f"moved to {count}, where the list ends",
        }
        return f"rule {self._rules[rule]}: {why[cause]}"


def _item_row(train: Dataset | Interactions, pin: Rule) -> int:
    if not isinstance(train, Dataset):
        raise ValueError(f"rule {pin} names an item by id: pass a Dataset, bare Interactions have no ids")
    row = int(train.items.find([pin.item_id])[0])
    if row < 0:
        raise ValueError(f"rule {pin}: the item is not among the {train.num_items} known items")
    return row


def _kinds(groups_IG: sp.csr_matrix, serves_I: np.ndarray) -> np.ndarray:
    """Return int32 [I]: the same number for items with the same groups and needs."""
    numbers: dict[tuple[int, bytes], int] = {}
    indptr, indices = groups_IG.indptr, groups_IG.indices.astype(np.int32)
    keys = ((int(serves), indices[indptr[i] : indptr[i + 1]].tobytes()) for i, serves in enumerate(serves_I))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int32)
