"""Evaluate a run on a part of its split."""

from __future__ import annotations

from omegaconf import DictConfig

from .beforehand import HELD_OUT, holds_out, holds_out_nothing, settle_split
from .paths import find_paths
from .running import (
    asked_of,
    in_processes,
    leave_attribution,
    name_of,
    own_threads,
    print_attribution,
    print_figures,
    read_parts,
)


def evaluate(config: DictConfig) -> None:
    """Evaluate a run's model on a part of its split; add the figures to the run."""
    segments = _segments(config)
    with in_processes(config.processes) as first:
        _evaluate(config, segments, first)


def _evaluate(config: DictConfig, segments: list[str] | None, first: bool) -> None:
    """Evaluate; `first`: whether this is the first process, which alone writes and prints."""
    from recsys_dl.evaluation import attribute, evaluate_counterfactual
    from recsys_dl.evaluation import evaluate as evaluate_model
    from recsys_dl.runs import StageTimer, load_run, write_metrics

    run = load_run(config.run)
    expected_hash = run.data_hash  # a fine-tuned run has none, and says so
    trained = find_paths(run.config, run.manifest.get("paths", {}))
    settle_split(trained)
    if config.part in HELD_OUT and not holds_out(trained, config.part):
        raise ValueError(
            f"{config.run} has no held-out {config.part} part"
            + (
                ", it was fitted on everything: there is nothing to evaluate it on"
                if holds_out_nothing(trained)
                else ""
            )
            + (f"; its parent is {run.manifest['parent']['folder']}" if run.manifest.get("parent") else "")
        )
    own_threads(trained.threads)
    split = read_parts(trained, StageTimer(), expected_hash=expected_hash)
    asked, exclude = asked_of(split, config.part)
    least = trained.evaluate.get("relevant_from") if config.relevant_from is None else config.relevant_from
    how = {"k": list(config.k), "exclude": exclude, "relevant_from": least}
    evaluation = evaluate_model(run.model, split.train, asked, segments=segments, **how)
    unbiased = None
    if first and config.propensity_power is not None:
        unbiased = evaluate_counterfactual(run.model, split.train, asked, power=config.propensity_power, **how)
    attribution = None if trained.get("pipeline") is None else attribute(run.model, split.train, asked, **how)
    if not first:
        return
    write_metrics(run.folder, {config.part: evaluation})
    if attribution is not None:
        leave_attribution(run.folder, config.part, attribution)
    trained.evaluate.part = config.part
    print_figures(name_of(trained), trained, evaluation)
    if unbiased is not None:
        print(f"\nOver all relevant pairs, by inverse propensities:\n\n{unbiased}")
    print_attribution(run.folder, config.part)


def _segments(config: DictConfig) -> list[str] | None:
    """Return the requested segments, None for none."""
    if not isinstance(config.cold, bool):
        raise ValueError(f"cold must be true or false, got {config.cold!r}")
    given = config.segments
    if given is not None and not len(given):
        raise ValueError(
            f"segments must name at least one, such as segments=cold or 'segments=[user:age]', got {given!r}; leave it out (null) for none"
        )
    named = [] if given is None else [given] if isinstance(given, str) else list(map(str, given))
    return list(dict.fromkeys(["cold", *named] if config.cold else named)) or None
