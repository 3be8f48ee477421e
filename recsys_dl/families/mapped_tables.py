"""Functions of all rows of a divided table, written by all processes to one file, which each then maps instead of holding it.

S columns of the result.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recsys_dl.networks.sharded import ShardedEmbedding, blocks
from recsys_dl.processes import current


def mapped_rows(table: ShardedEmbedding, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return float32 [R, S], mapped, which must not be written to: a function of each row of a table, computed by the process that holds it.

    The file is in the system's folder for temporary files (TMPDIR), which all processes must see, and has no name once it is written: its
    space is freed when the processes end, however they do.

    Raises:
        ValueError: another machine has another folder for temporary files.
        OSError: no room for it.
    """
    group = current()
    with torch.no_grad():
        num_columns = function(table.weight[:0]).shape[1]
    num_bytes = 4 * table.num_rows * num_columns
    with _advice(num_bytes):
        folder = Path(group.gather(_new_folder() if group.rank == 0 else "")[0])
    try:
        if not all(group.gather((folder / "rows").exists())):
            raise ValueError(
                f"trainer.shard_tables assembles tables in {folder.parent}, which must be one folder for all processes; set the environment "
                "variable TMPDIR to a folder that all machines see"
            )
        with _advice(num_bytes):
            _write(folder / "rows", table, function, num_columns)
        group.gather(None)  # all have written
        whole = np.memmap(folder / "rows", np.float32, "r", shape=(table.num_rows, num_columns))
        group.gather(None)  # all have opened it
    finally:
        if group.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(np.asarray(whole))


@contextmanager
def _advice(num_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"assembling a divided table takes {num_bytes:,} bytes in {tempfile.gettempdir()} ({error}); set the environment variable "
            "TMPDIR to a folder with more room"
        ) from error


def _new_folder() -> str:
    """Create a folder with an empty file; return its path."""
    folder = tempfile.mkdtemp(prefix="recsys_dl-tables-")
    (Path(folder) / "rows").touch()
    return folder


def _write(file: Path, table: ShardedEmbedding, function: Callable[[Tensor], Tensor], num_columns: int) -> None:
    """Write the rows of this process, in blocks."""
    with file.open("r+b") as out, torch.no_grad():
        for start, end in blocks(table.last - table.first, max(num_columns, table.weight.shape[1])):
            out.seek(4 * num_columns * (table.first + start))
            out.write(np.ascontiguousarray(function(table.weight[start:end]).cpu().numpy(), np.float32).data)
        out.flush()
        os.fsync(out.fileno())
