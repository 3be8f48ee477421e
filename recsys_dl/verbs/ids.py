"""Ids in a setting: a list, or a file with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

BINARY = (".parquet", ".feather", ".arrow", ".xlsx", ".xls", ".gz", ".zip", ".zst")
NAMES = {  # of a column of ids, without case and underscores
    "user": ("userid", "user", "uid", "id"),
    "item": ("itemid", "item", "iid", "movieid", "asin", "id"),
    "term": ("term", "terms", "taste", "tastes"),
}
OF_TERMS = "term"  # words, not ids


def ids_of(value: Any, name: str, noun: str) -> list[str]:
    """Return the ids of a setting, each once, in order.

    Args:
        value: a list of ids; one id; or a file: text with one id per line, or a table (.csv, .tsv, .parquet) with a column of them.
        name: of the setting, for messages.
        noun: "user" or "item": what the ids are of; "term": they are terms of the items' content.

    Raises:
        ValueError: no such file or column, or no ids.
    """
    if OmegaConf.is_list(value) or isinstance(value, list | tuple):
        found = [str(one) for one in value if one is not None]
    elif (file := Path(str(value))).is_file():
        found = _of_file(file, name, noun)
    elif file.suffix in (".txt", ".csv", ".tsv", ".parquet") or (len(file.parts) > 1 and noun != OF_TERMS):
        raise ValueError(
            f"{name} must be a list of {_of(noun)}, {_such_as(name, noun)}, or a file of them; {file} does not exist"
        )
    else:
        found = [str(value)]
    ids = list(dict.fromkeys(found))
    if not ids:
        raise ValueError(f"{name} must name at least one {_of(noun)[:-1]}, got none: {_such_as(name, noun)}")
    return ids


def has_one_column(file: Path) -> bool:
    """Return whether a file is text of one column: its first line has no separator."""
    if file.suffix in BINARY:
        return False
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        return not set(next(lines, "")) & set(",;|\t ")


def _of(noun: str) -> str:
    return "terms" if noun == OF_TERMS else f"{noun} ids"


def _such_as(name: str, noun: str) -> str:
    return f"{name}=[heist,1970s]" if noun == OF_TERMS else f"{name}=[196,22]"


def _of_file(file: Path, name: str, noun: str) -> list[str]:
    if file.suffix not in (".csv", ".tsv", ".parquet"):
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}={file} must be text in UTF-8 with one {_of(noun)[:-1]} per line ({error})"
            ) from error
        return [line for line in lines if line]
    import polars as pl

    from recsys_dl.data.saved_tables import read_saved_table

    try:
        if file.suffix == ".parquet":
            table = read_saved_table(file)
        else:
            table = pl.read_csv(file, separator="\t" if file.suffix == ".tsv" else ",", infer_schema=False)
    except (ValueError, pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{name}={file} must be a table with a column of {_of(noun)} ({str(error)[:200]})") from error
    plain = {column.lower().replace("_", ""): column for column in table.columns}
    column = next((plain[one] for one in NAMES[noun] if one in plain), None)
    if (
        column is None and table.width == 1 and file.suffix != ".parquet"
    ):  # without a header: the first line is an id too
        return [table.columns[0], *table[table.columns[0]].drop_nulls()]
    if column is None and table.width == 1:
        column = table.columns[0]
    if column is None:
        raise ValueError(
            f"{name}={file} must have a column {noun if noun == OF_TERMS else f'{noun}_id'}, got {', '.join(table.columns[:8])}; or use text with one {_of(noun)[:-1]} per line"
        )
    from recsys_dl.data.vocabulary import as_text

    return as_text(table[column]).drop_nulls().to_list()
