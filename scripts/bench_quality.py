"""Quality of every model on real data: hyper-parameters chosen on validation, test reported once.

    python scripts/bench_quality.py ml-latest-small          # or ml-100k, movietweetings; --trials 12 --models als bpr

Each user's last interaction is the test, the one before it validation (leave-last-out by time). Candidates are the whole
catalog without what the user had; every rating counts as an interaction of weight 1. For each model `--trials` settings
are drawn from its space below with a fixed seed (the first is the YAML's own), fitted on train and compared by NDCG@10 on
validation. The best is fitted again on train + validation and evaluated on test, once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
from hydra.utils import instantiate

from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import Split
from recsys_dl.evaluation import compare, evaluate
from recsys_dl.progress import track
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCES = {
    "ml-latest-small": ["data=movielens_latest_small", f"data.path={DATA / 'ml-latest-small'}"],
    "ml-100k": ["data=movielens_100k", f"data.path={DATA / 'ml-100k'}"],
    "movietweetings": ["data=movietweetings", f"data.path={DATA / 'movietweetings-100k'}"],
}
NEIGHBOURS = {
    "num_neighbors": [20, 50, 100, 200, 400],
    "weighting": ["null", "tfidf", "bm25"],
    "shrinkage": [0, 10, 50],
}
SPACES: dict[str, dict[str, list]] = {
    "popularity": {"window_days": ["null", 30, 90, 365]},
    "item_knn": NEIGHBOURS | {"measure": ["cosine", "jaccard"]},
    "user_knn": NEIGHBOURS | {"measure": ["cosine", "jaccard"]},
    "rp3beta": {"num_neighbors": [50, 100, 200, 400], "alpha": [0.6, 0.8, 1.0, 1.2], "beta": [0.2, 0.4, 0.6, 0.8]},
    "ease": {"regularization": [30, 100, 200, 400, 800, 1600]},
    "svd": {"embedding_size": [8, 16, 32, 50, 100], "item_exponent": [0.6, 0.8, 1.0]},
    "als": {
        "solver": ["cholesky"],
        "embedding_size": [32, 64, 128],
        "regularization": [0.005, 0.015, 0.05, 0.15],
        "unobserved_weight": [0.03, 0.1, 0.3, 1.0],
    },
    "bpr": {
        "embedding_size": [32, 64, 128],
        "regularization": [0.01, 0.03, 0.1],
        "popularity_exponent": [0, 0.25, 0.5],
    },
    "funk_svd": {"embedding_size": [8, 32, 100]},
    "svd_pp": {"embedding_size": [8, 32, 100]},
    "explicit_als": {"embedding_size": [15, 63], "regularization": [0.06, 0.12, 0.24]},
}
METRICS = ["recall", "ndcg", "coverage", "novelty"]
RATING_MODELS = {"funk_svd", "svd_pp", "explicit_als"}  # learn the ratings themselves, so they get them


def settings(space: dict[str, list], trials: int, rng: np.random.Generator) -> list[list[str]]:
    """Return the YAML's own setting and up to trials - 1 others, distinct, as overrides."""
    every = list(itertools.product(*space.values()))
    drawn = [every[at] for at in rng.permutation(len(every))[: trials - 1]]
    return [[], *[[f"model.{key}={value}" for key, value in zip(space, values, strict=True)] for values in drawn]]


def joined(split: Split) -> Dataset:
    """Return train and validation as one."""
    return split.train.with_interactions(Interactions.concat([split.train.interactions, split.validation.interactions]))


def main() -> None:
    """Choose, report, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=SOURCES)
    parser.add_argument("--models", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--trials", type=int, default=8, help="settings tried for each model (default 8)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, help="a .json file for values, intervals and chosen settings")
    chosen = parser.parse_args()
    threads = limit_threads(None)
    shared = [*SOURCES[chosen.data], "split=leave_last_out", f"seed={chosen.seed}", "device=cpu"]
    parts = {}
    for weights in ("keep", "binary"):
        config = compose("train", [*shared, f"weights={weights}"])
        parts[weights] = instantiate(config.split)(instantiate(config.weights)(instantiate(config.data)))
    evaluations, rows = {}, {}
    for name in chosen.models:
        learned = parts["keep" if name in RATING_MODELS else "binary"]
        train, validation, test = parts["binary"]  # what is known and asked is the same for all
        trials = []
        for overrides in track(settings(SPACES[name], chosen.trials, np.random.default_rng(chosen.seed)), name):
            model = instantiate(compose("train", [*shared, f"model={name}", *overrides]).model).fit(learned.train)
            trials.append((evaluate(model, train, validation, k=[10], metrics=["ndcg"]).values["ndcg@10"], overrides))
        best, overrides = max(trials, key=lambda trial: trial[0])
        model = instantiate(compose("train", [*shared, f"model={name}", *overrides]).model)
        start = time.perf_counter()
        model.fit(joined(learned))
        fitted = time.perf_counter()
        evaluations[name] = evaluate(model, joined(parts["binary"]), test, k=[10, 20], metrics=METRICS)
        rows[name] = {
            "validation_ndcg@10": best,
            "chosen": " ".join(override.removeprefix("model.") for override in overrides) or "the YAML's own",
            "fit_seconds": fitted - start,
            "evaluate_seconds": time.perf_counter() - fitted,
        }
        print(f"{name}: validation {best:.4f}, test {evaluations[name].values['ndcg@10']:.4f}", flush=True)
    comparison = compare(evaluations, metric="ndcg@10")
    result = {"comparison": comparison.to_dict(), "rows": rows}
    print(f"\n{chosen.data}: {parts['binary'].train!r}, {threads} threads\n\n{comparison}\n\n{markdown(result)}")
    if chosen.output:
        chosen.output.write_text(json.dumps(result, indent=2) + "\n")


def markdown(result: dict) -> str:
    """Return the table of docs/benchmarks/quality.md."""
    comparison, rows = result["comparison"], result["rows"]
    lines = [
        f"| model | NDCG@10 | minus {comparison['baseline']} | p | recall@10 | recall@20 | coverage@10 | valid. NDCG@10 | chosen |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, evaluation in comparison["models"].items():
        values, (low, high) = evaluation["values"], evaluation["intervals"]["ndcg@10"]
        difference, p = "", ""
        if name in comparison["differences"]:
            against = comparison["differences"][name]
            difference = f"{against['value']:+.4f} [{against['interval'][0]:+.4f}, {against['interval'][1]:+.4f}]"
            p = f"{against['p_value_holm']:.3f}"
        others = " | ".join(f"{values[metric]:.4f}" for metric in ("recall@10", "recall@20", "coverage@10"))
        figures = f"{values['ndcg@10']:.4f} [{low:.4f}, {high:.4f}] | {difference} | {p} | {others}"
        lines.append(f"| {name} | {figures} | {rows[name]['validation_ndcg@10']:.4f} | {rows[name]['chosen']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
