"""What `gpu_check.py` runs: jobs of realistic size for every kernel, each with its answer by float64 NumPy.

B rows asked for, U users, I items, D embedding size, K list, N interactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

COMPARED = 24  # rows of each answer that float64 NumPy computes again


class Check(NamedTuple):
    """One job of one kernel, at one size."""

    kernel: str  # the module in kernels/cuda
    job: str
    tolerance: float
    inputs: tuple[np.ndarray, ...]
    run: Callable[[Sequence[Any], str], Sequence[Any]]  # inputs and a device -> outputs
    error: Callable[[Sequence[np.ndarray]], float]  # of outputs: the largest, as a share of the largest true value


def interactions(num_users: int, num_items: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indptr and ascending items of users who each have `each` items or fewer; popularity falls as a power law."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(num_users), each)
    items = (num_items * rng.random(len(users)) ** 3).astype(np.int64)
    pairs = np.unique(users * num_items + items)
    indptr = np.searchsorted(pairs, np.arange(num_users + 1) * num_items)
    return indptr.astype(np.int64), (pairs % num_items).astype(np.int32)


def embeddings(rows: int, size: int, seed: int) -> np.ndarray:
    """Return float32 [rows, size] of about unit length."""
    return np.random.default_rng(seed).standard_normal((rows, size), np.float32) / np.float32(np.sqrt(size))


def relative(got: np.ndarray, exact: np.ndarray) -> float:
    """Return the largest difference, as a share of the largest exact value; infinite if any is not finite."""
    if not np.isfinite(got).all():
        return np.inf
    return float(np.abs(got - exact).max(initial=0) / max(np.abs(exact).max(initial=0), 1e-30))


def top_k_checks(tiny: bool) -> Iterator[Check]:
    """Selection alone, and with products."""
    from recsys_dl.kernels.item_lists import ItemLists
    from recsys_dl.kernels.topk import top_k, top_k_dot

    num_users, num_items, size, k = (2, 140, 9, 20) if tiny else (4096, 26_744, 64, 100)
    indptr, seen = interactions(num_users, num_items, min(num_items // 4, 120))
    query_BD, item_emb_ID = embeddings(num_users, size, 1), embeddings(num_items, size, 2)
    scores_BI = query_BD @ item_emb_ID.T

    def error_of(exact_BI: np.ndarray, outputs: Sequence[np.ndarray]) -> float:
        """Scores must be the best there are, in order, and belong to their items."""
        items_BK, best_BK = (part[: len(exact_BI)] for part in outputs)
        for b in range(len(exact_BI)):
            exact_BI[b, seen[indptr[b] : indptr[b + 1]]] = -np.inf
        true_BK = -np.sort(-exact_BI, axis=1)[:, :k]
        return max(relative(best_BK, true_BK), relative(np.take_along_axis(exact_BI, items_BK, 1), true_BK))

    def selected(inputs: Sequence[Any], device: str) -> Sequence[Any]:
        scores, starts, ends, items = inputs
        return top_k(scores, k, exclude=ItemLists(starts, ends, items), device=device)

    def with_products(inputs: Sequence[Any], device: str) -> Sequence[Any]:
        query, item_emb, starts, ends, items = inputs
        return top_k_dot(query, item_emb, k, exclude=ItemLists(starts, ends, items), device=device)

    some = min(COMPARED, num_users)
    lists = indptr[:-1].copy(), indptr[1:].copy(), seen
    yield Check(
        "topk",
        f"best {k} of {num_users} x {num_items} scores, seen items left out",
        0.0,  # scores are copied, not computed
        (scores_BI, *lists),
        selected,
        lambda outputs: error_of(scores_BI[:some].astype(np.float64), outputs),
    )
    exact_BI = query_BD[:some].astype(np.float64) @ item_emb_ID.T.astype(np.float64)
    yield Check(
        "topk",
        f"best {k} of {num_users} x {num_items} products, D={size}",
        1e-5,  # D roundings of 6e-8, of terms up to a few times the sum
        (query_BD, item_emb_ID, *lists),
        with_products,
        lambda outputs: error_of(exact_BI.copy(), outputs),
    )


def als_checks(tiny: bool) -> Iterator[Check]:
    """A half-step with each solver, against dense float64 algebra: many rows of some entries, and some of many."""
    if tiny:
        yield from half_steps(5, 40, 12, 8, 1e-4)
        return
    for size in (64, 256):
        yield from half_steps(
            50_000, 20_000, 100, size, 1e-4
        )  # float32 rounding times a condition number of some hundreds
        yield from half_steps(8, 200_000, 100_000, size, 1e-3)  # which also grows with the terms of a sum


def half_steps(num_users: int, num_items: int, each: int, size: int, tolerance: float) -> Iterator[Check]:
    """A half-step of one size."""
    from recsys_dl.kernels.als import Observed, solve_rows

    indptr, items = interactions(num_users, num_items, each)
    rng = np.random.default_rng(3)
    weights = 1 + rng.random(len(items), np.float32)
    targets = 1 + weights
    penalties = np.full(num_users, 10, np.float32)
    fixed_SD, start_RD = embeddings(num_items, size, 4), embeddings(num_users, size, 5)
    gram = fixed_SD.T.astype(np.float64) @ fixed_SD
    for solver in ("cholesky", "cg", "ials++"):
        exact = np.array(
            [
                half_step(
                    solver,
                    gram + 10 * np.eye(size) + (near.T * weights[part]) @ near,
                    near.T @ targets[part].astype(np.float64),
                    start_RD[user].astype(np.float64),
                )
                for user in range(min(COMPARED, num_users))
                for part in [slice(indptr[user], indptr[user + 1])]
                for near in [fixed_SD[items[part]].astype(np.float64)]
            ]
        )
        yield Check(
            "als",
            f"{solver} over {num_users} x {num_items}, {len(items)} entries, D={size}",
            tolerance,
            (indptr, items, weights, targets, penalties, fixed_SD, start_RD),
            lambda inputs, device, solver=solver: [
                solve_rows(
                    Observed(*inputs[:5]), *inputs[5:], all_weight=1.0, solver=solver, block_size=32, device=device
                )
            ],
            lambda outputs, exact=exact: relative(outputs[0][: len(exact)], exact),
        )


def half_step(solver: str, matrix: np.ndarray, right: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return one row as the solver should leave it: exact, after three steps, or after one pass over blocks of 32."""
    if solver == "cholesky":
        return np.linalg.solve(matrix, right)
    x = x.copy()
    if solver == "ials++":
        for begin in range(0, len(x), 32):
            block = slice(begin, begin + 32)
            x[block] += np.linalg.solve(matrix[block, block], (right - matrix @ x)[block])
        return x
    residual = right - matrix @ x
    direction = residual
    for _ in range(3):
        length = residual @ residual / (direction @ matrix @ direction)
        x += length * direction
        fresh = residual - length * matrix @ direction
        direction = fresh + fresh @ fresh / (residual @ residual) * direction
        residual = fresh
    return x


def similarity_checks(tiny: bool) -> Iterator[Check]:
    """Neighbors of items by each kind of sum, against dense float64 similarities."""
    from recsys_dl.kernels.comparison import Vectors
    from recsys_dl.kernels.similarity import nearest
    from recsys_dl.kernels.vectors import prepare

    num_items, num_users, each, k = (11, 15, 8, 5) if tiny else (10_000, 50_000, 100, 100)
    indptr, users = interactions(num_items, num_users, each)
    values = np.random.default_rng(6).integers(1, 6, len(users)).astype(np.float32)
    for measure, tolerance in (("cosine", 1e-5), ("jaccard", 1e-6), ("pearson", 1e-4)):  # pearson subtracts squares

        def near(inputs: Sequence[Any], device: str, measure: str = measure) -> Sequence[Any]:
            return nearest(prepare(Vectors(*inputs, num_users), measure=measure, min_common=2), k, device=device)

        def error_of(outputs: Sequence[np.ndarray], measure: str = measure) -> float:
            worst = 0.0
            for item in range(0, num_items, -(-num_items // COMPARED)):
                sims_I = similarities(indptr, users, values, num_users, item, measure)
                exact_K = -np.sort(-np.where(sims_I > 0, sims_I, -np.inf))[:k]
                there = np.isfinite(exact_K)
                if not np.array_equal(there, outputs[0][item] >= 0):
                    return np.inf
                worst = max(worst, relative(outputs[1][item][there], exact_K[there]))
            return worst

        yield Check(
            "similarity",
            f"{k} nearest of {num_items} items by {measure}, {len(users)} entries",
            tolerance,
            (indptr, users, values),
            near,
            error_of,
        )


def similarities(
    indptr: np.ndarray, users: np.ndarray, values: np.ndarray, num_users: int, item: int, measure: str
) -> np.ndarray:
    """Return float64 similarities of one item to all, itself and those with under two users in common left out."""
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    x_U = np.zeros(num_users)
    x_U[users[indptr[item] : indptr[item + 1]]] = values[indptr[item] : indptr[item + 1]]
    common = x_U[users] > 0

    def sums(weights: np.ndarray) -> np.ndarray:
        return np.bincount(rows, weights, len(indptr) - 1)

    x, y = x_U[users], values.astype(np.float64)
    count = sums(common)
    with np.errstate(invalid="ignore", divide="ignore"):
        if measure == "cosine":
            sims_I = sums(x * y) / np.sqrt((x_U**2).sum() * sums(y * y))
        elif measure == "jaccard":
            sizes = np.diff(indptr)
            sims_I = count / (sizes[item] + sizes - count)
        else:
            y = y * common
            spread = (count * sums(x * x) - sums(x) ** 2) * (count * sums(y * y) - sums(y) ** 2)
            sims_I = np.where(spread > 0, (count * sums(x * y) - sums(x) * sums(y)) / np.sqrt(spread), 0)
    sims_I[count < 2] = 0
    sims_I[item] = 0
    return sims_I


def neighbor_checks(tiny: bool) -> Iterator[Check]:
    """A block of sparse histories times a sparse item table."""
    from recsys_dl.kernels.comparison import Vectors
    from recsys_dl.kernels.neighbors import sparse_product

    rows, num_items, each = (4, 50, 6) if tiny else (2048, 20_000, 100)
    left, right = interactions(rows, num_items, each), interactions(num_items, num_items, each)
    rng = np.random.default_rng(7)
    values = [rng.random(len(part[1]), np.float32) for part in (left, right)]
    some = min(COMPARED, rows)
    exact_BI = np.zeros((some, num_items))
    for b in range(some):
        for n in range(left[0][b], left[0][b + 1]):
            line = slice(right[0][left[1][n]], right[0][left[1][n] + 1])
            exact_BI[b, right[1][line]] += float(values[0][n]) * values[1][line]

    def product(inputs: Sequence[Any], device: str) -> Sequence[Any]:
        return [sparse_product(Vectors(*inputs[:3], num_items), Vectors(*inputs[3:], num_items), device=device)]

    yield Check(
        "neighbors",
        f"{rows} histories of {each} times {num_items} lists of {each}",
        1e-5,  # a sum of at most a hundred positive terms
        (*left, values[0], *right, values[1]),
        product,
        lambda outputs: relative(outputs[0][:some], exact_BI),
    )


def negative_checks(tiny: bool) -> Iterator[Check]:
    """Draws, alike and by popularity: the very items that exact integers give."""
    from recsys_dl.kernels.draws import ItemWeights
    from recsys_dl.kernels.negatives import item_weights, sample_negatives
    from recsys_dl.kernels.random import random_bits, stream_key

    num_users, num_items, each, num_negatives = (4, 30, 9, 3) if tiny else (100_000, 20_000, 100, 16)
    indptr, items = interactions(num_users, num_items, each)
    users_P = np.random.default_rng(8).permutation(num_users).astype(np.int32)
    popularity_I = np.bincount(items, minlength=num_items) ** 0.75
    weighted = item_weights(popularity_I, items)

    def mismatches(drawn_PS: np.ndarray, weights_I: np.ndarray) -> float:
        """Return the share of draws that differ from ranks among the others, by whole numbers of any length."""
        wrong = 0
        for p in range(min(COMPARED, num_users)):
            others_I = weights_I.copy()
            others_I[items[indptr[users_P[p]] : indptr[users_P[p] + 1]]] = 0
            reach_I = np.cumsum(others_I)
            for s in range(num_negatives):
                with np.errstate(over="ignore"):
                    bits = int(random_bits(stream_key(9), np.uint64(p * num_negatives + s)))
                wrong += int(drawn_PS[p, s] != np.searchsorted(reach_I, bits * int(reach_I[-1]) >> 64, side="right"))
        return wrong / drawn_PS.size

    def alike(inputs: Sequence[Any], device: str) -> Sequence[Any]:
        return [sample_negatives(*inputs, num_items, num_negatives, seed=9, device=device)]

    def by_popularity(inputs: Sequence[Any], device: str) -> Sequence[Any]:
        weights = ItemWeights(*inputs[3:])
        return [sample_negatives(*inputs[:3], num_items, num_negatives, seed=9, weights=weights, device=device)]

    size = f"{num_users} x {num_negatives} items, {len(items)} entries"
    ones_I = np.ones(num_items, np.uint64)
    yield Check(
        "negatives",
        f"draw {size}, alike",
        0.0,  # whole numbers
        (users_P, indptr, items),
        alike,
        lambda outputs: mismatches(outputs[0], ones_I),
    )
    yield Check(
        "negatives",
        f"draw {size}, by popularity",
        0.0,
        (users_P, indptr, items, *weighted),
        by_popularity,
        lambda outputs: mismatches(outputs[0], np.diff(weighted.below_I1)),
    )


def bpr_checks(tiny: bool) -> Iterator[Check]:
    """An epoch: small against its steps one by one in NumPy, large against the same steps in float64 on the CPU."""
    from recsys_dl.kernels.bpr import bpr_epoch

    def epoch(inputs: Sequence[Any], device: str) -> Sequence[Any]:
        bpr_epoch(*inputs, learning_rate=0.05, regularization=0.01, seed=10, epoch=1, device=device)
        return inputs[2:]

    for num_users, num_items, each, size, by_steps in (
        ((6, 70, 12, 4, True),) if tiny else ((2000, 2000, 60, 32, True), (50_000, 20_000, 100, 64, False))
    ):
        indptr, items = interactions(num_users, num_items, each)
        tables = embeddings(num_users, size, 11), embeddings(num_items, size, 12), np.zeros(num_items, np.float32)
        exact = [table.astype(np.float64) for table in tables]
        if by_steps:
            bpr_steps(indptr, items, *exact, rate=0.05, decay=0.05 * 0.01, seed=10, epoch=1)
        else:
            epoch((indptr, items, *exact), "cpu")
        yield Check(
            "bpr",
            f"one epoch over {num_users} x {num_items}, {len(items)} entries, D={size}",
            1e-4,  # some hundreds of steps a row, each rounded to 6e-8
            (indptr, items, *tables),
            epoch,
            lambda outputs, exact=exact: max(map(relative, outputs, exact)),
        )


@np.errstate(over="ignore")
def bpr_steps(
    indptr: np.ndarray,
    items: np.ndarray,
    user_emb: np.ndarray,
    item_emb: np.ndarray,
    bias: np.ndarray,
    *,
    rate: float,
    decay: float,
    seed: int,
    epoch: int,
) -> None:
    """Take the steps that `kernels/bpr.py` describes, one after another."""
    from recsys_dl.kernels.bpr_blocks import num_blocks
    from recsys_dl.kernels.random import random_bits, stream_key

    num_users, num_items = len(indptr) - 1, len(item_emb)
    blocks = num_blocks(num_users, num_items, len(items))
    key = stream_key(seed, epoch)
    shuffled_I = np.argsort(random_bits(~key, np.arange(num_items, dtype=np.uint64)), kind="stable")
    place_I = np.argsort(shuffled_I)
    ends = np.arange(blocks + 1) * num_items // blocks
    first_user = np.searchsorted(indptr, np.arange(blocks + 1) * len(items) // blocks)
    first_user[0], first_user[-1] = 0, num_users
    users_N = np.repeat(np.arange(num_users), np.diff(indptr))
    user_block_N = np.searchsorted(first_user, users_N, side="right") - 1
    item_block_N = np.searchsorted(ends, place_I[items], side="right") - 1
    order = np.lexsort((users_N, item_block_N, user_block_N))
    diagonal_N = (item_block_N[order] - user_block_N[order]) % blocks
    for n in np.argsort(diagonal_N, kind="stable"):
        user, item, block = users_N[order[n]], items[order[n]], item_block_N[order[n]]
        own = place_I[items[indptr[user] : indptr[user + 1]]]
        others = np.setdiff1d(np.arange(ends[block], ends[block + 1]), own)
        if len(others) == 0:
            continue
        bits = random_bits(key, np.uint64(n))
        for again in range(17):
            rank = int(bits) * (int(ends[block + 1] - ends[block]) if again < 16 else len(others)) >> 64
            place = ends[block] + rank if again < 16 else others[rank]
            if place not in own:
                break
            bits = random_bits(bits, np.uint64(again))
        other = shuffled_I[place]
        p, q, r = user_emb[user].copy(), item_emb[item].copy(), item_emb[other].copy()
        pull = rate / (1 + np.exp(bias[item] - bias[other] + p @ (q - r)))
        user_emb[user] += pull * (q - r) - decay * p
        item_emb[item] += pull * p - decay * q
        item_emb[other] -= pull * p + decay * r
        bias[item] += pull - decay * bias[item]
        bias[other] -= pull + decay * bias[other]


CHECKS = (top_k_checks, als_checks, similarity_checks, neighbor_checks, negative_checks, bpr_checks)
