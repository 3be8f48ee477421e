"""Neural-linear: linear Thompson sampling on the vectors of a fitted model."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import Count, Positive, Seed
from recsys_dl.protocols import Users

from .linear_policy import Sharing
from .linear_thompson import LinearThompson
from .requests import check_size, checked_features


class HasVectors(Protocol):
    """A fitted recommender whose scores are inner products of vectors, such as ALS or two towers."""

    def item_vectors(self) -> np.ndarray | None:
        """Return float32 [I, D]; None if there is no such form."""
        ...

    def queries(self, users: Users) -> tuple[np.ndarray, np.ndarray]:
        """Return query vectors, float32 [B, D], and bool [B], True for users that have none."""
        ...


class NeuralLinear(LinearThompson):
    """Contexts are a model's user vectors, arms' features its item vectors; before feedback, expected rewards are the model's scores.

    The network stays as it is and only the last, linear layer explores (Riquelme, Tucker, Snoek 2018, "Deep Bayesian Bandits Showdown").
    With `sharing` "disjoint" each arm has weights of its own, whose prior mean is its item vector times `prior_scale`; with "shared" there is one
    weight for each product of the two vectors' numbers, whose prior mean is `prior_scale`. New arms come with their item vectors, e.g. from
    content. Propensities as in `LinearThompson`.

    Args:
        sharing: "disjoint": weights for each arm; "shared": for each number of the vectors.
        prior_scale: expected reward / score of the model.
        noise: standard deviation of a reward around its expectation; as in `LinearThompson`.
        regularization: of the weights' distance from the prior mean; the prior's precision is regularization / noise^2.
        propensity_draws: from which the propensities of shared weights are estimated.
        half_life: seconds after which a reward counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl import Interactions
        >>> from recsys_dl.bandits import NeuralLinear
        >>> from recsys_dl.models import ALS
        >>> train = Interactions([0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 2, 3])
        >>> als = ALS(embedding_size=4, device="cpu").fit(train)
        >>> policy = NeuralLinear(noise=0.1).start_from(als)
        >>> policy.select(policy.contexts_of(als, [0, 3]), requests_B=[0, 1]).arms_BK.shape
        (2, 1)
    """

    features = "product"

    @property
    def needs_vectors(self) -> bool:
        """Whether arms' features must be as long as contexts."""
        return True

    def __init__(
        self,
        *,
        sharing: Sharing = "disjoint",
        prior_scale: float = 1.0,
        noise: Positive = 0.2,
        regularization: Positive = 1.0,
        propensity_draws: Count = 1000,
        half_life: Positive | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__(
            sharing=sharing,
            features="product",
            noise=noise,
            regularization=regularization,
            prior_mean=prior_scale if sharing == "shared" else 0.0,
            propensity_draws=propensity_draws,
            half_life=half_life,
            seed=seed,
        )
        self.prior_scale = prior_scale

    def start_from(self, model: HasVectors) -> Self:
        """Set the state before any feedback from a fitted model's item vectors: its items are the arms. Return self.

        Raises:
            ValueError: the model's scores are not inner products of vectors.
        """
        vectors_ID = _item_vectors(model)
        return self.start(len(vectors_ID), context_size=vectors_ID.shape[1], arm_features_AF=vectors_ID)

    def contexts_of(self, model: HasVectors, users: Users) -> np.ndarray:
        """Return float32 [B, D]: the model's vectors of users; zeros for users of whom it knows nothing."""
        _item_vectors(model)
        query_BD, blank_B = model.queries(users)
        return np.where(blank_B[:, None], 0, query_BD).astype(np.float32)

    def start(
        self,
        num_arms: int,
        *,
        context_size: int = 0,
        arm_features_AF: np.ndarray | None = None,
        prior_weights_AD: np.ndarray | None = None,
    ) -> Self:
        """Set the state before any feedback and return self.

        Args:
            num_arms: A, at least 1.
            context_size: D, of user vectors.
            arm_features_AF: item vectors [A, D].
            prior_weights_AD: disjoint: replaces item vectors times `prior_scale` as the expected weights.

        Raises:
            ValueError: vectors that are missing, not finite or of another length.
        """
        check_size("num_arms", num_arms, 1)
        vectors_AD = checked_features(arm_features_AF, int(num_arms))
        if vectors_AD is None or vectors_AD.shape[1] != context_size:
            got = "none" if vectors_AD is None else f"{vectors_AD.shape[1]} numbers"
            raise ValueError(
                f"NeuralLinear needs item vectors of the length of user vectors, {context_size}, as features of arms, got {got}"
            )
        return super().start(
            num_arms,
            context_size=context_size,
            arm_features_AF=vectors_AD,
            prior_weights_AD=self._scaled(vectors_AD, prior_weights_AD),
        )

    def add_arms(
        self, count: int, *, arm_features_AF: np.ndarray | None = None, prior_weights_AD: np.ndarray | None = None
    ) -> Self:
        """Add arms with their item vectors after the existing ones and return self; arguments and errors as in `start`."""
        self._check_fitted()
        check_size("count", count, 1)
        vectors_AD = checked_features(arm_features_AF, int(count))
        return super().add_arms(
            count, arm_features_AF=vectors_AD, prior_weights_AD=self._scaled(vectors_AD, prior_weights_AD)
        )

    def _scaled(self, vectors_AD: np.ndarray | None, given: Any) -> Any:
        if given is not None or vectors_AD is None or self.sharing == "shared":
            return given
        return self.prior_scale * vectors_AD.astype(np.float64)


def _item_vectors(model: Any) -> np.ndarray:
    found = model.item_vectors() if hasattr(model, "item_vectors") and hasattr(model, "queries") else None
    if found is None:
        raise ValueError(
            f"NeuralLinear needs a model whose scores are inner products of vectors, such as ALS or TwoTower, got {type(model).__name__}"
        )
    return np.asarray(found)
