"""Times of a log: one reading that holds for all rows, or a question; and the order within a second is kept."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_dl import read_log
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.split import leave_last_out, time_split
from recsys_dl.data.times import to_times
from recsys_dl.readers import text_files
from recsys_dl.training.shards import write_shards


def seconds(*moment: int) -> int:
    return int(datetime.datetime(*moment, tzinfo=datetime.UTC).timestamp())


def written(file: Path, times: list[str]) -> Path:
    file.write_text("user,item,date\n" + "".join(f'{i},x,"{time}"\n' for i, time in enumerate(times)))
    return file


@pytest.mark.parametrize("separator", ["/", "-", "."])
@pytest.mark.parametrize("clock", ["", " 10:30", " 1:05:09 PM"])
def test_days_of_at_most_twelve_are_asked_for_and_the_advice_works(separator, clock, tmp_path):
    times = [f"{day:02}{separator}0{month}{separator}2020{clock}" for month in (1, 2) for day in range(1, 13)]
    file = written(tmp_path / "log.csv", times)
    for source in (file, pl.read_csv(file, infer_schema=False)):
        with pytest.raises(ValueError, match=r'2020-01-01|Set time_format="%d/%m/%Y" or time_format="%m/%d/%Y"'):
            read_log(source)
        with pytest.raises(ValueError, match=r"2020-01-02 \(day/month/year\) or 2020-02-01 \(month/day/year\)"):
            read_log(source, on_bad_rows="skip")
        first = {
            form: read_log(source, time_format=form).interactions.times_N[1] // 86_400
            for form in ("%d/%m/%Y", "%m/%d/%Y")
        }
        assert first["%d/%m/%Y"] == seconds(2020, 1, 2) // 86_400
        assert first["%m/%d/%Y"] == seconds(2020, 2, 1) // 86_400


@pytest.mark.parametrize(("telling", "reading"), [("13/06/2020", "day/month/year"), ("06/13/2020", "month/day/year")])
@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_row_anywhere_tells_for_all(telling, reading, place, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 300)
    times = ["03/04/2020"] * 1000
    times[place] = telling
    data = read_log(written(tmp_path / "log.csv", times))
    expected = seconds(2020, 4, 3) if reading == "day/month/year" else seconds(2020, 3, 4)
    assert set(np.delete(data.interactions.times_N, place)) == {expected}
    assert reading in data.report.columns


@pytest.mark.parametrize("skip", ["error", "skip"])
@pytest.mark.parametrize("places", [(0, 1), (0, 999), (999, 0)])
def test_rows_that_contradict_are_an_error_and_never_dropped(skip, places, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 300)
    times = ["03/04/2020"] * 1000
    times[places[0]], times[places[1]] = "13/01/2020", "01/14/2020"
    file = written(tmp_path / "log.csv", times)
    with pytest.raises(ValueError, match="no single format fits all times") as caught:
        read_log(file, on_bad_rows=skip)
    for place, value in zip(places, ("13/01/2020", "01/14/2020"), strict=True):
        assert f"'{value}' (line {place + 2})" in str(caught.value)
    data = read_log(file, on_bad_rows="skip", time_format="%d/%m/%Y")
    assert data.report.skipped == {"with a bad time": 1}


def test_a_format_that_reads_too_few_rows_is_no_reason_to_skip_them(tmp_path):
    file = written(tmp_path / "log.csv", ["2020-01-02"] * 5 + ["2. Januar 2020"] * 5 + ["May 2020"] * 2)
    with pytest.raises(ValueError, match=r"7 of 12 rows are with a bad time.* set it with time_format="):
        read_log(file, on_bad_rows="skip")
    weights = tmp_path / "weights.csv"
    weights.write_text("user;item;rating\n" + "1;2;3,5\n" * 9 + "1;2;4\n" * 9)
    with pytest.raises(ValueError, match=r"9 of 18 rows are with a bad weight.*decimal=\",\""):
        read_log(weights, on_bad_rows="skip")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240131", seconds(2024, 1, 31)),
        ("20240131123000", seconds(2024, 1, 31, 12, 30)),
        ("202401311230", seconds(2024, 1, 31, 12, 30)),
        ("20240131T123000Z", seconds(2024, 1, 31, 12, 30)),
        ("2015", seconds(2015, 1, 1)),
        ("2019-10-01 00:00:00 UTC", seconds(2019, 10, 1)),
        ("2020-01-01 10:00:00+00", seconds(2020, 1, 1, 10)),
        ("2020/3/4 5:06", seconds(2020, 3, 4, 5, 6)),
        ("2020.03.04", seconds(2020, 3, 4)),
        ("Tue Apr 03 18:00:09 +0000 2012", seconds(2012, 4, 3, 18, 0, 9)),
        ("Tue, 03 Apr 2012 18:00:09 +0200", seconds(2012, 4, 3, 16, 0, 9)),
        ("03/Apr/2012:18:00:09 +0000", seconds(2012, 4, 3, 18, 0, 9)),
        ("April 3rd, 2012 12:05 am", seconds(2012, 4, 3, 0, 5)),
        ("31-Jan-2024", seconds(2024, 1, 31)),
        ("04 3, 2012", seconds(2012, 4, 3)),
        ("1333476009.75", 1333476009),
    ],
)
def test_forms_of_times(text, expected, tmp_path):
    data = read_log(written(tmp_path / "log.csv", [text, text]))
    assert data.interactions.times_N.tolist() == [expected] * 2


def test_dates_as_whole_numbers_in_frames_too():
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2], "date": [20240131, 20240229]})
    for source in (frame, frame.cast({"date": pl.Float64}), frame.cast({"date": pl.String})):
        assert read_log(source).interactions.times_N.tolist() == [seconds(2024, 1, 31), seconds(2024, 2, 29)]
    assert read_log(frame, time_unit="s").interactions.times_N.tolist() == [20240131, 20240229]
    no_dates = frame.with_columns(date=pl.Series([20240131, 20240230]))
    assert read_log(no_dates).interactions.times_N.tolist() == [20240131, 20240230]


@pytest.mark.parametrize("last", ["20240230", "7"])
def test_numbers_are_dates_only_if_all_are_in_all_blocks(last, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 200)
    data = read_log(written(tmp_path / "log.csv", ["20240131"] * 100 + [last]))
    assert data.interactions.times_N.tolist() == [20240131] * 100 + [int(last)]


def test_milliseconds_are_still_refused_where_a_first_block_looks_like_dates(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 200)
    with pytest.raises(ValueError, match="looks like milliseconds"):
        read_log(written(tmp_path / "log.csv", ["20240131123000"] * 20 + ["20240131993000"] * 30))


def test_year_and_month_are_asked_for(tmp_path):
    file = written(tmp_path / "log.csv", ["202401", "202402"])
    with pytest.raises(ValueError, match='time_format="%Y%m"'):
        read_log(file)
    assert read_log(file, time_format="%Y%m").interactions.times_N.tolist() == [
        seconds(2024, 1, 1),
        seconds(2024, 2, 1),
    ]


def test_small_numbers_are_stated_as_an_order(tmp_path):
    assert "numbers from 3 to 9, used as an order" in read_log(written(tmp_path / "l.csv", ["9", "3"])).report.columns


@pytest.mark.parametrize("dtype", [pl.Duration, pl.Time, pl.Boolean])
def test_columns_that_are_no_moments(dtype):
    frame = pl.DataFrame({"user": [1], "item": [2], "time": pl.Series([None], dtype=dtype)})
    with pytest.raises(ValueError, match=r"times must be points in time.*time=False"):
        read_log(frame)


def test_features_of_items_ask_too():
    with pytest.raises(ValueError, match="no row is unambiguous"):
        to_times(pl.Series(["01/02/2020", "03/04/2020"]), "s")
    assert to_times(pl.Series(["01/02/2020", "13/04/2020", None]), "s").to_list()[0] == seconds(2020, 2, 1)


# The order within a second

EARLY = 1_700_000_000_000


def in_milliseconds(seed: int = 0) -> pl.DataFrame:
    """A log in which each user's rows fall within few seconds, in disorder."""
    rng = np.random.default_rng(seed)
    times = EARLY + rng.permutation(3_000)[:400]
    return pl.DataFrame({"user": rng.integers(0, 8, 400), "item": np.arange(400), "time": times})


def as_sources(frame: pl.DataFrame, folder: Path) -> list[tuple[object, dict[str, str]]]:
    frame.write_csv(folder / "ms.csv")
    moments = frame.with_columns(pl.from_epoch("time", time_unit="ms"))
    moments.write_csv(folder / "iso.csv")
    moments.write_parquet(folder / "log.parquet")
    fractions = frame.with_columns(pl.col("time") / 1000)
    return [
        (folder / "ms.csv", {"time_unit": "ms"}),
        (frame, {"time_unit": "ms"}),
        (folder / "iso.csv", {}),
        (folder / "log.parquet", {}),
        (moments.to_pandas(), {}),
        (fractions, {}),
    ]


@pytest.mark.parametrize("kind", range(6))
def test_the_order_within_a_second_reaches_splits_sequences_and_shards(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 2_000)
    frame = in_milliseconds()
    source, options = as_sources(frame, tmp_path)[kind]
    data = read_log(source, **options)
    log = data.interactions
    assert set(log.times_N) == {EARLY // 1000 + second for second in range(3)}
    in_order = frame.sort("time")

    def of(part) -> list[tuple[str, str]]:
        own = part.interactions
        return sorted(zip(data.users.at(own.users_N), data.items.at(own.items_N), strict=True))

    last = in_order.group_by("user", maintain_order=True).last()
    split = leave_last_out(data)
    assert of(split.test) == sorted(last.select(pl.col("user", "item").cast(pl.String)).rows())
    newest = in_order.tail(40).select(pl.col("user", "item").cast(pl.String)).rows()
    assert of(time_split(data, validation=0, test=0.1).test) == sorted(newest)
    order, starts = log.sequences
    for user in range(data.num_users):
        items = data.items.at(log.items_N[order[starts[user] : starts[user + 1]]]).to_list()
        mine = in_order.filter(pl.col("user") == int(data.users.ids[user]))["item"].cast(pl.String).to_list()
        assert items == mine
    assert data.content_hash == read_log(in_milliseconds(), time_unit="ms").content_hash
    assert len(write_shards(log, tmp_path / "shards")) == 400


def test_only_rows_of_the_same_second_change_places():
    times = [5_900, 1_500, 5_100, 1_200, 5_500]
    data = read_log(pl.DataFrame({"user": [0] * 5, "item": list("abcde"), "time": times}), time_unit="ms")
    assert data.items.ids.to_list() == list("abcde"), "ids keep the order of their first appearance"
    assert data.items.at(data.interactions.items_N).to_list() == list("cdeba")
    assert data.interactions.times_N.tolist() == [5, 1, 5, 1, 5]


def test_interactions_whose_order_a_second_hides_are_refused():
    with pytest.raises(ValueError, match=r"order within a second.*sort"):
        Interactions([0, 0], [0, 1], None, [1.75, 1.25])
    moments = np.array(["2020-01-01T00:00:00.9", "2020-01-01T00:00:00.1"], "datetime64[ms]")
    with pytest.raises(ValueError, match=r"order within a second.*sort"):
        Interactions([0, 0], [0, 1], None, moments)
    assert Interactions([0, 0], [0, 1], None, [1.25, 1.75]).times_N.tolist() == [1, 1]
    assert Interactions([0, 1], [0, 1], None, [3.75, 1.25]).times_N.tolist() == [3, 1]
