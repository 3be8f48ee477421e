"""What the words of a study mean: its space, the config of each trial, and what must not differ when it is resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from recsys_dl.threads import usable_processors
from recsys_dl.version import __version__

from .beforehand import check_beforehand, holds_out, settle_split
from .running import SplitData, fit_and_leave, name_of, trainer_of

if TYPE_CHECKING:
    from recsys_dl.sweeps.study import Claim

PATIENCE = 5
NOT_OF_IDENTITY = ("threads", "device")


class Search:
    """What the words of a study mean: its space, the config of a trial and the command that repeats it.

    Raises:
        ValueError: a range of a setting that does not exist or may not take a value of it, metrics that cannot be reported, a pruner or
            sampler that would have no effect; says what to do.
    """

    def __init__(self, config: DictConfig) -> None:
        from recsys_dl.compose import compose_command
        from recsys_dl.compose.options import at
        from recsys_dl.compose.types import located, takes_trainer
        from recsys_dl.sweeps.space import probes, read_space

        self.config = config
        if config.evaluate.part != "validation":
            raise ValueError(
                "recsys-dl tune compares trials on validation, always; test=true evaluates the best one on the test part, once"
            )
        self.words = list(config.words)
        self.base = compose_command("train", self.words)
        settle_split(self.base)
        alone = self.base.get("pipeline") is None and "parts" not in self.base.model
        self.neural = alone and takes_trainer(located(self.base.model._target_, "model"))
        if not holds_out(self.base, "validation"):
            raise ValueError("recsys-dl tune compares trials on validation, but this split holds none out")
        self.metrics = list(config.metric)
        self._check_metrics()
        if self.neural:
            if trainer_of(self.base).world_size > 1:
                raise ValueError(
                    "a trial trains in one process; leave trainer.processes and trainer.num_nodes at 1, and set workers"
                )
            self._validate_epochs()
        plain: Any = OmegaConf.to_container(self.base, resolve=True)
        given: dict[str, Any] = OmegaConf.to_container(config.space)  # type: ignore[assignment]
        if not given:
            raise ValueError(
                f"a search space is missing: space={name_of(self.base).split('-')[0]}, or ranges of your own, such as "
                "model.embedding_size=32,64 or 'model.regularization=tag(log,interval(0.001,0.1))'"
            )
        self.space = read_space(given, {key: at(plain, key) for key in given})
        self.num_epochs = int(at(plain, "model.epochs", 1) or 1)
        for settings in probes(self.space):
            try:
                trial = self.composed(settings)
            except ValueError as error:
                raise ValueError(f"in the search space, {error}") from error
            self.num_epochs = max(self.num_epochs, int(OmegaConf.select(trial, "model.epochs", default=1)))
            check_beforehand(trial, trainer_of(trial))
        self._check_search()
        self.folder = self._folder()

    def composed(self, settings: Mapping[str, Any]) -> DictConfig:
        """Return the config of a trial."""
        from recsys_dl.compose import compose_command

        config = compose_command("train", [*self.words, *self.words_of(settings)])
        settle_split(config)
        return config

    def words_of(self, settings: Mapping[str, Any]) -> list[str]:
        """Return settings as words of the command."""
        return [f"{key}={_typed(value)}" for key, value in settings.items()]

    def command(self, settings: Mapping[str, Any]) -> str:
        """Return the command that repeats a trial alone."""
        threads = self._threads()
        extra = [] if threads == self.base.threads else [f"threads={threads}"]
        return shlex.join(["recsys-dl", "train", *self.words, *extra, *self.words_of(settings)])

    def run(self, claim: Claim, split: SplitData) -> dict[str, float]:
        """Run a trial, or continue it; return its metrics on validation."""
        from recsys_dl.runs import load_evaluation

        target = claim.folder / "run"
        if target.exists():  # it was finished, but killed before that was recorded
            return dict(load_evaluation(target, "validation")[0].values)
        config = self.composed(claim.settings)
        config.threads = self._threads()
        trainer = trainer_of(config)
        if self.neural:
            loggers: tuple[Any, ...] = ()
            if len(self.metrics) == 1 and self.metrics[0] == trainer.metric and trainer.patience is not None:
                from recsys_dl.sweeps.reporter import EpochReporter

                loggers = (EpochReporter(claim.trial, trainer.metric),)
            checkpoint = claim.folder / "checkpoint" if trainer.checkpoint is None else trainer.checkpoint
            trainer = dataclasses.replace(trainer, checkpoint=checkpoint, loggers=loggers)
        return dict(fit_and_leave(config, target, trainer=trainer, split=split, quiet=True).values)

    def plan(self) -> Any:
        """Return how the study is searched."""
        from recsys_dl.sweeps.study import Plan

        one = self.config
        return Plan(self.space, self.metrics, one.sampler, one.pruner, one.seed, one.trials, self.num_epochs)

    def identity(self, split: SplitData) -> dict[str, Any]:
        """Return what a study is of: nothing of it may differ when it is resumed."""
        from recsys_dl.provenance import commit

        words = [word for word in self.words if word.partition("=")[0] not in NOT_OF_IDENTITY]
        return {
            "words": sorted(words),
            "space": {key: one.plain() for key, one in self.space.items()},
            "search": {name: self.config[name] for name in ("sampler", "pruner", "seed")} | {"metric": self.metrics},
            "data": {"name": split.data.name, "hash": split.data.content_hash},
            "code": {"version": __version__, "commit": commit()},
        }

    def _folder(self) -> Path:
        if self.config.run is not None:
            return Path(self.config.run)
        free = {"trials", "workers", "timeout", "test", "keep", "run", "storage", *NOT_OF_IDENTITY}
        words = sorted(word for word in self.config.typed if word.lstrip("+~").partition("=")[0] not in free)
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:8]
        return Path("tune") / f"{name_of(self.base)}-{digest}"

    def _threads(self) -> int | None:
        if self.config.threads is not None or self.config.workers == 1:
            return self.config.threads
        return max(1, len(usable_processors()) // self.config.workers)

    def _check_metrics(self) -> None:
        from recsys_dl.evaluation.evaluate import METRICS, RATING_METRICS
        from recsys_dl.names import near

        ks = list(self.base.evaluate.k)
        known = [name if name in RATING_METRICS else f"{name}@{k}" for name in METRICS for k in ks]
        known = [name for name in dict.fromkeys(known) if not name.startswith("diversity@")]
        for name in self.metrics:
            if name not in known:
                k = name.partition("@")[2]
                more = f"; for lists of {k} set evaluate.k=[{k}]" if k.isdigit() and int(k) not in ks else ""
                raise ValueError(
                    f"no trial reports metric={name}{near(name, known)}. There are: {', '.join(known)}{more}"
                )
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metric must name each metric once, got {', '.join(self.metrics)}")

    def _validate_epochs(self) -> None:
        """Let neural models be validated each epoch, by the first metric if it is one of lists."""
        from recsys_dl.metrics.ranking import METRICS

        typed = {word.lstrip("+").partition("=")[0] for word in self.words}
        if "trainer.patience" not in typed:
            self.words.append(f"trainer.patience={PATIENCE}")
        if "trainer.metric" not in typed and self.metrics[0].partition("@")[0] in METRICS:
            self.words.append(f"trainer.metric={self.metrics[0]}")

    def _check_search(self) -> None:
        from recsys_dl.sweeps.space import Interval, grid

        sampler, pruner = self.config.sampler, self.config.pruner
        if sampler == "grid":
            grid(self.space)
        if sampler == "cmaes":
            if not any(isinstance(one, Interval) for one in self.space.values()):
                raise ValueError(
                    "sampler=cmaes searches intervals of numbers, and this space has choices alone; take sampler=tpe"
                )
            if len(self.metrics) > 1:
                raise ValueError("sampler=cmaes takes one metric; for several take sampler=tpe")
            try:
                import cmaes  # noqa: F401
            except ModuleNotFoundError as error:
                raise ImportError("sampler=cmaes needs a package that is not installed: pip install cmaes") from error
        if pruner is None:
            return
        if len(self.metrics) > 1:
            raise ValueError(f"pruner={pruner} takes one metric, got {', '.join(self.metrics)}; leave pruner out")
        if not self.neural:
            what = name_of(self.base)
            raise ValueError(
                f"pruner={pruner} would have no effect: {what} is not validated after each epoch; neural models such as model=neumf are"
            )
        trial = self.composed({})
        if self.metrics[0] != trial.trainer.metric:
            raise ValueError(
                f"pruner={pruner} needs a metric that is validated after each epoch: trainer.metric={trial.trainer.metric} is, "
                f"metric={self.metrics[0]} is not; make them the same"
            )


def _typed(value: Any) -> str:
    """Return a value in the command's syntax, with all digits."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}: {_typed(one)}' for key, one in value.items())}}}"
    return repr(value) if isinstance(value, float) else str(value)
