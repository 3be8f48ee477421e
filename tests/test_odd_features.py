"""Feature tables as people have them: vectors in text, words for a missing value or among numbers, Python objects, unused columns."""

from __future__ import annotations

import logging

import pandas as pd
import polars as pl
import pytest

from recsys_dl import read_log
from recsys_dl.models import Content
from recsys_dl.readers.shard_files import ShardFiles

LOG = pl.DataFrame({"user": list("112233344"), "item": list("abacbcdda")})


@pytest.fixture(autouse=True)
def warnings_alone(caplog):
    caplog.set_level("WARNING", "recsys_dl")  # a command that ran in this process leaves it at INFO


def features(table: str | pd.DataFrame | pl.DataFrame, folder, **how) -> pl.DataFrame:
    """The features of items a, b, c and d, by a file or a frame."""
    if isinstance(table, str):
        (folder / "items.csv").write_text(table)
        table = folder / "items.csv"
    frame = read_log(LOG, item_features=table, **how).item_features
    assert frame is not None
    return frame


def cells(*texts: str | None) -> str:
    return "item,x\n" + "".join(f'{item},"{text}"\n' for item, text in zip("abcd", texts, strict=True))


@pytest.mark.parametrize(
    "texts",
    [
        ["[0.1, 0.2]", "[0.3, 0.4]", "[1, 2e-1]", "[]"],
        ["[0.1 0.2]", "[0.3\n 0.4]", "[1. 0.2]", ""],
        ["{0.1,0.2}", "{0.3,0.4}", "{1,0.2}", "NULL"],
        ["(0.1; 0.2)", "(0.3; 0.4)", "(1; 0.2)", "None"],
        ["[np.float64(0.1), np.float64(0.2)]", "[0.3, 0.4]", "[1, 0.2]", "nan"],
        ["array([0.1, 0.2], dtype=float32)", "tensor([0.3, 0.4])", "[1, 0.2]", ""],
    ],
)
def test_vectors_in_text_are_read_as_vectors(texts, tmp_path, caplog):
    caplog.set_level("INFO", "recsys_dl")
    assert features(cells(*texts), tmp_path)["x"].to_list() == [[0.1, 0.2], [0.3, 0.4], [1.0, 0.2], None]
    assert "x is read as vectors of 2 numbers; as lists of tags with item_lists={x: ','}" in caplog.text
    assert next(record for record in caplog.records if "as vectors" in record.message).always


def test_vectors_without_brackets_of_flags_and_in_json(tmp_path):
    bare = cells("0.1 0.2 0.3 0.4", "1 2 3 4", "0 0 0 1", "")
    assert features(bare, tmp_path)["x"].to_list()[1] == [1, 2, 3, 4]
    flags = cells("[0, 1, 0]", "[1, 0, 0]", "[1, 1, 0]", "[0, 0, 1]")
    assert features(flags, tmp_path)["x"].to_list()[0] == [0, 1, 0]
    (tmp_path / "items.jsonl").write_text(
        '{"item": "a", "x": [0.1, 0.2], "y": ["p", "q"]}\n{"item": "b", "x": [0.5, 0]}\n'
    )
    frame = read_log(LOG, item_features=tmp_path / "items.jsonl").item_features
    assert frame.head(2).to_dict(as_series=False) == {"x": [[0.1, 0.2], [0.5, 0.0]], "y": [["p", "q"], None]}


def test_lists_of_numbers_that_may_be_vectors_or_tags_are_said(tmp_path, caplog):
    for texts, why in (
        (("[0.1, 0.2]", "[0.1, 0.3]", "[0.1, 0.2, 0.3]", "[0.5, 0.5]"), "different lengths, such as 2 and 3"),
        (("[0.1, 0.2]", "[0.1, 0.3]", "oops", "[0.5, 0.5]"), "lists of numbers, but 'oops' in 1 row"),
        (
            ("[2, 2, 5]", "[3, 3, 1]", "[4, 4, 4]", "[7, 7, 1]"),
            "3 whole numbers a row, some of them repeated in one row",
        ),
    ):
        caplog.clear()
        assert features(cells(*texts), tmp_path).schema["x"] == pl.List(pl.String)
        assert f"x holds {why}" in caplog.text.replace("lists of numbers of d", "d")
        caplog.clear()
        assert features(cells(*texts), tmp_path, item_lists={"x": ","}).schema["x"] == pl.List(pl.String)
        assert not caplog.records
    data = read_log(LOG, item_features=pl.DataFrame({"item": list("abcd"), "x": [["1", "2"]] * 3 + [["2", "1"]]}))
    model = Content(kinds={"x": "vector"}).fit(data)
    assert model.dense_IE.shape == (4, 2)


@pytest.mark.parametrize("word", ["NULL", "NA", "N/A", "n/a", "None", "none", "nan", "NaN", "-", "(no genres listed)"])
def test_words_for_a_missing_value_are_no_value(word, tmp_path, caplog):
    assert features(cells(word, word, "Drama", "Drama"), tmp_path)["x"].to_list() == [None, None, "Drama", "Drama"]
    assert f"read as such: x ({word!r} in 2 rows); keep them as values with item_lists={{x: null}}" in caplog.text
    kept = features(cells(word, word, "Drama", "Drama"), tmp_path, item_lists={"x": None})
    assert kept["x"].to_list() == [word, word, "Drama", "Drama"]
    tags = features(cells(f"Drama|{word}", word, "Drama|War", "War"), tmp_path)
    assert tags["x"].to_list() == [["Drama"], None, ["Drama", "War"], ["War"]]
    numbers = features(cells("9.5", word, "9.6", "NaN"), tmp_path)
    assert numbers["x"].to_list() == [9.5, None, 9.6, None]
    frame = pl.DataFrame({"item": list("abcd"), "x": [word, "War", "War", None], "y": [1.0, float("nan"), 2.0, 3.0]})
    assert features(frame, tmp_path).row(0) == (None, 1.0)
    assert features(frame, tmp_path)["y"].to_list() == [1.0, None, 2.0, 3.0]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["9.5", "9.6", "free", "9.5"], "'free' for item 'c' (row 2 from 0, without header; 1 of 4 rows)"),
        (["9.5", "$9.99", "1", "9.5"], "'$9.99' for item 'b'"),
        (["$9.5", "$9.99", "$1", "$9.5"], "'$9.5' for item 'a' (row 0 from 0, without header; 4 of 4 rows)"),
        (["90%", "80", "1", "9.5"], "'90%' for item 'a'"),
        (["1,100", "1,200", "dear", "900"], "'dear' for item 'c'"),
    ],
)
def test_words_and_signs_among_numbers_are_said(texts, said, tmp_path, caplog):
    assert features(cells(*texts), tmp_path).schema["x"] == pl.String
    if said != "'dear' for item 'c'":
        assert f"x holds numbers, but {said}" in caplog.text
    else:
        assert "x holds numbers, but 'dear'" in caplog.text
    caplog.clear()
    features(cells("85123A", "22423", "84029G", "22752"), tmp_path, item_lists={"x": None})  # codes, said to be such
    assert not caplog.records


def test_numbers_of_a_frame_as_text_are_said(tmp_path, caplog):
    features(pl.DataFrame({"item": list("abcd"), "x": ["9.5", "9.6", "1", None]}), tmp_path)
    assert "x holds numbers written as text, such as '9.5'" in caplog.text


def test_python_objects_become_lists_or_text(tmp_path, caplog):
    frame = pd.DataFrame(
        {
            "item": list("abcd"),
            "mixed": [["x", "y"], "x", None, "x|y"],
            "sets": [{"y", "x"}, {"x"}, None, frozenset()],
            "tuples": [("x", "y"), ("x",), None, ()],
            "vectors": [(0.1, 0.2), (0.3, 0.4), None, (1.0, 0.0)],
            "scalars": [1, "x", 2.5, None],
            "dicts": [{"a": 1}, {"a": 2}, None, {"a": 1}],
        }
    )
    found = features(frame, tmp_path).to_dict(as_series=False)
    assert found["mixed"] == [["x", "y"], ["x"], None, ["x", "y"]]
    assert found["sets"] == [["x", "y"], ["x"], None, []]
    assert found["tuples"] == [["x", "y"], ["x"], None, []]
    assert found["vectors"] == [[0.1, 0.2], [0.3, 0.4], None, [1.0, 0.0]]
    assert found["scalars"] == ["1", "x", "2.5", None]
    assert found["dicts"][0] == "{'a': 1}"
    assert (
        "mixed holds lists and, in 2 rows, single values; each is read as a list of one, some are split at '|'"
        in caplog.text
    )


def test_columns_that_a_model_does_not_use_are_said(tmp_path, caplog):
    frame = pl.DataFrame({"item": list("abcd"), "g": ["x", "x", "y", "y"], "u": list("pqrs"), "v": ["k"] * 4})
    data = read_log(LOG, item_features=frame)
    caplog.clear()
    caplog.set_level(logging.WARNING)
    Content().fit(data)
    assert "item features not used: u (no value in 2 rows, each occurs once)" in caplog.text
    assert "v (" not in caplog.text
    with pytest.raises(ValueError, match=r"g \(no value in 9 rows, at most in 2: lower min_count=9\)"):
        Content(min_count=9).fit(data)
    with pytest.raises(ValueError, match=r"got g \(its weight is 0\)$"):
        Content(column_weights={"g": 0}).fit(read_log(LOG, item_features=frame.select("item", "g")))
    texts = pl.DataFrame(
        {"item": list("abcd"), "p": ["red car fast", "red car slow", "blue boat fast", "blue boat slow"]}
    )
    with pytest.raises(ValueError, match=r"its words are used with kinds=\{p: text\}"):
        Content().fit(read_log(LOG, item_features=texts))


def test_odd_numbers_and_vectors_are_named_by_their_item(tmp_path):
    for values, message in (
        (
            [1.0, 2.0, 1e308, 3.0],
            "finite numbers of at most 1e[+]30, or null where one is missing, got 1e[+]308 for item 'b'",
        ),
        ([1.0, 2.0, float("inf"), 3.0], "got inf for item 'b'"),
        ([[1.0], [2.0], [1.0, 2.0], [1.0]], "vectors of one length, 1, got one of 2 for item 'b'"),
        ([[1.0], [2.0], [float("nan")], [1.0]], "vectors of finite numbers, got nan for item 'b'"),
        ([[0.0]] * 4, "all its vectors are 0"),
    ):
        frame = pl.DataFrame({"item": list("dcba"), "x": values})
        with pytest.raises(ValueError, match=message):
            Content().fit(read_log(LOG, item_features=frame))
    large = pl.DataFrame({"item": list("abcd"), "x": [[1e200, 0.0], [0.0, 1e200], [1e200, 0.0], [1.0, 1.0]]})
    assert Content().fit(read_log(LOG, item_features=large)).similar_items([0], k=1).items_BK.tolist() == [[2]]


def test_shards_with_a_gap_or_of_another_format_are_said(tmp_path, caplog):
    for name in ("part-00000.parquet", "part-00002.parquet", "2024-01-01.parquet"):
        LOG.write_parquet(tmp_path / name)
    ShardFiles.find(tmp_path)
    assert "part-00001 is missing between part-00000 and part-00002" in caplog.text
    assert "not Parquet" not in caplog.text
    LOG.write_csv(tmp_path / "part-00001.csv")
    (tmp_path / "README.md").write_text("about")
    ShardFiles.find(tmp_path)
    assert "1 file is not Parquet and is not read, such as part-00001.csv" in caplog.text
    with pytest.raises(FileNotFoundError, match="other files are read by data=log"):
        ShardFiles.find(tmp_path / "part-00001.csv")
    with pytest.raises(FileNotFoundError, match="patterns are read by data=log"):
        ShardFiles.find(f"{tmp_path}/*.parquet")
