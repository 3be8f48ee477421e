"""The base of policies with a linear model of rewards, one for each arm or one for all.

B requests, N rewards, A arms, M models, F numbers of a context, G features of an arm, D weights of a model, T = D (D + 1) / 2.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import numpy as np
from typing_extensions import Self

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.kernels.bandits import linear
from recsys_dl.kernels.bandits.contenders import FEW, Decider, contenders, widest
from recsys_dl.kernels.bandits.moments import Kept, moments

from .bandit_policy import BanditPolicy
from .content_prior import expected
from .requests import Requests, as_numbers, check_size, checked_features
from .shared_features import SharedFeatures

Sharing = Literal["disjoint", "shared"]
Features = Literal["outer", "product"]

AGAIN = 4  # rewards for each number of a context, and then for each before, until widths of an arm are bounded anew
REPEATED = 8  # candidates for each request, up to which arms' panels are kept from one decision to the next
WORTH = 1 << 20  # numbers of triangles times requests, below which all widths are computed sooner than limits are


class LinearPolicy(BanditPolicy):
    """Bayesian linear regression of rewards: the prior of the weights is normal with covariance 1 / regularization.

    With `sharing` "disjoint" each arm has weights of its own for the numbers of the context (add a constant 1 for an intercept). With
    "shared" there is one weight for each number made of the context and the arm's features: for "outer" all products of (1, context)
    and (1, features), for "product" the context times the features, number by number.

    Attributes:
        factors_MT: float64, factors of the covariances for noise 1 (`recsys_dl.kernels.bandits.linear`).
        theta_MD: float64, means of the weights.
        prior_theta_MD: float64, their means before feedback.
        count_A: float64, rewards of each arm; with a half-life those of the past count less.
        arm_features_AG: float32, of width 0 if there are none.
        widest_M: float64, at least the width of any context of length 1 (for noise 1); not saved.
    """

    contextual = True
    block = 1 << 24
    sharing: Sharing
    features: Features
    regularization: float
    prior_mean: float
    factors_MT: np.ndarray
    theta_MD: np.ndarray
    prior_theta_MD: np.ndarray
    count_A: np.ndarray
    arm_features_AG: np.ndarray
    widest_M: np.ndarray
    _narrowed_M: np.ndarray
    _kept: Kept

    @property
    def needs_vectors(self) -> bool:
        """Whether arms' features must be as long as contexts."""
        return self.sharing == "shared" and self.features == "product"

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
            context_size: F, at least 1 unless features are shared and "outer".
            arm_features_AF: float, one row an arm. Shared: needed. Disjoint: `add_arms` expects the weights of new arms from them.
            prior_weights_AD: disjoint: the expected weights of each arm, e.g. item vectors of a model whose user vectors are the
                contexts; None: `prior_mean`.

        Raises:
            ValueError: no arms; contexts without numbers; features or weights that are missing, not finite or of another length.
        """
        check_size("num_arms", num_arms, 1)
        check_size("context_size", context_size, 0 if self.sharing == "shared" and self.features == "outer" else 1)
        weights_AD = self._checked_weights(prior_weights_AD, int(num_arms), int(context_size))
        if self.sharing == "shared":
            SharedFeatures.of(self.features, int(context_size), checked_features(arm_features_AF, int(num_arms)))
        super().start(num_arms, context_size=context_size, arm_features_AF=arm_features_AF)
        if weights_AD is not None:
            self.theta_MD, self.prior_theta_MD = weights_AD.copy(), weights_AD
        return self

    def add_arms(
        self, count: int, *, arm_features_AF: np.ndarray | None = None, prior_weights_AD: np.ndarray | None = None
    ) -> Self:
        """Add arms after the existing ones and return self.

        Args:
            count: at least 1.
            arm_features_AF: float, one row a new arm; needed if `start` got them. Disjoint: the expected weights of a new arm are
                those that a ridge regression on the arms so far expects.
            prior_weights_AD: disjoint: replaces that expectation.

        Raises:
            ValueError: not started; features or weights that are missing, not finite or of another length.
        """
        self._check_fitted()
        check_size("count", count, 1)
        added = checked_features(arm_features_AF, int(count))
        width = self.arm_features_AG.shape[1]
        if width and (added is None or added.shape[1] != width):
            got = "none" if added is None else f"{added.shape[1]}"
            raise ValueError(f"new arms need the {width} features that start() got for the first ones, got {got}")
        weights_ND = self._checked_weights(prior_weights_AD, int(count), self.context_size)
        if weights_ND is None and self.sharing == "disjoint" and width:
            assert added is not None
            weights_ND = expected(self.arm_features_AG, self.count_A, self.theta_MD, added)
        old = len(self.theta_MD)
        super().add_arms(count, arm_features_AF=arm_features_AF)
        if weights_ND is not None:
            self.theta_MD[old:], self.prior_theta_MD[old:] = weights_ND, weights_ND
        return self

    def statistics(self) -> dict[str, np.ndarray]:
        """Return sums over rewards: precisions and moments without the prior's, and counts."""
        size = self.theta_MD.shape[1]
        precision_MT = np.empty_like(self.factors_MT)
        linear.precisions(self.factors_MT, size, precision_MT)
        moments_MD = np.empty_like(self.theta_MD)
        linear.times(precision_MT, self.theta_MD, moments_MD)
        precision_MT[:, _diagonal(size)] -= self.regularization
        return {
            "precision_MT": precision_MT,
            "moments_MD": moments_MD - self.regularization * self.prior_theta_MD,
            "count_A": self.count_A,
        }

    def prior(self) -> dict[str, np.ndarray]:
        """Return expected weights before feedback, and the arms' features."""
        return {"prior_theta_MD": self.prior_theta_MD, "arm_features_AG": self.arm_features_AG}

    def state(self) -> dict[str, np.ndarray]:
        """Return what decisions are computed from."""
        return {"factors_MT": self.factors_MT, "theta_MD": self.theta_MD, "count_A": self.count_A}

    def _begin(self, arm_features_AF: np.ndarray | None) -> None:
        self.count_A = np.zeros(self.num_arms)
        none_AG = np.zeros((self.num_arms, 0), np.float32)
        self.arm_features_AG = none_AG if arm_features_AF is None else arm_features_AF
        shared = self.sharing == "shared"
        size = self._shared().size if shared else self.context_size
        self.factors_MT = self._new_factors(1 if shared else self.num_arms, size)
        self.theta_MD = np.full((len(self.factors_MT), size), float(self.prior_mean))
        self._forget_computed()
        self.prior_theta_MD = self.theta_MD.copy()

    def _grow(self, count: int, arm_features_AF: np.ndarray | None) -> None:
        self.count_A = np.concatenate([self.count_A, np.zeros(count)])
        none_NG = np.zeros((count, 0), np.float32)
        added_NG = none_NG if arm_features_AF is None or not self.arm_features_AG.shape[1] else arm_features_AF
        self.arm_features_AG = np.concatenate([self.arm_features_AG, added_NG])
        if self.sharing == "disjoint":
            size = self.theta_MD.shape[1]
            self.factors_MT = np.concatenate([self.factors_MT, self._new_factors(count, size)])
            self.widest_M = np.append(self.widest_M, np.full(count, self.regularization**-0.5))
            self._narrowed_M = np.append(self._narrowed_M, np.zeros(count))
            self._kept = Kept.of(0, self.theta_MD.shape[1])
            new_ND = np.full((count, size), float(self.prior_mean))
            self.theta_MD = np.concatenate([self.theta_MD, new_ND])
            self.prior_theta_MD = np.concatenate([self.prior_theta_MD, new_ND])

    def _learn(self, feedback: BanditFeedback, known_RK: np.ndarray, weights_R: np.ndarray | None) -> None:
        rows_N = np.nonzero(known_RK)[0]
        arms_N, rewards_N = feedback.arms_RK[known_RK], feedback.rewards_RK[known_RK]
        weights_N = np.ones(len(rows_N)) if weights_R is None else weights_R[rows_N]
        x_ND = np.asarray(feedback.contexts_RF)[rows_N].astype(np.float64)
        if self.sharing == "shared":
            x_ND = self._shared().rows(x_ND, arms_N)
            order_N, models_G = np.arange(len(rows_N)), np.zeros(1, np.int64)
            starts_G1 = np.array([0, len(rows_N)])
        else:
            order_N, models_G, starts_G1 = linear.grouped(arms_N)
        linear.learn(self.factors_MT, self.theta_MD, models_G, starts_G1, order_N, x_ND, rewards_N, weights_N)
        self.count_A = self.count_A + np.bincount(arms_N, weights_N, self.num_arms)
        if self.sharing == "disjoint":
            self._narrow(models_G)
            if len(self._kept.packed_M):
                self._kept.packed_M[models_G] = False

    def _set_statistics(self, statistics: dict[str, np.ndarray]) -> None:
        size = self.theta_MD.shape[1]
        precision_MT = statistics["precision_MT"].copy()
        precision_MT[:, _diagonal(size)] += self.regularization
        factors_MT, theta_MD = np.empty_like(self.factors_MT), np.empty_like(self.theta_MD)
        linear.factors_of(precision_MT, size, factors_MT)
        linear.covariance_times(
            factors_MT, statistics["moments_MD"] + self.regularization * self.prior_theta_MD, theta_MD
        )
        self._forget_computed()  # first: widths may grow
        self.factors_MT, self.theta_MD, self.count_A = factors_MT, theta_MD, statistics["count_A"]

    def _restore(self, arrays: dict[str, Any]) -> None:
        for name in ("factors_MT", "theta_MD", "prior_theta_MD", "count_A", "arm_features_AG"):
            setattr(self, name, arrays[name])
        self._forget_computed()

    def _moments(self, requests: Requests) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and, for noise 1, the width of each candidate's reward, float32 [B, L]."""
        if requests.moments is not None:
            means_BL, widths_BL = requests.moments
            return means_BL.copy(), widths_BL.copy()
        assert requests.contexts_BF is not None
        if self.sharing == "shared":
            return self._shared().moments(self.factors_MT[0], self.theta_MD[0], requests.contexts_BF, requests.arms_RL)
        arms_RL = requests.arms_RL.astype(np.int64)
        same = len(arms_RL) == 1 and arms_RL.min() >= 0
        return moments(self.factors_MT, self.theta_MD, requests.contexts_BF, models_L=arms_RL[0] if same else arms_RL)

    @abstractmethod
    def _decider(self, requests: Requests) -> Decider:
        """Return what disjoint arms are chosen by."""

    def _contenders(self, requests: Requests, k: int) -> Requests:
        """Return the requests with those candidates alone that can be among the best k, if these are few: others need no width."""
        arms_RL = requests.arms_RL
        if self.sharing == "shared" or len(arms_RL) > 1 or k * FEW > arms_RL.shape[1] or arms_RL.min() < 0:
            return requests
        if len(requests) * arms_RL.shape[1] * self.factors_MT.shape[1] < WORTH:
            return requests
        assert requests.contexts_BF is not None
        keeps = arms_RL.shape[1] <= REPEATED * len(requests)
        if keeps and not len(self._kept.panels_MP):
            self._kept = Kept.of(*self.theta_MD.shape)
        found = contenders(
            self._decider(requests),
            self.factors_MT,
            self.theta_MD,
            requests.contexts_BF,
            arms_RL[0],
            self.widest_M[arms_RL[0]],
            k,
            self._kept if keeps else None,
        )
        return requests if found is None else Requests(requests.keys_B, found[0], requests.contexts_BF, found[1:])

    def _shared(self) -> SharedFeatures:
        return SharedFeatures.of(self.features, self.context_size, self.arm_features_AG)

    def _new_factors(self, count: int, size: int) -> np.ndarray:
        factors_MT = np.zeros((count, linear.packed_size(size)))
        factors_MT[:, _diagonal(size)] = 1 / self.regularization
        return factors_MT

    def _forget_computed(self) -> None:
        """Bound widths by those of the prior, from which feedback only takes away, and keep no panels."""
        self.widest_M = np.full(len(self.factors_MT), self.regularization**-0.5)
        self._narrowed_M = np.zeros(len(self.factors_MT))  # rewards of an arm when its bound was computed
        self._kept = Kept.of(0, self.theta_MD.shape[1])

    def _narrow(self, arms_G: np.ndarray) -> None:
        """Bound the widths of arms that have learned from enough rewards since theirs were bounded for that to pay."""
        size = self.theta_MD.shape[1]
        due_G = arms_G[self.count_A[arms_G] >= AGAIN * np.maximum(size, self._narrowed_M[arms_G])]
        self.widest_M[due_G] = np.minimum(self.widest_M[due_G], widest(self.factors_MT[due_G], size))
        self._narrowed_M[due_G] = self.count_A[due_G]

    def _checked_weights(self, weights: Any, rows: int, size: int) -> np.ndarray | None:
        if weights is None:
            return None
        found = as_numbers("prior weights", weights, np.float64)
        if self.sharing == "shared":
            raise ValueError("prior weights of arms need sharing='disjoint': shared weights belong to no arm")
        if found.shape != (rows, size):
            raise ValueError(f"prior weights must be {rows} rows, one an arm, of {size} numbers, got {found.shape}")
        if not np.isfinite(found).all():
            raise ValueError(f"prior weights must be finite, got {found[~np.isfinite(found)][0]}")
        return found


def _diagonal(size: int) -> np.ndarray:
    at_D = np.arange(size)
    return np.asarray(at_D * (at_D + 3) // 2)
