"""Folders that appear whole or not at all, and the arrays in them.

A folder is written beside its final place and moved in when everything is in it: a crash, a full disk or Ctrl-C leaves
the old folder (or nothing), never half a new one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.sparse as sp


@contextmanager
def new_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it becomes `path`, on any error it is removed.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false. If it appeared while the folder was filled, nothing is lost:
            the new one takes the next free name, and the message says which.
        OSError: the disk is full or the parent cannot be written; the message names `path`.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; name another folder, or remove it first")
    aside: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
        aside.chmod(0o777 & ~_umask())
        yield aside
        if target.exists() and not overwrite:
            other = next_free(target)
            aside.rename(other)
            raise FileExistsError(f"{target} was made by someone else meanwhile; what was to go there is in {other}")
        if target.exists():
            old = aside.with_suffix(".old")
            target.rename(old)
            aside.rename(target)
            shutil.rmtree(old)
        else:
            aside.rename(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"the disk is full: nothing was written to {target}; free some space and run again"
            ) from error
        raise
    finally:
        if aside is not None and aside.exists():
            shutil.rmtree(aside, ignore_errors=True)


def next_free(folder: Path) -> Path:
    """Return `folder`, or the first of folder-2, folder-3, ... that does not exist."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray | sp.csr_matrix]) -> None:
    """Write dense arrays and CSR matrices to one `.npz`; a matrix `m` becomes `m.data`, `m.indices`, `m.indptr`, `m.shape`."""
    flat: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if sp.issparse(array):
            flat |= {f"{name}.{part}": getattr(array, part) for part in ("data", "indices", "indptr")}
            flat[f"{name}.shape"] = np.asarray(array.shape, np.int64)
        else:
            flat[name] = np.asarray(array)
    with file.open("wb") as out:
        np.savez(out, allow_pickle=False, **flat)


def load_arrays(file: Path) -> dict[str, np.ndarray | sp.csr_matrix]:
    """Read what `save_arrays` wrote. Pickled arrays are refused."""
    with np.load(file, allow_pickle=False) as stored:
        flat = {name: stored[name] for name in stored.files}
    arrays: dict[str, np.ndarray | sp.csr_matrix] = {}
    for name, array in flat.items():
        stem, _, part = name.rpartition(".")
        if not stem:
            arrays[name] = array
        elif part == "shape":
            parts = (flat[f"{stem}.data"], flat[f"{stem}.indices"], flat[f"{stem}.indptr"])
            arrays[stem] = sp.csr_matrix(parts, shape=tuple(array))
    return arrays


def sha256(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(stream)


def _sha256(stream) -> str:  # type: ignore[no-untyped-def]
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
