"""Matrix factorization for implicit feedback by alternating least squares."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from typing_extensions import Self

from recsys_dl.arguments import Count, CountOrZero, NotNegative, Positive, Seed
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.als_solver import SolverChoice, solver_for
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.epoch_checkpoint import EpochCheckpoint
from recsys_dl.families.shared_rows import GATHERED_BYTES, SharedRows, halves
from recsys_dl.kernels.als import Observed, Solver, solve_rows
from recsys_dl.kernels.device import Device, fetch, place
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.pair_dots import pair_dots
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.processes import current
from recsys_dl.progress import track
from recsys_dl.protocols import Served
from recsys_dl.sizes import LogSize, Part, Sizes, Work

Objective = Literal["rendle2022", "hu2008"]
DRAWN_AT_ONCE = 1 << 16  # users whose initial embeddings are drawn in float64


class ALS(CatalogModel):
    """score(u, i) = x_u . y_i, where x and y minimize one of two objectives over all pairs, observed or not.

    With r the weight of an interaction (summed if repeated), n_u and n_i the numbers of distinct items of a user and users of
    an item, U users and I items:

    - "rendle2022": `sum_observed r (1 - x.y)^2 + unobserved_weight sum_all (x.y)^2 + regularization (sum_u
      (n_u + unobserved_weight I)^frequency_exponent |x_u|^2 + sum_i (n_i + unobserved_weight U)^frequency_exponent |y_i|^2)`
      (Rendle, Krichene, Zhang, Koren 2022, "Revisiting the Performance of iALS on Item Recommendation Benchmarks",
      eq. 1-4; there r = 1).
    - "hu2008": `sum_all (1 + confidence r) (p - x.y)^2 + regularization (sum_u |x_u|^2 + sum_i |y_i|^2)`, p = 1 where r > 0
      and else 0 (Hu, Koren, Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", eq. 3).

    An epoch solves all items, then all users, so that exact solves leave each user's row equal to `fold_in` of their
    history. A user without interactions gets the most popular items; an item without users has a zero embedding and scores 0. Several processes
    (`recsys_dl.processes`) solve some rows each.

    Args:
        embedding_size: D.
        epochs: number of alternations over both sides.
        regularization: penalty; its scale differs by a factor of about n_u between the objectives.
        objective: which of the two.
        unobserved_weight: weight of every pair, in addition to 1 for observed ones; "rendle2022" only.
        frequency_exponent: 1 penalizes as stochastic gradient descent would, 0 all rows equally; "rendle2022" only.
        confidence: added to a pair's weight of 1 per unit of r; "hu2008" only.
        solver: "cholesky" (exact), "cg" or "ials++": see `kernels.als.solve_rows`; "auto": exact where an epoch is cheap,
            else "cg" (`families.als_solver`).
        cg_steps: conjugate-gradient steps per row and epoch; "cg" only.
        block_size: columns solved together; "ials++" only.
        initial_scale: initial standard deviation of x . y, divided by sqrt(D); keep it small.
        seed: for the initial embeddings.
        device: where to train and recommend.

    Attributes:
        user_emb_UD: float32.
        item_emb_ID: float32.
        train_UI: CSR float32, r of all training interactions, for `fine_tune`.

    Raises:
        ValueError: an argument out of range.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.models import ALS
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> ALS(embedding_size=4, device="cpu").fit(train).recommend([0], k=1, exclude=train).items_BK
        array([[2]], dtype=int32)
    """

    fitted = ("user_emb_UD", "item_emb_ID", "train_UI")
    shares_fit = True
    sparse_advice = ", or set unobserved_weight=0.01 or frequency_exponent=0.5"
    bounded = True
    item_parameters: ClassVar[tuple[str, ...]] = ("item_emb_ID",)
    user_emb_UD: np.ndarray
    item_emb_ID: np.ndarray
    train_UI: sp.csr_matrix

    def __init__(
        self,
        *,
        embedding_size: Count = 64,
        epochs: CountOrZero = 16,
        regularization: Positive = 0.015,
        objective: Objective = "rendle2022",
        unobserved_weight: NotNegative = 0.3,
        frequency_exponent: float = 1.0,
        confidence: NotNegative = 1.0,
        solver: SolverChoice = "auto",
        cg_steps: Count = 3,
        block_size: Count = 32,
        initial_scale: NotNegative = 0.1,
        seed: Seed = 7,
        device: Device = "auto",
    ) -> None:
        self.embedding_size = embedding_size
        self.epochs = epochs
        self.regularization = regularization
        self.objective: Objective = objective
        self.unobserved_weight = unobserved_weight
        self.frequency_exponent = frequency_exponent
        self.confidence = confidence
        self.solver: SolverChoice = solver
        self.cg_steps = cg_steps
        self.block_size = block_size
        self.initial_scale = initial_scale
        self.seed = seed
        self.device = device

    def fit(self, train: Dataset | Interactions, *, checkpoint: str | os.PathLike[str] | None = None) -> Self:
        """Fit to `train`; return self.

        Args:
            train: training interactions.
            checkpoint: folder where both tables are kept after each epoch; if it has those of this fit, it goes on from
                them, with the same result, whatever the number of processes.

        Raises:
            ValueError: a checkpoint of another fit.
        """
        interactions = self._begin(train)
        self.user_emb_UD = np.zeros((0, self.embedding_size), np.float32)
        self.item_emb_ID = self.user_emb_UD
        self._learn(interactions, self.epochs, "ALS", checkpoint)
        return self

    def fine_tune(self, new: Dataset | Interactions, *, epochs: int = 3) -> Self:
        """Continue training with new interactions of known and new users and items; return self.

        All interactions since `fit` are kept (8 bytes each, also in saved folders), the new ones are added (weights of
        repeated pairs are summed), and both sides are solved again from the current embeddings. So nothing is forgotten, and
        the result approaches that of a fit on everything; the cost is `epochs` epochs over all interactions, not just
        the new ones, since in ALS each new interaction changes every row slightly.

        Args:
            new: a Dataset, matched by ids, if the model was fitted on one: known ids keep their rows, new ones are appended.
                Interactions if it was fitted on Interactions: rows past the known ones are new.
            epochs: number of alternations over both sides.

        Raises:
            ValueError: a Dataset for a model without ids, or Interactions with new rows for a model with ids.
        """
        fresh = self._aligned(new)
        interactions = Interactions.concat([Interactions.from_csr(self.train_UI), fresh])
        self._remember(interactions)
        self._learn(interactions, epochs, "ALS, fine-tuning")
        return self

    def loss(self) -> float:
        """Return the objective of the fitted embeddings over the training interactions, in float64."""
        users, items = self.user_emb_UD.astype(np.float64), self.item_emb_ID.astype(np.float64)
        entries = self.train_UI.tocoo()
        total = 0.0
        for first in range(0, entries.nnz, 1 << 16):
            part = slice(first, first + (1 << 16))
            dots_P = np.einsum("pd,pd->p", users[entries.row[part]], items[entries.col[part]])
            weights_P, targets_P = self._weights(entries.data[part].astype(np.float64))
            total += float((weights_P * dots_P**2 - 2 * targets_P * dots_P + targets_P).sum())
        total += self._all_weight * float(((users.T @ users) * (items.T @ items)).sum())
        for emb, counts, others in (
            (users, self.user_counts_U, self.num_items),
            (items, self.item_counts_I, self.num_users),
        ):
            total += float((self._penalties(counts, others).astype(np.float64) * (emb**2).sum(axis=1)).sum())
        return total

    def served(self, seen: Interactions | None = None) -> Served:
        """Return the model as arrays and torch modules for export: see `protocols.Exportable`."""
        from recsys_dl.families.served import SolvedUser, inner_product, stored

        rendle = self.objective == "rendle2022"
        tower = SolvedUser(
            self.item_emb_ID,
            all_weight=self._all_weight,
            confidence=None if rendle else self.confidence,
            regularization=self.regularization,
            unobserved=self.unobserved_weight * self.num_items if rendle else 0.0,
            exponent=self.frequency_exponent if rendle else 0.0,
        )
        return inner_product(self, seen, stored(self, seen), self.item_emb_ID, tower)

    def sizes(self, log: LogSize) -> Sizes:
        """Return what training takes: see `recsys_dl.sizes`."""
        rows, size, num = log.num_users + log.num_items, self.embedding_size, log.num_interactions
        users, items = 4.0 * size * log.num_users, 4.0 * size * log.num_items
        by_entry = 0 if self.objective == "rendle2022" else 16.0  # weights and targets of both sides
        solved = {"cholesky": size**2, "cg": 4 * size * (self.cg_steps + 1), "ials++": 2 * size * self.block_size}
        solver = solver_for(self.solver, size, num, rows)
        a_row = size**3 / 3 if solver == "cholesky" else 2.0 * size**2 * (self.cg_steps + 1)
        parts = [
            Part("tables", "user_emb_UD", users, "users", saved=True),
            Part("tables", "item_emb_ID", items, "items", saved=True),
            Part("interactions", "by user", 8.0 * num + 4 * log.num_users, "interactions", saved=True),
            Part("interactions", "by item", 8.0 * num + 4 * log.num_items, "interactions", divided=True, when="epoch"),
            Part("interactions", "bounds and penalties", 12.0 * rows, "users", divided=True, when="epoch"),
            Part("work", "rows being solved", max(users, items), "users", divided=True, when="epoch"),
        ]
        whole = [table for table in (users, items) if table <= GATHERED_BYTES]  # else row by row, as entries need them
        if by_entry:
            parts.append(
                Part("interactions", "weights and targets", by_entry * num, "interactions", divided=True, when="epoch")
            )
        return Sizes(
            parts,
            work=[
                Work("entries", 2.0 * num * solved[solver], 2.0 * num * (4 * size + 8)),
                Work("rows", rows * (a_row + size**2), 8.0 * rows * size),
            ],
            steps=2,
            epochs=self.epochs,
            gathered=sum(whole) / 2,
            fetched=(2 - len(whole)) * 4.0 * size * num / 2,
            vector_size=size,
        )

    def item_vectors(self) -> np.ndarray:
        """Return the item embeddings: scores are inner products with them."""
        self._check_fitted()
        return self.item_emb_ID

    def _start_users(self, first: int, stop: int) -> np.ndarray:
        """Return the known embeddings of some users, and initial ones of new users: the same for any partition."""
        known = len(self.user_emb_UD)
        rows = np.empty((stop - first, self.embedding_size), np.float32)
        old = self.user_emb_UD[first:stop]
        rows[: len(old)] = old
        rng = np.random.default_rng([self.seed, known])
        scale = self.initial_scale / np.sqrt(self.embedding_size)
        for start in range(known, stop, DRAWN_AT_ONCE):
            drawn = scale * rng.standard_normal((min(DRAWN_AT_ONCE, stop - start), self.embedding_size))
            if start + len(drawn) > first:
                rows[max(start - first, 0) : start - first + len(drawn)] = drawn[max(first - start, 0) :]
        return rows

    def _learn(
        self,
        interactions: Interactions,
        epochs: int,
        name: str,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        """Alternate over both sides, starting from the known embeddings; each process solves its own rows."""
        self.train_UI = interactions.by_user
        group, size = current(), self.embedding_size
        kept = EpochCheckpoint(
            checkpoint, group, lambda: {**self.arguments(), "device": "", "data": interactions.content_hash}
        )
        done, state = kept.newest()
        self.user_emb_UD, self.item_emb_ID = state.get("users", self.user_emb_UD), state.get("items", self.item_emb_ID)
        parts = halves(group, self.train_UI, size)
        first, last = parts.items_P1[group.rank : group.rank + 2]
        known_items = self.item_emb_ID[first:last]
        solver = solver_for(self.solver, size, self.train_UI.nnz, sum(self.train_UI.shape))
        users = self._start_users(*parts.users_P1[group.rank : group.rank + 2])
        items = np.pad(known_items, ((0, last - first - len(known_items)), (0, 0)))
        user_side = SharedRows(group, parts.by_user, parts.items_P1, 4 * size)
        item_side = SharedRows(group, parts.by_item, parts.users_P1, 4 * size)
        of_users, of_items = (
            [Observed(*place(self._observed(block.entries), self.device)) for block in side.blocks]
            for side in (user_side, item_side)
        )
        if group.size == 1:
            users, items = place((users, items), self.device)

        def whole() -> dict[str, np.ndarray]:
            sides = {"users": (users, parts.users_P1), "items": (items, parts.items_P1)}
            return {side: group.stacked(fetch(rows), bounds_P1) for side, (rows, bounds_P1) in sides.items()}

        for epoch in track(range(done, epochs), name):
            items = self._solve_side(item_side, of_items, users, items, solver)
            users = self._solve_side(user_side, of_users, items, users, solver)
            kept.keep(epoch + 1, whole)
        self.user_emb_UD, self.item_emb_ID = whole().values()

    def _solve_side(self, side: SharedRows, observed: list[Observed], fixed: Any, start: Any, solver: Solver) -> Any:
        """Return this process's rows of one side from its rows of both."""
        if side.group.size == 1:
            return self._solve(observed[0], fixed, start, solver)
        gram_DD = side.gram.of(fixed) if self._all_weight else None
        solved = np.empty_like(start)
        for block, one, table in zip(side.blocks, observed, side.gathered(fixed), strict=True):
            solved[block.rows] = self._solve(one, table, start[block.rows], solver, gram_DD)
        return solved

    def _solve(
        self, observed: Observed, fixed: Any, start: Any, solver: Solver, gram_DD: np.ndarray | None = None
    ) -> Any:
        return solve_rows(
            observed,
            fixed,
            start,
            all_weight=self._all_weight,
            solver=solver,
            cg_steps=self.cg_steps,
            block_size=self.block_size,
            gram_DD=gram_DD,
            device=self.device,
        )

    def _observed(self, matrix: sp.csr_matrix) -> Observed:
        weights_N, targets_N = self._weights(matrix.data)
        penalties_R = self._penalties(np.diff(matrix.indptr), matrix.shape[1])
        return Observed(matrix.indptr.astype(np.int64), matrix.indices, weights_N, targets_N, penalties_R)

    def _weights(self, r_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.objective == "rendle2022":
            return r_N, r_N
        weights_N = r_N * r_N.dtype.type(self.confidence)
        return weights_N, (1 + weights_N) * (r_N > 0)

    def _penalties(self, counts: np.ndarray, others: int) -> np.ndarray:
        if self.objective == "hu2008":
            return np.full(len(counts), self.regularization, np.float32)
        frequencies = (counts + self.unobserved_weight * others) ** self.frequency_exponent
        return np.maximum(self.regularization * frequencies, 1e-12).astype(np.float32)

    @property
    def _all_weight(self) -> float:
        return 1.0 if self.objective == "hu2008" else self.unobserved_weight

    def _values(self, users_B: np.ndarray) -> np.ndarray:
        return self.user_emb_UD[users_B]

    def _queries(self, values: np.ndarray) -> np.ndarray:
        return values

    def _fold(self, histories: Interactions) -> np.ndarray:
        """Solve the users' rows exactly, with all items fixed."""
        start = np.zeros((histories.num_users, self.embedding_size), np.float32)
        return self._solve(self._observed(histories.by_user), self.item_emb_ID, start, "cholesky")

    def _scores(self, values: np.ndarray) -> np.ndarray:
        return values @ self.item_emb_ID.T

    def _pair_scores(self, values: np.ndarray, items_BL: np.ndarray) -> np.ndarray:
        return pair_dots(values, self.item_emb_ID, items_BL)

    def _top_k(
        self, values: np.ndarray, k: int, exclude: ItemLists | None, allow: ItemLists | None
    ) -> tuple[np.ndarray, np.ndarray]:
        return top_k_dot(values, self.item_emb_ID, k, exclude=exclude, allow=allow, device=self.device)

    def _item_scores(self, items_B: np.ndarray) -> np.ndarray:
        """Cosine of the embeddings."""
        return self._cosines(self.item_emb_ID, items_B)
