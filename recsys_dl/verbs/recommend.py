"""Lists by title."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import DictConfig, OmegaConf


def recommend(config: DictConfig) -> None:
    """Print, or write, lists by title for users by id."""
    from recsys_dl.runs import load_run

    run = load_run(config.run)
    users = list(dict.fromkeys(map(str, config.users if OmegaConf.is_list(config.users) else [config.users])))
    if not users:
        raise ValueError("users must name at least one user id, got none: users=[196,22]")
    table, out = run.explain(users, k=config.k) if config.explain else (run.recommend(users, k=config.k), None)
    if config.output is None:
        history = run.history(users, k=config.history) if config.history else None
        _print_lists(users, table, history, out)
    else:
        _write_table(table, Path(config.output))
        print(f"{len(table)} rows are in {config.output}")


def _print_lists(users: list[Any], table: pl.DataFrame, history: pl.DataFrame | None, out: pl.DataFrame | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for user in users:
        if history is not None:
            liked = history.filter(pl.col("user_id") == user)
            names = [title or item for title, item in zip(liked["title"], liked["item_id"], strict=True)]
            console.print(
                f"\n[bold]User {user}[/bold], who liked: {'; '.join(names) or 'nothing yet'}", highlight=False
            )
        if not len(table):
            console.print("no item is left to recommend")
            continue
        titled = table["title"].null_count() < len(table)
        told = "found_by" in table.columns
        stages = table.columns[table.columns.index("found_by") + 1 : -1] if told else []
        more = ["found by, at rank", "rank after " + " > ".join(stages), "moved by"] if told else []
        shown = Table("rank", "item", *(["title"] if titled else []), "score", *more)
        for row in table.filter(pl.col("user_id") == user).iter_rows(named=True):
            title = [row["title"] or ""] if titled else []
            ranks = " > ".join("-" if row[name] is None else str(row[name]) for name in stages)
            how = [row["found_by"], ranks, row["moved_by"]] if told else []
            shown.add_row(str(row["rank"]), row["item_id"], *title, f"{row['score']:.3f}", *how)
        console.print(shown)
        for row in out.filter(pl.col("user_id") == user).iter_rows(named=True) if out is not None and len(out) else []:
            what = row["title"] or row["item_id"]
            console.print(
                f"taken out by {row['stage']}: {what}, rank {row['rank']} before ({row['reason']})", highlight=False
            )


def _write_table(table: pl.DataFrame, file: Path) -> None:
    writers = {".csv": table.write_csv, ".parquet": table.write_parquet}
    if file.suffix not in writers:
        raise ValueError(f"output must end in .csv or .parquet, got {file}")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"output must lie in a folder that exists, but there is no {file.parent}")
    aside = file.with_name(f".{file.name}.partial")
    writers[file.suffix](aside)  # type: ignore[operator]
    aside.replace(file)
