"""The ledger of a sweep: what its folder says about each trial, so that the same command continues where it was killed.

sweeps/als-bpr-3f2a91/
  sweep.json          command, launcher, version and commit, and the words of each trial
  trials/000/
    attempts.jsonl    when and where each attempt started: host, process, job
    job.json          the job a cluster's queue holds for it, if any
    trial.log         output
    checkpoint/       the latest state of a neural model's training; removed at the end
    run/              its run folder; exists if the trial is finished
    failed.json       its exit status and reason; exists if it failed
  trials.csv, trials.html, trials.png, experiment/best.yaml    made at the end

A trial's state is what its files say: nothing else needs to agree with them. The process of a trial holds a lock on its folder,
which the operating system releases however it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from recsys_dl.folders import ensure_folder, new_file
from recsys_dl.leftovers import lock

FORMAT = 1
TRIES, SECONDS_BETWEEN = 10, 0.1


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep.

    Attributes:
        folder: its folder.
        number: from 0, in the order of the sweep.
        words: its settings, as of `recsys-dl train`.
        key: hash of its composed config.
        processes: number of processes that train it, over all machines.
        num_nodes: number of machines.
    """

    folder: Path
    number: int
    words: tuple[str, ...]
    key: str
    processes: int = 1
    num_nodes: int = 1

    @property
    def alone(self) -> tuple[str, ...]:
        """Its words for `recsys-dl train` by itself, where nothing says how often a state is written unless a folder is given."""
        if any(word.startswith("trainer.checkpoint=") for word in self.words):
            return self.words
        return tuple(word for word in self.words if not word.startswith("trainer.checkpoint_every="))

    @property
    def run(self) -> Path:
        """Its run folder."""
        return self.folder / "run"

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self.folder / "trial.log"

    @property
    def finished(self) -> bool:
        """Whether its run is complete."""
        return (self.run / "manifest.json").is_file()

    @property
    def failure(self) -> dict[str, Any] | None:
        """Exit status and reason of its last attempt, if that failed."""
        return _read(self.folder / "failed.json")

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Start, host, process and job of each attempt."""
        file = self.folder / "attempts.jsonl"
        lines = file.read_text().splitlines() if file.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]  # a line cut off by a kill is no attempt

    @property
    def job(self) -> dict[str, Any] | None:
        """The job that a cluster's queue holds, or held, for it."""
        return _read(self.folder / "job.json")

    def state(self, in_queue: Mapping[str, str] | None = None) -> str:
        """Return "finished", "running", "queued", "interrupted", "waiting" or "failed"; `in_queue`: the state of each job in the cluster's queue, by job."""
        if self.finished:
            return "finished"
        if self.is_running():
            return "running"
        job = self.job
        if job is not None and in_queue is not None and job["id"] in in_queue:
            return "queued"
        if self.failure is not None:
            return "failed"
        return "interrupted" if self.attempts else "waiting"

    def is_running(self) -> bool:
        """Return whether a process holds its lock."""
        if not self.folder.is_dir():
            return False
        with lock(self.folder) as mine:
            return mine is False

    @contextmanager
    def attempt(self, **about: Any) -> Iterator[bool]:
        """Hold its lock inside the block, with a line in attempts.jsonl; yield False if another process holds it."""
        with ExitStack() as stack:
            for _ in range(TRIES):  # a process that asks whether it runs holds the lock for a moment
                if (mine := stack.enter_context(lock(self.folder))) is not False:
                    break
                time.sleep(SECONDS_BETWEEN)
            if mine is False:
                yield False
                return
            (self.folder / "failed.json").unlink(missing_ok=True)
            line = {"started": _now(), "host": socket.gethostname(), "process": os.getpid(), **about}
            file = self.folder / "attempts.jsonl"
            whole = not file.is_file() or file.read_bytes()[-1:] in (b"\n", b"")
            with file.open("a") as stream:
                stream.write(("" if whole else "\n") + json.dumps(line) + "\n")
            yield True

    def retry(self) -> None:
        """Forget that its last attempt failed, unless it runs."""
        if not self.is_running():
            (self.folder / "failed.json").unlink(missing_ok=True)

    def fail(self, status: int, reason: str) -> None:
        """Record that the attempt failed."""
        write_json(self.folder / "failed.json", {"status": status, "reason": reason, "at": _now()})

    def forget_checkpoint(self) -> None:
        """Remove the state of a training that is finished."""
        shutil.rmtree(self.folder / "checkpoint", ignore_errors=True)


class Ledger:
    """The folder of a sweep.

    Args:
        folder: an existing one, with a sweep.json.

    Raises:
        FileNotFoundError: no sweep there.
        ValueError: damaged, or in a format that this version cannot read.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder).absolute()
        file = self.folder / "sweep.json"
        if not file.is_file():
            raise FileNotFoundError(f"{folder} must be the folder of a sweep, but has no sweep.json")
        try:
            self.about = json.loads(file.read_text())
            if self.about["format"] != FORMAT:
                raise ValueError(f"its format is {self.about['format']}, this version reads {FORMAT}")
            self.trials = [
                Trial(
                    self.folder / "trials" / f"{number:03d}",
                    number,
                    tuple(one["words"]),
                    one["key"],
                    one["processes"],
                    one["num_nodes"],
                )
                for number, one in enumerate(self.about["trials"])
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file} is damaged ({error}); restore it, or start the sweep in another folder"
            ) from error

    @classmethod
    def open(
        cls, folder: Path, trials: Sequence[Mapping[str, Any]], *, code: Mapping[str, Any], about: Mapping[str, Any]
    ) -> Ledger:
        """Return the ledger of a folder, with these trials added to those it holds; a new one if there is none.

        Args:
            folder: of the sweep.
            trials: each with words, key, processes, num_nodes.
            code: version and commit that run the trials; must be those of the trials it holds.
            about: what else to record: metric, launcher.

        Raises:
            ValueError: the folder holds something else, or trials of another version of the code.
        """
        if not (folder / "sweep.json").is_file():
            if folder.is_dir() and any(folder.iterdir()):
                raise ValueError(
                    f"{folder} must be the folder of a sweep, or empty, but holds other files; choose another run=…"
                )
            before: list[Any] = []
        else:
            found = cls(folder)
            before = found.about["trials"]
            apart = {name: (found.about["code"].get(name), now) for name, now in code.items()}
            changes = [f"{name} was {then}, is {now}" for name, (then, now) in apart.items() if then != now]
            if changes and any(trial.attempts for trial in found.trials):
                raise ValueError(
                    f"{folder} holds trials of other code ({'; '.join(changes)}), whose figures would be mixed with new ones. "
                    f"Start a new sweep in another folder, run=…, or restore that code to finish this one"
                )
        known = {one["key"] for one in before}
        together = [*before, *(dict(one) for one in trials if one["key"] not in known)]
        ensure_folder(folder)
        created = _read(folder / "sweep.json") or {"created": _now()}
        write_json(
            folder / "sweep.json",
            {"format": FORMAT, "created": created["created"], **about, "code": dict(code), "trials": together},
        )
        ledger = cls(folder)
        for trial in ledger.trials:
            trial.folder.mkdir(parents=True, exist_ok=True)
        return ledger

    @property
    def varied(self) -> list[str]:
        """The keys of settings in which its trials differ."""
        settings = [dict(word.partition("=")[::2] for word in trial.words) for trial in self.trials]
        keys = dict.fromkeys(key for one in settings for key in one)
        return [key for key in keys if len({one.get(key) for one in settings}) > 1]

    def of(self, keys: Sequence[str]) -> list[Trial]:
        """Return the trials with these keys, in order."""
        return [trial for trial in self.trials if trial.key in set(keys)]

    def data_hash(self, trial: Trial) -> str | None:
        """Return the hash of the data that a finished trial with the same data settings was trained on, if there is one."""
        mine = self.about["trials"][trial.number]["data"]
        for other in self.trials:
            if other.number != trial.number and self.about["trials"][other.number]["data"] == mine and other.finished:
                manifest = json.loads((other.run / "manifest.json").read_text())
                return str(manifest["data"]["hash"])
        return None


def key_of(text: str) -> str:
    """Return the key of a composed config, or of a part of one."""
    return sha256(text.encode()).hexdigest()[:16]


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file atomically."""
    with new_file(file) as aside:
        aside.write_text(json.dumps(content, indent=1) + "\n")


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    assert isinstance(found, dict)
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
