"""Print or write lists by title."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import DictConfig, OmegaConf

from recsys_dl.names import counted
from recsys_dl.processes import current
from recsys_dl.progress import track

from .ids import has_one_column, ids_of
from .list_parts import write_parts
from .running import in_processes, own_threads, report_held_out

USERS_AT_ONCE = 1024  # lists held at once


def recommend(config: DictConfig) -> None:
    """Print, or write, lists by title: for users by id, for all users, or for a new user by history."""
    _check(config)
    with in_processes(config.processes) as first:
        if current().size > 1:
            if not _is_folder(config.output):
                raise ValueError(
                    f"{current().size} processes write a folder together: set output=lists/, or use one process"
                )
            own_threads(None)
        _recommend(config, first)


def _recommend(config: DictConfig, first: bool) -> None:
    """Print or write; `first`: whether this is the first process, which alone prints."""
    from recsys_dl.runs import load_run

    asked: dict[str, Any] = {}
    if config.history is not None:
        asked["history"] = _history(config.history)
    if config.tastes is not None:
        asked["tastes"] = [str(term) for term in ids_of(config.tastes, "tastes", "term")]
    if not asked and config.users != "all":
        asked["user_ids"] = ids_of(config.users, "users", "user")
    lists = {name: ids_of(config[name], name, "item") for name in ("allow", "exclude") if config[name] is not None}
    run = load_run(config.run)
    if config.users == "all" and "all" in run.users:
        raise ValueError(
            "users=all means every user, but a user of this run has the id all; for that one set users=[all]"
        )
    if _is_folder(config.output):
        rows = write_parts(run, Path(config.output), config.k, asked, lists, USERS_AT_ONCE)
        if first:
            report_held_out(run)
            print(f"{rows:,} rows are in {config.output}")
        return
    if config.output is not None and not config.explain:
        frames = run.recommend_all(config.k, **asked, **lists, users_at_once=USERS_AT_ONCE)
        rows = _write(frames, Path(config.output))
        report_held_out(run)
        print(f"{rows:,} rows are in {config.output}")
        return
    table, out = (
        run.explain(k=config.k, **asked, **lists)
        if config.explain
        else (run.recommend(k=config.k, **asked, **lists), None)
    )
    report_held_out(run)
    if config.output is not None:
        print(f"{_write(iter([table]), Path(config.output)):,} rows are in {config.output}")
        return
    users = asked.get("user_ids")
    shown = run.history(users, k=config.show_history) if users is not None and config.show_history else None
    _print_lists(users or table["user_id"].unique(maintain_order=True).to_list(), table, shown, out, config.k)


def _check(config: DictConfig) -> None:
    """Validate settings before a large run is read."""
    new = [name for name in ("history", "tastes") if config[name] is not None]
    if (config.users is None) == (not new):
        raise ValueError(
            "say for whom: users=[196,22], users=all, or history=[31,47] of a new user"
            + (f"; got both users and {' and '.join(new)}" if config.users is not None else "")
        )
    if config.output is None and config.users == "all":
        raise ValueError(
            "users=all makes as many lists as there are users: set an output file or folder, output=lists.parquet, output=lists/"
        )
    if config.explain and config.users == "all":
        raise ValueError("explain=true is for selected users, users=[196,22], not for users=all")
    if config.show_history < 0:
        raise ValueError(f"show_history must be 0 or more, got {config.show_history}")
    if config.output is not None:
        file = Path(config.output)
        if not file.parent.is_dir():
            raise FileNotFoundError(f"output must be in an existing folder, but {file.parent} does not exist")
        if _is_folder(config.output):
            if config.explain:
                raise ValueError(f"explain=true writes one file, output=lists.csv, not the folder {config.output}")
            if file.exists() and not file.is_dir():
                raise NotADirectoryError(f"output={config.output} must be a folder, but is a file; name another")
            return
        if file.suffix not in (".csv", ".parquet"):
            raise ValueError(
                f"output must end in .csv or .parquet, or be a folder for Parquet files, such as lists/; got {file}"
            )
        if file.is_dir():
            raise IsADirectoryError(f"output must be a file, but {file} is a folder; name a file in it")
        if file.exists():
            raise FileExistsError(
                f"output must be a new file, but {file} exists already; name another, or remove it first"
            )


def _is_folder(output: str | None) -> bool:
    """Return whether an output is a folder: written with a slash at the end, or without an ending."""
    return output is not None and (str(output).endswith("/") or not Path(output).suffix)


def _history(value: Any) -> Any:
    """Return the ids of a setting or of a file of one column, or the histories of a file with users as a Dataset."""
    if OmegaConf.is_list(value) or not (file := Path(str(value))).is_file() or has_one_column(file):
        return ids_of(value, "history", "item")
    from recsys_dl.readers.log import read_log

    return read_log(str(value))


def _print_lists(
    users: list[Any], table: pl.DataFrame, history: pl.DataFrame | None, out: pl.DataFrame | None, k: int
) -> None:
    from recsys_dl.evaluation.rendering import page_width, shortened_table

    width = page_width()
    for user in users:
        mine = table.filter(pl.col("user_id") == user) if len(table) else table
        if history is not None:
            liked = history.filter(pl.col("user_id") == user)
            names = [title or item for title, item in zip(liked["title"], liked["item_id"], strict=True)]
            print(f"\nUser {user}, who liked: {'; '.join(names) or 'nothing yet'}\n")
        else:
            print(f"\nUser {user}\n")
        if not len(mine):
            print("no item is left to recommend")
            continue
        titled = table["title"].null_count() < len(table)
        because = mine["because"].to_list() if "because" in table.columns else None
        header = ["rank", "item", *(["title"] if titled else []), "score"]
        rows = [
            [str(row["rank"]), row["item_id"], *([row["title"] or ""] if titled else []), f"{row['score']:.3f}"]
            for row in mine.iter_rows(named=True)
        ]
        print(
            _with_reasons(header, rows, mine, width, 2 if titled else 1)
            if "found_by" in table.columns
            else shortened_table(header, rows, long=2 if titled else 1, width=width)
        )
        if because is not None:
            print(
                "\n"
                + "\n".join(
                    f"{row['rank']:>4}  because {why}"
                    for row, why in zip(mine.iter_rows(named=True), because, strict=True)
                )
            )
        if len(mine) < k:
            print(
                f"{counted(len(mine), 'item')}, fewer than k={k}: the user has already interacted with the others, they are not allowed, or the model does not find them"
            )
        for row in out.filter(pl.col("user_id") == user).iter_rows(named=True) if out is not None and len(out) else []:
            what = row["title"] or row["item_id"]
            print(f"removed by {row['stage']}: {what}, rank {row['rank']} before ({row['reason']})")


def _with_reasons(header: list[str], rows: list[list[str]], mine: pl.DataFrame, width: int, long: int) -> str:
    """Return the list with a pipeline's explanation of each item: in columns if they fit, else on a line below it."""
    from recsys_dl.evaluation.rendering import shortened_table

    stages = mine.columns[mine.columns.index("found_by") + 1 : -1]
    places = " > ".join(stages)
    reasons = []
    for row in mine.iter_rows(named=True):
        ranks = " > ".join("-" if row[name] is None else str(row[name]) for name in stages)
        reasons.append([row["found_by"], ranks, row["moved_by"]])
    wide = [[*row, *why] for row, why in zip(rows, reasons, strict=True)]
    more = ["found by, at rank", f"rank after {places}", "moved by"]
    columns = [max(map(len, column)) for column in zip([*header, *more], *wide, strict=True)]
    if sum(columns) + 2 * (len(columns) - 1) - max(columns[long] - 24, 0) <= width:
        return shortened_table([*header, *more], wide, long=long, width=width)
    head, rule, *lines = shortened_table(header, rows, long=long, width=width).splitlines()
    reason_lines = [
        f"      {found} | {ranks}{f' | moved by {moved}' if moved else ''}" for found, ranks, moved in reasons
    ]
    below = f"      found by, at rank | rank after {places}"
    return "\n".join([head, below, rule, *(line for pair in zip(lines, reason_lines, strict=True) for line in pair)])


def _write(frames: Iterator[pl.DataFrame], file: Path) -> int:
    """Write frames one after another to a file, atomically; return the number of rows."""
    import pyarrow.parquet as pq

    from recsys_dl.folders import new_file

    count, writer = 0, None
    with new_file(file) as aside, aside.open("wb") as out:
        for frame in track(frames, "recommend, blocks of users"):
            if file.suffix == ".csv":
                frame.write_csv(out, include_header=not count and not out.tell())
            else:
                arrow = frame.to_arrow()
                writer = writer or pq.ParquetWriter(out, arrow.schema)
                writer.write_table(arrow)
            count += len(frame)
        if writer is not None:
            writer.close()
    return count
