"""Learning-to-rank files: LETOR (SVMLight with `qid:`), LightGBM with `.query`, and tables with a group column."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.data.groups import Groups
from recsys_dl.data.messages import shorten
from recsys_dl.data.vocabulary import as_text

from .side_tables import read_table

CHUNK_ROWS = 8192  # parsed rows kept as Python lists before they become an array
MOST_FEATURES = 10_000  # of a file without `num_features`: rows are dense, and one mistyped index would fill the memory

Place = str | os.PathLike[str]


def read_letor(path: Place, *, num_features: int | None = None, zero_based: bool = False) -> Groups:
    """Read groups from a file in SVMLight format with query ids: `2 qid:10 1:0.5 3:0.25 # comment` (Qin and Liu 2013, "LETOR 4.0").

    Features missing from a line are 0. The documents of a query must be contiguous.

    Args:
        path: a text file.
        num_features: number of features the ranker was trained on; None means the highest index in the file, at most 10,000. Set it
            for validation and test files, whose last features may all be 0.
        zero_based: feature indices start at 0, as written by scikit-learn, not at 1.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line violates the format; the message says which.

    Examples:
        >>> from pathlib import Path
        >>> from recsys_dl.readers.letor import read_letor
        >>> _ = Path("train.txt").write_text("2 qid:10 1:0.5 3:0.25")
        >>> groups = read_letor("train.txt")
        >>> groups.group_ids, groups.labels_N, groups.features_NF
        (('10',), array([2.], dtype=float32), array([[0.5 , 0.  , 0.25]], dtype=float32))
    """
    path = _existing(path)
    features_NF, labels, queries, lines = _sparse(path, num_features, zero_based, grouped=True)
    sizes, names = _runs(pl.Series(queries, dtype=pl.String))
    return Groups(features_NF, labels, sizes, group_ids=names, where=lambda row: f"{path}, line {lines[row]}")


def read_lightgbm(
    path: Place, query: Place | None = None, *, num_features: int | None = None, zero_based: bool = False
) -> Groups:
    """Read groups from LightGBM files: rows of label and features, plus a file of query sizes.

    Rows are sparse (`2 1:0.5 3:0.25`) or dense (label first, then every feature, separated by tabs, commas or spaces, no header).
    `path.weight` and `path.position`, one number per row, are read if they exist, as in LightGBM.

    Args:
        path: a text file.
        query: number of documents per query, one per line; None means `path.query`.
        num_features: as in `read_letor`.
        zero_based: likewise.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line violates the format, or sizes do not sum to the rows; the message says which.

    Examples:
        >>> from pathlib import Path
        >>> from recsys_dl.readers.letor import read_lightgbm
        >>> _ = Path("rank.train").write_text("2 1:0.5 3:0.25")
        >>> _ = Path("rank.train.query").write_text("1")
        >>> read_lightgbm("rank.train").features_NF
        array([[0.5 , 0.  , 0.25]], dtype=float32)
    """
    path = _existing(path)
    sizes_file = _existing(f"{path}.query" if query is None else query)
    first = next(_rows(path), (1, ["", ""]))[1]
    lines: Sequence[int]
    if any(":" in token for token in first):
        features_NF, labels, _, lines = _sparse(path, num_features, zero_based, grouped=False)
    else:
        features_NF, labels, lines = _dense(path, num_features)
    sizes, size_lines = _numbers(sizes_file, "a group size")
    whole = sizes.astype(np.int64)
    if (bad := (whole != sizes) | (whole < 1)).any():
        at = int(bad.argmax())
        raise ValueError(
            f"{sizes_file}, line {size_lines[at]}: a group size must be a whole number of at least 1, got {sizes[at]:g}"
        )
    if whole.sum() != len(labels):
        raise ValueError(
            f"the group sizes in {sizes_file} must sum to the {len(labels):,} rows of {path}, got {whole.sum():,}; "
            "they belong to different files, or one is truncated"
        )
    weights_N, positions_N = (
        _numbers(file, "a number")[0] if (file := Path(f"{path}.{name}")).is_file() else None
        for name in ("weight", "position")
    )
    return Groups(
        features_NF,
        labels,
        whole,
        weights_N=weights_N,
        positions_N=positions_N,
        where=lambda row: f"{path}, line {lines[row]}",
    )


def read_grouped(
    table: Any,
    *,
    group: str,
    label: str,
    features: Sequence[str] | None = None,
    position: str | None = None,
    weight: str | None = None,
) -> Groups:
    """Read groups from a table with one row per document and a group id column.

    Args:
        table: a path (Parquet, CSV, ...), a pandas or Polars frame or a pyarrow Table, as in `read_log`.
        group: name of the group id column; the rows of a group must be contiguous.
        label: column of grades.
        features: feature columns, in order; None takes all other columns.
        position: column of the rank at which a document was shown.
        weight: column of document weights.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a column is missing or not numeric, a value is missing, or a group is not contiguous.

    Examples:
        >>> import polars as pl
        >>> from recsys_dl.readers.letor import read_grouped
        >>> table = pl.DataFrame({"query": ["a", "a", "b"], "grade": [1, 0, 2], "price": [5.0, 9.0, 7.0]})
        >>> groups = read_grouped(table, group="query", label="grade")
        >>> groups.group_ids, groups.names, groups.sizes_Q
        (('a', 'b'), ('price',), array([2, 1]))
    """
    frame = read_table(table)
    where = str(table) if isinstance(table, str | os.PathLike) else "the frame"
    roles = [name for name in (group, label, position, weight) if name is not None]
    names = [name for name in frame.columns if name not in roles] if features is None else list(features)
    if missing := [name for name in (*roles, *names) if name not in frame.columns]:
        raise ValueError(f"{where} must have a column {missing[0]!r}; its columns are {', '.join(frame.columns)}")
    for name in (*roles[1:], *names):
        kind = frame.schema[name]
        if not (kind.is_numeric() or kind == pl.Boolean):
            raise ValueError(
                f"column {name!r} of {where} must hold numbers, got {kind}; encode it, or name the columns of features: features=[…]"
            )
    if (nobody := frame[group].is_null()).any():
        raise ValueError(f"{where}, row {nobody.arg_max()} (from 0, without header): has no {group}")
    sizes, ids = _runs(as_text(frame[group]))
    columns = {name: frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in (*roles[1:], *names)}
    return Groups(
        np.stack([columns[name].astype(np.float32) for name in names], axis=1) if names else np.empty((len(frame), 0)),
        columns[label],
        sizes,
        group_ids=ids,
        names=names,
        positions_N=None if position is None else columns[position],
        weights_N=None if weight is None else columns[weight],
        where=lambda row: f"{where}, row {row} (from 0, without header)",
    )


def _runs(ids: pl.Series) -> tuple[np.ndarray, list[str]]:
    """Return the length and id of each run of equal ids."""
    runs = ids.rle().struct
    return runs.field("len").to_numpy().astype(np.int64), runs.field("value").to_list()


def _existing(path: Place) -> Path:
    path = Path(path)
    if not path.is_file():
        beside = sorted(file.name for file in path.parent.iterdir()) if path.parent.is_dir() else []
        holds = f"; {path.parent} holds {', '.join(beside[:8])}" if beside else ""
        raise FileNotFoundError(f"{path} must be a text file of documents, but it does not exist{holds}")
    return path


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line numbers and the whitespace-separated text before a comment; blank lines are skipped."""
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if tokens := line.partition("#")[0].split():
                yield number, tokens


def _sparse(
    path: Path, num_features: int | None, zero_based: bool, *, grouped: bool
) -> tuple[np.ndarray, list[float], list[str], list[int]]:
    """Return dense features, labels, the query of each row (if `grouped`) and its line number."""
    lowest = 0 if zero_based else 1
    labels: list[float] = []
    queries: list[str] = []
    lines: list[int] = []
    blocks: list[np.ndarray] = []
    at_rows: list[int] = []
    at_columns: list[int] = []
    values: list[float] = []
    known = (MOST_FEATURES if num_features is None else num_features) - 1 + lowest
    for number, tokens in _rows(path):
        labels.append(_number(tokens[0], "a label", path, number))
        if grouped:
            if len(tokens) < 2 or not tokens[1].startswith("qid:") or tokens[1] == "qid:":
                found = tokens[1] if len(tokens) > 1 else "nothing"
                raise ValueError(f"{path}, line {number}: a query such as qid:10 must follow the label, got {found}")
            queries.append(tokens[1][4:])
        lines.append(number)
        row, last = len(lines) - 1 - CHUNK_ROWS * len(blocks), lowest - 1
        for token in tokens[2 if grouped else 1 :]:
            index_text, _, value_text = token.partition(":")
            try:
                index, value = int(index_text), float(value_text)
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number}: a feature must be written index:number, got {shorten(token)!r}"
                ) from error
            if index <= last:
                raise ValueError(f"{path}, line {number}: {_order(index, last, lowest)}")
            if index > known:
                why = (
                    f"as there are {num_features} features"
                    if num_features
                    else "as rows are dense; set num_features if there are more"
                )
                raise ValueError(f"{path}, line {number}: feature indices may go up to {known}, {why}, got {index:,}")
            last = index
            at_rows.append(row)
            at_columns.append(index - lowest)
            values.append(value)
        if row == CHUNK_ROWS - 1:
            blocks.append(_block(at_rows, at_columns, values, CHUNK_ROWS))
            at_rows, at_columns, values = [], [], []
    rest = len(lines) - CHUNK_ROWS * len(blocks)
    if rest:
        blocks.append(_block(at_rows, at_columns, values, rest))
    if not blocks:
        raise ValueError(f"{path} must hold documents, but it is empty")
    width = max(1, *(block.shape[1] for block in blocks)) if num_features is None else num_features
    features_NF = np.zeros((len(lines), width), np.float32)
    for start, block in enumerate(blocks):
        features_NF[start * CHUNK_ROWS : start * CHUNK_ROWS + len(block), : block.shape[1]] = block
    return features_NF, labels, queries, lines


def _order(index: int, last: int, lowest: int) -> str:
    if index < lowest:
        advice = "; if this file counts from 0, set zero_based=True" if index == 0 else ""
        return f"feature indices start at {lowest}, got {index}{advice}"
    return f"feature indices must be strictly ascending, got {index} after {last}"


def _block(rows: list[int], columns: list[int], values: list[float], size: int) -> np.ndarray:
    block = np.zeros((size, max(columns, default=-1) + 1), np.float32)
    block[rows, columns] = values
    return block


def _dense(path: Path, num_features: int | None) -> tuple[np.ndarray, list[float], list[int]]:
    """Return features, labels and line numbers of dense rows."""
    labels, blocks, lines = [], [], []
    width = None if num_features is None else num_features + 1
    for number, tokens in _rows(path):
        numbers = " ".join(tokens).replace(",", " ").split()
        width = len(numbers) if width is None else width
        if len(numbers) != width:
            raise ValueError(
                f"{path}, line {number}: a row must have a label and {width - 1} features, got {len(numbers)} numbers"
            )
        row = [_number(text, "a feature or label", path, number) for text in numbers]
        labels.append(row[0])
        blocks.append(np.array(row[1:], np.float32))
        lines.append(number)
    if not blocks:
        raise ValueError(f"{path} must hold documents, but it is empty")
    return np.stack(blocks), labels, lines


def _numbers(path: Path, what: str) -> tuple[np.ndarray, list[int]]:
    """Return the number on each line, and the line numbers."""
    rows = list(_rows(path))
    return np.array([_number(tokens[0], what, path, line) for line, tokens in rows]), [line for line, _ in rows]


def _number(text: str, what: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{path}, line {line}: {what} must be a number, got {shorten(text)!r}") from error
