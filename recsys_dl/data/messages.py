"""Helpers for messages about data: shortened quotations, counts of things, and common spellings of missing values."""

from __future__ import annotations

# Missing ids as written by pandas, R, SQL and Python. Lowercase "none" is excluded: it may be somebody's name.
MISSING = (
    *("", "NULL", "null", "nan", "NaN", "None", "NA", "N/A", "<NA>", "\\N", "NaT"),
    *("#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!"),  # a spreadsheet's errors
)

# Missing features: these, and what people write where nothing is known.
MISSING_FEATURES = (
    *(*MISSING[1:], "none", "NONE", "Null", "NAN", "n/a", "N/a"),
    *("-", "--", "?", "(no genres listed)"),
)


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: 1 row, 2 rows, 1,000 categories."""
    several = f"{noun[:-1]}ies" if noun[-1] == "y" and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def shorten(text: str, length: int = 80) -> str:
    """Return text short enough for a message."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def is_number(text: str) -> bool:
    """Return whether Python parses a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
