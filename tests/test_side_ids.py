"""Feature tables: ids that do not match are said with a reason, several values in a text are told apart, cold items stay."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, read_log
from recsys_dl.data.filters import k_core
from recsys_dl.readers.multi_valued import with_lists
from recsys_dl.rerankers.rules import Rules

LOG = pl.DataFrame({"user": list("aaabbb"), "item": ["1", "2", "3", "1", "2", "4"]})
GENRES = ["Comedy|Drama", "Drama", "Comedy", "Action|Comedy", "Action", "Drama|Action", "Comedy|Action|Drama", None]


def movies(ids: list, **more: list) -> pl.DataFrame:
    return pl.DataFrame({"item": ids, "year": list(range(1990, 1990 + len(ids))), **more})


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (["01", "02", "03", "04"], "without leading zeros, 4 of them match"),
        (["1.0", "2.0", "3.0"], "with 12.0 written 12, 3 of them match"),
        ([" 1", "2 ", "3 "], "without surrounding blanks, 3 of them match"),
        (["movie:1", "movie:2", "movie:9"], "without everything up to the last : / or _, 2 of them match"),
        (["tt1", "tt2", "tt3"], "the log such as '1', '2', '3'"),
    ],
)
def test_no_id_that_matches_is_an_error_with_ids_of_each_side(ids, reason):
    with pytest.raises(ValueError, match="must have item ids of the log, but none of its") as error:
        read_log(LOG, item_features=movies(ids))
    assert reason in str(error.value)
    assert ", ".join(map(repr, ids[:3])) in str(error.value)


def test_users_are_held_to_the_same():
    with pytest.raises(ValueError, match="none of its 2 is one of the log's 2.*in lower case, 2 of them match"):
        read_log(LOG, user_features=pl.DataFrame({"user": ["A", "B"], "age": [1, 2]}))


def test_some_ids_that_would_match_otherwise_are_a_warning(caplog):
    read_log(LOG, item_features=movies(["1", "2", "03"]))
    assert "2 of the log's 4 items have no row in it" in caplog.text
    assert "without leading zeros, 1 of them match" in caplog.text
    caplog.clear()
    read_log(LOG, item_features=movies(["1", "2", "3"]))
    assert not [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ]  # one without features is no news
    read_log(LOG, item_features=movies(["1"]))
    assert "3 of the log's 4 items have no row in it" in caplog.text


def test_an_id_column_of_its_own():
    table = pl.DataFrame({"sku_no": ["1", "2"], "year": [1990, 1991]})
    with pytest.raises(ValueError, match="Set the right one: item_id_column="):
        read_log(LOG, item_features=table)
    data = read_log(LOG, item_features=table, item_id_column="sku_no")
    assert data.item_features.columns == ["year"]
    assert data.item_features["year"].to_list() == [1990, 1991, None, None]
    with pytest.raises(ValueError, match="item_id_column='sku' does not exist"):
        read_log(LOG, item_features=table, item_id_column="sku")
    with pytest.raises(ValueError, match="item_id_column applies to item_features, which is not given: set it too"):
        read_log(LOG, item_id_column="sku")


def test_items_that_nobody_interacted_with_stay_after_the_others(caplog):
    table = movies(["9", "1", "2", "8"], title=["Nine", "One", "Two", "Eight"])
    with caplog.at_level(logging.INFO):
        data = read_log(LOG, item_features=table, user_features=pl.DataFrame({"user": ["z", "b"], "age": [3, 4]}))
    assert "features of 2 of 4 items; 2 further items without an interaction are kept as cold" in caplog.text
    assert data.items.ids.to_list() == ["1", "2", "3", "4", "9", "8"]
    assert data.users.ids.to_list() == ["a", "b", "z"]
    assert data.item_titles.to_list() == ["One", "Two", None, None, "Nine", "Eight"]
    assert data.item_features["year"].to_list() == [1991, 1992, None, None, 1990, 1993]
    assert data.user_features["age"].to_list() == [None, 4, 3]
    assert data.interactions.item_counts_I.tolist() == [2, 2, 1, 1, 0, 0]
    dropped = read_log(LOG, item_features=table, cold="drop")
    assert dropped.items.ids.to_list() == ["1", "2", "3", "4"]
    assert k_core(data, users=1, items=1).items.ids.to_list() == ["1", "2", "3", "4"]
    with pytest.raises(ValueError, match='cold must be "keep" or "drop", got \'no\''):
        read_log(LOG, cold="no")


def items_with(genres: list) -> pl.DataFrame:
    return pl.DataFrame({"item": [str(1 + n) for n in range(len(genres))], "genres": genres})


def test_several_values_in_a_text_are_recognized(caplog):
    with caplog.at_level(logging.INFO):
        data = read_log(LOG, item_features=items_with(GENRES))
    assert data.item_features["genres"].to_list() == [None if text is None else text.split("|") for text in GENRES]
    assert (
        "genres is read as lists, split at '|' into 3 values; keep it as text with item_lists={genres: null}"
        in caplog.text
    )
    commas = [None if text is None else text.replace("|", ", ") for text in GENRES]
    assert read_log(LOG, item_features=items_with(commas)).item_features["genres"].to_list()[0] == ["Comedy", "Drama"]
    kept = read_log(LOG, item_features=items_with(GENRES), item_lists={"genres": None})
    assert kept.item_features["genres"].to_list() == GENRES


def test_declared_columns_are_split_as_told():
    told = read_log(LOG, item_features=items_with(["x/y", "x / z ", "", None]), item_lists={"genres": "/"})
    assert told.item_features["genres"].to_list() == [["x", "y"], ["x", "z"], None, None]
    with pytest.raises(ValueError, match="item_lists names 'genre', which is not a column of"):
        read_log(LOG, item_features=items_with(GENRES), item_lists={"genre": "|"})
    with pytest.raises(ValueError, match="item_lists splits text columns, but 'year' of .* holds Int64"):
        read_log(LOG, item_features=movies(["1"]), item_lists={"year": "|"})


@pytest.mark.parametrize(
    "texts",
    [
        ["Berlin, Germany", "Munich, Germany", "Paris, France", "Lyon, France", "Nice, France"],
        ["Smith, John", "Doe, Jane", "Smith, Jane", "Doe, John"],
        ["A tale of love, loss, and of a very long road through the night to the sea", "A tale, told"] * 3,
        ["a", "b", "a"],
        ["1,5", "2,5", "3"],
        [None, None],
        [
            "Berlin, Germany",
            "Munich, Germany",
            "Austin, Texas, USA",
            "10115, Berlin, Germany",
            "Main St, Austin, Texas, USA",
        ]
        * 9,
        ["1,234", "12", "1,234,567", "12,345"] * 9,
        ["[{'id': 1, 'name': 'a'}, {'id': 2, 'name': 'b'}]", "[{'id': 1, 'name': 'a'}]"],
        ["['a' 'b']", "['a']"],
    ],
)
def test_one_value_with_a_comma_stays_one(texts):
    frame = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
    assert with_lists(frame, None, "a table", "item_lists")["text"].to_list() == texts


@pytest.mark.parametrize("declared", [None, {"genres": ","}])
@pytest.mark.parametrize(
    ("texts", "lists"),
    [
        (["['a', 'b']", "[]", None, "[' it\\'s ']"], [["a", "b"], [], None, ["it's"]]),
        (['["a", "b"]', '["c", null]'], [["a", "b"], ["c"]]),
        (["[1, 2]", "[3]"], [["1", "2"], ["3"]]),
    ],
)
def test_lists_as_python_or_json_write_them(texts, lists, declared, caplog):
    with caplog.at_level(logging.INFO):
        data = read_log(LOG, item_features=items_with(texts), item_lists=declared)
    assert data.item_features["genres"].to_list()[: len(lists)] == lists
    assert declared or "read as lists, parsed from Python or JSON notation into" in caplog.text


@pytest.mark.parametrize(
    ("cells", "how"),
    [
        (["a|b", '["b", "c"]', "c|a", "['a']"], "split at '|'"),
        (["a|b", "b, c", "c|a", "a"], "split at '|', some also at ', '"),
        (["a|b", '["b", "c"]', "c, a", "a"], "some also at ', '"),
        (['["a", "b"]', "b", '["c", "a"]', "c"], "as single values"),
    ],
)
def test_lists_written_in_several_ways_in_one_column(cells, how, caplog):
    caplog.set_level("INFO")
    items = pl.DataFrame({"item_id": [f"i{row}" for row in range(12)], "tags": cells * 3})
    rows = [(f"u{user}", f"i{item}") for user in range(4) for item in range(12)]
    features = read_log(rows, item_features=items).item_features
    assert features["tags"].explode().unique().sort().to_list() == ["a", "b", "c"]
    assert how in caplog.text


def test_lists_in_brackets_that_cannot_be_read_are_said(caplog):
    read_log(LOG, item_features=items_with(["[{'id': 1}]", "[{'id': 2}]"]))
    assert "genres holds bracketed texts that are not lists of texts or numbers" in caplog.text


def test_lists_are_recognized_from_few_rows_and_whichever_rows_stay(shared_data):
    genres = shared_data / "goodbooks-10k" / "book_genres.csv"
    log = pl.DataFrame({"user": list("aab"), "book_id": [1, 2, 3]})
    kept, dropped = (read_log(log, item_features=genres, cold=cold) for cold in ("keep", "drop"))
    assert kept.item_features.head(3).equals(dropped.item_features)
    assert dropped.item_features["genres"][0].to_list()[:2] == ["contemporary", "fantasy"]
    part = with_lists(pl.read_csv(genres).select("genres").head(2000), None, "a table", "item_lists")
    assert part.schema["genres"] == pl.List(pl.String)


def test_lists_declared_amiss_are_answered(caplog):
    for wrong in ("genres", {"genres": 1}, ["genres"]):
        with pytest.raises(ValueError, match='item_lists must map columns of item_features .* such as {"genres": "|"}'):
            read_log(LOG, item_features=items_with(GENRES), item_lists=wrong)
    read_log(LOG, item_features=items_with(GENRES), item_lists={"genres": ";"})
    assert "';' splits no value of genres, such as 'Comedy|Drama', so each becomes a list of one" in caplog.text
    assert "'|' would split it: item_lists={genres: '|'}" in caplog.text


def test_decimal_commas_in_features_are_said(tmp_path, caplog):
    table = tmp_path / "items.csv"
    table.write_text("item;price\n1;3,79\n2;4\n3;\n")
    assert read_log(LOG, item_features=table).item_features["price"].to_list()[0] == "3,79"
    assert "price holds numbers with a comma, such as '3,79', and stays text" in caplog.text
    caplog.clear()
    assert read_log(LOG, item_features=table, decimal=",").item_features["price"].to_list()[0] == 3.79
    assert "with a comma" not in caplog.text


def test_a_rule_that_matches_fewer_items_than_hold_its_word_is_questioned(caplog):
    kept = read_log(LOG, item_features=items_with(GENRES), item_lists={"genres": None})
    rules = Rules(rules=[{"name": "funny", "deny": {"genres": "Comedy"}}])
    rules.prepare(kept)
    assert "1 item has the value 'Comedy', but 4 hold it, such as 'Comedy|Drama'" in caplog.text
    assert 'item_lists={genres: "|"}' in caplog.text
    caplog.clear()
    listed = read_log(LOG, item_features=items_with(GENRES))
    rules.prepare(listed)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert np.flatnonzero(rules.denied_I).tolist() == [0, 2, 3, 6]


def test_ids_in_a_rule_that_no_item_has_are_named_once(caplog):
    data = read_log(LOG, item_features=items_with(GENRES))
    Rules(rules=[{"name": "out", "deny": {"item_id": ["01", "02", "99", "1"]}}]).prepare(data)
    assert caplog.text.count("rule 'out'") == 1
    assert "3 of its 4 values are no item's" in caplog.text
    assert "without leading zeros, 2 of them match" in caplog.text


def test_a_table_of_a_header_alone_says_so(tmp_path):
    (tmp_path / "items.csv").write_text("item,year\n")
    with pytest.raises(ValueError, match="must hold rows, but it has none, just a header"):
        read_log(LOG, item_features=tmp_path / "items.csv")


def test_a_long_table_is_to_be_grouped(caplog):
    long = pl.DataFrame({"item": list("11223"), "genre": list("abacb")})
    with pytest.raises(
        ValueError, match=r"aggregate them into lists: frame.group_by\('item', maintain_order=True\)"
    ) as error:
        read_log(LOG, item_features=long)
    assert "on_bad_rows" not in str(error.value)
    read_log(LOG, item_features=long, on_bad_rows="skip")
    assert "only the first row of each item is kept, the others are dropped" in caplog.text
    grouped = long.group_by("item", maintain_order=True).agg(pl.all())
    assert read_log(LOG, item_features=grouped).item_features["genre"].to_list()[0] == ["a", "b"]


def test_the_column_that_holds_the_ids_is_named(caplog):
    table = pl.DataFrame({"item": ["x", "y", "z", "1"], "sku": [4, 3, 2, 1]})
    read_log(LOG, item_features=table)
    assert "its column 'sku' has more of them: item_id_column='sku'" in caplog.text
    with pytest.raises(ValueError, match="item_id_column='sku'"):
        read_log(LOG, item_features=table.head(3))


TABLE = "item,title,genres,price\n" + "".join(f"{row},Title {row},Drama,{row}.5\n" for row in range(9))


def with_table(text: str, folder: Path, **options) -> Dataset:
    """A log of nine items, and this table of them."""
    (folder / "log.csv").write_text("user,item\n" + "".join(f"u{row % 7},{row % 9}\n" for row in range(40)))
    (folder / "items.csv").write_text(text)
    return read_log(folder / "log.csv", item_features=folder / "items.csv", **options)


@pytest.mark.parametrize("end", ["8", "8,", "8,Tit", '8,"Title 8, the', "8,Title 8,Drama"])
def test_a_table_cut_off_within_its_last_row_is_refused(end, tmp_path, caplog):
    whole = TABLE[: TABLE.index("8,Title 8")]
    with pytest.raises(ValueError, match=r"items\.csv, line 10: .* cut off: "):
        with_table(whole + end, tmp_path)
    data = with_table(whole + end, tmp_path, on_bad_rows="skip")
    assert data.item_features["price"].to_list() == [*(row + 0.5 for row in range(8)), None]
    assert "1 unreadable row skipped" in caplog.text


def test_a_table_without_a_last_line_break_or_with_short_rows_elsewhere_is_whole(tmp_path):
    assert with_table(TABLE.rstrip("\n"), tmp_path).item_features["price"][8] == 8.5
    short = "item,title,price\n" + "".join(f"{row},Title {row}\n" for row in range(9))
    assert with_table(short.rstrip("\n"), tmp_path).item_titles[8] == "Title 8"


def test_rows_of_a_table_that_repeat_count_once_and_those_that_contradict_are_named(tmp_path, caplog):
    caplog.set_level("INFO", "recsys_dl")
    assert with_table(TABLE + "0,Title 0,Drama,0.5\n", tmp_path).item_features["price"][0] == 0.5
    assert "1 of 10 rows repeat an earlier one and are left out" in caplog.text
    with pytest.raises(
        ValueError, match=r"'0', which occurred before with other values \(genres was 'Drama', now 'Horror'; price was"
    ):
        with_table(TABLE + "0,Title 0,Horror,99\n", tmp_path)
    assert (
        with_table(TABLE + "0,Title 0,Horror,99\n", tmp_path, on_bad_rows="skip").item_features["genres"][0] == "Drama"
    )
    assert "1 row contradicts an earlier one of the same item, which is kept, such as that of '0'" in caplog.text


def test_a_table_whose_id_column_is_misspelled_or_absent_says_which_it_is(tmp_path):
    with pytest.raises(ValueError, match=r"'itme' holds ids of the log.*one: item_id_column=itme$"):
        with_table(TABLE.replace("item,", "itme,", 1), tmp_path)
    text = "itme,genre\n" + "".join(f"{row},Drama\n" for row in range(9))  # a header of unknown names above text
    with pytest.raises(ValueError, match=r"its columns are itme, genre, and 'itme' holds ids of the log"):
        with_table(text, tmp_path)
    assert with_table(text.partition("\n")[2], tmp_path).item_features.height == 9
    absent = "\n".join(line.partition(",")[2] for line in TABLE.splitlines())
    with pytest.raises(ValueError, match="none of them holds ids of the log"):
        with_table(absent, tmp_path)
