"""Content profiles of many generated items: seconds to build, bytes an item, users a second, peak memory.

    python scripts/bench_content.py                       # 1,000,000 items of 30 tags each
    python scripts/bench_content.py --items 100000

Tags are drawn from a vocabulary of 20,000, the k-th in proportion to 1 / k. Each of 1,000 users has liked 20 items at random. The first request is left out of users/s: it compiles.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import polars as pl

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.models import Content
from recsys_dl.provenance import peak_memory
from recsys_dl.threads import limit_threads

NUM_TAGS, TAGS_PER_ITEM = 20_000, 30
NUM_USERS, LIKED = 1000, 20


def items_of(num_items: int, rng: np.random.Generator) -> pl.DataFrame:
    """Return lists of tags."""
    names = pl.Series([f"tag {place}" for place in range(NUM_TAGS)])
    chance = np.cumsum(1 / np.arange(1, NUM_TAGS + 1))
    drawn = np.searchsorted(chance, rng.random(num_items * TAGS_PER_ITEM) * chance[-1]).astype(np.uint32)
    flat = names.gather(drawn)
    return pl.DataFrame({"tags": flat.reshape((num_items, TAGS_PER_ITEM)).cast(pl.List(pl.String))})


def main() -> None:
    """Generate, build, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    limit_threads(asked.threads)
    rng = np.random.default_rng(7)
    items = items_of(asked.items, rng)
    log = Interactions(
        np.repeat(np.arange(NUM_USERS), LIKED), rng.integers(0, asked.items, NUM_USERS * LIKED), num_items=asked.items
    )
    data = Dataset(log, Vocabulary(range(NUM_USERS), noun="user"), Vocabulary(range(asked.items)), item_features=items)
    before = peak_memory()
    start = time.perf_counter()
    model = Content().fit(data)
    built = time.perf_counter() - start
    peak = peak_memory()
    stored = sum(array.nbytes for array in (model.terms_IT.data, model.terms_IT.indices, model.terms_IT.indptr))
    model.recommend([0], 10, exclude=log)
    start = time.perf_counter()
    model.recommend(np.arange(NUM_USERS), 10, exclude=log)
    seconds = time.perf_counter() - start
    rows = [
        ["items", f"{asked.items:,}"],
        ["terms", f"{len(model.encoder.terms):,}"],
        ["threads", f"{asked.threads}"],
        ["seconds to build", f"{built:.1f}"],
        ["bytes an item, profiles", f"{stored / asked.items:.0f}"],
        ["bytes an item, by term too", f"{2 * stored / asked.items:.0f}"],
        ["users/s, top 10", f"{NUM_USERS / seconds:.0f}"],
        ["peak memory, GB, data alone", f"{before / 1e9:.1f}"],
        ["peak memory, GB, after the fit", f"{peak / 1e9:.1f}"],
        ["peak memory, GB, after the lists", f"{peak_memory() / 1e9:.1f}"],
    ]
    print(text_table(["figure", "value"], rows))


if __name__ == "__main__":
    main()
