"""Layouts of files and objects in memory: each is read rightly, and stated, or refused with what converts it."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
from processes import command

from recsys_dl import read_log
from recsys_dl.readers import text_files


def rows_of(data) -> list[tuple]:
    log = data.interactions
    columns = [data.users.at(log.users_N).to_list(), data.items.at(log.items_N).to_list(), log.weights_N.tolist()]
    return list(zip(*columns, *([] if log.times_N is None else [log.times_N.tolist()]), strict=True))


def written(file: Path, content: str | bytes) -> Path:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


# What is said


def test_one_line_says_which_columns_were_read_as_what(tmp_path, caplog):
    file = written(tmp_path / "log.csv", "userId,movieId,rating,timestamp,tag\n1,2,3,881250949,x\n")
    with caplog.at_level(logging.INFO, "recsys_dl"):
        line = read_log(file).report.columns
    assert line in caplog.text
    assert "\n" not in line
    for part in ("user = userId", "item = movieId", "weight = rating", "time = timestamp (seconds since 1970", "tag"):
        assert part in line
    assert "no weight" in read_log(file, weight=False).report.columns
    assert "user = column_0" in read_log(written(tmp_path / "plain", "1 2\n3 4\n")).report.columns


def test_the_command_prints_the_line_and_leaves_it_in_the_log_of_the_run(tmp_path):
    rows = "".join(f"{user},{item},{item}\n" for user in range(9) for item in range(user, user + 20))
    written(tmp_path / "log.csv", f"user,item,ts\n{rows}")
    line = "user = user, item = item, no weight: each row counts 1, time = ts (numbers from 0 to 27, used as an order)"
    assert line in command("train", "model=popularity", "data=log", "data.path=log.csv", "run=one", cwd=tmp_path).stderr
    assert line in (tmp_path / "one/run.log").read_text()
    assert line in command("evaluate", "run=one", cwd=tmp_path).stderr


@pytest.mark.parametrize(
    "header", ["userId,itemId,value,ts", "cust_id,product_id,quantity,event_time", "usr_id,sku,count,day"]
)
def test_more_names_are_known(header, tmp_path):
    assert rows_of(read_log(written(tmp_path / "l.csv", f"{header}\na,x,2,5\n"))) == [("a", "x", 2, 5)]


@pytest.mark.parametrize("name", ["clicks", "plays", "play_count", "views", "qty", "hours", "Book-Rating", "frequency"])
def test_names_of_weights(name, tmp_path):
    assert rows_of(read_log(written(tmp_path / "l.csv", f"user,item,{name}\na,x,2\n"))) == [("a", "x", 2)]


def test_a_rating_comes_before_a_count_and_two_counts_are_asked_for():
    frame = pl.DataFrame({"user": [1], "item": [1], "count": [7], "rating": [3], "value": [9]})
    data = read_log(frame)
    assert data.interactions.weights_N.tolist() == [3]
    assert "ignored: count" in data.report.columns
    with pytest.raises(ValueError, match="'count', 'value' could all be the weight"):
        read_log(frame.drop("rating"))


@pytest.mark.parametrize("name", ["usr_idd", "useer", "customr", "User Idx"])
def test_a_name_nearly_known_is_proposed(name):
    frame = pl.DataFrame({"nr": [1], name: [1], "item": [2]})
    if name == "User Idx":
        assert len(read_log(frame)) == 1
        return
    with pytest.raises(ValueError, match=f"{name!r} looks like one. Name it: user={name!r}"):
        read_log(frame)


def test_what_looks_like_a_weight_or_time_and_is_not_used_is_said():
    frame = pl.DataFrame({"user": [1], "item": [1], "x": [1], "label": [0], "raitng": [2], "year": [3]})
    line = read_log(frame).report.columns
    for part in ("weight=label", "weight=raitng", "time=year", "x"):
        assert part in line.partition("ignored: ")[2]


# Layouts


@pytest.mark.parametrize("block", [None, 8])
def test_lists_of_items(block, tmp_path, monkeypatch):
    if block:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
    wanted = [("0", "1"), ("0", "2"), ("0", "3"), ("1", "4"), ("7", "1"), ("7", "2")]
    for separator in (" ", "\t", ","):
        lines = ["0 1 2 3", "1 4", "7 1 2", "9"]
        file = written(tmp_path / "train.txt", "".join(line.replace(" ", separator) + "\n" for line in lines))
        for skip in ("error", "skip"):
            data = read_log(file, on_bad_rows=skip)
            assert [row[:2] for row in rows_of(data)] == wanted
            assert "one list per line" in data.report.columns
    counted = written(tmp_path / "users.dat", "3 1 2 3\n1 4\n0\n2 1 2\n")
    assert [row[:2] for row in rows_of(read_log(counted))] == [*wanted[:4], ("3", "1"), ("3", "2")]


@pytest.mark.parametrize("block", [None, 8])
def test_a_count_that_is_wrong_is_a_bad_row_and_empty_lines_shift_nobody(block, tmp_path, monkeypatch):
    if block:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
    file = written(tmp_path / "users.dat", "4 1 2 3 6\n1 4\n\n2 1 2\n2 8\n1 9\n")
    with pytest.raises(
        ValueError, match="line 5: the first number of a line must be the number of items that follow, got '2 8'"
    ):
        read_log(file)
    data = read_log(file, on_bad_rows="skip")
    assert [row[:2] for row in rows_of(data)][4:] == [("1", "4"), ("3", "1"), ("3", "2"), ("5", "9")]
    assert data.report.skipped == {"not readable": 1}


@pytest.mark.parametrize(
    "text",
    [
        "1\t2 3 4\n2\t5 6\n",
        "1\t2 3\n2\t5 6\n",
        "1: 2 3 4\n2: 5 6 7\n",
        "1 : 2, 3\n1 : 5\n2 : 6, 7\n",
        "user,items\n1,2 3 4\n2,5\na,5 6\n",
        "user;items\n1;2,3,4\n2;5,6\n",
    ],
)
def test_a_user_and_its_items_behind_another_mark(text, tmp_path):
    data = read_log(written(tmp_path / "log.txt", text))
    wanted = [re.findall(r"\w+", line) for line in text.splitlines() if "user" not in line]
    assert [row[:2] for row in rows_of(data)] == [(user, item) for user, *items in wanted for item in items]


def test_items_that_are_lists_are_refused(tmp_path):
    file = written(tmp_path / "log.csv", "who,what\n1,2 3 4\n2,5\n2,5 6\n")
    advice = r"frame.with_columns\(polars.col\('what'\).str.split\(' '\)\).explode\('what'\)"
    with pytest.raises(ValueError, match=f"'what' holds lists of numbers such as '2 3 4'.*{advice}"):
        read_log(file, user="who", item="what")
    with pytest.raises(ValueError, match=r"such as '\[1, 2\]'"):
        read_log(pl.DataFrame({"user": [1, 2], "item": ["[1, 2]", "[3, 4]"]}))


def test_what_stands_behind_another_mark_may_be_no_items(tmp_path):
    for text, message in (
        ("item;users\n1;2,3,4\n2;5,6\n", "'users' holds lists of numbers such as '2,3,4'"),
        ("user;rating\n1;3,5\n2;4,5\n", "none is recognized as the item"),
    ):
        with pytest.raises(ValueError, match=message):
            read_log(written(tmp_path / "log.csv", text))


def test_a_log_of_one_user_or_item_is_questioned(caplog):
    read_log(pl.DataFrame({"user": [3] * 30, "item": range(30)}))
    assert "all 30 rows have the same user, '3': is column 'user' the right one? If not, set user=…" in caplog.text
    caplog.clear()
    read_log(pl.DataFrame({"user": range(30), "item": ["a"] * 30}))
    assert "all 30 rows have the same item, 'a'" in caplog.text
    caplog.clear()
    read_log(pl.DataFrame({"user": [3, 3], "item": [1, 2]}))
    assert "rows are of one" not in caplog.text


def test_real_lists_of_items(shared_data):
    data = read_log(shared_data / "citeulike-a/users.dat")
    assert (len(data), data.num_users, data.num_items) == (204_986, 5_551, 16_980)


@pytest.mark.parametrize("block", [None, 12])
def test_netflix_and_mind(block, tmp_path, monkeypatch):
    if block:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
    netflix = "1:\n148,3,2005-09-06\n822,5,2005-05-13\n8:\n148,1,2005-01-01\n"
    day = 86_400
    wanted = [("148", "1", 3, 13032 * day), ("822", "1", 5, 12916 * day), ("148", "8", 1, 12784 * day)]
    assert rows_of(read_log(written(tmp_path / "combined_data_1.txt", netflix))) == wanted
    mind = "1\tU1\t11/11/2019 9:05:58 AM\tN1 N2\tN3-1 N4-0\n2\tU2\t11/13/2019 9:05:58 PM\t\tN5-0 N3-1 N6-1\n"
    data = read_log(written(tmp_path / "behaviors.tsv", mind))
    assert [row[:2] for row in rows_of(data)] == [("U1", "N3"), ("U2", "N3"), ("U2", "N6")]
    assert data.interactions.times_N.tolist() == [1573463158, 1573679158, 1573679158]


@pytest.mark.parametrize(
    ("comment", "rows"),
    [
        ("% bip weighted\n% 2 2 2\n", "1 2 5 1234567890\n2 3 3 1234567891\n"),
        ("# Directed graph\n# FromNodeId\tToNodeId\n", "1\t2\n2\t3\n"),
        ("#user item\n", "1 2\n2 3\n"),
        ("# user,item\n", "1,2\n2,3\n"),
    ],
)
def test_comments_at_the_top(comment, rows, tmp_path):
    data = read_log(written(tmp_path / "out.x", comment + rows))
    assert [row[:2] for row in rows_of(data)] == [("1", "2"), ("2", "3")]
    separator = next(mark for mark in "\t, " if mark in rows)
    long = separator.join("abcdef") + "\n"
    with pytest.raises(ValueError, match=f"line {comment.count(chr(10)) + 3}: has 6 fields"):
        read_log(written(tmp_path / "out.x", comment + rows + long))


REVIEWS = {
    "amazon": (
        {"reviewerID": "A", "asin": "B", "overall": 5.0, "unixReviewTime": 1252800000, "reviewTime": "09 13, 2009"},
        {},
        ("A", "B", 5, 1252800000),
    ),
    "amazon 2023": (
        {"rating": 4.0, "asin": "B", "parent_asin": "P", "user_id": "U", "timestamp": 1588687728923},
        {"time_unit": "ms"},
        ("U", "P", 4, 1588687728),
    ),
    "yelp": (
        {
            "review_id": "r",
            "user_id": "u",
            "business_id": "b",
            "stars": 4.0,
            "text": "a\nb",
            "date": "2018-07-07 22:09:11",
        },
        {},
        ("u", "b", 4, 1531001351),
    ),
    "numbers": ({"user": 7, "item": 12345678901, "n": None}, {}, ("7", "12345678901", 1)),
}


@pytest.mark.parametrize("name", REVIEWS)
@pytest.mark.parametrize("block", [None, 60])
def test_json_lines(name, block, tmp_path, monkeypatch):
    if block:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
    review, options, row = REVIEWS[name]
    text = "".join(json.dumps(review) + "\n" for _ in range(3))
    sources = [
        written(tmp_path / "reviews.json", text),
        written(tmp_path / "reviews.jsonl.gz", gzip.compress(text.encode())),
        written(tmp_path / "blank.json", text.replace("\n", "\r\n\r\n")),
        written(tmp_path / "array.json", json.dumps([review] * 3, indent=1)),
    ]
    for source in sources:
        data = read_log(source, **options)
        assert set(rows_of(data)) == {row}
        assert data.report.rows == 3
        assert "JSON" in data.report.columns


def test_a_bad_line_of_json_is_named_or_skipped(tmp_path):
    file = written(tmp_path / "l.json", '{"user":1,"item":2}\n{"user":1,"it\n{"user":2,"item":3}\n5\n')
    with pytest.raises(ValueError, match="line 2: must be a JSON object"):
        read_log(file)
    data = read_log(file, on_bad_rows="skip")
    assert data.users.ids.to_list() == ["1", "2"]
    assert data.report.skipped == {"not readable": 2}


LONG = json.dumps({"user": list(range(200_000))})
REFUSED = {
    "pretty.json": (json.dumps({"user": [1], "item": [2]}, indent=1), "one object over several lines"),
    "long.json": (LONG, "none is recognized as the item"),
    "columns.json": (LONG[:-1] + ', "item": [1]}', "but holds objects or lists. Unfold it first"),
    "lists.json": (json.dumps([[1, 2]] * 100_000), "must hold an array of JSON objects"),
    "cut.json": (json.dumps([{"user": 1, "item": 2}] * 100_000)[:-9], "cut short or damaged"),
    "steam.json": ("{u'user_id': u'1', u'items': [1]}\n" * 9, "ast.literal_eval"),
    "page.csv": ("<!DOCTYPE html>\n<html>" + "x,y" * 100_000, "it is a web page or XML"),
    "book.xlsx": (b"PK\x03\x04\x14\x00xl/worksheets", "is an Excel workbook; pass pandas.read_excel(path)"),
    "old.xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook"),
    "log.db": (b"SQLite format 3\0", "an SQLite database"),
    "log.pkl": (b"\x80\x04\x95" + bytes(90), "a pickle, which runs code"),
    "jester.csv": ((",".join(["7", "1.5", "-3", "99"] * 6) + "\n") * 5, "frame.mask(frame == 99).stack()"),
    "wide.csv": ("user," + ",".join(f"m{i}" for i in range(5000)) + "\n" + "1," * 5000 + "1\n", "frame.melt('user'"),
    "one.csv": ("x" * 2_000_000 + "\n", "seems to have only one column"),
    "five.csv": ((",".join(["w" * 500_000] * 5) + "\n") * 2, "has no header and 5 columns"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_log_is_refused_in_few_words(name, tmp_path):
    content, message = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        read_log(written(tmp_path / name, content))
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1_200


def test_the_advice_for_a_wide_matrix_works(tmp_path):
    frame = pd.DataFrame([[1.5, 99], [99, -3.0]])
    frame = frame.mask(frame == 99).stack().dropna().rename_axis(["user", "item"])
    assert rows_of(read_log(frame + 10)) == [("0", "0", 11.5), ("1", "1", 7)]


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"is a pipe or device.*Write it to a file first"):
        read_log(tmp_path / "pipe")
