"""Rerun a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from .paths import find_paths
from .running import fit_and_leave, help_to_fit, in_processes, shown, trainer_of


def reproduce(config: DictConfig) -> int:
    """Rerun a run's config; report whether metrics and model are the same. Exit status 1 if they are not."""
    from recsys_dl.runs import load_run

    run = load_run(config.run)
    again_config = find_paths(run.config, run.manifest.get("paths", {}))
    again_config.logger = None
    if again_config.get("trainer") is not None:
        again_config.trainer.checkpoint = None  # from scratch, not from where the run ended
    trainer = trainer_of(again_config)
    with in_processes(trainer.processes, trainer.num_nodes) as first, tempfile.TemporaryDirectory() as folder:
        if not first:
            help_to_fit(again_config)
            return 0
        again = Path(folder) / "again"
        fit_and_leave(again_config, again, expected_hash=run.data_hash)
        twin = load_run(again)
    part = run.config["evaluate"]["part"]
    then, now = (one.metrics.get(part, {}).get("values", {}) for one in (run, twin))
    differences = [] if then | now == then else [f"the {part} metrics"]
    one, two = run.model.arrays(), twin.model.arrays()
    differences += [f"model.{name}" for name in one if not _same(one[name], two.get(name))]
    if differences:
        changed = "; ".join(_changes(run.manifest, twin.manifest))
        print(
            f"NOT reproduced: {', '.join(differences)} differ. {changed or 'Code, libraries, hardware and threads are the same.'}"
        )
        return 1
    print(
        f"reproduced: {shown(run.folder)} gives the same {f'{part} metrics and the same ' if now else ''}model, bit for bit"
    )
    return 0


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield what differs between the provenance of two runs; manifests of earlier versions record less."""
    for key in ("commit", "python", "versions", "threads", "processes", "hardware", "environment"):
        if key not in then or then[key] == now[key]:
            continue
        one, two = ({key: whole} if not isinstance(whole, dict) else whole for whole in (then[key], now[key]))
        for name in sorted({*one, *two}):
            if one.get(name) != two.get(name):
                yield f"{name}: {one.get(name)} -> {two.get(name)}"


def _same(first: Any, second: Any) -> bool:
    if hasattr(first, "nnz"):
        return first.shape == second.shape and (first != second).nnz == 0
    return np.array_equal(first, second)
