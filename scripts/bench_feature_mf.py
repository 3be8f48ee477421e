"""FeatureMF beside LightFM: the same log, features, embedding size, epochs and losses, one thread each, in one process.

    pip install '.[peers]'
    RECSYS_DATA=… NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1 python scripts/bench_feature_mf.py movietweetings    # or goodbooks

A tenth of the items is held out wholly, the cold ones; of the other interactions a tenth is the test and a tenth validation, at random.
Every rating counts as an interaction of weight 1. Features are encoded once, by FeatureMF's encoder, and both get the same matrix; only warm
items have an id, and both train on warm items alone. For each loss each setting of the grid, of the same size for both, is
fitted with the first seed; the one with the highest NDCG@10 on validation is fitted with every seed and evaluated on the test, once.
Figures are means over seeds, intervals bootstrap users whose figures are averaged over seeds. Seconds are those of the
processor, epochs of the two taking turns, so that a shared machine matters less; wall-clock time is worse for both.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from lightfm import LightFM

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.split import cold_items, random_split
from recsys_dl.data.weights import binary
from recsys_dl.evaluation import evaluate
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.metrics.intervals import Sample, intervals, paired_differences
from recsys_dl.models.feature_mf import FeatureMF, feature_matrix
from recsys_dl.protocols import Ranking
from recsys_dl.readers.sources import goodbooks, movietweetings

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data"))
OURS, PEER = "FeatureMF", "lightfm-next"
RATES = [0.05, 0.1]
GRID = {  # of penalties, in the scale of each: ours is a penalty per pair, LightFM's shrinks every embedding at each step
    (OURS, "warp"): [0.1, 0.5],
    (OURS, "bpr"): [0.01, 0.05],
    (PEER, "warp"): [0.0, 1e-5],
    (PEER, "bpr"): [0.0, 1e-5],
}


def log_of(name: str) -> Dataset:
    """Return a log with its features; goodbooks' genres as a list instead of a text."""
    if name == "movietweetings":
        return binary(movietweetings(DATA / "movietweetings-100k"))
    data = binary(goodbooks(DATA / "goodbooks-10k"))
    genres = data.item_texts.str.split(", ").alias("genres")
    return replace(data, item_features=data.item_features.with_columns(genres), item_texts=None)


class Vectors:
    """A recommender by inner products, of some items only if `allowed` names them."""

    def __init__(self, user_emb_UD: np.ndarray, item_emb_ID: np.ndarray, allowed: np.ndarray | None = None) -> None:
        self.user_emb_UD, self.item_emb_ID, self.allowed = user_emb_UD, item_emb_ID, allowed

    def recommend(self, users: np.ndarray, k: int, *, exclude: Any = None) -> Ranking:
        """Rank the catalog."""
        rows = exclude.interactions.by_user if isinstance(exclude, Dataset) else exclude.by_user
        out = ItemLists(rows.indptr[users].astype(np.int64), rows.indptr[users + 1].astype(np.int64), rows.indices)
        within = None
        if self.allowed is not None:
            starts = np.zeros(len(users), np.int64)
            within = ItemLists(starts, starts + len(self.allowed), self.allowed.astype(np.int32))
        query_BD = np.ascontiguousarray(self.user_emb_UD[users])
        return Ranking(*top_k_dot(query_BD, self.item_emb_ID, k, exclude=out, allow=within, device="cpu"))


def ours(train: Dataset, loss: str, rate: float, penalty: float, seed: int, size: int, epochs: int) -> Vectors:
    """Fit FeatureMF."""
    settings = {"loss": loss, "learning_rate": rate, "regularization": penalty, "seed": seed, "device": "cpu"}
    model = FeatureMF(embedding_size=size, epochs=epochs, **settings).fit(train)
    return Vectors(model.user_emb_UD, model.item_emb_ID)


def peer(train: Dataset, loss: str, rate: float, penalty: float, seed: int, size: int, epochs: int) -> Vectors:
    """Fit LightFM on the warm items, and give all items their vectors."""
    matrix, warm = item_matrix(train)
    model = LightFM(
        no_components=size, loss=loss, learning_rate=rate, item_alpha=penalty, user_alpha=penalty, random_state=seed
    )
    log = train.interactions.by_user.tocsc()[:, warm].tocoo()
    model.fit(log, item_features=matrix[warm], epochs=epochs, num_threads=1)
    bias_I, item_emb_ID = model.get_item_representations(matrix)
    _, user_emb_UD = model.get_user_representations()
    ones = np.ones((len(user_emb_UD), 1), np.float32)
    return Vectors(np.hstack([user_emb_UD, ones]), np.column_stack([item_emb_ID, bias_I]).astype(np.float32))


def item_matrix(train: Dataset) -> tuple[sp.csr_matrix, np.ndarray]:
    """Return features and ids of warm items, as FeatureMF has them, and the warm items."""
    encoded = FeatureMF(embedding_size=1, epochs=0, device="cpu").fit(train)
    features = feature_matrix(encoded.item_side, encoded.item_encoder.num_values + encoded.item_encoder.num_dense)
    counts_I = train.interactions.item_counts_I
    ids = sp.diags((counts_I > 0).astype(np.float32), format="csr")
    return sp.hstack([features, ids], format="csr", dtype=np.float32), np.flatnonzero(counts_I)


def seconds(train: Dataset, loss: str, size: int, rounds: int = 3) -> dict[str, float]:
    """Return the processor seconds of one epoch, medians over rounds in which the two take turns.

    The difference of fits with two epochs and with one, so that nothing but an epoch counts.
    """
    taken: dict[str, list[float]] = {OURS: [], PEER: []}
    for _ in range(rounds):
        for name, fit in ((OURS, ours), (PEER, peer)):
            spent = []
            for epochs in (1, 3):
                start = time.process_time()
                fit(train, loss, 0.05, 0.0, 7, size, epochs)
                spent.append(time.process_time() - start)
            taken[name].append((spent[1] - spent[0]) / 2)
    return {name: statistics.median(values) for name, values in taken.items()}


def chosen(fit: Callable[..., Vectors], name: str, loss: str, parts: Any, options: argparse.Namespace) -> tuple:
    """Return the setting with the highest NDCG@10 on validation, and that figure."""
    tried = []
    for rate, penalty in itertools.product(RATES, GRID[name, loss]):
        vectors = fit(parts.train, loss, rate, penalty, options.seeds[0], options.size, options.epochs)
        value = evaluate(vectors, parts.train, parts.validation, k=10, metrics=["ndcg"]).values["ndcg@10"]
        print(f"{name} {loss}: learning rate {rate}, penalty {penalty}: {value:.4f} on validation", flush=True)
        tried.append((value, rate, penalty))
    return max(tried)


def main() -> None:
    """Choose, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=["movietweetings", "goodbooks"])
    parser.add_argument("--losses", nargs="+", default=["warp", "bpr"], choices=["warp", "bpr"])
    parser.add_argument("--size", type=int, default=32, help="embedding size")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8, 9])
    options = parser.parse_args()
    cold = cold_items(log_of(options.data), validation=0.0, test=0.1, seed=7)
    parts = random_split(cold.train, validation=0.1, test=0.1, seed=7)
    held = np.unique(cold.test.interactions.items_N)
    matrix, warm = item_matrix(parts.train)
    print(f"{parts.train!r}; {matrix[warm].nnz / len(warm):.1f} features an item, its id among them\n")
    asked = {
        "known items": (parts.test, None),
        "cold, of all": (cold.test, None),
        "cold, of the cold": (cold.test, held),
    }
    lines = ["| loss | model | items | NDCG@10 | recall@20 | chosen | epoch, s |", "|---|---|---|---|---|---|---|"]
    gaps = ["| loss | items | NDCG@10, ours minus LightFM's | recall@20 |", "|---|---|---|---|"]
    for loss in options.losses:
        clock = seconds(parts.train, loss, options.size)
        found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        for name, fit in ((OURS, ours), (PEER, peer)):
            _, rate, penalty = chosen(fit, name, loss, parts, options)
            fits = [fit(parts.train, loss, rate, penalty, seed, options.size, options.epochs) for seed in options.seeds]
            for what, (test, allowed) in asked.items():
                several = []
                for one in fits:
                    few = Vectors(one.user_emb_UD, one.item_emb_ID, allowed)
                    several.append(evaluate(few, parts.train, test, k=[10, 20], metrics=["ndcg", "recall"]).per_user)
                users = {m: np.mean([each[m] for each in several], axis=0) for m in ("ndcg@10", "recall@20")}
                spread = np.std([np.nanmean(each["ndcg@10"]) for each in several], ddof=1)
                found[name, what] = users
                ends = intervals([Sample(users[m]) for m in users], confidence=0.95, num_resamples=1000, seed=0)
                cells = [
                    f"{np.nanmean(users[m]):.4f} [{low:.4f}, {high:.4f}]"
                    for m, (low, high) in zip(users, ends, strict=True)
                ]
                cells[0] += f" ± {spread:.4f}"
                lines.append(
                    f"| {loss} | {name} | {what} | {' | '.join(cells)} | {rate}, {penalty} | {clock[name]:.2f} |"
                )
        for what in asked:
            cells = []
            for metric in ("ndcg@10", "recall@20"):
                pair = [Sample(found[name, what][metric]) for name in (OURS, PEER)]
                gap = paired_differences([pair[0]], pair[1], confidence=0.95, num_resamples=1000, seed=0)[0]
                cells.append(f"{gap.value:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]")
            gaps.append(f"| {loss} | {what} | {' | '.join(cells)} |")
    print(
        "\n".join(["", *lines, "", *gaps, "", "±: standard deviation over seeds; brackets: 95%, bootstrap over users"])
    )


if __name__ == "__main__":
    main()
