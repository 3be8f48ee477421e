"""What docs/sweeps.md shows: one sweep by every launcher with the same figures, and a Slurm sweep that is killed and continues.

    python scripts/bench_sweeps.py launchers            # twelve trials by basic, joblib, submitit and Ray, and by four workers of Optuna
    SLURM_CONF=… python scripts/bench_sweeps.py slurm   # twelve trials of two models, some of two processes, killed in the middle

Both print Markdown. Everything is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from recsys_dl.sweeps.ledger import Ledger

DATA = ("data=generated", "data.num_users=300", "data.num_items=120", "data.num_interactions=3000", "threads=1")
TWELVE = ("model=als", "model.embedding_size=8,16", "model.epochs=2,4,8", "model.regularization=0.003,0.03")
NEURAL = ("model=gmf,neumf", "seed=range(1,4)", "trainer.processes=1,2", "model.epochs=6", "trainer.checkpoint_every=1")


def command(*words: str, check: bool = True) -> str:
    """Run `recsys-dl WORDS` and return what it printed."""
    done = subprocess.run([sys.executable, "-m", "recsys_dl", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"recsys-dl {' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout


def launchers() -> None:
    """Print seconds of each launcher, and of four workers on one SQLite study, and whether all figures are the same to the bit."""
    ways = {
        launcher: ("train", "-m", f"launcher={launcher}") for launcher in ("basic", "joblib", "submitit", "ray")
    } | {
        "tune, grid, workers=4": (
            "tune",
            "sampler=grid",
            "workers=4",
            "trials=12",
            "keep=all",
            f"storage=sqlite:///{Path.cwd()}/s.db",
        )
    }
    first: dict[tuple[str, ...], dict[str, float]] = {}
    print("| | trials finished | seconds | validation figures |\n|---|---|---|---|")
    for way, (verb, *words) in ways.items():
        folder, began = Path(way.partition(",")[0]), time.perf_counter()
        command(verb, *words, *DATA, *TWELVE, f"run={folder}")
        seconds = time.perf_counter() - began
        found = {settings(run): validation(run) for run in sorted(folder.glob("trials/*/run"))}
        first = first or found
        same = "the first" if way == "basic" else "the same bits" if found == first else "OTHERS"
        print(f"| {way} | {len(found)} of 12 | {seconds:.0f} | {same} |", flush=True)
    best = next(csv.DictReader(Path("basic/trials.csv").read_text().splitlines()))
    print(f"\nBest: {best['command']}: ndcg@10 {best['ndcg@10']}")


def settings(run: Path) -> tuple[str, ...]:
    """Return what the trials of a sweep vary."""
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    return tuple(str(model[word.partition("=")[0].removeprefix("model.")]) for word in TWELVE[1:])


def validation(run: Path) -> dict[str, float]:
    """Return a run's figures, all digits."""
    figures: dict[str, float] = json.loads((run / "metrics.json").read_text())["validation"]["values"]
    return figures


def slurm() -> None:
    """Print the ledger before and after: the sweep killed and a job canceled while trials train, then the same command."""
    words = ("train", "-m", *DATA[:-1], *NEURAL, "launcher=slurm", "run=s")
    sweep = subprocess.Popen(
        [sys.executable, "-m", "recsys_dl", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while sum(one.finished for one in _trials()) < 3 or not (going := list(Path("s").glob("trials/*/checkpoint/*"))):
        time.sleep(0.1)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.wait()
    canceled = next(one for one in _trials() if one.folder.name == going[0].parent.parent.name)
    assert canceled.job is not None
    subprocess.run(["scancel", canceled.job["id"]], check=True)
    while canceled.is_running():
        time.sleep(0.1)
    print(f"`kill -9` of the sweep and `scancel` of trial {canceled.number}, then `recsys-dl sweep status s`:\n")
    print(_indented(command("sweep", "status", "s")))
    print("The same command again:\n")
    print(_indented(command(*words)))
    attempts = {one.number: len(one.attempts) for one in _trials()}
    print(
        f"Attempts: {sum(attempts.values())} for {len(attempts)} trials; more than one: {[n for n, a in attempts.items() if a > 1]}"
    )
    print(f"Trial {canceled.number} continued: {'resuming from' in (canceled.run / 'run.log').read_text()}")


def _trials() -> Sequence:
    return Ledger("s").trials if Path("s/sweep.json").is_file() else ()


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" if line.strip() else "\n" for line in text.splitlines())


def main() -> None:
    """Run what is asked in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("launchers", "slurm"))
    what = parser.parse_args().what
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    os.environ["COLUMNS"] = "120"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        (launchers if what == "launchers" else slurm)()


if __name__ == "__main__":
    main()
