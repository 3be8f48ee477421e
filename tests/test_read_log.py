"""read_log: the same log gives the same Dataset whatever it comes as; columns are recognized; side tables join by id."""

from __future__ import annotations

import gzip
import inspect
import io
import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_dl import read_log
from recsys_dl.data.messages import MISSING
from recsys_dl.readers import tables, text_files
from recsys_dl.readers.side_tables import read_table

ROWS = 300


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    """A log with leading zeros, quotes, separators and other scripts in its ids, and weights that are no float32."""
    rng = np.random.default_rng(3)
    pairs = rng.choice(40 * 60, ROWS, replace=False)  # a rating given again would replace the one before
    users = [f"{pair // 60:03}" for pair in pairs]
    names = ["a,b", 'say "x"', "naïve", "電影", "0012", "12", "a blank", "semi;colon", "tab|pipe"]
    items = [f"{names[i % len(names)]}{i // len(names) or ''}" for i in pairs % 60]
    return pl.DataFrame(
        {
            "user_id": users,
            "item_id": items,
            "rating": rng.random(ROWS),
            "timestamp": rng.integers(1, 2_000_000_000, ROWS),
        }
    )


@pytest.fixture(scope="module")
def wanted(frame: pl.DataFrame) -> str:
    data = read_log(frame)
    assert data.users.ids.to_list() == frame["user_id"].unique(maintain_order=True).to_list()
    assert data.items.ids.to_list() == frame["item_id"].unique(maintain_order=True).to_list()
    log = data.interactions
    assert data.users.at(log.users_N).to_list() == frame["user_id"].to_list()
    assert data.items.at(log.items_N).to_list() == frame["item_id"].to_list()
    assert (log.weights_N == frame["rating"].to_numpy().astype(np.float32)).all()
    assert (log.times_N == frame["timestamp"].to_numpy()).all()
    return data.content_hash


def csv_of(frame: pl.DataFrame, separator: str = ",", newline: str = "\n", header: bool = True) -> bytes:
    return frame.write_csv(separator=separator, line_terminator=newline, include_header=header).encode()


WRITERS = {
    "comma.csv": csv_of,
    "tab.tsv": lambda frame: csv_of(frame, "\t"),
    "semicolon.txt": lambda frame: csv_of(frame, ";"),
    "no-header.csv": lambda frame: csv_of(frame, header=False),
    "windows.csv": lambda frame: b"\xef\xbb\xbf" + csv_of(frame, newline="\r\n"),
    "no-last-newline.csv": lambda frame: csv_of(frame).rstrip(b"\n"),
    "blank-lines.csv": lambda frame: b"\n" + csv_of(frame).replace(b"\n", b"\n\n"),
    "utf-16.csv": lambda frame: csv_of(frame).decode().encode("utf-16"),
    "gzip.csv.gz": lambda frame: gzip.compress(csv_of(frame)),
    "zstd.csv.zst": lambda frame: pa.compress(csv_of(frame), "zstd", asbytes=True),
    "parquet.parquet": lambda frame: written(frame.write_parquet),
    "parquet-under-another-name.data": lambda frame: written(frame.write_parquet),
    "arrow.arrow": lambda frame: written(frame.write_ipc),
    "feather.feather": lambda frame: written(lambda file: pa.feather.write_feather(frame.to_arrow(), file)),
    "stream.arrows": lambda frame: written(frame.write_ipc_stream),
}


def written(write) -> bytes:
    import pyarrow.feather  # noqa: F401

    file = io.BytesIO()
    write(file)
    return file.getvalue()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("block", [None, 50])
def test_every_file_gives_the_same_dataset(name, block, frame, wanted, tmp_path, monkeypatch):
    """Also where it is read in blocks much smaller than itself."""
    if block is not None:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
        monkeypatch.setattr(tables, "BATCH_ROWS", block)
    (tmp_path / name).write_bytes(WRITERS[name](frame))
    data = read_log(tmp_path / name)
    assert data.content_hash == wanted
    assert data.name == name.split(".")[0]
    assert data.report.rows == ROWS


@pytest.mark.parametrize(
    "as_source",
    [
        pl.DataFrame.lazy,
        lambda frame: frame.cast({"user_id": pl.Categorical, "rating": pl.Float64}),
        lambda frame: frame.select("rating", "timestamp", "item_id", "user_id"),
        lambda frame: frame.with_columns(pl.from_epoch("timestamp")),
        lambda frame: frame.with_columns(
            pl.from_epoch("timestamp").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo")
        ),
        lambda frame: frame.with_columns(pl.from_epoch("timestamp").dt.strftime("%Y-%m-%dT%H:%M:%SZ")),
        lambda frame: frame.with_columns(pl.col("timestamp").cast(pl.Float64)),
        lambda frame: frame.to_arrow(),
        lambda frame: pd.DataFrame(frame.to_dict(as_series=False)),
        lambda frame: pd.DataFrame(frame.to_dict(as_series=False)).astype({"user_id": "category", "item_id": object}),
        lambda frame: (
            pd.DataFrame(frame.to_dict(as_series=False)).astype(object).sample(frac=1, random_state=1).sort_index()
        ),
        lambda frame: pd.DataFrame(frame.to_dict(as_series=False)).assign(
            timestamp=lambda own: pd.to_datetime(own.timestamp, unit="s", utc=True)
        ),
    ],
)
def test_every_frame_gives_the_same_dataset(as_source, frame, wanted):
    assert read_log(as_source(frame)).content_hash == wanted


def test_integer_ids_are_the_same_as_number_or_text(tmp_path):
    numbers = pl.DataFrame({"uid": [10, 2, 10], "movieId": [7, 7, 1]})
    numbers.write_csv(tmp_path / "log.csv")
    hashes = {
        read_log(source).content_hash
        for source in (
            numbers,
            numbers.cast(pl.Float64),
            numbers.cast(pl.UInt8),
            numbers.cast(pl.String),
            numbers.to_pandas(),
            pd.DataFrame({"uid": [10, "2", 10.0], "movieId": [7, 7, 1]}, dtype=object),
            tmp_path / "log.csv",
        )
    }
    assert len(hashes) == 1


def test_double_colons_and_runs_of_blanks(tmp_path):
    plain = tmp_path / "plain.csv"
    plain.write_text("1,0010,4.5,881250949\n2,7,3,881250950\n2,1,0,5\n")
    dat = tmp_path / "ratings.dat"
    dat.write_text("1::0010::4.5::881250949\r\n2::7::3::881250950\r\n2::1::0::5")
    blanks = tmp_path / "blanks.txt"
    blanks.write_text("  1   0010 4.5\t881250949  \n2 7  3 881250950\n2 1 0   5\n")
    assert read_log(dat).content_hash == read_log(blanks).content_hash == read_log(plain).content_hash
    assert read_log(plain).items.ids.to_list() == ["0010", "7", "1"]


def test_a_sparse_matrix():
    matrix = sp.csr_matrix(np.array([[0, 2.0], [1, 0], [0, 0]]))
    data = read_log(matrix)
    assert (data.num_users, data.num_items) == (3, 2)
    assert data.users.ids.to_list() == ["0", "1", "2"]
    assert (data.interactions.by_user != matrix).nnz == 0


ids = (
    st.text(
        st.characters(codec="utf-8", exclude_characters="\n\t\r\x00", exclude_categories=["Cs"]), min_size=1, max_size=6
    )
    .map(lambda text: text.strip(" "))
    .filter(lambda text: text.strip() not in MISSING)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(ids, ids, st.floats(0, 2**90, width=32)), min_size=1, max_size=12), st.integers(1, 40))
def test_any_text_survives_a_csv_in_blocks_of_any_size(rows, block):
    frame = pl.DataFrame(rows, schema={"user": pl.String, "item": pl.String, "rating": pl.Float64}, orient="row")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "log.csv"
        file.write_bytes(frame.write_csv(quote_style="non_numeric").encode())
        patch.setattr(text_files, "CHUNK_BYTES", block)
        assert read_log(file).content_hash == read_log(frame).content_hash


# Columns


@pytest.mark.parametrize(
    "header",
    [
        "userId,movieId,rating,timestamp",
        "user_id,item_id,score,time",
        "UserID,BookID,Rating,Date",
        "uid,asin,overall,unixReviewTime",
        " user , item , weight , datetime ",
        "User-ID,parent_asin,stars,unix_timestamp",
        "reviewerID,ISBN,ratings,created_at",
        "user_id:token,item_id:token,rating:float,timestamp:float",
    ],
)
def test_common_names_are_recognised_in_any_order(header, tmp_path):
    file = tmp_path / "log.csv"
    file.write_text(f"{header}\na,x,2,5\nb,y,3,6\n")
    data = read_log(file)
    assert data.users.ids.to_list() == ["a", "b"]
    assert data.items.ids.to_list() == ["x", "y"]
    assert data.interactions.weights_N.tolist() == [2, 3]
    assert data.interactions.times_N.tolist() == [5, 6]
    reversed_ = tmp_path / "reversed.csv"
    reversed_.write_text("\n".join(",".join(line.split(",")[::-1]) for line in file.read_text().splitlines()))
    assert read_log(reversed_).content_hash == data.content_hash


def test_columns_can_be_named_or_counted(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("who,what,how much,when\na,x,2,5\nb,y,3,6\n")
    named = read_log(file, user="who", item="what", weight="how much", time="when")
    counted = read_log(file, user=0, item=1, weight=2, time=-1)
    assert named.content_hash == counted.content_hash
    assert named.interactions.weights_N.tolist() == [2, 3]
    assert read_log(file, user="what", item="who").users.ids.to_list() == ["x", "y"]


def test_weight_and_time_can_be_left_out():
    frame = pl.DataFrame({"user": ["a"], "item": ["x"], "rating": [3.0], "score": [0.5], "time": [9]})
    data = read_log(frame, weight=False, time=False)
    assert data.interactions.weights_N.tolist() == [1.0]
    assert data.interactions.times_N is None
    assert read_log(frame, weight="score").interactions.weights_N.tolist() == [0.5]


@pytest.mark.parametrize(
    ("text", "weights", "times"),
    [
        ("1 2\n3 4\n", [1, 1], None),
        ("1 2 5\n3 4 0\n", [5, 0], None),
        ("1 2 881250949\n3 4 891717742\n", [1, 1], [881250949, 891717742]),
        ("1 2 5 9\n3 4 0 8\n", [5, 0], [9, 8]),
        ("a,b,2024-01-02\nc,d,2024-01-01\n", [1, 1], [1704153600, 1704067200]),
    ],
)
def test_without_header_the_order_is_user_item_weight_time(text, weights, times, tmp_path):
    (tmp_path / "log").write_text(text)
    log = read_log(tmp_path / "log").interactions
    assert log.weights_N.tolist() == weights
    assert (None if log.times_N is None else log.times_N.tolist()) == times


def test_a_header_can_be_declared(tmp_path):
    """Names and ids look alike where no column holds numbers."""
    file = tmp_path / "log.csv"
    file.write_text("wer,was\nanna,brot\n")
    assert read_log(file).users.ids.to_list() == ["wer", "anna"]
    assert read_log(file, header=True, user=0, item=1).users.ids.to_list() == ["anna"]
    assert read_log(file, user="wer", item="was").users.ids.to_list() == ["anna"]
    assert read_log(file, header=False).users.ids.to_list() == ["wer", "anna"]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_units_of_time(unit, factor, tmp_path):
    seconds = [1_700_000_000, -1, 0]
    frame = pl.DataFrame({"user": [1, 2, 3], "item": [1, 2, 3], "time": [s * factor + (factor > 1) for s in seconds]})
    frame.write_csv(tmp_path / "log.csv")
    for source in (frame, tmp_path / "log.csv"):
        assert read_log(source, time_unit=unit).interactions.times_N.tolist() == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-02", 1704153600),
        ("2024-01-02 03:04:05", 1704164645),
        ("2024-01-02T03:04:05Z", 1704164645),
        ("2024-01-02T03:04:05.999+02:00", 1704157445),
        ("1704164645.75", 1704164645),
        ("1.704164645e9", 1704164645),
    ],
)
def test_dates_and_times_as_text(text, seconds, tmp_path):
    (tmp_path / "log.csv").write_text(f"user,item,time\na,x,{text}\nb,y,{text}\n")
    assert read_log(tmp_path / "log.csv").interactions.times_N.tolist() == [seconds, seconds]


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
    assert "features of 2 of 3 items; 2 further items without an interaction are dropped; 0 bad rows" in caplog.text
    assert "features of 1 of 2 users; 1 further users without an interaction are dropped" in caplog.text


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


# The command line


def test_the_config_names_every_argument():
    config = yaml.safe_load((Path(__file__).parents[1] / "conf/data/log.yaml").read_text())
    parameters = inspect.signature(read_log).parameters
    assert config.pop("_target_") == "recsys_dl.readers.log.read_log"
    assert config.pop("path") == "???"
    assert config == {name: parameter.default for name, parameter in parameters.items() if name != "path"}


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


def spelled(users: list, items: list | None = None, **more: list) -> dict:
    """20 rows of these users and items in turn."""
    items = items or [f"i{row}" for row in range(7)]
    columns = {name: [values[row % len(values)] for row in range(20)] for name, values in more.items()}
    return {
        "user": [users[row % len(users)] for row in range(20)],
        "item": [items[row % len(items)] for row in range(20)],
        **columns,
    }


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            spelled(["ann", "Bob", "ANN"]),
            "1 of 3 user ids differ from another in upper and lower case alone, such as 'ann' and 'ANN'",
        ),
        (spelled(["ann", "bob", "ann\u00a0"]), "1 of 3 user ids differ from another in invisible characters"),
        (spelled(["ann", "bob", "\u200bann"]), r"such as 'ann' and '\u200bann'"),
        (spelled(["ann", "bob"], ["caf\u00e9", "cafe\u0301"]), "1 of 2 item ids differ"),
        (spelled(["1.0E+11", "1.1E+11"]), "user ids such as '1.0E+11' are numbers that a spreadsheet has rounded"),
        (
            spelled(["ann", "bob"], time=[0, 1_700_000_000]),
            "the time is 0, 1970-01-01, in 10 of 20 rows: probably missing",
        ),
        (spelled(["ann", "bob"], time=[1_700_000_000, 4_102_444_800]), "10 of 20 times are in the future"),
        (spelled(["ann", "bob"], time=[1_700_000_000]), "all rows have the same time"),
        (
            spelled(["ann", "bob"], quantity=[1.1, 1.101, 1.202]),
            "quantity holds counts with three decimals, such as 1.100",
        ),
    ],
)
def test_ids_times_and_counts_that_probably_mean_something_else_are_said(source, said, caplog):
    read_log(source)
    assert said in caplog.text


def test_a_row_of_totals_is_said(caplog):
    source = spelled(["ann", "bob"], quantity=[1, 2])
    source = {
        name: [*values, last] for (name, values), last in zip(source.items(), ("Grand Total", "", 30), strict=True)
    }
    source["item"][-1] = "7 items"
    read_log(source)
    assert "the user id 'Grand Total' occurs in 1 row: if that is a row of totals, remove it" in caplog.text


def test_ordinary_ids_times_and_counts_are_not_questioned(caplog):
    caplog.set_level("WARNING", "recsys_dl")
    read_log(spelled(["ann", "bob", "1E5", "Total"], time=[1_700_000_000, 1_700_000_001], quantity=[1, 2.5, 3]))
    read_log(spelled(["ann", "bob"], time=[0, 1, 2]))
    assert not caplog.text


def test_spreadsheets_errors_truth_values_and_thousands(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text("user,item\nann,1\n#N/A,2\n")
    with pytest.raises(ValueError, match=r"line 3: user id must be text or a whole number, got '#N/A'"):
        read_log(file)
    file.write_text("user,item,rating\nann,1,TRUE\nann,2,false\nbob,1,True\n")
    data = read_log(file)
    assert data.interactions.weights_N.tolist() == [1, 1]
    assert len(data.seen_only) == 1
    file.write_text('user,item,quantity\nann,1,"1,100"\nann,2,"2,300"\n')
    with pytest.raises(ValueError, match=r"if the comma separates thousands, remove it"):
        read_log(file)


def test_columns_of_shops_and_of_analytics_are_known(caplog):
    caplog.set_level("INFO", "recsys_dl")
    shop = read_log(
        {
            "Email": ["a@x.com", "b@x.com"],
            "Lineitem sku": ["s1", "s2"],
            "Lineitem quantity": [1, 2],
            "Created at": ["2024-01-02 10:00:00 -0500"] * 2,
        }
    )
    assert shop.weight_kind == "counts"
    assert (
        read_log(
            {"user_pseudo_id": ["1.2", "1.3"], "item_id": ["s1", "s2"], "EVENT_TS": [1_700_000_000, 1_700_000_001]}
        ).interactions.times_N
        is not None
    )
