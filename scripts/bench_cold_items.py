"""New items: what each model does for items that nobody knows, and what that costs the known ones, from one fit each.

    RECSYS_DATA=… python scripts/bench_cold_items.py                    # all four logs, about an hour on one core
    RECSYS_DATA=… python scripts/bench_cold_items.py goodbooks-10k --methods popularity content als bootstrap

split=cold: a tenth of the items, a tenth of the users and a tenth of the other interactions are held out for validation, and as much for test. Relevant are
ratings in the upper third of the scale, or every interaction of a log without ratings. Figures are of warm users: their warm items among all items, their cold items among all items, and their cold items
among the cold ones. Settings are chosen on validation: by NDCG@20 of warm items, of content by that of cold items among cold ones; bootstrap takes those of als, and
the largest `scale` that keeps 98% of als's NDCG@20 of warm items. Test once. Intervals are of the first seed; the last column is the range of the other seeds for models that draw.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra.utils import instantiate

from recsys_dl import evaluate
from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import Split, cold_split
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.evaluation import Evaluation
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.readers.sources import goodbooks, movielens, movietweetings
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data"))
VIEWS = {
    "warm items": ("warm users, warm items", "all items"),
    "cold items": ("warm users, cold items", "all items"),
    "cold items among cold": ("warm users, cold items", "cold items"),
}
FIGURES = ("ndcg@20", "recall@20", "recall@100")
SPACES: dict[str, dict[str, list[Any]]] = {
    "popularity": {},
    "content": {"min_count": [2, 5], "dislikes": [0.5]},
    "als": {"embedding_size": [64], "regularization": [0.003, 0.01, 0.03], "unobserved_weight": [0.03, 0.1, 0.3]},
    "bootstrap": {"scale": [1, 1.2, 1.5, 2, 3]},
    "feature_mf": {"embedding_size": [64]},
    "two_tower": {"epochs": [10]},
}
RANDOM = ("als", "bootstrap", "feature_mf", "two_tower")
SEEDS = (7, 8, 9)
OF_LOG: dict[
    str, dict[str, dict[str, list[Any]]]
] = {  # in place of the common grid: beyond its edge, or less of it where a fit takes long
    "citeulike-a": {"als": {"embedding_size": [128], "regularization": [0.001, 0.003], "unobserved_weight": [0.03]}},
    "ml-1m": {"als": {"embedding_size": [64], "regularization": [0.01, 0.03], "unobserved_weight": [0.1, 0.3]}},
}


def citeulike(path: Path) -> Dataset:
    """Return citeulike-a: users' libraries of articles, and the articles' tags."""
    rows = [[int(word) for word in line.split()[1:]] for line in (path / "users.dat").read_text().splitlines()]
    tags = [line.split()[1:] for line in (path / "item-tag.dat").read_text().splitlines()]
    users_N = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    log = Interactions(users_N, np.concatenate(rows), num_items=len(tags))
    features = pl.DataFrame({"tags": tags})
    return Dataset(
        log,
        Vocabulary(np.arange(len(rows)), noun="user"),
        Vocabulary(np.arange(len(tags)), noun="item"),
        item_features=features,
        name="citeulike-a",
    )


LOGS: dict[str, Callable[[], Dataset]] = {
    "goodbooks-10k": lambda: goodbooks(DATA / "goodbooks-10k"),
    "movietweetings-100k": lambda: movietweetings(DATA / "movietweetings-100k"),
    "citeulike-a": lambda: citeulike(DATA / "citeulike-a"),
    "ml-1m": lambda: movielens("1m", DATA / "ml-1m"),
}


def fitted(method: str, split: Split, seed: int, settings: dict[str, Any]) -> Any:
    """Return a model as its YAML makes it, but for these settings, fitted on train."""
    words = [
        f"model.{'base.' if name.startswith('base.') else ''}{name.removeprefix('base.')}={value}"
        for name, value in settings.items()
    ]
    config = compose("train", [f"model={method}", *words, f"seed={seed}", "device=cpu"])
    return instantiate(config.model).fit(split.train)


def judged(model: Any, split: Split, part: Dataset, other: Dataset) -> Evaluation:
    """Return figures of a held-out part."""
    return evaluate(model, split.train, part, [20, 100], metrics=["ndcg", "recall"], exclude=other, segments="cold")


def figure(evaluation: Evaluation, view: str, name: str = "ndcg@20") -> float:
    """Return a figure of warm users."""
    assert evaluation.segments is not None
    return float(evaluation.segments[VIEWS[view]].values[name])


def grid(space: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield all combinations."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def chosen(
    method: str, split: Split, space: dict[str, list[Any]], of_als: tuple[dict[str, Any], float]
) -> tuple[dict[str, Any], float]:
    """Return the settings that validation prefers, and their NDCG@20 of warm items."""
    tried, model = [], None
    for settings in grid(space):
        if method == "bootstrap":
            settings |= {f"base.{name}": value for name, value in of_als[0].items()}
        if method == "bootstrap" and model is not None:
            model = model.with_scale(settings["scale"])
        else:
            model = fitted(method, split, SEEDS[0], settings)
        evaluation = judged(model, split, split.validation, split.test)
        tried.append((settings, *(figure(evaluation, view) for view in VIEWS)))
        print(f"  {method} {settings}: {', '.join(f'{value:.4f}' for value in tried[-1][1:])}", flush=True)
    if method == "bootstrap":
        tried = [one for one in tried if one[1] >= 0.98 * of_als[1]] or tried[:1]
        best = max(tried, key=lambda one: one[0]["scale"])
    else:
        best = max(tried, key=lambda one: one[3 if method == "content" else 1])
    return best[0], best[1]


def main() -> None:
    """Choose, test and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="*", default=list(LOGS), choices=list(LOGS))
    parser.add_argument("--methods", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, of models that draw")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    limit_threads(asked.threads)
    for log in asked.logs:
        data = LOGS[log]()
        split = cold_split(data, seed=SEEDS[0])
        rows, of_als = [], ({}, 0.0)
        for method in asked.methods:
            start = time.perf_counter()
            space = OF_LOG.get(log, {}).get(method, SPACES[method])
            settings, warm = chosen(method, split, space, of_als)
            if method == "als":
                of_als = (settings, warm)
            seeds = SEEDS[: asked.seeds if method in RANDOM else 1]
            found = [
                judged(fitted(method, split, seed, settings), split, split.test, split.validation) for seed in seeds
            ]
            table = found[0].segments
            assert table is not None
            for view, key in VIEWS.items():
                others = [figure(one, view) for one in found[1:]]
                cells = [table[key].cell(name) for name in FIGURES]
                rows.append([method, view, *cells, f"{min(others):.4f} to {max(others):.4f}" if others else ""])
            print(f"{method}: {settings}, {time.perf_counter() - start:.0f} s", flush=True)
        print(f"\n{log}: {data}, split=cold, test; warm users\n")
        print(text_table(["model", "relevant", *FIGURES, "ndcg@20, other seeds"], rows), flush=True)


if __name__ == "__main__":
    main()
