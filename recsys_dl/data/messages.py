"""What messages about data share: quotations that fit, and the words that files write for a missing value."""

from __future__ import annotations

# As pandas, R, SQL and Python write a missing value. "none" and "nan" in small letters are people's names too.
MISSING = ("", "NULL", "null", "nan", "NaN", "None", "NA", "N/A", "<NA>", "\\N", "NaT")


def shorten(text: str, length: int = 80) -> str:
    """Return text that fits into a message."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def is_number(text: str) -> bool:
    """Return whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
