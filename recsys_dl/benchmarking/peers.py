"""What peers run in each job: implicit and irspack, where they are installed (extra `peers`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from .objective import ALPHA, PENALTY, REGULARIZATION, UNOBSERVED, hu2008, rendle2022
from .ours import vectors


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
