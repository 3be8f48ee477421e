"""Ids that probably do not mean what they say: one id in several spellings, numbers rounded by a spreadsheet, totals rows."""

from __future__ import annotations

import logging

import numpy as np
import polars as pl

from recsys_dl.data.messages import shorten

log = logging.getLogger(__name__)

INVISIBLE = r"[\s\u00a0\u200b-\u200f\u2060\ufeff\u00ad]+"  # blanks of every kind, zero-width marks, soft hyphens
ROUNDED = r"^\d(\.\d+)?[eE]\+\d+$"
TOTALS = ("total", "totals", "grandtotal", "subtotal", "sum", "gesamt", "summe", "totale")
MANY = 0.01  # share of the ids that differ in case alone above which a warning is logged; fewer may be chance


def check_spellings(where: str, role: str, ids: pl.Series, rows_N: np.ndarray) -> None:
    """Warn of ids that are equal but for case, invisible characters or Unicode form, rounded numbers, and totals rows.

    Args:
        where: the log, for messages.
        role: "user" or "item".
        ids: text, distinct.
        rows_N: of each interaction, its position in `ids`.
    """
    bare = ids.str.normalize("NFC").str.replace_all(INVISIBLE, " ").str.strip_chars(" ")
    same = _merged(where, role, ids, bare, "invisible characters, blanks or the form of accents", at_least=1)
    if not same:
        _merged(where, role, ids, bare.str.to_lowercase(), "upper and lower case", at_least=MANY * len(ids))
    rounded = ids.str.contains(ROUNDED)
    if 2 * rounded.sum() > len(ids):
        log.warning(
            "%s: %s ids such as %r are numbers that a spreadsheet has rounded, so that different %ss may have become one; export the "
            "column as text",
            *(where, role, ids.filter(rounded)[0], role),
        )
    for at in ids.str.to_lowercase().str.replace_all(r"[\s:_-]", "").is_in(TOTALS).arg_true():
        if len(ids) > 2 and (num := int((rows_N == at).sum())) == 1:
            log.warning(
                "%s: the %s id %r occurs in %d row: if that is a row of totals, remove it", *(where, role, ids[at], num)
            )


def _merged(where: str, role: str, ids: pl.Series, bare: pl.Series, how: str, *, at_least: float) -> bool:
    """Warn if ids that differ become one, and return whether they do."""
    several = bare.is_duplicated()
    merged = len(ids) - bare.n_unique()
    if not merged or merged < at_least:
        return False
    first = int(several.arg_max() or 0)
    pair = ids.filter(bare == bare[first])
    log.warning(
        "%s: %s of %s %s ids differ from another in %s alone, such as %s and %s; they are read as different %ss",
        *(where, f"{merged:,}", f"{len(ids):,}", role, how),
        *(ascii(shorten(one, 40)) for one in pair.head(2)),
        role,
    )
    return True
