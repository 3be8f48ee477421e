"""The budget report as a picture: what is found against what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .budget import Figures

MARKS = "osD^vPX*"


def _plain(digits: str) -> FuncFormatter:
    """Label ticks of a logarithmic axis as plain numbers, those that begin with one of the digits."""
    return FuncFormatter(lambda value, _: f"{value:,.6g}" if f"{value:.0e}"[0] in digits else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.3g} MB" if size < 1e9 else f"{size / 1e6:,.0f} MB"


def draw(rows: Sequence[Figures], chosen: Figures, file: Path, *, title: str, k: int, loss: float, of: str) -> None:
    """Write a PNG: recall against queries/s, and what is lost of `of` against the latency of single queries."""
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    figure.suptitle(title, fontsize=11)
    left, right = figure.subplots(1, 2)
    lines = list(dict.fromkeys(row.line for row in rows))
    for number, line in enumerate(lines):
        mine = [row for row in rows if row.line == line]
        style = {"marker": MARKS[number % len(MARKS)], "color": f"C{number}", "markersize": 5, "linewidth": 1.2}
        by_recall = sorted(mine, key=lambda row: row.recall)
        left.plot(
            [row.recall for row in by_recall],
            [row.queries_per_second for row in by_recall],
            label=f"{line} ({_megabytes(mine[0].num_bytes)})",
            **style,
        )
        by_time = sorted(mine, key=lambda row: row.p50_ms)
        times = [row.p50_ms for row in by_time]
        lost = [100 * (1 - row.recall if of == "recall" else row.ndcg_lost[0]) for row in by_time]  # type: ignore[index]
        right.plot(times, lost, **style)
        if of == "ndcg":
            ends = [row.ndcg_lost for row in by_time]
            spans = [[100 * max(0, value - low), 100 * max(0, high - value)] for value, low, high in ends]  # type: ignore[misc]
            bars = {"fmt": "none", "ecolor": f"C{number}", "elinewidth": 0.8, "alpha": 0.4}
            right.errorbar(times, lost, yerr=list(zip(*spans, strict=True)), **bars)
    ring = {"s": 170, "facecolors": "none", "edgecolors": "black", "linewidths": 1.4, "zorder": 5}
    left.scatter([chosen.recall], [chosen.queries_per_second], label=f"chosen: {chosen.label}", **ring)
    value = 1 - chosen.recall if of == "recall" else chosen.ndcg_lost[0]  # type: ignore[index]
    right.scatter([chosen.p50_ms], [100 * value], **ring)
    left.set(xlabel=f"recall@{k} against exact search", ylabel="queries/s, in one batch", yscale="log")
    noun = f"NDCG@{k}" if of == "ndcg" else f"recall@{k}"
    right.set(xlabel="ms for a single query (median)", ylabel=f"{noun} lost, %", xscale="log")
    right.axhline(100 * loss, color="black", linestyle="--", linewidth=0.9)
    right.annotate(
        f"stated loss: {100 * loss:g}%", (1, 100 * loss), xycoords=("axes fraction", "data"), ha="right", va="bottom",
        xytext=(-4, 2), textcoords="offset points", fontsize=8,
    )  # fmt: skip
    for axis, values in (
        (left.yaxis, [row.queries_per_second for row in rows]),
        (right.xaxis, [row.p50_ms for row in rows]),
    ):
        digits = "123456789" if max(values) < 10 * min(values) else "125" if max(values) < 1000 * min(values) else "1"
        axis.set_major_formatter(_plain(digits))
        axis.set_minor_formatter(_plain(digits))
    for axes in (left, right):
        axes.grid(alpha=0.3, which="both", linewidth=0.5)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(file, dpi=130)
