"""What `gpu_check.py --bench` times: each kernel on a log of MovieLens-20M's size, beside implicit's CUDA build, cuVS and Torch.

U users, I items, N pairs, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from gpu_bounds import DEVICES, DRAWS, SIZES, Device, Work, works

from recsys_dl.benchmarking.jobs import LISTED, LOGS, NEIGHBORS, shape_of
from recsys_dl.benchmarking.ours import AlternatingLeastSquares, ItemNeighbors, PersonalizedRanking, vectors
from recsys_dl.data.generated import generated

SOLVERS = {"als_cg": "cg", "als_exact": "cholesky", "als_blocks": "ials++"}
TINY = (4, 40, 14)  # users, items, interactions: for the simulator
Step = Callable[[], Any]


class Timed(NamedTuple):
    """A job on the device, and who else does it."""

    name: str
    size: int  # D, 0 where there is none
    work: Work
    step: Step
    peers: dict[str, Step | str]  # by name: a step, or why there is none

    def share(self, device: Device, seconds: float) -> float:
        """Return the least time on paper as a share of the time taken."""
        return max(self.work.seconds(device)) / seconds


def device_named(name: str) -> tuple[str, Device]:
    """Return the data-sheet rates of a device; those of an H100 for one that is not listed, and which they are.

    Examples:
        >>> device_named("NVIDIA H200")
        ('H200', Device(bytes_per_second=4800000000000.0, operations_per_second=67000000000000.0))
        >>> device_named("Tesla T4")[0]
        'H100'
    """
    known = next((word for word in DEVICES if word in name), "H100")
    return known, DEVICES[known]


def log_of(num_users: int, num_items: int, num_interactions: int) -> sp.csr_matrix:
    """Return a generated log, every pair once, as a CSR of ones."""
    made = generated(num_users=num_users, num_items=num_items, num_interactions=num_interactions, seed=7).interactions
    log_UI = made.by_user.sign().astype(np.float32)
    log_UI.indices = log_UI.indices.astype(np.int32)
    return log_UI


def timed(tiny: bool) -> Iterator[Timed]:
    """Yield the jobs, one at a time: the arrays of each are on the device while it is timed."""
    log_UI = log_of(*(TINY if tiny else LOGS["ml-20m"]))
    listed, nearest = (3, 3) if tiny else (LISTED, NEIGHBORS)
    for size in (4,) if tiny else SIZES:
        work = works(shape_of(log_UI, size))
        for name, solver in SOLVERS.items():
            peers = implicit_als(log_UI, size) if name == "als_cg" else {}
            yield Timed(name, size, work[name], als(log_UI, size, solver), peers)
        yield Timed("bpr", size, work["bpr"], bpr(log_UI, size), implicit_bpr(log_UI, size))
        yield Timed("top_k", size, work["top_k"], lists(log_UI, size, listed), list_peers(log_UI, size))
    work = works(shape_of(log_UI, 1))
    yield Timed("select", 0, work["select"], selection(log_UI, listed), {})
    yield Timed("item_knn", 0, work["item_knn"], neighbors(log_UI, nearest), {})
    yield Timed("negatives", 0, work["negatives"], negatives(log_UI), {})
    yield Timed("neighbors", 0, work["neighbors"], scores_from_neighbors(log_UI), {})


def here(*arrays: Any) -> Any:
    """Return the arrays on the device."""
    from recsys_dl.kernels.device import place

    return place(arrays, "cuda")


def seen_of(log_UI: sp.csr_matrix) -> Any:
    """Return each user's items on the device, as a list to exclude."""
    from recsys_dl.kernels.item_lists import ItemLists

    indptr = log_UI.indptr.astype(np.int64)
    return ItemLists(*here(indptr[:-1].copy(), indptr[1:].copy(), log_UI.indices))


def als(log_UI: sp.csr_matrix, size: int, solver: Any) -> Step:
    """An epoch of ALS, both sides."""
    from recsys_dl.kernels.als import Observed, solve_rows

    begun = AlternatingLeastSquares(log_UI, size, solver, "rendle2022")
    of_users, of_items = (Observed(*here(*side)) for side in begun.sides)
    state = dict(zip(("users", "items"), here(begun.users, begun.items), strict=True))

    def step() -> None:
        how = {"all_weight": 0.1, "solver": solver, "device": "cuda"}
        state["items"] = solve_rows(of_items, state["users"], state["items"], **how)
        state["users"] = solve_rows(of_users, state["items"], state["users"], **how)

    return step


def bpr(log_UI: sp.csr_matrix, size: int) -> Step:
    """An epoch of BPR."""
    from recsys_dl.kernels.bpr import bpr_epoch

    begun = PersonalizedRanking(log_UI, size)
    arrays = here(log_UI.indptr.astype(np.int64), log_UI.indices, begun.users, begun.items, begun.bias_I)
    return lambda: bpr_epoch(*arrays, learning_rate=0.05, regularization=0.01, seed=7, epoch=0, device="cuda")


def lists(log_UI: sp.csr_matrix, size: int, k: int) -> Step:
    """Every user's best items by inner products, seen ones left out."""
    from recsys_dl.kernels.topk import top_k_dot

    (users, items), seen = here(*vectors(log_UI, size)), seen_of(log_UI)
    return lambda: top_k_dot(users, items, k, exclude=seen, device="cuda")


def selection(log_UI: sp.csr_matrix, k: int) -> Step:
    """The best of as many given scores, a block of users at a time."""
    from recsys_dl.kernels.topk import top_k

    num_users, num_items = log_UI.shape
    block = min(num_users, 8192)
    (scores,) = here(np.random.default_rng(0).random((block, num_items), np.float32))

    def step() -> None:
        for first in range(0, num_users, block):
            top_k(scores[: min(block, num_users - first)], k, device="cuda")

    return step


def neighbors(log_UI: sp.csr_matrix, k: int) -> Step:
    """The nearest items of every item by cosine."""
    from recsys_dl.kernels.comparison import Vectors
    from recsys_dl.kernels.similarity import nearest
    from recsys_dl.kernels.vectors import prepare

    begun = ItemNeighbors(log_UI, k).vectors
    indptr, indices, values = here(begun.indptr_R1.astype(np.int64), begun.indices_N.astype(np.int32), begun.values_N)
    there = Vectors(indptr, indices, values, begun.num_columns)
    return lambda: nearest(prepare(there), k, device="cuda")


def negatives(log_UI: sp.csr_matrix) -> Step:
    """Some negatives for every pair."""
    from recsys_dl.kernels.negatives import sample_negatives

    users = np.repeat(np.arange(log_UI.shape[0], dtype=np.int32), np.diff(log_UI.indptr))
    users, indptr, indices = here(users, log_UI.indptr.astype(np.int64), log_UI.indices)
    return lambda: sample_negatives(users, indptr, indices, log_UI.shape[1], DRAWS, seed=7, device="cuda")


def scores_from_neighbors(log_UI: sp.csr_matrix) -> Step:
    """Every user's history times item lists of `LISTED` neighbors, a block of users at a time."""
    from recsys_dl.kernels.comparison import Vectors
    from recsys_dl.kernels.neighbors import sparse_product

    num_users, num_items = log_UI.shape
    each = min(LISTED, num_items)
    rng = np.random.default_rng(0)
    starts = rng.integers(0, num_items - each + 1, num_items)
    table = here(
        np.arange(num_items + 1, dtype=np.int64) * each,
        (starts[:, None] + np.arange(each)).astype(np.int32).ravel(),
        rng.random(num_items * each, np.float32),
    )
    right = Vectors(*table, num_items)
    blocks = []
    for first in range(0, num_users, 8192):
        some = log_UI[first : first + 8192]
        blocks.append(Vectors(*here(some.indptr.astype(np.int64), some.indices.astype(np.int32), some.data), num_items))

    def step() -> None:
        for left in blocks:
            sparse_product(left, right, device="cuda")

    return step


def implicit_on_gpu() -> str:
    """Return why implicit's CUDA build cannot run, "" if it can."""
    if find_spec("implicit") is None:
        return "not installed"
    from implicit import gpu

    return "" if gpu.HAS_CUDA else "installed without CUDA"


def implicit_als(log_UI: sp.csr_matrix, size: int) -> dict[str, Step | str]:
    """implicit's ALS on its CUDA build: conjugate gradients, three steps."""
    if why := implicit_on_gpu():
        return {"implicit": why}
    from implicit.gpu.als import AlternatingLeastSquares as Peer

    model = Peer(factors=size, iterations=1, random_state=7)
    return {"implicit": lambda: model.fit(log_UI, show_progress=False)}


def implicit_bpr(log_UI: sp.csr_matrix, size: int) -> dict[str, Step | str]:
    """implicit's BPR on its CUDA build."""
    if why := implicit_on_gpu():
        return {"implicit": why}
    from implicit.gpu.bpr import BayesianPersonalizedRanking as Peer

    model = Peer(factors=size, iterations=1, random_state=7)
    return {"implicit": lambda: model.fit(log_UI, show_progress=False)}


def list_peers(log_UI: sp.csr_matrix, size: int) -> dict[str, Step | str]:
    """Lists by implicit, cuVS (brute force; seen items not left out) and Torch (a product and topk, likewise)."""
    users, items = vectors(log_UI, size)
    peers: dict[str, Step | str] = {"implicit": implicit_on_gpu(), "cuvs": "not installed", "torch": "no CUDA"}
    if not peers["implicit"]:
        from implicit import gpu
        from implicit.gpu.als import AlternatingLeastSquares as Peer

        model = Peer(factors=size)
        model.user_factors, model.item_factors = gpu.Matrix(users), gpu.Matrix(items)
        everyone = np.arange(len(users))
        peers["implicit"] = lambda: model.recommend(everyone, log_UI, N=LISTED, filter_already_liked_items=True)
    import torch

    if torch.cuda.is_available():
        queries, table = torch.from_numpy(users).cuda(), torch.from_numpy(items).cuda()
        peers["torch"] = lambda: [torch.topk(some @ table.T, LISTED) for some in queries.split(8192)]
        if find_spec("cuvs") is not None:
            from cuvs.neighbors import brute_force

            index = brute_force.build(table, metric="inner_product")
            peers["cuvs"] = lambda: brute_force.search(index, queries, LISTED)
    return peers
