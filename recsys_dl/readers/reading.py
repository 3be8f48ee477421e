"""Reporting on a log that was read: which column is what, in one line, and what looks wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import numpy as np
import polars as pl

from recsys_dl.data.messages import MISSING, shorten

from .columns import Columns, hint
from .tables import Table

NUMBERS = r"^\s*\[?\s*\d+(\s*,\s*\d+|\s+\d+)*\s*\]?\s*$"  # one or more integers
SEVERAL = r"\d\s*[\s,]\s*\d"
A_TIME = 100_000_000  # seconds since 1970; smaller numbers are an order
DAY = 86_400
FEW_ROWS = 20  # shorter logs may legitimately have a single user

log = logging.getLogger(__name__)


def described(
    table: Table, chosen: Columns, title: int | None, weights: str | None, times: str | None, notes: Sequence[str]
) -> str:
    """Return one line: the columns by role, the range of the weights, how times were read, ignored columns, and `notes`."""
    roles = [f"{role} = {_name(table, at)}" for role, at in (("user", chosen.user), ("item", chosen.item))]
    roles.append(
        "no weight: each row counts 1"
        if chosen.weight is None
        else f"weight = {_name(table, chosen.weight)} ({weights})"
    )
    roles.append("no time" if chosen.time is None else f"time = {_name(table, chosen.time)} ({times})")
    roles += [] if title is None else [f"title = {_name(table, title)}"]
    used = {*vars(chosen).values(), title}
    left = [i for i in range(len(table.names)) if i not in used]
    left.sort(key=lambda i: hint(table.names[i]) is None)
    shown = [_unused(table, i, chosen) for i in left[:8]]
    if left:
        roles.append(f"ignored: {', '.join(shown)}{f' and {len(left) - 8} more' if len(left) > 8 else ''}")
    return f"{table.where}: {'; '.join([', '.join(roles[:4]), *roles[4:], *notes])}"


def check_ids(table: Table, chosen: Columns, rows: int, users: pl.Series, items: pl.Series) -> None:
    """Warn if a log has only one user or one item.

    Raises:
        ValueError: most ids of users or items are lists of numbers.
    """
    for role, ids, at in (("user", users, chosen.user), ("item", items, chosen.item)):
        name = table.names[at]
        several = ids.str.contains(SEVERAL)
        if len(ids) > 1 and 2 * several.sum() > len(ids) and ids.str.contains(NUMBERS).sum() > 0.95 * len(ids):
            shown = ids.filter(several)[0]
            mark = "," if "," in shown else " "
            raise ValueError(
                f"{table.where}: {role} ids must be single values, but {name!r} holds lists of numbers such as {shorten(shown, 40)!r}. "
                f"Pass a frame with one row per value: frame.with_columns(polars.col({name!r}).str.split({mark!r})).explode({name!r})."
            )
        if len(ids) == 1 and rows >= FEW_ROWS:
            log.warning(
                "%s: all %s rows have the same %s, %r: is column %r the right one? If not, set %s=…",
                *(table.where, f"{rows:,}", role, shorten(ids[0], 40), name, role),
            )


def check_times(where: str, times_N: np.ndarray) -> None:
    """Warn of times that are missing (0), in the future, or all the same."""
    zeros, latest = int((times_N == 0).sum()), int(times_N.max())
    if zeros and latest > A_TIME:
        log.warning(
            "%s: the time is 0, 1970-01-01, in %s of %s rows: probably missing. They count as the oldest; remove or correct them.",
            *(where, f"{zeros:,}", f"{len(times_N):,}"),
        )
    if (num := int((times_N > time.time() + DAY).sum())) and latest > A_TIME:
        log.warning("%s: %s of %s times are in the future", where, f"{num:,}", f"{len(times_N):,}")
    if len(times_N) >= FEW_ROWS and times_N.min() == latest:
        log.warning("%s: all rows have the same time, which therefore orders nothing; ignore it: time=False", where)


def unreadable(column: pl.Series, unread: pl.Series) -> int:
    """Return how many values are present and not blank, but could not be parsed."""
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
