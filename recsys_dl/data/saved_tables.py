"""Reading the Parquet files of saved folders, which may be damaged or made by someone else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

PACKED_FROM, MOST_PACKED = 1 << 28, 200  # bytes of a table, above the first at most so many for each byte of its file
ROWS = 1 << 10  # that are looked at together
REPEATED = {
    "PLAIN_DICTIONARY",
    "RLE_DICTIONARY",
}  # encodings of a text that is there once and unfolded as often as it occurs
WIDTHS = {
    "BOOLEAN": 1,
    "INT32": 4,
    "INT64": 8,
    "INT96": 12,
    "FLOAT": 4,
    "DOUBLE": 8,
}  # bytes of a value; of text its place in a dictionary, 4


def read_saved_table(file: Path) -> pl.DataFrame:
    """Return a Parquet file as a frame, read and checked by PyArrow: some damaged files end the process in Polars' own reader.

    Raises:
        FileNotFoundError: no file there.
        ValueError: it is damaged, or would take far more memory than it has bytes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            most = max(PACKED_FROM, MOST_PACKED * file.stat().st_size)
            texts = _check_sizes(file, opened.metadata, most)
        _check_rows(file, texts, most)
        with pq.ParquetFile(file) as opened:
            table = opened.read()  # pq.read_table would import pandas, if it is installed
        table.validate(full=True)
        frame = pl.from_arrow(table)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError, pl.exceptions.PanicException) as error:
        raise ValueError(f"{file} is damaged ({str(error)[:200]}); restore it or recreate it") from error
    assert isinstance(frame, pl.DataFrame)
    return frame


def _check_sizes(file: Path, about: pq.FileMetaData, most: int) -> list[str]:
    """Raise ValueError if the file says that it holds too much; return its columns of repeated texts."""
    packed = unpacked = 0
    texts: set[str] = set()
    for group in range(about.num_row_groups):
        for number in range(about.num_columns):
            column = about.row_group(group).column(number)
            packed += max(0, column.total_uncompressed_size)
            unpacked += max(0, column.num_values) * WIDTHS.get(column.physical_type, 4)
            if column.physical_type == "BYTE_ARRAY":
                if "DELTA_BYTE_ARRAY" in column.encodings:
                    raise ValueError(
                        f"{file} must have texts that are whole, but says that they are parts of others; write it anew"
                    )
                if REPEATED & set(column.encodings):
                    texts.add(column.path_in_schema)
    _check(file, max(packed, unpacked), most)
    return sorted(texts)


def _check_rows(file: Path, texts: list[str], most: int) -> None:
    """Raise ValueError if the rows take too much, without unfolding texts that are repeated."""
    import pyarrow.parquet as pq

    size = 0
    with pq.ParquetFile(file, read_dictionary=texts) as opened:
        for batch in opened.iter_batches(batch_size=ROWS):
            size += sum(_bytes_of(column) for column in batch.columns)
            _check(file, size, most)


def _bytes_of(column: pa.Array) -> int:
    """Return the bytes of a column once its texts are unfolded."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind: Any = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return int(column.nbytes) + _bytes_of(column.flatten())
    if pa.types.is_struct(kind):
        return sum(_bytes_of(part) for part in column.flatten())
    if pa.types.is_dictionary(kind) and (
        pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)
    ):
        lengths = pc.binary_length(column.dictionary)
        return int(pc.sum(pc.cast(pc.take(lengths, column.indices), pa.int64())).as_py() or 0) + 4 * len(column)
    return int(column.nbytes)


def _check(file: Path, size: int, most: int) -> None:
    if size > most:
        raise ValueError(
            f"{file} holds a table of {size:,} bytes or more in {file.stat().st_size:,}, and would fill the memory"
        )
