"""Several processes that compute one result: starting, joining, exchanging arrays, and ending together if one ends.

    with together() as group:            # in a script that torchrun or Slurm has started several times
        model = ALS().fit(train)         # each process solves its own rows
        evaluation = evaluate(model, train, test)
        if group.rank == 0:
            model.save("als")

Within the block fitting and evaluation are collective: every process must run the same calls on the same data. N rows, D columns, P
processes.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from recsys_dl.lazy import importing
from recsys_dl.threads import limit_threads, usable_processors

STEP_SECONDS = 1800  # until all processes have joined, or taken part in one exchange; one that died is noticed at once
REASON_SECONDS = 2  # until a process that ended has said why
FAILURE = "recsys_dl/failure"
T = TypeVar("T")

log = logging.getLogger(__name__)


class EndedError(SystemExit):
    """This process ends without a word: another one has reported why, or this one has started others, which have finished.

    Attributes:
        why: for who catches it.
    """

    def __init__(self, why: str, status: int = 1) -> None:
        super().__init__(status)
        self.why = why


class LostError(RuntimeError):
    """Another process has ended, or did not answer in time."""


class Group:
    """The processes that compute together; one alone if not within `together`.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes, P.
        sharing: number of them, with this one, on the same processors of one machine.
        threads: of these processes together; None: not divided among them.
    """

    def __init__(self, rank: int = 0, size: int = 1, sharing: int = 1) -> None:
        self.rank, self.size, self.sharing = rank, size, sharing
        self.threads: int | None = None
        self._computed = 0  # times that the others have waited for the first

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with _answered():
            dist.all_gather_object(values, value)
        return values

    def in_turn(self, mine: list[Any], num: int) -> list[Any]:
        """Return `num` values in order, of which this process has those at rank, rank + P, ..."""
        all_ = self.gather(mine)
        return [all_[at % self.size][at // self.size] for at in range(num)]

    def by_first(self, compute: Callable[[], T]) -> T:
        """Return what the first process computes, while the others wait, as long as it takes; with their `threads` too, if known.

        Arrays are sent as they are, everything else is pickled.
        """
        if self.size == 1:
            return compute()
        import torch
        import torch.distributed as dist

        self._computed += 1
        found: Any = None
        if self.rank == 0:
            if self.threads is not None:
                limit_threads(self.threads)
            found = compute()
            if self.threads is not None:
                limit_threads(max(1, self.threads // self.sharing))
        with _answered():
            _reached(f"recsys_dl/computed/{self._computed}", self.rank == 0)
            is_array = isinstance(found, np.ndarray)
            sent: list[Any] = [(found.shape, found.dtype) if is_array else found, is_array]
            dist.broadcast_object_list(sent, 0)
            if sent[1]:
                found = np.ascontiguousarray(found) if self.rank == 0 else np.empty(*sent[0])
                dist.broadcast(torch.from_numpy(found), 0)
        result: T = found if sent[1] else sent[0]
        return result

    def sum(self, array: np.ndarray) -> np.ndarray:
        """Return the sum over processes of arrays of one shape and dtype; the same bits on all."""
        if self.size == 1:
            return array
        import torch
        import torch.distributed as dist

        total = np.array(array, order="C")
        with _answered():
            dist.all_reduce(torch.from_numpy(total))
        return total

    def exchange(self, rows_ND: np.ndarray, sent_P: np.ndarray, received_P: np.ndarray) -> np.ndarray:
        """Send rows to each process, and return those received from each, in order of rank.

        Args:
            rows_ND: the rows to send, sorted by receiver; the same D and dtype on all processes.
            sent_P: how many of them go to each process.
            received_P: how many each process sends to this one.
        """
        if self.size == 1:
            return rows_ND
        import torch
        import torch.distributed as dist

        found = np.empty((int(received_P.sum()), *rows_ND.shape[1:]), rows_ND.dtype)
        here = torch.from_numpy(np.ascontiguousarray(rows_ND))
        with _answered():
            dist.all_to_all_single(torch.from_numpy(found), here, received_P.tolist(), sent_P.tolist())
        return found

    def stacked(self, rows_ND: np.ndarray, bounds_P1: np.ndarray) -> np.ndarray:
        """Return the rows of all processes, each of which has those from one bound to the next."""
        if self.size == 1:
            return rows_ND
        import torch
        import torch.distributed as dist

        whole = np.empty((int(bounds_P1[-1]), *rows_ND.shape[1:]), rows_ND.dtype)
        whole[bounds_P1[self.rank] : bounds_P1[self.rank + 1]] = rows_ND
        with _answered():
            for rank, (first, last) in enumerate(pairwise(bounds_P1)):
                if first < last:
                    dist.broadcast(torch.from_numpy(whole[first:last]), rank)
        return whole


ALONE = Group()
_CURRENT: ContextVar[Group] = ContextVar("_CURRENT", default=ALONE)


def current() -> Group:
    """Return the processes of the innermost `together` block, one alone outside of any."""
    return _CURRENT.get()


def started() -> tuple[int, int] | None:
    """Return the rank of this process and how many torchrun or Slurm's srun started with it, None if neither did."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"])
    return None


@contextmanager
def together(processes: int | None = None, num_nodes: int = 1) -> Iterator[Group]:
    """Compute the block with the processes that a launcher started.

    A process that fails reports why to the others, which then end within seconds; so does one that is killed, without a reason. The
    launcher says which.

    Args:
        processes: on each machine; None means all that were started, one alone without a launcher. If more are requested than
            were started, and this is the command, it starts itself again that many times.
        num_nodes: machines.

    Raises:
        ValueError: the launcher started another number, or none started any.
        EndedError: (a SystemExit) another process failed and reports it; or this one started others, which have finished.
    """
    asked = None if processes is None else processes * num_nodes
    launcher = started()
    if launcher is None and asked not in (None, 1):
        _start_again(int(processes or 1), num_nodes)
    if launcher is None or (asked == 1 and "RANK" not in os.environ):
        yield ALONE
        return
    rank, size = launcher
    if asked not in (None, size):
        by = "torchrun" if "RANK" in os.environ else "srun"
        raise ValueError(
            f"{by} started {size} processes, but processes={processes} on num_nodes={num_nodes} makes {asked}; set "
            "processes (of train: trainer.processes) to the number on each machine"
        )
    group = _joined(rank, size)
    token = _CURRENT.set(group)
    try:
        yield group
    except BaseException as error:
        instead = _instead(group, error)
        if instead is error:
            raise
        raise instead from error
    finally:
        _CURRENT.reset(token)
        _leave()


def _joined(rank: int, size: int) -> Group:
    """Connect to the other processes."""
    if size == 1:
        return Group(rank, size)
    with importing():
        import torch
        import torch.distributed as dist

    if "RANK" not in os.environ:
        from lightning_fabric.plugins.environments import SLURMEnvironment

        host = SLURMEnvironment.resolve_root_node_address(os.environ.get("SLURM_NODELIST", "127.0.0.1"))
        os.environ.setdefault("MASTER_ADDR", host)
        os.environ.setdefault("MASTER_PORT", str(15000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 10000))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0))))
    if not dist.is_initialized():
        logging.getLogger("torch.distributed").setLevel(logging.ERROR)
        dist.init_process_group(backend, rank=rank, world_size=size, timeout=timedelta(seconds=STEP_SECONDS))
    group = Group(rank, size)
    places = group.gather((socket.gethostname(), usable_processors()))
    group.sharing = sharers(places, rank)
    return group


def sharers(places: Sequence[tuple[str, AbstractSet[int]]], rank: int) -> int:
    """Return how many processes, with that of `rank`, run on the same machine and on some of the same processors.

    Torchrun lets all processes of a machine share its processors; srun may give each task its own.

    Args:
        places: machine and processors of each process, by rank.

    Examples:
        >>> from recsys_dl.processes import sharers
        >>> sharers([("a", {0, 1}), ("a", {0, 1}), ("a", {2}), ("b", {0, 1})], rank=0)
        2
    """
    machine, processors = places[rank]
    return sum(other == machine and bool(theirs & processors) for other, theirs in places)


def _leave() -> None:
    if "torch" in sys.modules:
        import torch.distributed as dist

        if dist.is_initialized():
            with suppress(RuntimeError):  # of processes that are gone
                dist.destroy_process_group()


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostError(f"another process ended, or did not answer for {STEP_SECONDS} seconds") from error


def _reached(key: str, here: bool) -> None:
    """Announce a point of the program, or wait until another process has; exchanges would give up after `STEP_SECONDS`."""
    import torch.distributed as dist

    store = dist.distributed_c10d._get_default_store()
    if here:
        store.set(key, "")
    while not store.check([key]):
        if store.check([FAILURE]):
            raise RuntimeError("another process failed")
        time.sleep(0.01)


def _instead(group: Group, error: BaseException) -> BaseException:
    """Return what to raise in place of an error, after telling the other processes of it.

    Where all processes fail alike the first speaks for all, so the others wait a moment for it.
    """
    if group.size == 1 or isinstance(error, SystemExit | KeyboardInterrupt):
        return error
    who = f"process {group.rank} of {group.size}"
    if not _is_loss(error):
        _tell(group.rank, error)
        if group.rank == 0:
            return error
        if _heard(f"{FAILURE}/0") == str(error):
            return EndedError(f"the first process failed alike: {error}")
        return RuntimeError(f"{who}: {error}")
    if (reason := _heard(FAILURE)) is not None:
        return EndedError(f"another process failed: {reason}")
    message = f"{who} lost another, which ended without a reason: killed, or out of memory"
    return EndedError(message) if "TORCHELASTIC_RUN_ID" in os.environ else LostError(message)  # torchrun says which


def _tell(rank: int, error: BaseException) -> None:
    import torch.distributed as dist

    with suppress(RuntimeError):  # the process that keeps the store is gone
        store = dist.distributed_c10d._get_default_store()
        for key in (f"{FAILURE}/{rank}", FAILURE):
            store.set(key, str(error))


def _heard(key: str) -> str | None:
    """Return what a process has told, None if nothing comes."""
    import torch.distributed as dist

    with suppress(RuntimeError):
        store = dist.distributed_c10d._get_default_store()
        until = time.monotonic() + REASON_SECONDS
        while not store.check([key]):
            if time.monotonic() > until:
                return None
            time.sleep(0.05)
        return str(store.get(key).decode())
    return None


def _is_loss(error: BaseException | None) -> bool:
    """Return whether an error is the consequence of another process's end, in our exchanges or in DDP's."""
    while error is not None:
        if isinstance(error, LostError):
            return True
        words = str(error)
        if isinstance(error, RuntimeError) and ("gloo" in words or "Connection" in words or "NCCL" in words):
            return True
        error = error.__cause__
    return False


def _start_again(processes: int, num_nodes: int) -> None:
    """Run this command in several processes; always raise `EndedError`, with its exit status."""
    program = Path(sys.argv[0])
    if num_nodes > 1 or not (
        program.name == "recsys-dl" or program.resolve().parent == Path(__file__).resolve().parent
    ):
        raise ValueError(
            f"{processes} processes on num_nodes={num_nodes} must be started by torchrun or Slurm; see docs/processes.md"
        )
    with importing():
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch").setLevel(logging.CRITICAL)
    how = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=5,
    )
    try:
        elastic_launch(how, sys.executable)("-m", "recsys_dl", *sys.argv[1:])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise RuntimeError(
                f"process {rank} of {processes} was ended by {failure.signal_name()}, and the others with it"
                f"{'; it may have needed too much memory' if failure.signal_name() == 'SIGKILL' else ''}"
            ) from None
        raise EndedError("the processes ended", failure.exitcode) from None
    except SignalException as stop:
        raise KeyboardInterrupt from stop
    raise EndedError("the processes have finished", 0)
