"""Files made to do harm, or damaged anywhere, in place of a log or a table of features: read, or refused in words, in bounded memory."""

from __future__ import annotations

import contextlib
import gzip
import io
import zlib

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from recsys_dl import read_log
from recsys_dl.readers.text_files import HEAD_BYTES
from recsys_dl.verbs.ids import ids_of

ROWS = b"user,item\na,1\nb,2\n"
DEEP = "[" * 100_000


def packed(megabytes: int, begin: bytes, fill: bytes) -> bytes:
    """Return gzip data of a beginning and many equal bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as stream:
        stream.write(begin)
        for _ in range(megabytes):
            stream.write(fill * (1 << 20))
    return out.getvalue()


@pytest.mark.parametrize(
    ("begin", "fill"), [(b"user,item\n", b"a"), (b'[{"user":', b" "), (b'{"user": 1, "item": 2}\n{"user": "', b"a")]
)
def test_a_packed_line_or_array_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, begin, fill):
    monkeypatch.setattr("recsys_dl.readers.text_files.PACKED_FROM", 1 << 21)
    monkeypatch.setattr("recsys_dl.readers.text_files.CHUNK_BYTES", 1 << 20)
    (tmp_path / "log").write_bytes(packed(8, begin, fill))
    with pytest.raises(ValueError, match="would fill the memory"):
        read_log(tmp_path / "log", user="user", item="item")


def test_a_log_of_many_equal_rows_is_no_bomb(tmp_path):
    (tmp_path / "log.csv").write_bytes(gzip.compress(b"user,item\n" + b"a,1\n" * HEAD_BYTES))
    assert len(read_log(tmp_path / "log.csv", repeats="keep").interactions) >= 1


@pytest.mark.parametrize("text", [DEEP, '[{"user": ' + DEEP, '{"user": 1, "item": ' + DEEP, '{"a":' * 100_000])
def test_deep_json_is_refused(tmp_path, text):
    (tmp_path / "log").write_text(text)
    with pytest.raises(ValueError, match="JSON object|must be text or a number"):
        read_log(tmp_path / "log")


def test_deep_lists_in_a_column_are_text(tmp_path):
    items = pl.DataFrame({"item": ["1", "2"], "tags": [f"{DEEP}{']' * len(DEEP)}", "['a']"]})
    assert read_log(pl.DataFrame({"user": ["a"], "item": ["1"]}), item_features=items).item_features is not None


@pytest.mark.parametrize("compress", [gzip.compress, lambda rows: b"\x28\xb5\x2f\xfd" + zlib.compress(rows)])
@pytest.mark.parametrize("at", [10, 12, 14, -3])
def test_damaged_compression_is_refused(tmp_path, compress, at):
    content = bytearray(compress(ROWS * 50))
    content[at] ^= 0xFF
    (tmp_path / "log.csv").write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is damaged or truncated"):
        read_log(tmp_path / "log.csv")


@pytest.mark.parametrize("at", range(2, 40))
def test_damaged_arrow_is_refused_or_read(tmp_path, at):
    table = pl.DataFrame({"user": ["ab", "c", "d"] * 4, "item": ["1", "22", "3"] * 4}).to_arrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content = bytearray(sink.getvalue().to_pybytes())
    content[-16 * at : -16 * at + 4] = b"\xff\xff\xff\x7f"  # among lengths, offsets and texts
    (tmp_path / "log").write_bytes(bytes(content))
    with contextlib.suppress(ValueError):
        read_log(tmp_path / "log")


def test_damaged_parquet_of_ids_is_refused_or_read(tmp_path):
    out = io.BytesIO()
    pl.DataFrame({"user_id": ["a", "b"] * 20}).write_parquet(out)
    for seed in range(150):
        rng, content = np.random.default_rng(seed), bytearray(out.getvalue())
        for at in rng.integers(4, len(content) - 8, 3):
            content[at] = rng.integers(256)
        (tmp_path / "ids.parquet").write_bytes(bytes(content))
        with contextlib.suppress(ValueError):
            ids_of(str(tmp_path / "ids.parquet"), "users", "user")
