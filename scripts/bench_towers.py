"""Towers against ALS and EASE over the whole catalog; which settings were chosen on validation, each experiment says.

    RECSYS_DATA=… python scripts/bench_towers.py --data ml-100k                # or ml-1m, ml-latest-small, amazon-video-games
    RECSYS_DATA=… python scripts/bench_towers.py --data ml-100k --validation   # what settings were chosen by

The settings of the towers are `conf/experiment/<name>.yaml`, one a row; those of ALS and EASE
are `CHOSEN`; `--grid` prints a wider grid on validation. Each model is fitted on train + validation and evaluated on test; with `--validation` on train and
validation. Every interaction weighs 1.

- ml-100k: the newest tenth of all ratings is the test, the tenth before it validation. Many test users are new then.
- ml-latest-small, amazon-video-games: each user's last item is the test, the one before it validation.
- ml-1m has no times: a tenth of the items (a twentieth for validation) is held out wholly, the cold ones; of the other
  interactions a tenth is the test and a tenth validation, at random. Cold items are told from each other (what features can
  tell), and from all (what a list would show).
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.utils import instantiate

from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import cold_items, leave_last_out, random_split, time_split
from recsys_dl.evaluation import Evaluation, compare, evaluate
from recsys_dl.protocols import Ranking
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCES = {
    "ml-1m": ["data=movielens_1m", f"data.path={DATA / 'ml-1m'}"],
    "ml-100k": ["data=movielens_100k", f"data.path={DATA / 'ml-100k'}"],
    "ml-latest-small": ["data=movielens_latest_small", f"data.path={DATA / 'ml-latest-small'}"],
    "amazon-video-games": [
        "data=amazon_reviews",
        f"data.path={DATA / 'amazon-video-games' / 'interactions.txt'}",
    ],
}
SHORT = {"ml-1m": "ml1m", "ml-100k": "ml100k", "ml-latest-small": "latest_small", "amazon-video-games": "video_games"}
TOWERS = {
    "ml-1m": ["two_tower", "two_tower_blind", "youtube_dnn", "youtube_dnn_blind"],
    "ml-100k": ["two_tower", "youtube_dnn"],
    "ml-latest-small": ["sasrec", "youtube_dnn"],
    "amazon-video-games": ["sasrec", "youtube_dnn"],
}
GRID = {
    "als": {
        "solver": ["cholesky"],
        "embedding_size": [64, 128],
        "regularization": [0.005, 0.015, 0.05],
        "unobserved_weight": [0.03, 0.1, 0.3],
    },
    "ease": {"regularization": [30, 100, 300, 800, 1600]},
}

# Best of the settings tried on validation; of ml-1m without cold items held out. Of amazon-video-games ALS is the best of 12 (sizes
# 64 and 128, unobserved_weight .001 to .01: a sparse log wants less), EASE the only one that was tried, for its time.
CHOSEN: dict[str, dict[str, dict[str, float | str]]] = {
    "ml-1m": {
        "als": {"solver": "cholesky", "embedding_size": 128, "regularization": 0.015, "unobserved_weight": 0.1},
        "ease": {"regularization": 800},
    },
    "ml-100k": {
        "als": {"embedding_size": 64, "regularization": 0.015, "unobserved_weight": 0.3},
        "ease": {"regularization": 300},
    },
    "ml-latest-small": {
        "als": {"solver": "cholesky", "embedding_size": 128, "regularization": 0.015, "unobserved_weight": 0.1},
        "ease": {"regularization": 100},
    },
    "amazon-video-games": {
        "als": {"solver": "cholesky", "embedding_size": 128, "regularization": 0.005, "unobserved_weight": 0.01},
        "ease": {"regularization": 300},
    },
}


class Parts(NamedTuple):
    """What is learned from, what is asked for, and which of it is of items never learned from."""

    train: Dataset
    asked: Dataset
    cold: Dataset | None = None


class Among:
    """A model that recommends only some items."""

    def __init__(self, model: Any, items: np.ndarray) -> None:
        self.model, self.allowed = model, items

    def recommend(self, users: Any, k: int, *, exclude: Any = None) -> Any:
        """Recommend."""
        return self.model.recommend(users, k, exclude=exclude, allow=self.allowed)


class ByChance:
    """Some items, for each user in another random order. Models that score all cold items alike list them by row, which is not
    chance: rows are in the order of the log, and popular items come early in it.
    """

    def __init__(self, items: np.ndarray, seed: int) -> None:
        self.listed, self.rng = items, np.random.default_rng(seed)

    def recommend(self, users: Any, k: int, *, exclude: Any = None) -> Any:
        """Recommend; nothing of cold items is to be excluded."""
        order_BI = self.rng.permuted(np.tile(self.listed.astype(np.int32), (len(users), 1)), axis=1)
        return Ranking(order_BI[:, :k], np.zeros((len(users), k), np.float32))


def parts(name: str, seed: int, *, validation: bool) -> Parts:
    """Return what is learned from and what is asked for: train and validation, or train with validation and test."""
    config = compose("train", [*SOURCES[name], "weights=binary", f"seed={seed}"])
    data = instantiate(config.weights)(instantiate(config.data))
    if name == "ml-1m":
        outer = cold_items(data, validation=0.05, test=0.1, seed=seed)
        split = random_split(outer.train, validation=0.1, test=0.1, seed=seed)
        if validation:
            return Parts(split.train, split.validation, outer.validation)
        return Parts(joined(split.train, split.validation), split.test, outer.test)
    if name == "ml-100k":
        split = time_split(data, validation=0.1, test=0.1)
    else:
        split = leave_last_out(data, order="log" if name == "amazon-video-games" else "time")
    if validation:
        return Parts(split.train, split.validation)
    return Parts(joined(split.train, split.validation), split.test)


def joined(one: Dataset, two: Dataset) -> Dataset:
    """Return both as one."""
    return one.with_interactions(Interactions.concat([one.interactions, two.interactions]))


def build(name: str, model: str, settings: list[str], seed: int) -> Any:
    """Return a model that is not fitted: an experiment of ours, or a baseline with its chosen settings."""
    chosen = [f"experiment={model}_{SHORT[name]}"]
    if model in CHOSEN[name]:
        chosen = [f"model={model}", *(f"model.{key}={value}" for key, value in CHOSEN[name][model].items())]
    return instantiate(compose("train", [*chosen, *settings, f"seed={seed}", "device=cpu"]).model)


def measured(model: Any, given: Parts) -> dict[str, Evaluation]:
    """Return what there is to say of a fitted model on what is asked for, and on parts of it."""
    told = {"all": evaluate(model, given.train, given.asked, k=[10, 20], metrics=["ndcg", "recall", "coverage"])}
    new_U = given.train.interactions.user_counts_U == 0
    asked = given.asked.interactions
    if new_U[asked.users_N].any():
        for noun, mask in (("known users", ~new_U), ("new users", new_U)):
            some = given.asked.with_interactions(asked.select(mask[asked.users_N]))
            told[noun] = evaluate(model, given.train, some, k=10, metrics=["ndcg", "recall"])
    if given.cold is not None:
        cold = np.unique(given.cold.interactions.items_N)
        for noun, one in (("cold items, of all", model), ("cold items, of the cold", Among(model, cold))):
            told[noun] = evaluate(one, given.train, given.cold, k=10, metrics=["ndcg", "recall"])
    return told


def table(told: dict[str, dict[str, Evaluation]], seconds: dict[str, float]) -> str:
    """Return the markdown tables of docs/benchmarks/towers.md."""
    both = compare({name: parts["all"] for name, parts in told.items()}, metric="ndcg@10", baseline="ease")
    lines = [
        "| model | NDCG@10 | minus ease | p | recall@10 | recall@20 | coverage@10 | fit, s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, one in both.evaluations.items():
        difference, p = "", ""
        if name != "ease":
            apart = both.differences[name]
            difference, p = f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]", f"{both.p_values[name]:.3f}"
        others = " | ".join(f"{one.values[metric]:.4f}" for metric in ("recall@10", "recall@20", "coverage@10"))
        lines.append(f"| {name} | {one.cell('ndcg@10')} | {difference} | {p} | {others} | {seconds[name]:.0f} |")
    apart = [noun for noun in next(iter(told.values())) if noun != "all"]
    if apart:
        lines += ["", f"| model, NDCG@10 | {' | '.join(apart)} |", f"|---|{'---|' * len(apart)}"]
        for name in both.evaluations:
            cells = [told[name][noun].cell("ndcg@10") for noun in apart]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tuned(name: str, given: Parts, seed: int) -> None:
    """Print the baselines' grid on validation."""
    for model, space in GRID.items():
        for values in itertools.product(*space.values()):
            settings = [f"model.{key}={value}" for key, value in zip(space, values, strict=True)]
            one = instantiate(compose("train", [f"model={model}", *settings, f"seed={seed}", "device=cpu"]).model)
            figure = evaluate(one.fit(given.train), given.train, given.asked, k=10, metrics=["ndcg"]).cell("ndcg@10")
            print(f"{model} {' '.join(settings)}: {figure}", flush=True)


def main() -> None:
    """Fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=SOURCES, required=True)
    parser.add_argument("--models", nargs="+", help="of those of the data set (default: all)")
    parser.add_argument("--validation", action="store_true", help="fit on train, evaluate on validation")
    parser.add_argument("--grid", action="store_true", help="print the baselines' grid on validation, and stop")
    parser.add_argument("--set", nargs="+", default=[], metavar="model.KEY=VALUE", help="other settings of the towers")
    parser.add_argument("--threads", type=int, help="of all libraries together (default: every processor)")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    threads = limit_threads(chosen.threads)
    given = parts(chosen.data, chosen.seed, validation=chosen.validation or chosen.grid)
    if chosen.grid:
        tuned(chosen.data, given, chosen.seed)
        return
    names = chosen.models or [*CHOSEN[chosen.data], *TOWERS[chosen.data]]
    told, seconds = {}, {}
    for name in names:
        settings = [] if name in CHOSEN[chosen.data] else chosen.set
        model = build(chosen.data, name, settings, chosen.seed)
        start = time.perf_counter()
        model.fit(given.train)
        seconds[name] = time.perf_counter() - start
        told[name] = measured(model, given)
        figures = ", ".join(f"{noun} {one.values['ndcg@10']:.4f}" for noun, one in told[name].items())
        print(f"{name}: NDCG@10 {figures}; {seconds[name]:.0f} s", flush=True)
    if "ease" in told:
        asked = "validation" if chosen.validation else "test"
        print(f"\n{chosen.data}, {asked}: {given.train!r}, {threads} threads\n\n{table(told, seconds)}")
    if given.cold is not None:
        chance = ByChance(np.unique(given.cold.interactions.items_N), chosen.seed)
        figure = evaluate(chance, given.train, given.cold, k=10, metrics=["ndcg"]).cell("ndcg@10")
        print(f"\ncold items, of the cold, in random order: {figure}")


if __name__ == "__main__":
    main()
