"""Policies in worlds whose truth is known: regret as a table and a plot."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from recsys_dl.compose.grid import Several
from recsys_dl.folders import new_folder, reserved
from recsys_dl.threads import limit_threads

from .running import shown

Panels = dict[str, tuple[list[Any], dict[str, np.ndarray]]]


def simulate(config: DictConfig, *, several: Several | None = None) -> None:
    """Simulate one policy, or several of which each has a config; print and write the table and the plot."""
    limit_threads(config.threads)
    trials = [("", "", config)] if several is None else several.named("world")
    trials = [(label or _name(one.policy), world or _name(one.world), one) for label, world, one in trials]
    if config.replay is not None:
        return _print_replayed(trials)
    if config.log is not None and len(trials) > 1:
        raise ValueError(
            f"log= takes the decisions of one policy in one world, got {len(trials)} of them; simulate one"
        )
    if config.log is not None and Path(config.log).exists():
        raise FileExistsError(f"log={config.log} exists already; name a new folder, whose requests are numbered from 0")
    output = None if config.output is None else Path(str(config.output)).expanduser()
    if output is not None and output.exists():
        raise FileExistsError(f"output={output} exists already; name another folder, or remove it first")
    if config.plot and find_spec("matplotlib") is None:
        print("no plot, since matplotlib is missing: pip install 'recsys_dl[plot]'", file=sys.stderr)
        config.plot = False
    with nullcontext() if config.log is None else new_folder(config.log) as log_folder:
        panels = _simulated(trials, log_folder)
    names = "-".join(dict.fromkeys(part for label, world, _ in trials for part in (label, world)))
    name = "".join(one if one.isalnum() or one in "-_." else "-" for one in names)[:80]
    with reserved(output or Path("simulations") / name) as folder:
        _write(panels, folder, config)
    print(f"\nregret.csv{', regret.png' if config.plot else ''} and table.txt are in {shown(folder)}/")
    return None


def _simulated(trials: Sequence[tuple[str, str, DictConfig]], log_folder: Path | None) -> Panels:
    """Return the curves of each world, and those of theory; write the decisions of the first seed to a log, if a folder is given."""
    from recsys_dl.data.feedback_log import FeedbackLog
    from recsys_dl.simulation import Curve
    from recsys_dl.simulation import simulate as simulated

    panels: Panels = {}
    for label, name, config in trials:
        world: Any = instantiate(config.world)
        runs, theories = [], []
        for seed in range(config.seed, config.seed + config.seeds):
            world.begin(seed)
            mine = config.copy()
            mine.seed = seed
            log = None
            if log_folder is not None and seed == config.seed:
                log = FeedbackLog(log_folder, num_arms=world.num_arms, context_size=world.context_size)
            policy = instantiate(mine.policy)
            runs.append(simulated(policy, world, rounds=config.rounds, batch=config.batch, k=config.k, log=log))
            rounds_P = runs[-1].rounds_P
            theories.append(world.theory(rounds_P) if config.k == 1 else world.slate_theory(rounds_P, config.k))
        curves, theory = panels.setdefault(name, ([], {}))
        curves.append(Curve.of(label, runs))
        theory |= {one: np.mean([found[one] for found in theories], axis=0) for one in theories[0]}
        if sys.stderr.isatty():
            print(f"{label} in {name}: regret {curves[-1].mean_P[-1]:,.1f}", file=sys.stderr)
    return panels


def _write(panels: Panels, folder: Path, config: DictConfig) -> None:
    from recsys_dl.evaluation.rendering import page_width, text_table
    from recsys_dl.simulation.curves import HEADER, gained, regret_table

    setting = f"{config.rounds:,} rounds, {config.seeds} seed{'s' * (config.seeds > 1)}, updates every {config.batch}, {config.k} shown"
    parts = []
    for name, (curves, theory) in panels.items():
        known = "".join(
            f"; {one} {values[-1]:,.1f}, of it late {gained(curves[0].rounds_P, values):,.1f}"
            for one, values in theory.items()
        )
        parts.append(f"{name}: {setting}{known}\n\n{text_table(HEADER, regret_table(curves), width=page_width())}")
    text = "\n\n".join(parts)
    print(text)
    (folder / "table.txt").write_text(text + "\n")
    with (folder / "regret.csv").open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["world", "policy", "rounds", "regret", "low", "high"])
        for name, (curves, _) in panels.items():
            for curve in curves:
                for at, after in enumerate(curve.rounds_P):
                    rows.writerow([name, curve.label, after, curve.mean_P[at], *curve.band_2P[:, at]])
    if config.plot:
        from recsys_dl.simulation.plot import draw

        draw(panels, folder / "regret.png", title=f"{setting}; bands: 95% over seeds")


def _print_replayed(trials: Sequence[tuple[str, str, DictConfig]]) -> None:
    """Print what each policy earns where it chooses what the log shows."""
    from recsys_dl.data.feedback_log import FeedbackLog
    from recsys_dl.evaluation.rendering import text_table
    from recsys_dl.simulation import replay

    rows = []
    for label, _, config in trials:
        folder = Path(config.replay)
        if not (folder / "log.json").is_file():
            raise FileNotFoundError(f"replay={folder} must be the folder of a feedback log, but has no log.json")
        log = FeedbackLog(folder).feedback()
        done = replay(instantiate(config.policy), log, batch=config.batch, seed=config.seed)
        low, high = done.interval
        rows.append(
            [label, f"{done.mean:.4f}", f"[{low:.4f}, {high:.4f}]", f"{len(done.rewards_M):,}", f"{done.rounds:,}"]
        )
    print(text_table(("policy", "reward/round", "95%", "matching rounds", "rounds"), rows))


def _name(node: DictConfig) -> str:
    return str(node["_target_"]).rpartition(".")[0].rpartition(".")[2]
