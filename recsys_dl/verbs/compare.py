"""Compare several models on one split, or existing runs."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from .beforehand import check_beforehand, holds_out_nothing, settle_split
from .running import fit_and_leave, help_to_fit, in_processes, print_attribution, run_folder, shown, trainer_of

if TYPE_CHECKING:
    from recsys_dl.evaluation import Comparison, Evaluation

ACCURACY = ("precision", "recall", "hit_rate", "map", "mrr", "ndcg")
OF_ALL = ("data", "split", "evaluate", "run", "experiment")  # settings that every model of a comparison shares


@dataclass(frozen=True)
class Contender:
    """One of the compared models: its name (also of its folder) and config."""

    name: str
    config: DictConfig


def compare(config: DictConfig) -> None:
    """Print and write a table of models, with intervals and paired tests: fitted on one split, or from existing runs."""
    from recsys_dl.compose import near

    metrics = [f"{name}@{k}" for name in ACCURACY for k in config.evaluate.k]
    if config.metric not in metrics:
        raise ValueError(
            f"metric must be one of {', '.join(metrics)}, got {config.metric}{near(config.metric, metrics)}"
        )
    if config.runs is not None:
        print(compared_runs(list(map(str, config.runs)), config.evaluate.part, config.metric))
        return
    settle_split(config)
    if holds_out_nothing(config):
        raise ValueError("split=none holds nothing out, so there is nothing to compare models on; use another split")
    contenders = contenders_of(config)
    for one in contenders:
        check_beforehand(one.config, trainer_of(one.config))
    from recsys_dl.evaluation import compare as compare_evaluations
    from recsys_dl.folders import new_folder

    evaluations = {}
    trainer = trainer_of(config)
    with in_processes(trainer.processes, trainer.num_nodes) as first:
        if not first:
            for one in contenders:
                help_to_fit(one.config)
            return
        with run_folder(config, "compare") as target, new_folder(target, overwrite=config.run is None) as aside:
            for one in contenders:
                evaluations[one.name] = fit_and_leave(one.config, aside / one.name)
            comparison = compare_evaluations(evaluations, metric=config.metric)
            _leave(comparison, aside)
    print(f"{len(evaluations)} models, {config.evaluate.part}\n\n{comparison}")
    for one in contenders:
        print_attribution(target / one.name, config.evaluate.part, of=one.name)
    print(f"\nThe runs are in {shown(target)}/")


def contenders_of(config: DictConfig) -> list[Contender]:
    """Return the models in `models`, with their names.

    Raises:
        ValueError: fewer than two, a repeated name, or an entry with an unknown model or setting.
    """
    entries = list(map(str, config.models))
    contenders = [contender_of(entry, config) for entry in entries]
    names = [one.name for one in contenders]
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"models must name at least two models, each once, got {', '.join(entries)}; distinguish two settings of one model "
            "by name: \"models=[als,'big=als embedding_size=128']\""
        )
    return contenders


def contender_of(entry: str, config: DictConfig) -> Contender:
    """Return the model of an entry: `als`, `als embedding_size=128`, or named, `big=als embedding_size=128 seed=8`."""
    from recsys_dl.compose import compose, near, options

    first, *settings = shlex.split(entry) or [""]
    name, _, option = first.rpartition("=")
    models, pipelines = options("model"), options("pipeline")
    if option not in (*models, *pipelines):
        raise ValueError(
            f"models: there is no model {option!r}{near(option, [*models, *pipelines])}. There are: {', '.join([*models, *pipelines])}"
        )
    group = "pipeline" if option in pipelines else "model"
    if wrong := [word for word in settings if not re.match(r"~[\w.@/-]+$|[+~]*[\w.@/-]+=", word)]:
        raise ValueError(f"models: settings of {option} must be written key=value, got {wrong[0]!r} in {entry!r}")
    ours = {key for key in map(str, compose("train").keys()) if key not in ("model", "pipeline")} | {"index"}
    words = [word if _top(word) in (*ours, group) or "@" in word else f"{group}.{word}" for word in settings]
    if shared := [word for word in words if _top(word) in OF_ALL]:
        raise ValueError(f"models: {shared[0]} must be the same for all models; set it outside of models=[…]")
    if group == "pipeline" and (lost := [word for word in words if _top(word) == "index"]):
        raise ValueError(f"models: {lost[0]} would have no effect on {option}, whose retrievers may each have an index")
    one = compose("train", [f"{group}={option}", *words])
    given = {_top(word) for word in words} & ours
    OmegaConf.set_struct(one, False)
    own = {key: OmegaConf.create({key: one.get(key)}) for key in given}
    for key, value in config.items():
        if key not in (
            "models",
            "runs",
            "run",
            "metric",
        ):  # replaced, not merged: another split or log has different settings
            one[key] = value
    for key, value in own.items():
        OmegaConf.update(one, key, value.get(key), merge=True)
    name = name or re.sub(r"[^\w.=+,-]+", "-", entry).strip("-.")
    if not re.fullmatch(r"\w[\w.=+,-]{0,99}", name):
        raise ValueError(f"models: a name must be letters, digits, and -, _, ., at most 100, got {name!r} in {entry!r}")
    if one.trainer.checkpoint is not None:
        one.trainer.checkpoint = str(Path(one.trainer.checkpoint) / name)
    return Contender(name, one)


def _top(word: str) -> str:
    return re.split(r"[.=@]", word.lstrip("+~"), maxsplit=1)[0]


def compared_runs(folders: list[str], part: str, metric: str) -> Comparison:
    """Compare runs that were evaluated on the same part of the same data and split.

    Raises:
        FileNotFoundError: no such run.
        ValueError: fewer than two, a run without figures of that part, or runs of other data, split or conventions.
    """
    from recsys_dl.evaluation import compare as compare_evaluations

    names = {folder.rstrip("/"): Path(folder) for folder in folders}
    if len(names) < 2 or len({path.resolve() for path in names.values()}) < len(folders):
        raise ValueError(f"runs must name at least two run folders, each once, got {', '.join(folders) or 'none'}")
    found = {name: _figures(path, part, metric) for name, path in names.items()}
    try:
        return compare_evaluations({name: evaluation for name, (evaluation, _) in found.items()}, metric=metric)
    except ValueError as error:
        (first, (_, one)), *others = found.items()
        for name, (_, other) in others:
            if apart := _apart(one, other):
                raise ValueError(
                    f"{first} and {name} cannot be compared: they were not evaluated in the same way. "
                    + "; ".join(
                        f"{key} is {mine!r} in the one, {theirs!r} in the other" for key, mine, theirs in apart[:4]
                    )
                ) from error
        raise


def _figures(folder: Path, part: str, metric: str) -> tuple[Evaluation, dict[str, Any]]:
    from recsys_dl.runs import load_evaluation

    evaluation, config, hash_ = load_evaluation(folder, part)
    if metric not in evaluation.per_user:
        k = metric.partition("@")[2]
        get = (
            ""
            if (folder / "ranker").is_dir()
            else f"; compute it with recsys-dl evaluate run={folder} part={part} k={k}"
        )
        raise ValueError(f"{folder} has no {metric} of {part}, but {', '.join(sorted(evaluation.per_user))[:200]}{get}")
    asked = {key: config.get(key) for key in ("data", "weights", "filter", "split")}
    return evaluation, _flat(asked) | {"the data's hash": hash_[:12]}


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        name: value
        for key, inner in node.items()
        for name, value in _flat(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _apart(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(key, one.get(key), other.get(key)) for key in {**one, **other} if one.get(key) != other.get(key)]


def _leave(comparison: Comparison, folder: Path) -> None:
    (folder / "comparison.json").write_text(json.dumps(comparison.to_dict(), indent=2) + "\n")
