"""What a person is told of a log that was read: which column is what, in one line."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from .columns import Columns, hint
from .messages import MISSING, shorten
from .tables import Table


def described(table: Table, chosen: Columns, title: int | None, times: str | None, notes: Sequence[str]) -> str:
    """Return one line: the columns by role, how times were read, what was left out, and `notes`."""
    roles = [f"{role} = {_name(table, at)}" for role, at in (("user", chosen.user), ("item", chosen.item))]
    roles.append("no weight: each row counts 1" if chosen.weight is None else f"weight = {_name(table, chosen.weight)}")
    roles.append("no time" if chosen.time is None else f"time = {_name(table, chosen.time)} ({times})")
    roles += [] if title is None else [f"title = {_name(table, title)}"]
    used = {*vars(chosen).values(), title}
    left = [i for i in range(len(table.names)) if i not in used]
    left.sort(key=lambda i: hint(table.names[i]) is None)
    shown = [_unused(table, i, chosen) for i in left[:8]]
    if left:
        roles.append(f"left out: {', '.join(shown)}{f' and {len(left) - 8} more' if len(left) > 8 else ''}")
    return f"{table.where}: {'; '.join([', '.join(roles[:4]), *roles[4:], *notes])}"


def unreadable(column: pl.Series, unread: pl.Series) -> int:
    """Return how many values are there, and say something, but could not be read."""
    if column.dtype != pl.String or not unread.any():
        return 0
    return int((~column.filter(unread).str.strip_chars().is_in(MISSING)).fill_null(False).sum())


def _name(table: Table, at: int) -> str:
    return shorten(table.names[at], 40) or f"column {at}"


def _unused(table: Table, at: int, chosen: Columns) -> str:
    name, role = _name(table, at), hint(table.names[at])
    if (role == "weight" and chosen.weight is None) or (role == "time" and chosen.time is None):
        return f"{name} (if it is the {role}: {role}={name})"
    return name
