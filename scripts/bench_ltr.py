"""Rankers on MQ2008: every loss on a perceptron, some on self-attention, and LambdaMART, judged query by query.

    python scripts/bench_ltr.py                       # the tables of docs/benchmarks.md
    python scripts/bench_ltr.py --test path/to/S5.txt # a part held out: trained on S1-S3, chosen and stopped on S4, reported once

Cross-validated within S1-S4: each part is the test once, the next one (after S4, S1) validation, the other two train. Every row has a
few settings (SPACES; a YAML of conf/experiment says the rest); of each fold's the one with the highest NDCG@10 on validation is
reported on its test, so that nothing of a test part is ever used to choose. Training stops where that same figure is highest. The four
test parts together are 628 queries, each judged by a model that saw nothing of its part. With S4 as validation the same settings are
fitted on S1-S3, the split of LETOR's first fold; those figures are of the very queries that chose.

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
from recsys_dl.data.letor import read_letor
from recsys_dl.metrics.grouped import judge_groups, letor_ndcg
from recsys_dl.metrics.intervals import Sample, holm, intervals, paired_differences
from recsys_dl.metrics.ranking import per_user
from recsys_dl.progress import track
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


def rows(networks: Sequence[str], losses: Sequence[str], seed: int) -> list[Row]:
    """Return every line of the tables."""
    configs = {
        name: OmegaConf.to_container(
            compose("train", [f"experiment={name}", "device=cpu", f"seed={seed}"]).ranker, resolve=True
        )
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


def choose(made: list[Row], folds: list[tuple[Groups, Groups, Groups]], workers: int) -> dict[str, list[Fitted]]:
    """Return of each row and fold the fit of the setting that was best on the fold's validation."""
    jobs = [(row, fold, setting) for row in made for fold in range(len(folds)) for setting in row.settings]
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        running = [pool.submit(fit, row.ranker | setting, *folds[fold]) for row, fold, setting in jobs]
        fitted = [job.result() for job in track(running, "fits")]
    best: dict[str, list[Fitted]] = {row.name: [] for row in made}
    for (name, _), several in itertools.groupby(
        zip(jobs, fitted, strict=True), key=lambda pair: (pair[0][0].name, pair[0][1])
    ):
        best[name].append(max((one for _, one in several), key=lambda one: one.validation))
    return best


def joined(parts: Sequence[Fitted]) -> Fitted:
    """Return the test queries of all folds as one."""
    names = parts[0].per_query
    return Fitted(
        float(np.mean([part.validation for part in parts])),
        {name: np.concatenate([part.per_query[name] for part in parts]) for name in names},
        np.concatenate([part.letor for part in parts]),
    )


def table(results: dict[str, Fitted], blank: float | None) -> str:
    """Return a markdown table; `blank` is what a query without a relevant document counts as, None leaves it out."""
    names = list(next(iter(results.values())).per_query)
    header = ["ranker", *(name.upper() for name in names), "NDCG@10 minus LambdaMART", "p (Holm)"]
    if blank is None:
        header.append("validation NDCG@10")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]

    def sample(name: str, metric: str) -> Sample:
        values = results[name].per_query[metric]
        return Sample(values if blank is None else np.where(np.isnan(values), blank, values))

    others = [name for name in results if name != BASELINE]
    differences = paired_differences([sample(name, "ndcg@10") for name in others], sample(BASELINE, "ndcg@10"))
    corrected = dict(zip(others, holm([one.p_value for one in differences]), strict=True))
    against = dict(zip(others, differences, strict=True))
    for name in results:
        figures = [f"{sample(name, metric).value:.4f}" for metric in names]
        low, high = intervals([sample(name, "ndcg@10")])[0]
        figures[names.index("ndcg@10")] += f" [{low:.4f}, {high:.4f}]"
        if name in against:
            one = against[name]
            figures += [f"{one.value:+.4f} [{one.low:+.4f}, {one.high:+.4f}]", f"{corrected[name]:.3f}"]
        else:
            figures += ["", ""]
        if blank is None:
            figures.append(f"{results[name].validation:.4f}")
        lines.append(f"| {name} | " + " | ".join(figures) + " |")
    return "\n".join(lines)


def main() -> None:
    """Read, choose, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", type=Path, help="a LETOR file held out: trained on S1-S3, validated on S4")
    parser.add_argument("--networks", nargs="*", default=list(LABELS), choices=list(LABELS))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes, one thread each")
    chosen = parser.parse_args()
    limit_threads(1)
    parts = [read_letor(DATA / f"S{part}.txt", num_features=NUM_FEATURES) for part in (1, 2, 3, 4)]
    first = (Groups.concat(parts[:3]), parts[3])
    made = rows(chosen.networks, chosen.losses, chosen.seed)
    if chosen.test:
        test = read_letor(chosen.test, num_features=NUM_FEATURES)
        best = choose(made, [(*first, test)], chosen.workers)
        report({name: joined(fits) for name, fits in best.items()}, f"{chosen.test.stem}: {test!r}")
        return
    folds = []
    for at in range(4):
        validation = (at + 1) % 4
        train = Groups.concat([part for other, part in enumerate(parts) if other not in (at, validation)])
        folds.append((train, parts[validation], parts[at]))
    best = choose(made, [*folds, (*first, parts[3])], chosen.workers)
    report({name: joined(fits[:4]) for name, fits in best.items()}, "S1-S4, cross-validated")
    print("\n## S4 as validation, trained on S1-S3\n\nThe figures that chose the settings; blank queries left out.\n")
    print(table({name: fits[4] for name, fits in best.items()}, None))


def report(results: dict[str, Fitted], what: str) -> None:
    """Print the tables of one set of test queries."""
    blank = np.isnan(next(iter(results.values())).per_query["ndcg@10"])
    print(f"## {what}: {len(blank)} queries, {int(blank.sum())} of them blank")
    for title, worth in (("left out", None), ("counted 0", 0.0), ("counted 1", 1.0)):
        print(f"\n### Blank queries {title}\n\n{table(results, worth)}")
    print("\n### NDCG@10 as LETOR's own tool counts it\n")
    print(", ".join(f"{name} {result.letor.mean():.4f}" for name, result in results.items()))


if __name__ == "__main__":
    main()
