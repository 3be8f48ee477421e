"""What each verb of the command does with its composed config."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.threads import limit_threads

log = logging.getLogger(__name__)


def train(config: DictConfig) -> None:
    """Fit one model, evaluate it, leave a run folder."""
    target = _target(config, _name(config))
    evaluation = _train(config, target)
    print(evaluation)
    print(f"\nThe run is in {_shown(target)}. Next:")
    print(f"  recsys-dl evaluate run={_shown(target)} part=test")
    print(f"  recsys-dl recommend run={_shown(target)} 'users=[…]'")


def evaluate(config: DictConfig) -> None:
    """Evaluate a run's model on a part of its split; add the figures to the run."""
    from recsys_dl.evaluation import evaluate as evaluate_model
    from recsys_dl.runs import Stages, load_run, write_metrics

    run = load_run(config.run)
    trained = OmegaConf.create(run.config)
    limit_threads(trained.threads)
    split = _read(trained, Stages(), expected_hash=run.manifest["data"]["hash"])
    asked, exclude = _asked(split, config.part)
    evaluation = evaluate_model(run.model, split.train, asked, k=list(config.k), exclude=exclude)
    write_metrics(run.folder, {config.part: evaluation})
    print(evaluation)


def recommend(config: DictConfig) -> None:
    """Print, or write, lists by title for users by id."""
    from recsys_dl.runs import load_run

    run = load_run(config.run)
    users = list(config.users) if OmegaConf.is_list(config.users) else [config.users]
    table = run.recommend(users, k=config.k)
    if config.output is None:
        history = run.history(users, k=config.history) if config.history else None
        _print_lists(users, table, history)
    else:
        _write_table(table, Path(config.output))
        print(f"{len(table)} rows are in {config.output}")


def compare(config: DictConfig) -> None:
    """Fit several models on one split; print and leave their table with intervals and paired tests."""
    from recsys_dl.compose import compose
    from recsys_dl.evaluation import compare as compare_evaluations
    from recsys_dl.folders import new_folder

    target = _target(config, "compare")
    shared = {key: value for key, value in config.items() if key not in ("models", "run", "metric")}
    evaluations = {}
    with new_folder(target) as aside:
        for name in config.models:
            one = compose("train", [f"model={name}"])
            OmegaConf.set_struct(one, False)
            one.merge_with(shared)
            evaluations[name] = _train(one, aside / name)
        comparison = compare_evaluations(evaluations, metric=config.metric)
        (aside / "comparison.json").write_text(json.dumps(comparison.to_dict(), indent=2) + "\n")
    print(comparison)
    print(f"\nThe runs are in {_shown(target)}/")


def reproduce(config: DictConfig) -> int:
    """Run a run's config again; say whether metrics and model are the same. Exit status 1 if they are not."""
    from recsys_dl.runs import load_run

    run = load_run(config.run)
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again"
        _train(OmegaConf.create(run.config), again, expected_hash=run.manifest["data"]["hash"])
        twin = load_run(again)
    part = run.config["evaluate"]["part"]
    differences = [] if run.metrics[part] == twin.metrics[part] else [f"the {part} metrics"]
    differences += [f"model.{name}" for name in run.model.fitted if not _same(run.model, twin.model, name)]
    if differences:
        then, now = run.manifest, twin.manifest
        changed = [
            f"{key}: {then[key]} -> {now[key]}" for key in ("versions", "threads", "commit") if then[key] != now[key]
        ]
        print(
            f"NOT reproduced: {', '.join(differences)} differ. {'; '.join(changed) or 'Versions and threads are the same.'}"
        )
        return 1
    print(f"reproduced: {_shown(run.folder)} gives the same {part} metrics and the same model, to the bit")
    return 0


def _train(config: DictConfig, target: Path, *, expected_hash: str | None = None) -> Any:
    """Leave a finished run in `target`, which appears whole or not at all; return its evaluation."""
    threads = limit_threads(config.threads)
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.evaluation import evaluate as evaluate_model
    from recsys_dl.folders import new_folder
    from recsys_dl.runs import Stages, logged_to, write_run

    stages = Stages()
    with new_folder(target) as aside, logged_to(aside / "run.log"):
        log.info("%s on %d threads, seed %s", _name(config), threads, config.seed)
        split = _read(config, stages, expected_hash=expected_hash)
        part, k = config.evaluate.part, list(config.evaluate.k)
        asked, exclude = _asked(split, part)  # wrong words are told before the training, not after
        if max(k) > split.data.num_items:
            raise ValueError(f"evaluate.k must be at most the {split.data.num_items} items there are, got {max(k)}")
        with stages.stage("fit"):
            model = instantiate(config.model).fit(split.train)
        with stages.stage("evaluate"):
            evaluation = evaluate_model(model, split.train, asked, k=k, exclude=exclude)
        write_run(
            aside,
            config=OmegaConf.to_container(config, resolve=True),  # type: ignore[arg-type]
            model=model,
            seen=Interactions.concat([split.train.interactions, split.validation.interactions]),
            data=split.data,
            evaluations={part: evaluation},
            stages=stages,
        )
    spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.seconds.items())
    print(f"{_name(config)}: {spent}", file=sys.stderr)
    return evaluation


@dataclasses.dataclass(frozen=True)
class _Parts:
    data: Any
    train: Any
    validation: Any
    test: Any


def _read(config: DictConfig, stages: Any, *, expected_hash: str | None) -> _Parts:
    from recsys_dl.data.checks import leakage

    with stages.stage("read"):
        data = instantiate(config.data)
        data = instantiate(config.weights)(data)
        if config.get("filter") is not None:
            data = instantiate(config.filter)(data)
        log.info("%r", data)
    if expected_hash is not None and data.content_hash != expected_hash:
        raise ValueError(
            f"the data has changed since the run: its hash is {data.content_hash[:12]}, the manifest says "
            f"{expected_hash[:12]}. Restore the file the run was trained on, or train again."
        )
    with stages.stage("split"):
        train, validation, test = instantiate(config.split)(data)
        log.info("train %d, validation %d, test %d interactions", len(train), len(validation), len(test))
        log.info("%s", leakage(train, test, validation=validation))
    return _Parts(data, train, validation, test)


def _asked(split: _Parts, part: str) -> tuple[Any, Any]:
    """Return the part to evaluate on, and what is left out of the lists: what is known by then."""
    from recsys_dl.data.interactions import Interactions

    if part == "validation":
        return split.validation, split.train
    if part == "test":
        return split.test, Interactions.concat([split.train.interactions, split.validation.interactions])
    raise ValueError(f"part must be validation or test, got {part!r}")


def _target(config: DictConfig, name: str) -> Path:
    from recsys_dl.folders import next_free

    return Path(config.run) if config.run is not None else next_free(Path("runs") / name)


def _name(config: DictConfig) -> str:
    return config.model._target_.split(".")[-2]


def _shown(path: Path) -> str:
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)


def _same(one: Any, two: Any, name: str) -> bool:
    first, second = getattr(one, name), getattr(two, name)
    if hasattr(first, "nnz"):
        return first.shape == second.shape and (first != second).nnz == 0
    return np.array_equal(first, second)


def _print_lists(users: list[Any], table: pl.DataFrame, history: pl.DataFrame | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for user in map(str, users):
        if history is not None:
            liked = history.filter(pl.col("user_id") == user)
            names = [title or item for title, item in zip(liked["title"], liked["item_id"], strict=True)]
            console.print(
                f"\n[bold]User {user}[/bold], who liked: {'; '.join(names) or 'nothing yet'}", highlight=False
            )
        shown = Table("rank", "item", "title", "score", title_justify="left")
        for row in table.filter(pl.col("user_id") == user).iter_rows(named=True):
            shown.add_row(str(row["rank"]), row["item_id"], row["title"] or "", f"{row['score']:.3f}")
        console.print(shown)


def _write_table(table: pl.DataFrame, file: Path) -> None:
    writers = {".csv": table.write_csv, ".parquet": table.write_parquet}
    if file.suffix not in writers:
        raise ValueError(f"output must end in .csv or .parquet, got {file}")
    aside = file.with_name(f".{file.name}.partial")
    writers[file.suffix](aside)  # type: ignore[operator]
    aside.replace(file)
