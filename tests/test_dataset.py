"""Datasets: parts fit each other, the hash knows all of them, a part of the log keeps what rides along."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
import pytest

from recsys_dl.data.dataset import Dataset, ReadReport, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary


@pytest.fixture
def data() -> Dataset:
    return Dataset(
        Interactions([0, 1], [1, 0], num_items=3),
        Vocabulary(["a", "b"]),
        Vocabulary(["x", "y", "z"]),
        user_features=pl.DataFrame({"age": [20, None]}),
        item_features=pl.DataFrame({"year": [1990, 2000, None]}),
        item_titles=pl.Series("title", ["X", None, "Z"]),
        item_texts=pl.Series("text", ["about x", "about y", None]),
    )


def test_the_hash_knows_every_part(data):
    others = [
        replace(data, users=Vocabulary(["a", "c"])),
        replace(data, items=Vocabulary(["x", "y", "w"])),
        replace(data, user_features=None),
        replace(data, user_features=pl.DataFrame({"age": [20.0, None]})),
        replace(data, user_features=pl.DataFrame({"years": [20, None]})),
        replace(data, item_titles=pl.Series("title", ["X", "Y", "Z"])),
        replace(data, item_texts=None),
        replace(data, histories=Interactions([0], [1], num_users=2, num_items=3)),
        data.with_interactions(data.interactions.select([0])),
    ]
    hashes = {other.content_hash for other in others}
    assert len(hashes) == len(others)
    assert data.content_hash not in hashes
    assert replace(data, name="other").content_hash == data.content_hash, "a name is not content"


def test_a_part_of_the_log_keeps_the_rest(data):
    part = data.with_interactions(data.interactions.select([1]))
    assert len(part) == 1
    assert (part.num_users, part.num_items) == (2, 3)
    assert part.item_titles is data.item_titles
    assert part.histories is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"users": Vocabulary(["a"])}, "interactions over 2 users need as many ids, got 1"),
        ({"items": Vocabulary(["x"])}, "interactions over 3 items need as many ids, got 1"),
        ({"user_features": pl.DataFrame({"age": [1]})}, "user_features must have one row for each of 2, got 1"),
        ({"item_titles": pl.Series(["X"])}, "item_titles must have one row for each of 3, got 1"),
        ({"histories": Interactions([0], [0])}, r"histories must be over the same 2 users and 3 items, got \(1, 1\)"),
    ],
)
def test_parts_must_fit(data, wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(data, **wrong)


def test_as_interactions(data):
    assert as_interactions(data) is data.interactions
    assert as_interactions(data.interactions) is data.interactions
    with pytest.raises(TypeError, match=r"got list. Use read_log\(\)"):
        as_interactions([[1, 2]])


def test_it_says_what_it_holds(data):
    assert repr(data) == (
        "Dataset(log: Interactions(2 of 2 users and 3 items), user_features, item_features, item_titles, item_texts)"
    )
    assert str(ReadReport(1_000)) == "0 of 1,000 rows skipped"
