"""A sweep's trials as a table: how far it is, and what it found."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

from .ledger import Ledger, Trial
from .records import STATES, Record
from .results import failures, table, write_report

log = logging.getLogger(__name__)


def records_of(ledger: Ledger) -> list[Record]:
    """Return what is known of each trial."""
    in_queue = jobs_in_queue(ledger)
    return [record_of(ledger, trial, trial.state(in_queue)) for trial in ledger.trials]


def record_of(ledger: Ledger, trial: Trial, state: str) -> Record:
    """Return what is known of a trial in this state."""
    words = dict(word.partition("=")[::2] for word in trial.words)
    values: dict[str, float] = {}
    seconds = None
    if state == "finished":
        metrics = json.loads((trial.run / "metrics.json").read_text())
        values = next(iter(metrics.values()))["values"] if metrics else {}
        seconds = sum(json.loads((trial.run / "manifest.json").read_text())["seconds"].values())
    return Record(
        trial.number,
        {key: words.get(key, "") for key in ledger.varied},
        state,
        values,
        seconds,
        (trial.failure or {}).get("reason", ""),
        f"recsys-dl train {shlex.join(trial.alone)}",
        str(trial.run if state == "finished" else trial.folder),
        {"attempts": str(len(trial.attempts)), "where": _place(trial)},
    )


def _place(trial: Trial) -> str:
    job, attempts = trial.job, trial.attempts
    if job is not None and (not attempts or attempts[-1]["job"]):
        return f"{attempts[-1]['host']}, job {job['id']}" if attempts else f"job {job['id']}"
    return f"{attempts[-1]['host']}, process {attempts[-1]['process']}" if attempts else ""


def jobs_in_queue(ledger: Ledger) -> dict[str, str] | None:
    """Return the state of the sweep's jobs that a cluster's queue still holds; None where none can be asked."""
    from .submitit_launchers import Slurm

    jobs = [trial.job["id"] for trial in ledger.trials if trial.job is not None and not trial.finished]
    try:
        return Slurm().in_queue(jobs, seconds=0)
    except FileNotFoundError:  # no squeue here
        return None
    except RuntimeError as error:
        log.warning("%s; queued trials are shown as waiting", str(error).partition(";")[0])
        return None


def line_of(ledger: Ledger, trial: Trial, state: str) -> str:
    """Return a line about a trial that has ended."""
    record = record_of(ledger, trial, state)
    settings = " ".join(f"{key}={value}" for key, value in record.settings.items()) or "the only combination"
    if state != "finished":
        return (
            f"trial {trial.number}: {settings}: {state}: {record.reason.splitlines()[0][:200] if record.reason else ''}"
        )
    metric = ledger.about["metric"]
    figure = f"{metric} {record.values[metric]:.4f}" if metric in record.values else "no figures"
    return f"trial {trial.number}: {settings}: {figure}, {record.seconds:.1f} s"


def print_ledger(ledger: Ledger) -> None:
    """Print the trials' table, the best first, and what failed."""
    records = records_of(ledger)
    counts = {state: sum(one.state == state for one in records) for state in STATES}
    told = ", ".join(f"{number} {state}" for state, number in counts.items() if number)
    print(f"{_shown(ledger.folder)}: {told}\n\n{table(records, [ledger.about['metric']])}")
    if failed := failures(records):
        print(f"\n{failed}")


def write_ledger(ledger: Ledger) -> list[Path]:
    """Write the table, the figure and the page of a sweep into its folder; return their paths."""
    return write_report(
        records_of(ledger), ledger.folder, metrics=[ledger.about["metric"]], title=f"Sweep {ledger.folder.name}"
    )


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
