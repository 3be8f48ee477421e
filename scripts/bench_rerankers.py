"""Re-rankers: what diversity costs in accuracy, and how fast the greedy DPP is.

    python scripts/bench_rerankers.py frontier --output docs/benchmarks/frontier.png   # on ml-latest-small; a plot, and tables
    python scripts/bench_rerankers.py speed                                 # on generated vectors, beside NumPy in the same run

Frontier: each user's last five ratings are held out, ALS with its YAML's settings is fitted on the rest, and its 100 best items for each
user, without what the user had, are re-ranked to ten by MMR, DPP, xQuAD and calibration over a grid of their weight. Nothing is chosen by
these figures: every setting is shown. MMR and DPP stand there twice, comparing items by their genres and by the users who had them.
Lists are told by three figures: how far their items are from one another in genres and in users, and how far the list's shares of genres
are from the user's (Steck 2018's divergence, the aim of calibration).

Speed: 1,000 users with 500 candidates each, the items nearest to them of 100,000 generated vectors in 200 clusters. Beside it the
algorithm of Chen et al. 2018 as it is usually written in NumPy, one user after the other: the kernel of all candidates, then one Cholesky
row a place. Both are asked for the same lists and their agreement is told. Medians of five runs; one thread and all.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.threads import limit_threads

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data"))
WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
K = 10
PLACES = (10, 20, 50)
REPEATS = 5


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(required=True)
    job = jobs.add_parser("frontier")
    job.add_argument("--candidates", type=int, default=100)
    job.add_argument("--weights", type=float, nargs="+", default=list(WEIGHTS))
    job.add_argument("--seed", type=int, default=7)
    job.add_argument("--threads", type=int)
    job.add_argument("--output", type=Path, default=Path("frontier.png"), help="file of the plot")
    job.set_defaults(job=frontier)
    job = jobs.add_parser("speed")
    job.add_argument("--users", type=int, default=1_000)
    job.add_argument("--candidates", type=int, default=500)
    job.add_argument("--items", type=int, default=100_000)
    job.add_argument("--embedding-size", type=int, default=64)
    job.add_argument("--weights", type=float, nargs="+", default=[0.1, 0.3, 0.9])
    job.add_argument("--seed", type=int, default=7)
    job.add_argument("--threads", type=int)
    job.set_defaults(job=speed)
    chosen = parser.parse_args()
    chosen.job(chosen)


# Diversity against accuracy


def frontier(chosen: argparse.Namespace) -> None:
    """Draw the frontier."""
    threads = limit_threads(chosen.threads)
    from hydra.utils import instantiate

    from recsys_dl.compose import compose
    from recsys_dl.rerankers.attributes import categories
    from recsys_dl.rerankers.calibration import Calibration
    from recsys_dl.rerankers.dpp import DPP
    from recsys_dl.rerankers.mmr import MMR
    from recsys_dl.rerankers.xquad import XQuAD

    path = DATA / "ml-latest-small"
    overrides = [
        "data=movielens_latest_small",
        f"data.path={path}",
        "split=leave_last_out",
        "model=als",
        "weights=binary",
    ]
    overrides += ["split.num_validation=0", "split.num_test=5", "device=cpu", f"seed={chosen.seed}"]
    config = compose("train", overrides)
    train, _, test = instantiate(config.split)(instantiate(config.weights)(instantiate(config.data)))
    model = instantiate(config.model).fit(train)
    users = np.unique(test.interactions.users_N)
    lists = model.recommend(users, chosen.candidates, exclude=train)
    genres_IC = categories(train.item_features["genres"])[0].toarray()
    shares_IC = np.column_stack([genres_IC, genres_IC.sum(axis=1) == 0]).astype(np.float64)
    shares_IC /= shares_IC.sum(axis=1, keepdims=True)
    likes_BC = train.interactions.by_user[users] @ shares_IC
    likes_BC /= likes_BC.sum(axis=1, keepdims=True)

    def measured(items_BK: np.ndarray) -> dict[str, np.ndarray]:
        kl = divergence(likes_BC, shares_IC[items_BK].mean(axis=1))
        return figures(items_BK, train, test, users, genres_IC) | {"kl": kl}

    kinds: dict[str, Callable[[float], Any]] = {
        "MMR, genres": lambda weight: MMR(weight=weight, compare_by="genres"),
        "MMR, users": lambda weight: MMR(weight=weight, compare_by="users"),
        "DPP, genres": lambda weight: DPP(weight=weight, compare_by="genres"),
        "DPP, users": lambda weight: DPP(weight=weight, compare_by="users"),
        "xQuAD": lambda weight: XQuAD(weight=weight, categories="genres"),
        "calibration": lambda weight: Calibration(weight=weight, categories="genres"),
    }
    before = measured(lists.items_BK[:, :K])
    rows = [row_of("ALS", 0.0, before, before)]
    for name, build in kinds.items():
        for weight in chosen.weights:
            answer = build(weight).prepare(train).rerank(users, lists, K)
            rows.append(row_of(name, weight, measured(answer.items_BK), before))
    print(f"{len(users)} users, {chosen.candidates} candidates, {threads} thread{'s' if threads > 1 else ''}\n")
    print(f"{summary(rows)}\n\n{table(rows)}")
    draw(rows, chosen.output)


def divergence(likes_BC: np.ndarray, has_BC: np.ndarray) -> np.ndarray:
    """Return KL(likes, has), nats, `has` mixed with 1% of `likes` (Steck 2018, equations 6 and 7)."""
    has_BC = 0.99 * has_BC + 0.01 * likes_BC
    ratio_BC = np.divide(likes_BC, has_BC, out=np.ones_like(likes_BC), where=likes_BC > 0)
    return (likes_BC * np.log(ratio_BC)).sum(axis=1)


def figures(
    items_BK: np.ndarray, train: Any, test: Any, users: np.ndarray, genres_IC: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what lists are like, one value a user."""
    from recsys_dl.metrics import catalog, ranking

    judged = ranking.judge(items_BK, test.interactions.by_user[users])
    by_genres = catalog.vector_similarity(items_BK, catalog.unit_rows(genres_IC))
    by_users = catalog.CommonUsers(train.interactions.by_item).similarity(items_BK)
    return {
        "ndcg": ranking.per_user(judged, ["ndcg"], [K])[f"ndcg@{K}"],
        "genres": catalog.diversity(by_genres, items_BK, K),
        "users": catalog.diversity(by_users, items_BK, K),
        "covered": (genres_IC[items_BK].sum(axis=1) > 0).sum(axis=1).astype(np.float64),
    }


def row_of(name: str, weight: float, now: dict[str, np.ndarray], before: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return means over users, and the difference of NDCG with its interval."""
    from recsys_dl.metrics.intervals import Sample, paired_differences

    apart = paired_differences([Sample(now["ndcg"])], Sample(before["ndcg"]))[0]
    means = {key: float(np.mean(values)) for key, values in now.items()}
    return {"name": name, "weight": weight, **means, "apart": [apart.value, apart.low, apart.high]}


NOTIONS = {"genres": "distance of genres", "users": "distance of users", "kl": "divergence from the user's genres"}


def summary(rows: list[dict[str, Any]], loss: float = 0.05) -> str:
    """Return what each re-ranker reaches at no more than 5% less NDCG."""
    least = (1 - loss) * rows[0]["ndcg"]
    lines = [f"| at most {loss:.0%} less NDCG@{K} | {' | '.join(NOTIONS.values())} |", "|---" * 4 + "|"]
    lines.append("| ALS alone | " + " | ".join(f"{rows[0][key]:.3f}" for key in NOTIONS) + " |")
    for name in dict.fromkeys(row["name"] for row in rows[1:]):
        good = [rows[0], *(row for row in rows if row["name"] == name and row["ndcg"] >= least)]
        cells = []
        for key in NOTIONS:
            best = (min if key == "kl" else max)(good, key=lambda row: row[key])
            cells.append(f"{best[key]:.3f} (weight {best['weight']:g})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """Return all figures."""
    lines = [
        f"| re-ranker | weight | NDCG@{K} | minus ALS | {' | '.join(NOTIONS.values())} | genres in a list |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        value, low, high = row["apart"]
        apart = "" if row["name"] == "ALS" else f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        cells = [f"{row['ndcg']:.4f}", apart, *(f"{row[key]:.3f}" for key in NOTIONS), f"{row['covered']:.1f}"]
        lines.append(f"| {row['name']} | {row['weight']:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw NDCG over each notion of diversity, a line for each re-ranker; MMR and DPP as they compare for that notion."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    colours = {"MMR": "#c0392b", "DPP": "#1f5fa8", "xQuAD": "#2e7d32", "calibration": "#b8860b"}
    marks = {"MMR": "s", "DPP": "o", "xQuAD": "^", "calibration": "D"}
    titles = {
        "genres": "Items of other genres\n1 - mean cosine of genres",
        "users": "Items of other users\n1 - mean cosine of users",
        "kl": "The user's own genres\ndivergence in nats, reversed",
    }
    figure = Figure(figsize=(11, 4.6), dpi=110, layout="constrained")
    start, last = rows[0], max(row["weight"] for row in rows)
    for axes, notion in zip(figure.subplots(1, 3, sharey=True), NOTIONS, strict=True):
        compared = "genres" if notion == "kl" else notion
        for name, colour in colours.items():
            points = [start, *(row for row in rows if row["name"] in (name, f"{name}, {compared}"))]
            x, y = [row[notion] for row in points], [row["ndcg"] for row in points]
            axes.plot(x, y, color=colour, linewidth=1.4)
            for row in points[1:]:
                fill = "white" if row["apart"][2] < 0 else colour
                style = {"color": colour, "markerfacecolor": fill, "markersize": 5.5}
                axes.plot(row[notion], row["ndcg"], marks[name], **style)
        axes.plot(start[notion], start["ndcg"], "*", color="black", markersize=15, zorder=4)
        axes.set_xlabel(titles[notion], fontsize=11)
        axes.grid(color="#e5e5e5")
        axes.spines[["top", "right"]].set_visible(False)
        if notion == "kl":
            axes.invert_xaxis()
    figure.axes[0].set_ylabel(f"NDCG@{K}", fontsize=11)
    handles = [Line2D([], [], color="black", marker="*", markersize=13, linestyle="", label="ALS alone, weight 0")]
    handles += [Line2D([], [], color=colours[name], marker=marks[name], label=name) for name in colours]
    empty = {"color": "grey", "marker": "o", "markerfacecolor": "white", "linestyle": ""}
    handles.append(Line2D([], [], **empty, label="less NDCG than ALS (95% interval)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=10)
    figure.suptitle(
        f"Diversity against accuracy, ml-latest-small; along a line the weight grows to {last:g}", fontsize=12
    )
    figure.savefig(file)


# Speed


def speed(chosen: argparse.Namespace) -> None:
    """Time the DPP."""
    threads = limit_threads(chosen.threads)
    import numba

    from recsys_dl.data.interactions import Interactions
    from recsys_dl.kernels.topk import top_k_dot
    from recsys_dl.protocols import Ranking
    from recsys_dl.rerankers.dpp import DPP
    from recsys_dl.rerankers.list_reranker import RerankBatch, relevance

    rng = np.random.default_rng(chosen.seed)
    centers = rng.normal(size=(200, chosen.embedding_size))

    def drawn(size: int) -> np.ndarray:
        near = centers[rng.integers(0, len(centers), size)]
        return (near + 0.7 * rng.normal(size=near.shape)).astype(np.float32)

    item_emb_ID, user_emb_UD = drawn(chosen.items), drawn(chosen.users)
    lists = Ranking(*top_k_dot(user_emb_UD, item_emb_ID, chosen.candidates, device="cpu"))
    users = np.arange(chosen.users)
    log = Interactions([0], [0], num_users=chosen.users, num_items=chosen.items)
    print(f"{chosen.users:,} users, {chosen.candidates} candidates, D = {chosen.embedding_size}, generated\n")
    counts = sorted({1, threads})
    header = [f"{count} thread{'s' if count > 1 else ''}, users/s" for count in counts]
    print(f"| weight | places | {' | '.join(header)} | NumPy, users/s | 1 thread / NumPy | same lists |")
    print("|---" * (len(counts) + 5) + "|")
    for weight in chosen.weights:
        reranker = DPP(weight=weight, compare_by="vectors").prepare(log, item_vectors_ID=item_emb_ID)
        relevance_BL = relevance(RerankBatch(users, lists.items_BK, lists.scores_BK, 0), "min_max")
        reranker.rerank(users[:2], Ranking(lists.items_BK[:2], lists.scores_BK[:2]), PLACES[0])  # compiled
        for k in PLACES:
            peer, told = timed(by_numpy, lists.items_BK, relevance_BL, item_emb_ID, weight, k)
            rates = []
            for count in counts:
                numba.set_num_threads(count)
                seconds, answer = timed(reranker.rerank, users, lists, k)
                rates.append(chosen.users / seconds)
            same = (answer.items_BK == told).all(axis=1).mean()
            cells = [f"{rate:,.0f}" for rate in (*rates, chosen.users / peer)]
            print(
                f"| {weight:g} | {k} | {' | '.join(cells)} | {rates[0] * peer / chosen.users:.1f} | {same:.1%} |",
                flush=True,
            )


def timed(job: Callable[..., Any], *given: Any) -> tuple[float, Any]:
    """Return the median seconds of several runs, and what the last returned."""
    seconds, result = [], None
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = job(*given)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), result


def by_numpy(
    items_BL: np.ndarray, relevance_BL: np.ndarray, item_emb_ID: np.ndarray, weight: float, k: int
) -> np.ndarray:
    """Return lists by algorithm 1 of Chen et al. 2018 over the kernel of all candidates, float32, a user at a time."""
    chosen_BK = np.full((len(items_BL), k), -1, np.int32)
    for b, (items_L, relevance_L) in enumerate(zip(items_BL, relevance_BL, strict=True)):
        unit_LD = item_emb_ID[items_L]
        unit_LD = unit_LD / np.linalg.norm(unit_LD, axis=1, keepdims=True)
        quality_L = np.exp((1 - weight) / (2 * weight) * (relevance_L - relevance_L.max())).astype(np.float32)
        kernel_LL = quality_L[:, None] * (unit_LD @ unit_LD.T) * quality_L
        gain_L = np.diagonal(kernel_LL).copy()
        rows_KL = np.zeros((k, len(items_L)), np.float32)
        best = int(np.argmax(gain_L))
        chosen_BK[b, 0] = items_L[best]
        for place in range(1, k):
            entry_L = (kernel_LL[best] - rows_KL[: place - 1, best] @ rows_KL[: place - 1]) / np.sqrt(gain_L[best])
            rows_KL[place - 1] = entry_L
            gain_L -= entry_L**2
            gain_L[best] = -np.inf
            best = int(np.argmax(gain_L))
            chosen_BK[b, place] = items_L[best]
    return chosen_BK


if __name__ == "__main__":
    main()
