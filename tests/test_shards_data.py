"""`data=shards`: a log worked through in blocks, from Parquet files, is the log that `data=log` reads: same rows, parts and results."""

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
from recsys_dl.models import ALS, BPR, ItemKNN, Popularity
from recsys_dl.readers.shards import read_shards

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
