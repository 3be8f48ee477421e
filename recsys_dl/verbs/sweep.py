"""Train one trial for each combination of settings, and leave a table of them."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.compose.grid import Grid
from recsys_dl.names import counted

from .beforehand import check_beforehand, settle_split
from .experiment import write_experiment
from .running import name_of, shown, trainer_of
from .trial import MODULE

if TYPE_CHECKING:
    from recsys_dl.sweeps.ledger import Ledger

READS = ("data", "weights", "filter")  # what determines the log that a trial reads


def sweep(config: DictConfig, *, grid: Grid) -> int:
    """Run every trial by the launcher, skipping finished ones; print and write their table. Exit status 1 if one failed."""
    from recsys_dl.leftovers import lock
    from recsys_dl.sweeps.launchers import Launcher
    from recsys_dl.sweeps.ledger import Ledger, key_of
    from recsys_dl.sweeps.running import run_trials
    from recsys_dl.sweeps.status import line_of, print_ledger, write_ledger

    launcher: Launcher = instantiate(config.launcher, _convert_="all")
    for one in grid.configs:
        settle_split(one)
        check_beforehand(one, trainer_of(one))
    trials = [_entry(words, one) for words, one in zip(grid.trials, grid.configs, strict=True)]
    launcher.check(max(one["num_nodes"] for one in trials))
    name = "-".join(dict.fromkeys(name_of(one) for one in grid.configs))[:60]
    folder = Path(
        config.run or Path("sweeps") / f"{name}-{key_of(repr([one['key'] for one in trials]))[:6]}"
    ).absolute()
    about = {"metric": metric_of(config, grid), "launcher": launcher.name}
    ledger = Ledger.open(folder, trials, code=_code(), about=about)
    mine = ledger.of([one["key"] for one in trials])
    with lock(folder) as alone:
        if alone is False:
            raise RuntimeError(
                f"{shown(folder)} is being run by another process; recsys-dl sweep status {shown(folder)} shows how far it is"
            )
        done = sum(trial.finished for trial in mine)
        print(
            f"{counted(len(mine), 'trial')} in {shown(folder)}{f', {done} of them finished before' if done else ''}; launcher={launcher.name}",
            file=sys.stderr,
        )
        run_trials(
            mine,
            launcher,
            module=MODULE,
            ended=lambda trial, state: print(line_of(ledger, trial, state), file=sys.stderr),
        )
        write_ledger(ledger)
    print_ledger(ledger)
    print_best(ledger)
    failed = [trial for trial in mine if not trial.finished]
    return 1 if failed else 0


def print_best(ledger: Ledger) -> None:
    """Write the best trial's config as an experiment, and print the commands that go on from it."""
    from recsys_dl.sweeps.records import winners
    from recsys_dl.sweeps.status import records_of

    metric = ledger.about["metric"]
    for best in winners(records_of(ledger), [metric]):
        if metric not in best.values:  # nothing was held out
            return
        about = f"Trial {best.number} of {ledger.folder.name}: {metric} {best.values[metric]:.4f}."
        experiment = write_experiment(ledger.folder, ledger.trials[best.number].alone, about)
        place = shlex.quote(f"hydra.searchpath=[file://{ledger.folder}]")
        print(f"\nThe best is trial {best.number}. Next:")
        print(f"  {best.command if experiment is None else f'recsys-dl train {place} experiment=best'}")
        print(f"  recsys-dl evaluate run={shown(Path(best.folder))} part=test")


def metric_of(config: DictConfig, grid: Grid) -> str:
    """Return the metric that trials are compared by.

    Raises:
        ValueError: one that no trial reports.
    """
    from recsys_dl.metrics.ranking import METRICS
    from recsys_dl.names import near

    k = list(grid.configs[0].evaluate.k)
    metric = str(config.metric or f"ndcg@{k[0]}")
    known = [f"{name}@{one}" for name in METRICS for one in k]
    if metric not in known:
        raise ValueError(
            f"metric={metric}: no trial reports it{near(metric, known)}; they report {', '.join(METRICS)} at evaluate.k={k}"
        )
    return metric


def _entry(words: tuple[str, ...], config: DictConfig) -> dict[str, Any]:
    from recsys_dl.sweeps.ledger import key_of

    plain: Any = OmegaConf.to_container(config, resolve=True)
    trainer = trainer_of(config)
    return {
        "words": list(words),
        "key": key_of(json.dumps(plain, sort_keys=True)),
        "data": key_of(json.dumps({name: plain.get(name) for name in READS}, sort_keys=True)),
        "processes": trainer.world_size,
        "num_nodes": trainer.num_nodes,
    }


def _code() -> dict[str, Any]:
    from recsys_dl.provenance import commit
    from recsys_dl.version import __version__

    return {"version": __version__, "commit": commit()}
