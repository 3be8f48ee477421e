"""`data=shards`: a log worked through in blocks, from Parquet files, is the log that `data=log` reads: same rows, parts and results."""

import subprocess
import sys
from functools import partial

import numpy as np
import polars as pl
import pytest

from recsys_dl import evaluate, read_log
from recsys_dl.data.checks import leakage
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.filters import k_core
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.mapped import MappedInteractions
from recsys_dl.data.split import (
    cold_split,
    leave_last_out,
    no_split,
    random_split,
    seen_besides_test,
    time_split,
    user_split,
)
from recsys_dl.data.weights import binary, keep, log_scaled, scaled, time_decay
from recsys_dl.models import ALS, BPR, GMF, ItemKNN, Popularity
from recsys_dl.readers.shards import read_shards
from recsys_dl.training.shards import ShardPairs

BLOCK = 97  # interactions in memory, of the 2000 of the log


def frame(rows: int = 2000, *, seed: int = 0) -> pl.DataFrame:
    """Ratings of which some repeat, some twice within a second, in an order that is not that of time."""
    rng = np.random.default_rng(seed)
    users, items = (rng.integers(size, size=rows) ** 2 // size for size in (60, 90))
    seconds = 1_600_000_000 + rng.integers(5000, size=rows)
    table = pl.DataFrame(
        {
            "user_id": [f"u{user:03d}" for user in users],
            "item_id": items,
            "rating": rng.integers(1, 6, size=rows).astype(float),
            "timestamp": pl.Series(seconds * 1000 + rng.integers(1000, size=rows)).cast(pl.Datetime("ms")),
        }
    )
    return pl.concat([table, table[:20]])


def shards_of(table: pl.DataFrame, folder, *, size: int = 300) -> str:
    folder.mkdir()
    for number, start in enumerate(range(0, len(table), size)):
        table[start : start + size].write_parquet(folder / f"part-{number:05d}.parquet", row_group_size=70)
    (folder / "_SUCCESS").touch()
    return str(folder)


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Dataset, Dataset]:
    table, home = frame(), tmp_path_factory.mktemp("shards")
    mine = read_shards(shards_of(table, home / "logs"), cache=home / "cache", block=BLOCK)
    return mine, read_log(table)


def same(mine: Interactions, theirs: Interactions) -> bool:
    assert mine.content_hash == theirs.content_hash
    for one, two in ((mine.by_user, theirs.by_user), (mine.by_item, theirs.by_item)):
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in ("positions_by_user", "sequences"):
        for one, two in zip(getattr(mine, name), getattr(theirs, name), strict=True):
            np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(mine.item_counts_I, theirs.item_counts_I)
    return True


def test_the_log_is_the_same_and_is_mapped(both):
    mine, theirs = both
    assert isinstance(mine.interactions, MappedInteractions)
    assert len(mine) < 2020, "copies and repetitions are settled"
    assert mine.content_hash == theirs.content_hash
    assert same(mine.interactions, theirs.interactions)
    assert (mine.weight_kind, mine.report.copies, mine.report.repeats) == ("ratings", 20, "last")
    assert (mine.report.rows, mine.report.repeated) == (theirs.report.rows, theirs.report.repeated)


@pytest.mark.parametrize("repeats", ["keep", "first", "last", "mean", "sum"])
def test_repetitions_are_settled_alike(tmp_path, repeats):
    table = frame()
    mine = read_shards(shards_of(table, tmp_path / "logs"), cache=tmp_path / "cache", block=BLOCK, repeats=repeats)
    assert same(mine.interactions, read_log(table, repeats=repeats).interactions)


@pytest.mark.parametrize(
    "change",
    [
        keep,
        binary,
        partial(binary, threshold=4),
        scaled,
        partial(log_scaled, unit=2),
        partial(time_decay, half_life_days=0.01),
        partial(k_core, users=12, items=14),
        lambda data: k_core(binary(data, threshold=3), users=9, items=9),
    ],
)
@pytest.mark.parametrize(
    "split",
    [
        leave_last_out,
        partial(leave_last_out, num_validation=2, num_test=3, min_interactions=20),
        partial(random_split, seed=3),
        time_split,
        partial(time_split, validation=0.2, test=0.3),
        partial(user_split, seed=3, validation=0.2, test=0.3),
        partial(cold_split, seed=3),
        no_split,
    ],
)
def test_weights_filters_and_splits_are_the_same(both, change, split):
    mine, theirs = (split(change(data)) for data in both)
    for one, two in zip(mine, theirs, strict=True):
        assert one.content_hash == two.content_hash
    assert same(seen_besides_test(mine), seen_besides_test(theirs))
    for one, two in zip(mine, theirs, strict=True):
        assert same(one.seen, two.seen)
    one, two = (leakage(parts[0], parts[2], validation=parts[1]) for parts in (mine, theirs))
    assert str(one) == str(two)


@pytest.mark.parametrize(
    "model", [Popularity(), ALS(embedding_size=8, epochs=2), BPR(embedding_size=8, epochs=2), ItemKNN()]
)
def test_models_and_figures_are_the_same(both, model, tmp_path):
    figures, fitted = [], []
    for data in both:
        train, validation, test = leave_last_out(data)
        fitted.append(
            {
                name: np.copy(array) if isinstance(array, np.ndarray) else array
                for name, array in model.fit(train).arrays().items()
            }
        )
        figures.append(evaluate(model, train, test, k=10, exclude=validation).to_dict())
    assert figures[0] == figures[1]
    for name, array in fitted[0].items():
        assert (array != fitted[1][name]).sum() == 0, name


def test_a_neural_model_streams_every_pair_once_an_epoch(both, monkeypatch):
    train = leave_last_out(both[0]).train
    model = GMF(embedding_size=8, epochs=2, batch_size=64, learning_rate=0.02, device="cpu")
    met: list[tuple[int, int]] = []
    original = ShardPairs.lists

    def lists(self, users_G, items_G, *args, **more):
        met.extend(zip(users_G.tolist(), items_G.tolist(), strict=True))
        return original(self, users_G, items_G, *args, **more)

    monkeypatch.setattr(ShardPairs, "lists", lists)
    model.fit(train)
    pairs = sorted(zip(*train.interactions.by_user.nonzero(), strict=True))
    assert sorted(met[: len(pairs)]) == sorted(met[len(pairs) :]) == pairs
    assert met[: len(pairs)] != met[len(pairs) :]
    again = GMF(**model.arguments()).fit(train)
    np.testing.assert_array_equal(again.user_state_US, model.user_state_US)
    assert model.losses[1] < model.losses[0]


def test_a_model_that_reads_the_whole_log_says_so(both, caplog):
    train = leave_last_out(both[0]).train
    ALS(embedding_size=4, epochs=1).fit(train)
    assert "whole log" not in caplog.text
    ItemKNN().fit(train)
    assert "ItemKNN reads the whole log into memory" in caplog.text


def test_what_was_prepared_is_found_again_and_not_after_a_change(tmp_path, monkeypatch, caplog):
    table = frame(500)
    folder = shards_of(table, tmp_path / "logs")
    read = partial(read_shards, folder, cache=tmp_path / "cache", block=BLOCK)
    first = read()
    with monkeypatch.context() as patch:
        patch.setattr("recsys_dl.readers.shards.read_rows", lambda *args, **more: pytest.fail("read again"))
        again = read()
    assert again.content_hash == first.content_hash
    assert again.report == first.report
    table[:400].write_parquet(tmp_path / "logs" / "part-00000.parquet")
    assert len(read()) > 0
    assert read().content_hash != first.content_hash


def test_a_killed_preparation_leaves_nothing(tmp_path):
    folder = shards_of(frame(), tmp_path / "logs")
    code = (
        "import os, sys, recsys_dl.data.mapped as m; from recsys_dl.readers import shards; calls = []\n"
        "def stop(*a, **k):\n  calls.append(1); os._exit(9) if len(calls) == int(sys.argv[3]) else None; return real(*a, **k)\n"
        "real = m.close_log; m.close_log = stop\n"
        "shards.read_shards(sys.argv[1], cache=sys.argv[2], block=97)"
    )
    whole = read_shards(folder, cache=tmp_path / "other", block=BLOCK).content_hash
    for stop in ("1", "2"):
        died = subprocess.run([sys.executable, "-c", code, folder, str(tmp_path / "cache"), stop], check=False)
        assert died.returncode == 9
        assert not list((tmp_path / "cache").rglob("prepared.json"))
    assert read_shards(folder, cache=tmp_path / "cache", block=BLOCK).content_hash == whole
    assert not list((tmp_path / "cache").rglob("*.partial"))


def test_a_damaged_cache_is_refused(tmp_path):
    folder = shards_of(frame(500), tmp_path / "logs")
    read_shards(folder, cache=tmp_path / "cache", block=BLOCK)
    column = next((tmp_path / "cache").rglob("items.int32"))
    column.write_bytes(column.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is damaged .* remove"):
        read_shards(folder, cache=tmp_path / "cache", block=BLOCK)


def test_bad_folders_are_refused_with_the_file_and_the_column(tmp_path):
    def read(name: str, **more) -> Dataset:
        return read_shards(tmp_path / name, cache=tmp_path / "cache", **more)

    table = frame(600)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read("nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "log.csv").touch()
    with pytest.raises(FileNotFoundError, match=r"must hold Parquet files .* but holds log\.csv"):
        read("empty")
    shards_of(table, tmp_path / "cut")
    file = tmp_path / "cut" / "part-00001.parquet"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"part-00001\.parquet is truncated, or not a Parquet file"):
        read("cut")
    shards_of(table, tmp_path / "torn")  # within a row group; the footer is whole
    file = tmp_path / "torn" / "part-00001.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])
    with pytest.raises(ValueError, match=r"part-00001\.parquet is truncated"):
        read("torn")
    shards_of(table, tmp_path / "other")
    table[:9].drop("item_id").write_parquet(tmp_path / "other" / "part-00002.parquet")
    with pytest.raises(ValueError, match=r"part-00002\.parquet must have the column 'item_id'"):
        read("other")
    table[:9].cast({"item_id": pl.String}).write_parquet(tmp_path / "other" / "part-00002.parquet")
    with pytest.raises(ValueError, match=r"part-00002\.parquet: the column 'item_id' must hold whole numbers .* text"):
        read("other")
    table[:9].with_columns(rating=pl.lit(-1.0)).write_parquet(tmp_path / "other" / "part-00002.parquet")
    with pytest.raises(ValueError, match=r"part-00002\.parquet, row 0 .*: weight must be a number"):
        read("other")
    assert read("other", on_bad_rows="skip").report.skipped == {"with a bad weight": 9}
    (tmp_path / "dask").mkdir()
    for number in (0, 2):
        table.write_parquet(tmp_path / "dask" / f"part.{number}.parquet")
    with pytest.raises(FileNotFoundError, match=r"lacks the shard .*part\.1\.parquet"):
        read("dask")
    (tmp_path / "cut" / "_temporary").mkdir()
    (tmp_path / "cut" / "_temporary" / "0").touch()
    with pytest.raises(ValueError, match="its writer has not finished"):
        read("cut")
    with pytest.raises(ValueError, match="must not hold credentials"):
        read_shards("s3://key:secret@bucket/logs")
    with pytest.raises(ValueError, match="must be a folder on this machine, or an address"):
        read_shards("nosuch://bucket/logs")


def test_any_fsspec_address(tmp_path):
    import fsspec

    table = frame(500)
    shards_of(table, tmp_path / "logs")
    fsspec.filesystem("memory").put(str(tmp_path / "logs"), "/logs", recursive=True)
    mine = read_shards("memory://logs", cache=tmp_path / "cache", block=BLOCK)
    assert mine.content_hash == read_log(table).content_hash


def test_files_are_read_in_the_order_of_their_numbers(tmp_path):
    table = frame(550).with_columns(pl.lit("US").alias("country"))
    (tmp_path / "logs" / "country=US").mkdir(parents=True)
    for number in range(11):
        table[number * 50 : number * 50 + 50].write_parquet(tmp_path / "logs" / "country=US" / f"part.{number}.parquet")
    mine = read_shards(tmp_path / "logs", cache=tmp_path / "cache", block=BLOCK)
    assert mine.content_hash == read_log(table[:550]).content_hash


@pytest.mark.parametrize("free", [4, 24, 60, 100])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, free):
    folder = shards_of(frame(), tmp_path / "logs")
    whole = leave_last_out(read_log(frame()))
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("a small file system cannot be mounted here (that takes root)")
    try:
        (disk / "else").write_bytes(bytes((512 - free) << 10))
        with pytest.raises(OSError, match="the disk is full: nothing was written to .*/disk/cache"):
            leave_last_out(read_shards(folder, cache=disk / "cache", block=BLOCK)).train.interactions.by_item  # noqa: B018
        (disk / "else").unlink()
        parts = leave_last_out(read_shards(folder, cache=disk / "cache", block=BLOCK))
        assert [part.content_hash for part in parts] == [part.content_hash for part in whole]
        assert not list((disk / "cache").rglob("*.partial"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
