"""New users: NDCG@10 after 0, 1, 2, 5, 10 and 20 clicks, and which 5 or 10 items to show them first.

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
from recsys_dl.metrics.intervals import Sample, intervals, paired_differences
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCES = {
    "ml-latest-small": ["data=movielens_latest_small", f"data.path={DATA / 'ml-latest-small'}", "split.order=time"],
    "goodbooks-10k": ["data=goodbooks", f"data.path={DATA / 'goodbooks-10k'}", "split.order=random"],
}
SPACES: dict[str, dict[str, list]] = {
    "popularity": {},
    "content": {},
    "item_knn": {"num_neighbors": [50, 200], "shrinkage": [0, 50]},
    "ease": {"regularization": [1000]},
    "als": {"regularization": [0.015, 0.05]},
    "bpr": {},
    "two_tower": {},
    "sasrec": {},
}
NEED_TIMES = {"sasrec"}
INTERVIEWED = ("als",)
SHOWN = (5, 10)
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


def interviews(model: Any, parts: Split, rated: Any, curve: dict[int, Evaluation], num: int) -> list[dict[str, Any]]:
    """Return for each way of choosing `num` items what it gives, how many of them users know, and their titles."""
    samples = {"nothing": Sample(curve[0].per_user[METRIC])}
    about: dict[str, dict[str, Any]] = {"nothing": {"known": 0.0, "titles": []}}
    for way in WAYS:
        values, numbers = [], []
        for seed in RANDOM_SEEDS if way == "random" else (1,):
            items = interview_items(rated, num, by=way, model=model, seed=seed)
            values.append(judge_interview(model, parts.train, parts.test, items, **JUDGED).per_user[METRIC])
            numbers.append(len(answers(parts.test.histories, items)) / len(values[-1]))
        names = (
            parts.train.items.at(items) if parts.train.item_titles is None else parts.train.item_titles.gather(items)
        )
        samples[way] = Sample(np.mean(values, axis=0))
        about[way] = {"known": float(np.mean(numbers)), "titles": names.to_list()}
    samples["their own clicks"] = Sample(curve[num].per_user[METRIC])
    about["their own clicks"] = {"known": float(num), "titles": []}
    ends = intervals(list(samples.values()))
    apart = paired_differences(list(samples.values()), samples["popularity"])
    return [
        {
            "shown": way,
            "figure": [sample.value, *map(float, end)],
            "minus": [one.value, one.low, one.high],
            **about[way],
        }
        for (way, sample), end, one in zip(samples.items(), ends, apart, strict=True)
    ]


def measured(source: str, name: str, parts: Split, rated: Any, seed: int) -> dict[str, Any]:
    """Choose a model's settings and measure it."""
    start = time.process_time()
    model, settings, figure = chosen(name, source, parts, seed)
    curve = after_clicks(model, parts.train, parts.test, seed=seed, **JUDGED)
    users = np.unique(parts.test.interactions.users_N)
    found = {
        "settings": settings or "the YAML's own",
        "validation": figure,
        "users": len(users),
        "few": int((parts.test.histories.user_counts_U[users] < max(CLICKS)).sum()),
        "train": repr(parts.train),
        "curve": {str(num): [one.values[METRIC], *one.intervals[METRIC]] for num, one in curve.items()},
    }
    if name in INTERVIEWED:
        found["interview"] = {str(num): interviews(model, parts, rated, curve, num) for num in SHOWN}
    return found | {"seconds": time.process_time() - start}


def bench(source: str, models: list[str], seed: int, folder: Path | None) -> dict[str, Any]:
    """Return the figures of each model on one log; those in `folder` are taken from there."""
    parts, rated = parts_of(source, "binary", seed), parts_of(source, "keep", seed).train
    found = {}
    for name in models:
        if name in NEED_TIMES and parts.train.interactions.times_N is None:
            continue
        file = None if folder is None else folder / f"{source}-{name}-{seed}.json"
        if file is None or not file.exists():
            found[name] = measured(source, name, parts, rated, seed)
            if file is not None:
                file.write_text(json.dumps(found[name], indent=2) + "\n")
        else:
            found[name] = json.loads(file.read_text())
        print(f"{source}: {name}, {found[name]['settings']}, {found[name]['seconds']:.0f} s of one core", flush=True)
    return found


def report(source: str, found: Mapping[str, Any]) -> str:
    """Return the tables of a log as Markdown."""
    one = next(iter(found.values()))
    header = ["model", *map(str, CLICKS), "validation", "settings"]
    lines = [
        [name, *(cell(of["curve"][str(num)]) for num in CLICKS), f"{of['validation']:.4f}", of["settings"]]
        for name, of in found.items()
    ]
    parts = [
        f"## {source}: {one['users']} test users, {one['few']} of them with fewer than {max(CLICKS)} clicks; {one['train']}",
        markdown(header, lines),
    ]
    for name in found.keys() & set(INTERVIEWED):
        for num, rows in found[name]["interview"].items():
            header = [f"{num} items shown ({name})", "known of them", METRIC, "minus popularity"]
            lines = [
                [row["shown"], f"{row['known']:.2f}", cell(row["figure"]), cell(row["minus"], "+")] for row in rows
            ]
            parts.append(markdown(header, lines))
        parts += [f"{row['shown']}: {'; '.join(map(str, row['titles']))}" for row in rows if row["titles"]]
    return "\n\n".join(parts)


def cell(figure: list[float], sign: str = "") -> str:
    """Return a value with its interval."""
    return "{:{s}.4f} [{:{s}.4f}, {:{s}.4f}]".format(*figure, s=sign)


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
        for name, of in one.items():
            curve = [of["curve"][str(num)][0] for num in CLICKS]
            panel.plot(range(len(CLICKS)), curve, marker="o", markersize=4, color=colors[name], label=name)
        panel.set_xticks(range(len(CLICKS)), map(str, CLICKS))
        panel.set_xlabel("clicks of the new user")
        panel.set_ylabel("NDCG@10")
        panel.set_ylim(bottom=0)
        panel.set_title(f"{source}, {next(iter(one.values()))['users']} users", fontsize=10)
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
    parser.add_argument(
        "--folder", type=Path, help="where each model's figures are kept, and taken from if they are there"
    )
    asked = parser.parse_args()
    if unknown := [name for name in asked.data if name not in SOURCES]:
        parser.error(f"data must be of {', '.join(SOURCES)}, got {unknown[0]}")
    limit_threads(1)
    if asked.folder is not None:
        asked.folder.mkdir(parents=True, exist_ok=True)
    found = {source: bench(source, asked.models, asked.seed, asked.folder) for source in asked.data}
    for source, one in found.items():
        print(f"\n{report(source, one)}")
    if asked.plot:
        plot(found, asked.plot)


if __name__ == "__main__":
    main()
