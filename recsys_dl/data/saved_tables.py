"""Reading the Parquet files of saved folders, which may be damaged or made by someone else."""

from __future__ import annotations

from pathlib import Path

import polars as pl


def read_saved_table(file: Path) -> pl.DataFrame:
    """Return a Parquet file as a frame, read and checked by PyArrow: some damaged files end the process in Polars' own reader.

    Raises:
        FileNotFoundError: no file there.
        ValueError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        table.validate(full=True)
        frame = pl.from_arrow(table)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, pl.exceptions.PanicException) as error:
        raise ValueError(f"{file} is damaged ({str(error)[:200]}); restore it or recreate it") from error
    assert isinstance(frame, pl.DataFrame)
    return frame
