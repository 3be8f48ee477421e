"""Bad logs get an error that says what must hold, what came and where, and what to do; or are skipped and counted."""

from __future__ import annotations

import csv
import gzip
import logging
import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

from recsys_dl import read_log
from recsys_dl.readers import text_files
from recsys_dl.readers.side_tables import read_table

HEAD = "user,item,rating,timestamp\n"
GOOD = "a,x,1,10\nb,y,2,20\n"


def error_of(file: Path, content: str | bytes, kind: type[Exception] = ValueError, **options) -> str:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(kind) as caught:
        read_log(file, **options)
    assert str(file) in str(caught.value), "the message must name the file"
    return str(caught.value)


# Files


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("log.csv", b"", ["it is empty"]),
        ("log.csv", b"\n \r\n\n", ["it is empty"]),
        ("log.csv", HEAD.encode(), ["must hold at least one interaction", "it has none"]),
        ("log.csv", HEAD.strip().encode(), ["must hold at least one interaction"]),
        ("log.csv", bytes(range(1, 255)) + b"\0\0", ["it is binary", "zero byte at position 255"]),
        ("log.csv", b"PK\x03\x04rest", ["is a zip archive; unpack it first"]),
        ("log.csv", b"BZh9rest", ["is bzip2-compressed; unpack it first"]),
        ("log.csv.gz", gzip.compress(os.urandom(999))[:500], ["damaged or truncated"]),
        ("log.csv.zst", pa.compress(HEAD.encode() * 999, "zstd", asbytes=True)[:-9], ["damaged or truncated"]),
        ("log.parquet", b"PAR1 and then nothing", ["damaged or truncated", "download or write it again"]),
        ("log.parquet", b"a,b\n1,2\n", ["does not hold parquet data", "starts with b'a,b"]),
        ("log.arrow", b"ARROW1\0\0 and then nothing", ["damaged or truncated"]),
        ("log.feather", b"FEA1", ["does not hold feather data"]),
        ("log.csv", "user,item\nü,x\n".encode("utf-16-le"), ["it is binary", 'encoding="utf-16-le"']),
    ],
)
def test_files_that_hold_no_log(name, content, parts, tmp_path):
    message = error_of(tmp_path / name, content)
    for part in parts:
        assert part in message


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path):
    (tmp_path / "rating.csv").write_text(HEAD + GOOD)
    with pytest.raises(FileNotFoundError, match=r"ratings.csv must be a log.*does not exist.* holds rating.csv"):
        read_log(tmp_path / "ratings.csv")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_log(str(tmp_path / "nowhere" / "ratings.csv"))
    with pytest.raises(ValueError, match=r"it is a folder; name the file.* holds rating.csv"):
        read_log(tmp_path)
    with pytest.raises(FileNotFoundError, match="must be a table"):
        read_table(tmp_path / "movies.csv")
    for name in ("a.inter", "b.inter"):
        (tmp_path / name).write_text("user_id:token\titem_id:token\n1\t2\n")
    with pytest.raises(ValueError, match=r"holds several logs: a.inter, b.inter; name one"):
        read_log(tmp_path)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who can be refused a file; root reads all"
)
def test_a_file_that_may_not_be_read(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text(HEAD + GOOD)
    file.chmod(0)
    with pytest.raises(ValueError, match="cannot be read: Permission denied; check its permissions"):
        read_log(file)


@pytest.mark.parametrize("lost", [1, 20, 200, 2_000])
def test_a_parquet_file_cut_short_anywhere(lost, tmp_path):
    file = tmp_path / "log.parquet"
    pl.DataFrame({"user": np.arange(5_000), "item": np.arange(5_000)}).write_parquet(file)
    message = error_of(file, file.read_bytes()[:-lost])
    assert "damaged or truncated" in message


def test_a_parquet_file_with_a_damaged_page(tmp_path):
    file = tmp_path / "log.parquet"
    pl.DataFrame({"user": np.arange(50_000), "item": np.arange(50_000)}).write_parquet(file, compression="zstd")
    content = bytearray(file.read_bytes())
    content[40:4_000] = bytes(3_960)
    assert "damaged or truncated" in error_of(file, bytes(content))


@pytest.mark.parametrize("source", [None, 5, {}, [], [["a", "x"]], np.zeros((2, 2))])
def test_what_is_no_source_at_all(source):
    with pytest.raises(TypeError, match=f"a log must be a path to .*, got {type(source).__name__}"):
        read_log(source)


def test_empty_frames_and_matrices():
    empty = pl.DataFrame({"user": [], "item": []})
    for source in (empty, empty.to_pandas(), empty.to_arrow()):
        with pytest.raises(ValueError, match="must hold at least one interaction, but it has none"):
            read_log(source)
    with pytest.raises(ValueError, match="a matrix without stored entries"):
        read_log(sp.csr_matrix((3, 3)))


# Columns


@pytest.mark.parametrize(
    ("header", "options", "parts"),
    [
        ("who,what,rating", {}, ["'who', 'what', 'rating'", "none is recognized as the user", "user='who'"]),
        ("user,movie,book", {}, ["'movie', 'book' could all be the item", "item='movie'"]),
        ("user,item,rating,score", {}, ["could all be the weight", "weight='rating'", "weight=False"]),
        ("user,item,time,date", {}, ["could all be the time", "time=False"]),
        ("who,item", {"user": "whom"}, ["user='whom' does not exist", "'who', 'item'"]),
        ("user,item", {"user": 2}, ["user=2 must be a position among the 2 columns"]),
        (
            "user,item",
            {"user": "item", "item": "item"},
            ["each role needs its own column", "user='item', item='item'"],
        ),
        ("user,item,item", {"item": "item"}, ["item='item' occurs more than once"]),
        ("user,item", {"weight": True}, ["none is recognized as the weight"]),
    ],
)
def test_columns_missing_or_ambiguous(header, options, parts, tmp_path):
    row = ",".join("1" * (header.count(",") + 1))
    message = error_of(tmp_path / "log.csv", f"{header}\n{row}\n", **options)
    for part in parts:
        assert part in message


def test_too_many_columns_without_names(tmp_path):
    message = error_of(tmp_path / "log.csv", "1,2,3,4,5\n6,7,8,9,0\n")
    assert "has no header and 5 columns, its first row is: 1, 2, 3, 4, 5" in message
    assert "user=0, item=1, weight=3" in message


@pytest.mark.parametrize(
    ("content", "separator", "advice"),
    [
        ("user;item;rating\n1;2;3\n", ",", "separator=';'"),
        ("1::2::3\n4::5::6\n", ",", "separator='::'"),
        ("user\titem\n1\t2\n", ";", r"separator='\t'"),
        ("user,item\n1,2\n", "\\t", "separator=','"),
        ("user\n1\n", ",", "check the file and the separator"),
        ("user\n1\n", None, "seems to have only one column, its first line is 'user'"),
    ],
)
def test_a_wrong_separator_names_the_one_that_would_split(content, separator, advice, tmp_path):
    assert advice in error_of(tmp_path / "log.csv", content, separator=separator)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad_rows": "drop"}, 'on_bad_rows must be "error" or "skip", got \'drop\''),
        ({"time_unit": "min"}, "time_unit must be one of s, ms, us, ns, got 'min'"),
        ({"title": "name"}, "title='name' does not exist"),
        ({"text": "plot"}, "text applies to item_features, which is not given: set it too"),
        ({"decimal": ";"}, 'decimal must be "." or ","'),
        ({"quote": "''"}, "quote must be one character"),
        ({"time_format": "day first"}, 'time_format must be a format such as "%d/%m/%Y %H:%M"'),
    ],
)
def test_options(options, message, tmp_path):
    (tmp_path / "log.csv").write_text(HEAD + GOOD)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_log(tmp_path / "log.csv", **options)


def test_encodings(tmp_path):
    file = tmp_path / "log.csv"
    assert 'encoding="latin-1"' in error_of(file, "user,item\nJosé,x\n".encode("latin-1"))
    assert read_log(file, encoding="latin-1").users.ids.to_list() == ["José"]
    with pytest.raises(ValueError, match="encoding must be one known to Python.*got 'latin-99'"):
        read_log(file, encoding="latin-99")
    assert "is not entirely ascii" in error_of(file, "user,item\nJosé,x\n", encoding="ascii")


# Side tables


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (
            {"item": ["x", "x"], "year": [1, 2]},
            {},
            r"row 1 \(from 0, without header\): has the item id 'x', which occurred before",
        ),
        ({"item": ["x", None]}, {}, r"row 1 .*: has no item id"),
        (
            {"nr": ["x"], "title": ["X"]},
            {},
            r"must have a column of item ids, named as in the log \('item'\).* nr, title",
        ),
        ({"item": ["x"]}, {"title": "name"}, "title='name' does not exist"),
        ({"item": ["x"], "title": ["X"], "name": ["X"]}, {}, "could all be the title"),
    ],
)
def test_wrong_side_tables(table, options, message):
    with pytest.raises(ValueError, match=message):
        read_log(pl.DataFrame({"user": ["a"], "item": ["x"]}), item_features=pl.DataFrame(table), **options)


def test_bad_rows_of_side_tables_can_be_skipped(tmp_path, caplog):
    log = pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"]})
    file = tmp_path / "items.csv"
    file.write_text("item,year\nx,1990\nx,1991\n,1992\ny,1993,more\n")
    with pytest.raises(ValueError, match=r"items.csv, line 5: has 3 fields, expected 2"):
        read_log(log, item_features=file)
    with caplog.at_level(logging.INFO, "recsys_dl"):
        data = read_log(log, item_features=file, on_bad_rows="skip")
    assert data.item_features.to_dict(as_series=False) == {"year": [1990, None]}
    assert "1 unreadable row skipped, such as line 5" in caplog.text
    assert "2 bad rows" in caplog.text


# What is unusual but right


def test_small_and_strange_logs_are_fine(tmp_path):
    file = tmp_path / "log.csv"
    for content, users, items in (
        ("user,item\na,x\n", ["a"], ["x"]),
        ("user,item\na,x\na,y\na,x\n", ["a"], ["x", "y"]),
        ("user,item\na,x\nb,x", ["a", "b"], ["x"]),
        ('user,item\na,5" disk\nb,x\n', ["a", "b"], ['5" disk', "x"]),
        ("user,item,\na,x,\n", ["a"], ["x"]),
        ("user,item\ra,x\rb,y\r", ["a", "b"], ["x", "y"]),
        ("user,item\n1,2\nx,2.0\n01,2\n", ["1", "x", "01"], ["2"]),
        ("user,item\n1,2\nx,2.0\n01,b\n", ["1", "x", "01"], ["2", "2.0", "b"]),
    ):
        file.write_bytes(content.encode())
        data = read_log(file)
        assert data.users.ids.to_list() == users
        assert data.items.ids.to_list() == items


def test_a_stray_quote_does_not_swallow_the_rest(tmp_path, monkeypatch):
    """Quotes are then out of step with the fields all through the file, whichever block is read."""
    for name, value in (("CHUNK_BYTES", 50), ("SLOW_BYTES", 20), ("QUOTED_BYTES", 200)):
        monkeypatch.setattr(text_files, name, value)
    file = tmp_path / "log.csv"
    rows = ['a,5" disk,1\n', *['b,"x, y",2\n', "c,z,3\n"] * 50]
    file.write_text("user,item,rating\n" + "".join(rows))
    data = read_log(file)
    assert data.items.ids.to_list() == ['5" disk', "x, y", "z"]
    assert len(data) == 101
    file.write_text("user,item,rating\n" + "".join(rows) + "d,z,-3\n")
    assert "line 103: weight must be" in error_of(file, file.read_bytes())


@pytest.mark.parametrize("bad_row", ["", "b,y,2,more\n"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_very_long_lines(bad_row, quote, tmp_path):
    """Far beyond what the csv module takes by default, also where a bad row makes each line be looked at."""
    long = "x" * 1_000_000
    file = tmp_path / "log.csv"
    file.write_text(f"user,item,rating\na,{quote}{long}{quote},1\n{bad_row}b,y,2\n")
    data = read_log(file, on_bad_rows="skip")
    assert data.items.ids.to_list() == [long, "y"]
    assert csv.field_size_limit() < 1_000_000, "the limit of the process is as it was"
    if bad_row:
        with pytest.raises(ValueError, match="line 3: has 4 fields, expected 3"):
            read_log(file)
