"""What peers run in each job, where they are installed (extra `peers`); NumPy, SciPy and scikit-learn are there anyway."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from .judged import Judged, K
from .objective import ALPHA, PENALTY, REGULARIZATION, RIDGE, UNOBSERVED, hu2008, rendle2022, ridge, unexplained
from .ours import vectors
from .rated import BIAS_PENALTY, EPOCHS, FUNK, PLUS, RATERS, SHRINKAGE, Rated, rated


class ImplicitALS:
    """implicit's AlternatingLeastSquares: one iteration a step."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, solver: str, threads: int) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        self.log_UI = log_UI
        self.model = AlternatingLeastSquares(
            factors=size,
            regularization=PENALTY,
            alpha=ALPHA,
            iterations=1,
            use_cg=solver == "cg",
            num_threads=threads,
            random_state=7,
        )

    def step(self) -> None:
        """Solve both sides once, from the factors of the last step."""
        self.model.fit(self.log_UI, show_progress=False)

    def figure(self) -> float:
        """Return the objective, in float64."""
        return hu2008(self.log_UI, self.model.user_factors, self.model.item_factors)


class IrspackALS:
    """irspack's iALS: one epoch a step."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, solver: str, threads: int) -> None:
        from irspack.recommenders.ials import IALSTrainer, LossType, SolverType

        kinds = {"cg": SolverType.CG, "cholesky": SolverType.CHOLESKY, "ials++": SolverType.IALSPP}
        self.log_UI = log_UI
        self.trainer = IALSTrainer(
            log_UI,
            n_components=size,
            alpha0=UNOBSERVED,
            reg=REGULARIZATION,
            nu=1.0,
            init_std=0.1,
            solver_type=kinds[solver],
            max_cg_steps=3,
            ialspp_subspace_dimension=64,
            loss_type=LossType.IALSPP,
            random_seed=7,
            n_threads=threads,
            prediction_time_max_cg_steps=5,
            prediction_time_ialspp_iteration=7,
        )

    def step(self) -> None:
        """Solve both sides once."""
        self.trainer.run_epoch()

    def figure(self) -> float:
        """Return the objective, in float64."""
        core = self.trainer.core_trainer
        return rendle2022(self.log_UI, np.asarray(core.user), np.asarray(core.item))


class ImplicitBPR:
    """implicit's BayesianPersonalizedRanking: one iteration a step."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, threads: int) -> None:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        self.log_UI = log_UI
        self.model = BayesianPersonalizedRanking(
            factors=size, learning_rate=0.05, regularization=0.01, iterations=1, num_threads=threads, random_state=7
        )

    def step(self) -> None:
        """Take a step for each pair."""
        self.model.fit(self.log_UI, show_progress=False)


class ImplicitNeighbors:
    """implicit's CosineRecommender."""

    def __init__(self, log_UI: sp.csr_matrix, k: int, threads: int) -> None:
        from implicit.nearest_neighbours import CosineRecommender

        self.log_UI, self.model = log_UI, CosineRecommender(K=k + 1, num_threads=threads)  # an item is in its own list

    def step(self) -> None:
        """Find every item's neighbors."""
        self.model.fit(self.log_UI, show_progress=False)


class IrspackNeighbors:
    """irspack's CosineKNNRecommender."""

    def __init__(self, log_UI: sp.csr_matrix, k: int, threads: int) -> None:
        from irspack import CosineKNNRecommender

        self.make = lambda: CosineKNNRecommender(log_UI, top_k=k, n_threads=threads)

    def step(self) -> None:
        """Find every item's neighbors."""
        self.make().learn()


class ImplicitLists:
    """implicit's recommend over all users, liked items left out."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, k: int, threads: int) -> None:
        from implicit.cpu.als import AlternatingLeastSquares

        self.log_UI, self.k = log_UI, k
        self.model: Any = AlternatingLeastSquares(factors=size, num_threads=threads)
        self.model.user_factors, self.model.item_factors = vectors(log_UI, size)

    def step(self) -> None:
        """Score all pairs and keep the best."""
        self.model.recommend(np.arange(self.log_UI.shape[0]), self.log_UI, N=self.k, filter_already_liked_items=True)


class SklearnSVD:
    """scikit-learn's randomized_svd."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        from sklearn.utils.extmath import randomized_svd

        self.log_UI = log_UI
        self.decompose = lambda: randomized_svd(log_UI, n_components=size, random_state=7)

    def step(self) -> None:
        """Decompose the matrix."""
        self.vectors_DI = self.decompose()[2]

    def figure(self) -> float:
        """Return the relative error of the projection."""
        return unexplained(self.log_UI, self.vectors_DI.T)


class ScipySVD(SklearnSVD):
    """SciPy's svds (ARPACK)."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        from scipy.sparse.linalg import svds

        self.log_UI = log_UI
        self.decompose = lambda: svds(log_UI, k=size, random_state=7)


class NumpyEASE:
    """EASE in a few lines of NumPy (Steck 2019, algorithm 1)."""

    def __init__(self, log_UI: sp.csr_matrix) -> None:
        self.log_UI = log_UI

    def step(self) -> None:
        """Compute all weights."""
        gram_II = np.asarray((self.log_UI.T @ self.log_UI).todense())
        gram_II[np.diag_indices(len(gram_II))] += np.float32(RIDGE)
        inverse_II = np.linalg.inv(gram_II)
        self.weights_II = inverse_II / -np.diag(inverse_II)
        np.fill_diagonal(self.weights_II, 0)

    def figure(self) -> float:
        """Return the objective of some items, in float64."""
        return ridge(self.log_UI, self.weights_II)


class IrspackEASE(NumpyEASE):
    """irspack's DenseSLIMRecommender."""

    def __init__(self, log_UI: sp.csr_matrix) -> None:
        from irspack import DenseSLIMRecommender

        super().__init__(log_UI)
        self.make = lambda: DenseSLIMRecommender(log_UI, reg=RIDGE)

    def step(self) -> None:
        """Compute all weights."""
        self.weights_II = np.asarray(self.make().learn().W)


class SurpriseDescent:
    """surprise's SVD and SVDpp, from the start; one thread."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, *, implicit: bool) -> None:
        from surprise import SVD, SVDpp

        self.rated, self.implicit = rated(log_UI), implicit
        settings = PLUS if implicit else FUNK
        more = {"cache_ratings": True} if implicit else {}
        self.model = (SVDpp if implicit else SVD)(
            n_factors=size,
            n_epochs=EPOCHS,
            lr_all=settings["learning_rate"],
            reg_all=settings["regularization"],
            reg_bu=BIAS_PENALTY,
            reg_bi=BIAS_PENALTY,
            init_std_dev=settings["initial_scale"],
            random_state=7,
            **more,
        )
        self.train = _trainset(self.rated)

    def step(self) -> None:
        """Fit it."""
        self.model.fit(self.train)

    def figure(self) -> float:
        """Return the error of pairs held out."""
        model, users_UD = self.model, self.model.pu
        if self.implicit:
            counts_U = np.diff(self.rated.train_UI.indptr)
            users_UD = users_UD + (self.rated.train_UI.sign() @ model.yj) / np.sqrt(np.maximum(counts_U, 1))[:, None]
        return self.rated.factor_error(self.train.global_mean, model.bu, model.bi, users_UD, model.qi)


class SurpriseNeighbors:
    """surprise's KNNBaseline; one thread."""

    def __init__(self, log_UI: sp.csr_matrix, *, of_users: bool) -> None:
        from surprise import KNNBaseline

        self.rated = rated(log_UI)
        similarity = {"name": "pearson_baseline", "user_based": of_users, "shrinkage": SHRINKAGE}
        self.model = KNNBaseline(k=RATERS, sim_options=similarity, verbose=False)
        self.train = _trainset(self.rated)

    def step(self) -> None:
        """Compute the biases and all similarities."""
        self.model.fit(self.train)

    def figure(self) -> float:
        """Return the error of pairs held out."""
        pairs = zip(self.rated.users_H.tolist(), self.rated.items_H.tolist(), strict=True)
        return self.rated.error(np.array([self.model.predict(user, item).est for user, item in pairs]))


def _trainset(ratings: Rated) -> Any:
    """Return surprise's training set, with our rows as its ids."""
    from surprise import Trainset

    matrix = ratings.train_UI
    by_user, by_item = (
        {row: list(zip(columns, values, strict=True)) for row, (columns, values) in enumerate(_rows(side))}
        for side in (matrix, matrix.T.tocsr())
    )
    own = [{row: row for row in range(count)} for count in matrix.shape]
    return Trainset(by_user, by_item, *matrix.shape, matrix.nnz, (1, 5), *own)


def _rows(matrix: sp.csr_matrix) -> Any:
    """Yield columns and values of each row, as lists."""
    for start, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        yield matrix.indices[start:end].tolist(), matrix.data[start:end].tolist()


class IrspackEvaluated:
    """irspack's Evaluator over blocks of scores."""

    def __init__(self, log_UI: sp.csr_matrix, size: int, threads: int) -> None:
        from irspack import Evaluator

        judged = Judged(log_UI, size)
        self.users, self.items = judged.model.user_emb_UD, judged.model.item_emb_ID
        self.evaluator = Evaluator(
            judged.test.by_user, cutoff=K, masked_interactions=judged.train.by_user, n_threads=threads
        )

    def step(self) -> None:
        """Score all pairs and judge the best."""
        size = self.evaluator.mb_size
        blocks = (self.users[start : start + size] @ self.items.T for start in range(0, len(self.users), size))
        self.found = self.evaluator.get_score_from_score_chunks(blocks)

    def figure(self) -> float:
        """Return NDCG."""
        return float(self.found["ndcg"])


class RectoolsLists:
    """RecTools' metrics of the same names, over lists that are there."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        import pandas as pd  # type: ignore[import-untyped]
        from rectools.metrics import MAP, MRR, NDCG, HitRate, Precision, Recall

        judged = Judged(log_UI, size)
        users_B = judged.tested_U
        self.lists = pd.DataFrame(
            {
                "user_id": np.repeat(users_B, K),
                "item_id": judged.items_UK[users_B].ravel(),
                "rank": np.tile(np.arange(1, K + 1), len(users_B)),
            }
        )
        self.test = pd.DataFrame({"user_id": judged.test.users_N, "item_id": judged.test.items_N})
        kinds = {"precision": Precision, "recall": Recall, "hit_rate": HitRate, "map": MAP, "mrr": MRR}
        self.metrics = {name: kind(k=K) for name, kind in kinds.items()}
        self.metrics["ndcg"] = NDCG(k=K, divide_by_achievable=True)

    def step(self) -> None:
        """Judge them."""
        from rectools.metrics import calc_metrics

        self.found = calc_metrics(self.metrics, self.lists, self.test)

    def figure(self) -> float:
        """Return NDCG."""
        return float(self.found["ndcg"])


class TorchmetricsLists:
    """torchmetrics' retrieval metrics of the same names, over lists that are there, followed by the test items they miss."""

    def __init__(self, log_UI: sp.csr_matrix, size: int) -> None:
        import torch
        from torchmetrics import retrieval

        judged = Judged(log_UI, size)
        users_B = judged.tested_U
        listed = sp.csr_matrix(
            (np.ones(len(users_B) * K), (np.repeat(users_B, K), judged.items_UK[users_B].ravel())), log_UI.shape
        )
        relevant = judged.test.by_user.sign()
        missed = (relevant - relevant.multiply(listed)).tocoo()
        missed.eliminate_zeros()
        hits_BK = np.asarray(relevant[np.repeat(users_B, K), judged.items_UK[users_B].ravel()]).ravel() > 0
        self.indexes = torch.from_numpy(np.concatenate([np.repeat(users_B, K), missed.row]).astype(np.int64))
        scores = np.concatenate([np.tile(np.arange(K, 0, -1), len(users_B)), np.full(missed.nnz, 0.5)])
        self.scores = torch.from_numpy(scores.astype(np.float32))
        self.hits = torch.from_numpy(np.concatenate([hits_BK, np.ones(missed.nnz, bool)]))
        kinds = ("Precision", "Recall", "HitRate", "MAP", "MRR", "NormalizedDCG")
        self.make = lambda: {kind: getattr(retrieval, f"Retrieval{kind}")(top_k=K) for kind in kinds}

    def step(self) -> None:
        """Judge them."""
        self.found = {kind: float(one(self.scores, self.hits, self.indexes)) for kind, one in self.make().items()}

    def figure(self) -> float:
        """Return NDCG."""
        return self.found["NormalizedDCG"]
