"""A pipeline against each of its retrievers alone, over the whole catalog, with what each stage adds.

    RECSYS_DATA=… python scripts/bench_pipeline.py --data ml-100k                # or ml-latest-small, amazon-video-games
    RECSYS_DATA=… python scripts/bench_pipeline.py --data ml-100k --validation   # what settings were chosen by
    RECSYS_DATA=… python scripts/bench_pipeline.py --data ml-latest-small --cuts 4   # or by: more lists than one validation has
    RECSYS_DATA=… python scripts/bench_pipeline.py --data ml-100k --ranks        # what the ranker gains by what retrievers returned
    python scripts/bench_pipeline.py --latency                                   # 100,000 generated items

Settings: `conf/experiment/pipeline_<name>.yaml`. Fitted on train + validation and evaluated on test, split as in bench_towers.py; with
`--validation` on train and validation. The accuracy of the ranker and what the re-rankers give up for their ends are two questions: the
table of models has the pipeline up to the ranker, the table of stages all of it. `--cuts` asks for each user's last item of train +
validation, then for the last but one from what precedes it, and so on; a user's figure is the mean over these cuts. `--ranks` fits
on train, evaluates on validation, and sets two rankers beside each other: one sees which candidates each retriever returned and at which
rank, the other ranks by score among all candidates, as it did up to commit a10292a.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import numpy as np
from bench_towers import SHORT, Parts, parts
from hydra.utils import instantiate

from recsys_dl.compose import compose
from recsys_dl.data.generated import generated
from recsys_dl.data.split import leave_last_out
from recsys_dl.evaluation import attribute, compare, evaluate
from recsys_dl.metrics.intervals import Sample, paired_differences
from recsys_dl.threads import limit_threads

DATA = ("demo", "ml-latest-small", "ml-100k", "amazon-video-games")
METRICS = ["ndcg", "recall", "coverage"]


def quality(name: str, settings: list[str], seed: int, *, validation: bool) -> None:
    """Print the pipeline beside its retrievers, and its stages."""
    given = parts(name, seed, validation=validation)
    config = compose("train", [f"experiment=pipeline_{SHORT[name]}", *settings, f"seed={seed}", "device=cpu"])
    start = time.perf_counter()
    whole = instantiate(config.pipeline).fit(given.train)
    seconds = time.perf_counter() - start
    ranked = copy.copy(whole)
    ranked.rerankers = {}
    models: dict[str, Any] = {"pipeline, ranked": ranked, **whole.retrievers}
    told = {
        one: evaluate(model, given.train, given.asked, k=[10, 20], metrics=METRICS) for one, model in models.items()
    }
    best = max(whole.retrievers, key=lambda one: told[one].values["ndcg@10"])
    both = compare(told, metric="ndcg@10", baseline=best)
    print(f"{name}, {'validation' if validation else 'test'}: {given.train!r}; fit {seconds:.0f} s\n")
    print(
        f"| model | NDCG@10 | minus {best} | p | recall@10 | recall@20 | coverage@10 |\n|---|---|---|---|---|---|---|"
    )
    for one, evaluation in both.evaluations.items():
        difference = p = ""
        if one != best:
            apart = both.differences[one]
            difference, p = f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]", f"{both.p_values[one]:.3f}"
        others = " | ".join(f"{evaluation.values[metric]:.4f}" for metric in ("recall@10", "recall@20", "coverage@10"))
        print(f"| {one} | {evaluation.cell('ndcg@10')} | {difference} | {p} | {others} |")
    print(f"\n{attribute(whole, given.train, given.asked, k=10)}", flush=True)


def on_cuts(name: str, settings: list[str], seed: int, num_cuts: int) -> None:
    """Print the pipeline beside its retrievers, over several cuts of train + validation."""
    config = compose("train", [f"experiment=pipeline_{SHORT[name]}", *settings, f"seed={seed}", "device=cpu"])
    left = parts(name, seed, validation=False).train
    figures: dict[str, list[np.ndarray]] = {}
    for _ in range(num_cuts):
        split = leave_last_out(left, num_validation=0, num_test=1, order=config.split.order)
        whole = instantiate(config.pipeline).fit(split.train)
        whole.rerankers = {}
        for one, model in {"pipeline, ranked": whole, **whole.retrievers}.items():
            found = evaluate(model, split.train, split.test, k=10, metrics=["ndcg"]).per_user["ndcg@10"]
            figures.setdefault(one, []).append(found)
        left = split.train
    samples = {one: Sample(np.mean(values, axis=0)) for one, values in figures.items()}
    best = max((one for one in samples if one != "pipeline, ranked"), key=lambda one: samples[one].value)
    apart = paired_differences(list(samples.values()), samples[best])
    print(
        f"{name}, {num_cuts} cuts of train + validation\n\n| model | NDCG@10 | of each cut | minus {best} |\n|---|---|---|---|"
    )
    for (one, sample), difference in zip(samples.items(), apart, strict=True):
        cuts = ", ".join(f"{np.mean(values):.4f}" for values in figures[one])
        print(
            f"| {one} | {sample.value:.4f} | {cuts} | {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}] |"
        )


def on_ranks(name: str, settings: list[str], seed: int, num_seeds: int = 3) -> None:
    """Print what the ranker gains, on validation, by seeing what retrievers really returned; a user's figure is the mean of seeds."""
    demo = ["pipeline=three_stage", "data=movielens_small"]
    given = Parts(*demo_parts(demo)) if name == "demo" else parts(name, seed, validation=True)
    chosen = demo if name == "demo" else [f"experiment=pipeline_{SHORT[name]}"]
    figures: dict[str, list[np.ndarray]] = {}
    for one_seed in range(seed, seed + num_seeds):
        more = [*chosen, *settings, f"seed={one_seed}", "device=cpu"]
        for returned, label in (
            (False, "by score among all candidates"),
            (True, "of the lists that retrievers returned"),
        ):
            pipeline = instantiate(compose("train", more).pipeline)
            pipeline.returned_ranks, pipeline.rerankers = returned, {}
            evaluation = evaluate(pipeline.fit(given.train), given.train, given.asked, k=10, metrics=["ndcg"])
            figures.setdefault(label, []).append(evaluation.per_user["ndcg@10"])
    before, after = (Sample(np.mean(values, axis=0)) for values in figures.values())
    (apart,) = paired_differences([after], before)
    print(
        f"{name}, validation, {num_seeds} seeds\n\n| ranks that the ranker sees | NDCG@10 | of each seed | difference |\n|---|---|---|---|"
    )
    for (label, values), sample in zip(figures.items(), (before, after), strict=True):
        seeds = ", ".join(f"{np.nanmean(value):.4f}" for value in values)
        difference = f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]" if sample is after else ""
        print(f"| {label} | {sample.value:.4f} | {seeds} | {difference} |", flush=True)


def demo_parts(settings: list[str]) -> tuple[Any, Any]:
    """Return train and validation of the log that scripts/demo.sh reads."""
    config = compose("train", settings)
    split = instantiate(config.split)(instantiate(config.weights)(instantiate(config.data)))
    return split.train, split.validation


def latency(seed: int) -> None:
    """Print each stage's share of the time at 100,000 generated items, for one user and for batches."""
    data = generated(num_users=20_000, num_items=100_000, num_interactions=1_000_000, seed=seed)
    config = compose(
        "train",
        [
            "pipeline=three_stage",
            "pipeline.examples.by=newest",
            "pipeline.examples.rounds=1",
            "pipeline.ranker.epochs=2",  # how well it ranks is not asked here
            "pipeline.retrievers.als.embedding_size=64",
            "pipeline.num_retrieved=200",
            "pipeline.num_candidates=500",
            f"seed={seed}",
            "device=cpu",
        ],
    )
    pipeline = instantiate(config.pipeline).fit(data)
    print(f"{data!r}, generated; 500 candidates of 200 from each retriever\n")
    print("| users at once | ms of a request, p50 | p99 | users/s | share of each stage |\n|---|---|---|---|---|")
    rng = np.random.default_rng(seed)
    for size, times in ((1, 300), (100, 30), (1000, 5)):
        took, shares = [], {}
        for number in range(times + 1):
            users = rng.integers(0, data.num_users, size)
            start = time.perf_counter()
            answer = pipeline.recommend(users, 10, exclude=data)
            if number:  # the first compiles
                took.append(1000 * (time.perf_counter() - start))
                for stage in answer.stages:
                    shares[stage.name] = shares.get(stage.name, 0.0) + 1000 * stage.seconds
        told = ", ".join(f"{name} {spent / sum(took):.0%}" for name, spent in shares.items())
        p50, p99 = np.percentile(took, [50, 99])
        print(f"| {size:,} | {p50:.1f} | {p99:.1f} | {size * times / sum(took) * 1000:,.0f} | {told} |", flush=True)


def main() -> None:
    """Fit, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DATA)
    parser.add_argument("--latency", action="store_true", help="time requests at 100,000 generated items")
    parser.add_argument("--validation", action="store_true", help="fit on train, evaluate on validation")
    parser.add_argument("--cuts", type=int, help="so many cuts of train + validation, of a log split by leave-last-out")
    parser.add_argument(
        "--ranks", action="store_true", help="rankers with and without what retrievers returned, on validation"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="pipeline.KEY=VALUE", help="other settings")
    parser.add_argument("--threads", type=int, help="of all libraries together (default: every processor)")
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    if chosen.data == "demo" and not chosen.ranks:
        parser.error("the demo's log is for --ranks")
    if (chosen.data is None) == (not chosen.latency):
        parser.error("say either --data or --latency")
    print(f"{limit_threads(chosen.threads)} threads")
    if chosen.latency:
        latency(chosen.seed)
    elif chosen.ranks:
        on_ranks(chosen.data, chosen.set, chosen.seed)
    elif chosen.cuts:
        on_cuts(chosen.data, chosen.set, chosen.seed, chosen.cuts)
    else:
        quality(chosen.data, chosen.set, chosen.seed, validation=chosen.validation)


if __name__ == "__main__":
    main()
