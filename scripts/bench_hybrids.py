"""Hybrids against their parts on real data: everything chosen on validation, test once.

    RECSYS_DATA=… python scripts/bench_hybrids.py                       # all three; or --data ml-1m; --output hybrids.json

goodbooks-10k and ml-1m have no times: a tenth of the interactions is the test and a tenth validation, at random. Of movietweetings each
user's last interaction is the test, the one before it validation. Every rating counts as an interaction of weight 1; candidates
are the whole catalog without what the user had. The settings of each part are chosen by NDCG@10 on validation from `SETTINGS`, then the
hybrid's weights and `normalize` on validation too. The same fitted parts are then evaluated on test, where validation is excluded
from lists as well, once; and again with those weights for two more seeds of what is random (ALS; the split stays). Differences are
from the best part, over the same users.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from recsys_dl.compose import compose
from recsys_dl.evaluation import compare, evaluate
from recsys_dl.models import Hybrid
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCES = {
    "goodbooks-10k": ["data=goodbooks", f"data.path={DATA / 'goodbooks-10k'}", "split=random"],
    "ml-1m": ["data=movielens_1m", f"data.path={DATA / 'ml-1m'}", "split=random"],
    "movietweetings": ["data=movietweetings", f"data.path={DATA / 'movietweetings-100k'}", "split=leave_last_out"],
}
SETTINGS: dict[str, list[str]] = {
    "als": ["solver=cholesky epochs=8 unobserved_weight=0.1", "solver=cholesky epochs=8 unobserved_weight=0.3"],
    "ease": ["regularization=800", "regularization=200"],  # of movietweetings only the first, which takes a minute
    "item_knn": ["num_neighbors=100 shrinkage=10", "num_neighbors=200 weighting=tfidf"],
    "content": ["ngrams=1"],
    "popularity": [""],
}
SEEDS = (7, 8, 9)
HOW: dict[str, dict[str, Any]] = {
    "switching": {"how": "switching"},
    "mixed": {"how": "mixed"},
    "cascade": {"how": "cascade", "num_candidates": 50},
}


def model_of(name: str, settings: str, seed: int) -> Any:
    """Return a model by its YAML and settings."""
    words = [f"model={name}", *(f"model.{word}" for word in settings.split()), f"seed={seed}", "device=cpu"]
    return instantiate(compose("train", words).model)


def measured(data: str) -> dict[str, Any]:
    """Choose on validation, evaluate on test."""
    config = compose("train", [*SOURCES[data], "weights=binary", "seed=7"])
    train, validation, test = instantiate(config.split)(instantiate(config.weights)(instantiate(config.data)))
    print(f"\n{data}: {train!r}", flush=True)
    chosen, fitted = {}, {}
    for name, several in SETTINGS.items():
        tried = []
        for settings in several[:1] if (name, data) == ("ease", "movietweetings") else several:
            start = time.perf_counter()
            model = model_of(name, settings, 7).fit(train)
            seconds = time.perf_counter() - start
            figure = evaluate(model, train, validation, k=[10], metrics=["ndcg"]).values["ndcg@10"]
            print(f"  {name} {settings}: validation {figure:.4f}, fit {seconds:.1f} s", flush=True)
            tried.append((figure, settings, model))
        figure, settings, fitted[name] = max(tried, key=lambda one: one[0])
        chosen[name] = {"settings": settings, "validation": figure}
    hybrids = {}
    for normalize in ("z_score", "min_max", "rank"):
        start = time.perf_counter()
        hybrid = Hybrid(fitted, normalize=normalize, seed=7).combine(train, validation)
        seconds = time.perf_counter() - start
        weights = dict(zip(fitted, map(float, hybrid.weights_SP[0]), strict=True))
        figure = evaluate(hybrid, train, validation, k=[10], metrics=["ndcg"]).values["ndcg@10"]
        print(f"  hybrid {normalize}: validation {figure:.4f}, tuned in {seconds:.1f} s: {shown(weights)}", flush=True)
        hybrids[normalize] = {"validation": figure, "weights": weights}
    normalize = max(hybrids, key=lambda one: hybrids[one]["validation"])
    weights = hybrids[normalize]["weights"]
    by_validation = sorted(chosen, key=lambda name: -chosen[name]["validation"])
    how = {"k": [10, 20], "metrics": ["ndcg", "recall", "coverage"], "exclude": validation}
    rows: dict[int, Any] = {}
    evaluations: dict[str, Any] = {}
    for seed in SEEDS:
        models = {}
        if seed != SEEDS[0]:
            fitted["als"] = model_of("als", chosen["als"]["settings"], seed).fit(train)
        else:
            first_two = {name: fitted[name] for name in by_validation[:2]}
            models = {name: Hybrid(first_two, **settings).combine(train) for name, settings in HOW.items()} | fitted
        models |= {"als": fitted["als"], "hybrid": Hybrid(fitted, normalize=normalize, weights=weights).combine(train)}
        evaluations |= {name: evaluate(model, train, test, **how) for name, model in models.items()}
        best = max(SETTINGS, key=lambda name: evaluations[name].values["ndcg@10"])
        of_seed = evaluations if seed == SEEDS[0] else {name: evaluations[name] for name in (*SETTINGS, "hybrid")}
        comparison = compare(of_seed, metric="ndcg@10", baseline=best)
        print(f"\n{data}, test, seed {seed}\n\n{comparison}", flush=True)
        rows[seed] = {"best": best, "comparison": comparison.to_dict()}
    print(f"\n{markdown(data, chosen, weights, normalize, rows)}", flush=True)
    return {"chosen": chosen, "hybrids": hybrids, "normalize": normalize, "seeds": rows}


def shown(weights: dict[str, float]) -> str:
    """Return weights as text, without those that are 0."""
    return ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items() if weight > 0)


def markdown(data: str, chosen: dict, weights: dict, normalize: str, rows: dict[int, Any]) -> str:
    """Return the table of docs/benchmarks/hybrids.md."""
    first = rows[SEEDS[0]]
    result = first["comparison"]
    lines = [
        f"{data}: weights {shown(weights)}; normalize={normalize}",
        "",
        f"| model | NDCG@10 | minus {first['best']} | recall@20 | coverage@10 | chosen on validation |",
        "|---|---|---|---|---|---|",
    ]
    for name, evaluation in result["models"].items():
        values, (low, high) = evaluation["values"], evaluation["intervals"]["ndcg@10"]
        minus = difference(result["differences"][name]) if name in result["differences"] else ""
        figures = f"{values['recall@20']:.4f} | {values['coverage@10']:.4f}"
        about = chosen.get(name, {}).get("settings", "")
        lines.append(f"| {name} | {values['ndcg@10']:.4f} [{low:.4f}, {high:.4f}] | {minus} | {figures} | {about} |")
    for seed, row in rows.items():
        lines.append(
            f"\nSeed {seed}: hybrid minus {row['best']} {difference(row['comparison']['differences']['hybrid'])}"
        )
    return "\n".join(lines)


def difference(one: dict[str, Any]) -> str:
    """Return a difference with its interval."""
    low, high = one["interval"]
    return f"{one['value']:+.4f} [{low:+.4f}, {high:+.4f}]"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--output", type=Path, help="a .json file for all figures")
    asked = parser.parse_args()
    limit_threads(1)
    results = {data: measured(data) for data in asked.data}
    if asked.output:
        asked.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
