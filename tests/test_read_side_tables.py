"""read_log: side tables join by id; atomic files; real files."""

from __future__ import annotations

import logging

import polars as pl
import pytest

from recsys_dl import read_log
from recsys_dl.readers.side_tables import read_table

# Side tables

MOVIES = (
    "movieId,title,genres,plot,year\n9,Nine,A|B,,1990\n1,One,A,about one,2000\n5,Five,,none,\n7,,B,about seven,1980\n"
)


@pytest.fixture
def log() -> pl.DataFrame:
    return pl.DataFrame({"userId": ["u", "v", "u"], "movieId": [7, 1, 3]})


def test_side_tables_join_by_id_and_unknown_ids_are_counted(log, tmp_path, caplog):
    (tmp_path / "movies.csv").write_text(MOVIES)
    users = pl.DataFrame({"userId": ["v", "w"], "age": [30, 40]})
    with caplog.at_level(logging.INFO, "recsys_dl"):
        data = read_log(log, item_features=tmp_path / "movies.csv", user_features=users, cold="drop")
    assert data.items.ids.to_list() == ["7", "1", "3"]
    assert data.item_titles.to_list() == [None, "One", None]
    assert data.item_texts.to_list() == ["about seven", "about one", None]
    assert data.item_features.to_dict(as_series=False) == {"genres": [["B"], ["A"], None], "year": [1980, 2000, None]}
    assert data.user_features.to_dict(as_series=False) == {"age": [None, 30]}
    assert "features of 2 of 3 items; 2 further items without an interaction are dropped" in caplog.text
    assert "features of 1 of 2 users; 1 further user without an interaction is dropped" in caplog.text


def test_titles_and_texts_can_be_named(log):
    movies = pl.DataFrame({"id": [1, 7], "de": ["Eins", None], "tags": [["a", "b"], ["c"]], "plot": ["p", "q"]})
    data = read_log(log, item_features=movies, title="de", text=["plot", "tags"])
    assert data.item_titles.to_list() == [None, "Eins", None]
    assert data.item_texts.to_list() == ["q\nc", "p\na b", None]
    assert data.item_features is None
    pandas = read_log(log, item_features=movies.to_pandas(), title="de", text=["plot", "tags"])
    assert pandas.content_hash == data.content_hash


def test_side_tables_without_header_begin_with_the_id(tmp_path):
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n1\t4\t3\t4\n")
    (tmp_path / "u.item").write_bytes("2|Caf\xe9 (1995)|x\n4|Four|y\n".encode("latin-1"))
    data = read_log(tmp_path / "u.data", item_features=tmp_path / "u.item", title=1, encoding="latin-1")
    assert data.item_titles.to_list() == ["Café (1995)", "Four"]


def test_numbers_in_side_tables_keep_leading_zeros(tmp_path):
    (tmp_path / "users.dat").write_text("1::F::25::02139\n2::M::56::48067\n")
    frame = read_table(tmp_path / "users.dat", columns=["user", "sex", "age", "zip"])
    assert frame.to_dict(as_series=False) == {
        "user": [1, 2],
        "sex": ["F", "M"],
        "age": [25, 56],
        "zip": ["02139", "48067"],
    }


def test_atomic_files(tmp_path):
    (tmp_path / "tiny.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t02\t4\t881250949\n2\t7\t3\t5\n"
    )
    (tmp_path / "tiny.item").write_text(
        'item_id:token\tmovie_title:token_seq\trelease_year:token\tvector:float_seq\n02\t"Toy Story\t1995\t0.5 1\n'
    )
    (tmp_path / "tiny.user").write_text("user_id:token\tage:float\n2\t24\n")
    data = read_log(tmp_path)
    assert data.items.ids.to_list() == ["02", "7"]
    assert data.interactions.times_N.tolist() == [881250949, 5]
    assert data.item_titles.to_list() == ['"Toy Story', None]
    assert data.item_features.to_dict(as_series=False) == {"release_year": ["1995", None], "vector": [[0.5, 1.0], None]}
    assert data.user_features.to_dict(as_series=False) == {"age": [None, 24.0]}
    for path in (tmp_path / "tiny", tmp_path / "tiny.inter"):
        assert read_log(path).content_hash == data.content_hash


# Real data


@pytest.mark.parametrize(
    ("file", "counts", "first"),
    [
        ("ml-latest-small/ratings.csv", (100_836, 610, 9_724), ("1", "1", 4.0, 964982703)),
        ("ml-100k/u.data", (100_000, 943, 1_682), ("196", "242", 3.0, 881250949)),
        ("movietweetings-100k/ratings.dat", (100_000, 16_554, 10_506), ("1", "1074638", 7.0, 1365029107)),
        ("goodbooks-10k/ratings_random.csv", (298_176, 2_672, 9_990), ("58", "26", 1.0, None)),
        ("amazon-video-games/interactions.txt", (287_107, 31_013, 23_715), ("1", "6393", 1.0, None)),
        ("ml-1m/ratings_pairs.parquet", (1_000_209, 6_040, 3_706), ("1", "1193", 1.0, None)),
        ("ncf-ml-1m/ml-1m.train.pairs", (994_169, 6_040, None), ("0", "0", 1.0, None)),
    ],
)
def test_real_files(file, counts, first, shared_data):
    data = read_log(shared_data / file)
    rows, users, items = counts
    assert (len(data), data.num_users, data.num_items) == (rows, users, items or data.num_items)
    log = data.interactions
    time = None if log.times_N is None else log.times_N[0]
    assert (data.users.ids[0], data.items.ids[0], log.weights_N[0], time) == first


def test_real_side_tables(shared_data):
    folder = shared_data / "ml-100k"
    data = read_log(
        folder / "u.data",
        user_features=read_table(folder / "u.user", columns=["user", "age", "sex", "occupation", "zip"]),
        item_features=folder / "u.item",
        title=1,
        encoding="latin-1",
    )
    assert data.item_titles[int(data.items.find(["1"])[0])] == "Toy Story (1995)"
    assert data.item_titles.null_count() == 0
    assert data.user_features.row(int(data.users.find(["1"])[0])) == (24, "M", "technician", "85711")
    titles = read_log(
        shared_data / "movietweetings-100k/ratings.dat",
        item_features=read_table(shared_data / "movietweetings-100k/movies.dat", columns=["item", "title", "genres"]),
    )
    assert titles.item_titles[int(titles.items.find(["0104257"])[0])].startswith("A Few Good Men")
