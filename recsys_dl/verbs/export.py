"""Export a run to files that another process serves."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from .ids import ids_of
from .running import report_held_out, shown


def export(config: DictConfig) -> None:
    """Write a run's model to a folder; print its contents."""
    from recsys_dl.export import FORMATS
    from recsys_dl.export import export as export_model
    from recsys_dl.folders import next_free
    from recsys_dl.runs import load_run

    if config.format not in FORMATS:  # validated before a large run is read
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {config.format}")
    run = load_run(config.run)
    name = f"{run.folder.resolve().name}-{config.format}"
    target = next_free(Path("exports") / name) if config.output is None else Path(config.output)
    export_model(
        run.model,
        target,
        format=config.format,
        seen=run.seen,
        exclude_seen=config.exclude_seen,
        allow=None if config.allow is None else ids_of(config.allow, "allow", "item"),
        k=config.k,
        titles=None if run.titles is None else run.titles.to_list(),
        about={"run": run.folder.resolve().name, "model": run.config["model"], "data": run.manifest["data"]},
    )
    report_held_out(run)
    for file in sorted(target.iterdir()):
        print(f"{file.stat().st_size:>14,} bytes  {shown(file)}")
    if hasattr(run.model, "index"):
        print(
            f"\nThe index of the run, {type(run.model.index).__name__}, is not exported: the files score every item, which is exact. "
            "The vectors to build one from are the item embeddings among them"
        )
    print("\nHow a process without this package reads them: docs/export.md")
