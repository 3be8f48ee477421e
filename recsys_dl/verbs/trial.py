"""What a launcher runs: one trial of a sweep, `python -m recsys_dl.verbs.trial FOLDER`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from omegaconf import DictConfig, open_dict

from recsys_dl.lazy import importing, own_process
from recsys_dl.sweeps.launchers import python
from recsys_dl.sweeps.ledger import Ledger, Trial
from recsys_dl.sweeps.submitit_launchers import srun

from .calling import run_verb

MODULE = "recsys_dl.verbs.trial"
STOPPED = "error: stopped"  # what the command prints when it is interrupted
INSIDE = "inside"  # of the processes that train together


def main(words: list[str]) -> int:
    """Run a trial, unless it is finished or another process runs it; return the exit status."""
    folder = Path(words[0])
    ledger = Ledger(folder.parent.parent)
    trial = next(one for one in ledger.trials if one.folder == folder)
    if words[1:] == [INSIDE]:
        return train_trial(ledger, trial)
    with trial.attempt(job=os.environ.get("SLURM_JOB_ID")) as mine:
        if not mine or trial.finished:
            return 0
        began = trial.log.stat().st_size if trial.log.is_file() else 0
        together = trial.processes > 1
        status = subprocess.call(several(trial)) if together else train_trial(ledger, trial)
        if trial.finished:
            trial.forget_checkpoint()
        elif why := reason(trial.log, began, status):
            trial.fail(status, why)
    return status


def several(trial: Trial) -> tuple[str, ...]:
    """Return the command line that starts a trial's processes: by srun inside a Slurm job, else by torchrun."""
    inside = (MODULE, str(trial.folder), INSIDE)
    per_node = trial.processes // trial.num_nodes
    if os.environ.get("RECSYS_DL_LAUNCHER") == "slurm":
        return (*srun(trial.num_nodes, per_node, int(os.environ["RECSYS_DL_CPUS"]) // per_node), *python(*inside))
    return python("torch.distributed.run", "--standalone", f"--nproc-per-node={per_node}", "-m", *inside)


def train_trial(ledger: Ledger, trial: Trial) -> int:
    """Train in this process; print an error as the command does, and return its exit status."""
    with importing():
        from recsys_dl.compose.grid import compose_trial

    config = compose_trial(trial.words)
    settle(config, trial)
    return run_verb("train", config, expected_hash=ledger.data_hash(trial))


def settle(config: DictConfig, trial: Trial) -> None:
    """Set where a trial's run and its training state go."""
    from recsys_dl.compose.effect import trains_with_trainer

    with open_dict(config):
        config.run = str(trial.run)
        if config.trainer.checkpoint is None and trains_with_trainer(config):
            config.trainer.checkpoint = str(trial.folder / "checkpoint")


def reason(log: Path, began: int, status: int) -> str:
    """Return why an attempt failed: the error it printed, or how its process ended; "" if it was stopped."""
    sys.stdout.flush()
    sys.stderr.flush()
    with log.open("rb") as stream:
        stream.seek(began)
        lines = stream.read().decode(errors="replace").splitlines()
    errors = [
        number for number, line in enumerate(lines) if line.startswith("error: ") and not line.startswith(STOPPED)
    ]
    if errors:  # where one of several processes fails, the others are stopped
        return "\n".join([lines[errors[0]].removeprefix("error: "), *lines[errors[0] + 1 : errors[0] + 5]]).strip()
    if any(line.startswith(STOPPED) for line in lines):
        return ""
    last = next((line for line in reversed(lines) if line.strip()), "no output")
    return f"exit status {status}; its last line: {last.strip()[:300]}"


if __name__ == "__main__":
    own_process()
    sys.exit(main(sys.argv[1:]))
