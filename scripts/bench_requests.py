"""Requests of one user and of small batches: the ten best of a whole catalog, what users know left out, beside implicit and FAISS.

    pip install '.[cpu,peers]'
    python scripts/bench_requests.py                          # 100,000 and 1,000,000 items, one thread and two: about half an hour
    python scripts/bench_requests.py --items 100000 --threads 1 --models als pipeline

20,000 users generated, with as many interactions as items and at least a million. Models are fitted shortly or, where only shapes matter (NeuMF and the
towers), not at all: how well they rank is not asked here. In a round each library answers the same users once, then the item table is
read once, so that all are slowed by the same neighbors; "read" is the floor of whatever scores a table of these bytes. FAISS (flat inner
product) searches the same vectors and leaves nothing out, which is less to do. implicit's models have the same vectors or similarities.

EASE has a weight for each pair of items, 40 GB for 100,000 of them, so it is asked at 10,000. NeuMF computes 8,192 multiply-adds for each item
and user, so it and the pipeline are asked at 100,000 at most. The pipeline is `conf/pipeline/three_stage.yaml`
with 200 items of each retriever and 500 candidates. Answers are lists; times are wall time, in milliseconds.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from hydra.utils import instantiate
from numba import njit, prange

from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.generated import generated
from recsys_dl.models import ALS, BPR, EASE, ItemKNN, NeuMF, TwoTower
from recsys_dl.threads import limit_threads

K = 10
BATCHES = (1, 8, 64)
EASE_ITEMS = 10_000
LARGEST = 100_000  # items of NeuMF and of the pipeline
PIPELINE = (
    "pipeline=three_stage",
    "pipeline.examples.by=newest",
    "pipeline.examples.rounds=1",
    "pipeline.examples.max_users=2000",
    "pipeline.ranker.epochs=1",
    "pipeline.retrievers.als.solver=cg",
    "pipeline.retrievers.als.epochs=2",
    "pipeline.retrievers.als.unobserved_weight=0.01",
    "pipeline.num_retrieved=200",
    "pipeline.num_candidates=500",
    "device=cpu",
)


@njit(nogil=True, fastmath=True, error_model="numpy")
def _sum(numbers_N: np.ndarray) -> np.float32:
    total = np.float32(0)
    for n in range(np.uint64(len(numbers_N))):
        total += numbers_N[n]
    return total


@njit(nogil=True, parallel=True)
def _read(table_N: np.ndarray, parts: int) -> float:
    sums_P = np.zeros(parts, np.float32)
    for part in prange(parts):
        sums_P[part] = _sum(table_N[len(table_N) * part // parts : len(table_N) * (part + 1) // parts])
    return sums_P.sum()


class Case:
    """A fitted model, its peers, and the bytes that each of its answers must read.

    Args:
        model: answers as `recommend` does.
        data: to exclude.
        table: read as the floor, flat; None if a request reads parts of tables.
        vectors: for FAISS; None if scores are no inner products.
        implicit: a model of implicit, fitted.
    """

    def __init__(
        self, model: Any, data: Dataset, *, table: Any = None, vectors: Any = None, implicit: Any = None
    ) -> None:
        self.model, self.data, self.implicit = model, data, implicit
        self.table = None if table is None else np.ascontiguousarray(table).reshape(-1)
        self.index = None if vectors is None else flat_index(vectors)

    def jobs(self, threads: int) -> dict[str, Callable[[np.ndarray], Any]]:
        """Return what answers users, by name."""
        jobs: dict[str, Callable[[np.ndarray], Any]] = {
            "recsys_dl": lambda users_B: self.model.recommend(users_B, K, exclude=self.data)
        }
        if self.implicit is not None:
            self.implicit.num_threads = threads
            known_UI = self.data.interactions.by_user
            jobs["implicit"] = lambda users_B: self.implicit.recommend(users_B.astype(np.int32), known_UI[users_B], K)
        if self.index is not None:
            jobs["FAISS"] = lambda users_B: self.index.search(self.model.query_vectors(users_B), K)
        if self.table is not None:
            jobs["read"] = lambda users_B: _read(self.table, threads)
        return jobs


def flat_index(vectors_ID: np.ndarray) -> Any:
    """Return FAISS's flat index of inner products."""
    import faiss

    index = faiss.IndexFlatIP(vectors_ID.shape[1])
    index.add(np.ascontiguousarray(vectors_ID))
    return index


def factors_of(model: Any) -> Any:
    """Return implicit's ALS with the vectors of a model, biases as a column."""
    from implicit.cpu.als import AlternatingLeastSquares

    peer = AlternatingLeastSquares(factors=model.item_vectors().shape[1])
    peer.item_factors = model.item_vectors().copy()
    peer.user_factors = model._queries(model.user_emb_UD).copy()
    return peer


def als(data: Dataset) -> Case:
    """ALS, D=64."""
    model = ALS(embedding_size=64, epochs=2, solver="cg", unobserved_weight=0.01, device="cpu").fit(data)
    return Case(model, data, table=model.item_emb_ID, vectors=model.item_vectors(), implicit=factors_of(model))


def bpr(data: Dataset) -> Case:
    """BPR, D=64 and a bias."""
    model = BPR(embedding_size=64, epochs=2, device="cpu").fit(data)
    return Case(model, data, table=model.item_emb_ID, vectors=model.item_vectors(), implicit=factors_of(model))


def ease(data: Dataset) -> Case:
    """EASE: a request reads a row of weights for each item that the user knows."""
    return Case(EASE(device="cpu").fit(data), data)


def item_knn(data: Dataset) -> Case:
    """ItemKNN, 100 neighbors."""
    from implicit.nearest_neighbours import CosineRecommender

    peer = CosineRecommender(K=100)
    peer.fit(data.interactions.by_user, show_progress=False)
    return Case(ItemKNN(num_neighbors=100, device="cpu").fit(data), data, implicit=peer)


def neumf(data: Dataset) -> Case:
    """NeuMF, D=64 and hidden layers of 128 and 64: 8,192 multiply-adds for each pair."""
    model = NeuMF(embedding_size=64, epochs=0, device="cpu").fit(data)
    return Case(model, data, table=model.item_state_IS.numpy())


def two_tower(data: Dataset) -> Case:
    """Two towers without features, D=64: the user's vector is ready, as for all users of training."""
    model = TwoTower(embedding_size=64, epochs=0, features="none", softmax="in_batch", device="cpu").fit(data)
    return Case(model, data, table=model.item_emb_ID, vectors=model.item_vectors())


def pipeline(data: Dataset) -> Case:
    """Four retrievers, a perceptron as the ranker, MMR and rules; the floor is the table of its ALS."""
    model = instantiate(compose("train", list(PIPELINE)).pipeline).fit(data)
    return Case(model, data, table=model.retrievers["als"].item_emb_ID)


MODELS: dict[str, Callable[[Dataset], Case]] = {
    "als": als,
    "bpr": bpr,
    "two_tower": two_tower,
    "neumf": neumf,
    "item_knn": item_knn,
    "ease": ease,
    "pipeline": pipeline,
}


def measured(case: Case, threads: int, size: int, *, rounds: int, seconds: float, seed: int) -> dict[str, np.ndarray]:
    """Return milliseconds of each call, by library; calls alternate."""
    rng = np.random.default_rng(seed)
    jobs = case.jobs(threads)
    took: dict[str, list[float]] = {name: [] for name in jobs}
    begun = time.perf_counter()
    for number in range(rounds + 2):
        users_B = rng.choice(case.data.num_users, size, replace=False)
        for name, job in jobs.items():
            start = time.perf_counter()
            job(users_B)
            if number > 1:  # the first compile
                took[name].append(1000 * (time.perf_counter() - start))
        if number == 1:
            begun = time.perf_counter()
        if number > 12 and time.perf_counter() - begun > seconds:
            break
    return {name: np.array(times) for name, times in took.items()}


def report(name: str, case: Case, chosen: argparse.Namespace) -> None:
    """Print a row for each number of threads and each size of a batch."""
    for threads in chosen.threads:
        limit_threads(threads)
        for size in BATCHES:
            took = measured(case, threads, size, rounds=chosen.rounds, seconds=chosen.seconds, seed=chosen.seed)
            cells = []
            for job in ("recsys_dl", "implicit", "FAISS", "read"):
                p50, p99 = np.percentile(took[job], [50, 99]) if job in took else (None, None)
                cells.append("" if p50 is None else f"{p50:.2f}" if job == "read" else f"{p50:.2f} / {p99:.2f}")
            ratio = f"{np.median(took['recsys_dl']) / np.median(took['read']):.1f}" if "read" in took else ""
            calls = len(took["recsys_dl"])
            print(
                f"| {name} | {case.data.num_items:,} | {threads} | {size} | {' | '.join(cells)} | {ratio} | {calls} |",
                flush=True,
            )


def stages(case: Case, chosen: argparse.Namespace) -> list[str]:
    """Return a row for each number of threads: what each stage of a pipeline takes of one user's request, and its processor time."""
    rows = []
    for threads in chosen.threads:
        limit_threads(threads)
        took: dict[str, list[float]] = {}
        busy = []
        for user in np.random.default_rng(chosen.seed).integers(0, case.data.num_users, 100):
            start = time.process_time()
            answer = case.model.recommend([user], K, exclude=case.data)
            busy.append(1000 * (time.process_time() - start))
            for stage in answer.stages:
                took.setdefault(stage.name, []).append(1000 * stage.seconds)
        told = ", ".join(f"{name} {np.median(times):.2f}" for name, times in took.items())
        rows.append(f"{threads} thread(s): {told}; processor time of all {np.median(busy):.2f}")
    return rows


def main() -> None:
    """Fit, ask, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=300, help="calls of each library for a row, at most")
    parser.add_argument(
        "--seconds", type=float, default=4, help="for a row, after which rounds end, though not before 11"
    )
    parser.add_argument("--seed", type=int, default=7)
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    numba.set_num_threads(max(chosen.threads))
    print("| model | items | threads | users | recsys_dl | implicit | FAISS | read | times read | calls |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    after: list[str] = []
    for num_items in chosen.items:
        data = logged(num_items, chosen.seed)
        for name in chosen.models:
            if name != "ease" and (num_items <= LARGEST or name not in ("neumf", "pipeline")):
                case = MODELS[name](data)
                report(name, case, chosen)
                after += stages(case, chosen) if name == "pipeline" else []
    if "ease" in chosen.models:
        report("ease", ease(logged(EASE_ITEMS, chosen.seed)), chosen)
    if after:
        print("\nThe pipeline's stages for one user, p50 in ms\n\n" + "\n".join(after))


def logged(num_items: int, seed: int) -> Dataset:
    """Return a generated log."""
    return generated(num_users=20_000, num_items=num_items, num_interactions=max(1_000_000, num_items), seed=seed)


if __name__ == "__main__":
    main()
