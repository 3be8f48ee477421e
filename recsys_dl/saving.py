"""Saved objects: a folder of `config.yaml` (class, arguments, checksums) and `arrays.npz`. Never a pickle.

Everything that is fitted and saved (a model, an index, a ranker, features, a re-ranker, a pipeline) is a `Saved`.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import checked, parameters_of, show_arguments
from recsys_dl.folders import NO_ARRAY, new_folder, sha256
from recsys_dl.trust import check_links, class_named
from recsys_dl.version import __version__

FORMAT = 1  # increased when older folders can no longer be read
CSR_PARTS = ("data", "indices", "indptr")
ALIGNMENT = 64  # bytes
MAPPED_FROM = 1 << 26  # bytes of a CSR matrix's array from which it is mapped
PACKED_FROM, MOST_PACKED = 1 << 26, 200  # bytes of arrays, above the first at most so many for each byte of their file
MOST_VALUES = 100_000  # in a configuration

DAMAGE = (  # what reading a damaged folder raises, besides ValueError
    *(KeyError, TypeError, IndexError, AttributeError, EOFError, RecursionError, zlib.error),
    *(zipfile.BadZipFile, pl.exceptions.PolarsError),
)

_LOCAL_HEADER, _ZIP64_FIELD, _FIELD = 30, 20, 4  # bytes, of the ZIP format
_PADDING = 0x5052  # of an extra field that readers skip


class Saved(ABC):
    """An object saved as its constructor's arguments and arrays.

    A subclass stores its arguments under their own names, sets `noun`, and implements `arrays`, `restore` and `_check_fitted`;
    if it has more than one file, also `_write` and `_read`.
    """

    noun: ClassVar[str]  # its name in messages

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", checked(cls.__init__))  # noqa: B010  an assignment would hide the arguments from jedi
            show_arguments(cls)

    def arguments(self) -> dict[str, Any]:
        """Return the constructor's arguments; including its parent's if it passes `**` on."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    @abstractmethod
    def arrays(self) -> dict[str, Any]:
        """Return the fitted state by name: NumPy arrays and CSR matrices."""

    @abstractmethod
    def restore(self, arrays: dict[str, Any]) -> None:
        """Restore the state that `arrays` returned, in place of fitting."""

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write `config.yaml`, `arrays.npz` and any other files to a folder, atomically.

        Raises:
            ValueError: nothing has been fitted yet.
            FileExistsError: the folder exists and `overwrite` is false.
        """
        self._check_fitted()
        with new_folder(folder, overwrite=overwrite) as aside:
            config = {
                "format": FORMAT,
                "version": __version__,
                "class": f"{type(self).__module__}.{type(self).__qualname__}",
                "arguments": self.arguments(),
                **self._write(aside),
            }
            write_config(aside, config)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read an object of this class or a subclass written by `save`. Nothing is unpickled.

        Raises:
            FileNotFoundError: nothing saved there.
            ValueError: it is damaged, has a format this version cannot read, or is of another class.
        """
        found, config = read_config(folder, cls, noun=cls.noun)
        try:
            return found._read(Path(folder), config)
        except DAMAGE as error:
            what = f"{type(error).__name__}: {str(error)[:200]}"
            raise ValueError(f"{folder} is damaged ({what}); restore it or recreate it") from error

    @abstractmethod
    def _check_fitted(self) -> None:
        """Raise ValueError if there is nothing to save yet."""

    def _write(self, folder: Path) -> dict[str, Any]:
        """Write all files except `config.yaml`; return its entries besides class and arguments."""
        save_arrays(folder / "arrays.npz", self.arrays())
        return {}

    @classmethod
    def _read(cls, folder: Path, config: dict[str, Any]) -> Self:
        """Return the object in a folder whose files were verified."""
        thing = cls(**config["arguments"])
        thing.restore(load_arrays(folder / "arrays.npz"))
        return thing


def load_saved(folder: str | os.PathLike[str], kind: type[Any], *, noun: str) -> Any:
    """Read a saved object of any class.

    Args:
        folder: where it was saved.
        kind: the required class or protocol.
        noun: its name in messages.

    Raises:
        FileNotFoundError: nothing saved there.
        ValueError: it is damaged, has a format this version cannot read, or is of another class.
    """
    found, _ = read_config(folder, kind, noun=noun)
    return found.load(folder)


def save_arrays(file: Path, arrays: Mapping[str, np.ndarray | sp.csr_matrix]) -> None:
    """Write dense arrays and CSR matrices to one `.npz`; a matrix `m` becomes `m.data`, `m.indices`, `m.indptr`, `m.shape`.

    Each member's data begin at a multiple of 64 bytes, so that `load_arrays` can map them.
    """
    flat: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if sp.issparse(array):
            flat |= {f"{name}.{part}": getattr(array, part) for part in CSR_PARTS}
            flat[f"{name}.shape"] = np.asarray(array.shape, np.int64)
        else:
            flat[name] = np.asarray(array)
    with zipfile.ZipFile(file, "w") as out:
        for name, array in flat.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            start = out.start_dir + _LOCAL_HEADER + len(member.filename.encode()) + _ZIP64_FIELD
            gap = -(start + _FIELD) % ALIGNMENT
            member.extra = struct.pack("<HH", _PADDING, gap) + bytes(gap)
            with out.open(member, "w", force_zip64=True) as target:
                np.lib.format.write_array(target, array, allow_pickle=False)


def load_arrays(file: Path) -> dict[str, np.ndarray | sp.csr_matrix]:
    """Read what `save_arrays` wrote. Pickled arrays are rejected.

    CSR matrices of more than 64 MiB are mapped: read-only, and read from the file as they are used.

    Raises:
        ValueError: a pickle, arrays that say that they are larger than their file holds, a matrix whose indices are outside of it, or a
            damaged archive.
    """
    try:
        return _read_arrays(file)
    except ValueError as error:
        if str(error).startswith(str(file)):
            raise
        raise ValueError(f"{file} is damaged ({str(error)[:200]}); restore it or recreate it") from error
    except (RuntimeError, *NO_ARRAY) as error:  # encrypted, packed otherwise; no header of an array
        raise ValueError(f"{file} is damaged ({str(error)[:200]}); restore it or recreate it") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a position before the beginning of the file
            raise
        raise ValueError(f"{file} is damaged: its parts lie outside of it; restore it or recreate it") from error


def _read_arrays(file: Path) -> dict[str, np.ndarray | sp.csr_matrix]:
    found_there = np.load(file, allow_pickle=False)
    if isinstance(found_there, np.ndarray):
        raise ValueError(f"{file} must hold arrays by name (.npz), but holds a single one")
    with found_there as stored:
        _check_sizes(file, stored.zip)
        names = stored.files
        large = {name for name in names if f"{name.rpartition('.')[0]}.indptr" in names}
        found = {name: _mapped(file, stored.zip, name) if name in large else None for name in names}
        flat = {name: stored[name] if array is None else array for name, array in found.items()}
    arrays: dict[str, np.ndarray | sp.csr_matrix] = {}
    for name, array in flat.items():
        stem, _, part = name.rpartition(".")
        if f"{stem}.indptr" not in flat:
            arrays[name] = array
        elif part == "shape":
            parts = (flat[f"{stem}.data"], flat[f"{stem}.indices"], flat[f"{stem}.indptr"])
            matrix = arrays[stem] = sp.csr_matrix(parts, shape=tuple(array))
            matrix.check_format(full_check=True)  # compiled code trusts the indices
    return arrays


def _check_sizes(file: Path, archive: zipfile.ZipFile) -> None:
    """Raise ValueError for arrays that would take far more memory than their file: it was packed, or lies about their shapes."""
    for member in archive.infolist():
        with archive.open(member) as source:
            version = np.lib.format.read_magic(source)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(source)
        if math.prod(shape) * dtype.itemsize > member.file_size and not dtype.hasobject:
            raise ValueError(f"{file} says that {member.filename} has the shape {shape}, but holds less")
    total = sum(member.file_size for member in archive.infolist())
    if total > max(PACKED_FROM, MOST_PACKED * file.stat().st_size):
        raise ValueError(
            f"{file} holds arrays of {total:,} bytes in {file.stat().st_size:,}, and would fill the memory"
        )


def _mapped(file: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray | None:
    """Return a member mapped from the file, or None if it is small, compressed or, as in older files, not aligned."""
    member = archive.getinfo(f"{name}.npy")
    if member.file_size < MAPPED_FROM or member.compress_type != zipfile.ZIP_STORED:
        return None
    with file.open("rb") as source:
        source.seek(member.header_offset)
        name_length, extra_length = struct.unpack("<HH", source.read(_LOCAL_HEADER)[-4:])
        source.seek(name_length + extra_length, os.SEEK_CUR)
        version = np.lib.format.read_magic(source)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = read(source)
        start = source.tell()
    if start % dtype.alignment or dtype.hasobject or by_columns:
        return None
    return np.asarray(np.memmap(file, dtype, "r", start, shape))


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `config.yaml`, with the SHA-256 of every file in the folder."""
    import yaml

    sums = {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
    text = yaml.safe_dump({**config, "sha256": sums}, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text)


def read_yaml(file: Path) -> Any:
    """Return a YAML file of plain values.

    Raises:
        yaml.YAMLError, ValueError: it is none, or its references to parts of itself make it endless or very large.
        RecursionError: it is very deep.
    """
    import yaml

    found, counts = yaml.safe_load(file.read_text()), dict[int, int]()

    def count(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if id(value) not in counts:
            counts[id(value)] = MOST_VALUES  # until it is known: of a part that holds itself
            counts[id(value)] = 1 + sum(map(count, inner))
        return counts[id(value)]

    if count(found) > MOST_VALUES:
        raise ValueError(
            f"{file.name} has more than {MOST_VALUES:,} values, as references to its own parts can make of few"
        )
    return found


def read_config(path: str | os.PathLike[str], kind: type[Any], *, noun: str) -> tuple[type[Any], dict[str, Any]]:
    """Return a saved object's class and its `config.yaml`, after verifying every file's SHA-256.

    Raises:
        FileNotFoundError: nothing saved there.
        ValueError: it is damaged, has a format this version cannot read, is not a `kind`, or names a class that is not
            trusted (see `recsys_dl.trust`).
    """
    import yaml

    folder = Path(path)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"{folder} must hold a saved {noun}, but has no config.yaml")
    if (folder / "metrics.json").is_file() and (folder / "model" / "config.yaml").is_file():
        raise ValueError(f"{folder} must hold a saved {noun}, but holds a run: its model is in {folder / 'model'}")
    try:
        config = dict(read_yaml(folder / "config.yaml"))
        found, home, files = config["format"], config["class"], dict(config["sha256"])
        config["arguments"] = dict(config["arguments"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / 'config.yaml'} is damaged ({error}); restore the folder or recreate it") from error
    if found != FORMAT:
        raise ValueError(
            f"{folder} has format {found}, this version reads format {FORMAT}. It was written by version "
            f"{config.get('version')}: load it there, or recreate it."
        )
    check_links(folder)
    for name, wanted in files.items():
        if name != Path(name).name:
            raise ValueError(f"{folder / 'config.yaml'} is damaged: it names the file {name!r} outside of its folder")
        if not (folder / name).is_file() or sha256(folder / name) != wanted:
            raise ValueError(
                f"{folder / name} is missing or damaged (its SHA-256 is not the one saved); restore it or recreate it"
            )
    return class_named(home, kind, where=folder), config
