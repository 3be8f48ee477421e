"""Separators, quotes and what text files hold beside rows: each is read rightly, and stated, or refused."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from test_read_layouts import rows_of, written

from recsys_dl import read_log
from recsys_dl.readers import text_files
from recsys_dl.readers.side_tables import read_table

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
