"""Fit one model."""

from __future__ import annotations

from omegaconf import DictConfig

from .running import (
    fit_and_leave,
    help_to_fit,
    in_processes,
    name_of,
    print_attribution,
    print_figures,
    run_folder,
    shown,
    trainer_of,
)


def train(config: DictConfig, *, expected_hash: str | None = None) -> None:
    """Fit one model, evaluate it, write a run folder.

    `expected_hash`: of the data, in a sweep whose other trials have read it.
    """
    trainer = trainer_of(config)
    with in_processes(trainer.processes, trainer.num_nodes) as first:
        if not first:
            help_to_fit(config)
            return
        with run_folder(config, name_of(config)) as target:
            evaluation = fit_and_leave(config, target, overwrite=config.run is None, expected_hash=expected_hash)
    print_figures(name_of(config), config, evaluation)
    print_attribution(target, config.evaluate.part)
    print(f"\nThe run is in {shown(target)}. Next:")
    if evaluation is not None:
        print(f"  recsys-dl evaluate run={shown(target)} part=test")
        print(f"  recsys-dl refit run={shown(target)}")
        if config.get("index") is not None:
            print(f"  recsys-dl index run={shown(target)}   (measure other index settings)")
    print(f"  recsys-dl recommend run={shown(target)} 'users=[...]'")
