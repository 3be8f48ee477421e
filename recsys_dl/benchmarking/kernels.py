"""Kernels beside their peers, each in a process of its own, taking turns."""

from __future__ import annotations

import contextlib
import csv
import multiprocessing
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.folders import new_folder

from .jobs import JOBS, LOGS, Shape, contender, shape_of

GIB = 1 << 30


@dataclass(frozen=True)
class Result:
    """What one contender took for one job.

    Attributes:
        job: name in `JOBS`.
        log: name in `LOGS`.
        size: D; 0 where there is none.
        contender: who.
        seconds: median of the rounds.
        fastest: of the rounds.
        slowest: of the rounds.
        per_second: units per second at the median.
        unit: which.
        limit: share of what the machine's measured float32 product or copy would allow; NaN where neither bounds the job.
        ratio: a peer's seconds over ours; NaN for ours.
        first: seconds of the first step, with what is compiled or read from disk.
        peak: bytes, the largest resident size of its process.
        figure: the objective after all steps, or the largest error against float64; NaN if there is none.
    """

    job: str
    log: str
    size: int
    contender: str
    seconds: float
    fastest: float
    slowest: float
    per_second: float
    unit: str
    limit: float
    ratio: float
    first: float
    peak: int
    figure: float


def bench_kernels(
    jobs: Sequence[str], logs: Sequence[str], sizes: Sequence[int], *, rounds: int, threads: int, output: Path
) -> Iterator[Result]:
    """Measure every job, log and embedding size; yield results as they come, and write them at the end.

    Args:
        jobs: names in `JOBS`.
        logs: names in `LOGS`: generated logs of these sizes.
        sizes: embedding sizes D.
        rounds: timed steps of each contender, who take turns.
        threads: of each.
        output: folder for `kernels.csv` and `kernels.png`; must not exist.

    Raises:
        FileExistsError: `output` exists.
    """
    results: list[Result] = []
    with new_folder(output) as aside, tempfile.TemporaryDirectory() as folder:
        ceilings = _in_a_process(_ceilings)
        for log in logs:
            file = Path(folder) / f"{log}.npz"
            _in_a_process(_generate, file, *LOGS[log])
            for job in jobs:
                for size in sizes if JOBS[job].sized else [0]:
                    for one in _measured(job, log, file, size, rounds, threads, ceilings):
                        results.append(one)
                        yield one
        with (aside / "kernels.csv").open("w", newline="") as stream:
            table = csv.DictWriter(stream, list(asdict(results[0])))
            table.writeheader()
            table.writerows(map(asdict, results))
        if find_spec("matplotlib") is not None:
            draw(results, aside / "kernels.png")


def installed(name: str) -> bool:
    """Return whether the package of a contender is there."""
    return find_spec(re.match(r"\w+", name)[0]) is not None  # type: ignore[index]


def _measured(
    job: str, log: str, file: Path, size: int, rounds: int, threads: int, ceilings: tuple[float, float]
) -> Iterator[Result]:
    """Yield the result of each contender that is installed."""
    here = JOBS[job]
    names = [name for name in here.contenders if installed(name)]
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(_worker(job, name, file, size, threads)) for name in names}
        first = {name: _ask(worker, "step") for name, worker in workers.items()}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(rounds):
            for name, worker in workers.items():
                seconds[name].append(_ask(worker, "step"))
        figures = {name: _ask(worker, "figure") for name, worker in workers.items()}
        peaks = {name: _ask(worker, "peak") for name, worker in workers.items()}
    shape = shape_of(sp.load_npz(file), size)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    for name in names:
        mine = here.beside.get(name, "recsys_dl")
        yield Result(
            job=job,
            log=log,
            size=size,
            contender=name,
            seconds=medians[name],
            fastest=min(seconds[name]),
            slowest=max(seconds[name]),
            per_second=here.amount(shape) / medians[name],
            unit=here.unit,
            limit=_least_seconds(job, shape, ceilings) / medians[name],
            ratio=float("nan") if name.startswith("recsys_dl") else medians[name] / medians[mine],
            first=first[name],
            peak=int(peaks[name]),
            figure=figures[name],
        )


def _least_seconds(job: str, shape: Shape, ceilings: tuple[float, float]) -> float:
    """Return what the machine's product and copy would need for a step; NaN if neither bounds it."""
    cost = JOBS[job].cost
    return float("nan") if cost is None else max(part / most for part, most in zip(cost(shape), ceilings, strict=True))


@contextlib.contextmanager
def _worker(job: str, name: str, file: Path, size: int, threads: int) -> Iterator[Any]:
    """Start a process that is ready to take steps, and end it."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_work, args=(theirs, job, name, file, size, threads), daemon=True
    )
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _ask(worker: Any, what: str) -> float:
    """Return the answer of a worker; its error, if it failed."""
    try:
        worker.send(what)
        answer = worker.recv()
    except (EOFError, BrokenPipeError) as error:
        raise ChildProcessError("a contender's process ended; its output above says why") from error
    if isinstance(answer, str):
        raise ChildProcessError(answer)
    return answer


def _work(pipe: Any, job: str, name: str, file: Path, size: int, threads: int) -> None:
    """Be one contender: take a step, return the figure or the memory, as asked, until the other side closes."""
    try:
        made = contender(job, name, sp.load_npz(file), size, threads)
    except Exception as error:  # sent to the process that asked, which raises it
        pipe.recv()
        pipe.send(f"{name} cannot run {job}: {type(error).__name__}: {error}")
        return
    with contextlib.suppress(EOFError):
        while True:
            what = pipe.recv()
            if what == "step":
                start = time.perf_counter()
                made.step()
                pipe.send(time.perf_counter() - start)
            elif what == "figure":
                pipe.send(made.figure() if hasattr(made, "figure") else float("nan"))
            else:
                pipe.send(_peak_bytes())


def _peak_bytes() -> int:
    """Return the largest resident size of this process; of what was before it, which ru_maxrss begins with, nothing."""
    if sys.platform.startswith("linux"):
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _in_a_process(function: Any, *arguments: Any) -> Any:
    """Return what a function gives in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _generate(file: Path, num_users: int, num_items: int, num_interactions: int) -> None:
    """Write a generated log, every pair once, as a CSR of ones."""
    from recsys_dl.data.generated import generated

    made = generated(num_users=num_users, num_items=num_items, num_interactions=num_interactions, seed=7).interactions
    log_UI = made.by_user
    log_UI.data[:] = 1
    sp.save_npz(file, log_UI, compressed=False)


def _ceilings() -> tuple[float, float]:
    """Return float32 operations and copied bytes (read and written) per second of this machine, the best of five."""
    square = np.ones((4096, 4096), np.float32)
    source, target = np.ones(GIB // 4, np.float32), np.ones(GIB // 4, np.float32)

    def best(function: Any) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return min(times)

    return 2 * 4096.0**3 / best(lambda: square @ square), 2 * GIB / best(lambda: np.copyto(target, source))


def draw(results: Sequence[Result], file: Path) -> None:
    """Draw the ratios of all peers to ours, a panel for each log."""
    from matplotlib.figure import Figure

    logs = list(dict.fromkeys(one.log for one in results))
    peers = [one for one in results if one.ratio == one.ratio]
    jobs = list(dict.fromkeys((one.job, one.size) for one in results))
    colors = {name: f"C{at}" for at, name in enumerate(dict.fromkeys(one.contender for one in peers))}
    figure = Figure(figsize=(4.2 * len(logs) + 1, 0.32 * len(jobs) + 1.6), layout="constrained")
    for axes, log in zip(figure.subplots(1, len(logs), squeeze=False, sharey=True)[0], logs, strict=True):
        for name, color in colors.items():
            mine = [one for one in peers if one.log == log and one.contender == name]
            places = [jobs.index((one.job, one.size)) for one in mine]
            axes.plot([one.ratio for one in mine], places, "o", color=color, label=name)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(title=log, xlabel="seconds of the peer over ours", xscale="log")
        axes.set_yticks(range(len(jobs)), [f"{job}, D = {size}" if size else job for job, size in jobs])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(axis="x", alpha=0.3)
    figure.axes[0].invert_yaxis()
    figure.axes[-1].legend(frameon=False)
    figure.savefig(file, dpi=110)
