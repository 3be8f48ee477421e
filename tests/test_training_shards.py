"""Logs larger than memory: shards hold what was written, are streamed in bounded memory, and refuse what is wrong."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from recsys_dl import evaluate
from recsys_dl.data.interactions import Interactions
from recsys_dl.models.gmf import GMF
from recsys_dl.training.pairs import LabeledLists
from recsys_dl.training.shards import ShardBatches, ShardPairs, Shards, write_shards

CPU = torch.device("cpu")


def some_log(num: int = 3000) -> Interactions:
    """Two tastes, with repeated pairs."""
    rng = np.random.default_rng(2)
    users = rng.integers(0, 100, num)
    items = 2 * rng.integers(0, 20, num) + users % 2
    return Interactions(users, items, num_users=103, num_items=41)


def frames(log: Interactions, size: int) -> list[pl.DataFrame]:
    whole = pl.DataFrame({"time": np.arange(len(log)), "user": log.users_N, "item": log.items_N.astype(np.int64)})
    return [whole[start : start + size] for start in range(0, len(log), size)]


def rows_of(shards: Shards) -> list[tuple[int, int]]:
    return [tuple(pair) for shard in range(len(shards.rows)) for pair in np.stack(shards.read(shard)).T.tolist()]


def test_interactions_become_their_distinct_pairs(tmp_path):
    log = some_log()
    shards = write_shards(log, tmp_path / "s", rows_per_shard=300)
    pairs = sorted(zip(*(part.tolist() for part in log.by_user.nonzero()), strict=True))
    rows = rows_of(shards)
    assert sorted(rows) == pairs
    assert rows != pairs  # in an order that was drawn
    assert set(shards.rows[:-1]) == {300}
    assert (shards.num_users, shards.num_items, len(shards)) == (103, 41, len(pairs))
    assert (shards.by_user != log.by_user.sign()).nnz == 0
    np.testing.assert_array_equal(shards.item_counts_I, log.item_counts_I)
    np.testing.assert_array_equal(shards.user_counts_U, log.user_counts_U)
    assert isinstance(shards.items_N, np.memmap)
    assert np.shares_memory(shards.by_user.indices, shards.items_N)
    assert Shards(tmp_path / "s").content_hash == shards.content_hash != Shards(tmp_path / "s", window=2).content_hash


@pytest.mark.parametrize("size", [1, 70, 5000])
def test_frames_are_written_as_they_come(tmp_path, size):
    log = some_log(500)
    shards = write_shards(iter(frames(log, size)), tmp_path / "s", rows_per_shard=64, num_users=103)
    assert rows_of(shards) == list(zip(log.users_N.tolist(), log.items_N.tolist(), strict=True))
    assert (shards.num_users, shards.num_items) == (103, log.items_N.max() + 1)
    assert (shards.by_user != log.by_user.sign()[:, : shards.num_items]).nnz == 0


def pairs_of(shards: Shards, **more) -> ShardPairs:
    return ShardPairs(shards, shards, num_negatives=3, negatives="uniform", seed=1, device=CPU, **more)


def batches(shards: Shards, rank: int = 0, world_size: int = 1, batch_size: int = 50) -> ShardBatches:
    made = ShardBatches(pairs_of(shards), batch_size, seed=4)
    made.rank, made.world_size = rank, world_size
    return made


def positives(lists: LabeledLists) -> list[tuple[int, int]]:
    return list(zip(lists.users_B.tolist(), lists.items_BL[:, 0].tolist(), strict=True))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_row_comes_once_and_each_process_reads_its_own(tmp_path, world_size, monkeypatch):
    shards = Shards(write_shards(some_log(), tmp_path / "s", rows_per_shard=100).folder, window=2)
    had = shards.by_user.toarray() > 0
    read, met, sums = [], [], np.zeros(16)
    original = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, shard: read.append(shard) or original(self, shard))
    for rank in range(world_size):
        mine = list(batches(shards, rank, world_size, batch_size=10**6))
        assert len(mine) == 16
        sums += [share.weight for share in mine]
        for share in mine:
            met += positives(share.batch)
            negatives = share.batch.items_BL[:, 1:]
            assert not had[share.batch.users_B[:, None], negatives].any()
    monkeypatch.undo()
    assert sorted(read) == list(range(len(shards.rows)))  # each once, by one process
    assert sorted(met) == sorted(rows_of(shards))
    np.testing.assert_allclose(sums, world_size)  # a step is the mean over its rows


def test_an_epoch_can_begin_at_any_step_and_each_has_an_order_of_its_own(tmp_path, monkeypatch):
    shards = Shards(write_shards(some_log(), tmp_path / "s", rows_per_shard=100).folder, window=2)
    stream = batches(shards)
    stream.seek(1)
    whole = list(stream)
    read = []
    original = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, shard: read.append(shard) or original(self, shard))
    for first in (1, 9, len(whole) - 1):
        read.clear()
        stream.seek(1, first)
        rest = list(stream)
        for one, two in zip(whole[first:], rest, strict=True):
            assert torch.equal(one.batch.items_BL, two.batch.items_BL)
            assert (one.weight, one.names) == (two.weight, two.names)
    assert len(read) <= 4  # what was past is not read again
    stream.seek(2)
    assert positives(next(iter(stream)).batch) != positives(whole[0].batch)


def test_only_a_window_is_read_at_a_time(tmp_path, monkeypatch):
    shards = Shards(write_shards(some_log(), tmp_path / "s", rows_per_shard=50).folder, window=3)
    assert len(shards.rows) > 12
    read = []
    original = Shards.read
    monkeypatch.setattr(Shards, "read", lambda self, shard: read.append(shard) or original(self, shard))
    stream, given = iter(batches(shards)), 0
    for share in stream:
        given += len(share.batch.users_B)
        assert len(read) * 50 <= given + 2 * 3 * 50
    first = positives(next(iter(batches(shards))).batch)
    window = batches(shards).shards_of(0, 0)[:3]
    inside = {tuple(pair) for shard in window for pair in np.stack(original(shards, shard)).T.tolist()}
    assert set(first) <= inside


def test_a_model_learns_from_shards_and_answers(tmp_path):
    log = some_log(1200)
    shards = write_shards(log, tmp_path / "s", rows_per_shard=100)
    model = GMF(embedding_size=8, batch_size=128, learning_rate=0.02, epochs=30, device="cpu").fit(shards)
    top = model.recommend(np.arange(100), 3, exclude=shards).items_BK
    assert (top % 2 == np.arange(100)[:, None] % 2).mean() > 0.9
    asked = Interactions([1, 2], [3, 4], num_users=103, num_items=41)
    assert evaluate(model, shards, asked, k=10).values == evaluate(model, log, asked, k=10).values
    model.save(tmp_path / "model")
    again = GMF.load(tmp_path / "model").recommend(np.arange(100), 3, exclude=shards)
    np.testing.assert_array_equal(again.items_BK, top)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"user": [0], "thing": [1]}, "must have integer columns user and item"),
        ({"user": ["a"], "item": [1]}, "must have integer columns user and item"),
        ({"user": [0, -1], "item": [1, 1]}, r"user rows must be in \[0, 10\), got -1"),
        ({"user": [0, 10], "item": [1, 1]}, r"user rows must be in \[0, 10\), got 10"),
        ({"user": [0, 1], "item": [1, None]}, "item rows must all be known, got 1 that are missing"),
        ({"user": [0], "item": [2**31]}, "item rows must be in"),
    ],
)
def test_wrong_frames_leave_nothing(tmp_path, frame, words):
    with pytest.raises(ValueError, match=words):
        write_shards([pl.DataFrame({"user": [0], "item": [0]}), pl.DataFrame(frame)], tmp_path / "s", num_users=10)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_write_and_folders_that_are_there(tmp_path):
    with pytest.raises(ValueError, match="at least one interaction"):
        write_shards([], tmp_path / "s")
    with pytest.raises(ValueError, match="rows_per_shard must be at least 1"):
        write_shards(some_log(), tmp_path / "s", rows_per_shard=0)
    write_shards(some_log(), tmp_path / "s")
    with pytest.raises(FileExistsError):
        write_shards(some_log(), tmp_path / "s")


def test_damaged_shards_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="must be written by write_shards"):
        Shards(tmp_path)
    shards = write_shards(some_log(), tmp_path / "s", rows_per_shard=500)
    with pytest.raises(ValueError, match="window must be at least 1"):
        Shards(tmp_path / "s", window=0)
    file = tmp_path / "s" / "shard-00001.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"shard-00001\.parquet is damaged"):
        shards.read(1)
    pl.DataFrame({"user": [1], "item": [2]}).write_parquet(file)
    with pytest.raises(ValueError, match="must have 500 rows, got 1"):
        shards.read(1)
    file.unlink()
    with pytest.raises(ValueError, match=r"shard-00001\.parquet is missing"):
        Shards(tmp_path / "s")
    file.write_bytes(whole)
    about = json.loads((tmp_path / "s" / "shards.json").read_text())
    (tmp_path / "s" / "shards.json").write_text(json.dumps(about | {"format": 9}))
    with pytest.raises(ValueError, match="format is 9"):
        Shards(tmp_path / "s")
    (tmp_path / "s" / "shards.json").write_text(json.dumps(about | {"pairs": 9}))
    with pytest.raises(ValueError, match="do not have the lengths"):
        Shards(tmp_path / "s")


def test_a_process_without_a_shard_is_told(tmp_path):
    shards = write_shards(some_log(), tmp_path / "s", rows_per_shard=10_000)
    with pytest.raises(ValueError, match="each of 2 processes needs its own shard, but there are 1"):
        next(iter(batches(shards, 0, 2)))
