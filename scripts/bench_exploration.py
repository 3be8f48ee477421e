"""Cold start with exploration: 200 new movies in a running pipeline on ml-1m; how soon are the best 20 of them known?

    python scripts/bench_exploration.py --plot docs/benchmarks/exploration.png     # ten minutes of one core

New are 200 random movies with 50 raters or more. All their ratings are held out; the others are the log that the pipeline knows. Then the catalog grows
by the new movies, and the pipeline (popularity; the third position explores, among the new movies alone) answers random users, 250 before each update, through its feedback
log. A new movie that is shown to a user is clicked if the user's rating of it was held out: every click is a real pair (the data has no ratings' values). The best tenth are the 20
movies with the most raters. A policy has found those that are among the 20 movies of its highest means, its prior included.

Before, every policy learned from 200 random users for each known movie, clicked if the user rated it. With `content_count` the prior mean of a new movie is what a ridge
regression on genres expects from those, worth that many impressions; it is chosen on four other draws of new movies, by the mean share found; then the `--draws` are the test, once.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import t as student

from recsys_dl import Dataset, Interactions, Vocabulary
from recsys_dl.bandits import KLUCB, UCB1, Boltzmann, EpsilonGreedy, GaussianThompson, Thompson
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.models import Popularity
from recsys_dl.pipeline import LoggedPipeline, Pipeline
from recsys_dl.readers.sources import movielens
from recsys_dl.rerankers import Exploration

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
NEW, LEAST, WARM, PLACES, USERS, BATCHES = 200, 50, 200, [3], 250, 24
CONTENT = (1, 5, 20)  # impressions that the expectation from genres may be worth
PRIOR = {"prior_mean": 0.05, "prior_count": 2.0}  # about the share of users who rated a known movie
POLICIES: dict[str, Any] = {
    "uniform": lambda **more: EpsilonGreedy(epsilon=1.0, **PRIOR, **more),
    "epsilon_greedy": lambda **more: EpsilonGreedy(**PRIOR, **more),
    "boltzmann": lambda **more: Boltzmann(**PRIOR, **more),
    "ucb1": lambda **more: UCB1(**PRIOR, **more),
    "kl_ucb": lambda **more: KLUCB(**PRIOR, **more),
    "gaussian_thompson": lambda **more: GaussianThompson(**PRIOR, **more),
    "thompson": lambda **more: Thompson(**PRIOR, **more),
}


@dataclass(frozen=True)
class Draw:
    """A log of known movies, the same with the new movies at the end of its catalog, feedback of known movies, and who rated the new ones."""

    known: Dataset
    grown: Dataset
    warm: BanditFeedback
    rated_UN: np.ndarray


def drawn(data: Dataset, seed: int) -> Draw:
    """Hold out the ratings of random movies."""
    log = data.interactions
    rng = np.random.default_rng(seed)
    counts_I = np.bincount(log.items_N, minlength=data.num_items)
    new = np.sort(rng.choice(np.flatnonzero(counts_I >= LEAST), NEW, replace=False))
    order = np.concatenate([np.setdiff1d(np.arange(data.num_items), new), new])
    at_I = np.empty(data.num_items, np.int64)
    at_I[order] = np.arange(data.num_items)
    items_N, first = at_I[log.items_N], data.num_items - NEW
    warm_N = items_N < first
    rated_UN = np.zeros((data.num_users, NEW), bool)
    rated_UN[log.users_N[~warm_N], items_N[~warm_N] - first] = True
    assert data.item_features is not None
    features = data.item_features[order].with_columns(new=pl.Series(np.arange(data.num_items) >= first))

    def part(num_items: int) -> Dataset:
        columns = (log.users_N[warm_N], items_N[warm_N].astype(np.int32))
        interactions = Interactions(*columns, num_users=data.num_users, num_items=num_items)
        ids = Vocabulary(data.items.ids.gather(order[:num_items]), noun="item")
        return Dataset(interactions, data.users, ids, item_features=features[:num_items])

    known = part(first)
    shown_N = np.repeat(np.arange(first), WARM)
    clicked_N = (
        np.asarray(known.interactions.by_user[rng.integers(0, data.num_users, len(shown_N)), shown_N]).ravel() > 0
    )
    warm = BanditFeedback(shown_N[:, None], clicked_N[:, None] * 1.0, None, num_arms=first)
    return Draw(known, part(data.num_items), warm, rated_UN)


def run(draw: Draw, policy: Any, seed: int) -> dict[str, np.ndarray]:
    """Let one policy explore; return after each batch the share of the best tenth it has found, and clicks on explored positions."""
    first = draw.known.num_items
    best = set(np.argsort(-draw.rated_UN.mean(axis=0), kind="stable")[: NEW // 10])
    stage = Exploration(policy, places=PLACES, pool={"new": True}, content="genres", seed=seed)
    warm_stage = Exploration(policy, places=PLACES, content="genres").prepare(draw.known)  # before there are new movies
    policy.update(draw.warm)
    stage.names = warm_stage.names
    pipeline = Pipeline({"popular": Popularity()}, num_candidates=20, rerankers={"exploration": stage}).fit(draw.grown)
    rng = np.random.default_rng(seed)
    found, clicks = [], []
    with tempfile.TemporaryDirectory() as folder:
        running = LoggedPipeline(pipeline, FeedbackLog(folder, items=pipeline.items))
        total = 0.0
        for _ in range(BATCHES):
            users_B = rng.choice(draw.grown.num_users, USERS, replace=False)
            answer, requests_B = running.recommend(users_B, k=PLACES[-1])
            items = answer.items_BK[:, [place - 1 for place in PLACES]]
            rewards = draw.rated_UN[users_B[:, None], items - first] * 1.0
            running.reward(np.repeat(requests_B, len(PLACES)), items.ravel(), rewards.ravel())
            running.learn()
            total += rewards.sum()
            top = np.argsort(-policy.means()[first:], kind="stable")[: NEW // 10]
            found.append(len(best & set(top)) / len(best))
            clicks.append(total)
    return {"found": np.array(found), "clicks": np.array(clicks)}


def spread(values: np.ndarray, digits: int) -> str:
    """Return the mean over draws with its 95% interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    mean = values.mean()
    return f"{mean:,.{digits}f} [{mean - half:,.{digits}f}, {mean + half:,.{digits}f}]"


def ranged(values: np.ndarray) -> str:
    """Return the mean over draws, the lowest and the highest."""
    return f"{values.mean():,.0f} ({values.min():,.0f} to {values.max():,.0f})"


def until(found_SP: np.ndarray, share: float, values_SP: np.ndarray) -> np.ndarray:
    """Return of each draw the value at the first batch from which the share is found; that of the last batch if it never is."""
    reached = np.minimum((found_SP < share).sum(axis=1), found_SP.shape[1] - 1)
    return values_SP[np.arange(len(found_SP)), reached]


def draw_plot(curves: Mapping[str, np.ndarray], file: Path) -> None:
    """Write a PNG of the share found against impressions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    impressions = len(PLACES) * USERS * np.arange(1, BATCHES + 1)
    for number, (name, found_SP) in enumerate(curves.items()):
        half = student.ppf(0.975, len(found_SP) - 1) * found_SP.std(axis=0, ddof=1) / np.sqrt(len(found_SP))
        mean = found_SP.mean(axis=0)
        axes.plot(impressions, 100 * mean, color=f"C{number}", label=name, linewidth=1.6)
        axes.fill_between(
            impressions, 100 * (mean - half), 100 * (mean + half), color=f"C{number}", alpha=0.13, linewidth=0
        )
    axes.set(
        xlabel="impressions of new movies",
        ylabel="of the best tenth found, %",
        ylim=(0, 100),
        xlim=(0, impressions[-1]),
    )
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.legend(frameon=False, fontsize=9)
    figure.suptitle(
        f"{NEW} new movies of ml-1m, {len(next(iter(curves.values())))} draws; bands: 95% over draws", fontsize=11
    )
    figure.savefig(file, dpi=130)


def main() -> None:
    """Choose by validation, run the test draws, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    began = time.perf_counter()
    data = movielens(size="1m", path=str(DATA / "ml-1m"))
    chosen: dict[int, float] = {}
    validation = [drawn(data, 1000 + seed) for seed in range(4)]
    for count in CONTENT:
        runs = [run(one, Thompson(content_count=count, **PRIOR, seed=at), at) for at, one in enumerate(validation)]
        chosen[count] = float(np.mean([one["found"].mean() for one in runs]))
    count = max(chosen, key=lambda one: chosen[one])
    print(
        "validation, mean share found by thompson:",
        ", ".join(f"content_count={one}: {chosen[one]:.3f}" for one in chosen),
    )
    makers = POLICIES | {
        f"{name}, genres": lambda name=name, **more: POLICIES[name](content_count=count, **more)
        for name in ("thompson",)
    }
    results: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in makers}
    bests, means = [], []
    for seed in range(given.draws):
        draw = drawn(data, seed)
        shares_N = np.sort(draw.rated_UN.mean(axis=0))
        bests.append(shares_N[-NEW // 10 :].mean())
        means.append(shares_N.mean())
        for name, make in makers.items():
            results[name].append(run(draw, make(seed=seed), seed))
    impressions = np.tile(len(PLACES) * USERS * np.arange(1, BATCHES + 1), (given.draws, 1))
    quarter = BATCHES // 4 - 1
    rows = []
    for name, runs in results.items():
        found, clicks = np.stack([one["found"] for one in runs]), np.stack([one["clicks"] for one in runs])
        never = int((found.max(axis=1) < 0.5).sum())
        rows.append(
            [
                name,
                ranged(until(found, 0.5, impressions)) + (f" ({never} never)" if never else ""),
                f"{until(found, 0.5, clicks).mean():,.0f}",
                spread(100 * found[:, quarter], 0),
                spread(100 * found[:, -1], 0),
                spread(100 * clicks[:, -1] / impressions[:, -1], 1),
            ]
        )
    header = (
        "policy",
        "impressions to half",
        "clicks to half",
        f"% at {impressions[0, quarter]:,}",
        f"% at {impressions[0, -1]:,}",
        "% clicked",
    )
    print(f"best tenth: clicked {100 * np.mean(bests):.1f}% of the time; all new movies {100 * np.mean(means):.1f}%\n")
    print(text_table(header, rows))
    if given.plot:
        draw_plot({name: np.stack([one["found"] for one in runs]) for name, runs in results.items()}, given.plot)
    print(f"\n{time.perf_counter() - began:,.0f} s")


if __name__ == "__main__":
    main()
