"""New items: what each model does for items that nobody knows, and what that costs the known ones, from one fit each.

    RECSYS_DATA=… python scripts/bench_cold_items.py                    # all four logs, about an hour on one core
    RECSYS_DATA=… python scripts/bench_cold_items.py goodbooks-10k --methods popularity content als bootstrap

split=cold: a tenth of the items, a tenth of the users and a tenth of the other interactions are held out for validation, and as much for test. Relevant are
ratings in the upper third of the scale, or every interaction of a log without ratings. Figures are of warm users: their warm items among all items, their cold items among all items, and their cold items
among the cold ones. Settings are chosen on validation: by NDCG@20 of warm items, of content by that of cold items among cold ones; bootstrap, dropout_net, heater and
clcrec take those of als, and the largest `scale` that keeps 98% of als's NDCG@20 of warm items, found by bisection. Test once. Intervals are of the first seed; the last column is the range of the other seeds for models that draw.
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
    "ease": {"regularization": [300, 800], "content_weight": [0, 10, 100]},
    "bootstrap": {},
    "dropout_net": {},
    "heater": {},
    "clcrec": {},
    "feature_mf": {"embedding_size": [64]},
    "two_tower": {"epochs": [10]},
}
OVER_ALS = ("bootstrap", "dropout_net", "heater", "clcrec")
SCALES = [0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 2.5, 3]
KEPT = 0.98  # of the NDCG@20 of als on warm items, on validation
RANDOM = ("als", *OVER_ALS, "feature_mf", "two_tower")
SEEDS = (7, 8, 9)
OF_LOG: dict[
    str, dict[str, dict[str, list[Any]]]
] = {  # in place of the common grid: beyond its edge, or less of it where a fit takes long
    "citeulike-a": {
        "ease": {"regularization": [100, 300], "content_weight": [0, 10, 30, 100]},
        "als": {
            "solver": ["cholesky"],
            "embedding_size": [128],
            "regularization": [0.0003, 0.001],
            "unobserved_weight": [0.003, 0.01, 0.03],
        },
    },
    "goodbooks-10k": {
        "ease": {"regularization": [50, 100], "content_weight": [0, 30, 100, 300]},
        "als": {"embedding_size": [64], "regularization": [0.01], "unobserved_weight": [0.1, 0.3]},
    },
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


def judged(model: Any, split: Split, *, test: bool) -> Evaluation:
    """Return figures of a held-out part; on validation, which only chooses, with hardly any resamples for the intervals."""
    part, other = (split.test, split.validation) if test else (split.validation, split.test)
    how: dict[str, Any] = {"metrics": ["ndcg", "recall"], "segments": "cold", "num_resamples": 1000 if test else 100}
    return evaluate(model, split.train, part, [20, 100], exclude=other, **how)


def figure(evaluation: Evaluation, view: str, name: str = "ndcg@20") -> float:
    """Return a figure of warm users."""
    assert evaluation.segments is not None
    return float(evaluation.segments[VIEWS[view]].values[name])


def grid(space: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield all combinations."""
    for values in itertools.product(*space.values()):
        yield dict(zip(space, values, strict=True))


def tried(method: str, model: Any, split: Split, settings: dict[str, Any]) -> list[float]:
    """Return the NDCG@20 of each view on validation, and print them."""
    evaluation = judged(model, split, test=False)
    found = [figure(evaluation, view) for view in VIEWS]
    print(f"  {method} {settings}: {', '.join(f'{value:.4f}' for value in found)}", flush=True)
    return found


def chosen(method: str, split: Split, space: dict[str, list[Any]]) -> tuple[dict[str, Any], Any, float]:
    """Return the settings that validation prefers, the model, and its NDCG@20 of warm items."""
    best = None
    for settings in grid(space):
        model = fitted(method, split, SEEDS[0], settings)
        found = tried(method, model, split, settings)
        by = found[2 if method == "content" else 0]
        if best is None or by > best[0]:
            best = by, settings, model, found[0]
    assert best is not None
    return best[1:]


def scaled(method: str, split: Split, als: dict[str, Any], least: float) -> tuple[dict[str, Any], Any]:
    """Return the largest scale of new items that keeps `least` NDCG@20 of warm items, else the smallest, and the model at that scale."""
    settings: dict[str, Any] = {f"base.{name}": value for name, value in als.items()}
    model = fitted(method, split, SEEDS[0], settings)
    low, high = 0, len(SCALES)
    while high - low > 1:
        middle = (low + high) // 2
        found = tried(method, model.with_scale(SCALES[middle]), split, {"scale": SCALES[middle]})
        low, high = (middle, high) if found[0] >= least else (low, middle)
    return settings | {"scale": SCALES[low]}, model.with_scale(SCALES[low])


def main() -> None:
    """Choose, test and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="*", default=list(LOGS), choices=list(LOGS))
    parser.add_argument("--methods", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, of models that draw")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if {*OVER_ALS} & {*asked.methods} and "als" not in asked.methods[:1]:
        asked.methods = ["als", *(method for method in asked.methods if method != "als")]  # whose settings they take
    limit_threads(asked.threads)
    for log in asked.logs:
        data = LOGS[log]()
        split = cold_split(data, seed=SEEDS[0])
        rows: list[list[str]] = []
        of_als: dict[str, Any] = {}
        warm = 0.0
        for method in asked.methods:
            start = time.perf_counter()
            space = OF_LOG.get(log, {}).get(method, SPACES[method])
            if method in OVER_ALS:
                settings, model = scaled(method, split, of_als, KEPT * warm)
            else:
                settings, model, kept = chosen(method, split, space)
                of_als, warm = (settings, kept) if method == "als" else (of_als, warm)
            seeds = SEEDS[1 : asked.seeds if method in RANDOM else 1]
            models = (model, *(fitted(method, split, seed, settings) for seed in seeds))
            found = [judged(one, split, test=True) for one in models]
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
