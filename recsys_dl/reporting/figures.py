"""The plots of a report, each as an SVG that the page holds. G groups, I items."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .parts import TENTHS, lorenz

Groups = Sequence[tuple[str, int, float, float, float]]
Curves = Mapping[str, tuple[list[int], list[float]]]


def activity(groups: Mapping[str, Groups], metric: str) -> str:
    """Draw a metric of users by their number of known interactions, with intervals, for each run."""
    figure, axes = _new(6.5, 3.4)
    names = [f"{name}\n({users:,} users)" for name, users, *_ in next(iter(groups.values()))]
    for at, (run, mine) in enumerate(groups.items()):
        means_G, low_G, high_G = np.array([(mean, low, high) for _, _, mean, low, high in mine]).T
        xs = np.arange(len(mine)) + (at - (len(groups) - 1) / 2) * 0.12
        axes.errorbar(
            xs, means_G, yerr=[means_G - low_G, high_G - means_G], fmt="o", capsize=3, label=run, markersize=4
        )
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set(xlabel="known interactions of the user", ylabel=metric)
    axes.set_ylim(bottom=0)
    return _svg(figure, axes, f"{metric} by number of known interactions")


def popularity(shares: Mapping[str, np.ndarray]) -> str:
    """Draw the share of interactions and of recommendations of each tenth of the items, the most popular first."""
    figure, axes = _new(6.5, 3.4)
    xs = np.arange(TENTHS) + 1
    interactions = next(iter(shares.values()))[0]
    axes.bar(xs, interactions, color="0.8", width=0.8, label="known interactions")
    for run, (_, places) in shares.items():
        axes.plot(xs, places, marker="o", markersize=4, label=run)
    axes.set(xlabel="tenth of the items, the most popular first", ylabel="share")
    axes.set_xticks(xs)
    return _svg(figure, axes, "share of interactions and of places in lists by popularity of items")


def concentration(places: Mapping[str, np.ndarray]) -> str:
    """Draw how few items hold most places in the lists (Lorenz curves, the most frequent item first)."""
    figure, axes = _new(4.6, 3.4)
    for run, counts_I in places.items():
        axes.plot(*lorenz(counts_I), label=run)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle="--", label="all items equally")
    axes.set(xlabel="share of the items, the most recommended first", ylabel="share of places")
    return _svg(figure, axes, "concentration of recommendations")


def epochs(curves: Curves, best: int | None) -> str:
    """Draw the loss and the validation figure of each epoch."""
    figure, axes = _new(6.5, 3.2)
    others = [name for name in curves if name != "epoch_loss"]
    if "epoch_loss" in curves:
        axes.plot(*curves["epoch_loss"], color="C0", label="loss")
    axes.set(xlabel="epoch", ylabel="loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    lines = list(axes.get_lines())
    for name in others[:1]:
        right = axes.twinx()
        lines += right.plot(*curves[name], color="C1", marker=".", label=name)
        right.set_ylabel(f"{name}, validation")
    if best is not None:
        lines.append(axes.axvline(best, color="0.6", linewidth=0.8, linestyle="--", label="weights kept"))
    figure.legend(handles=lines, frameon=False, fontsize=8, loc="outside upper center", ncols=3)
    return _svg(figure, axes, "loss and validation figure of each epoch", legend=False)


def tradeoff(points: Mapping[str, tuple[float, float]], names: tuple[str, str]) -> str:
    """Draw accuracy against another figure, a point for each run."""
    figure, axes = _new(4.6, 3.4)
    for run, (x, y) in points.items():
        axes.scatter([x], [y], label=run, s=40)
    axes.set(xlabel=names[0], ylabel=names[1])
    return _svg(figure, axes, f"{names[1]} against {names[0]}")


def _new(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3, linewidth=0.5)
    return figure, axes


def _svg(figure: Figure, axes: Axes, words: str, *, legend: bool = True) -> str:
    if legend:
        axes.legend(frameon=False, fontsize=8)
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return f'<img alt="{words}" src="data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}">'
