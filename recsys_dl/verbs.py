"""What each verb of the command does with its composed config."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.threads import limit_threads

log = logging.getLogger(__name__)

ACCURACY = ("precision", "recall", "hit_rate", "map", "mrr", "ndcg")


def train(config: DictConfig) -> None:
    """Fit one model, evaluate it, leave a run folder."""
    with _target(config, _name(config)) as target:
        evaluation = _train(config, target, overwrite=config.run is None)
    _print_figures(_name(config), config, evaluation)
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
    trained.evaluate.part = config.part
    _print_figures(_name(trained), trained, evaluation)


def recommend(config: DictConfig) -> None:
    """Print, or write, lists by title for users by id."""
    from recsys_dl.runs import load_run

    run = load_run(config.run)
    users = list(dict.fromkeys(map(str, config.users if OmegaConf.is_list(config.users) else [config.users])))
    if not users:
        raise ValueError("users must name at least one user id, got none: users=[196,22]")
    table = run.recommend(users, k=config.k)
    if config.output is None:
        history = run.history(users, k=config.history) if config.history else None
        _print_lists(users, table, history)
    else:
        _write_table(table, Path(config.output))
        print(f"{len(table)} rows are in {config.output}")


def compare(config: DictConfig) -> None:
    """Fit several models on one split; print and leave their table with intervals and paired tests."""
    from recsys_dl.compose import compose, near
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
    singles = {name: compose("train", [f"model={name}"]) for name in config.models}
    with _target(config, "compare") as target, new_folder(target, overwrite=config.run is None) as aside:
        for name, one in singles.items():
            OmegaConf.set_struct(one, False)
            one.merge_with(shared)
            evaluations[name] = _train(one, aside / name)
        comparison = compare_evaluations(evaluations, metric=config.metric)
        (aside / "comparison.json").write_text(json.dumps(comparison.to_dict(), indent=2) + "\n")
    print(f"{len(evaluations)} models, {config.evaluate.part}\n\n{comparison}")
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
    then, now = run.metrics[part]["values"], twin.metrics[part]["values"]
    differences = [] if then | now == then else [f"the {part} metrics"]
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


def _train(config: DictConfig, target: Path, *, overwrite: bool = False, expected_hash: str | None = None) -> Any:
    """Leave a finished run in `target`, which appears whole or not at all; return its evaluation."""
    threads = limit_threads(config.threads)
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.evaluation import evaluate as evaluate_model
    from recsys_dl.folders import new_folder
    from recsys_dl.runs import Stages, logged_to, write_run

    stages = Stages()
    if config.data.get("path") is not None:
        config.data.path = str(Path(config.data.path).absolute())  # a run is read back from anywhere
    with new_folder(target, overwrite=overwrite) as aside, logged_to(aside / "run.log"):
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
            seen=Interactions.concat(
                [split.train.interactions, split.validation.interactions]
                + [part.histories for part in (split.validation, split.test) if part.histories is not None]
            ),
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
        found = leakage(train, test, validation=validation)
        log.info("%s", found)
        for finding in found.findings:
            if finding.kind in ("seen", "before own past", "duplicates"):
                log.warning("%s", finding)
    return _Parts(data, train, validation, test)


def _asked(split: _Parts, part: str) -> tuple[Any, Any]:
    """Return the part to evaluate on, and what is left out of the lists: what is known by then."""
    from recsys_dl.data.interactions import Interactions

    if part == "validation":
        return split.validation, split.train
    if part == "test":
        return split.test, Interactions.concat([split.train.interactions, split.validation.interactions])
    raise ValueError(f"part must be validation or test, got {part!r}")


@contextmanager
def _target(config: DictConfig, name: str) -> Iterator[Path]:
    """Yield the folder asked for, or the next free one under runs/, kept from others by an empty folder of its name."""
    if config.run is not None:
        yield Path(config.run)
        return
    from recsys_dl.folders import next_free

    target = next_free(Path("runs") / name)
    while True:
        try:
            target.mkdir(parents=True)
            break
        except FileExistsError:
            target = next_free(target)
    try:
        yield target
    except BaseException:
        target.rmdir()
        raise


def _print_figures(name: str, config: DictConfig, evaluation: Any) -> None:
    source = config.data.get("path") or config.data._target_.split(".")[-1]
    print(f"{name} on {source}, {config.evaluate.part}\n\n{evaluation}")


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
    for user in users:
        if history is not None:
            liked = history.filter(pl.col("user_id") == user)
            names = [title or item for title, item in zip(liked["title"], liked["item_id"], strict=True)]
            console.print(
                f"\n[bold]User {user}[/bold], who liked: {'; '.join(names) or 'nothing yet'}", highlight=False
            )
        titled = table["title"].null_count() < len(table)
        shown = Table("rank", "item", *(["title"] if titled else []), "score")
        for row in table.filter(pl.col("user_id") == user).iter_rows(named=True):
            title = [row["title"] or ""] if titled else []
            shown.add_row(str(row["rank"]), row["item_id"], *title, f"{row['score']:.3f}")
        console.print(shown)


def _write_table(table: pl.DataFrame, file: Path) -> None:
    writers = {".csv": table.write_csv, ".parquet": table.write_parquet}
    if file.suffix not in writers:
        raise ValueError(f"output must end in .csv or .parquet, got {file}")
    aside = file.with_name(f".{file.name}.partial")
    writers[file.suffix](aside)  # type: ignore[operator]
    aside.replace(file)
