"""The pairs of a mapped log in random order, in files, to be streamed in training. P pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from recsys_dl.data.blocks import ranges
from recsys_dl.data.mapped import MappedInteractions, columns_in, locked
from recsys_dl.folders import new_folder

from .shards import PairFiles, shard_name

ROWS_PER_SHARD = 1_000_000
MOST_SHARDS = 500  # files open at once
FEWEST_SHARDS = 64  # so that as many processes have one each
WINDOW = 2  # files shuffled together in each epoch; few, since each holds random pairs


def shuffled_pairs(log: MappedInteractions) -> PairFiles:
    """Return the distinct pairs of a log, each in a random one of several files, in random order; written once, beside the log.

    Memory: 24 bytes per pair of a file.
    """
    home, pairs = log.folder / "shuffled", log.by_user
    with locked(log.folder.parent):
        if not home.exists():
            with new_folder(home) as aside:
                _write(pairs, aside)
    rows = pl.read_parquet(home / "rows.parquet")["rows"].to_list()
    return PairFiles(home, rows, WINDOW)


def _write(pairs: sp.csr_matrix, folder: Path) -> None:
    num_shards = min(max(-(-pairs.nnz // ROWS_PER_SHARD), min(FEWEST_SHARDS, pairs.nnz)), MOST_SHARDS)
    rng = np.random.default_rng(0)
    names = [f"shard-{shard}.int32" for shard in range(num_shards)]
    with columns_in(folder, *names) as writers:
        for first, last in ranges(pairs.indptr):
            _share_out(pairs, first, last, rng, writers)
    rows: list[int] = []
    for name in names:
        found = np.fromfile(folder / name, np.int32).reshape(-1, 2)
        (folder / name).unlink()
        if len(found):
            users, items = found[rng.permutation(len(found))].T
            pl.DataFrame({"user": users, "item": items}).write_parquet(folder / shard_name(len(rows)))
            rows.append(len(found))
    pl.DataFrame({"rows": rows}).write_parquet(folder / "rows.parquet")


def _share_out(
    pairs: sp.csr_matrix, first: int, last: int, rng: np.random.Generator, writers: list[Callable[[np.ndarray], object]]
) -> None:
    """Append the pairs of some users to random files."""
    starts = pairs.indptr[first : last + 1]
    users = np.repeat(np.arange(first, last, dtype=np.int32), np.diff(starts))
    both = np.stack([users, pairs.indices[starts[0] : starts[-1]]], axis=1)
    shard_P = rng.integers(len(writers), size=len(both), dtype=np.int16)
    order = np.argsort(shard_P, kind="stable")
    bounds = np.searchsorted(shard_P[order], np.arange(len(writers) + 1))
    for shard, write in enumerate(writers):
        write(both[order[bounds[shard] : bounds[shard + 1]]])
