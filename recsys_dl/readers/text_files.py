"""Reading separated text files block by block, and locating bad rows.

A file is read in blocks of CHUNK_BYTES, so that memory does not grow with it. Polars parses each block; only a block it
rejects is cut into smaller ones and finally read line by line to report which row is bad.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import polars as pl

from recsys_dl.data.messages import is_number, shorten

CHUNK_BYTES = 32 << 20  # bytes per block; a CSV of four short columns then needs about 0.25 GB beyond the result
SLOW_BYTES = 1 << 20  # a rejected block of at most this size is read line by line
HEAD_BYTES = 1 << 18  # used to detect the layout
QUOTED_LINES = 10_000  # a quoted field with more lines is taken as a stray quote
QUOTED_BYTES = 128 << 20  # or with more bytes

PACKED_FROM, MOST_PACKED = 1 << 28, 200  # bytes held of a file, above the first at most so many for each of its own

UNIT = "\x1f"  # replaces separators of several characters

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"BZh": "bzip2-compressed", b"\xfd7zXZ": "xz-compressed"}
_FOREIGN = {  # first bytes -> what the file is, and how to convert it to a frame or text
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "pass pandas.read_excel(path) in place of the path, or save it as CSV"),
    b"%PDF-": ("a PDF document", "export its table as CSV"),
    b"SQLite format": ("an SQLite database", 'read_log(pandas.read_sql("SELECT * FROM …", sqlite3.connect(path)))'),
    b"\x89HDF": ("an HDF5 file", "read_log(pandas.read_hdf(path))"),
    b"\x93NUMPY": ("a NumPy array", "read_log(pandas.DataFrame(numpy.load(path)), user=0, item=1)"),
    b"Obj\x01": ("an Avro file", "read_log(polars.read_avro(path))"),
    b"ORC": ("an ORC file", "read_log(pandas.read_orc(path))"),
    b"\x80\x04\x95": ("a pickle, which runs code when it is opened", "write it as Parquet where you trust it"),
    b"\x80\x05\x95": ("a pickle, which runs code when it is opened", "write it as Parquet where you trust it"),
}


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes:
        frame: columns in source order, under any names.
        where: describes the location of row i of the frame, such as "line 17".
        refused: rows that could not be parsed: location, and what was found.
    """

    frame: pl.DataFrame
    where: Callable[[int], str]
    refused: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class TextFile:
    """A readable file of separated rows; created by `text_layouts.open_text`.

    Attributes:
        names: of the columns; `column_0` and so on if the file has no header.
        header: whether the first row is a header.
        types: RecBole's column types, by position; empty for other files.
        sample: the first rows, as text.
        quote: quote character around fields that may contain separators; None for no quoting.
        notes: remarks on how the file is read.
    """

    path: Path
    encoding: str
    separator: str
    quote: str | None
    names: list[str]
    header: bool
    skip_lines: int
    types: Mapping[int, str] = field(default_factory=dict)
    sample: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()

    def batches(self, dtypes: Mapping[int, Any] | None = None) -> Iterator[Batch]:
        """Yield all rows in order as text; columns in `dtypes` are parsed to those types if a whole block allows it."""
        line = 1 + self.skip_lines
        with opened(self.path) as stream:
            for number, chunk in enumerate(self._chunks(stream)):
                if number == 0:
                    for _ in range(self.skip_lines):
                        chunk = chunk[chunk.find(b"\n") + 1 or len(chunk) :]
                if fault := self._cut_short(chunk):
                    yield Batch(
                        pl.DataFrame(schema={f"c{i}": pl.String for i in range(len(self.names))}),
                        str,
                        [(f"line {line}", fault)],
                    )
                else:
                    yield from self._parse(chunk, line, dtypes or {})
                line += chunk.count(b"\n")

    def _chunks(self, stream: IO[bytes]) -> Iterator[bytes]:
        rest = b""
        for block in blocks(stream, self.path, self.encoding):
            rest += block
            check_held(self.path, len(rest))
            if cut := self._cut(rest, len(rest)):
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest

    def _cut_short(self, chunk: bytes) -> str | None:
        """Return the fault of a last row that ends within a field or lacks some, unlike the first rows, without a line break; else None."""
        if (
            chunk.endswith(b"\n")
            or not chunk.strip()
            or b"\n" in chunk
            or any(len(row) < len(self.names) for row in self.sample[:-1])
        ):
            return None
        text = chunk.decode(errors="replace").rstrip("\r")
        found = len(split_rows([text], self.separator, self.quote)[0])
        if self.quote and text.count(self.quote) % 2:
            return (
                f"opens a quote that is not closed before the file ends, which seems to be cut off: {shorten(text)!r}"
            )
        if found < len(self.names):
            return f"has {found} fields, expected {len(self.names)}, and the file ends there, which seems to be cut off: {shorten(text)!r}"
        return None

    def _cut(self, chunk: bytes, end: int) -> int:
        """Return the end of the last complete row before `end`, 0 if there is none."""
        cut = last = chunk.rfind(b"\n", 0, end) + 1
        for _ in range(100):
            if not (self.quote and cut and chunk.count(self._quote, 0, cut) % 2):
                break
            cut = chunk.rfind(b"\n", 0, chunk.rfind(self._quote, 0, cut)) + 1
        else:
            return last  # unbalanced quotes; reading line by line will report them
        if not cut and len(chunk) > QUOTED_BYTES:
            return last
        return cut

    def _parse(self, chunk: bytes, line: int, dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        names = [f"c{i}" for i in range(len(self.names))]
        mark = self._mark
        body = mark.join(names).encode() + b"\n" + self._single(chunk)
        for overrides in ({names[i]: dtype for i, dtype in dtypes.items()}, {}) if dtypes else ({},):
            try:
                frame = pl.read_csv(
                    body,
                    separator=mark,
                    quote_char=self.quote,
                    infer_schema=False,
                    schema_overrides=overrides,
                )
            except pl.exceptions.PolarsError:
                continue
            if self.quote and self._quote in chunk and self._swallows(frame):
                break
            yield Batch(frame, lambda row: f"line {self._line(chunk, line, row)}")
            return
        del body
        half = len(chunk) // 2
        if len(chunk) > SLOW_BYTES and (cut := self._cut(chunk, half) or chunk.rfind(b"\n", 0, half) + 1):
            yield from self._parse(chunk[:cut], line, dtypes)
            yield from self._parse(chunk[cut:], line + chunk.count(b"\n", 0, cut), dtypes)
        else:
            yield self._by_line(chunk, line)

    def _by_line(self, chunk: bytes, first: int) -> Batch:
        width = len(self.names)
        lines, rows, refused = [], [], []
        for line, record in self._records(chunk, first):
            if isinstance(record, str):
                refused.append((f"line {line}", record))
            elif record and len(record) > width:
                found = self._mark.join(record).replace(self._mark, self.separator)
                more = f"has {len(record)} fields, expected {width}: {shorten(found)!r}"
                if self.separator == "," and re.search(r"\d,\d", found):
                    more += " (a field that contains a comma, such as a decimal comma, must be quoted)"
                refused.append((f"line {line}", more))
            elif record:
                lines.append(line)
                rows.append([*(value or None for value in record), *[None] * (width - len(record))])
        frame = pl.DataFrame(rows, schema={f"c{i}": pl.String for i in range(width)}, orient="row")
        return Batch(frame, lambda row: f"line {lines[row]}", refused)

    def _records(self, chunk: bytes, first: int) -> Iterator[tuple[int, list[str] | str]]:
        """Yield each row's line number and fields, or its fault; a blank line has no fields."""
        mark = self._mark
        lines = self._single(chunk).split(b"\n")
        if lines and not lines[-1]:
            lines.pop()
        at = 0
        while at < len(lines):
            number = first + at
            try:
                text = lines[at].decode().rstrip("\r")
            except UnicodeDecodeError as error:
                bad = lines[at][error.start]
                yield (
                    number,
                    f"is not UTF-8 (byte 0x{bad:02x} at position {error.start + 1}); "
                    'for another encoding set encoding="latin-1"',
                )
                at += 1
                continue
            if not self.quote or self.quote not in text:
                yield number, text.split(mark) if text else []
                at += 1
                continue
            following = (part.decode(errors="replace") for part in itertools.islice(lines, at, at + QUOTED_LINES))
            reader = csv.reader((f"{part}\n" for part in following), delimiter=mark, quotechar=self.quote)
            try:
                with _any_length():
                    fields = next(reader)
            except (csv.Error, StopIteration) as error:
                yield number, f"cannot be read ({error})"
                at += 1
                continue
            broken = reader.line_num > 1
            if broken and (len(fields) != len(self.names) or self._is_several(fields)):
                yield number, f"opens a quote that is not closed: {shorten(text)!r}"
                at += 1
            else:
                yield number, fields
                at += reader.line_num

    def _line(self, chunk: bytes, first: int, row: int) -> int:
        if not (self.quote and self._quote in chunk):
            return first + row
        return next(itertools.islice(self._records(chunk, first), row, None))[0]

    def _swallows(self, frame: pl.DataFrame) -> bool:
        """Return whether a field of a block contains whole rows, between two stray quotes."""
        texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
        if not texts:
            return False
        broken = frame.filter(pl.any_horizontal(pl.col(texts).str.contains("\n", literal=True).fill_null(False)))
        return any(self._is_several([str("" if v is None else v) for v in row]) for row in broken.iter_rows())

    def _is_several(self, fields: Sequence[str]) -> bool:
        """Return whether the lines of one record are rows themselves, with numbers in all numeric columns."""
        mark = self._mark
        lines = [line.rstrip("\r").split(mark) for line in mark.join(fields).split("\n")]
        return len(lines) > 1 and all(
            len(line) == len(self.names) and all(is_number(line[at].strip(self.quote)) for at in self._numeric)
            for line in lines
        )

    @cached_property
    def _numeric(self) -> list[int]:
        """Positions of the columns that hold numbers in each of the first rows."""
        rows = [row for row in self.sample if len(row) == len(self.names)]
        return [at for at in range(len(self.names)) if rows and all(is_number(row[at]) for row in rows)]

    @property
    def _quote(self) -> bytes:
        return (self.quote or "").encode()

    @property
    def _mark(self) -> str:
        return self.separator if len(self.separator) == 1 else UNIT

    def _single(self, chunk: bytes) -> bytes:
        return _single(chunk, self.separator)


def split_rows(lines: Sequence[str], separator: str, quote: str | None) -> list[list[str]]:
    """Return the fields of each line; a separator of one space stands for any run of spaces."""
    if separator == " ":
        return [line.split() for line in lines]
    if quote and len(separator) == 1 and any(quote in line for line in lines):
        with contextlib.suppress(csv.Error), _any_length():
            return list(csv.reader((f"{line}\n" for line in lines), delimiter=separator, quotechar=quote))
    return [line.split(separator) for line in lines]


@contextlib.contextmanager
def _any_length() -> Iterator[None]:
    """Temporarily lift the csv module's field size limit, which is global to the process."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _single(chunk: bytes, separator: str) -> bytes:
    """Return the block with a single-byte separator."""
    if separator == " ":
        if b"\t" in chunk or b"  " in chunk or b" \n" in chunk or b"\n " in chunk or chunk[:1] == b" ":
            chunk = re.sub(rb"[ \t]+", b" ", chunk)
            return re.sub(rb"(?m)^ | (?=\r?$)", b"", chunk)
        return chunk
    return chunk.replace(separator.encode(), UNIT.encode()) if len(separator.encode()) > 1 else chunk


def opened(path: Path) -> IO[bytes]:
    """Return the decompressed bytes of a file.

    Raises:
        ValueError: it is not a text format.
    """
    with path.open("rb") as file:
        magic = file.read(16)
    if magic.startswith(b"PK\x03\x04") and path.suffix.lower() in (".xlsx", ".xlsm", ".ods"):
        raise ValueError(
            f"{path} is an Excel workbook; pass pandas.read_excel(path) in place of the path, or save it as CSV"
        )
    for start, (noun, advice) in _FOREIGN.items():
        if magic.startswith(start):
            raise ValueError(f"{path} must be a text file, Parquet or Arrow, but it is {noun}; {advice}")
    for start, noun in _ARCHIVES.items():
        if magic.startswith(start):
            raise ValueError(f"{path} is {noun}; unpack it first (gzip and zstd are read directly)")
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return path.open("rb")


def check_held(path: Path, size: int) -> None:
    """Raise ValueError if what must be held of a file at once is far more than its own bytes: it was packed to fill the memory."""
    if size > max(PACKED_FROM, MOST_PACKED * path.stat().st_size):
        raise ValueError(f"{path} unpacks to a line or array of more than {size:,} bytes, and would fill the memory")


def _read(stream: IO[bytes], size: int, path: Path) -> bytes:
    import pyarrow as pa

    try:
        return stream.read(size)
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged or truncated ({error}); download or write it again") from error


def blocks(stream: IO[bytes], path: Path, encoding: str) -> Iterator[bytes]:
    """Yield the file as UTF-8 without its byte-order mark, lines ending in a line feed."""
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
    first, old_mac = True, False
    while True:
        block = _read(stream, CHUNK_BYTES, path)
        if not block and (decoder is None or first):
            return
        end = not block
        if decoder is not None:
            try:
                block = decoder.decode(block, final=end).encode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not entirely {encoding} ({error}); set another encoding") from error
        if first:
            block = block.removeprefix(codecs.BOM_UTF8)
            old_mac = b"\r" in block and b"\n" not in block
            first = False
        if block:
            yield block.replace(b"\r", b"\n") if old_mac else block
        if end:
            return


def head_of(path: Path, encoding: str) -> tuple[str, str, bool]:
    """Return the first lines as text, the encoding, and whether that is the whole file."""
    with opened(path) as stream:
        raw = _read(stream, HEAD_BYTES, path)
        while len(raw) >= HEAD_BYTES and b"\n" not in raw and (more := _read(stream, len(raw), path)):
            raw += more
            check_held(path, len(raw))
        whole = not _read(stream, 1, path)
    try:
        encoding = codecs.lookup(encoding).name
    except LookupError as error:
        raise ValueError(f"encoding must be one known to Python, such as utf-8 or latin-1, got {encoding!r}") from error
    for mark, name in _BOMS:
        if raw.startswith(mark):
            encoding = name
    if encoding == "utf-8" and b"\x00" in raw:
        little, big = (4 * raw[start::2].count(0) > len(raw) > 4 * raw[1 - start :: 2].count(0) for start in (1, 0))
        advice = f'; if it is UTF-16, set encoding="utf-16-{"le" if little else "be"}"' if little or big else ""
        raise ValueError(
            f"{path} must be text, Parquet or Arrow, but it is binary (a zero byte at position {raw.index(0) + 1}){advice}"
        )
    text = codecs.getincrementaldecoder(encoding)("replace").decode(raw).removeprefix("\ufeff")
    if re.match(r"\s*<(?:!doctype html|html|\?xml|head|body)\b", text, re.IGNORECASE):
        raise ValueError(
            f"{path} must be a table, but it is a web page or XML that starts with {shorten(text.strip(), 60)!r}; perhaps a "
            "login or error page was saved instead of the file. Download the file itself."
        )
    return (text if "\n" in text else text.replace("\r", "\n")), encoding, whole
