"""What bounds the kernels: the same arithmetic, with less traffic from memory or less of the rest.

    python scripts/bench_bounds.py              # --log ml-20m --size 64

On a generated log of a real one's size. Each job runs as it is, and with one cost taken out, which makes its answer wrong: rows of the other side that are
all the same one, and so in the first cache; sums of neighbors that lie side by side; products of one number each, lists without the bits of what users
must not get, lists of one item. What is then missing of the seconds is what that cost was. The fastest of three steps counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from recsys_dl.benchmarking.jobs import LOGS, NEIGHBORS
from recsys_dl.benchmarking.ours import AlternatingLeastSquares, ItemNeighbors, Lists
from recsys_dl.data.generated import generated
from recsys_dl.kernels.similarity import nearest
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.kernels.vectors import prepare
from recsys_dl.threads import limit_threads


def main() -> None:
    """Measure; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", choices=LOGS, default="ml-20m")
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    limit_threads(None)
    num_users, num_items, num_interactions = LOGS[asked.log]
    made = generated(num_users=num_users, num_items=num_items, num_interactions=num_interactions, seed=7)
    log_UI = made.interactions.by_user
    log_UI.data[:] = 1
    print("| job | as it is, s | without | s | share of the seconds |\n|---|---|---|---|---|")
    for job, whole, cuts in (als(log_UI, asked.size), neighbors(log_UI), lists(log_UI, asked.size)):
        seconds = fastest(whole)
        for without, cut in cuts.items():
            left = fastest(cut)
            print(f"| {job} | {seconds:.2f} | {without} | {left:.2f} | {1 - left / seconds:.0%} |", flush=True)


def als(log_UI: sp.csr_matrix, size: int) -> tuple[str, Callable[[], Any], dict[str, Callable[[], Any]]]:
    """An epoch by conjugate gradients."""
    made, same = (AlternatingLeastSquares(log_UI, size, "cg", "rendle2022") for _ in range(2))
    same.sides = [side._replace(indices_N=np.zeros_like(side.indices_N)) for side in same.sides]
    return "als_cg", made.step, {"reading rows of the other side from beyond the first cache": same.step}


def neighbors(log_UI: sp.csr_matrix) -> tuple[str, Callable[[], Any], dict[str, Callable[[], Any]]]:
    """The nearest items of every item."""
    made = ItemNeighbors(log_UI, NEIGHBORS)
    prepared = prepare(made.vectors)
    starts, places, values = prepared.columns
    beside = (np.arange(len(places)) - np.repeat(starts[:-1], np.diff(starts))).astype(places.dtype)
    dense = replace(prepared, columns=(starts, beside, values), resident={})
    none = replace(prepared, columns=(np.zeros_like(starts), places[:0], values[:0]), resident={})
    return (
        "item_knn",
        lambda: nearest(prepared, NEIGHBORS, device="cpu"),
        {
            "scattering the sums over the items": lambda: nearest(dense, NEIGHBORS, device="cpu"),
            "multiplying and adding": lambda: nearest(none, NEIGHBORS, device="cpu"),
        },
    )


def lists(log_UI: sp.csr_matrix, size: int) -> tuple[str, Callable[[], Any], dict[str, Callable[[], Any]]]:
    """Every user's best items."""
    made = Lists(log_UI, size, NEIGHBORS)
    narrow = [np.ascontiguousarray(table[:, :1]) for table in (made.users, made.items)]
    return (
        "top_k",
        made.step,
        {
            f"multiplying and adding, but for one of the {size} numbers of a vector": lambda: top_k_dot(
                *narrow, NEIGHBORS, exclude=made.seen, device="cpu"
            ),
            "leaving out what users have": lambda: top_k_dot(made.users, made.items, NEIGHBORS, device="cpu"),
            f"choosing {NEIGHBORS} items instead of one": lambda: top_k_dot(
                made.users, made.items, 1, exclude=made.seen, device="cpu"
            ),
        },
    )


def fastest(step: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of three, after a first one."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times[1:])


if __name__ == "__main__":
    main()
