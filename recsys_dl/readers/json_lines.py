"""JSON logs: one object per line (JSON lines, as from Amazon or Yelp), or one array of objects."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from recsys_dl.data.messages import shorten

from .text_files import Batch, blocks, check_held, head_of, opened

LOOKED_AT = 200  # objects used to collect field names

Batches = Callable[[Sequence[int], Mapping[int, Any]], Iterator[Batch]]


def json_kind(path: Path, encoding: str) -> bool:
    """Return whether a text file starts like JSON.

    Raises:
        ValueError: it cannot be read as text.
    """
    head, _, _ = head_of(path, encoding)
    start = head.lstrip()
    return start.startswith("{") or (start.startswith("[") and start[1:].lstrip()[:1] in ("{", "[", "]"))


def open_json(path: Path, encoding: str, *, lists: bool = False) -> tuple[list[str], Batches, str]:
    """Return the fields of a file of JSON, its batches as `Table` has them (all values as text), and what to say of it.

    `lists`: whether values may be lists, which become JSON text.

    Raises:
        ValueError: it is JSON of another shape, or not JSON.
    """
    head, encoding, whole = head_of(path, encoding)
    if head.lstrip().startswith("["):
        return _array(path, encoding)
    lines = head.split("\n")
    if not whole and len(lines) > 1:
        lines.pop()
    lines = [line.strip() for line in lines if line.strip()][:LOOKED_AT]
    objects = [found for found in map(_object, lines) if found is not None]
    if not objects:
        raise ValueError(f"{path} must hold one JSON object per line, {_instead(lines)}")
    names = list(dict.fromkeys(name for found in objects for name in found))
    if len(objects) == 1 and objects[0] and all(isinstance(value, dict) for value in objects[0].values()):
        raise ValueError(
            f"{path} must hold one JSON object per row, but it is one object of objects, whose keys look like ids. Make rows of it and "
            'pass them in place of the path: [{"item_id": key, **value} for key, value in json.load(open(path)).items()]'
        )
    deep_types = dict if lists else (dict, list)
    nested = {name for found in objects for name, value in found.items() if isinstance(value, deep_types)}

    def batches(positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        chosen = [names[at] for at in positions]
        if deep := [name for name in chosen if name in nested]:
            if lists:
                raise ValueError(
                    f"{path}: {', '.join(deep)} must be text, a number or a list of these in each object, but holds objects; leave it "
                    f"out, or unfold it in a frame and pass that: polars.read_ndjson(path).unnest({deep[0]!r})"
                )
            raise ValueError(
                f"{path}: {', '.join(deep)} must be text or a number in each object, but holds objects or lists. Unfold it "
                f"first: read_log(polars.read_ndjson(path).explode({deep}))"
            )
        columns = [str(at) for at in positions]
        line, rest = 1, b""
        with opened(path) as stream:
            for block in blocks(stream, path, encoding):
                rest += block
                check_held(path, len(rest))
                cut = rest.rfind(b"\n") + 1
                if cut:
                    yield _batch(rest[:cut], line, chosen, columns)
                    line, rest = line + rest.count(b"\n", 0, cut), rest[cut:]
        if rest.strip():
            yield _batch(rest, line, chosen, columns)

    return names, batches, "one JSON object per line"


def _batch(chunk: bytes, first: int, names: list[str], columns: list[str]) -> Batch:
    schema = dict.fromkeys(names, pl.String)
    if b"\n\n" not in chunk and b"\n\r" not in chunk and not chunk.startswith(b"\n"):
        try:
            frame = pl.read_ndjson(io.BytesIO(chunk), schema=schema)
            if len(frame) == chunk.rstrip(b"\n").count(b"\n") + 1:
                frame.columns = columns
                return Batch(frame, lambda row: f"line {first + row}")
        except pl.exceptions.PolarsError:
            pass  # some line is invalid: read them one by one to report which
    rows, lines, refused = [], [], []
    for number, line in enumerate(chunk.split(b"\n"), first):
        text = line.decode(errors="replace").strip()
        found = _object(text)
        if found is not None:
            lines.append(number)
            rows.append([_text(found.get(name)) for name in names])
        elif text:
            refused.append((f"line {number}", f"must be a JSON object, got {shorten(text)!r}"))
    frame = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    return Batch(frame, lambda row: f"line {lines[row]}", refused)


def _array(path: Path, encoding: str) -> tuple[list[str], Batches, str]:
    held = b""
    with opened(path) as stream:
        for block in blocks(stream, path, encoding):
            held += block
            check_held(path, len(held))
    text = held.decode(errors="replace")
    try:
        objects = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} must hold an array of JSON objects, but it is cut short or damaged ({error})"
        ) from error
    if not objects or not all(isinstance(found, dict) for found in objects):
        raise ValueError(
            f'{path} must hold an array of JSON objects, such as [{{"user": …, "item": …}}], got {shorten(text)!r}. Convert lists '
            'of values to a frame first: read_log(polars.DataFrame(json.load(file), orient="row"), user=0, item=1)'
        )
    names = list(dict.fromkeys(name for found in objects for name in found))

    def batches(positions: Sequence[int], dtypes: Mapping[int, Any]) -> Iterator[Batch]:
        columns = {str(at): [_text(found.get(names[at])) for found in objects] for at in positions}
        yield Batch(
            pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)), lambda row: f"object {row} (from 0)"
        )

    return names, batches, "an array of JSON objects"


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _instead(lines: list[str]) -> str:
    if len(lines) > 1 and lines[0].rstrip() == "{":
        return (
            "but it is one object over several lines. Write its rows as one array or one object per line, or read a frame: "
            "read_log(pandas.read_json(path))"
        )
    if lines[0].startswith(("{'", "{u'", '{u"')):
        return (
            f"but its lines are Python literals, such as {shorten(lines[0])!r}. Parse them first: "
            "read_log([ast.literal_eval(line) for line in open(path)], user=…, item=…)"
        )
    return (
        f"but its first line is {shorten(lines[0])!r}. If it is one object, extract the part that holds the rows: "
        "read_log(pandas.DataFrame(json.load(open(path))[…]))"
    )
