"""What this package runs in each job. U users, I items, N pairs, D embedding size, K list or neighbors."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from recsys_dl.data.interactions import Interactions
from recsys_dl.kernels.als import Observed, Solver, solve_rows
from recsys_dl.kernels.bpr import bpr_epoch
from recsys_dl.kernels.item_lists import ItemLists
from recsys_dl.kernels.similarity import nearest
from recsys_dl.kernels.topk import top_k_dot
from recsys_dl.kernels.vectors import Vectors, prepare

from .judged import Judged, K
from .objective import ALPHA, PENALTY, RIDGE, UNOBSERVED, hu2008, penalties, rendle2022, ridge, start_users, unexplained
from .rated import BIAS_PENALTY, EPOCHS, FUNK, NEIGHBORS, PLUS, RATERS, SHRINKAGE, rated

COMPARED = 16  # rows of an answer that float64 computes again


class AlternatingLeastSquares:
    """An epoch of ALS, both sides."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, solver: Solver, objective: str) -> None:
        self.log_UI, self.solver, self.objective = log_UI, solver, objective
        self.users = start_users(log_UI.shape[0], size)
        self.items = np.zeros((log_UI.shape[1], size), np.float32)
        self.sides = [self._observed(matrix) for matrix in (log_UI, log_UI.T.tocsr())]

    def step(self) -> None:
        """Solve the items, then the users."""
        weight = UNOBSERVED if self.objective == "rendle2022" else 1.0
        of_users, of_items = self.sides
        self.items = self._solved(of_items, self.users, self.items, weight)
        self.users = self._solved(of_users, self.items, self.users, weight)

    def _solved(self, observed: Observed, fixed: np.ndarray, start: np.ndarray, weight: float) -> np.ndarray:
        return solve_rows(observed, fixed, start, all_weight=weight, solver=self.solver, device="cpu")

    def figure(self) -> float:
        """Return the objective, in float64."""
        of = rendle2022 if self.objective == "rendle2022" else hu2008
        return of(self.log_UI, self.users, self.items)

    def _observed(self, matrix: sp.csr_matrix) -> Observed:
        if self.objective == "rendle2022":
            weights_N, penalties_R = matrix.data, penalties(matrix)
            targets_N = weights_N
        else:
            weights_N, penalties_R = (ALPHA - 1) * matrix.data, np.full(matrix.shape[0], PENALTY, np.float32)
            targets_N = 1 + weights_N
        return Observed(matrix.indptr.astype(np.int64), matrix.indices, weights_N, targets_N, penalties_R)


class PersonalizedRanking:
    """An epoch of BPR: a step for each pair."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        self.log_UI, self.epoch = log_UI, 0
        rng = np.random.default_rng(0)
        self.users, self.items = (rng.normal(0, size**-0.5, (rows, size)).astype(np.float32) for rows in log_UI.shape)
        self.bias_I = np.zeros(len(self.items), np.float32)

    def step(self) -> None:
        """Take the steps of an epoch."""
        bpr_epoch(
            self.log_UI.indptr.astype(np.int64),
            self.log_UI.indices,
            self.users,
            self.items,
            self.bias_I,
            learning_rate=0.05,
            regularization=0.01,
            seed=7,
            epoch=self.epoch,
            device="cpu",
        )
        self.epoch += 1


class ItemNeighbors:
    """The nearest items of every item by cosine."""

    def __init__(self, log_UI: sp.csr_matrix, k: int) -> None:
        self.log_UI, self.k = log_UI, k
        by_item = log_UI.T.tocsr()
        self.vectors = Vectors(by_item.indptr, by_item.indices, by_item.data, by_item.shape[1])

    def step(self) -> None:
        """Find them, from the pairs."""
        self.found = nearest(prepare(self.vectors), self.k, device="cpu")

    def figure(self) -> float:
        """Return the largest difference from float64 of some items' similarities."""
        matrix = self.log_UI.astype(np.float64).tocsc()
        norms_I = np.sqrt(np.asarray(matrix.power(2).sum(axis=0)))[0]
        worst = 0.0
        for item in np.linspace(0, matrix.shape[1] - 1, COMPARED).astype(int):
            exact_I = (matrix.T @ matrix[:, [item]]).toarray()[:, 0] / np.maximum(norms_I * norms_I[item], 1e-30)
            exact_I[item] = -1
            best_K = self.found[1][item]
            worst = max(worst, np.abs(np.sort(exact_I)[::-1][: self.k] - np.maximum(best_K, 0)).max())
        return worst


class Lists:
    """Every user's best items by inner products, seen ones left out."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, k: int) -> None:
        self.log_UI, self.k = log_UI, k
        self.users, self.items = vectors(log_UI, size)
        indptr = log_UI.indptr.astype(np.int64)
        self.seen = ItemLists(indptr[:-1], indptr[1:], log_UI.indices)

    def step(self) -> None:
        """Score all pairs and keep the best."""
        self.found = top_k_dot(self.users, self.items, self.k, exclude=self.seen, device="cpu")

    def figure(self) -> float:
        """Return the largest difference from float64 of some users' scores."""
        worst = 0.0
        for user in np.linspace(0, len(self.users) - 1, COMPARED).astype(int):
            exact_I = self.items.astype(np.float64) @ self.users[user]
            exact_I[self.log_UI.indices[slice(*self.log_UI.indptr[user : user + 2])]] = -np.inf
            worst = max(worst, np.abs(np.sort(exact_I)[::-1][: self.k] - self.found[1][user]).max())
        return worst


class SingularVectors:
    """The model `svd` without scaling of columns."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        from recsys_dl.models.svd import SVD

        self.log_UI, self.log = log_UI, interactions(log_UI)
        self.model = SVD(embedding_size=size, item_exponent=1.0, device="cpu")

    def step(self) -> None:
        """Decompose the matrix."""
        self.model.fit(self.log)

    def figure(self) -> float:
        """Return the relative error of the projection."""
        return unexplained(self.log_UI, self.model.item_emb_ID)


class ItemWeights:
    """The model `ease`."""

    def __init__(self, log_UI: sp.csr_matrix) -> None:
        from recsys_dl.models.ease import EASE

        self.log_UI, self.log, self.model = log_UI, interactions(log_UI), EASE(regularization=RIDGE, device="cpu")

    def step(self) -> None:
        """Compute all weights."""
        self.model.fit(self.log)

    def figure(self) -> float:
        """Return the objective of some items, in float64."""
        return ridge(self.log_UI, self.model.weights_II)


class RatingDescent:
    """The models `funk_svd` and `svd_pp`, from the start."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, *, implicit: bool) -> None:
        from recsys_dl.models.funk_svd import FunkSVD
        from recsys_dl.models.svd_pp import SVDpp

        self.rated = rated(log_UI)
        self.log = interactions(self.rated.train_UI)
        settings = PLUS if implicit else FUNK
        self.model = (SVDpp if implicit else FunkSVD)(
            embedding_size=size, epochs=EPOCHS, bias_regularization=BIAS_PENALTY, **settings
        )

    def step(self) -> None:
        """Fit it."""
        self.model.fit(self.log)

    def figure(self) -> float:
        """Return the error of pairs held out."""
        model = self.model
        return self.rated.factor_error(
            float(model.mean), model.bias_U, model.bias_I, model.user_emb_UD, model.item_emb_ID
        )


class RatingNeighbors:
    """The models `item_knn` and `user_knn` over ratings."""

    def __init__(self, log_UI: sp.csr_matrix, *, of_users: bool) -> None:
        from recsys_dl.models.item_knn import ItemKNN
        from recsys_dl.models.user_knn import UserKNN

        self.rated = rated(log_UI)
        self.log = interactions(self.rated.train_UI)
        self.model = (UserKNN if of_users else ItemKNN)(
            num_neighbors=NEIGHBORS, measure="pearson_baseline", shrinkage=SHRINKAGE, num_raters=RATERS, device="cpu"
        )

    def step(self) -> None:
        """Compute the biases and all neighbors."""
        self.model.fit(self.log)

    def figure(self) -> float:
        """Return the error of pairs held out."""
        return self.rated.error(self.model.predict(self.rated.users_H, self.rated.items_H))


class Evaluated:
    """`evaluate` with its default metrics and intervals, or with diversity too."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, *, diversity: bool) -> None:
        from recsys_dl.evaluation.evaluate import BEYOND_METRICS
        from recsys_dl.metrics.ranking import METRICS

        self.judged = Judged(log_UI, size)
        self.metrics = [*METRICS, *BEYOND_METRICS] if diversity else None

    def step(self) -> None:
        """Make all lists and judge them."""
        from recsys_dl.evaluation import evaluate

        judged = self.judged
        self.found = evaluate(judged.model, judged.train, judged.test, K, metrics=self.metrics)

    def figure(self) -> float:
        """Return NDCG."""
        return self.found.values[f"ndcg@{K}"]


class JudgedLists:
    """The accuracy metrics of `metrics.ranking` over lists that are there."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        judged = Judged(log_UI, size)
        self.relevant, self.items_BK = judged.test.by_user[judged.tested_U], judged.items_UK[judged.tested_U]

    def step(self) -> None:
        """Judge them."""
        from recsys_dl.metrics import ranking

        columns = ranking.per_user(ranking.judge(self.items_BK, self.relevant), ranking.METRICS, [K])
        self.found = {name: float(values_B.mean()) for name, values_B in columns.items()}

    def figure(self) -> float:
        """Return NDCG."""
        return self.found[f"ndcg@{K}"]


def interactions(matrix_UI: sp.csr_matrix) -> Interactions:
    """Return the entries of a matrix as a log."""
    pairs = matrix_UI.tocoo()
    return Interactions(pairs.row, pairs.col, pairs.data, num_users=pairs.shape[0], num_items=pairs.shape[1])


def vectors(log_UI: sp.csr_matrix, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 embeddings of all users and items, of about unit length."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((rows, size), np.float32) / np.float32(size**0.5) for rows in log_UI.shape)
    return users, items
