"""Shared by the verbs that train: reading, splitting, fitting, evaluating, and writing the run folder."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.learning import fit_takes
from recsys_dl.processes import current, together
from recsys_dl.threads import keep_freed_memory, limit_threads

from .beforehand import check_beforehand, check_parts, chosen, holds_out_nothing, settle_split
from .paths import absolute_paths

log = logging.getLogger(__name__)


def report_held_out(run: Any) -> None:
    """Report, on the terminal, that a run's model did not learn from all of the log."""
    if run.holds_out:
        line = "%s learned from the training part of its split only, and may recommend held-out items; to fit on all of the log: recsys-dl refit run=%s"
        log.info(line, shown(run.folder), shown(run.folder), extra={"always": True})


def json_file(output: Any) -> Path | None:
    """Return where a verb writes its figures, checked before anything is computed; None: nowhere.

    Raises:
        ValueError: no .json file.
        FileNotFoundError: its folder does not exist.
    """
    if output is None:
        return None
    file = Path(str(output)).expanduser()
    if file.suffix != ".json":
        raise ValueError(f"output must be a .json file, got {file}")
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"output must be in an existing folder, but {file.parent} {'is a file' if file.parent.exists() else 'does not exist'}"
        )
    return file


@contextmanager
def in_processes(processes: int | None, num_nodes: int = 1) -> Iterator[bool]:
    """Run the block in several processes; yield whether this is the first, which alone writes and prints.

    Raises:
        EndedError: this process has started the others, which have finished.
        ValueError: a launcher started another number.
    """
    if processes is not None and (isinstance(processes, bool) or not isinstance(processes, int) or processes < 1):
        raise ValueError(f"processes must be a whole number of at least 1, or null, got {processes!r}")
    with together(processes, num_nodes) as group:
        if group.rank:
            logging.getLogger("recsys_dl").setLevel(logging.ERROR)
        yield not group.rank


def own_threads(threads: int | None) -> int:
    """Limit the threads of this process to its share of the requested ones; return the number."""
    most, group = limit_threads(threads), current()
    if group.size > 1:
        group.threads = most
    return limit_threads(max(1, most // group.sharing))


def fit_and_leave(
    config: DictConfig,
    target: Path,
    *,
    overwrite: bool = False,
    expected_hash: str | None = None,
    parent: dict[str, Any] | None = None,
    trainer: Any = None,
    split: SplitData | None = None,
    quiet: bool = False,
) -> Any:
    """Write a finished run to `target`, atomically; return its evaluation, None if nothing is held out.

    `trainer`: in place of the config's, with loggers of its own; `split`: what `read_parts` returned for the same data and split; `quiet`: prints
    nothing of its stages.
    """
    threads = own_threads(config.threads)
    from recsys_dl.data.split import seen_besides_test
    from recsys_dl.folders import new_folder
    from recsys_dl.runs import StageTimer, logged_to, write_run

    stages = StageTimer(shown=not quiet)
    settle_split(config)
    trainer = trainer_of(config) if trainer is None else trainer
    check_beforehand(config, trainer)
    with new_folder(target, overwrite=overwrite) as aside, logged_to(aside / "run.log"):
        log.info("%s on %d threads, seed %s", name_of(config), threads, config.seed)
        split = read_parts(config, stages, expected_hash=expected_hash) if split is None else split
        model, evaluation, attribution = fitted(config, split, trainer, stages, aside)
        part = config.evaluate.part
        if attribution is not None:
            leave_attribution(aside, part, attribution)
        write_run(
            aside,
            config=OmegaConf.to_container(config, resolve=True),  # type: ignore[arg-type]
            model=model,
            seen=seen_besides_test((split.train, split.validation, split.test)),
            data=split.data,
            evaluations={} if evaluation is None else {part: evaluation},
            stages=stages,
            paths=absolute_paths(config),
            parent=parent,
        )
    if not quiet:
        spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.seconds.items())
        print(f"{name_of(config)}: {spent}", file=sys.stderr)
    return evaluation


def fitted(config: DictConfig, split: SplitData, trainer: Any, stages: Any, folder: Path | None) -> tuple[Any, ...]:
    """Return the fitted model, its evaluation, and a pipeline's attribution; all processes take part.

    `folder`: of the run, where loggers write; None in a process that does not write.
    """
    from recsys_dl.evaluation import attribute
    from recsys_dl.evaluation import evaluate as evaluate_model

    evaluation = attribution = None
    if evaluated := not holds_out_nothing(config):
        asked, exclude = asked_of(split, config.evaluate.part)
        check_parts(config, asked, split.train)
    with stages.stage("fit"):
        model = fit(config, split, trainer, folder)
    if evaluated:
        how = {"k": list(config.evaluate.k), "exclude": exclude}
        how["relevant_from"] = config.evaluate.get("relevant_from")
        with stages.stage("evaluate"):
            evaluation = evaluate_model(model, split.train, asked, **how)
        if config.get("pipeline") is not None:
            with stages.stage("attribute"):
                attribution = attribute(model, split.train, asked, **how)
    return model, evaluation, attribution


def leave_attribution(folder: Path, part: str, attribution: Any) -> None:
    """Write a pipeline's attribution to a run folder, as text and JSON."""
    from recsys_dl.folders import new_file

    home = folder / "attribution"
    home.mkdir(exist_ok=True)
    for suffix, text in ((".txt", attribution.text()), (".json", json.dumps(attribution.to_dict(), indent=2))):
        with new_file(home / f"{part}{suffix}") as aside:
            aside.write_text(text + "\n")


def print_attribution(folder: Path, part: str, of: str | None = None) -> None:
    """Print the attribution of a run's pipeline, if it is one, fitted to the page width."""
    file = folder / "attribution" / f"{part}.json"
    if not file.is_file():
        return
    from recsys_dl.evaluation.attribution import Attribution
    from recsys_dl.evaluation.rendering import page_width

    text = Attribution.from_dict(json.loads(file.read_text())).text(page_width())
    print(f"\nWhat each stage{'' if of is None else f' of {of}'} adds:\n\n{text}")


def trainer_of(config: DictConfig) -> Any:
    """Return the `TrainerOptions` of a config; the defaults for an older run without them."""
    from recsys_dl.training import TrainerOptions

    return TrainerOptions() if config.get("trainer") is None else instantiate(config.trainer)


def fit(config: DictConfig, split: SplitData, trainer: Any, folder: Path | None) -> Any:
    """Return the config's model, fitted: with the trainer if it takes one."""
    from recsys_dl.training import TrainerOptions

    model = instantiate(chosen(config))
    if not fit_takes(model, "trainer"):
        shares = getattr(getattr(model, "model", model), "shares_fit", False)
        rest = dataclasses.replace(trainer, processes=1, num_nodes=1) if shares else trainer
        more = {}
        if trainer.checkpoint is not None and fit_takes(model, "checkpoint"):
            more, rest = {"checkpoint": trainer.checkpoint}, dataclasses.replace(rest, checkpoint=None)
        if rest != TrainerOptions() or config.get("logger") is not None:
            log.warning("%s needs no trainer: the settings trainer and logger do not apply", name_of(config))
        return model.fit(split.train, **more)
    trainer = dataclasses.replace(
        trainer, loggers=() if folder is None else (*trainer.loggers, *_loggers(config, folder))
    )
    keep_freed_memory()
    takes = fit_takes(model, "validation") and len(split.validation)
    more = {"validation": split.validation} if takes else {}
    return model.fit(split.train, trainer=trainer, **more)


def help_to_fit(config: DictConfig) -> None:
    """Take part in fitting and evaluating a config, which the first process writes and prints."""
    from recsys_dl.runs import StageTimer

    own_threads(config.threads)
    stages = StageTimer()
    settle_split(config)
    fitted(config, read_parts(config, stages, expected_hash=None), trainer_of(config), stages, None)


def _loggers(config: DictConfig, folder: Path) -> tuple[Any, ...]:
    """Return the loggers, which write into the run's folder; an absolute `save_dir` is unchanged."""
    if config.get("logger") is None:
        return ()
    from hydra.errors import InstantiationException

    try:
        return (instantiate(config.logger, save_dir=str(folder / config.logger.save_dir)),)
    except InstantiationException as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            name = config.logger._target_.rpartition(".")[2].removesuffix("Logger").lower()
            package = {"mlflow": "mlflow-skinny"}.get(name, name)  # mlflow itself requires an older pyarrow
            raise ImportError(
                f"logger={name} needs a package that is not installed: pip install {package}, or take logger=csv "
                f"({error.__cause__})"
            ) from error
        raise


@dataclasses.dataclass(frozen=True)
class SplitData:
    """The data of a run and its split."""

    data: Any
    train: Any
    validation: Any
    test: Any


def read_parts(config: DictConfig, stages: Any, *, expected_hash: str | None) -> SplitData:
    """Read the data as configured, split it, and log leakage findings."""
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
            if finding.kind in ("before own past", "duplicates"):
                log.warning("%s", finding)
    return SplitData(data, train, validation, test)


def asked_of(split: SplitData, part: str) -> tuple[Any, Any]:
    """Return the part to evaluate on, and the known interactions to exclude from lists."""
    from recsys_dl.data.interactions import Interactions

    if part == "validation":
        return split.validation, split.train
    if part == "test":
        return split.test, Interactions.concat([split.train.seen, split.validation.seen])
    raise ValueError(f"part must be validation or test, got {part!r}")


@contextmanager
def run_folder(config: DictConfig, name: str) -> Iterator[Path]:
    """Yield the requested folder, or the next free one under runs/, reserved by an empty folder of that name."""
    if config.run is not None:
        yield Path(config.run)
        return
    from recsys_dl.folders import reserved

    with reserved(Path("runs") / name) as target:
        yield target


def print_figures(name: str, config: DictConfig, evaluation: Any) -> None:
    """Print an evaluation under a title line."""
    source = config.data.get("path") or config.data._target_.split(".")[-1]
    if evaluation is None:
        print(f"{name} on {source}: fitted on everything; nothing was held out, so there are no figures")
        return
    print(f"{name} on {source}, {config.evaluate.part}\n\n{evaluation}")


def name_of(config: DictConfig) -> str:
    """Return the name of the model's file, with that of the index that serves it ("als-hnsw"); or "pipeline"."""
    if config.get("pipeline") is not None:
        return "pipeline"
    parts = [config.model, *([] if config.get("index") is None else [config.index])]
    return "-".join(part._target_.split(".")[-2] for part in parts)


def shown(path: Path) -> str:
    """Return the shortest form of a path, relative if possible."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
