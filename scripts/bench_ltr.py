"""Rankers on MQ2008: every loss on a perceptron, some on self-attention, and LambdaMART, judged query by query.

    python scripts/bench_ltr.py                       # the tables of docs/benchmarks/rankers.md
    python scripts/bench_ltr.py --test path/to/S5.txt # a part held out: trained on S1-S3, chosen and stopped on S4, reported once

Cross-validated within S1-S4: each part is the test once, the next one (after S4, S1) validation, the other two train. Every row has a
few settings (SPACES; a YAML of conf/experiment says the rest); of each fold's and seed's the one with the highest NDCG@10 on validation
is reported on its test, so that nothing of a test part is ever used to choose. Training stops where that same figure is highest. The four
test parts together are 628 queries, each judged by models that saw nothing of its part; a query's figure is the mean over seeds. With S4
as validation the same settings are fitted on S1-S3, the split of LETOR's first fold; those figures are of the very queries that chose.

NDCG has gains 2^g - 1. Of 628 queries some have no relevant document (blank); the tables say what they count as. Brackets: 95%
bootstrap interval over queries; differences are paired by query, p-values corrected by Holm for the rows of a table.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import multiprocessing
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_dl.compose import compose
from recsys_dl.data.groups import Groups
from recsys_dl.metrics.grouped import judge_groups, letor_ndcg
from recsys_dl.metrics.intervals import Sample, holm, intervals, paired_differences
from recsys_dl.metrics.ranking import per_user
from recsys_dl.progress import track
from recsys_dl.readers.letor import read_letor
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "mq2008"
NUM_FEATURES = 46
KS = (1, 3, 5, 10)
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "regression": ("mse_loss", {}),
    "ordinal": ("ordinal_loss", {}),
    "BCE": ("bce_loss", {}),
    "RankNet": ("ranknet_loss", {}),
    "margin": ("margin_loss", {}),
    "LambdaRank": ("lambdarank_loss", {}),
    "softmax": ("softmax_loss", {}),
    "ListNet": ("listnet_loss", {}),
    "ListMLE": ("listmle_loss", {}),
    "ApproxNDCG": ("approx_ndcg_loss", {}),
    "NeuralNDCG": ("neural_ndcg_loss", {"sinkhorn_steps": 10}),
    "LambdaLoss NDCG1": ("lambda_loss", {"weighting": "ndcg1"}),
    "LambdaLoss NDCG2": ("lambda_loss", {"weighting": "ndcg2"}),
    "LambdaLoss NDCG2++": ("lambda_loss", {"weighting": "ndcg2++"}),
}
ON_ATTENTION = ("LambdaRank", "softmax", "ListNet", "ListMLE", "ApproxNDCG", "LambdaLoss NDCG2++")
SPACES: dict[str, dict[str, list[Any]]] = {
    "ltr_lambdamart": {"num_leaves": [4, 8, 16], "min_documents": [20, 50], "feature_fraction": [0.5, 1.0]},
    "ltr_mlp": {"hidden_sizes": [[], [64], [64, 32]]},
    "ltr_attention": {"dropout": [0.1, 0.5]},
}
LABELS = {"ltr_mlp": "MLP", "ltr_attention": "attention"}
BASELINE = "LambdaMART"


class Row(NamedTuple):
    """A line of the tables: what is fitted, in each of its settings."""

    name: str
    ranker: dict[str, Any]
    settings: tuple[dict[str, Any], ...]


class Fitted(NamedTuple):
    """What one fit came to."""

    validation: float  # NDCG@10, blank queries left out
    per_query: dict[str, np.ndarray]  # of the test part, NaN for blank queries
    letor: np.ndarray  # NDCG@10 as LETOR's tool counts it


class Result(NamedTuple):
    """What a row comes to on some test queries."""

    per_query: dict[str, np.ndarray]  # means over seeds, NaN for blank queries
    letor: float
    by_seed: list[float]  # NDCG@10, blank queries left out


def rows(networks: Sequence[str], losses: Sequence[str]) -> list[Row]:
    """Return every line of the tables."""
    configs = {
        name: OmegaConf.to_container(compose("train", [f"experiment={name}", "device=cpu"]).ranker, resolve=True)
        for name in SPACES
    }
    made = [Row(BASELINE, configs["ltr_lambdamart"], _settings(SPACES["ltr_lambdamart"]))]
    for network, label in itertools.product(networks, losses):
        if network == "ltr_attention" and label not in ON_ATTENTION:
            continue
        loss, arguments = LOSSES[label]
        own = {"loss": loss, "loss_arguments": arguments}
        settings = tuple(own | one for one in _settings(SPACES[network]))
        made.append(Row(f"{LABELS[network]}, {label}", configs[network], settings))
    return made


def _settings(space: dict[str, list[Any]]) -> tuple[dict[str, Any], ...]:
    return tuple(dict(zip(space, values, strict=True)) for values in itertools.product(*space.values()))


def fit(config: dict[str, Any], train: Groups, validation: Groups, test: Groups) -> Fitted:
    """Fit one setting; judge it on the test part."""
    ranker = instantiate(config).fit(train, validation=validation)
    return Fitted(max(ranker.history), *judged(ranker.score_groups(test), test))


def judged(scores_N: np.ndarray, test: Groups) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each query's metrics, and LETOR's own NDCG@10."""
    ranks = judge_groups(scores_N, test.labels_N, test.starts_Q, k=max(10, int(test.sizes_Q.max())))
    per_query = per_user(ranks, ["ndcg"], KS, gains="exponential")
    per_query["map"] = next(iter(per_user(ranks, ["map"], [ranks.labels_BK.shape[1]]).values()))
    return per_query, letor_ndcg(ranks, test.sizes_Q, 10)


def _begin() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    limit_threads(1)


def choose(
    made: list[Row], folds: list[tuple[Groups, Groups, Groups]], seeds: Sequence[int], workers: int
) -> dict[str, list[list[Fitted]]]:
    """Return of each row, for each fold and seed, the fit of the setting that was best on the fold's validation."""
    jobs = [
        (row, fold, seed, setting)
        for row, fold, seed in itertools.product(made, range(len(folds)), seeds)
        for setting in row.settings
    ]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        running = [
            pool.submit(fit, row.ranker | setting | {"seed": seed}, *folds[fold]) for row, fold, seed, setting in jobs
        ]
        fitted = [job.result() for job in track(running, "fits")]
    best: dict[str, list[list[Fitted]]] = {row.name: [[] for _ in folds] for row in made}
    for (name, fold, _), several in itertools.groupby(
        zip(jobs, fitted, strict=True), key=lambda pair: (pair[0][0].name, *pair[0][1:3])
    ):
        best[name][fold].append(max((one for _, one in several), key=lambda one: one.validation))
    return best


def joined(folds: Sequence[Sequence[Fitted]]) -> Result:
    """Return the test queries of all folds as one."""
    seeds = list(zip(*folds, strict=True))
    per_seed = [
        {name: np.concatenate([part.per_query[name] for part in parts]) for name in parts[0].per_query}
        for parts in seeds
    ]
    return Result(
        {name: np.mean([of[name] for of in per_seed], axis=0) for name in per_seed[0]},
        float(np.mean([np.concatenate([part.letor for part in parts]).mean() for parts in seeds])),
        [float(np.nanmean(of["ndcg@10"])) for of in per_seed],
    )


def against(results: dict[str, Result]) -> dict[str, tuple[str, str]]:
    """Return of each row what NDCG@10 it is from LambdaMART with its interval, and p; blank queries left out."""
    others = [name for name in results if name != BASELINE]
    samples = {name: Sample(result.per_query["ndcg@10"]) for name, result in results.items()}
    differences = paired_differences([samples[name] for name in others], samples[BASELINE])
    corrected = holm([one.p_value for one in differences])
    told = {
        name: (f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]", f"{p:.3f}")
        for name, one, p in zip(others, differences, corrected, strict=True)
    }
    return {BASELINE: ("", "")} | told


def left_out(results: dict[str, Result]) -> str:
    """Return a table in which blank queries are left out."""
    names = list(results[BASELINE].per_query)
    lines = [["ranker", *map(str.upper, names), "lowest and highest seed", "NDCG@10 minus LambdaMART", "p"]]
    for name, apart in against(results).items():
        per_query, _, by_seed = results[name]
        figures = [f"{np.nanmean(per_query[metric]):.4f}" for metric in names]
        low, high = intervals([Sample(per_query["ndcg@10"])])[0]
        figures[names.index("ndcg@10")] += f" [{low:.4f}, {high:.4f}]"
        lines.append([name, *figures, f"{min(by_seed):.4f}, {max(by_seed):.4f}", *apart])
    return markdown(lines)


def counted(results: dict[str, Result], more: dict[str, Result] | None) -> str:
    """Return a table in which blank queries count; `more` is of S4 as validation."""
    names = list(results[BASELINE].per_query)
    lines = [["ranker", *map(str.upper, names), "NDCG@10 of LETOR's tool"]]
    for name, (per_query, letor, _) in results.items():
        both = [[np.nan_to_num(per_query[metric], nan=blank).mean() for blank in (1.0, 0.0)] for metric in names]
        lines.append([name, *(f"{one:.4f} / {zero:.4f}" for one, zero in both), f"{letor:.4f}"])
    if more is not None:
        lines[0] += ["S4: NDCG@10", "minus LambdaMART"]
        for line, (name, (apart, _)) in zip(lines[1:], against(more).items(), strict=True):
            line += [f"{np.nanmean(more[name].per_query['ndcg@10']):.4f}", apart]
    return markdown(lines)


def markdown(lines: list[list[str]]) -> str:
    """Return a table."""
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], ["---"] * len(lines[0]), *lines[1:]))


def main() -> None:
    """Read, choose, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, help="a LETOR file held out: trained on S1-S3, validated on S4")
    parser.add_argument("--networks", nargs="*", default=list(LABELS), choices=list(LABELS))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes, one thread each")
    chosen = parser.parse_args()
    limit_threads(1)
    parts = [read_letor(DATA / f"S{part}.txt", num_features=NUM_FEATURES) for part in (1, 2, 3, 4)]
    first = (Groups.concat(parts[:3]), parts[3])
    made = rows(chosen.networks, chosen.losses)
    if chosen.test:
        test = read_letor(chosen.test, num_features=NUM_FEATURES)
        best = choose(made, [(*first, test)], chosen.seeds, chosen.workers)
        report({name: joined(fits) for name, fits in best.items()}, None, f"{chosen.test.stem}: {test!r}")
        return
    folds = []
    for at in range(4):
        validation = (at + 1) % 4
        train = Groups.concat([part for other, part in enumerate(parts) if other not in (at, validation)])
        folds.append((train, parts[validation], parts[at]))
    best = choose(made, [*folds, (*first, parts[3])], chosen.seeds, chosen.workers)
    results, more = ({name: joined(fits[part]) for name, fits in best.items()} for part in (slice(4), slice(4, 5)))
    report(results, more, "S1-S4, cross-validated")


def report(results: dict[str, Result], more: dict[str, Result] | None, what: str) -> None:
    """Print the tables of one set of test queries."""
    blank = np.isnan(results[BASELINE].per_query["ndcg@10"])
    print(f"## {what}: {len(blank)} queries, {int(blank.sum())} of them blank")
    print(f"\n### Blank queries left out\n\n{left_out(results)}")
    print(f"\n### Blank queries counted 1 / counted 0\n\n{counted(results, more)}")


if __name__ == "__main__":
    main()
