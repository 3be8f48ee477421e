"""All trials in one picture: how the best value developed, and how each setting relates to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .records import Record, higher_is_better, winners

PANELS = 5  # settings drawn, the most important ones
LOOKS = {
    "finished": {"marker": "o", "color": "C0", "s": 26},
    "pruned": {"marker": "x", "color": "0.6", "s": 26},
    "best": {"marker": "*", "color": "C3", "s": 150, "zorder": 3},
}


def draw(
    records: Sequence[Record], file: Path, *, metrics: Sequence[str], title: str, importance: Mapping[str, float]
) -> None:
    """Write a PNG: values in the order of trials, or two metrics against each other, and a panel for each setting."""
    metric = metrics[0]
    keys = list(importance) or list(dict.fromkeys(key for one in records for key in one.settings))
    keys = [key for key in keys if len({str(one.settings.get(key)) for one in records}) > 1][:PANELS]
    columns = min(3, 1 + len(keys))
    lines = -(-(1 + len(keys)) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.5 * lines), layout="constrained")
    figure.suptitle(title, fontsize=11)
    first, *panels = figure.subplots(lines, columns, squeeze=False).flat
    groups = _groups(records, metrics)
    if len(metrics) > 1:
        _against_each_other(first, groups, metrics)
    else:
        _in_order(first, records, groups, metric)
    for panel, key in zip(panels, keys, strict=False):
        share = f", importance {importance[key]:.0%}" if key in importance else ""
        _by_setting(panel, groups, key, metric, share)
    for panel in panels[len(keys) :]:
        panel.set_axis_off()
    handles = {label: handle for handle, label in zip(*first.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(file, dpi=130, format="png")


def _groups(records: Sequence[Record], metrics: Sequence[str]) -> dict[str, list[Record]]:
    """Return the trials with values by how they are drawn."""
    able = [one for one in records if metrics[0] in one.values]
    best = winners(records, metrics)
    numbers = {one.number for one in best}
    groups = {state: [one for one in able if one.state == state and one.number not in numbers] for state in LOOKS}
    groups["best"] = best
    return groups


def _in_order(axes: Axes, records: Sequence[Record], groups: Mapping[str, list[Record]], metric: str) -> None:
    """Draw the value of each trial, the best so far, and where trials failed."""
    better = max if higher_is_better(metric) else min
    steps: list[tuple[int, float]] = []
    for one in sorted(records, key=lambda one: one.number):
        if one.state == "finished" and metric in one.values:
            value = one.values[metric]
            steps.append((one.number, better(steps[-1][1], value) if steps else value))
    if steps:
        steps.append((max(one.number for one in records), steps[-1][1]))
        axes.step(*zip(*steps, strict=True), where="post", color="C0", linewidth=1, alpha=0.6, label="best so far")
    for name, group in groups.items():
        if group:
            xs, ys = [one.number for one in group], [one.values[metric] for one in group]
            axes.scatter(xs, ys, label=_label(name, group), **LOOKS[name])  # type: ignore[arg-type]
    if failed := [one.number for one in records if one.state == "failed"]:
        foot = axes.get_xaxis_transform()
        axes.scatter(failed, [0.03] * len(failed), transform=foot, marker="|", color="C3", s=80, label="failed")
    axes.set(xlabel="trial", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3, linewidth=0.5)


def _against_each_other(axes: Axes, groups: Mapping[str, list[Record]], metrics: Sequence[str]) -> None:
    """Draw the first two metrics; trials that no other beats are linked if there are two."""
    for name, group in groups.items():
        able = [one for one in group if metrics[1] in one.values]
        if able:
            xs, ys = ([one.values[metric] for one in able] for metric in metrics[:2])
            axes.scatter(xs, ys, label=_label(name, able), **LOOKS[name])  # type: ignore[arg-type]
    if len(metrics) == 2 and len(groups["best"]) > 1:
        line = sorted([one.values[name] for name in metrics] for one in groups["best"])
        axes.plot(*zip(*line, strict=True), color="C3", linewidth=1, alpha=0.5)
    axes.set(xlabel=metrics[0], ylabel=metrics[1])
    axes.locator_params(axis="x", nbins=5)
    axes.grid(alpha=0.3, linewidth=0.5)


def _by_setting(axes: Axes, groups: Mapping[str, list[Record]], key: str, metric: str, share: str) -> None:
    """Draw the metric against one setting: numbers on an axis, a logarithmic one if they span decades, else by name."""
    given = [one.settings[key] for group in groups.values() for one in group if key in one.settings]
    numbers = [value for value in given if isinstance(value, int | float) and not isinstance(value, bool)]
    scale: Any = None
    if len(numbers) < len(given):
        scale = {name: at for at, name in enumerate(dict.fromkeys(map(str, given)))}
        axes.set_xticks(list(scale.values()), [name[:18] for name in scale])
        axes.set_xlim(-0.5, len(scale) - 0.5)
    elif numbers and min(numbers) > 0 and max(numbers) >= 20 * min(numbers):
        axes.set_xscale("log")
    for name, group in groups.items():
        able = [one for one in group if key in one.settings]
        xs = [one.settings[key] if scale is None else scale[str(one.settings[key])] for one in able]
        axes.scatter(xs, [one.values[metric] for one in able], **LOOKS[name])  # type: ignore[arg-type]
    axes.set(ylabel=metric)
    axes.set_xlabel(f"{key}{share}", fontsize=9)
    axes.grid(alpha=0.3, linewidth=0.5)


def _label(name: str, group: Sequence[Record]) -> str:
    if name == "best":
        return "best" if len(group) == 1 else "not beaten in all metrics"
    return name
