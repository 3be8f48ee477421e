"""Trials as jobs of submitit: on a Slurm cluster, or on this machine to try them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from .launchers import Job, Joblib, need
from .ledger import write_json

SECONDS_BETWEEN = 2.0


class SubmititLocal(Joblib):
    """Jobs of submitit in processes on this machine.

    Args:
        jobs: number at once.

    Raises:
        ValueError: fewer than one.

    Examples:
        >>> from recsys_dl.sweeps.submitit_launchers import SubmititLocal
        >>> SubmititLocal(jobs=4).jobs
        4
    """

    name = package = "submitit"

    def launch(self, jobs: Sequence[Job]) -> None:
        """Run jobs, `self.jobs` at once."""
        import submitit

        waiting = list(jobs)
        running: list[Any] = []
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    job = waiting.pop(0)
                    executor = submitit.LocalExecutor(folder=job.folder / "submitit")
                    executor.update_parameters(timeout_min=60 * 24 * 365, gpus_per_node=0)
                    running.append(executor.submit(Resumable(job)))
                time.sleep(0.1)
                running = [one for one in running if not one.done()]
        finally:
            for one in running:
                one.cancel()


class Resumable:
    """What a job of submitit runs: it is requeued when it is preempted or reaches its time limit, and its trial then resumes."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def __call__(self) -> int:
        """Run the job; return its exit status."""
        return self.job.run()

    def checkpoint(self) -> Any:
        """Return what to requeue: the same job."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class Slurm:
    """One Slurm job for each trial, submitted as arrays.

    Args:
        partition, account, qos, constraint: as of sbatch; None means the cluster's default.
        minutes: time limit of a job. A job that is preempted or reaches it is requeued, at most three times for the latter.
        cpus: processors of a process.
        gpus: GPUs of a node.
        memory_gb: of a node; None means the cluster's default.
        jobs: of an array that run at once.
        setup: shell lines to run before a trial.
        more: further options of sbatch.

    Raises:
        ValueError: a number below 1, or gpus below 0.

    Examples:
        >>> from recsys_dl.sweeps.submitit_launchers import Slurm
        >>> Slurm(partition="gpu", account="me", minutes=240, gpus=1).named
        {'partition': 'gpu', 'account': 'me'}
    """

    name = "slurm"

    def __init__(
        self,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        minutes: int = 60,
        cpus: int = 1,
        gpus: int = 0,
        memory_gb: int | None = None,
        constraint: str | None = None,
        jobs: int = 100,
        setup: Sequence[str] = (),
        more: Mapping[str, Any] | None = None,
    ) -> None:
        for name, number in (("minutes", minutes), ("cpus", cpus), ("jobs", jobs), ("memory_gb", memory_gb)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if gpus < 0:
            raise ValueError(f"gpus must be at least 0, got {gpus}")
        self.minutes, self.cpus, self.gpus, self.jobs = minutes, cpus, gpus, jobs
        self.memory_gb, self.setup, self.more = memory_gb, list(setup), dict(more or {})
        named = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        self.named = {name: value for name, value in named.items() if value is not None}

    def check(self, num_nodes: int) -> None:
        """Check that submitit and Slurm are there.

        Raises:
            ImportError: submitit is not installed.
            ValueError: no Slurm here.
        """
        need("submitit", self.name)
        if shutil.which("sbatch") is None or shutil.which("squeue") is None:
            raise ValueError(
                "launcher=slurm must run where Slurm's sbatch and squeue are, such as a cluster's login node, but they are not "
                "on the PATH here; launcher=submitit runs the same jobs on this machine"
            )

    def launch(self, jobs: Sequence[Job]) -> None:
        """Submit jobs, an array for each size, and wait until none is in the queue.

        Raises:
            RuntimeError: Slurm refuses them; with its own words and the script's path.
        """
        sizes = sorted({(job.num_nodes, job.processes) for job in jobs})
        submitted: list[str] = []
        for num_nodes, processes in sizes:
            some = [job for job in jobs if (job.num_nodes, job.processes) == (num_nodes, processes)]
            submitted += self._submit(some, num_nodes, processes // num_nodes)
        while self.in_queue(submitted):
            time.sleep(SECONDS_BETWEEN)

    def in_queue(self, jobs: Sequence[str], *, seconds: float = 60.0) -> dict[str, str]:
        """Return the state of each of these jobs that is waiting or running, as `squeue` names it.

        Raises:
            RuntimeError: Slurm does not answer for so many seconds.
        """
        if not jobs:
            return {}
        until = time.monotonic() + seconds
        while (answer := _squeue()).returncode:
            if time.monotonic() >= until:
                raise RuntimeError(
                    f"Slurm does not answer: {answer.stderr.strip()[:300]}; the same command again continues"
                )
            time.sleep(SECONDS_BETWEEN)
        found = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if line.strip())
        return {job: found[job] for job in jobs if job in found}

    def _submit(self, jobs: Sequence[Job], num_nodes: int, per_node: int) -> list[str]:
        import submitit
        from submitit.core.utils import FailedJobError

        home = jobs[0].folder.parent.parent / "slurm"
        executor = submitit.SlurmExecutor(folder=home, max_num_timeout=3)
        several = num_nodes * per_node > 1
        executor.update_parameters(
            job_name=f"recsys-dl-{home.parent.name}"[:60],
            time=self.minutes,
            nodes=num_nodes,
            ntasks_per_node=per_node,
            cpus_per_task=self.cpus,
            array_parallelism=self.jobs,
            setup=self.setup or None,
            stderr_to_stdout=True,
            additional_parameters=self.more,
            srun_args=["--nodes=1", "--ntasks=1", f"--cpus-per-task={self.cpus}", *(["--overlap"] if several else [])],
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            **({"mem": f"{self.memory_gb}GB"} if self.memory_gb else {}),
            **self.named,
        )
        started = [
            Resumable(replace(job, environment={**job.environment, "RECSYS_DL_CPUS": str(self.cpus * per_node)}))
            for job in jobs
        ]
        try:
            with executor.batch():
                handles = [executor.submit(one) for one in started]
        except (FailedJobError, subprocess.CalledProcessError) as error:
            script = max(home.glob(".submission_file_*.sh"), key=lambda file: file.stat().st_mtime, default=home)
            words = next((line for line in str(error).splitlines() if "sbatch: " in line), str(error))
            raise RuntimeError(
                f"Slurm refuses the jobs: {words.strip()[:500]}. Their script is {script}; set launcher.partition, account, qos, "
                "gpus, … as your cluster needs"
            ) from error
        for job, handle in zip(jobs, handles, strict=True):
            write_json(
                job.folder / "job.json",
                {"id": handle.job_id, "launcher": self.name, "output": str(handle.paths.stdout)},
            )
        return [handle.job_id for handle in handles]


def _squeue() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i %T"], capture_output=True, text=True, check=False
    )


def srun(num_nodes: int, per_node: int, cpus: int) -> tuple[str, ...]:
    """Return the command line that starts a trial's processes inside its Slurm job."""
    return (
        *("srun", "--overlap", "--unbuffered", "--kill-on-bad-exit=1", f"--nodes={num_nodes}"),
        *(f"--ntasks={num_nodes * per_node}", f"--ntasks-per-node={per_node}", f"--cpus-per-task={cpus}"),
    )
