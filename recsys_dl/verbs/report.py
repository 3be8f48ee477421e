"""Write a report about runs."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from .running import shown


def report(config: DictConfig) -> None:
    """Write one HTML file about the runs, and print where it is."""
    try:
        from recsys_dl.reporting import report as write
    except ModuleNotFoundError as error:
        raise ImportError(
            f"recsys-dl report needs a package that is not installed ({error.name}): pip install 'recsys_dl[plot]'"
        ) from error
    runs = list(map(str, config.runs))
    output = Path(config.output) if config.output is not None else Path(runs[0] if runs else ".") / "report.html"
    file = write(runs, output, part=config.part, metric=config.metric, overwrite=config.overwrite)
    print(f"{shown(file)}: {', '.join(runs)}, {config.part}")
