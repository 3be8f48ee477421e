"""Compile kernels ahead of their first use."""

from __future__ import annotations

import time
from typing import Any

from omegaconf import DictConfig

PIPELINE = "three_stage"


def warmup(config: DictConfig) -> None:
    """Fit and ask each model on a small log, and print what was compiled; the next process reads it from disk."""
    from recsys_dl.threads import limit_threads

    limit_threads(config.threads)
    from numba.core import event

    from recsys_dl.compose import compose
    from recsys_dl.compose.options import options
    from recsys_dl.evaluation.rendering import text_table
    from recsys_dl.names import near

    known = options("model")
    names = list(config.models or known)
    if unknown := [name for name in names if name not in known]:
        raise ValueError(
            f"models must name models, got {unknown[0]!r}{near(unknown[0], known)}; they are {', '.join(known)}"
        )
    words = {name: [f"model={name}"] for name in names}
    if config.models is None:
        words[f"pipeline={PIPELINE}"] = [f"pipeline={PIPELINE}", "pipeline.examples.rounds=1"]
    data = _log()
    rows, folders, total = [], set(), 0
    for name, asked in words.items():
        start = time.perf_counter()
        with event.install_recorder("numba:compile") as recorder:
            _use(compose("train", [*asked, "device=cpu", "seed=7"]), data)
        done = [one for _, one in recorder.buffer if one.is_start]
        folders |= {one.data["dispatcher"].stats.cache_path for one in done} - {None}
        total += len(done)
        longest = _longest(recorder.buffer)
        rows.append([name, f"{time.perf_counter() - start:.1f}", f"{len(done):,}", longest])
    print(text_table(["for", "seconds", "kernels compiled", "the longest"], rows))
    print(
        f"\n{total:,} kernels compiled and kept in {', '.join(sorted(folders))}"
        if total
        else "\nnothing to compile: all kernels were read from disk"
    )


def _log() -> Any:
    """Return a small log with times, item features and texts, in which every user and item occurs."""
    import numpy as np
    import polars as pl

    from recsys_dl.data.dataset import Dataset
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.data.vocabulary import Vocabulary

    rng = np.random.default_rng(0)
    users_N, items_N = np.nonzero((rng.random((60, 40)) < 0.3) | (np.arange(60)[:, None] % 40 == np.arange(40)))
    weights_N, times_N = rng.integers(1, 6, len(users_N)), rng.integers(1_000_000, 2_000_000, len(users_N))
    kinds = [["war", "crime"][item % 2] for item in range(40)]
    frame = pl.DataFrame({"kind": [[one] for one in kinds], "year": [1990 + item % 9 for item in range(40)]})
    people = pl.DataFrame({"age": [20 + user % 5 for user in range(60)]})
    return Dataset(
        Interactions(users_N, items_N, weights_N, times_N),
        Vocabulary(range(60), noun="user"),
        Vocabulary(range(40), noun="item"),
        item_features=frame,
        user_features=people,
        item_texts=pl.Series([f"a story of {one}" for one in kinds]),
        weight_kind="ratings",
        name="warmup",
    )


def _use(config: DictConfig, data: Any) -> None:
    """Fit what a config names, for a moment, and ask it for everything that is asked of a run."""
    import numpy as np
    from hydra.utils import instantiate

    from recsys_dl.data.interactions import Interactions
    from recsys_dl.evaluation import evaluate

    whole = config.model if config.get("pipeline") is None else config.pipeline
    _shorten(whole)
    model = instantiate(whole).fit(data)
    users = np.arange(data.num_users)
    lists = model.recommend(users, 5, exclude=data, allow=np.arange(30))
    model.recommend(users[:1], 5, exclude=data)
    model.score(users, lists.items_BK)
    model.similar_items([0], 3)
    model.recommend(model.fold_in([[0, 1], [2]]), 5)
    others_N, items_N = np.nonzero(data.interactions.by_user.toarray() == 0)
    few, liked = slice(None, None, 9), np.full(len(others_N[::9]), data.interactions.weights_N.max())
    held_out = Interactions(others_N[few], items_N[few], liked, num_users=data.num_users, num_items=data.num_items)
    evaluate(model, data, data.with_interactions(held_out), [5])


def _shorten(config: Any) -> None:
    """Set epochs to 1 wherever a config has them."""
    from omegaconf import DictConfig

    for name, value in config.items() if isinstance(config, DictConfig) else ():
        if name == "epochs" and isinstance(value, int):
            config[name] = 1
        else:
            _shorten(value)


def _longest(buffer: Any) -> str:
    """Return the name and seconds of the kernel that took longest, with what it calls."""
    begun: list[tuple[float, str]] = []
    best = (0.0, "")
    for at, one in buffer:
        if one.is_start:
            begun.append((at, one.data["dispatcher"].py_func.__name__))
        else:
            start, name = begun.pop()
            best = max(best, (at - start, name))
    return f"{best[1]}, {best[0]:.1f} s" if best[1] else ""
