#!/usr/bin/env python
"""What each kernel must at least take on a GPU, on paper: bytes over bandwidth, or operations over the rate of float32.

    python scripts/gpu_bounds.py            # the tables of docs/gpu.md: a log of MovieLens-20M's size on an H100, and one long row
    python scripts/gpu_bounds.py --write    # renew it there

Operations and bytes are those by which `recsys-dl bench kernels` judges the CPU. A gathered row counts as read from memory once; where its
table fits the L2 cache a kernel may beat that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

from recsys_dl.benchmarking.jobs import BLOCK, CG_STEPS, JOBS, LISTED, Shape

PAGE = Path(__file__).parents[1] / "docs/gpu.md"
BEGIN, END = "<!-- made by scripts/gpu_bounds.py -->\n", "<!-- end of bounds -->\n"
# Users, items, distinct pairs and sum over users of their items squared, of the log that `recsys-dl bench kernels` generates as ml-20m
PAPER = (138_493, 26_744, 16_400_000, 4.9e9)
DRAWS = 4  # negatives per pair
SIZES = (64, 128, 256)
LONG = 1_000_000  # entries of a row


class Device(NamedTuple):
    """Data-sheet rates: bytes a second from memory, float32 operations a second without tensor cores."""

    bytes_per_second: float
    operations_per_second: float


DEVICES = {  # by a word of the device's name; data sheets of the SXM boards
    "H200": Device(4.8e12, 67e12),
    "H100": Device(3.35e12, 67e12),
    "A100": Device(2.039e12, 19.5e12),
}

# A multiprocessor of an H100: 132 of them at 1.98 GHz, 128 multiply-adds and 64 bytes of L2 a clock
MULTIPROCESSOR = Device(64 * 1.98e9, 67e12 / 132)


class Work(NamedTuple):
    """What a job amounts to."""

    unit: str
    amount: float  # of units
    operations: float
    bytes: float

    def seconds(self, device: Device) -> tuple[float, float]:
        """Return the time that the bytes take, and the operations."""
        return self.bytes / device.bytes_per_second, self.operations / device.operations_per_second


def works(shape: Shape) -> dict[str, Work]:
    """Return the work of each job on a log of this shape."""
    found = {}
    for name in ("top_k", "als_cg", "als_exact", "als_blocks", "bpr"):
        job = JOBS[name]
        assert job.cost is not None
        found[name] = Work(job.unit, job.amount(shape), *job.cost(shape))
    cells = float(shape.num_users) * shape.num_items
    lists = 8.0 * shape.num_users * LISTED
    found["select"] = Work("users", shape.num_users, cells, 4 * cells + lists)
    found["item_knn"] = Work("multiply-adds", shape.products, 2 * shape.products, 8 * shape.products)
    found["negatives"] = Work(
        "draws", DRAWS * shape.num_pairs, 0.0, 4.0 * DRAWS * shape.num_pairs + 8.0 * shape.num_pairs
    )
    found["neighbors"] = Work(
        "users", shape.num_users, 2.0 * shape.num_pairs * LISTED, 8.0 * shape.num_pairs * LISTED + 4 * cells
    )
    return found


def table() -> str:
    """Return the tables on paper, in Markdown."""
    device = DEVICES["H100"]
    lines = [
        "| job | D | GB | G operations | ms of memory | ms of arithmetic | bound by | at best |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in works(Shape(*PAPER, 64)):
        sized = name in JOBS and JOBS[name].sized
        for size in SIZES if sized else (64,):
            work = works(Shape(*PAPER, size))[name]
            memory, arithmetic = (1000 * seconds for seconds in work.seconds(device))
            bound = "memory" if memory > arithmetic else "arithmetic"
            rate = work.amount / max(memory, arithmetic) * 1000
            lines.append(
                f"| `{name}` | {size if sized else '-'} | {work.bytes / 1e9:.2f} | {work.operations / 1e9:.1f} | {memory:.2f} | "
                f"{arithmetic:.2f} | {bound} | {rate / 1e6:,.1f} M {work.unit}/s |"
            )
    return "\n".join(lines) + "\n\n" + long_rows()


def long_rows() -> str:
    """Return the table of one row of `LONG` entries beside an average one, in Markdown.

    A block gathers each fixed row again at every product (conjugate gradients), or for predictions, matrix and changes (iALS++). Split, a row's
    matrix of all columns is added up by the whole device, which reads each fixed row once.
    """
    device = DEVICES["H100"]
    average = PAPER[2] / PAPER[0]
    lines = [
        f"| solver | D | an average row of {average:.0f} entries, by a block, us | {LONG:,} entries by a block, ms | split, ms | operations split / by a block |",
        "|---|---|---|---|---|---|",
    ]
    for size in (*SIZES, 1024):
        products = CG_STEPS + 1
        entry = {
            "cg": Work("entries", 1, 4.0 * size * products, 4.0 * size * products),
            "ials++": Work("entries", 1, size * (BLOCK + 6.0), 3 * 4.0 * size),
        }
        split = Work("entries", 1, size**2 + 2.0 * size, 4.0 * size)
        for solver, work in entry.items():
            by_block = max(work.seconds(MULTIPROCESSOR))
            lines.append(
                f"| {solver} | {size} | {1e6 * average * by_block:.1f} | {1000 * LONG * by_block:.1f} | "
                f"{1000 * LONG * max(split.seconds(device)):.2f} | {split.operations / work.operations:.1f} |"
            )
    return "\n".join(lines) + "\n"


def on_the_page() -> str:
    """Return the tables that docs/gpu.md holds."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def main() -> None:
    """Print the tables, or write them into docs/gpu.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="renew the tables in docs/gpu.md")
    if parser.parse_args().write:
        before, after = PAGE.read_text().split(BEGIN + on_the_page() + END)
        PAGE.write_text(before + BEGIN + table() + END + after)
    else:
        print(table(), end="")


if __name__ == "__main__":
    main()
