"""Several models on one split."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from .running import fit_and_leave, help_to_fit, is_helper, run_folder, shown

ACCURACY = ("precision", "recall", "hit_rate", "map", "mrr", "ndcg")


def compare(config: DictConfig) -> None:
    """Fit several models on one split; print and leave their table with intervals and paired tests."""
    from recsys_dl.compose import compose, near, options
    from recsys_dl.evaluation import compare as compare_evaluations
    from recsys_dl.folders import new_folder

    metrics = [f"{name}@{k}" for name in ACCURACY for k in config.evaluate.k]
    if config.metric not in metrics:
        raise ValueError(
            f"metric must be one of {', '.join(metrics)}, got {config.metric}{near(config.metric, metrics)}"
        )
    if len(set(config.models)) < max(2, len(config.models)):
        raise ValueError(f"models must name at least two models, each once, got {', '.join(config.models)}")
    shared = {key: value for key, value in config.items() if key not in ("models", "run", "metric")}
    evaluations = {}
    pipelines = options("pipeline")
    singles = {
        name: compose("train", [f"{'pipeline' if name in pipelines else 'model'}={name}"]) for name in config.models
    }
    for name, one in singles.items():
        OmegaConf.set_struct(one, False)
        one.merge_with(shared)
        if config.trainer.checkpoint is not None:
            one.trainer.checkpoint = str(Path(config.trainer.checkpoint) / name)
    if is_helper(config):
        for one in singles.values():
            help_to_fit(one)
        return
    with run_folder(config, "compare") as target, new_folder(target, overwrite=config.run is None) as aside:
        for name, one in singles.items():
            evaluations[name] = fit_and_leave(one, aside / name)
        comparison = compare_evaluations(evaluations, metric=config.metric)
        (aside / "comparison.json").write_text(json.dumps(comparison.to_dict(), indent=2) + "\n")
    print(f"{len(evaluations)} models, {config.evaluate.part}\n\n{comparison}")
    print(f"\nThe runs are in {shown(target)}/")
