"""Trials as tasks of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .launchers import Job, OnThisMachine


class Ray(OnThisMachine):
    """Tasks of Ray, on this machine or on a cluster whose machines share the sweep's folder.

    Args:
        address: of a running cluster, or "auto"; None starts Ray on this machine.
        cpus: processors of a trial's process.
        gpus: GPUs of a trial's process.
        jobs: trials at once; None means as many as the resources allow.

    Raises:
        ValueError: cpus or jobs below 1, or gpus below 0.

    Examples:
        >>> from recsys_dl.sweeps.ray_launcher import Ray
        >>> Ray(cpus=2, jobs=4).in_queue(["1"])  # its tasks end with the sweep
        {}
    """

    name = package = "ray"

    def __init__(self, address: str | None = None, cpus: int = 1, gpus: int = 0, jobs: int | None = None) -> None:
        if cpus < 1 or gpus < 0 or (jobs is not None and jobs < 1):
            raise ValueError(f"cpus and jobs must be at least 1 and gpus at least 0, got {cpus}, {jobs} and {gpus}")
        self.address, self.cpus, self.gpus, self.jobs = address, cpus, gpus, jobs

    def launch(self, jobs: Sequence[Job]) -> None:
        """Run jobs as tasks.

        Raises:
            RuntimeError: no Ray at the address, or no machine of the cluster has the resources.
        """
        import ray

        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RuntimeError(
                f"launcher.address={self.address} must be that of a running Ray cluster: {error}"
            ) from error
        try:
            total = ray.cluster_resources()
            for job in jobs:
                wanted = {"CPU": self.cpus * job.processes, "GPU": self.gpus * job.processes}
                if short := [name for name, number in wanted.items() if number > total.get(name, 0)]:
                    raise RuntimeError(
                        f"{job.name} needs {wanted[short[0]]} {short[0]}s, but the cluster has {total.get(short[0], 0):g}; "
                        "lower launcher.cpus, launcher.gpus or trainer.processes"
                    )
            waiting = list(jobs)
            running: list[Any] = []
            while waiting or running:
                while waiting and (self.jobs is None or len(running) < self.jobs):
                    job = waiting.pop(0)
                    task = ray.remote(
                        num_cpus=self.cpus * job.processes, num_gpus=self.gpus * job.processes, max_retries=0
                    )
                    environment = {**job.environment, "RECSYS_DL_CPUS": str(self.cpus * job.processes)}
                    running.append(task(Job.run).remote(replace(job, environment=environment)))
                done, running = ray.wait(running, num_returns=1)
                ray.get(done)
        finally:
            ray.shutdown()
