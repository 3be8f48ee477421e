"""Leakage checks for a split: the same interaction in two parts, future data in train, users and items only in test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .blocks import blocks, marked
from .dataset import Dataset, as_interactions
from .interactions import Interactions

EXAMPLES = 3  # shown per finding


@dataclass(frozen=True)
class Finding:
    """One kind of leakage found in one part of a split.

    Attributes:
        kind: "seen", "before own past", "before train's end", "duplicates", "unknown users" or "unknown items".
        part: where it was found: train, validation or test.
        count: how many.
        of: out of how many.
        text: a sentence describing what was counted.
        examples: the first few, as ids.
    """

    kind: str
    part: str
    count: int
    of: int
    text: str
    examples: tuple[str, ...]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return (
            f"{self.count:,} of {self.of:,} {self.text} ({self.count / self.of:.1%}): {'; '.join(self.examples)}{more}"
        )


@dataclass(frozen=True)
class Leakage:
    """The result of `leakage`; false if nothing was found.

    Attributes:
        findings: in the order of the parts.
        checked: interactions of each part, by name.
        timed: whether times could be compared.
    """

    findings: tuple[Finding, ...]
    checked: dict[str, int]
    timed: bool

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __str__(self) -> str:
        sizes = ", ".join(f"{count:,} of {part}" for part, count in self.checked.items())
        untimed = "" if self.timed else "; the log has no times, so order was not checked"
        if not self.findings:
            return f"No leakage found among {sizes} interactions{untimed}."
        kinds = [f"- {finding}" for finding in self.findings]
        return "\n".join([f"Leakage: {len(kinds)} findings among {sizes} interactions{untimed}.", *kinds])

    def count(self, kind: str, part: str = "test") -> int:
        """Return how many findings of a kind a part has."""
        return sum(finding.count for finding in self.findings if (finding.kind, finding.part) == (kind, part))


def leakage(
    train: Dataset | Interactions, test: Dataset | Interactions, *, validation: Dataset | Interactions | None = None
) -> Leakage:
    """Check a split for leakage; the result has counts and examples, and prints as a report.

    Each held-out part is compared with train (and with its own `histories`, which a model folds in as if it had been trained
    on them), and test with validation too:

    - "seen": the same user and item on both sides. Lists that exclude known items can never recommend it.
    - "before own past": an interaction older than the user's newest known one.
    - "before train's end": one older than the newest in train overall, so that train contains its future.
      This is expected of splits by time within each user, such as leave_last_out.
    - "unknown users", "unknown items": without interactions in train (and histories). On purpose in cold-user and cold-item splits.

    In each part, "duplicates" also counts repeated interactions of the same user and item, beyond the first.

    Args:
        train: training part.
        test: test part.
        validation: validation part, if any.

    Raises:
        ValueError: parts over different users or items.
    """
    parts = {"train": train} | ({} if validation is None else {"validation": validation}) | {"test": test}
    logs = {name: as_interactions(part) for name, part in parts.items()}
    shapes = {(log.num_users, log.num_items) for log in logs.values()}
    if len(shapes) > 1:
        raise ValueError(f"the parts must be over the same users and items, got (users, items) of {sorted(shapes)}")
    names = _Names(train)
    findings: list[Finding | None] = []
    for name, log in logs.items():
        findings.append(_duplicates(name, log, names))
        if name == "train" or not len(log):
            continue
        part = parts[name]
        histories = part.histories if isinstance(part, Dataset) else None
        known = logs["train"] if histories is None else Interactions.concat([logs["train"], histories])
        findings += _against("train" if histories is None else "train or histories", known, name, log, names)
        findings.append(_before_end(logs["train"], name, log, names))
        findings += _unknown(known, name, log, names)
        if name == "test" and "validation" in logs:
            findings += _against("validation", logs["validation"], name, log, names)
    timed = all(log.times_N is not None for log in logs.values())
    return Leakage(tuple(filter(None, findings)), {name: len(log) for name, log in logs.items()}, timed)


class _Names:
    """Formats users, items and times for messages."""

    def __init__(self, data: Dataset | Interactions) -> None:
        self.data = data if isinstance(data, Dataset) else None

    def user(self, row: int) -> str:
        return f"user {row if self.data is None else self.data.users.ids[int(row)]}"

    def item(self, row: int) -> str:
        return f"item {row if self.data is None else self.data.items.ids[int(row)]}"

    def pair(self, log: Interactions, at: int) -> str:
        return f"{self.user(log.users_N[at])} and {self.item(log.items_N[at])}"


def _duplicates(part: str, log: Interactions, names: _Names) -> Finding | None:
    found = [np.empty(0, np.int64)]
    if log.by_user.nnz < len(log):
        for _, _, positions, mine in log.by_user_ranges():
            pairs_N = pairs_of(mine)
            order_N = np.argsort(pairs_N, kind="stable")
            found.append(positions[order_N[1:][pairs_N[order_N[1:]] == pairs_N[order_N[:-1]]]])
    again = np.sort(np.concatenate(found))
    return _finding(
        "duplicates", part, again, len(log), "interactions repeat an earlier one", lambda at: names.pair(log, at)
    )


def _against(known_name: str, known: Interactions, part: str, log: Interactions, names: _Names) -> list[Finding | None]:
    """Compare a held-out part with the known interactions: same pairs, and a user's own future."""
    seen = np.flatnonzero(known_pairs(log, known))
    findings = [
        _finding("seen", part, seen, len(log), f"interactions are also in {known_name}", lambda at: names.pair(log, at))
    ]
    if log.times_N is not None and known.times_N is not None:
        times_N = log.times_N
        newest_U = np.full(known.num_users, np.iinfo(np.int64).min)
        for block in blocks(len(known)):
            np.maximum.at(newest_U, known.users_N[block], known.times_N[block])
        early = np.flatnonzero(times_N < newest_U[log.users_N])
        text = f"interactions are older than their user's newest in {known_name}"
        findings.append(
            _finding(
                "before own past",
                part,
                early,
                len(log),
                text,
                lambda at: (
                    f"{names.pair(log, at)} at {_moment(times_N[at])}, newest {_moment(newest_U[log.users_N[at]])}"
                ),
            )
        )
    return findings


def _before_end(train: Interactions, part: str, log: Interactions, names: _Names) -> Finding | None:
    if log.times_N is None or train.times_N is None or not len(train):
        return None
    times_N, end = log.times_N, train.times_N.max()
    early = np.flatnonzero(times_N < end)
    text = f"interactions are older than the newest of all of train, {_moment(end)}"
    return _finding(
        "before train's end", part, early, len(log), text, lambda at: f"{names.pair(log, at)} at {_moment(times_N[at])}"
    )


def _unknown(known: Interactions, part: str, log: Interactions, names: _Names) -> list[Finding | None]:
    findings = []
    for noun, mine_N, known_N, size, name in (
        ("users", log.users_N, known.users_N, log.num_users, names.user),
        ("items", log.items_N, known.items_N, log.num_items, names.item),
    ):
        is_known = marked(known_N, size)
        mine = np.unique(mine_N)
        strange = mine[~is_known[mine]]
        findings.append(_finding(f"unknown {noun}", part, strange, len(mine), f"{noun} occur only in this part", name))
    return findings


def _finding(kind: str, part: str, found: np.ndarray, of: int, text: str, show: Callable[[int], str]) -> Finding | None:
    if not len(found):
        return None
    return Finding(kind, part, len(found), of, f"{part} {text}", tuple(show(int(at)) for at in found[:EXAMPLES]))


def pairs_of(log: Interactions) -> np.ndarray:
    """Return one int64 key for each user-item pair."""
    return log.users_N.astype(np.int64) * log.num_items + log.items_N


def known_pairs(log: Interactions, known: Interactions) -> np.ndarray:
    """Return which interactions have a pair in `known`, by binary search in its users' sorted items."""
    indptr, indices = known.by_user.indptr, known.by_user.indices
    found_N = np.zeros(len(log), bool)
    if not len(indices):
        return found_N
    for block in blocks(len(log)):
        users_B, items_B = log.users_N[block], log.items_N[block]
        low_B, end_B = indptr[users_B].astype(np.int64), indptr[users_B + 1].astype(np.int64)
        high_B = end_B.copy()
        while (open_B := low_B < high_B).any():
            middle_B = (low_B + high_B) // 2
            below_B = open_B & (indices[np.minimum(middle_B, len(indices) - 1)] < items_B)
            low_B = np.where(below_B, middle_B + 1, low_B)
            high_B = np.where(open_B & ~below_B, middle_B, high_B)
        found_N[block] = (low_B < end_B) & (indices[np.minimum(low_B, len(indices) - 1)] == items_B)
    return found_N


def _moment(seconds: int) -> str:
    return str(np.datetime64(int(seconds), "s")).replace("T", " ")
