"""New users: NDCG@10 after 0, 1, 2, 5, 10 and 20 clicks, and which 5 items to show them first.

    python scripts/bench_new_users.py                 # ml-latest-small and goodbooks-10k, within 5 minutes of one core each
    python scripts/bench_new_users.py ml-latest-small --plot docs/benchmarks/new_users.png

Train has nothing of the test users (split=user: 30% of the users for test, 10% for validation). Of a test user's log the newest fifth (goodbooks-10k
has no times: a random fifth) is to be found, the rest are clicks, oldest first. For every number of clicks the users, the relevant
items and the candidates (the catalog without the user's other items) are the same. Settings are chosen by the validation
users' NDCG@10, averaged over the numbers of clicks from 1; test once. Every rating is an interaction of weight 1; the interview's entropies are those of the ratings.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate

from recsys_dl.cold_start import after_clicks, answers, interview_items, judge_interview
from recsys_dl.cold_start.clicks import CLICKS
from recsys_dl.compose import compose
from recsys_dl.data.split import Split
from recsys_dl.evaluation import Evaluation
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.metrics.intervals import Sample, intervals, paired_differences
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCES = {
    "ml-latest-small": ["data=movielens_latest_small", f"data.path={DATA / 'ml-latest-small'}", "split.order=time"],
    "goodbooks-10k": ["data=goodbooks", f"data.path={DATA / 'goodbooks-10k'}", "split.order=random"],
}
SPACES: dict[str, dict[str, list]] = {
    "popularity": {},
    "content": {"min_count": [2, 5], "ngrams": [1]},
    "item_knn": {"num_neighbors": [50, 200], "weighting": ["null", "bm25"]},
    "ease": {"regularization": [300, 1000]},
    "als": {"regularization": [0.005, 0.015, 0.05], "unobserved_weight": [0.1, 0.3]},
    "bpr": {"regularization": [0.025, 0.05]},
    "two_tower": {},
    "sasrec": {},
}
NEED_TIMES = {"sasrec"}
SHOWN = 5
WAYS = ("random", "popularity", "popularity_entropy", "helf", "information")
RANDOM_SEEDS = (1, 2, 3)
METRIC = "ndcg@10"
JUDGED = {"k": 10, "metrics": ["ndcg"]}


def parts_of(name: str, weights: str, seed: int) -> Split:
    """Return the parts of a log."""
    words = [
        *SOURCES[name],
        "split=user",
        "split.validation=0.1",
        "split.test=0.3",
        f"weights={weights}",
        f"seed={seed}",
    ]
    config = compose("train", words)
    return instantiate(config.split)(instantiate(config.weights)(instantiate(config.data)))


def chosen(name: str, source: str, parts: Split, seed: int) -> tuple[Any, str, float]:
    """Return a model with the settings that are best for the validation users, those settings, and their figure."""
    best: tuple[Any, str, float] = (None, "", -1.0)
    for values in itertools.product(*SPACES[name].values()):
        words = [f"model.{key}={value}" for key, value in zip(SPACES[name], values, strict=True)]
        config = compose(
            "train", [*SOURCES[source], "split=user", f"model={name}", f"seed={seed}", "device=cpu", *words]
        )
        model = instantiate(config.model).fit(parts.train)
        curve = after_clicks(model, parts.train, parts.validation, CLICKS[1:], seed=seed, **JUDGED)
        figure = float(np.mean([one.values[METRIC] for one in curve.values()]))
        if figure > best[2]:
            best = model, " ".join(word.removeprefix("model.") for word in words), figure
    return best


def interviews(
    model: Any, parts: Split, rated: Any
) -> tuple[dict[str, Evaluation | Sample], dict[str, float], dict[str, list[str]]]:
    """Return what each way of choosing items gives, how many of them users know, and their titles."""
    histories, found, known, titles = parts.test.histories, {}, {}, {}
    for way in WAYS:
        values, numbers = [], []
        for seed in RANDOM_SEEDS if way == "random" else (1,):
            items = interview_items(rated, SHOWN, by=way, model=model, seed=seed)
            values.append(judge_interview(model, parts.train, parts.test, items, **JUDGED).per_user[METRIC])
            numbers.append(len(answers(histories, items)) / len(values[-1]))
            names = (
                parts.train.items.at(items)
                if parts.train.item_titles is None
                else parts.train.item_titles.gather(items)
            )
            titles[way] = names.to_list()
        found[way], known[way] = Sample(np.mean(values, axis=0)), float(np.mean(numbers))
    return found, known, titles


def bench(source: str, models: list[str], seed: int) -> dict[str, Any]:
    """Measure one log."""
    parts, rated = parts_of(source, "binary", seed), parts_of(source, "keep", seed).train
    curves, rows, shown = {}, {}, {}
    for name in models:
        if name in NEED_TIMES and parts.train.interactions.times_N is None:
            continue
        start = time.perf_counter()
        model, settings, figure = chosen(name, source, parts, seed)
        curves[name] = after_clicks(model, parts.train, parts.test, seed=seed, **JUDGED)
        rows[name] = {
            "settings": settings or "the YAML's own",
            "validation": figure,
            "seconds": time.perf_counter() - start,
        }
        print(f"{source}: {name}, {rows[name]}", flush=True)
        if name == "als":
            own = {num: Sample(curves[name][num].per_user[METRIC]) for num in (0, SHOWN)}
            shown["found"], shown["known"], shown["titles"] = interviews(model, parts, rated)
            shown["found"] = {"nothing": own[0]} | shown["found"] | {"own clicks": own[SHOWN]}
            shown["known"] |= {"nothing": 0.0, "own clicks": float(SHOWN)}
    users = len(next(iter(curves.values()))[0].users)
    few = int((np.bincount(parts.test.histories.users_N)[np.unique(parts.test.histories.users_N)] < max(CLICKS)).sum())
    return {"users": users, "few": few, "curves": curves, "rows": rows, "shown": shown, "train": repr(parts.train)}


def report(source: str, found: Mapping[str, Any]) -> str:
    """Return the tables of a log, as text and as Markdown."""
    header = ["model", *(f"{num} clicks" if num != 1 else "1 click" for num in CLICKS), "valid.", "settings"]
    lines = [
        [
            name,
            *(curve[num].cell(METRIC) for num in CLICKS),
            f"{found['rows'][name]['validation']:.4f}",
            found["rows"][name]["settings"],
        ]
        for name, curve in found["curves"].items()
    ]
    parts = [
        f"{source}: {found['users']} test users, {found['few']} of them with fewer than {max(CLICKS)} clicks; {found['train']}"
    ]
    parts += [text_table(header, lines), markdown(header, lines)]
    if found["shown"]:
        samples, baseline = found["shown"]["found"], found["shown"]["found"]["popularity"]
        ends = intervals(list(samples.values()))
        apart = paired_differences(list(samples.values()), baseline)
        header = [f"{SHOWN} items shown", "known of them", "NDCG@10", "minus popularity"]
        lines = [
            [name, f"{found['shown']['known'][name]:.2f}", f"{sample.value:.4f} [{low:.4f}, {high:.4f}]",
             "" if name == "popularity" else f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"]
            for (name, sample), (low, high), one in zip(samples.items(), ends, apart, strict=True)
        ]  # fmt: skip
        parts += [text_table(header, lines), markdown(header, lines)]
        parts += [f"{way}: {'; '.join(map(str, titles))}" for way, titles in found["shown"]["titles"].items()]
    return "\n\n".join(parts)


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def plot(found: Mapping[str, Any], file: Path) -> None:
    """Draw the curves, one panel a log."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(5.5 * len(found), 4.2), squeeze=False)
    colors = dict(zip(SPACES, plt.get_cmap("tab10").colors, strict=False))
    for panel, (source, one) in zip(panels[0], found.items(), strict=True):
        for name, curve in one["curves"].items():
            panel.plot(
                range(len(CLICKS)),
                [curve[num].values[METRIC] for num in CLICKS],
                marker="o",
                markersize=4,
                color=colors[name],
                label=name,
            )
        panel.set_xticks(range(len(CLICKS)), map(str, CLICKS))
        panel.set_xlabel("clicks of the new user")
        panel.set_ylabel("NDCG@10")
        panel.set_ylim(bottom=0)
        panel.set_title(f"{source}, {one['users']} users", fontsize=10)
        panel.grid(alpha=0.3)
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    labels = {text: line for panel in panels[0] for line, text in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(labels.values(), labels.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.tight_layout()
    figure.savefig(file, dpi=130, bbox_inches="tight")


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", default=list(SOURCES), help=f"of {', '.join(SOURCES)}; all by default")
    parser.add_argument("--models", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--plot", type=Path, help="a .png file for the curves")
    parser.add_argument("--output", type=Path, help="a .json file for the values")
    asked = parser.parse_args()
    if unknown := [name for name in asked.data if name not in SOURCES]:
        parser.error(f"data must be of {', '.join(SOURCES)}, got {unknown[0]}")
    threads = limit_threads(None)
    start, found = time.perf_counter(), {}
    for source in asked.data:
        found[source] = bench(source, asked.models, asked.seed)
    for source, one in found.items():
        print(f"\n{report(source, one)}")
    print(f"\n{time.perf_counter() - start:.0f} s, {threads} threads")
    if asked.plot:
        plot(found, asked.plot)
    if asked.output:
        values = {
            source: {name: {num: curve[num].values[METRIC] for num in CLICKS} for name, curve in one["curves"].items()}
            for source, one in found.items()
        }
        asked.output.write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    main()
