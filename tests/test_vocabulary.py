"""Vocabularies: ids are text, exactly; rows and ids lead to each other; what is no id is refused."""

from __future__ import annotations

import uuid

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_dl.data.vocabulary import Vocabulary, as_text

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(texts, unique=True, max_size=30), st.lists(texts, max_size=10))
def test_rows_and_ids_lead_to_each_other(ids, others):
    vocabulary = Vocabulary(ids)
    assert vocabulary.at(vocabulary.rows(ids)).to_list() == ids
    assert vocabulary.find(ids).tolist() == list(range(len(ids)))
    assert vocabulary.find(ids).dtype == np.int32
    wanted = [ids.index(value) if value in ids else -1 for value in others]
    assert vocabulary.find(others).tolist() == wanted
    assert [value in vocabulary for value in others] == [value in ids for value in others]


@given(st.lists(texts, unique=True, max_size=20), st.lists(texts, max_size=20))
def test_growing_keeps_rows_and_appends_the_unknown_once_in_order(ids, more):
    grown = Vocabulary(ids, noun="item").grow(more)
    fresh = [value for value in dict.fromkeys(more) if value not in ids]
    assert grown.ids.to_list() == ids + fresh
    assert grown.noun == "item"


def test_few_and_many_lookups_agree():
    """Few are searched in the sorted ids, many are joined."""
    ids = pl.Series(np.random.default_rng(1).permutation(5_000)).cast(pl.String)
    vocabulary = Vocabulary(ids)
    wanted = np.arange(-100, 5_100)
    many = vocabulary.find(wanted)
    few = np.concatenate([vocabulary.find(part) for part in np.array_split(wanted, 20)])
    assert (many == few).all()
    assert (ids.gather(many[many >= 0]).cast(pl.Int64).to_numpy() == wanted[many >= 0]).all()
    assert (many < 0).sum() == 200


@pytest.mark.parametrize(
    "ids",
    [
        ["196", "22", "7"],
        [196, 22, 7],
        [196.0, 22.0, 7.0],
        ["196", 22, 7.0],
        (np.int64(196), np.float32(22), "7"),
        np.array([196, 22, 7], np.uint16),
        np.array([196.0, 22.0, 7.0]),
        np.array(["196", "22", "7"]),
        np.array(["196", 22, 7.0], object),
        pl.Series([196, 22, 7]),
        pl.Series(["196", "22", "7"], dtype=pl.Categorical),
        pl.Series(["196", 22, 7], dtype=pl.Object),
        [b"196", b"22", b"7"],
        iter(["196", "22", "7"]),
    ],
    ids=lambda ids: f"{type(ids).__name__}-{getattr(ids, 'dtype', '')}",
)
def test_integers_and_text_name_the_same(ids):
    assert as_text(ids).to_list() == ["196", "22", "7"]


def test_text_is_kept_exactly():
    ids = ["007", "7", " 7", "7.0", "é", "e\u0301", "nan", "NULL", "a,b", "\U0001f600", "x" * 100_000]
    vocabulary = Vocabulary(ids)
    assert vocabulary.ids.to_list() == ids
    assert vocabulary.find([7, "007"]).tolist() == [1, 0]


def test_other_kinds_of_ids():
    key = uuid.UUID(int=5)
    assert as_text([key]).to_list() == [str(key)]
    assert as_text([2**70]).to_list() == [str(2**70)]
    assert as_text([True]).to_list() == as_text(np.array([True])).to_list() == ["true"]
    assert as_text([]).to_list() == as_text(np.array([])).to_list() == []
    missing = [None, float("nan"), np.nan]
    assert as_text(missing).null_count() == as_text(np.array([np.nan] * 3)).null_count() == 3


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("196", r"ids must be a list, got the single value '196'; write \['196'\]"),
        ([1.5], "must be whole, got 1.5"),
        (np.array([1.0, 2.5]), "must be whole, got 2.5"),
        (np.array([np.inf]), "must be whole, got inf"),
        (np.array([1e30]), "must be whole"),
        ([["a"]], r"ids must be text or numbers, got \['a'\]"),
        (pl.Series([["a"]]), "got a column of List"),
        ([b"\xff"], "not UTF-8"),
        (pl.Series([b"\xff"]), "not UTF-8"),
    ],
)
def test_what_is_no_id_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        as_text(ids)


def test_ids_must_be_there_and_distinct():
    with pytest.raises(ValueError, match="every user must have an id, got a missing one at row 1"):
        Vocabulary(["a", None], noun="user")
    with pytest.raises(ValueError, match="item ids must be distinct, got 'a' more than once"):
        Vocabulary(["a", "b", "a"], noun="item")
    with pytest.raises(ValueError, match="got '7' more than once"):
        Vocabulary([7, "7"])


def test_an_unknown_id_is_named_with_what_to_do():
    vocabulary = Vocabulary(["a", "b"], noun="user")
    with pytest.raises(ValueError, match=r"user 'x' is not among the 2 known users, such as .* \(2 unknown in total\)"):
        vocabulary.rows(["a", "x", "y"])


def test_missing_and_padding():
    vocabulary = Vocabulary(["a", "b"])
    assert vocabulary.find([None, "a", float("nan")]).tolist() == [-1, 0, -1]
    assert vocabulary.at(np.array([[1, -1], [0, 0]])).to_list() == ["b", None, "a", "a"]
    assert Vocabulary([]).find(["a"]).tolist() == [-1]
    assert Vocabulary(["a"]).find([]).tolist() == []


def test_the_hash_knows_ids_order_and_where_one_ends():
    assert Vocabulary(["ab", "c"]).content_hash != Vocabulary(["a", "bc"]).content_hash
    assert Vocabulary(["a", "b"]).content_hash != Vocabulary(["b", "a"]).content_hash
    assert Vocabulary([1, 2]).content_hash == Vocabulary(["1", "2"]).content_hash


def test_saved_and_loaded(tmp_path):
    vocabulary = Vocabulary(["007", "é", "7"], noun="item")
    vocabulary.save(tmp_path / "items.parquet")
    again = Vocabulary.load(tmp_path / "items.parquet", noun="item")
    assert again.content_hash == vocabulary.content_hash
    assert again.noun == "item"
