"""Text files of rows: their separator, their header, and where a row goes wrong.

A file is read in blocks of CHUNK_BYTES, so that memory does not grow with it. Polars parses each block; only a block it
refuses is cut into smaller ones and, at last, read line by line to say which row is bad.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import polars as pl

CHUNK_BYTES = 32 << 20  # parsed at once; a CSV of four short columns then needs about 0.25 GB beyond the result
SLOW_BYTES = 1 << 20  # a refused block of at most this size is read line by line
HEAD_BYTES = 1 << 18  # looked at to find separator and header
QUOTED_LINES = 10_000  # a quoted field that runs on for more lines was not meant as one
QUOTED_BYTES = 128 << 20  # nor one of more bytes

SEPARATORS = ("::", "\t", ",", ";", "|", " ")
QUOTING = ("\t", ",", ";")  # separate fields that may stand in double quotes, with any separator within
UNIT = "\x1f"  # stands in for separators of several characters

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"BZh": "bzip2-compressed", b"\xfd7zXZ": "xz-compressed"}
_TYPED = re.compile(r"[^:]+:(token|float)(_seq)?")


@dataclass(frozen=True)
class Batch:
    """Some rows of a source.

    Attributes:
        frame: columns in the order of the source, whatever their names.
        where: tells a person where row i of the frame stands, such as "line 17".
        refused: rows that could not be read at all: where, and what was found there.
    """

    frame: pl.DataFrame
    where: Callable[[int], str]
    refused: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class TextFile:
    """A readable file of separated rows; `open_text` makes it.

    Attributes:
        names: of the columns; `column_0` and so on where the file has no header.
        header: whether the first row was one.
        types: RecBole's column types, by position; empty for other files.
        sample: the first rows, as text.
    """

    path: Path
    encoding: str
    separator: str
    quoted: bool
    names: list[str]
    header: bool
    skip_lines: int
    types: Mapping[int, str] = field(default_factory=dict)
    sample: Sequence[Sequence[str]] = ()

    def batches(self, dtypes: Mapping[int, Any] | None = None) -> Iterator[Batch]:
        """Yield all rows in order as text; columns in `dtypes` arrive so typed wherever a whole block allows it."""
        line = 1 + self.skip_lines
        with _opened(self.path) as stream:
            for number, chunk in enumerate(self._chunks(stream)):
                if number == 0:
                    for _ in range(self.skip_lines):
                        chunk = chunk[chunk.find(b"\n") + 1 or len(chunk) :]
                yield from self._parse(chunk, line, dtypes or {})
                line += chunk.count(b"\n")

    def _chunks(self, stream: IO[bytes]) -> Iterator[bytes]:
        rest = b""
        for block in _blocks(stream, self.path, self.encoding):
            rest += block
            if cut := self._cut(rest, len(rest)):
                yield rest[:cut]
                rest = rest[cut:]
        if rest:
            yield rest

    def _cut(self, chunk: bytes, end: int) -> int:
        """Return where the last whole row before `end` ends, 0 if none does."""
        cut = last = chunk.rfind(b"\n", 0, end) + 1
        for _ in range(100):
            if not (self.quoted and cut and chunk.count(b'"', 0, cut) % 2):
                break
            cut = chunk.rfind(b"\n", 0, chunk.rfind(b'"', 0, cut)) + 1
        else:
            return last  # quotes that never match; reading line by line will tell
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
                    quote_char='"' if self.quoted else None,
                    infer_schema=False,
                    schema_overrides=overrides,
                )
            except pl.exceptions.PolarsError:
                continue
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
                refused.append((f"line {line}", f"has {len(record)} fields, expected {width}: {shorten(found)!r}"))
            elif record:
                lines.append(line)
                rows.append([*(value or None for value in record), *[None] * (width - len(record))])
        frame = pl.DataFrame(rows, schema={f"c{i}": pl.String for i in range(width)}, orient="row")
        return Batch(frame, lambda row: f"line {lines[row]}", refused)

    def _records(self, chunk: bytes, first: int) -> Iterator[tuple[int, list[str] | str]]:
        """Yield each row's line number and fields, or what is wrong with it; a blank line has no fields."""
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
                    'if it is of another encoding, name it: encoding="latin-1"',
                )
                at += 1
                continue
            if not self.quoted or '"' not in text:
                yield number, text.split(mark) if text else []
                at += 1
                continue
            following = (part.decode(errors="replace") for part in itertools.islice(lines, at, at + QUOTED_LINES))
            reader = csv.reader((f"{part}\n" for part in following), delimiter=mark)
            try:
                with _any_length():
                    fields = next(reader)
            except (csv.Error, StopIteration) as error:
                yield number, f"cannot be read ({error})"
                at += 1
                continue
            if reader.line_num > 1 and len(fields) != len(self.names):
                yield number, f"opens a quote that is not closed: {shorten(text)!r}"
                at += 1
            else:
                yield number, fields
                at += reader.line_num

    def _line(self, chunk: bytes, first: int, row: int) -> int:
        if not (self.quoted and b'"' in chunk):
            return first + row
        return next(itertools.islice(self._records(chunk, first), row, None))[0]

    @property
    def _mark(self) -> str:
        return self.separator if len(self.separator) == 1 else UNIT

    def _single(self, chunk: bytes) -> bytes:
        return _single(chunk, self.separator)


def open_text(
    path: Path,
    *,
    separator: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    known: Callable[[str], bool] = lambda name: False,
    wanted: Collection[str] = (),
) -> TextFile:
    """Look at the beginning of a file and return how to read it.

    Fields separated by one of QUOTING may stand in double quotes, except below RecBole's typed header.

    Args:
        path: plain, or compressed by gzip or zstd (told by its content).
        separator: one of SEPARATORS or any other text; a blank means any run of blanks. None finds it.
        header: whether the first row names the columns; None finds out.
        encoding: as Python names it; a byte-order mark overrules it.
        known: tells a column name that is surely one.
        wanted: names that the caller gave; a first row that holds one is a header.

    Raises:
        ValueError: empty, binary, of another encoding, or the separator does not split it.
    """
    head, encoding, whole = _head(path, encoding)
    lines = head.split("\n")
    if not whole and len(lines) > 1:
        lines.pop()
    lines = [line.rstrip("\r") for line in lines]
    blank = next((i for i, line in enumerate(lines) if line.strip()), len(lines))
    lines = [line for line in lines[blank:] if line.strip()][:50]
    if not lines:
        raise ValueError(f"{path} must hold rows, but it is empty")
    found = _separator_of(lines)
    if separator is None:
        separator = found
        if separator is None:
            raise ValueError(
                f"{path} seems to have one column only, its first line is {shorten(lines[0])!r}; none of "
                f"{', '.join(repr(s) for s in SEPARATORS)} splits it. Name the separator: separator=..."
            )
    else:
        separator = separator.replace("\\t", "\t")
        if _width(_rows(lines, separator, quoted=separator in QUOTING)) < 2:
            advice = f"{found!r} would split it: separator={found!r}" if found else "check the file and the separator"
            raise ValueError(
                f"separator {separator!r} leaves {path} with one column, its first line is {shorten(lines[0])!r}. "
                f"{advice}."
            )
    typed = all(_TYPED.fullmatch(name) for name in _rows(lines[:1], separator, quoted=False)[0])
    quoted = separator in QUOTING and not typed
    rows = _rows(lines, separator, quoted=quoted)
    if header is None:
        header = _has_header(rows, known, wanted)
    names = [name.strip() for name in rows[0]] if header else [f"column_{i}" for i in range(_width(rows))]
    types: dict[int, str] = {}
    if header and typed:
        types = {i: name.rpartition(":")[2] for i, name in enumerate(names)}
        names = [name.rpartition(":")[0] for name in names]
    skip = blank + int(header)
    return TextFile(path, encoding, separator, quoted, names, header, skip, types, rows[int(header) :])


def shorten(text: str, length: int = 80) -> str:
    """Return text that fits into a message."""
    return text if len(text) <= length else f"{text[:length]}… ({len(text):,} characters)"


def _has_header(rows: list[list[str]], known: Callable[[str], bool], wanted: Collection[str]) -> bool:
    first = [name.strip() for name in rows[0]]
    if any(known(name) or name in wanted or _TYPED.fullmatch(name) for name in first):
        return True
    if any(_is_number(name) for name in first):
        return False
    rest = [row for row in rows[1:] if len(row) == len(first)]
    return bool(rest) and any(all(_is_number(row[i]) for row in rest) for i in range(len(first)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _separator_of(lines: list[str]) -> str | None:
    """The first of SEPARATORS that gives half the rows or more the same number of fields, more than one."""
    for separator in SEPARATORS:
        rows = _rows(lines, separator, quoted=separator in QUOTING)
        width = _width(rows)
        if width > 1 and 2 * sum(len(row) == width for row in rows) >= len(rows):
            return separator
    return None


def _width(rows: list[list[str]]) -> int:
    return Counter(map(len, rows)).most_common(1)[0][0]


def _rows(lines: list[str], separator: str, *, quoted: bool) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in lines]
    if quoted and any('"' in line for line in lines):
        with contextlib.suppress(csv.Error), _any_length():
            return list(csv.reader((f"{line}\n" for line in lines), delimiter=separator))
    return [line.split(separator) for line in lines]


@contextlib.contextmanager
def _any_length() -> Iterator[None]:
    """Let the csv module read fields of any length meanwhile; its limit belongs to the whole process."""
    limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _single(chunk: bytes, separator: str) -> bytes:
    """Return the block with a separator of one byte."""
    if separator == " ":
        if b"\t" in chunk or b"  " in chunk or b" \n" in chunk or b"\n " in chunk or chunk[:1] == b" ":
            chunk = re.sub(rb"[ \t]+", b" ", chunk)
            return re.sub(rb"(?m)^ | (?=\r?$)", b"", chunk)
        return chunk
    return chunk.replace(separator.encode(), UNIT.encode()) if len(separator.encode()) > 1 else chunk


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        magic = file.read(6)
    for start, noun in _ARCHIVES.items():
        if magic.startswith(start):
            raise ValueError(f"{path} is {noun}; unpack it first (gzip and zstd are read as they are)")
    if magic.startswith(b"\x1f\x8b"):
        return gzip.open(path)  # type: ignore[return-value]
    if magic.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        return pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    return path.open("rb")


def _blocks(stream: IO[bytes], path: Path, encoding: str) -> Iterator[bytes]:
    """Yield the file as UTF-8 without its byte-order mark, lines ending in a line feed."""
    decoder = None if encoding == "utf-8" else codecs.getincrementaldecoder(encoding)()
    first, old_mac = True, False
    while True:
        try:
            block = stream.read(CHUNK_BYTES)
        except (EOFError, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short ({error}); fetch or write it again") from error
        if not block and (decoder is None or first):
            return
        end = not block
        if decoder is not None:
            try:
                block = decoder.decode(block, final=end).encode()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not {encoding} throughout ({error}); name another encoding") from error
        if first:
            block = block.removeprefix(codecs.BOM_UTF8)
            old_mac = b"\r" in block and b"\n" not in block
            first = False
        if block:
            yield block.replace(b"\r", b"\n") if old_mac else block
        if end:
            return


def _head(path: Path, encoding: str) -> tuple[str, str, bool]:
    """Return the first lines as text, the encoding, and whether that is the whole file."""
    with _opened(path) as stream:
        try:
            raw = stream.read(HEAD_BYTES)
            while len(raw) >= HEAD_BYTES and b"\n" not in raw and (more := stream.read(len(raw))):
                raw += more
            whole = not stream.read(1)
        except (EOFError, OSError) as error:
            raise ValueError(f"{path} is damaged or cut short ({error}); fetch or write it again") from error
    try:
        encoding = codecs.lookup(encoding).name
    except LookupError as error:
        raise ValueError(
            f"encoding must be one that Python knows, such as utf-8 or latin-1, got {encoding!r}"
        ) from error
    for mark, name in _BOMS:
        if raw.startswith(mark):
            encoding = name
    if encoding == "utf-8" and b"\x00" in raw:
        raise ValueError(
            f"{path} must be text, Parquet or Arrow, but it is binary (a zero byte at position {raw.index(0) + 1}); "
            'if it is UTF-16, say so: encoding="utf-16-le"'
        )
    text = codecs.getincrementaldecoder(encoding)("replace").decode(raw).removeprefix("\ufeff")
    return (text if "\n" in text else text.replace("\r", "\n")), encoding, whole
