"""A plan: the parts of a training's memory with those of the log and the process, its traffic and its seconds, and a verdict.

P processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from recsys_dl.evaluation.rendering import text_table
from recsys_dl.names import with_article
from recsys_dl.provenance import memory_limit
from recsys_dl.sizes import LogSize, Part, Sizes, peak

from .calibration import Calibration
from .devices import BANDWIDTH_SHARE, DEVICES, FLOPS_SHARE, LINK_SHARE, USABLE, Machines

KEPT = 20  # bytes per row of the columns of a log
# bytes more while a file is read: per row, and of the reader's buffers per row, up to their size (docs/benchmarks/reading.md)
READING, BUFFERED, BUFFERS = 14, 220, 220e6
COLUMNS, MATRICES = (
    "columns, whole and split",
    ("by user", "by item", "pairs and their order"),
)  # parts that may be mapped from files
ID_BYTES = 100  # of a user's or an item's id, with its place in the vocabulary
MOST_ROWS = int(np.iinfo(np.int32).max)  # rows and positions in SciPy's matrices are int32
OF_THE_HOST = ("process", "log")  # kinds of parts that do not lie on an accelerator
MOST_DEVICES = 1 << 20  # tried for how many would do
LARGE = 0.05  # share of a device's memory from which a part is worth dividing


@dataclass(frozen=True)
class Plan:
    """What a training would take.

    Attributes:
        name: of the model.
        log: its training log.
        machines: where it is to run.
        sizes: as the model states them; None if it does not.
        parts: of memory of one process, undivided, with those of the log and the process.
        calibration: speeds of this machine; None for other devices, whose published peaks are used.
        index_bytes: memory of an index of the item vectors, if one is chosen.
        capacity: bytes that a process may use.
    """

    name: str
    log: LogSize
    machines: Machines
    sizes: Sizes | None
    parts: Sequence[Part]
    calibration: Calibration | None
    index_bytes: float | None
    capacity: float

    # Memory

    def process_bytes(self, count: int, *, by_rows: bool) -> float:
        """Return the peak of one of `count` processes: dividing what this version divides, or, if `by_rows`, all that can be."""
        return peak(
            [
                replace(part, num_bytes=part.num_bytes / count)
                if part.divided or (by_rows and part.by is not None)
                else part
                for part in self._of_a_process
            ]
        )

    @property
    def needed(self) -> float:
        """Peak bytes of one process, as this version trains."""
        return self.process_bytes(self.machines.count, by_rows=False)

    @property
    def fits(self) -> bool | None:
        """Whether every process has enough memory; None if the model's sizes are unknown."""
        return None if self.sizes is None else self.needed <= self.capacity

    @property
    def checkpoint_bytes(self) -> float:
        """Bytes of a checkpoint on the disk."""
        return sum(part.num_bytes for part in self.parts if part.resumed)

    @property
    def run_bytes(self) -> float:
        """Bytes of a run folder on the disk: the model, what users interacted with, and ids."""
        seen = 8.0 * self.log.num_interactions
        return seen + sum(part.num_bytes for part in self.parts if part.saved or part.name == "ids")

    def enough(self) -> int | None:
        """Return the smallest number of processes on which everything fits if it is divided by rows; None if none does."""
        counts = (count for exponent in range(21) for count in (1 << exponent, 3 << exponent >> 1))
        tried = sorted({count for count in counts if 1 <= count <= MOST_DEVICES})
        return next((count for count in tried if self.process_bytes(count, by_rows=True) <= self.capacity), None)

    # Traffic and time

    @property
    def step_traffic(self) -> float:
        """Bytes that a process receives per step."""
        count = self.machines.count
        if self.sizes is None or count == 1:
            return 0.0
        fetched = self.sizes.fetched / count
        return (2 * self.sizes.reduced + self.sizes.gathered + fetched) * (count - 1) / count

    @property
    def epoch_seconds(self) -> float | None:
        """Predicted seconds of an epoch, or of the fit of a model without epochs; None if the model's sizes are unknown."""
        if self.sizes is None:
            return None
        if self.machines.device is None:
            assert self.calibration is not None
            return self.calibration.epoch(self.sizes)
        device = DEVICES[self.machines.device]
        computing = sum(
            max(work.operations / (device.flops * FLOPS_SHARE), work.moved / (device.bandwidth * BANDWIDTH_SHARE))
            for work in self.sizes.work
        )
        exchanging = self.sizes.steps * self.step_traffic / (device.link * LINK_SHARE)
        return computing / self.machines.count + exchanging

    # Words

    def text(self) -> str:
        """Return the plan as tables and a verdict."""
        log = self.log
        lines = [
            f"{self.name} on {log.num_interactions:,} interactions of {log.num_users:,} users and {log.num_items:,} items; "
            f"{self.machines}",
            "",
        ]
        if self.sizes is None:
            return "\n".join(
                [
                    *lines,
                    f"unknown for {self.name}: the model does not state what its training takes",
                    *self._log_lines(),
                ]
            )
        return "\n".join([*lines, self._table(), "", *self._figures(self.sizes), "", *self._verdict(self.sizes)])

    def _table(self) -> str:
        when = {
            "held": "",
            "start": "at the start",
            "epoch": "while training",
            "end": "at the end",
            "file": "mapped from files",
        }
        rows = [
            [part.kind, part.name, in_bytes(part.num_bytes), part.by or "-", when[part.when]]
            for part in self.parts
            if part.num_bytes
        ]
        return _left([["part", "of", "bytes", "divisible by", "only"], *rows])

    def _figures(self, sizes: Sizes) -> Iterator[str]:
        yield f"peak of a process: {in_bytes(self.needed)}"
        if self.machines.device is not None:
            host = peak([part for part in self.parts if part.kind in OF_THE_HOST])
            yield f"memory of its host besides: {in_bytes(host)}"
        yield f"on the disk: run folder {in_bytes(self.run_bytes)}" + (
            f", checkpoint {in_bytes(self.checkpoint_bytes)}" if self.checkpoint_bytes else ""
        )
        if self.index_bytes is not None:
            yield f"index: {in_bytes(self.index_bytes)}"
        count = self.machines.count
        if count > 1 and not self.step_traffic:
            yield "network: nothing; this model is not trained by several processes"
        elif count > 1:
            yield f"network: {in_bytes(self.step_traffic)} received by each process per step, {sizes.steps:,} steps per epoch"
        seconds = self.epoch_seconds
        assert seconds is not None
        if self.calibration is not None:
            how = f"calibrated in {self.calibration.seconds:.0f} s on {len(self.calibration.logs)} small logs"
        else:
            how = f"on paper: {FLOPS_SHARE:.0%} of peak float32, {BANDWIDTH_SHARE:.0%} of memory bandwidth, {LINK_SHARE:.0%} of links"
        if sizes.epochs is None:
            yield f"fit: {in_seconds(seconds)} ({how})"
        else:
            whole = in_seconds(seconds * sizes.epochs)
            yield f"epoch: {in_seconds(seconds)} ({how}); {sizes.epochs} epochs: {whole}"
        for note in sizes.notes:
            yield f"not counted: {note}"

    def _verdict(self, sizes: Sizes) -> Iterator[str]:
        where = f"{with_article(self.machines.device.upper())} has" if self.machines.device else "this machine has"
        shared = (
            f" for each of {self.machines.count} processes"
            if self.machines.count > 1 and not self.machines.device
            else ""
        )
        if self.fits:
            yield f"fits: a process needs {in_bytes(self.needed)}, and {where} {in_bytes(self.capacity)}{shared}"
        else:
            yield f"DOES NOT FIT: a process needs {in_bytes(self.needed)}, and {where} {in_bytes(self.capacity)}{shared}"
            yield from self._advice(sizes)
        yield from self._log_lines()

    def _advice(self, sizes: Sizes) -> Iterator[str]:
        large = [part for part in self._of_a_process if part.num_bytes >= LARGE * self.capacity]
        large.sort(key=lambda part: -part.num_bytes)
        dividable = [] if sizes.sharded is None or self.machines.device else sizes.sharded.parts
        for part in large:
            how = f"could be divided by {part.by}" if part.by else "each process needs all of it"
            if any(one.divided and (one.kind, one.name) == (part.kind, part.name) for one in dividable):
                how = "is divided among processes by trainer.shard_tables=true"
            if part.divided:
                how = "is divided among processes" + (
                    "; or lower model.batch_size" if part.kind == "activations" else ""
                )
            yield f"  {part.kind}, {part.name}: {in_bytes(part.num_bytes)}; {how}"
        enough = self.enough()
        noun = f"{self.machines.device}s" if self.machines.device else "such machines"
        if enough is None:
            yield "  divided by rows it would not fit on any number: what each process needs whole is too large"
        else:
            yield f"  with all that divided by rows, {enough:,} {noun} would do"
        done = ", ".join(f"{part.kind} ({part.name})" for part in self._of_a_process if part.divided) or "nothing"
        yield f"  this version divides among processes: {done}; the rest is whole on each (docs/scale.md)"

    def _log_lines(self) -> Iterator[str]:
        if self.log.num_interactions > MOST_ROWS:
            yield f"more than {MOST_ROWS:,} interactions: one matrix or one folder of shards cannot hold them, see docs/scale.md"

    @property
    def _of_a_process(self) -> list[Part]:
        if self.machines.device is None:
            return list(self.parts)
        return [part for part in self.parts if part.kind not in OF_THE_HOST]


def check_rows(log: LogSize, where: Machines) -> None:
    """Check that a log can be trained on, and divided among that many processes.

    Raises:
        ValueError: more processes than users or items, or more rows than int32 can number.
    """
    rows = min(log.num_users, log.num_items)
    if where.count > rows:
        raise ValueError(
            f"{where.count:,} processes are more than the {rows:,} rows of the smaller side to divide; take fewer"
        )
    if max(log.num_users, log.num_items) > MOST_ROWS:
        raise ValueError(
            f"users and items are numbered in int32, at most {MOST_ROWS:,}, got {max(log.num_users, log.num_items):,}"
        )


def make_plan(
    name: str,
    log: LogSize,
    where: Machines,
    sizes: Sizes | None,
    calibration: Calibration | None,
    *,
    read: int | None = None,
    mapped: bool = False,
    index_bytes: float | None = None,
    best_weights: bool = False,
) -> Plan:
    """Return the plan of a training.

    Args:
        name: of the model.
        log: the training log.
        where: it is to run.
        sizes: as the model states them; None if it does not.
        calibration: of this machine; None for other devices.
        mapped: whether the log's columns and matrices are files that the system caches as far as memory allows (data=shards).
        read: interactions of the whole log that is read and split; None if only the training log is known.
        index_bytes: of an index, if one is chosen.
        best_weights: whether early stopping keeps a second copy of the weights.
    """
    num = log.num_interactions if read is None else read
    parts = [
        Part("process", "libraries and compiled code", 0.0 if calibration is None else calibration.process_bytes),
        Part("log", COLUMNS, KEPT * (num + log.num_interactions), "interactions"),
        Part("log", "ids", ID_BYTES * (log.num_users + log.num_items), "users"),
        Part("log", "reading", READING * num + min(BUFFERED * num, BUFFERS), "interactions", when="start"),
        *(() if sizes is None else sizes.parts),
    ]
    if mapped:
        parts = [replace(part, when="file") if part.name in (COLUMNS, *MATRICES) else part for part in parts]
        parts = [part for part in parts if part.name != "reading"]
    if best_weights and sizes is not None:
        weights = sum(part.num_bytes for part in sizes.parts if part.kind == "tables")
        divided = any(part.divided for part in sizes.parts if part.kind == "tables")
        parts.append(Part("tables", "weights of the best epoch", weights, "items", divided=divided, resumed=True))
    capacity = USABLE * DEVICES[where.device].memory if where.device else memory_limit() / where.count
    return Plan(name, log, where, sizes, parts, calibration, index_bytes, capacity)


def in_bytes(num: float) -> str:
    """Return a number of bytes in a decimal unit, to three digits."""
    units = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
    at = min(len(units) - 1, max(0, int(np.log10(max(num, 1)) // 3)))
    value = num / 1000**at
    return f"{value:,.0f} {units[at]}" if at == 0 or value >= 99.95 else f"{value:.3g} {units[at]}"


def in_seconds(seconds: float) -> str:
    """Return a duration in seconds, minutes, hours or days."""
    for unit, size in (("days", 2 * 86_400), ("hours", 2 * 3600), ("minutes", 120)):
        if seconds >= size:
            return f"{seconds / {'days': 86_400, 'hours': 3600, 'minutes': 60}[unit]:.1f} {unit}"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def _left(rows: Sequence[Sequence[str]]) -> str:
    header, *body = rows
    return text_table(header, body)
