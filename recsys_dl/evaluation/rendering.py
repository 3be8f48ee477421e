"""Rendering tables as plain text that fits the page, and as HTML."""

from __future__ import annotations

import html
import os
import shutil
import sys
from collections.abc import Sequence

NARROWEST, WIDEST = 60, 160  # pages, in characters


def page_width() -> int:
    """Return the width of the terminal or the variable COLUMNS; 160 if the output is not a terminal."""
    if os.environ.get("COLUMNS", "").isdigit() or (sys.stdout is not None and sys.stdout.isatty()):
        return max(shutil.get_terminal_size().columns, NARROWEST)
    return WIDEST


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None) -> str:
    """Return an aligned text table: the first column left-aligned, the others right-aligned.

    Columns that exceed `width` continue in further tables below, each repeating the first column; None means no limit.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    if width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        groups: list[list[int]] = [[0]]
        for column in range(1, len(widths)):
            taken = sum(widths[one] + 2 for one in groups[-1]) + widths[column]
            if len(groups[-1]) > 1 and taken > width:
                groups.append([0])
            groups[-1].append(column)
        if len(groups) > 1:
            tables = (([header[c] for c in group], [[row[c] for c in group] for row in rows]) for group in groups)
            return "\n\n".join(text_table(*table) for table in tables)
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def shortened_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, long: int, width: int) -> str:
    """Return a left-aligned text table, with the texts of column `long` truncated so that rows fit into `width`."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    left = max(width - sum(widths) - 2 * (len(widths) - 1) + widths[long], 12)
    cut = [
        [cell[: left - 3] + "..." if at == long and len(cell) > left else cell for at, cell in enumerate(row)]
        for row in rows
    ]
    widths[long] = min(widths[long], left)
    lines = [header, ["-" * width for width in widths], *cut]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def html_table(header: Sequence[str], rows: Sequence[Sequence[str]], below: str = "") -> str:
    """Return an HTML table, with a text below."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    note = f"<p><small>{html.escape(below)}</small></p>".replace("\n", "<br>") if below else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"
