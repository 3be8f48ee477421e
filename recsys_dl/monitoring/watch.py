"""The checks of a served run's log.

R lists of the log, K positions, U users, I items, W windows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.data.vocabulary import load_vocabularies
from recsys_dl.metrics.intervals import Sample, intervals
from recsys_dl.run_requests import Requests
from recsys_dl.runs import Run

from .drift import by_chance, popularity_groups, share_of_top, stability_index

GROUPS = 10
LISTS = 500  # computed anew on each side, to compare scores
LEAST = 100  # observations below which a check says nothing


@dataclass(frozen=True)
class Limits:
    """Values beyond which a check fails.

    Attributes:
        unknown_items: share of shown items that the run does not know.
        new_users: share of lists for users who were not in training.
        popularity: stability index beyond chance, of what users chose against training, over groups of items by popularity.
        scores: likewise of the lists' scores.
        concentration: rise of the share of places that the most shown 1% of the items take, from the first window to the last.
        quality: relative fall of the share of lists that earned something, from the first half to the second, which the whole interval must exceed.
    """

    unknown_items: float = 0.01
    new_users: float = 0.5
    popularity: float = 0.25
    scores: float = 0.25
    concentration: float = 0.1
    quality: float = 0.1


@dataclass(frozen=True)
class Check:
    """One figure.

    Attributes:
        name: of the check; those of `Limits` and "lift".
        value: the figure; None where the log is too short for it.
        limit: beyond which it fails.
        failed: whether it does.
        words: what was compared.
    """

    name: str
    value: float | None
    limit: float
    failed: bool
    words: str


@dataclass(frozen=True)
class Watched:
    """What a log shows.

    Attributes:
        lists: R.
        since, until: seconds since 1970 of the first and last list.
        checks: the figures.
        windows: for each part of the time: `until`, `lists`, `top` (share of places of the most shown 1% of the items), `earned` (share of lists that earned something).
    """

    lists: int
    since: int
    until: int
    checks: tuple[Check, ...]
    windows: tuple[dict[str, Any], ...]

    @property
    def failed(self) -> list[str]:
        """Names of the checks that fail."""
        return [check.name for check in self.checks if check.failed]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain Python."""
        return asdict(self) | {"failed": self.failed}


def watch(
    run: Run,
    log: Path,
    *,
    limits: Limits | None = None,
    windows: int = 8,
    settle: int = 3600,
    confidence: float = 0.95,
    seed: int = 7,
) -> Watched:
    """Compare what a run was trained on with what it answered and what users made of it.

    Args:
        run: that answers.
        log: a folder of `recsys-dl serve`'s store, or of its copy of a shared one: logs/KEY, or the whole if it has one log.
        limits: beyond which checks fail.
        windows: parts of the time, with equal numbers of lists.
        settle: seconds before the log's end whose lists do not count for quality, since feedback may still come.
        confidence: of the interval of quality.
        seed: of samples and resampling.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: it has no list, or the store has several logs.
    """
    limits = limits or Limits()
    folder = log_folder(log)
    users, items = load_vocabularies(folder, ("users.parquet", "items.parquet"))
    assert users is not None
    assert items is not None
    logged = FeedbackLog(folder / "log")
    shown = logged.feedback()
    users_R = logged.users()[: len(shown)]  # answers may be added in between
    times_R = np.zeros(len(shown), np.int64) if shown.times_R is None else shown.times_R
    order = np.argsort(times_R, kind="stable")
    rows_I = run.items.find(items.ids)  # of the log's items, in the run
    parts = [part for part in np.array_split(order, min(windows, len(order))) if len(part)]
    earned_R = (np.nan_to_num(shown.rewards_RK) > 0).any(axis=1)
    by_window = tuple(
        {
            "until": int(times_R[part[-1]]),
            "lists": len(part),
            "top": share_of_top(_shown(shown, part), len(items)),
            "earned": float(earned_R[part].mean()),
        }
        for part in parts
    )
    rise = None if len(order) < LEAST or len(parts) < 2 else by_window[-1]["top"] - by_window[0]["top"]
    checks = (
        *_of_ids(shown, users_R, rows_I, limits),
        _of_popularity(run, shown, rows_I, limits),
        _of_scores(run, shown, users.at(users_R[users_R >= 0]), limits, seed),
        Check(
            "concentration", rise, limits.concentration, rise is not None and rise > limits.concentration,
            f"share of places of the most shown 1% of the items: {by_window[0]['top']:.3f} in the first of {len(parts)} windows, {by_window[-1]['top']:.3f} in the last",
        ),
        _of_quality(earned_R[order], times_R[order], settle, limits, confidence, seed),
        _of_lift(shown, confidence, seed),
    )  # fmt: skip
    return Watched(len(shown), int(times_R.min()), int(times_R.max()), checks, by_window)


def log_folder(given: Path) -> Path:
    """Return the folder of a log in a store.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    if (given / "log" / "log.json").is_file():
        return given
    places = ("logs/*/log/log.json", "*-*/logs/*/log/log.json")  # of a shared store, the copy that a server keeps
    found = sorted(one.parent.parent for place in places for one in given.glob(place))
    if not found and (given / "log.json").is_file():
        if (given.parent / "items.parquet").is_file():
            return given.parent
        raise FileNotFoundError(
            f"log={given} must be the log of a server, with users.parquet and items.parquet beside it, but is a feedback log without the ids "
            f"of its users and items; recsys-dl ope log={given} values policies on it"
        )
    if not found:
        raise FileNotFoundError(
            f"log={given} must be the store of recsys-dl serve (RUN.serving), or one of its folders logs/KEY; it has no log.json"
        )
    if len(found) > 1:
        raise ValueError(f"log={given} has {len(found)} logs, of other items or variants; name one: log={found[-1]}")
    return found[0]


def _shown(shown: BanditFeedback, rows: np.ndarray) -> np.ndarray:
    arms = shown.arms_RK[rows].ravel()
    return arms[arms >= 0]


def _of_ids(shown: BanditFeedback, users_R: np.ndarray, rows_I: np.ndarray, limits: Limits) -> list[Check]:
    arms = _shown(shown, np.arange(len(shown)))
    unknown = float((rows_I[arms] < 0).mean()) if len(arms) else 0.0
    new = float((users_R < 0).mean())
    return [
        Check("unknown_items", unknown, limits.unknown_items, unknown > limits.unknown_items, "share of shown items that the run does not know"),
        Check("new_users", new, limits.new_users, new > limits.new_users, "share of lists for users who were not in training"),
    ]  # fmt: skip


def _of_popularity(run: Run, shown: BanditFeedback, rows_I: np.ndarray, limits: Limits) -> Check:
    counts_I = np.bincount(run.seen.items_N, minlength=len(run.items))
    groups_I = popularity_groups(counts_I, GROUPS)
    chosen = rows_I[shown.arms_RK[np.nan_to_num(shown.rewards_RK) > 0]]
    chosen = chosen[chosen >= 0]
    then_G = np.bincount(groups_I, weights=counts_I, minlength=GROUPS)
    now_G = np.bincount(groups_I[chosen], minlength=GROUPS)
    return _drifted(
        "popularity", then_G, now_G, limits.popularity, "what users chose against training, by popularity of the item"
    )


def _of_scores(run: Run, shown: BanditFeedback, names: pl.Series, limits: Limits, seed: int) -> Check:
    """Compare the scores of the lists of the log's users with those of all users."""
    words = "scores of the lists of the log's users against those of users in training"
    rng = np.random.default_rng(seed)
    mine = run.users.find(names)
    mine = mine[mine >= 0]
    length = min(max(1, int(np.median((shown.arms_RK >= 0).sum(axis=1)))), len(run.items))
    if len(mine) < LEAST:
        return Check(
            "scores", None, limits.scores, False, f"{words}: {len(mine)} lists of known users, {LEAST} are needed"
        )
    scores = []
    for rows in (np.arange(len(run.users)), mine):
        some = rng.choice(rows, LISTS, replace=len(rows) < LISTS).astype(np.int32)
        found = run.answer(Requests(run.users.at(some), some, None), length).scores_BK.ravel()
        scores.append(found[np.isfinite(found)])
    edges = np.unique(np.quantile(scores[0], np.linspace(0, 1, GROUPS + 1)[1:-1]))
    then_G, now_G = (np.bincount(np.searchsorted(edges, one), minlength=len(edges) + 1) for one in scores)
    # the scores of one list depend on each other: chance is that of lists, not of scores
    return _drifted("scores", then_G, now_G, limits.scores, words, independent=LISTS)


def _drifted(
    name: str, then_G: np.ndarray, now_G: np.ndarray, limit: float, words: str, independent: int | None = None
) -> Check:
    count = int(now_G.sum())
    if count < LEAST:
        return Check(name, None, limit, False, f"{words}: {count} observations, {LEAST} are needed")
    chance = by_chance(len(then_G), independent or then_G.sum(), independent or count)
    beyond = max(0.0, stability_index(then_G, now_G) - chance)
    return Check(
        name, beyond, limit, beyond > limit, f"{words}: stability index beyond {chance:.3f}, which chance gives"
    )


def _of_quality(
    earned_R: np.ndarray, times_R: np.ndarray, settle: int, limits: Limits, confidence: float, seed: int
) -> Check:
    """Compare the second half of the lists with the first, relative to the first."""
    words = "share of lists that earned something, second half against first"
    earned_R = earned_R[times_R <= times_R[-1] - settle].astype(np.float64)
    if len(earned_R) < 2 * LEAST or not earned_R[: len(earned_R) // 2].any():
        return Check(
            "quality",
            None,
            limits.quality,
            False,
            f"{words}: {len(earned_R)} settled lists, {2 * LEAST} with some reward are needed",
        )
    halves = earned_R[: len(earned_R) // 2], earned_R[len(earned_R) // 2 :]
    before, after = (float(half.mean()) for half in halves)
    low, high = intervals([Sample(halves[1])], confidence=confidence, seed=seed)[0]
    below = 1 - float(high) / before  # at least this much is lost
    text = f"{words}: {before:.4f}, then {after:.4f} [{low:.4f}, {high:.4f}]"
    return Check("quality", 1 - after / before, limits.quality, below > limits.quality, text)


def _of_lift(shown: BanditFeedback, confidence: float, seed: int) -> Check:
    """Compare what the run's own items earn with what random ones do, weighted by their logged propensities."""
    words = "reward of the run's items over that of items drawn at random, by logged propensities"
    assert shown.propensities_RK is not None
    there_RK = shown.arms_RK >= 0
    earned_RK = np.nan_to_num(shown.rewards_RK)
    random_RK = there_RK & (shown.propensities_RK < 1)
    own_RK = there_RK & ~random_RK
    if random_RK.sum() < LEAST or own_RK.sum() < LEAST:
        return Check(
            "lift",
            None,
            1.0,
            False,
            f"{words}: {int(random_RK.sum())} drawn items, {LEAST} are needed (reranker=exploration)",
        )
    weights = np.where(random_RK, 1 / np.where(random_RK, shown.propensities_RK, 1.0), 0.0)
    pool_R = np.where(random_RK.any(axis=1), weights.max(axis=1), np.nan)
    drawn_R = np.where(
        random_RK.any(axis=1), (weights * earned_RK).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-300), np.nan
    )
    drawn = Sample(drawn_R, np.nan_to_num(pool_R) > 0)
    own = Sample(
        np.where(own_RK.any(axis=1), (own_RK * earned_RK).sum(axis=1) / np.maximum(own_RK.sum(axis=1), 1), np.nan)
    )
    if drawn.value <= 0:
        return Check("lift", None, 1.0, False, f"{words}: nothing drawn at random earned anything")
    low, high = intervals([own], confidence=confidence, seed=seed)[0]
    text = f"{words}: {own.value:.4f} [{low:.4f}, {high:.4f}] over {drawn.value:.4f}; positions differ"
    return Check("lift", own.value / drawn.value, 1.0, float(high) < drawn.value, text)
