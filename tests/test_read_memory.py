"""Several files as one log, and objects in memory."""

from __future__ import annotations

import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from test_read_layouts import rows_of, written

from recsys_dl import read_log
from recsys_dl.data.vocabulary import Vocabulary

# Several files


def test_several_files_are_one_log(tmp_path):
    one = written(tmp_path / "a 1.csv", "user,item,rating\n1,2,3\n")
    two = written(tmp_path / "b (2).csv", "rating,user,item\n4,2,2\n")
    wanted = [("1", "2", 3), ("2", "2", 4)]
    for source in ([one, two], [str(one), two], str(tmp_path / "*.csv"), tmp_path / "[ab]*.csv"):
        assert rows_of(read_log(source)) == wanted
    rest = written(tmp_path / "b (2).csv", "2,2,4\n2,5,x\n")
    with pytest.raises(ValueError, match=r"b \(2\).csv, line 2: weight must be"):
        read_log([one, rest])
    parquet = tmp_path / "c.parquet"
    pl.DataFrame({"user": [2], "item": [2], "rating": [4.0]}).write_parquet(parquet)
    assert rows_of(read_log([one, parquet])) == wanted
    with pytest.raises(
        ValueError, match=r"must have the same columns: .*a 1.csv has user, item, rating, .* has user, item"
    ):
        read_log([one, written(tmp_path / "d.csv", "user,item\n1,2\n")])
    with pytest.raises(FileNotFoundError, match="must match at least one file"):
        read_log(str(tmp_path / "*.tsv"))
    literal = written(tmp_path / "log[1].csv", "user,item\n8,9\n")
    assert rows_of(read_log(literal)) == [("8", "9", 1)]


def test_one_reading_of_times_holds_for_all_files(tmp_path):
    one = written(tmp_path / "1.csv", "user,item,date\n1,2,03/04/2020\n")
    two = written(tmp_path / "2.csv", "user,item,date\n1,2,03/14/2020\n")
    assert "month/day/year" in read_log([one, two]).report.columns
    with pytest.raises(ValueError, match="no row is unambiguous"):
        read_log([one, one])


def test_titles_from_the_log(tmp_path):
    file = written(tmp_path / "log.csv", "user,item,what\n1,5,Heat\n2,6,\n3,6,Alien\n3,5,Heat (1995)\n,7,Jaws\n")
    data = read_log(file, title="what", on_bad_rows="skip")
    assert data.items.ids.to_list() == ["5", "6"]
    assert data.item_titles.to_list() == ["Heat", "Alien"]
    assert read_log(file, on_bad_rows="skip").item_titles is None


# In memory

UUIDS = [uuid.UUID(int=n) for n in (1, 2)]
ROWS = [("1", "5", 3), ("2", "6", 4)]
TYPED = {
    "UUIDs": (pd.DataFrame({"user": UUIDS, "item": [5, 6], "rating": [3, 4]}), str(UUIDS[0])),
    "UUIDs in Polars": (pl.DataFrame({"user": pl.Series(UUIDS, dtype=pl.Object), "item": [5, 6]}), str(UUIDS[0])),
    "UUIDs in a dict": ({"user": UUIDS, "item": [5, 6]}, str(UUIDS[0])),
    "UUIDs in Arrow": (
        pa.table({"user": pa.array([u.bytes for u in UUIDS], pa.uuid()), "item": [5, 6]}),
        str(UUIDS[0]),
    ),
    "categories of numbers": (pd.DataFrame({"user": pd.Series([1, 2]).astype("category"), "item": [5, 6]}), "1"),
    "nullable integers": (pd.DataFrame({"user": pd.array([1, 2], "Int64"), "item": [5, 6]}), "1"),
    "periods as ids": (pd.DataFrame({"user": ["a", "b"], "item": [5, 6]}), "a"),
    "structured array": (np.array([(1, 5), (2, 6)], [("user", int), ("item", int)]), "1"),
    "dict of arrays": ({"user": np.array([1, 2]), "item": [5, 6]}, "1"),
    "dict of tensors": ({"user": torch.tensor([1, 2]), "item": torch.tensor([5, 6])}, "1"),
    "tuples": ([(1, 5), (2, 6)], "1"),
    "dicts": ([{"user": 1, "item": 5}, {"user": "2", "item": 6}], "1"),
    "index of two levels": (
        pd.DataFrame({"user": [1, 2], "item": [5, 6], "n": [1, 1]}).set_index(["user", "item"]),
        "1",
    ),
    "series": (pd.DataFrame({"user": [1, 2], "item": [5, 6], "n": [1, 1]}).set_index(["user", "item"])["n"], "1"),
}


@pytest.mark.parametrize("name", TYPED)
def test_typed_objects(name):
    source, user = TYPED[name]
    data = read_log(source)
    assert data.users.ids[0] == user
    assert data.items.ids.to_list() == ["5", "6"]


def test_typed_times_and_weights():
    weights = torch.tensor([1.5, 2.0], dtype=torch.bfloat16)
    data = read_log({"user": [1, 2], "item": [5, 6], "rating": weights})
    assert data.interactions.weights_N.tolist() == [1.5, 2]
    frame = pd.DataFrame({"user": [1, 2], "item": [5, 6], "date": pd.period_range("2020-01", periods=2, freq="M")})
    assert read_log(frame).interactions.times_N.tolist() == [1577836800, 1580515200]
    dates = pl.DataFrame({"user": [1], "item": [5]}).with_columns(rating=pl.lit("2020-01-01").str.to_date())
    with pytest.raises(ValueError, match="weights must be numbers, got a column of Date"):
        read_log(dates)


def test_objects_that_are_no_log():
    columns = pd.MultiIndex.from_tuples([("a", "user"), ("a", "item")])
    with pytest.raises(ValueError, match=r"got 2 levels \(a MultiIndex\). Join them first"):
        read_log(pd.DataFrame([[1, 2]], columns=columns))
    with pytest.raises(ValueError, match="must have the same length, got user: 1, item: 2"):
        read_log({"user": [1], "item": [1, 2]})
    with pytest.raises(ValueError, match="the same number of values in each"):
        read_log([(1, 2), (1, 2, 3)])
    with pytest.raises(TypeError, match="csr_matrix"):
        read_log(np.zeros((2, 2)))


def test_ids_of_tensors_and_missing_values():
    known = Vocabulary(["5", "6"], noun="item")
    assert known.find(torch.tensor([6, 5])).tolist() == [1, 0]
    assert known.find([torch.tensor(6)]).tolist() == [1]
    assert known.find([pd.NA, None, "5"]).tolist() == [-1, -1, 0]
    with pytest.raises(ValueError, match="must be whole, got 1.5"):
        known.find(torch.tensor([1.5], dtype=torch.bfloat16))
    with pytest.raises(ValueError) as caught:
        known.find([["x" * 100_000]])
    assert len(str(caught.value)) < 300
