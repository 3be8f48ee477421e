"""Layouts of files and objects in memory: each is read rightly, and stated, or refused with what converts it."""

from __future__ import annotations

import gzip
import json
import logging
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from recsys_dl import read_log
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.readers import text_files
from recsys_dl.readers.side_tables import read_table


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
    command = [sys.executable, "-m", "recsys_dl.cli"]

    def told(*words: str) -> str:
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stderr

    line = "user = user, item = item, no weight: each row counts 1, time = ts (numbers from 0 to 27, used as an order)"
    assert line in told("train", "model=popularity", "data=log", "data.path=log.csv", "run=one")
    assert line in (tmp_path / "one/run.log").read_text()
    assert line in told("evaluate", "run=one")


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


# Separators and quotes


@pytest.mark.parametrize(
    ("content", "users"),
    [
        ("1;10;3,5\n2;11;4,0\n", ["1", "2"]),
        ("user;item;rating\n1;10;3,5\n2;11;4,0\n", ["1", "2"]),
        ("1|10|3,5\n2|11|4,0\n", ["1", "2"]),
        ("1 10 3,5\n2 11 4,0\n", ["1", "2"]),
        ("1\t10\t3,5\n2\t11\t4,0\n", ["1", "2"]),
    ],
)
def test_decimal_commas(content, users, tmp_path):
    file = written(tmp_path / "log.txt", content)
    with pytest.raises(ValueError, match="got '3,5'.*decimal=\",\""):
        read_log(file)
    data = read_log(file, decimal=",")
    assert data.users.ids.to_list() == users
    assert data.items.ids.to_list() == ["10", "11"]
    assert data.interactions.weights_N.tolist() == [3.5, 4]


def test_the_header_tells_the_separator_of_side_tables_too(tmp_path):
    log = pl.DataFrame({"user_id": [1, 2], "item": [5, 6]})
    people = '"user_id";"place";"height"\n1;"nyc, new york, usa";1,75\n2;"rome, lazio, italy";1,80\n'
    file = written(tmp_path / "people.csv", people.encode("utf-16"))
    features = read_log(log, user_features=file, decimal=",").user_features
    assert features.to_dict(as_series=False) == {
        "place": ["nyc, new york, usa", "rome, lazio, italy"],
        "height": [1.75, 1.8],
    }
    other = written(tmp_path / "people.txt", "user_id~'a~b'~3\n1~'x~y'~4\n".replace("'a~b'~3", "place~age"))
    table = read_table(other, separator="~", quote="'")
    assert table.to_dict(as_series=False) == {"user_id": [1], "place": ["x~y"], "age": [4]}


def test_stray_quotes_between_tabs_swallow_nothing(tmp_path):
    content = 'user\titem\trating\n1\t"abc\t3\n2\tb\t3\n3\tc"\t4\n4\td\t5\n'
    file = written(tmp_path / "log.tsv", content)
    data = read_log(file)
    assert data.items.ids.to_list() == ['"abc', "b", 'c"', "d"]
    assert "quotes are read literally" in data.report.columns
    wrapped = written(tmp_path / "q.tsv", '"user"\t"item"\n"1"\t"a b"\n')
    assert rows_of(read_log(wrapped)) == [("1", "a b", 1)]
    some = written(tmp_path / "some.tsv", 'user\titem\n1\t"a b"\n')
    assert read_log(some).items.ids.to_list() == ['"a b"']
    assert read_log(some, quote='"').items.ids.to_list() == ["a b"]


@pytest.mark.parametrize("at", ["item", "note"])
@pytest.mark.parametrize("block", [None, 40])
def test_stray_quotes_between_commas_swallow_nothing_either(at, block, tmp_path, monkeypatch):
    if block:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
    rows = [[str(n), f"i{n}", "3", f"n{n}"] for n in range(20)]
    column = 1 if at == "item" else 3
    rows[5][column], rows[8][column] = f'"{rows[5][column]}', f'{rows[8][column]}"'
    file = written(tmp_path / "log.csv", "user,item,rating,note\n" + "".join(",".join(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match="line 7: opens a quote that is not closed"):
        read_log(file)
    data = read_log(file, on_bad_rows="skip")
    assert len(data) == 19
    assert data.report.rows == 20
    assert len(read_log(file, quote="")) == 20


def test_texts_of_several_lines_stay(tmp_path):
    file = written(tmp_path / "l.csv", 'user,item,rating,note\n1,5,3,"good, but\nbad, indeed\n\nso"\n4,8,5,ok\n')
    assert rows_of(read_log(file)) == [("1", "5", 3), ("4", "8", 5)]


@pytest.mark.parametrize("value", ["a\nb", "a\tb", "a\r\nb"])
def test_an_id_with_a_line_break_or_tab_is_a_bad_row(value, tmp_path):
    frame = pl.DataFrame({"user": ["1", "2"], "item": [value, "x"]})
    frame.write_csv(tmp_path / "log.csv")
    for source in (frame, tmp_path / "log.csv"):
        with pytest.raises(ValueError, match="item id must not hold a line break or a tab"):
            read_log(source)
        assert read_log(source, on_bad_rows="skip").report.skipped == {"with a broken item id": 1}


@pytest.mark.parametrize("word", ["NULL", "nan", "None", "NA", "\\N", "<NA>", " "])
@pytest.mark.parametrize("role", ["user", "item"])
def test_words_for_nothing_are_no_ids(word, role, tmp_path):
    frame = pl.DataFrame({"user": ["1", "2"], "item": ["5", "6"]}).with_columns(pl.Series(role, [word, "7"]))
    frame.write_csv(tmp_path / "log.csv")
    for source in (frame, tmp_path / "log.csv"):
        with pytest.raises(ValueError, match=f"{role} id must be text or a whole number, got "):
            read_log(source)
        assert read_log(source, on_bad_rows="skip").report.skipped == {f"without {role} id": 1}


def test_12_and_12_0_are_one_where_all_are_numbers(tmp_path):
    data = read_log(written(tmp_path / "log.csv", "user,item\n1,12.0\n2,12\n3,7\n4,7.0\n"))
    assert data.items.ids.to_list() == ["12", "7"]
    assert "item ids such as 12.0 are read as 12" in data.report.columns
    data = read_log(written(tmp_path / "log.csv", "user,item\n1,12.0\n2,12\n3,a\n"))
    assert data.items.ids.to_list() == ["12.0", "12", "a"]
    assert "hold both 12.0 and 12" in data.report.columns


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
    "book.xlsx": (b"PK\x03\x04\x14\x00xl/worksheets", "is an Excel workbook; read_log(pandas.read_excel(path))"),
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


# What text files hold beside rows


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_excel_names_its_separator_in_the_first_line(first, tmp_path):
    file = written(tmp_path / "log.csv", f"\ufeff{first}\r\nuser;item;rating\r\na;x, y;1\r\nb;x, z;2,5\r\n")
    assert rows_of(read_log(file, decimal=",")) == [("a", "x, y", 1), ("b", "x, z", 2.5)]
    with pytest.raises(ValueError, match="line 4: weight must be a number"):
        read_log(file)


def test_blanks_around_ids_are_left_out_and_it_is_said(tmp_path):
    file = written(tmp_path / "log.csv", "user, item, rating\nJane , Halo , 1\nJane, 6393, 2\n")
    items = written(tmp_path / "items.csv", "item, genre, year\nHalo , Game , 2001\n 6393,, \n")
    data = read_log(file, item_features=items)
    assert rows_of(data) == [("Jane", "Halo", 1), ("Jane", "6393", 2)]
    assert "whitespace around user ids is stripped; whitespace around item ids is stripped" in data.report.columns
    assert data.item_features.to_dict(as_series=False) == {"genre": ["Game", None], "year": [2001, None]}
    assert "whitespace around" not in read_log(written(file, "user,item\na b,c\n")).report.columns
    assert read_log(pl.DataFrame({"user": [" a"], "item": ["b "]})).users.ids.to_list() == [" a"]
    assert [row[:2] for row in rows_of(read_log(written(file, "1, 2, 3\n2, 5\n3, 6, 7\n4, 1, 2, 3\n")))][:2] == [
        ("1", "2"),
        ("1", "3"),
    ]


def test_a_header_told_wrongly_is_questioned(tmp_path, caplog):
    assert len(read_log(written(tmp_path / "log.csv", "user,item\na,x\n"), header=False)) == 2
    assert "header=False reads the first row as data, but 'user' looks like a column name" in caplog.text
    file = written(tmp_path / "log.csv", "1,10,5\n2,20,4\n")
    with pytest.raises(
        ValueError, match=r"first row as names, but it looks like data: 1, 10, 5. If it is.*header=False"
    ):
        read_log(file, header=True)
    assert len(read_log(file, header=True, user=0, item=1)) == 1
    assert "it looks like data: 1, 10, 5; if it is, set header=False" in caplog.text


@pytest.mark.parametrize("source", ["https://x.org/a.csv?b=1", "s3://bucket/a.csv", Path("https://x.org/a.csv")])
def test_a_url_is_to_be_downloaded_first(source):
    for given in (source, [source]):
        with pytest.raises(ValueError, match="URLs are not supported. Download it first"):
            read_log(given)


def test_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    written(tmp_path / "log.csv", "user,item\n1,2\n")
    written(tmp_path / "items.csv", "item,year\n2,1990\n")
    assert len(read_log("~/log.csv", item_features="~/items.csv")) == len(read_log("~/*og.csv")) == 1


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", None])
def test_only_what_looks_like_utf_16_is_said_to_be(encoding, tmp_path):
    content = "user,item\nü,x\n".encode(encoding) if encoding else bytes(range(256)) * 9
    with pytest.raises(ValueError, match="it is binary") as error:
        read_log(written(tmp_path / "log.csv", content))
    assert (f'encoding="{encoding}"' if encoding else "a zero byte at position 1)") in str(error.value)
    assert encoding or "UTF-16" not in str(error.value)


def test_a_table_of_items_is_no_log():
    books = pl.DataFrame({"book_id": [1], "work_id": [7], "authors": ["A"], "title": ["B"]})
    with pytest.raises(ValueError, match="none is recognized as the user, so it looks like a table of items") as error:
        read_log(books)
    assert "user='COLUMN'" in str(error.value)
