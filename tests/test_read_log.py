"""read_log: the same log gives the same Dataset whatever it comes as; columns are recognized; side tables join by id."""

from __future__ import annotations

import gzip
import inspect
import io
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


# The command line


def test_the_config_names_every_argument():
    config = yaml.safe_load((Path(__file__).parents[1] / "conf/data/log.yaml").read_text())
    parameters = inspect.signature(read_log).parameters
    assert config.pop("_target_") == "recsys_dl.readers.log.read_log"
    assert config.pop("path") == "???"
    assert config == {name: parameter.default for name, parameter in parameters.items() if name != "path"}
