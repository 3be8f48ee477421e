"""What rules of early stopping keep and save: trains with validation after each epoch, then applies rules to the curves.

    RECSYS_DATA=… python scripts/bench_early_stopping.py --curves curves.json        # about an hour and a half on one core
    python scripts/bench_early_stopping.py --logs demo --models two_tower --epochs 10

Prints the tables of docs/training.md: for each log and model the best NDCG@10 on validation of all epochs, and for each rule the best one
until it stops, as a share of that, and the epochs that it takes. Models are those of conf/model, with more epochs. Validation is
what leave-last-out holds out; of more users than --users as many drawn at random. No test part is looked at.
Curves in the file given are taken from there, new ones added to it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from pytorch_lightning.loggers.logger import Logger

from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import leave_last_out
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.readers.sources import movielens, movielens_small, movietweetings
from recsys_dl.threads import limit_threads
from recsys_dl.training import TrainerOptions
from recsys_dl.training.callbacks import since_best

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data"))
LOGS: dict[str, Callable[[], Dataset]] = {
    "demo": movielens_small,
    "ml-100k": lambda: movielens("100k", DATA / "ml-100k"),
    "movietweetings": lambda: movietweetings(DATA / "movietweetings-100k"),
}
RULES = [(patience, smoothing) for patience in (3, 5) for smoothing in (1, 3, 5)]


class Heard(Logger):
    """Validation figures as they come."""

    name = version = "heard"

    def __init__(self) -> None:
        super().__init__()
        self.figures: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep the figure, if there is one."""
        if "ndcg@10" in metrics:
            self.figures.append(metrics["ndcg@10"])

    def log_hyperparams(self, *_arguments: Any, **_named: Any) -> None:
        """Nothing to keep."""


def curve(log: str, model: str, epochs: int, users: int) -> list[float]:
    """Return NDCG@10 on validation after each epoch."""
    train, validation, _ = leave_last_out(LOGS[log]())
    asked = validation.interactions
    everyone = np.unique(asked.users_N)
    chosen = np.random.default_rng(0).choice(everyone, min(users, len(everyone)), replace=False)
    part: Interactions = asked.select(np.isin(asked.users_N, chosen))
    config = compose("train", [f"model={model}", f"model.epochs={epochs}", "device=cpu"])
    heard = Heard()
    options = TrainerOptions(patience=epochs, min_epochs=epochs, loggers=(heard,))
    instantiate(config.model).fit(train, validation=part, trainer=options)
    return heard.figures


def stopped(figures: Sequence[float], patience: int, smoothing: int) -> int:
    """Return after how many epochs a rule stops."""
    for epochs in range(1, len(figures) + 1):
        if since_best(figures[:epochs], smoothing, 0.0) >= patience:
            return epochs
    return len(figures)


def main() -> None:
    """Train, apply the rules and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", nargs="+", default=list(LOGS), choices=list(LOGS))
    parser.add_argument("--models", nargs="+", default=["neumf", "two_tower", "gmf", "mlp"])
    parser.add_argument("--epochs", type=int, default=30, help="of each (default 30)")
    parser.add_argument("--users", type=int, default=1000, help="that are validated on (default 1000)")
    parser.add_argument("--curves", type=Path, help="file to keep the curves in")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    limit_threads(asked.threads)
    kept = json.loads(asked.curves.read_text()) if asked.curves is not None and asked.curves.exists() else {}
    head = ["log", "model", "best", "after", *(f"patience {one}, mean of {of}" for one, of in RULES)]
    rows = []
    for log in asked.logs:
        for model in asked.models:
            key = f"{log} {model}"
            if key not in kept:
                kept[key] = curve(log, model, asked.epochs, asked.users)
                if asked.curves is not None:
                    asked.curves.write_text(json.dumps(kept, indent=1))
            figures, best = kept[key], max(kept[key])
            row = [log, model, f"{best:.4f}", f"{1 + figures.index(best)} of {len(figures)}"]
            for patience, smoothing in RULES:
                epochs = stopped(figures, patience, smoothing)
                row.append(f"{max(figures[:epochs]) / best:.0%} in {epochs}")
            rows.append(row)
    print(text_table(head, rows))


if __name__ == "__main__":
    main()
