"""Detecting a text file's layout (separator, quotes, header, comments) from its first lines."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from recsys_dl.data.messages import is_number, shorten

from .text_files import TextFile, head_of, split_rows
from .unfolded import Unfolded, unfolded

SEPARATORS = ("::", "\t", ",", ";", "|", " ")
QUOTING = ("\t", ",", ";")  # separators between fields that may be double-quoted
SURE = ("::", "\t")  # practically never occur inside text

log = logging.getLogger(__name__)

_TYPED = re.compile(r"[^:]+:(token|float)(_seq)?")
_WRAPPED = re.compile(r'"(?:[^"]|"")*"')
_DECIMAL = re.compile(r"-?\d+(?:[.,]\d+)?")


@dataclass(frozen=True)
class Look:
    """The first lines split by one separator: fields, the most common number of fields, and the share of rows with it."""

    separator: str
    quote: str | None
    rows: list[list[str]]
    width: int
    share: float
    names: int

    @property
    def headed(self) -> bool:
        """Whether the first row has as many fields as the rest, or one fewer."""
        return len(self.rows[0]) in (self.width, self.width - 1)


def open_text(
    path: Path,
    *,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = None,
    encoding: str = "utf-8",
    known: Callable[[str], bool] = lambda name: False,
    wanted: Collection[str] = (),
    prefer: str | None = None,
    named: bool = True,
) -> TextFile | Unfolded:
    """Inspect the beginning of a file and return how to read it.

    Args:
        path: plain, or gzip- or zstd-compressed (detected by content).
        separator: one of SEPARATORS or any other text; a space means any run of spaces. None detects it.
        header: whether the first row is a header; None detects it.
        quote: quote character around fields, "" for none. None means double quotes with the separators in QUOTING, except with
            RecBole's typed header and tabs, where they are literal unless the first lines show quoting.
        encoding: Python name; a byte-order mark takes precedence.
        known: whether a name is certainly a column name.
        wanted: names given by the caller; a first row that contains one is a header.
        prefer: a separator to use if it splits the file.
        named: whether the caller names the columns, so that the file must hold one interaction per row.

    Raises:
        ValueError: empty, binary, a different encoding, or the separator does not split it.
    """
    if quote is not None and len(quote.encode()) > 1:
        raise ValueError(f'quote must be one character such as \'"\', or "" for none, got {shorten(quote)!r}')
    head, encoding, whole = head_of(path, encoding)
    lines = head.split("\n")
    if not whole and len(lines) > 1:
        lines.pop()
    lines = [line.rstrip("\r") for line in lines]
    declared = re.fullmatch('"?sep=(.)"?', lines[0], re.IGNORECASE)  # Excel's
    separator = separator or (declared[1] if declared else None)
    skipped = int(bool(declared))
    skipped += _comments(lines[skipped:], known)
    lines = [line for line in lines[skipped:] if line.strip()][:50]
    if not lines:
        raise ValueError(f"{path} must hold rows, but it is empty")
    if lines[0].startswith("#"):
        lines[0] = lines[0].lstrip("# ")
    if not named and not header and separator in (None, " ", "\t", ","):
        special = unfolded(path, encoding, lines, skipped)
        if special is not None:
            return special
    found = best_look(lines, quote, known, wanted, prefer)
    if separator is None:
        if found is None:
            raise ValueError(
                f"{path} seems to have only one column, its first line is {shorten(lines[0])!r}; none of "
                f"{', '.join(repr(s) for s in SEPARATORS)} splits it. Set the separator: separator=..."
            )
        look = found
    else:
        look = _look(lines, separator.replace("\\t", "\t"), quote, known, wanted)
        if look.width < 2:
            better = found.separator if found else None
            advice = f"{better!r} would split it: separator={better!r}" if found else "check the file and the separator"
            raise ValueError(
                f"separator {look.separator!r} leaves {path} with one column, its first line is {shorten(lines[0])!r}. "
                f"{advice}."
            )
    rows = look.rows
    typed = all(_TYPED.fullmatch(name) for name in rows[0])
    if typed:
        look = _look(lines, look.separator, "", known, wanted)
        rows = look.rows
    names = [name.strip() for name in rows[0]]
    known_names = [name for name in names if known(name) or name in wanted or _TYPED.fullmatch(name)]
    if header is None:
        header = _has_header(rows, bool(known_names))
    elif header and not known_names and any(map(is_number, names)):
        text = f"{path}: header=True uses the first row as names, but it looks like data: {shorten(', '.join(names))}"
        if not named:
            raise ValueError(f"{text}. If it is, set header=False.")
        log.warning("%s; if it is, set header=False", text)
    elif not header and known_names:
        text = (
            "%s: header=False reads the first row as data, but %s looks like a column name; if it is, set header=True"
        )
        log.warning(text, path, repr(shorten(known_names[0])))
    names = names if header else [f"column_{i}" for i in range(look.width)]
    types: dict[int, str] = {}
    if header and typed:
        types = {i: name.rpartition(":")[2] for i, name in enumerate(names)}
        names = [name.rpartition(":")[0] for name in names]
    elif header and len(names) == look.width - 1 and look.share > 0.9:
        trailing = all(not row[-1].strip() for row in rows[1:] if len(row) == look.width)
        names = [*names, ""] if trailing else ["", *names]  # trailing separators; or row numbers written by R or pandas
    notes = []
    if look.separator == "\t" and look.quote is None and not typed and any('"' in line for line in lines):
        notes.append("double quotes are read literally (quote='\"' treats them as quoting)")
    skip = skipped + int(header)
    return TextFile(path, encoding, look.separator, look.quote, names, header, skip, types, rows[int(header) :], notes)


def best_look(
    lines: list[str],
    quote: str | None,
    known: Callable[[str], bool],
    wanted: Collection[str] = (),
    prefer: str | None = None,
) -> Look | None:
    """Return the lines split by the most likely separator, None if there is none.

    A separator that splits the first line into known column names, and into as many fields as the rows, is preferred over one that
    only splits rows; then one that yields more fields, since commas occur within fields (decimals, texts) and others rarely do.
    """
    looks = [_look(lines, separator, quote, known, wanted) for separator in SEPARATORS]
    looks = [look for look in looks if look.width > 1 and 2 * look.share >= 1]
    if not looks:
        return None
    if preferred := [look for look in looks if look.separator == prefer and look.headed]:
        return preferred[0]

    def likelihood(look: Look) -> tuple[bool | int | float, ...]:
        sure = look.share > 0.9 and look.headed
        cells = [cell for row in look.rows[-20:] for cell in row]
        blank = look.separator == " " and not all(_DECIMAL.fullmatch(cell) for cell in cells)
        return (
            look.names if look.headed else 0,
            sure,
            look.separator in SURE,
            not blank,
            look.width,
            -SEPARATORS.index(look.separator),
        )

    return max(looks, key=likelihood)


def _look(
    lines: list[str], separator: str, quote: str | None, known: Callable[[str], bool], wanted: Collection[str]
) -> Look:
    if quote is None and separator in QUOTING:
        quote = None if separator == "\t" and not _quotes_tabs(lines) else '"'
    rows = split_rows(lines, separator, quote)
    width = Counter(map(len, rows)).most_common(1)[0][0]
    share = sum(len(row) == width for row in rows) / len(rows)
    names = sum(known(name.strip()) or name.strip() in wanted for name in rows[0])
    return Look(separator, quote or None, rows, width, share, names)


def _quotes_tabs(lines: list[str]) -> bool:
    """Whether a tab-separated file shows quoting: all header fields are quoted, or inner quotes are doubled."""
    if all(_WRAPPED.fullmatch(field.strip()) for field in lines[0].split("\t")):
        return True
    fields = [field for line in lines for field in line.split("\t") if '"' in field]
    return all(map(_WRAPPED.fullmatch, fields)) and any('""' in field[1:-1] for field in fields)


def _comments(lines: list[str], known: Callable[[str], bool]) -> int:
    """Return how many lines at the top are blank, or comments after % (KONECT) or # (SNAP) that are not a header."""
    for i, line in enumerate(lines):
        if line.startswith("#") and any(known(word) for word in re.split(r"[\s,;|]+", line.lstrip("# "))):
            separated = best_look([line.lstrip("# "), *lines[i + 1 : i + 20]], None, known)
            if separated is not None and separated.headed:
                return i
        if line.strip() and not line.startswith(("%", "# ")) and not (line.startswith("#") and not i):
            return i
    return len(lines)


def _has_header(rows: list[list[str]], has_known: bool) -> bool:
    first = [name.strip() for name in rows[0]]
    if has_known:
        return True
    if any(is_number(name) for name in first):
        return False
    rest = [row for row in rows[1:] if len(row) == len(first)]
    return bool(rest) and any(all(is_number(row[i]) for row in rest) for i in range(len(first)))
