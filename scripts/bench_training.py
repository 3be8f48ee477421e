"""What Lightning costs: seconds of an epoch through fit_scorer() over those of a bare loop, on the NCF ml-1m train pairs.

    RECSYS_DATA=… python scripts/bench_training.py                # GMF and NeuMF, batches of 8,192 pairs, 4 negatives
    RECSYS_DATA=… python scripts/bench_training.py --pairs 50000  # of a part, to see that it runs

Both train the same network by the same objective and optimizer from the same batches, negatives and all, so what is left is the
trainer: hooks, checks that losses are numbers, the schedule. Rounds alternate; the ratio is that of the medians. Setting up a
Trainer is outside: both figures are the time between the first and the last batch of an epoch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reproduce_ncf import DATA, read_train

from recsys_dl.data.interactions import Interactions
from recsys_dl.models.gmf import GMF
from recsys_dl.models.neumf import NeuMF
from recsys_dl.threads import keep_freed_memory, limit_threads
from recsys_dl.training import TrainerOptions
from recsys_dl.training.batches import Batches
from recsys_dl.training.fitting import fit_scorer
from recsys_dl.training.optimizers import make_optimizer


class Timed(Batches):
    """Batches that note the seconds between the first and the last that was handed out."""

    def __iter__(self) -> Any:
        start = None
        for share in super().__iter__():
            start = start or time.perf_counter()
            self.seconds = time.perf_counter() - start
            yield share


def prepared(cls: Any, log: Interactions, batch_size: int) -> tuple[Any, Timed]:
    """Return an untrained model and its batches."""
    model = cls(embedding_size=64, num_negatives=4, batch_size=batch_size, learning_rate=1e-3, epochs=1, device="cpu")
    model._begin(log)
    torch.manual_seed(7)
    model.network = model._build()
    return model, Timed(model._examples(log), batch_size, seed=7)


def bare(cls: Any, log: Interactions, batch_size: int) -> tuple[float, Any]:
    """Return the seconds of the plain loop, and the network it trained."""
    model, batches = prepared(cls, log, batch_size)
    optimizer = make_optimizer("adam", model.network.parameters(), learning_rate=1e-3, weight_decay=0.0)
    for share in batches:
        loss = model._objective(model.network, share.batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return batches.seconds, model.network


def lightning(cls: Any, log: Interactions, batch_size: int) -> tuple[float, Any]:
    """Return the seconds of the same through Lightning, and the network it trained."""
    model, batches = prepared(cls, log, batch_size)
    scorer = model.lightning_module(num_steps=len(batches)).train()
    options, device = TrainerOptions(), torch.device("cpu")
    fit_scorer(scorer, batches, epochs=1, options=options, device=device, identity={}, validate=None, name=cls.__name__)
    return batches.seconds, model.network


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of ml-1m.train.pairs")
    parser.add_argument("--pairs", type=int, help="of the log (default all)")
    parser.add_argument("--batch-size", type=int, default=8192, help="pairs a step (default 8192)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    threads = limit_threads(chosen.threads)
    keep_freed_memory()
    log = read_train(chosen.data)
    if chosen.pairs is not None:
        log = log.select(np.arange(chosen.pairs))
    print(f"{threads} threads, {len(log):,} pairs, medians of {chosen.rounds} epochs\n")
    print("| model | pairs a step | bare loop, s | Lightning, s | cost of Lightning |\n|---|---|---|---|---|")
    for cls in (GMF, NeuMF):
        ways = (bare, lightning)
        networks = [way(cls, log, chosen.batch_size)[1] for way in ways]  # also compiles and imports
        for one, two in zip(*(network.parameters() for network in networks), strict=True):
            if not torch.equal(one, two):
                raise RuntimeError(f"both ways must train {cls.__name__} to the same weights, but they differ")
        rounds = [[way(cls, log, chosen.batch_size)[0] for way in ways] for _ in range(chosen.rounds)]
        plain, with_it = (statistics.median(seconds) for seconds in zip(*rounds, strict=True))
        size = Batches(range(len(log)), chosen.batch_size, seed=0).batch_size  # type: ignore[arg-type]
        print(f"| {cls.__name__} | {size:,} | {plain:.2f} | {with_it:.2f} | {with_it / plain - 1:+.1%} |")


if __name__ == "__main__":
    main()
