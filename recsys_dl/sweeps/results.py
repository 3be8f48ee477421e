"""All trials of a sweep or a study in one table: in the terminal, as CSV, HTML and a figure."""

from __future__ import annotations

import csv
import html
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recsys_dl.evaluation.rendering import page_width
from recsys_dl.folders import new_file

from .records import STATES, Record, best_first, winners

log = logging.getLogger(__name__)

SHOWN = 15  # rows in the terminal


def table(records: Sequence[Record], metrics: Sequence[str], *, limit: int | None = SHOWN) -> str:
    """Return the trials as a table for the terminal, best first; in color if it is one."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    header, rows = _cells(records, metrics)
    ordered = best_first(records, metrics)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in header:
        shown.add_column(name, justify="left" if name == "state" else "right", overflow="fold")
    best = {one.number for one in winners(records, metrics)}
    for one, row in list(zip(ordered, rows, strict=True))[:limit]:
        style = "bold green" if one.number in best else STYLES.get(one.state, "")
        shown.add_row(*(Text(cell) for cell in row), style=style)
    printed = io.StringIO()
    from sys import stdout

    console = Console(file=printed, width=page_width(), force_terminal=stdout is not None and stdout.isatty())
    console.print(shown)
    more = len(records) - min(len(records), limit or len(records))
    lines = [line.rstrip() for line in printed.getvalue().splitlines() if line.strip()]
    return "\n".join([*lines, *([f"… and {more} more"] if more else [])])


STYLES = {"pruned": "dim", "failed": "red", "running": "yellow", "interrupted": "yellow"}


def failures(records: Sequence[Record]) -> str:
    """Return the failed trials with their reasons and the commands that repeat them; "" if none failed."""
    lines = []
    for one in records:
        if one.state == "failed":
            lines += [f"trial {one.number} failed: {one.reason}", f"  {one.command}"]
    return "\n".join(lines)


def write_report(
    records: Sequence[Record],
    folder: Path,
    *,
    metrics: Sequence[str],
    title: str,
    importance: Mapping[str, float] | None = None,
) -> list[Path]:
    """Write `trials.csv`, `trials.png` and `trials.html` to a folder; return their paths.

    Without matplotlib there is no figure, which is logged.

    Args:
        records: in any order.
        folder: exists.
        metrics: the first one orders.
        title: of figure and page.
        importance: of each setting, adding up to 1, if known.
    """
    header, rows = _cells(records, metrics)
    ordered = best_first(records, metrics)
    files = [folder / "trials.csv"]
    with new_file(files[0]) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        out = csv.writer(stream)
        settings = _settings(records)
        out.writerow(["trial", *settings, *metrics, "seconds", "state", "reason", "command", "folder"])
        for one in ordered:
            values = [one.values.get(name, "") for name in metrics]  # all digits, to compare to the bit
            given = [_shown(one.settings[name]) if name in one.settings else "" for name in settings]
            seconds = "" if one.seconds is None else f"{one.seconds:.2f}"
            out.writerow([one.number, *given, *values, seconds, one.state, one.reason, one.command, one.folder])
    try:
        from .figure import draw
    except ModuleNotFoundError as error:
        log.warning("no figure: %s; pip install matplotlib draws one", error)
    else:
        files.append(folder / "trials.png")
        with new_file(files[-1]) as aside:
            draw(records, aside, metrics=metrics, title=title, importance=importance or {})
    files.append(folder / "trials.html")
    with new_file(files[-1]) as aside:
        figure = '<img src="trials.png" alt="all trials">' if (folder / "trials.png") in files else ""
        aside.write_text(_page(title, header, rows, ordered, figure, importance or {}), encoding="utf-8")
    return files


def _settings(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(key for one in records for key in one.settings))


def _cells(records: Sequence[Record], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows, best first; keys without the part that all share."""
    settings = _settings(records)
    within = {key.rpartition(".")[0] for key in settings}
    names = [key.rpartition(".")[2] if len(within) == 1 else key for key in settings]
    more = list(dict.fromkeys(key for one in records for key in one.more))
    rows = []
    for one in best_first(records, metrics):
        values = [f"{one.values[name]:.4f}" if name in one.values else "" for name in metrics]
        given = [_shown(one.settings[key]) if key in one.settings else "" for key in settings]
        rows.append([str(one.number), *given, *values, "" if one.seconds is None else f"{one.seconds:.1f}", one.state])
        rows[-1] += [one.more.get(key, "") for key in more]
    return ["trial", *names, *metrics, "seconds", "state", *more], rows


def _shown(value: Any) -> str:
    """Return a value as in a command, a float with at most four digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _page(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    ordered: Sequence[Record],
    figure: str,
    importance: Mapping[str, float],
) -> str:
    """Return a page that needs nothing else but the figure beside it; a click on a column's head sorts."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
    body = "".join(
        f'<tr class="{one.state}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for one, row in zip(ordered, rows, strict=True)
    )
    counts = ", ".join(f"{n} {state}" for state in STATES if (n := sum(one.state == state for one in ordered)))
    parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{counts}</p>", figure]
    if importance:
        parts.append("<h2>Importance of each setting</h2><table class=bars>")
        for name, share in importance.items():
            bar = f'<div style="width:{300 * share:.0f}px"></div>'
            parts.append(f"<tr><td>{html.escape(name)}</td><td>{share:.0%}</td><td>{bar}</td></tr>")
        parts.append("</table>")
    parts.append(f"<h2>Trials</h2><table class=trials><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>")
    if failed := [one for one in ordered if one.state == "failed"]:
        parts.append("<h2>Failed</h2>")
        for one in failed:
            reason, command = html.escape(one.reason), html.escape(one.command)
            parts.append(f"<p>Trial {one.number}: {reason}</p><pre>{command}</pre>")
    if ordered and ordered[0].state == "finished":
        parts.append(f"<h2>Best</h2><pre>{html.escape(ordered[0].command)}</pre>")
    return f"{PAGE.format(title=html.escape(title))}{''.join(parts)}{SORTING}</body></html>\n"


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.4rem; margin: 0; }} h2 {{ font-size: 1.1rem; margin: 1.6rem 0 .4rem; }} p {{ margin: .3rem 0; }}
img {{ max-width: 100%; background: white; margin: 1rem 0 0; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
td, th {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8883; }}
th {{ cursor: pointer; border-bottom: 2px solid #8888; }}
.trials td:last-child, .trials th:last-child, .bars td:first-child, .bars td:last-child {{ text-align: left; }}
.trials tbody tr:first-child.finished {{ font-weight: bold; }} .pruned {{ opacity: .55; }} .failed td {{ color: #d22; }}
.bars div {{ background: #4c72b0; height: .7rem; }} .bars td {{ border: 0; padding: 0 .7rem 0 0; }}
pre {{ background: #8881; padding: .6rem; overflow-x: auto; white-space: pre-wrap; }}
</style></head><body>
"""
SORTING = """<script>
document.querySelectorAll(".trials th").forEach((head, at) => { let sign = 1; head.onclick = () => {
  const body = head.closest("table").tBodies[0], text = row => row.cells[at].textContent;
  body.append(...[...body.rows].sort((a, b) => {
    const [x, y] = [text(a), text(b)];
    return sign * (x !== "" && y !== "" && !isNaN(x) && !isNaN(y) ? x - y : x.localeCompare(y)); }));
  sign = -sign; }; });
</script>"""
