"""Watch a served run by its log."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

from omegaconf import DictConfig

from recsys_dl.threads import limit_threads

from .running import json_file

ALARM = 3  # exit status


def monitor(config: DictConfig) -> int:
    """Print the checks of a log; return 3 if one fails, for cron and systemd."""
    limit_threads(config.threads)
    from recsys_dl.folders import new_file
    from recsys_dl.monitoring import Limits, watch
    from recsys_dl.runs import load_run

    output = json_file(config.output)
    if "://" in str(config.log):  # which may have a password
        raise ValueError(
            "log must be a folder: of a database, the copy of its log that each server keeps in RUN.serving"
        )
    limits = Limits(**{one.name: config[one.name] for one in dataclasses.fields(Limits)})
    found = watch(
        load_run(config.run),
        Path(str(config.log)).expanduser(),
        limits=limits,
        windows=config.windows,
        settle=config.settle,
        confidence=config.confidence,
        seed=config.seed,
    )
    if output is not None:
        with new_file(output) as aside:
            aside.write_text(json.dumps(found.to_dict(), indent=2) + "\n")
    print(f"{config.run}: {found.lists:,} lists from {_day(found.since)} to {_day(found.until)} UTC\n")
    print(f"{'check':<14} {'value':>8}  {'limit':>6}  ")
    for check in found.checks:
        value = "-" if check.value is None else f"{check.value:.3f}"
        print(f"{check.name:<14} {value:>8}  {check.limit:>6g}  {'FAILED' if check.failed else 'ok':<6}  {check.words}")
    print("\nwindow until      lists  top 1% of items  lists that earned")
    for window in found.windows:
        print(f"{_day(window['until'])} {window['lists']:>6,}  {window['top']:>15.3f}  {window['earned']:>17.4f}")
    return ALARM if found.failed else 0


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
