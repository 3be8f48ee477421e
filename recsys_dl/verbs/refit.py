"""Refit a chosen run's settings on all of the log."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from .beforehand import NO_SPLIT
from .paths import find_paths
from .running import fit_and_leave, help_to_fit, in_processes, run_folder, shown, trainer_of


def refit(config: DictConfig) -> None:
    """Fit a run's settings on all data; write a new run that names its parent."""
    from recsys_dl.runs import load_run, weights_hash

    run = load_run(config.run)
    known = run.manifest.get("paths", {})
    again = OmegaConf.create(run.config)
    if again.split._target_ == NO_SPLIT and config.data.path is None:
        newer = (
            ""
            if again.data.get("path") is None
            else f". If the log has grown: recsys-dl refit run={config.run} data.path=…"
        )
        raise ValueError(f"{config.run} was fitted on all of its log already; use it as it is{newer}")
    if config.data.path is not None:
        if again.data.get("path") is None:
            raise ValueError(
                f"data.path is for runs on your own log (data=log); {config.run} was trained on {again.data._target_.rpartition('.')[2]}"
            )
        again.data.path = config.data.path
        known = {key: path for key, path in known.items() if not key.startswith("data.path")}
    again = find_paths(OmegaConf.to_container(again), known)  # type: ignore[arg-type]
    epochs = _epochs(config, again, run)
    with open_dict(again):
        again.split = {"_target_": NO_SPLIT, "_partial_": True}
        again.logger = None  # a folder's config must not decide where to write
        if epochs is not None:
            again.model.epochs = epochs
        if again.get("trainer") is not None:
            again.trainer.patience = None
            again.trainer.checkpoint = None
    parent = {
        "folder": str(run.folder.resolve()),
        "model": weights_hash(run.folder),
        "how": "refit",
        "data": run.manifest["data"],
        "epochs": epochs,
    }
    trainer = trainer_of(again)
    with in_processes(trainer.processes, trainer.num_nodes) as first:
        if not first:
            help_to_fit(again)
            return
        with run_folder(OmegaConf.create({"run": config.output}), f"{run.folder.resolve().name}-refit") as target:
            fit_and_leave(again, target, overwrite=config.output is None, parent=parent)
            data = load_run(target).manifest["data"]
    print(
        f"{shown(Path(config.run))} fitted on all {data['interactions']:,} interactions of {data['name']}"
        f"{'' if epochs is None else f', {epochs} epochs'}; nothing was held out, so there are no figures except its parent's"
    )
    print(f"\nThe run is in {shown(target)}. Next:")
    print(f"  recsys-dl recommend run={shown(target)} users=all output=lists.parquet")
    print(f"  recsys-dl export run={shown(target)}")


def _epochs(config: DictConfig, again: DictConfig, run) -> int | None:  # type: ignore[no-untyped-def]
    """Return the number of epochs, if the model has any: as requested, or the best epoch of early stopping."""
    has_epochs = again.get("pipeline") is None and "epochs" in again.model
    if config.epochs is not None:
        if not has_epochs:
            raise ValueError(f"epochs is for models that are trained in epochs; leave it out of {config.run}'s refit")
        if isinstance(config.epochs, bool) or not isinstance(config.epochs, int) or config.epochs < 1:
            raise ValueError(f"epochs must be a whole number of at least 1, got {config.epochs}")
        return int(config.epochs)
    if not has_epochs:
        return None
    stopped = again.get("trainer") is not None and again.trainer.get("patience") is not None
    kept = run.manifest.get("best_epoch")
    if stopped and kept is None:
        raise ValueError(
            f"{config.run} stopped early, but was written by a version that did not record the epoch; set epochs=…, or train again"
        )
    return int(kept) if stopped else None
