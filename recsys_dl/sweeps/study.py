"""A study: trials that several processes share, each claimed by one, resumed if its process was killed, and never run twice.

A study's folder:
study.json     what it is of: space, settings, data, code
study.db       Optuna's storage, unless another is given
trials/007/    of one trial: run/, and checkpoint/ while it is trained

Who claims a trial holds the lock of its folder until the trial is finished; the operating system releases it when the process ends in
any way. A trial that is running but not locked was killed: the next worker continues it, with its number, settings and checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from recsys_dl.folders import ensure_folder, new_file
from recsys_dl.leftovers import lock

from .records import Record, higher_is_better, winners
from .samplers import pruner_for, sampler_for
from .space import Choices, Interval, Space, grid
from .storage import clear_errors, open_storage

log = logging.getLogger(__name__)

STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}
ATTEMPTS = 3  # of a trial whose process dies
FIRST = 3  # trials that may fail before any succeeds


@dataclass(frozen=True)
class Plan:
    """How a study is searched.

    Attributes:
        space: ranges by setting.
        metrics: objectives, of the validation part.
        sampler: of `samplers.SAMPLERS`.
        pruner: of `samplers.PRUNERS`, or None.
        seed: of the sampler.
        trials: how many, counting those that fail or are pruned; a grid has at most its size.
        num_epochs: largest number of epochs of a trial.
    """

    space: Space
    metrics: Sequence[str]
    sampler: str
    pruner: str | None
    seed: int
    trials: int
    num_epochs: int


@dataclass(frozen=True)
class Claim:
    """A trial that this process is to run.

    Attributes:
        trial: of Optuna.
        settings: its values by key.
        folder: its own; what a killed attempt left is still there.
    """

    trial: optuna.Trial
    settings: dict[str, Any]
    folder: Path


class Study:
    """A study in a folder, new or resumed.

    Args:
        folder: of the study, on a file system that all workers see.
        plan: how it is searched.
        identity: what must be the same whenever it is resumed, in JSON-compatible form.
        storage: an Optuna URL; None for a SQLite file in the folder.

    Raises:
        ValueError: the folder or the storage holds a study of something else, which is named.
    """

    def __init__(self, folder: Path, plan: Plan, identity: Mapping[str, Any], storage: str | None = None) -> None:
        self.folder, self.plan = folder.absolute(), plan
        self.points = grid(plan.space) if plan.sampler == "grid" else []
        self.trials = min(plan.trials, len(self.points) or plan.trials)
        self._check_folder(identity)
        ensure_folder(self.folder)
        ensure_folder(self.folder / "trials")
        with self._exclusive():
            self._check_folder(identity)
            with open_storage(storage or f"sqlite:///{self.folder / 'study.db'}", self.folder) as opened:
                self.optuna = optuna.create_study(
                    study_name=self.folder.name,
                    storage=opened,
                    directions=["maximize" if higher_is_better(name) else "minimize" for name in plan.metrics],
                    pruner=pruner_for(plan.pruner, plan.num_epochs),
                    load_if_exists=True,
                )
            self._check_storage(identity)
            if not (self.folder / "study.json").exists():
                with new_file(self.folder / "study.json") as aside:
                    aside.write_text(json.dumps(identity, indent=2) + "\n")

    def work(self, run: Callable[[Claim], Mapping[str, float]], *, until: float = float("inf")) -> None:
        """Run trials until there are as many as planned, and none is running elsewhere.

        Args:
            run: returns the metrics of a trial; may raise `optuna.TrialPruned`, and ValueError, MemoryError and the like for a trial
                that fails. OSError, ImportError and KeyboardInterrupt end the work, and leave the trial to be continued.
            until: no trial begins after this `time.monotonic()`.

        Raises:
            ValueError: the first trials all failed, or report none of the metrics.
        """
        while time.monotonic() < until:
            with clear_errors(self.folder), ExitStack() as held:
                with self._exclusive():
                    claim = self._claim(held)
                if claim is not None:
                    self._carry_out(claim, run)
                elif any(one.state == TrialState.RUNNING for one in self._all()):
                    time.sleep(0.5)  # until it ends, or its process dies
                else:
                    return

    def report_done(self) -> None:
        """Log how many trials are done, if the study is resumed."""
        if done := sum(one.state.is_finished() for one in self._all()):
            line = "%s is continued: %d of its %d trials are done"
            log.info(line, self.folder.name, done, self.trials, extra={"always": True})

    def records(self, command: Callable[[Mapping[str, Any]], str]) -> list[Record]:
        """Return all trials; `command` gives the command of some settings."""
        found = []
        for one in self._all():
            settings = self._settings(one.params)
            run = self._folder(one.number) / "run"
            values = dict(one.user_attrs.get("values", {}))
            if one.state == TrialState.PRUNED and one.intermediate_values:
                values = {self.plan.metrics[0]: one.intermediate_values[max(one.intermediate_values)]}
            found.append(
                Record(
                    one.number,
                    settings,
                    STATES[one.state],
                    values,
                    one.user_attrs.get("seconds"),
                    one.user_attrs.get("reason", ""),
                    command(settings),
                    str(run) if run.is_dir() else "",
                )
            )
        return found

    def importance(self) -> dict[str, float]:
        """Return how much of the first metric's variance each setting explains (fANOVA), most first; empty for too few trials."""
        done = [one for one in self._all() if one.state == TrialState.COMPLETE]
        if len(done) < 4 or len({one.values[0] for one in done}) == 1:
            return {}
        found = optuna.importance.get_param_importances(
            self.optuna,
            evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
            target=lambda one: one.values[0],
        )
        return {key: float(share) for key, share in found.items()}

    def keep_best(self) -> None:
        """Remove the fitted models of finished trials that are not the best; their figures stay."""
        with self._exclusive():
            records = self.records(lambda settings: "")
            best = {one.number for one in winners(records, self.plan.metrics)}
            for one in records:
                if one.state == "finished" and one.number not in best:
                    shutil.rmtree(self._folder(one.number) / "run" / "model", ignore_errors=True)

    def tested(self) -> dict[str, Any] | None:
        """Return what the test part was read for: `{"trial": 7}`; None if it was not."""
        return self.optuna.user_attrs.get("tested")

    def set_tested(self, number: int) -> None:
        """Record the trial that the test part was read for."""
        self.optuna.set_user_attr("tested", {"trial": number})

    def _all(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    def _folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:03d}"

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {key: one.value(params[key]) for key, one in self.plan.space.items() if key in params}

    def _claim(self, held: ExitStack) -> Claim | None:
        """Return a killed trial, else a new one, None if there are enough; its lock is held."""
        trials = self._all()
        for one in trials:
            if one.state == TrialState.RUNNING:
                folder = self._folder(one.number)
                folder.mkdir(exist_ok=True)
                if held.enter_context(lock(folder)):
                    if self._all()[one.number].state != TrialState.RUNNING:
                        continue  # it was finished, and its lock released, since it was looked up
                    self._reseed(one.number)
                    claim = self._claimed(optuna.Trial(self.optuna, one._trial_id))
                    if claim is not None:
                        log.info("trial %d was interrupted; it is continued", one.number, extra={"always": True})
                        return claim
        if len(self._all()) >= self.trials:
            return None
        self._reseed(len(trials))
        trial = self.optuna.ask()
        folder = self._folder(trial.number)
        folder.mkdir(exist_ok=True)
        if not held.enter_context(lock(folder)):
            raise OSError(f"{folder} cannot be locked; a study's folder must be on a file system with locks (flock)")
        return self._claimed(trial)

    def _reseed(self, number: int) -> None:
        plan = self.plan
        self.optuna.sampler = sampler_for(plan.sampler, plan.space, self.points, seed=plan.seed, number=number)

    def _claimed(self, trial: optuna.Trial) -> Claim | None:
        """Return a trial with its settings; None if its process died too often."""
        attempts = int(trial.user_attrs.get("attempts", 0)) + 1
        if attempts > ATTEMPTS:
            self._fail(trial, f"its process was killed {ATTEMPTS} times, perhaps for lack of memory")
            return None
        trial.set_user_attr("attempts", attempts)
        names = {key: _suggested(trial, key, one) for key, one in self.plan.space.items()}
        return Claim(trial, self._settings(names), self._folder(trial.number))

    def _carry_out(self, claim: Claim, run: Callable[[Claim], Mapping[str, float]]) -> None:
        """Run a trial and record how it ended."""
        trial, started = claim.trial, time.monotonic()
        try:
            values = run(claim)
        except optuna.TrialPruned as error:
            self._record(trial, started, reason=str(error))
            self.optuna.tell(trial, state=TrialState.PRUNED)
            self._clean(claim)
        except (OSError, ImportError, optuna.exceptions.StorageInternalError):
            raise
        except Exception as error:
            told = isinstance(error, ValueError | MemoryError | RuntimeError)
            self._fail(trial, str(error) if told and str(error) else f"{type(error).__name__}: {error}", started)
        else:
            if missing := [name for name in self.plan.metrics if name not in values]:
                self._fail(trial, f"it reports no {missing[0]}", started)
                raise ValueError(
                    f"no trial reports metric={missing[0]}; this model on this data reports {', '.join(sorted(values))}"
                )
            finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
            if odd := [f"{name} is {values[name]}" for name in self.plan.metrics if name not in finite]:
                self._fail(trial, f"{', '.join(odd)}, not a number", started)
            else:
                self._record(trial, started, values=finite)
                self.optuna.tell(trial, [finite[name] for name in self.plan.metrics])
            self._clean(claim)
        self._report(trial.number)

    def _record(self, trial: optuna.Trial, started: float, **more: Any) -> None:
        for name, value in {"seconds": time.monotonic() - started, **more}.items():
            trial.set_user_attr(name, value)

    def _fail(self, trial: optuna.Trial, reason: str, started: float | None = None) -> None:
        reason = " ".join(reason.split())
        trial.set_user_attr("reason", reason if len(reason) <= 500 else f"{reason[:499]}…")
        if started is not None:
            self._record(trial, started)
        self.optuna.tell(trial, state=TrialState.FAIL)

    def _clean(self, claim: Claim) -> None:
        shutil.rmtree(claim.folder / "checkpoint", ignore_errors=True)

    def _report(self, number: int) -> None:
        """Log how a trial ended.

        Raises:
            ValueError: none succeeded yet, and too many failed.
        """
        records = self.records(lambda settings: "")
        one = records[number]
        values = ", ".join(f"{name} {one.values[name]:.4f}" for name in self.plan.metrics if name in one.values)
        best = winners(records, self.plan.metrics)
        so_far = f"; best: trial {best[0].number}, {best[0].values[self.plan.metrics[0]]:.4f}" if best else ""
        how = f"failed: {one.reason[:200]}" if one.state == "failed" else f"{one.state}, {values}"
        seconds = f", {one.seconds:.1f} s" if one.seconds is not None else ""
        log.info("trial %d of %d %s%s%s", number, self.trials, how, seconds, so_far, extra={"always": True})
        failed = [one for one in records if one.state == "failed"]
        if len(failed) >= FIRST and not any(one.state in ("finished", "pruned") for one in records):
            raise ValueError(f"the first {len(failed)} trials all failed, so the study stops. The last: {one.reason}")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Wait for, and hold, the lock under which trials are claimed."""
        handle = os.open(self.folder / "trials", os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _check_folder(self, identity: Mapping[str, Any]) -> None:
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file; name another folder for the study: run=…")
        file = self.folder / "study.json"
        if file.is_file():
            try:
                _check_same(json.loads(file.read_text()), identity, str(self.folder))
            except json.JSONDecodeError as error:
                raise ValueError(f"{file} is damaged ({error}); restore it, or name another folder: run=…") from error
        elif {one.name for one in self.folder.iterdir()} - {"trials", "study.db", "study.db-journal"}:
            raise ValueError(f"{self.folder} holds something else than a study; name another folder for it: run=…")

    def _check_storage(self, identity: Mapping[str, Any]) -> None:
        known = self.optuna.user_attrs.get("identity")
        if known is None and self._all():
            raise ValueError(
                f"the storage holds a study {self.folder.name} that recsys-dl tune did not begin; name another folder: run=…"
            )
        if known is None:
            self.optuna.set_user_attr("identity", dict(identity))
        else:
            _check_same(known, identity, f"study {self.folder.name} of this storage")


def _suggested(trial: optuna.Trial, key: str, one: Choices | Interval) -> Any:
    """Return a trial's value of a setting, by its name in the study: what was suggested before, else a new one."""
    if isinstance(one, Choices):
        return trial.suggest_categorical(key, one.names)
    if one.whole:
        return trial.suggest_int(key, int(one.low), int(one.high), step=int(one.step or 1), log=one.log)
    return trial.suggest_float(key, one.low, one.high, step=one.step, log=one.log)


def _check_same(known: Any, mine: Mapping[str, Any], where: str) -> None:
    """Check that a study is of what it is resumed with.

    Raises:
        ValueError: it is not; says what differs.
    """
    known = known if isinstance(known, dict) else {}
    plain = json.loads(json.dumps(mine))
    apart = []
    for name in {**known, **plain}:
        one, other = known.get(name), plain.get(name)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            inner = [key for key in {**one, **other} if one.get(key) != other.get(key)]
            apart += [f"{name} of {key} was {_shown(one.get(key))}, is {_shown(other.get(key))}" for key in inner]
        else:
            apart.append(f"{name} was {_shown(one)}, is {_shown(other)}")
    if apart:
        more = f"; and {len(apart) - 4} more" if len(apart) > 4 else ""
        raise ValueError(
            f"{where} is a study of something else: {'; '.join(apart[:4])}{more}. Its trials are not mixed with others: resume it with what "
            "it was begun with, or begin another in a new folder: run=…"
        )


def _shown(value: Any) -> str:
    text = "not there" if value is None else json.dumps(value).replace('"', "")
    return text if len(text) <= 120 else f"{text[:119]}…"
