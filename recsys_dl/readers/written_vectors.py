"""Vectors, such as embeddings, that a table holds as text: `[0.1, 0.2]`, `{0.1,0.2}`, NumPy's `[0.1 0.2]`, or `0.1,0.2,0.3,0.4`."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from recsys_dl.data.messages import shorten
from recsys_dl.names import counted

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|NaN|inf|Infinity)|null|None"
GAP = r"(?:\s*[,;|]\s*|\s+)"
CALLS = r"(?:np|numpy|torch)\.\w+\(([^()\[\]]*)\)"  # np.float64(0.1), as NumPy 2 prints a number in a list
AROUND = r"(?s)^(?:\w+\.)?(?:array|tensor)\((.*?)(?:,\s*dtype=[\w.]+)?\)$"
BARE = 4  # numbers at least, where no bracket says that they belong together
MOSTLY = 0.9  # share of the lists of one length above which others are mistakes


@dataclass(frozen=True)
class Found:
    """What a text column holds.

    Attributes:
        vectors: List(Float64), null where the text is missing or an empty list; None if they are no vectors, or may be none.
        doubt: in words, why lists of numbers are not read as vectors though they may be; "" if nothing suggests it.
    """

    vectors: pl.Series | None = None
    doubt: str = ""


def vectors_in(column: pl.Series) -> Found:
    """Return the vectors that a text column holds.

    Lists of numbers are vectors if they have one length, and hold fractions, negative numbers, or 0 and 1 alone. Whole numbers
    may as well be the ids of tags, which the lists of a column repeat, but no list twice.
    """
    texts = column.str.strip_chars()
    texts = texts.str.replace_all(CALLS, "${1}").str.replace(AROUND, "${1}").str.strip_chars()
    open_R = texts.str.contains(r"(?s)^(\[.*\]|\(.*\)|\{.*\})$")
    inner = pl.select(pl.when(open_R).then(texts.str.slice(1, texts.str.len_chars() - 2)).otherwise(texts)).to_series()
    inner = inner.str.replace_all("[\"']", "").str.strip_chars()
    inner = inner.set(open_R & (inner == ""), None).alias(column.name)
    filled = inner.drop_nulls()
    one, several = f"(?:{NUMBER})", f"(?:{GAP}(?:{NUMBER}))"
    is_list_N = filled.str.contains(f"^{one}{several}+$")
    if not len(filled) or 2 * is_list_N.sum() < len(filled):
        return Found()
    least = 2 if open_R.filter(inner.is_not_null()).filter(is_list_N).all() else BARE
    lists = filled.filter(is_list_N).str.extract_all(NUMBER).cast(pl.List(pl.Float64), strict=False)
    lengths = lists.list.len()
    usual = int(lengths.mode().max())  # type: ignore[arg-type]
    same = int((lengths == usual).sum())
    if usual < least:
        return Found()
    numbers = lists.explode()
    fractions = bool((numbers != numbers.floor()).fill_null(False).any())
    signed = bool((numbers < -1).fill_null(False).any())
    flags = bool(numbers.is_in([0.0, 1.0]).all())
    repeating = 2 * int((lists.list.n_unique() < lengths).sum()) > len(lists)
    whole = same == len(filled)
    if whole and (fractions or signed or flags):
        found = inner.str.extract_all(NUMBER).cast(pl.List(pl.Float64), strict=False)
        return Found(found)
    if whole:
        doubt = f"{usual:,} whole numbers a row, some of them repeated in one row" if repeating else ""
        return Found(doubt=doubt)
    if not (fractions or (repeating and same >= MOSTLY * len(filled))):
        return Found()
    if not is_list_N.all():
        odd = column.filter(inner.is_not_null()).filter(~is_list_N)[0]
        return Found(doubt=f"lists of numbers, but {shorten(odd, 40)!r} in {counted(int((~is_list_N).sum()), 'row')}")
    other = int(lengths.filter(lengths != usual)[0])
    return Found(doubt=f"lists of numbers of different lengths, such as {usual:,} and {other:,}")
