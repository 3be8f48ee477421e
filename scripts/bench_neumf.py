"""NeuMF at D=64 on the NCF ml-1m train pairs: training and full-catalog evaluation, beside a bare loop and RecBole.

    RECSYS_DATA=… python scripts/bench_neumf.py                        # ours, and a bare torch loop
    RECSYS_DATA=… python scripts/bench_neumf.py --peer-python PATH     # and RecBole in the same run; PATH: a Python that has it

All with embeddings of 64 + 64, hidden layers of 128 and 64, 4 uniform negatives a pair, Adam, float32. A sample is one pair with
its label, drawn or observed. The bare loop trains the same network by the same optimizer from batches that lie ready in memory,
with negatives that are drawn by torch.randint and may be positives. Each figure is the best of three rounds, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from reproduce_ncf import DATA, read_train

from recsys_dl.data.interactions import Interactions
from recsys_dl.models.neumf import NeuMF
from recsys_dl.provenance import peak_memory
from recsys_dl.threads import keep_freed_memory, limit_threads
from recsys_dl.training.optimizers import make_optimizer
from recsys_dl.training.pairs import LabeledLists

ROUNDS = 3
NEGATIVES = 4


def model_of(batch_size: int) -> NeuMF:
    """Return the model that is timed."""
    return NeuMF(
        embedding_size=64,
        hidden_sizes=[128, 64],
        num_negatives=NEGATIVES,
        epochs=1,
        batch_size=batch_size,
        learning_rate=1e-3,
    )


def ours(log: Interactions, batch_size: int) -> tuple[float, NeuMF]:
    """Return samples a second of a fit of one epoch, all that it takes included, and the model."""
    model = model_of(batch_size)
    start = time.perf_counter()
    model.fit(log)
    return len(log) * (1 + NEGATIVES) / (time.perf_counter() - start), model


def bare(log: Interactions, batch_size: int) -> float:
    """Return samples a second of the plain loop."""
    model = model_of(batch_size)
    model._begin(log)
    torch.manual_seed(7)
    network = model._build()
    optimizer = make_optimizer("adam", network.parameters(), learning_rate=1e-3, weight_decay=0.0)
    users_N, items_N = torch.from_numpy(log.users_N.astype(np.int64)), torch.from_numpy(log.items_N.astype(np.int64))
    start = time.perf_counter()
    order = torch.randperm(len(log))
    for first in range(0, len(log), batch_size):
        chosen = order[first : first + batch_size]
        drawn = torch.randint(log.num_items, (len(chosen), NEGATIVES))
        items_BL = torch.cat([items_N[chosen][:, None], drawn], 1)
        labels_BL = torch.zeros(items_BL.shape)
        labels_BL[:, 0] = 1
        loss = model._objective(network, LabeledLists(users_N[chosen], items_BL, labels_BL, None))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(log) * (1 + NEGATIVES) / (time.perf_counter() - start)


def evaluated(model: NeuMF, log: Interactions) -> float:
    """Return users a second whose whole catalog is scored and whose best 10 unseen items are found."""
    users = np.arange(1024)
    start = time.perf_counter()
    model.recommend(users, 10, exclude=log)
    return len(users) / (time.perf_counter() - start)


def peer(python: str, log: Interactions, threads: int) -> dict[str, list[float]]:
    """Return RecBole's figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ncf" / "ncf.inter"
        file.parent.mkdir()
        rows = "\n".join(f"{user}\t{item}" for user, item in zip(log.users_N, log.items_N, strict=True))
        file.write_text(f"user_id:token\titem_id:token\n{rows}\n")
        script = Path(__file__).with_name("peer_recbole.py")
        words = [python, "-W", "ignore", str(script), folder, "--threads", str(threads)]
        answer = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise RuntimeError(f"the peer failed: {answer.stderr[-2000:]}")
        return json.loads(answer.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of ml-1m.train.pairs")
    parser.add_argument("--peer-python", help="a Python that has RecBole")
    parser.add_argument("--batch-size", type=int, default=8192, help="pairs a step (default 8192)")
    chosen = parser.parse_args()
    threads = limit_threads(min(2, os.cpu_count() or 1))
    keep_freed_memory()
    log = read_train(chosen.data)
    figures: dict[str, list[float]] = {"fit": [], "bare": [], "evaluate": []}
    ours(log.select(np.arange(20_000)), 512)  # compiles and imports
    for _ in range(ROUNDS):
        figures["bare"].append(bare(log, chosen.batch_size))
        speed, model = ours(log, chosen.batch_size)
        figures["fit"].append(speed)
        figures["evaluate"].append(evaluated(model, log))
    best = {name: max(values) for name, values in figures.items()}
    ratios = [one / two for one, two in zip(figures["fit"], figures["bare"], strict=True)]
    rival = peer(chosen.peer_python, log, threads) if chosen.peer_python else None
    print(f"{threads} threads, batches of {chosen.batch_size:,} pairs; peak memory {peak_memory() / 1e9:.2f} GB\n")
    print("| | training, samples/s | full catalog, users/s |\n|---|---|---|")
    print(f"| NeuMF, fit() | {best['fit']:,.0f} | {best['evaluate']:,.0f} |")
    print(f"| bare torch loop, same network | {best['bare']:,.0f} | |")
    if rival is not None:
        for at, noun in ((0, "its default batch sizes"), (1, "the fastest of those tried")):
            print(
                f"| RecBole, {noun} | {rival['samples_per_second'][at]:,.0f} | {rival['users_per_second'][at]:,.0f} |"
            )
    print(f"\nfit() over the bare loop, each round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}")
    if rival is not None:
        for at, noun in ((0, "at its defaults"), (1, "at its fastest")):
            train = best["fit"] / rival["samples_per_second"][at]
            print(
                f"over RecBole {noun}: training {train:.1f}, evaluation {best['evaluate'] / rival['users_per_second'][at]:.0f}"
            )


if __name__ == "__main__":
    main()
