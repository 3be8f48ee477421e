"""Predictions of `recsys-dl plan` beside measurements: peak memory and seconds of an epoch, at three sizes.

    python scripts/bench_plan.py                                  # --models als bpr … --sizes small medium large

Of each size a log is generated (planted tastes) and written as CSV. A process then predicts, from the size alone and a calibration of
a few seconds; another reads the CSV, splits it and fits, as `recsys-dl train` does, and its largest resident size and its seconds of an epoch
(a fit of several epochs less one of one) are measured. A model without epochs is fitted once. On one thread, in seconds of processor time, so
that other programs on the machine do not count. The ratio is prediction over measurement.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import Any

from recsys_dl.threads import keep_freed_memory, limit_threads

SIZES = {  # users, items, interactions
    "small": (2_000, 1_000, 60_000),
    "medium": (8_000, 2_500, 300_000),
    "large": (20_000, 4_000, 1_000_000),
}
MODELS = {
    "als": ["model.embedding_size=64"],
    "bpr": ["model.embedding_size=64"],
    "ease": [],
    "item_knn": [],
    "neumf": ["model.batch_size=8192"],
    "two_tower": ["model.features=none"],
}


def main() -> None:
    """Print a row per model and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    chosen = parser.parse_args()
    print(
        "| model | interactions | peak memory, MB: predicted | measured | ratio | seconds an epoch: predicted | measured | ratio | calibration, s |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for size in chosen.sizes:
            file = Path(folder) / f"{size}.csv"
            _in_a_process(write_log, file, *SIZES[size])
            for model in chosen.models:
                num, (users, items, trained) = SIZES[size][2], _in_a_process(shape_of, file)
                peak, seconds, spent = _in_a_process(predicted, model, users, items, trained, num)
                held, took = _in_a_process(measured, model, file)
                memory = f"{peak / 1e6:,.0f} | {held / 1e6:,.0f} | {peak / held:.2f}"
                print(
                    f"| {model} | {num:,} | {memory} | {seconds:.3g} | {took:.3g} | {seconds / took:.2f} | {spent:.0f} |",
                    flush=True,
                )


def _in_a_process(work: Any, *arguments: Any) -> Any:
    """Return what a function returns in a new process, whose memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def write_log(file: Path, users: int, items: int, rows: int) -> None:
    """Write a generated log."""
    import polars as pl

    from recsys_dl.data.generated import generated

    data = generated(num_users=users, num_items=items, num_interactions=rows, seed=7)
    log = data.interactions
    columns = {"user_id": data.users.at(log.users_N), "item_id": data.items.at(log.items_N), "timestamp": log.times_N}
    pl.DataFrame(columns).write_csv(file)


def shape_of(file: Path) -> tuple[int, int, int]:
    """Return the users, items and interactions of the training part."""
    from recsys_dl import leave_last_out, read_log

    train = leave_last_out(read_log(file))[0]
    return train.num_users, train.num_items, len(train)


def predicted(name: str, users: int, items: int, trained: int, rows: int) -> tuple[float, float, float]:
    """Return bytes, seconds of an epoch, and the seconds that the calibration took."""
    limit_threads(1)
    from recsys_dl.planning import calibrate, machines, make_plan
    from recsys_dl.sizes import LogSize

    keep_freed_memory()
    model, log = model_of(name), LogSize(users, items, trained)
    calibration = calibrate(model, log, clock=time.process_time)
    plan = make_plan(name, log, machines("cpu"), model.sizes(log), calibration, read=rows)
    return plan.needed, plan.epoch_seconds or 0.0, calibration.seconds


def measured(name: str, file: Path) -> tuple[float, float]:
    """Return the largest resident size of a process that reads, splits and fits, and the seconds of an epoch."""
    limit_threads(1)
    import numpy as np

    from recsys_dl import Interactions, leave_last_out, read_log
    from recsys_dl.planning.calibration import epoch_seconds
    from recsys_dl.provenance import peak_memory

    keep_freed_memory()
    rows, times = np.random.default_rng(7).integers(0, 100, (2, 2_000)), np.arange(2_000)
    warm = model_of(name)
    warm.epochs = 1
    warm.fit(Interactions(*rows, times_N=times, num_users=100, num_items=100))  # compiles
    parts = leave_last_out(read_log(file))
    seconds = epoch_seconds(model_of(name), parts[0], time.process_time)
    return peak_memory(), seconds


def model_of(name: str) -> Any:
    """Return a model as configured, not fitted."""
    from hydra.utils import instantiate

    from recsys_dl.compose import compose

    return instantiate(compose("train", [f"model={name}", *MODELS[name], "device=cpu"]).model)


if __name__ == "__main__":
    main()
