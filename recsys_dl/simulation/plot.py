"""Regret curves with their bands as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from .curves import Curve

STYLES = ("-", "--", "-.")  # colors repeat after ten


def draw(panels: Mapping[str, tuple[Sequence[Curve], Mapping[str, np.ndarray]]], file: Path, *, title: str) -> None:
    """Write a PNG: a panel for each world, with a curve for each policy on logarithmic axes, its band, and dotted curves of theory.

    Args:
        panels: by the name of the world: curves, and curves of theory by name over the same rounds.
        file: to write.
        title: of the figure.
    """
    columns = min(len(panels), 2)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(6.4 * columns + 0.6, 4.6 * lines + 0.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    labels = list(dict.fromkeys(curve.label for curves, _ in panels.values() for curve in curves))
    for axes, (name, (curves, theory)) in zip(
        figure.subplots(lines, columns, squeeze=False).flat, panels.items(), strict=False
    ):
        _panel(axes, name, curves, theory, labels)
    for axes in list(figure.axes)[len(panels) :]:
        axes.set_axis_off()
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    inches = 0.08 * max(map(len, handles)) + 0.6  # of a legend entry, about
    wide = max(1, min(4, int(figure.get_figwidth() / inches)))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=wide, frameon=False, fontsize=9)
    figure.savefig(file, dpi=130, format="png")


def _panel(axes: Axes, name: str, curves: Sequence[Curve], theory: Mapping[str, np.ndarray], labels: list[str]) -> None:
    for curve in curves:
        number = labels.index(curve.label)
        look: dict[str, Any] = {
            "color": f"C{number % 10}",
            "linestyle": STYLES[number // 10 % len(STYLES)],
            "linewidth": 1.5,
        }
        axes.plot(curve.rounds_P, curve.mean_P, label=curve.label, **look)
        axes.fill_between(
            curve.rounds_P, *np.maximum(curve.band_2P, 1e-9), color=look["color"], alpha=0.18, linewidth=0
        )
    for number, (label, values_P) in enumerate(theory.items()):
        seen = values_P > 0
        axes.plot(
            curves[0].rounds_P[seen],
            values_P[seen],
            color=f"{0.15 + 0.3 * number:.2f}",
            linestyle=":",
            linewidth=1.6,
            label=label,
        )
    ends = [value for curve in curves for value in curve.mean_P[curve.mean_P > 0]]
    if ends:
        late = [value for curve in curves for value in curve.mean_P[(curve.rounds_P >= 10) & (curve.mean_P > 0)]]
        axes.set(xscale="log", yscale="log", ylim=(min(late or ends) / 1.5, max(ends) * 1.5))
    axes.set(xlabel="rounds", ylabel="cumulative regret, clicks", title=name)
    axes.set_xlim(left=min(10, int(curves[0].rounds_P[-1])))
    plain = FuncFormatter(lambda value, _: f"{value:,.6g}")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(plain)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
