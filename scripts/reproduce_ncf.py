"""The published table of He et al. 2017's leave-one-out split of MovieLens 1M, with our ALS, GMF, MLP and NeuMF in it.

    python scripts/reproduce_ncf.py                  # fit with conf/experiment/ncf_ml1m_*.yaml, report the test once
    python scripts/reproduce_ncf.py --tune           # choose ALS's hyper-parameters on validation; the test is not looked at
    python scripts/reproduce_ncf.py --validate       # the neural experiments on that validation draw

Beside them NDCG@10 over the full catalog, training items left out: the figure to choose a model by.

SAMPLED metrics, for reproduction only: each user's one test item is ranked among 99 sampled ones, as published (Rendle et al.
2020, "Neural Collaborative Filtering vs. Matrix Factorization Revisited", arXiv 2005.09683). An item that comes twice among a
user's candidates counts once, as in the authors' code: so in 156 rows, where the test item is among the 99, it has 98 rivals.
Equal scores count as their mean over all orders.

Validation is drawn from train with a fixed seed: one interaction of each user who has two, and 99 items uniformly from those
not in their train.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from hydra.utils import instantiate

from recsys_dl import evaluate
from recsys_dl.compose import compose
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.metrics.sampled import sampled_ranking_metrics
from recsys_dl.models.popularity import Popularity
from recsys_dl.progress import track
from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data")) / "ncf-ml-1m"
PUBLISHED = {  # HR@10, NDCG@10 in Rendle et al. 2020, table 1 and figure 2
    "Popularity": (0.4535, 0.2543),
    "NeuMF, re-tuned": (0.7093, 0.4349),
    "iALS": (0.7111, 0.4383),
    "SLIM": (0.7162, 0.4468),
    "MF, tuned": (0.7294, 0.4523),
}
SPACE = {  # around what 43 settings tried earlier on the same validation draw showed to be good
    "embedding_size": [256],
    "regularization": [0.006, 0.008, 0.010, 0.012],
    "unobserved_weight": [0.1, 0.2, 0.3],
}


def read_train(folder: Path) -> Interactions:
    """Return the split's training pairs."""
    pairs = pl.read_csv(folder / "ml-1m.train.pairs", separator="\t", has_header=False).to_numpy()
    num_items = pl.read_csv(folder / "item_map.csv").height
    return Interactions(pairs[:, 0], pairs[:, 1], num_items=num_items)


def read_candidates(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return each user's test item and 99 sampled ones [U, 100], and which count."""
    text = (folder / "ml-1m.test.negative").read_text()  # each line "(user,item)" and 99 items
    rows = np.array(text.translate(str.maketrans("(),", "   ")).split(), np.int64).reshape(-1, 101)
    if not np.array_equal(rows[:, 0], np.arange(len(rows))):
        raise ValueError(f"{folder / 'ml-1m.test.negative'} must hold the users 0, 1, 2, … in order")
    items_UL = rows[:, 1:]
    return items_UL, first_of_each(items_UL)


def first_of_each(items_UL: np.ndarray) -> np.ndarray:
    """Return True where an item comes for the first time in its row."""
    order_UL = np.argsort(items_UL, axis=1, kind="stable")
    sorted_UL = np.take_along_axis(items_UL, order_UL, axis=1)
    first_UL = np.ones(items_UL.shape, bool)
    np.put_along_axis(first_UL, order_UL[:, 1:], sorted_UL[:, 1:] != sorted_UL[:, :-1], axis=1)
    return first_UL


def draw_validation(train: Interactions, rng: np.random.Generator) -> tuple[Interactions, np.ndarray, np.ndarray]:
    """Return train without one interaction of each user who has two, those users [B], and their candidates [B, 100]."""
    seen = train.by_user
    counts_U = np.diff(seen.indptr)
    users_B = np.flatnonzero(counts_U > 1)
    taken_B = seen.indptr[users_B] + rng.integers(0, counts_U[users_B])
    items_BL = np.empty((len(users_B), 100), np.int64)
    items_BL[:, 0] = seen.indices[taken_B]
    for row, user in enumerate(users_B):
        unseen = np.setdiff1d(
            np.arange(train.num_items), seen.indices[seen.indptr[user] : seen.indptr[user + 1]], assume_unique=True
        )
        items_BL[row, 1:] = rng.choice(unseen, 99, replace=False)
    kept = seen.copy()
    kept.data[taken_B] = 0
    kept.eliminate_zeros()
    return Interactions.from_csr(kept), users_B, items_BL


def sampled(model: CatalogModel, users_B: np.ndarray, items_BL: np.ndarray, valid_BL: np.ndarray) -> dict[str, float]:
    """Return sampled HR@10 and NDCG@10."""
    figures = sampled_ranking_metrics(model.score(users_B, items_BL), [10], valid_BL=valid_BL)
    return {name: float(values.mean()) for name, values in figures.items()}


def build(overrides: list[str], model: str = "als") -> CatalogModel:
    """Return the model of its experiment under some overrides."""
    return instantiate(compose("train", [f"experiment=ncf_ml1m_{model}", *overrides]).model)


def neural(train: Interactions, seed: int) -> Iterator[tuple[str, CatalogModel]]:
    """Yield GMF, MLP, and NeuMF begun from both, each fitted."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("gmf", "mlp"):
            model = build([f"seed={seed}"], name).fit(train)
            model.save(Path(folder) / name)
            yield name, model
        begun = [f"model.gmf={folder}/gmf", f"model.mlp={folder}/mlp"]
        yield "neumf", build([f"seed={seed}", *begun], "neumf").fit(train)


def validated(train: Interactions, seed: int) -> None:
    """Print the neural models' figures on the validation draw."""
    kept, users_B, items_BL = draw_validation(train, np.random.default_rng(seed))
    for name, model in neural(kept, seed):
        figures = sampled(model, users_B, items_BL, first_of_each(items_BL))
        print(
            f"{name}: sampled NDCG@10 {figures['sampled_ndcg@10']:.4f}, HR@10 {figures['sampled_hit_rate@10']:.4f}",
            flush=True,
        )


def tune(train: Interactions, trials: int, seed: int, overrides: list[str]) -> None:
    """Print each trial's validation figures, best last."""
    rng = np.random.default_rng(seed)
    kept, users_B, items_BL = draw_validation(train, rng)
    every = list(itertools.product(*SPACE.values()))
    rows = []
    for at in track(rng.permutation(len(every))[:trials], "trials"):
        setting = [f"model.{name}={value}" for name, value in zip(SPACE, every[at], strict=True)]
        model = build([*setting, *overrides]).fit(kept)
        figures = sampled(model, users_B, items_BL, first_of_each(items_BL))
        rows.append((figures["sampled_ndcg@10"], figures["sampled_hit_rate@10"], " ".join(setting)))
        print("validation: sampled NDCG@10 {:.4f}, sampled HR@10 {:.4f}  {}".format(*rows[-1]), flush=True)
    print("best: sampled NDCG@10 {:.4f}, sampled HR@10 {:.4f}  {}".format(*max(rows)))


def report(train: Interactions, folder: Path, seeds: list[int]) -> None:
    """Fit to all of train, and print the test's figures beside the published ones; of neural models the mean over seeds."""
    items_UL, valid_UL = read_candidates(folder)
    repeated = int((~valid_UL).any(axis=1).sum())
    users = np.arange(train.num_users)
    test = Interactions(users, items_UL[:, 0], num_users=train.num_users, num_items=train.num_items)
    start = time.perf_counter()
    told: dict[str, list[tuple[float, float, float]]] = {}

    def judge(name: str, model: CatalogModel) -> None:
        figures = sampled(model, users, items_UL, valid_UL)
        full = evaluate(model, train, test, metrics=["ndcg"]).values["ndcg@10"]
        told.setdefault(name, []).append((figures["sampled_hit_rate@10"], figures["sampled_ndcg@10"], full))
        print(name, *(f"{value:.4f}" for value in told[name][-1]), file=sys.stderr, flush=True)

    judge("Popularity (checks the protocol)", Popularity().fit(train))
    judge("ALS, rendle2022", build([]).fit(train))
    names = {"gmf": "GMF", "mlp": "MLP", "neumf": "NeuMF, begun from both"}
    for seed in seeds:
        for name, model in neural(train, seed):
            judge(names[name], model)
    print(
        f"SAMPLED metrics (1 + 99 candidates; {repeated} rows hold an item twice, which counts once): a reproduction\n"
    )
    print("| model | seeds | sampled HR@10 | sampled NDCG@10 | full-catalog NDCG@10 |\n|---|---|---|---|---|")
    for name, (hit_rate, ndcg) in PUBLISHED.items():
        print(f"| {name}, published | | {hit_rate:.4f} | {ndcg:.4f} | |")
    for name, rows in told.items():
        spread = [
            f"{np.mean(column):.4f}" + (f" ± {np.std(column, ddof=1):.4f}" if len(rows) > 1 else "")
            for column in zip(*rows, strict=True)
        ]
        print(f"| {name}, ours | {len(rows)} | {' | '.join(spread)} |")
    print(f"\nfitted and judged in {time.perf_counter() - start:.0f} s; ± is the standard deviation over seeds")


def main() -> None:
    """Tune, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of --tune, such as model.embedding_size=64")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of ml-1m.train.pairs and its neighbors")
    parser.add_argument("--tune", action="store_true", help="choose on validation; the test is not read")
    parser.add_argument(
        "--validate", action="store_true", help="the neural experiments on validation; the test is not read"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the neural models (default 1 2 3)")
    parser.add_argument("--trials", type=int, default=12, help="settings that --tune draws (default 12: all)")
    parser.add_argument("--seed", type=int, default=7, help="of the validation draw and the trials")
    chosen = parser.parse_args()
    if not chosen.data.is_dir():
        parser.error(
            f"no folder {chosen.data}: set RECSYS_DATA to the folder that holds ncf-ml-1m, or name it by --data"
        )
    limit_threads(None)
    train = read_train(chosen.data)
    if chosen.tune:
        tune(train, chosen.trials, chosen.seed, chosen.overrides)
    elif chosen.validate:
        validated(train, chosen.seed)
    else:
        report(train, chosen.data, chosen.seeds)


if __name__ == "__main__":
    main()
