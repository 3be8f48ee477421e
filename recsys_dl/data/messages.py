"""Helpers for messages about data: shortened quotations, and common spellings of missing values."""

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
