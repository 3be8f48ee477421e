"""Tables that all processes write to one file, each its rows, and then map instead of holding them.

R rows, S columns.
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

from recsys_dl.networks.sharded import Sharding, blocks
from recsys_dl.processes import current


def mapped_rows(num_rows: int, num_columns: int, sharding: Sharding, rows: Callable[[int, int], Tensor]) -> Tensor:
    """Return float32 [R, S], mapped, which must not be written to.

    The file is in the system's folder for temporary files (TMPDIR), which all processes must see, and has no name once it is written: its
    space is freed when the processes end, however they do.

    Args:
        num_rows: R.
        num_columns: S.
        sharding: which rows this process writes.
        rows: returns [.., S] from one row to another, some of these at a time; without gradients.

    Raises:
        ValueError: another machine has another folder for temporary files.
        OSError: no room for it.
    """
    group = current()
    num_bytes = 4 * num_rows * num_columns
    with _advice(num_bytes):
        folder = Path(group.gather(_new_folder() if group.rank == 0 else "")[0])
    try:
        if not all(group.gather((folder / "rows").exists())):
            raise ValueError(
                f"trainer.shard_tables assembles tables in {folder.parent}, which must be one folder for all processes; set the environment "
                "variable TMPDIR to a folder that all machines see"
            )
        with _advice(num_bytes):
            _write(folder / "rows", num_columns, sharding.bounds(num_rows)[group.rank : group.rank + 2], rows)
        group.gather(None)  # all have written
        whole = np.memmap(folder / "rows", np.float32, "r", shape=(num_rows, num_columns))
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


def _write(file: Path, num_columns: int, own: list[int], rows: Callable[[int, int], Tensor]) -> None:
    """Write the rows of this process, in blocks."""
    first, last = own
    with file.open("r+b") as out, torch.no_grad():
        for start, end in blocks(last - first, num_columns):
            out.seek(4 * num_columns * (first + start))
            out.write(np.ascontiguousarray(rows(first + start, first + end).cpu().numpy(), np.float32).data)
        out.flush()
        os.fsync(out.fileno())
