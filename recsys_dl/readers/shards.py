"""A log larger than memory, read from Parquet files into mapped columns, once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from recsys_dl.arguments import Count, checked
from recsys_dl.data.dataset import Dataset, ReadReport, WeightKind
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.mapped import MappedInteractions, locked, write_log
from recsys_dl.data.pieces import FileStore
from recsys_dl.data.repeats import Repeats, settled
from recsys_dl.data.vocabulary import load_vocabularies, save_vocabularies
from recsys_dl.folders import new_file, new_folder, writing

from .columns import choose
from .download import cache_folder
from .rows import Form, read_rows
from .shard_files import ShardFiles

FORMAT = 1
IDS = ("users.parquet", "items.parquet")

log = logging.getLogger(__name__)


@checked
def read_shards(
    path: str | os.PathLike[str],
    *,
    user: str | None = None,
    item: str | None = None,
    weight: str | bool | None = None,
    time: str | bool | None = None,
    time_unit: Literal["s", "ms", "us", "ns"] | None = None,
    time_format: str | None = None,
    on_bad_rows: Literal["error", "skip"] = "error",
    weight_kind: WeightKind | None = None,
    repeats: Repeats | None = None,
    cache: str | os.PathLike[str] | None = None,
    block: Count = 4_000_000,
    name: str | None = None,
) -> Dataset:
    """Read a folder of Parquet files into a Dataset whose interactions are mapped files: the same as `read_log` of these files.

    Files are read by row group, in the order of their names, and what is derived from the log later (weights, k-core, parts of a
    split, matrices) is computed block by block. Memory: about 100 bytes per interaction of a block, and each id once. The
    prepared log is kept in `cache`, 20 bytes per interaction, and found there as long as the files are unchanged; so is what is
    derived from it. A log, or a part of one, of at most `block` interactions is in memory.

    Args:
        path: a folder (or one file), local or any fsspec address: s3://bucket/logs, gs://bucket/logs. Credentials are taken
            from the environment.
        user: column name; None recognizes it, as in `read_log`; likewise `item`.
        weight: likewise; False ignores it; likewise `time`.
        time_unit: of numeric times, as in `read_log`; likewise `time_format`, `on_bad_rows`, `weight_kind` and `repeats`.
        time_format: of text times.
        on_bad_rows: "error" or "skip".
        weight_kind: "ratings" or "counts".
        repeats: of a user and an item.
        cache: folder of prepared logs; None means shards/ in the cache of downloads.
        block: interactions in memory at once.
        name: of the data set; None uses the folder's name.

    Raises:
        FileNotFoundError: no such folder or bucket, no Parquet files, or a shard that others announce is missing.
        PermissionError, ConnectionError: the store refuses, or cannot be reached.
        ImportError: the package for such addresses is not installed.
        ValueError: a truncated file, or one of another schema: the message names the file and the column; as in `read_log`.
        OSError: the disk of the cache is full.

    Examples:
        >>> from pathlib import Path
        >>> import polars as pl
        >>> from recsys_dl.readers.shards import read_shards
        >>> Path("logs").mkdir()
        >>> pl.DataFrame({"user_id": ["ann", "ann"], "item_id": ["b42", "b7"]}).write_parquet("logs/part-0.parquet")
        >>> pl.DataFrame({"user_id": ["bob"], "item_id": ["b7"]}).write_parquet("logs/part-1.parquet")
        >>> read_shards("logs", cache="prepared").interactions
        Interactions(3 of 2 users and 2 items)
    """
    shards = ShardFiles.find(path)
    columns = {"user": user, "item": item, "weight": weight, "time": time}
    form = Form(time_unit, time_format, ".", weight_kind)
    how = [FORMAT, shards.fingerprint(), columns, dataclasses.astuple(form), on_bad_rows, repeats]
    root = Path(cache).expanduser() if cache is not None else cache_folder() / "shards"
    home = root / hashlib.sha256(json.dumps(how).encode()).hexdigest()[:20]
    with writing(home):
        (home / "reading").mkdir(parents=True, exist_ok=True)
    with locked(home / "reading"), writing(home):
        if not (home / "prepared.json").exists():
            _prepare(shards, home, columns, form, block, skip=on_bad_rows == "skip", repeats=repeats)
        else:
            log.info("%s: prepared before, in %s", shards.where, home, extra={"always": True})
    data = _opened(home, block)
    return dataclasses.replace(data, name=name or Path(shards.path.rstrip("/")).name.split(".")[0])


def _prepare(
    shards: ShardFiles,
    home: Path,
    columns: dict[str, Any],
    form: Form,
    block: int,
    *,
    skip: bool,
    repeats: Repeats | None,
) -> None:
    """Write the log, its ids, and what is known of it to its folder; `prepared.json` comes last."""
    table = shards.table()
    chosen = choose(table.names, table.where, **columns)
    shards.check_columns([table.names[at] for at in vars(chosen).values() if at is not None])
    with new_folder(home / "read", overwrite=True) as aside, tempfile.TemporaryDirectory(dir=home) as scratch:
        data, _ = read_rows(table, chosen, None, form, skip=skip, store=FileStore(Path(scratch), aside, block))
    read = MappedInteractions(home / "read", block=block)
    whole = dataclasses.replace(data, interactions=read, weight_kind=form.kind or data.weight_kind, name=table.where)
    data = settled(whole, repeats)
    save_vocabularies(home, data.users, data.items)
    about = {
        "interactions": _placed(data.interactions, home, "settled"),
        "seen_only": None if data.seen_only is None else _placed(data.seen_only, home, "seen_only"),
        "weight_kind": data.weight_kind,
        "report": None if data.report is None else dataclasses.asdict(data.report),
    }
    with new_file(home / "prepared.json") as aside:
        aside.write_text(json.dumps(about, indent=1) + "\n")
    for folder in home.iterdir():
        if (folder / "log.json").exists() and folder.name not in about.values():
            shutil.rmtree(folder)


def _placed(interactions: Interactions, home: Path, name: str) -> str:
    """Return the name of the folder with some interactions, written first if they are in memory."""
    if isinstance(interactions, MappedInteractions):
        return interactions.folder.name
    with new_folder(home / name, overwrite=True) as aside:
        write_log(aside, [interactions])
    return name


def _opened(home: Path, block: int) -> Dataset:
    """Return what `_prepare` wrote; interactions in memory if they are at most `block`."""
    try:
        about = json.loads((home / "prepared.json").read_text())
        users, items = load_vocabularies(home, IDS)
        assert users is not None
        assert items is not None
        interactions, seen_only = (_log(home, about[name], block) for name in ("interactions", "seen_only"))
        assert interactions is not None
        report = None if about["report"] is None else ReadReport(**about["report"])
        known = {"seen_only": seen_only, "weight_kind": about["weight_kind"], "report": report}
        return Dataset(interactions, users, items, **known)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"the prepared log in {home} is damaged ({error}); remove that folder and run again"
        ) from error


def _log(home: Path, name: str | None, block: int) -> Interactions | None:
    if name is None:
        return None
    found = MappedInteractions(home / name, block=block)
    return found if len(found) > block else found.in_memory()
