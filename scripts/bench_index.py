"""The index report (recsys-dl index) on a million generated vectors and on real item embeddings, as docs/benchmarks/indexes.md has it.

    RECSYS_DATA=… python scripts/bench_index.py                       # both; reports and plots are left in bench_index/
    python scripts/bench_index.py --only generated --items 100000

Generated: an item is one of 2,000 topics plus noise, of a log-normal length, as popular items are longer; a query is a mixture of
three topics plus noise. Nothing of that is real. Real: ALS on MovieLens 1M (the pairs of RECSYS_DATA/ml-1m), 90% of the pairs to
train on, lists for users of the validation part with what they had left out, and the NDCG that each setting loses there.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from recsys_dl.cli import main as command

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
TOPICS = 2_000
BLOCK = 1 << 17  # vectors drawn at once


def main() -> None:
    """Make, train, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("generated", "movielens"), help="one of the two")
    parser.add_argument("--items", type=int, default=1_000_000, help="vectors generated (default 1,000,000)")
    parser.add_argument("--embedding-size", type=int, default=64)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path("bench_index"), help="folder for reports and plots")
    chosen = parser.parse_args()
    for name, job in (("generated", generated), ("movielens", movielens)):
        if chosen.only in (None, name):
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                job(chosen, Path(folder), chosen.output / name)
            print(
                f"\n{markdown(chosen.output / name)}\n\n{name}: {time.perf_counter() - start:.0f} s in all\n",
                flush=True,
            )


def generated(chosen: argparse.Namespace, folder: Path, output: Path) -> None:
    """Report on generated vectors."""
    rng = np.random.default_rng(chosen.seed)
    topics = rng.standard_normal((TOPICS, chosen.embedding_size), np.float32)
    items = np.lib.format.open_memmap(
        folder / "generated.npy", mode="w+", dtype=np.float32, shape=(chosen.items, chosen.embedding_size)
    )
    for start in range(0, chosen.items, BLOCK):
        size = min(BLOCK, chosen.items - start)
        block = topics[rng.integers(0, TOPICS, size)] + noise(0.7, rng, size, chosen.embedding_size)
        lengths = rng.lognormal(0, 0.25, (size, 1)) / np.linalg.norm(block, axis=1, keepdims=True)
        items[start : start + size] = block * lengths
    items.flush()
    shares = rng.dirichlet(np.ones(3), chosen.queries).astype(np.float32)
    mixed = np.einsum("bt,btd->bd", shares, topics[rng.integers(0, TOPICS, (chosen.queries, 3))])
    np.save(folder / "queries.npy", mixed + noise(0.5, rng, chosen.queries, chosen.embedding_size))
    files = [
        f"vectors={folder / 'generated.npy'}",
        f"queries={folder / 'queries.npy'}",
        f"num_queries={chosen.queries}",
    ]
    run("index", "experiment=index_generated", *files, f"seed={chosen.seed}", f"output={output}")


def movielens(chosen: argparse.Namespace, folder: Path, output: Path) -> None:
    """Report on the item embeddings of ALS."""
    path = DATA / "ml-1m" / "ratings_pairs.parquet"
    if not path.is_file():
        raise SystemExit(f"no MovieLens pairs at {path}; set RECSYS_DATA to the folder that holds ml-1m")
    shared = ["data=log", f"data.path={path}", "split=random", f"seed={chosen.seed}"]
    run("train", *shared, "model=als", "evaluate.k=[10]", f"run={folder / 'als'}")
    run("index", "experiment=index_movielens", f"run={folder / 'als'}", f"seed={chosen.seed}", f"output={output}")


def noise(share: float, rng: np.random.Generator, size: int, embedding_size: int) -> np.ndarray:
    """Return noise, `share` times as long as a topic."""
    return np.float32(share) * rng.standard_normal((size, embedding_size), np.float32)


def run(*words: str) -> None:
    """Run a verb of the command, as a user would."""
    print(f"recsys-dl {' '.join(words)}", flush=True)
    if status := command(list(words)):
        raise SystemExit(status)


def markdown(folder: Path) -> str:
    """Return the table of docs/benchmarks/indexes.md."""
    header, *rows = csv.reader((folder / "report.csv").open())
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


if __name__ == "__main__":
    main()
