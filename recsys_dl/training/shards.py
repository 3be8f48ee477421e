"""Logs larger than memory: pairs streamed from Parquet files, and users' interactions in memory-mapped arrays.

G rows per batch, U users, I items, N distinct pairs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch

from recsys_dl.data.blocks import count_rows, ranges
from recsys_dl.data.interactions import Interactions
from recsys_dl.folders import NO_ARRAY, new_folder, sha256

from .batches import FEWEST_STEPS, Share, mixed, shuffled
from .pairs import PairLists

FORMAT = 1
MOST_PAIRS = np.iinfo(np.int32).max  # SciPy would copy a larger matrix's indices into memory
ARRAYS = {"users": np.int32, "items": np.int32, "weights": np.float32}


def write_shards(
    log: Interactions | Iterable[pl.DataFrame],
    folder: str | os.PathLike[str],
    *,
    rows_per_shard: int = 1_000_000,
    num_users: int | None = None,
    num_items: int | None = None,
    overwrite: bool = False,
) -> Shards:
    """Write a log as shards, and open them.

    The folder is created atomically. Memory: about 50 bytes per row of a shard, 24 per user, plus one of the given frames.

    Args:
        log: Interactions, whose distinct pairs are written in random order; or frames with integer columns `user` and
            `item`, rows from 0, which are written unchanged: repeated pairs are repeated in each epoch, and ordered
            frames, such as by user, are shuffled only within `Shards.window`.
        folder: to write.
        rows_per_shard: rows per Parquet file. Each process needs at least one file.
        num_users: U; None means the largest row plus one. Interactions have their own.
        num_items: I; likewise.
        overwrite: whether to replace an existing folder.

    Raises:
        ValueError: frames without these columns, rows that are negative, missing or out of range, or more than 2^31 - 1 pairs.
        FileExistsError: the folder exists and `overwrite` is false.
    """
    if rows_per_shard < 1:
        raise ValueError(f"rows_per_shard must be at least 1, got {rows_per_shard}")
    frames: Iterable[pl.DataFrame] = log if not isinstance(log, Interactions) else _frames(log, rows_per_shard)
    if isinstance(log, Interactions):
        num_users, num_items = log.num_users, log.num_items
    with new_folder(folder, overwrite=overwrite) as aside:
        rows, sizes = _write_rows(frames, aside, rows_per_shard, {"user": num_users, "item": num_items})
        if not rows:
            raise ValueError("shards need at least one interaction, got none")
        num_pairs = _write_arrays(aside, len(rows), sizes["user"])
        about = {
            "format": FORMAT,
            "num_users": sizes["user"],
            "num_items": sizes["item"],
            "rows": rows,
            "pairs": num_pairs,
            "sha256": {file.name: sha256(file) for file in sorted(aside.iterdir())},
        }
        (aside / "shards.json").write_text(json.dumps(about, indent=1) + "\n")
    return Shards(folder)


class PairFiles:
    """Parquet files of pairs, in random order, in a folder.

    Attributes:
        folder: with the files.
        rows: of each file.
        window: number of files whose rows are shuffled together.
    """

    def __init__(self, folder: Path, rows: list[int], window: int = 8) -> None:
        self.folder, self.rows, self.window = folder, rows, window

    def read(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Return int32 users and items of a shard's rows.

        Raises:
            ValueError: the file is damaged.
        """
        file = self.folder / shard_name(shard)
        try:
            frame = pl.read_parquet(file, columns=["user", "item"])
        except (pl.exceptions.PolarsError, OSError) as error:
            raise ValueError(f"{file} is damaged ({error}); write the shards again") from error
        if len(frame) != self.rows[shard]:
            raise ValueError(f"{file} must have {self.rows[shard]} rows, got {len(frame)}; write the shards again")
        return frame["user"].to_numpy(), frame["item"].to_numpy()


class Shards(Interactions, PairFiles):
    """A log in a folder written by `write_shards`. Can be used as Interactions; pair models stream it.

    Its columns and the user-item matrix are memory-mapped: the system caches as much of them as fits, at most 16
    bytes per pair. Training takes at most 32 bytes of memory per row of a window.

    Args:
        folder: to read.
        window: number of shards whose rows are shuffled together. The order of shards is shuffled in each epoch too.

    Raises:
        FileNotFoundError: no shards in the folder.
        ValueError: they are damaged, or in a format this version cannot read.
    """

    def __init__(self, folder: str | os.PathLike[str], *, window: int = 8) -> None:
        PairFiles.__init__(self, Path(folder), [], window)
        if window < 1:
            raise ValueError(f"window must be at least 1 shard, got {window}")
        if not (self.folder / "shards.json").is_file():
            raise FileNotFoundError(f"{self.folder} must be written by write_shards(), but has no shards.json")
        try:
            about = json.loads((self.folder / "shards.json").read_text())
            version, self.rows, self.sha256 = about["format"], list(about["rows"]), dict(about["sha256"])
            num_users, num_items, num_pairs = (int(about[name]) for name in ("num_users", "num_items", "pairs"))
            if version != FORMAT:
                raise ValueError(f"its format is {version}, this version reads {FORMAT}")
            users, items, weights = (np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS)
            self.starts_U1 = np.load(self.folder / "starts.npy", mmap_mode="r")
            if {len(users), len(items), len(weights)} != {num_pairs} or len(self.starts_U1) != num_users + 1:
                raise ValueError("its arrays do not have the lengths in shards.json")
            missing = [name for name in self.sha256 if not (self.folder / name).is_file()]
            if missing:
                raise ValueError(f"{missing[0]} is missing")
        except (ValueError, KeyError, TypeError, OSError, *NO_ARRAY) as error:
            raise ValueError(f"{self.folder} is damaged ({error}); write the shards again") from error
        self._take(users, items, weights, None, num_users, num_items)

    @cached_property
    def by_user(self) -> sp.csr_matrix:
        """CSR [U, I] of ones over the mapped arrays."""
        arrays = (self.weights_N, self.items_N, self.starts_U1)
        matrix = sp.csr_matrix(arrays, shape=(self.num_users, self.num_items), copy=False)
        matrix.has_canonical_format = True  # else SciPy reads all of it to find out
        return matrix

    @cached_property
    def item_counts_I(self) -> np.ndarray:
        """int64 [I]: distinct users of each item."""
        return count_rows(self.items_N, self.num_items)

    @property
    def content_hash(self) -> str:
        """Hexadecimal SHA-256 over all files and the window, which determine a training."""
        return hashlib.sha256(json.dumps([self.sha256, self.window]).encode()).hexdigest()


class ShardPairs(PairLists):
    """Streamed pairs.

    Args:
        known: the training log.
        shards: its pairs.
        drawing: `num_negatives` and the rest of `PairLists`.
    """

    def __init__(self, known: Interactions, shards: PairFiles, **drawing: Any) -> None:
        super().__init__(known, **drawing)
        self.shards = shards


class ShardBatches:
    """Batches of streamed pairs, in place of `Batches`: step k of epoch e is a function of (seed, e, k, number of processes).

    Each epoch shuffles the shards. Process r of P reads shards r, r + P, ... of this order, `Shards.window` at a time, and
    shuffles the rows of a window. Each process's rows are split evenly over the steps, so all processes take the same number.

    Args:
        examples: builds lists from rows.
        batch_size: rows per step, over all processes; at most a sixteenth of all.
        seed: for shuffling.
    """

    def __init__(self, examples: ShardPairs, batch_size: int, *, seed: int) -> None:
        self.examples, self.seed = examples, seed
        self.num = sum(examples.shards.rows)
        self.batch_size = max(1, min(batch_size, -(-self.num // FEWEST_STEPS)))
        self.rank, self.world_size, self.accumulate = 0, 1, 1
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return -(-self.num // self.batch_size)

    def seek(self, epoch: int, step: int = 0) -> None:
        """Make the next iteration start at this step of this epoch."""
        self.epoch, self.first = epoch, step

    def shards_of(self, epoch: int, rank: int) -> list[int]:
        """Return the shards that a process reads in an epoch, in order.

        Raises:
            ValueError: fewer shards than processes.
        """
        rows = self.examples.shards.rows
        if len(rows) < self.world_size:
            raise ValueError(
                f"each of {self.world_size} processes needs its own shard, but there are {len(rows)}; take fewer "
                "processes, or write them with a smaller rows_per_shard"
            )
        return shuffled(len(rows), self.seed, epoch)[rank :: self.world_size].tolist()

    def __iter__(self) -> Iterator[Share]:
        epoch, first = self.epoch, self.first
        self.examples.begin(epoch)
        rows = self.examples.shards.rows
        nums = [sum(rows[shard] for shard in self.shards_of(epoch, rank)) for rank in range(self.world_size)]
        mine = nums[self.rank]
        stream = self._rows(epoch, mine * first // len(self))
        waiting = next(stream)
        for step in range(first, len(self)):
            size = mine * (step + 1) // len(self) - mine * step // len(self)
            while waiting.shape[1] < size:
                waiting = np.concatenate([waiting, next(stream)], axis=1)
            batch, waiting = waiting[:, : max(size, 1)], waiting[:, size:]
            if not batch.shape[1]:  # fewer rows than steps: any row, with weight 0
                batch = np.stack(self.examples.shards.read(self.shards_of(epoch, self.rank)[0]))[:, :1]
            users_G, items_G = torch.from_numpy(batch.astype(np.int64)).to(self.examples.device)
            alone = step * self.world_size + self.rank
            lists = self.examples.lists(users_G, items_G, slice(None), epoch=epoch, step=alone)
            since = step // self.accumulate * self.accumulate
            until = min(since + self.accumulate, len(self))
            together = sum(num * until // len(self) - num * since // len(self) for num in nums)
            weight = size * self.world_size * self.accumulate / max(together, 1)
            yield Share(lists, weight, f"batch {step} of epoch {epoch}")
        self.first = 0

    def _rows(self, epoch: int, start: int) -> Iterator[np.ndarray]:
        """Yield int32 [2, rows] of users and items, window by window, starting at a row of the epoch's stream."""
        shards = self.examples.shards
        order = self.shards_of(epoch, self.rank)
        for number, first in enumerate(range(0, len(order), shards.window)):
            some = order[first : first + shards.window]
            size = sum(shards.rows[shard] for shard in some)
            if start < size:
                rows = np.empty((2, size), np.int32)
                at = 0
                for shard in some:
                    rows[:, at : at + shards.rows[shard]] = shards.read(shard)
                    at += shards.rows[shard]
                rng = np.random.default_rng(mixed(self.seed, epoch, self.rank, number))
                yield rows[:, rng.permutation(size)[start:]]
            start = max(0, start - size)


def shard_name(shard: int) -> str:
    """Return the name of a shard's file."""
    return f"shard-{shard:05d}.parquet"


def _frames(log: Interactions, size: int) -> Iterator[pl.DataFrame]:
    """Yield the distinct pairs of a log in random order."""
    pairs = log.by_user.tocoo()
    order = np.random.default_rng(0).permutation(pairs.nnz)
    for start in range(0, pairs.nnz, size):
        some = order[start : start + size]
        yield pl.DataFrame({"user": pairs.row[some], "item": pairs.col[some]})


def _write_rows(
    frames: Iterable[pl.DataFrame], folder: Path, rows_per_shard: int, given: dict[str, int | None]
) -> tuple[list[int], dict[str, int]]:
    """Write the Parquet files; return their rows, and how many users and items there are."""
    most = {"user": -1, "item": -1}
    rows: list[int] = []
    waiting = pl.DataFrame(schema={"user": pl.Int32, "item": pl.Int32})
    for frame in itertools.chain(frames, [None]):
        if frame is not None:
            waiting = pl.concat([waiting, _checked(frame, given, most)])
        while len(waiting) >= rows_per_shard or (frame is None and len(waiting)):
            waiting[:rows_per_shard].write_parquet(folder / shard_name(len(rows)))
            rows.append(min(rows_per_shard, len(waiting)))
            waiting = waiting[rows_per_shard:]
    return rows, {noun: most[noun] + 1 if size is None else size for noun, size in given.items()}


def _checked(frame: pl.DataFrame, given: dict[str, int | None], most: dict[str, int]) -> pl.DataFrame:
    for noun, size in given.items():
        if noun not in frame.columns or not frame[noun].dtype.is_integer():
            raise ValueError(
                f"frames must have integer columns user and item, rows from 0; got {dict(frame.schema)}. A Vocabulary converts "
                "ids to rows."
            )
        if frame[noun].null_count():
            raise ValueError(f"{noun} rows must all be known, got {frame[noun].null_count()} that are missing")
        low, high = (int(end) for end in (frame[noun].min(), frame[noun].max())) if len(frame) else (0, -1)  # type: ignore[arg-type]
        limit = np.iinfo(np.int32).max if size is None else size
        if low < 0 or high >= limit:
            raise ValueError(f"{noun} rows must be in [0, {limit}), got {low if low < 0 else high}")
        most[noun] = max(most[noun], high)
    return frame.select(pl.col("user", "item").cast(pl.Int32))


def _write_arrays(folder: Path, num_shards: int, num_users: int) -> int:
    """Write users' items, ascending and distinct, as arrays for memory mapping; return the number of pairs."""
    counts_U = np.zeros(num_users, np.int64)
    for shard in range(num_shards):
        counts_U += np.bincount(pl.read_parquet(folder / shard_name(shard))["user"], minlength=num_users)
    places_U1 = np.concatenate([[0], np.cumsum(counts_U)])
    aside = folder / "unsorted.npy"
    unsorted = np.lib.format.open_memmap(aside, mode="w+", dtype=np.int32, shape=(int(places_U1[-1]),))
    free_U = places_U1[:-1].copy()
    for shard in range(num_shards):
        frame = pl.read_parquet(folder / shard_name(shard)).sort("user")
        users, items = frame["user"].to_numpy(), frame["item"].to_numpy()
        firsts = np.flatnonzero(np.diff(users, prepend=-1))
        within = np.arange(len(users)) - np.repeat(firsts, np.diff(firsts, append=len(users)))
        unsorted[free_U[users] + within] = items
        free_U[users[firsts]] += np.diff(firsts, append=len(users))
    num_pairs = 0
    for first, last in ranges(places_U1, 1 << 20):
        users, items = _distinct(unsorted, places_U1, first, last)
        counts_U[first:last] = np.bincount(users - first, minlength=last - first)
        unsorted[num_pairs : num_pairs + len(items)] = items  # never overwrites unread data
        num_pairs += len(items)
    if num_pairs > MOST_PAIRS:
        raise ValueError(f"shards hold at most {MOST_PAIRS:,} distinct pairs, got {num_pairs:,}; leave some users out")
    starts_U1 = np.concatenate([[0], np.cumsum(counts_U)]).astype(np.int32)
    np.save(folder / "starts.npy", starts_U1)
    maps = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(num_pairs,))
        for name, dtype in ARRAYS.items()
    }
    for first, last in ranges(starts_U1, 1 << 20):
        block = slice(int(starts_U1[first]), int(starts_U1[last]))
        maps["users"][block] = np.repeat(np.arange(first, last, dtype=np.int32), counts_U[first:last])
        maps["items"][block] = unsorted[block]
        maps["weights"][block] = 1
    for array in maps.values():
        array.flush()
    del unsorted
    aside.unlink()
    return num_pairs


def _distinct(unsorted: np.ndarray, places_U1: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return users and items of some users' rows, each pair once, ascending."""
    users = np.repeat(np.arange(first, last), np.diff(places_U1[first : last + 1]))
    pairs = np.unique(users << 32 | unsorted[places_U1[first] : places_U1[last]].astype(np.int64))
    return pairs >> 32, (pairs & 0xFFFFFFFF).astype(np.int32)
