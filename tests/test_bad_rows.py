"""Rows and times that are wrong are named by their line, or skipped and counted."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import polars as pl
import pytest
from test_bad_input import GOOD, HEAD, error_of

from recsys_dl import read_log
from recsys_dl.readers import text_files

# Rows

BAD_ROWS = {
    "c,z,3,30,more,yet": "has 6 fields, expected 5: 'c,z,3,30,more,yet'",
    "c,z": "weight must be a number, finite and not negative, got nothing",
    "c,z,nan,30": "weight must be a number, finite and not negative, got nan",
    "c,z,inf,30": "got inf",
    "c,z,-0.5,30": "got -0.5",
    "c,z,good,30": "weight must be a number, finite and not negative, got 'good'",
    "c,z,3,soon": "time must be seconds since 1970, or a date such as 2024-05-31T12:00:00Z, got 'soon'",
    "c,z,3,": "time must be seconds since 1970",
    "c,z,3,1700000000000": "time must be seconds since 1970",
    "c,z,3,nan": "time must be seconds since 1970",
    ",z,3,30": "user id must be text or a whole number, got nothing",
    'c,"",3,30': "item id must be text or a whole number, got ''",
    "c,z\xff,3,30": "is not UTF-8 (byte 0xff at position 4); for another encoding set",
    'c,"z,3,30': "opens a quote that is not closed: 'c,\"z,3,30'",
}


@pytest.mark.parametrize("row", BAD_ROWS)
@pytest.mark.parametrize("block", [None, 30])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_bad_row_is_named_by_its_line_or_skipped(row, block, newline, tmp_path, monkeypatch, caplog):
    """Line 6 of the file: behind the header, a quoted line break and a blank line; also where blocks end in between."""
    if block is not None:
        monkeypatch.setattr(text_files, "CHUNK_BYTES", block)
        monkeypatch.setattr(text_files, "SLOW_BYTES", 40)
    before = 'a,x,1,10\nb,y,2,20,"b\nb"\n\n'
    content = (
        (HEAD.strip() + ",note\n" + before + row + "\n" + "".join(f"d,x{n},4,40\n" for n in range(5)))
        .replace("\n", newline)
        .encode("latin-1")
    )
    file = tmp_path / "log.csv"
    message = error_of(file, content)
    assert f"{file}, line 6: " in message
    assert BAD_ROWS[row] in message
    assert 'on_bad_rows="skip"' in message
    assert "data.on_bad_rows=skip" in message

    with caplog.at_level(logging.WARNING, "recsys_dl"):
        data = read_log(file, on_bad_rows="skip")
    assert data.users.ids.to_list() == ["a", "b", "d"]
    assert data.interactions.weights_N.tolist() == [1, 2, 4, 4, 4, 4, 4]
    assert data.interactions.times_N.tolist() == [10, 20, 40, 40, 40, 40, 40]
    assert data.report.rows == 8
    assert sum(data.report.skipped.values()) == 1
    assert "line 6: " in next(iter(data.report.first.values()))
    assert "1 of 8 rows skipped" in caplog.text
    assert data.with_interactions(data.interactions).report is data.report


def test_skipping_counts_by_reason_over_all_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 100)
    file = tmp_path / "log.csv"
    file.write_text(HEAD + (GOOD + ",x,1,1\na,x,-1,1\na,x,1,soon\na,x,1,1,1\n,,-1,soon\n") * 50)
    report = read_log(file, on_bad_rows="skip").report
    assert report.rows == 350
    assert dict(report.skipped) == {
        "not readable": 50,
        "without user id": 100,  # a row counts once, for the first of its faults
        "with a bad weight": 50,
        "with a bad time": 50,
    }
    assert report.first["with a bad time"].startswith("line 6: ")


def test_when_every_row_is_bad_skipping_does_not_hide_it(tmp_path):
    message = error_of(tmp_path / "log.csv", HEAD + "a,x,-1,1\n" * 3, on_bad_rows="skip")
    assert "all its 3 rows are bad" in message
    assert "line 2: weight must be" in message


def test_bad_rows_in_frames_are_named_by_position():
    frame = pl.DataFrame({"user": ["a", "b"], "item": ["x", None], "rating": [1.0, float("nan")]})
    for source in (frame, frame.to_pandas(), frame.to_arrow()):
        with pytest.raises(ValueError, match=r"row 1 \(from 0\): item id must be text or a whole number, got nothing"):
            read_log(source)
        assert read_log(source, on_bad_rows="skip").report.skipped == {"without item id": 1}
    with pytest.raises(ValueError, match=r"row 1 \(from 0\): weight must be .*, got nan"):
        read_log(frame.with_columns(item=pl.lit("x")))
    with pytest.raises(ValueError, match=r"row 0 \(from 0\): user id must be text or a whole number, got 1.5"):
        read_log(pl.DataFrame({"user": [1.5], "item": ["x"]}))


def test_the_row_number_in_a_parquet_file_counts_over_its_groups(tmp_path):
    weights = np.ones(100)
    weights[77] = -1
    frame = pl.DataFrame({"user": np.arange(100), "item": np.arange(100), "rating": weights})
    frame.write_parquet(tmp_path / "log.parquet", row_group_size=10)
    with pytest.raises(ValueError, match=r"log.parquet, row 77 \(from 0\): weight must be"):
        read_log(tmp_path / "log.parquet")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([b"\xff", b"x"], "item column: ids must be text or numbers.* not UTF-8"),
        ([["x"], ["y"]], "got a column of List"),
    ],
)
def test_ids_that_are_none(items, message):
    with pytest.raises(ValueError, match=message):
        read_log(pd.DataFrame({"user": ["a", "b"], "item": items}))


# Times


@pytest.mark.parametrize(
    ("factor", "noun", "unit"),
    [(10**3, "milliseconds", "ms"), (10**6, "microseconds", "us"), (10**9, "nanoseconds", "ns")],
)
def test_times_in_another_unit_are_told_and_the_advice_works(factor, noun, unit, tmp_path):
    times = [1_700_000_000 * factor, 1_600_000_000 * factor]
    frame = pl.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "time": times})
    frame.write_csv(tmp_path / "log.csv")
    for source in (frame, tmp_path / "log.csv"):
        with pytest.raises(ValueError, match=f'got {times[0]}.*looks like {noun}. Set time_unit="{unit}"'):
            read_log(source)
        assert read_log(source, time_unit=unit).interactions.times_N.tolist() == [1_700_000_000, 1_600_000_000]
        assert read_log(source, time_unit="s").interactions.times_N.tolist() == times
