"""The Parquet files of a folder, local or in an object store, as one table that is read by row group."""

from __future__ import annotations

import glob
import hashlib
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from recsys_dl.data.column_types import family_of
from recsys_dl.data.messages import shorten
from recsys_dl.names import counted

from .frames import from_arrow
from .tables import Batch, Table

log = logging.getLogger(__name__)

BATCH_ROWS = 1_000_000
SUFFIXES = (".parquet", ".parq", ".pq")
OTHERS = (
    ".csv",
    ".tsv",
    ".txt",
    ".dat",
    ".json",
    ".jsonl",
    ".ndjson",
    ".orc",
    ".avro",
    ".arrow",
    ".feather",
)  # of data, not read
PACKAGES = {
    "s3": "recsys_dl[s3]",
    "s3a": "recsys_dl[s3]",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
}


@dataclass(frozen=True)
class ShardFiles:
    """The Parquet files of a log, in the order in which they are read.

    Attributes:
        path: as given.
        system: the fsspec file system that holds them.
        files: their paths in it.
    """

    path: str
    system: Any
    files: Sequence[str]

    @classmethod
    def find(cls, path: Any) -> ShardFiles:
        """List a folder's files, ignoring those whose names, or folders' names, begin with _ or a dot.

        Raises:
            FileNotFoundError: no such folder or bucket, or no Parquet files in it; a file that the folder's `_metadata` names.
            PermissionError: access is denied.
            ConnectionError: the store cannot be reached.
            ImportError: the package for such addresses is not installed.
            ValueError: a protocol that is not known, credentials in the address, or a folder that is still being written.
        """
        address = str(path)
        with_secret = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^/]*:[^/]*@", address)
        if with_secret:
            raise ValueError(
                "path must not hold credentials, since it is stored with the run: set them in the environment "
                "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, GOOGLE_APPLICATION_CREDENTIALS)"
            )
        import fsspec  # type: ignore[import-untyped]

        try:
            system, place = fsspec.core.url_to_fs(address)
            system.invalidate_cache()
            found = system.find(place) if system.isdir(place) else [place] if system.exists(place) else None
        except Exception as error:
            raise _explained(address, error) from error
        if found is None and system.protocol in ("file", ("file", "local")) and glob.has_magic(address):
            raise FileNotFoundError(
                f"{address} must be a folder of Parquet files: patterns are read by data=log (recsys_dl.read_log), into memory"
            )
        if found is None:
            raise FileNotFoundError(
                f"{address} must be a folder of Parquet files, but it does not exist (or the bucket does not)"
            )
        found = [str(file) for file in found]
        inside = {file: file[len(place) :].strip("/") for file in found}
        if any(part == "_temporary" for file in found for part in inside[file].split("/")):
            raise ValueError(
                f"{address} holds a folder _temporary: its writer has not finished, or was killed. Write the folder again."
            )
        files = [
            file
            for file in found
            if file.endswith(SUFFIXES) and not any(part[:1] in ("_", ".") for part in inside[file].split("/"))
        ]
        if not files:
            if found == [place]:
                raise FileNotFoundError(
                    f"{address} must be a Parquet file ({', '.join(SUFFIXES)}) or a folder of them; other files are read by data=log "
                    "(recsys_dl.read_log)"
                )
            names = ", ".join(sorted(inside.values())[:8])
            raise FileNotFoundError(
                f"{address} must hold Parquet files ({', '.join(SUFFIXES)}), but holds {names or 'nothing'}"
            )
        files.sort(key=_natural)
        shards = cls(address, system, files)
        _check_complete(shards, place, found)
        _warn_of_gaps(shards.where, [inside[file] or file for file in files])
        _warn_of_others(shards.where, sorted(name for file, name in inside.items() if file not in files))
        return shards

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and versions (times of change, ETags), without reading them."""
        digest = hashlib.sha256()
        for file in self.files:
            try:
                digest.update(f"{file} {self.system.ukey(file)}\n".encode())
            except Exception as error:
                raise _explained(file, error) from error
        return digest.hexdigest()

    def schema(self, file: str) -> dict[str, str]:
        """Return the columns of a file, and what they hold.

        Raises:
            ValueError: it is truncated, or no Parquet file.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with self.system.open(file, "rb") as stream:
                arrow = pq.ParquetFile(stream).schema_arrow
        except Exception as error:
            raise _explained(file, error) from error
        return {field.name: family_of(from_arrow(pa.array([], field.type)).dtype) or str(field.type) for field in arrow}

    def table(self) -> Table:
        """Return the files as one table, whose batches come from one row group each."""
        return Table(self.where, list(self.schema(self.files[0])), self._batches)

    @property
    def where(self) -> str:
        """The address, for messages."""
        return shorten(self.path, 200)

    def check_columns(self, names: Sequence[str]) -> None:
        """Check that every file has these columns, of the first file's types.

        Raises:
            ValueError: one has not; the message names the file and the column.
        """
        first = self.schema(self.files[0])
        for file in self.files[1:]:
            mine = self.schema(file)
            for name in names:
                if name not in mine:
                    raise ValueError(
                        f"{file} must have the column {name!r} like {self.files[0]}, but has "
                        f"{shorten(', '.join(mine), 200)}; write it again, or remove it"
                    )
                if mine[name] != first[name] and not {mine[name], first[name]} <= {"whole numbers", "numbers"}:
                    raise ValueError(
                        f"{file}: the column {name!r} must hold {first[name]} as in {self.files[0]}, but holds {mine[name]}; "
                        "write the shards with one schema"
                    )

    def _batches(self, positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        del dtypes  # of text files
        names = list(self.schema(self.files[0]))
        for file in self.files:
            start = 0
            for frame in self._frames(file, [names[at] for at in positions]):
                columns = [
                    column.cast(pl.Int64) if column.dtype.is_integer() and column.dtype != pl.UInt64 else column
                    for column in frame.get_columns()
                ]
                named = pl.DataFrame([column.alias(str(at)) for column, at in zip(columns, positions, strict=True)])
                yield Batch(named, _counted(file, start))
                start += len(frame)

    def _frames(self, file: str, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        import pyarrow.parquet as pq

        try:
            with self.system.open(file, "rb") as stream:
                parquet = pq.ParquetFile(stream)
                for group in range(parquet.num_row_groups):
                    for part in parquet.iter_batches(BATCH_ROWS, row_groups=[group], columns=list(names)):
                        yield pl.DataFrame([from_arrow(part.column(name)).alias(name) for name in names])
        except Exception as error:
            raise _explained(file, error) from error


def _counted(file: str, start: int) -> Any:
    return lambda row: f"{file}, row {start + row} (from 0)"


def _natural(name: str) -> list[Any]:
    """Sort numbers in names by value: part.2 before part.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name) if part]


def _check_complete(shards: ShardFiles, place: str, found: Sequence[str]) -> None:
    """Reject a folder without a file that its `_metadata` names, or with a gap in Dask's numbers."""
    summary = f"{place.rstrip('/')}/_metadata"
    named: set[str] = set()
    if summary in found:
        import pyarrow.parquet as pq

        try:
            with shards.system.open(summary, "rb") as stream:
                about = pq.ParquetFile(stream).metadata
        except Exception as error:
            raise _explained(summary, error) from error
        paths = {about.row_group(group).column(0).file_path for group in range(about.num_row_groups)}
        named = {f"{place.rstrip('/')}/{name}" for name in paths if name}
    numbers = [re.search(r"(.*\bpart\.)(\d+)(\.\w+)$", file) for file in shards.files]
    if all(numbers) and len({(one[1], one[3]) for one in numbers if one}) == 1:
        stem, end, last = numbers[0][1], numbers[0][3], max(int(one[2]) for one in numbers if one)  # type: ignore[index]
        named |= {f"{stem}{number}{end}" for number in range(last + 1)}
    if missing := sorted(named - set(shards.files), key=_natural):
        raise FileNotFoundError(
            f"{shards.where} lacks the shard {missing[0]}{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}, which "
            "its other files announce: restore it, or write the folder again"
        )


def _warn_of_gaps(where: str, names: Sequence[str]) -> None:
    """Warn of numbers that are missing between those of files that are otherwise named alike, such as part-00001."""
    numbered: dict[tuple[str, str], dict[int, str]] = {}
    for name in names:
        if found := re.match(r"(.*/)?(\D*)(\d+)[^/]*$", name):
            numbered.setdefault((found[1] or "", found[2]), {})[int(found[3])] = found[3]
    for (folder, stem), numbers in numbered.items():
        first, last = min(numbers), max(numbers)
        missing = last - first + 1 - len(numbers)
        if 0 < missing <= len(numbers):  # else the numbers are dates, or ids
            gap = next(number for number in range(first, last) if number not in numbers)
            shown = f"{folder}{stem}{gap:0{len(numbers[first])}d}"
            log.warning(
                "%s: %s is missing between %s%s%s and %s%s%s%s; if it was lost, restore it, or write the folder again",
                *(where, shown, folder, stem, numbers[first], folder, stem, numbers[last]),
                "" if missing == 1 else f", and so {'is' if missing == 2 else 'are'} {missing - 1} more",
            )


def _warn_of_others(where: str, names: Sequence[str]) -> None:
    """Warn of files of data that are not Parquet."""
    data = [
        name
        for name in names
        if name.lower().removesuffix(".gz").removesuffix(".zst").endswith(OTHERS)
        and not any(part[:1] in ("_", ".") for part in name.split("/"))
    ]
    if data:
        one = len(data) == 1
        log.warning(
            "%s: %s %s not Parquet and %s not read, such as %s; convert %s, or leave %s out of the folder",
            *(where, counted(len(data), "file"), "is" if one else "are", "is" if one else "are", shorten(data[0], 100)),
            *(("it", "it") if one else ("them", "them")),
        )


def _explained(address: str, error: Exception) -> Exception:
    """Return an error of a file system in our words."""
    import pyarrow as pa

    if isinstance(error, MemoryError):
        return error
    shown, why = shorten(address, 200), shorten(" ".join(str(error).split()) or type(error).__name__, 200)
    protocol = address.partition("://")[0] if "://" in address else ""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, ImportError):
        package = PACKAGES.get(protocol, f"the fsspec package for {protocol}://")
        return ImportError(f"{shown} needs a package that is not installed: pip install '{package}' ({why})")
    if isinstance(error, PermissionError) or kinds & {
        "NoCredentialsError",
        "PartialCredentialsError",
        "DefaultCredentialsError",
    }:
        return PermissionError(
            f"{shown}: access is denied ({why}). Credentials are taken from the environment: AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN) for s3://, GOOGLE_APPLICATION_CREDENTIALS for gs://; "
            "FSSPEC_S3_ANON=true reads a public bucket"
        )
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{shown} does not exist ({why}); check the bucket and the path")
    of_arrow = isinstance(error, pa.ArrowException) or (type(error) is OSError and error.errno is None)
    if of_arrow or "arquet" in why:
        return ValueError(f"{shown} is truncated, or not a Parquet file ({why}); write it again")
    if "rotocol not known" in why:
        return ValueError(f"{shown} must be a folder on this machine, or an address such as s3://bucket/logs ({why})")
    return ConnectionError(
        f"{shown} cannot be read ({type(error).__name__}: {why}). Check the address and the network; another server than "
        "Amazon's is set by AWS_ENDPOINT_URL"
    )
