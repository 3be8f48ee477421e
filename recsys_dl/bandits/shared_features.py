"""What a shared linear model sees of a context and an arm, and its means and widths for all arms.

B requests, N rows, L candidates, A arms, F numbers of a context, G features of an arm, D weights, T = D (D + 1) / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from typing_extensions import Self

from recsys_dl.kernels.bandits.moments import moments

MOST_WEIGHTS = 8192  # their covariance takes half a gigabyte


@dataclass(frozen=True)
class SharedFeatures:
    """Products of contexts and arms' features.

    Attributes:
        kind: "outer": all products of (1, context) and (1, features); "product": number by number.
        context_size: F.
        arms_AG: float32, for "outer" with a 1 in front.
    """

    kind: Literal["outer", "product"]
    context_size: int
    arms_AG: np.ndarray

    @classmethod
    def of(cls, kind: Literal["outer", "product"], context_size: int, arm_features_AF: np.ndarray | None) -> Self:
        """Return the features that are made of contexts and arms' features.

        Raises:
            ValueError: there are no features of arms, they do not match the contexts, or their products are too many.
        """
        if arm_features_AF is None or not arm_features_AF.shape[1]:
            raise ValueError(
                "sharing='shared' needs features of arms: start(num_arms, arm_features_AF=…), one row an arm, or sharing='disjoint'"
            )
        if kind == "product":
            if arm_features_AF.shape[1] != context_size:
                raise ValueError(
                    f"features='product' needs as many features of an arm as numbers of a context, {context_size}, got "
                    f"{arm_features_AF.shape[1]}; or features='outer'"
                )
            return cls(kind, context_size, arm_features_AF)
        made = cls(kind, context_size, np.column_stack([np.ones(len(arm_features_AF), np.float32), arm_features_AF]))
        if made.size > MOST_WEIGHTS:
            raise ValueError(
                f"features='outer' makes (1 + {context_size}) * {made.arms_AG.shape[1]} = {made.size:,} weights, more than {MOST_WEIGHTS:,}: "
                "reduce contexts or features, or use features='product' or sharing='disjoint'"
            )
        return made

    @property
    def size(self) -> int:
        """Return D."""
        return self.arms_AG.shape[1] * (self.context_size + 1 if self.kind == "outer" else 1)

    def rows(self, contexts_NF: np.ndarray, arms_N: np.ndarray) -> np.ndarray:
        """Return float64 [N, D] of pairs of a context and an arm."""
        arms_NG = self.arms_AG[arms_N].astype(np.float64)
        if self.kind == "product":
            return np.asarray(contexts_NF * arms_NG)
        return (self._with_one(contexts_NF)[:, :, None] * arms_NG[:, None, :]).reshape(len(arms_N), -1)

    def weights(self, theta_ND: np.ndarray, context_F: np.ndarray) -> np.ndarray:
        """Return float64 [N, G]: each of some weights of the model as weights of the arms' features, given a context."""
        if self.kind == "product":
            return np.asarray(theta_ND * context_F)
        one_F = self._with_one(context_F[None])[0]
        return np.einsum("nfg,f->ng", theta_ND.reshape(len(theta_ND), len(one_F), -1), one_F)

    def moments(
        self, factor_T: np.ndarray, theta_D: np.ndarray, contexts_BF: np.ndarray, arms_RL: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and, for noise 1, the width of each candidate's reward, float32 [B, L]."""
        root_DD = root_of(factor_T, self.size)
        means_BL = np.zeros((len(contexts_BF), arms_RL.shape[1]), np.float32)
        widths_BL = np.zeros_like(means_BL)
        lower = np.tril_indices(self.arms_AG.shape[1])
        for b, context_F in enumerate(contexts_BF.astype(np.float64)):
            weights_G = self.weights(theta_D[None], context_F)[0]
            if self.kind == "product":  # a lower triangle already
                triangle_GG, arms_AG = root_DD * context_F, self.arms_AG
            else:  # backwards, an upper triangle is a lower one
                one_F = self._with_one(context_F[None])[0]
                root_DG = np.einsum("dfg,f->dg", root_DD.reshape(self.size, len(one_F), -1), one_F)
                triangle_GG = np.asarray(np.linalg.qr(root_DG, mode="r"))[::-1, ::-1]
                arms_AG, weights_G = self.arms_AG[:, ::-1], weights_G[::-1]
            arms_L = arms_RL[min(b, len(arms_RL) - 1)]
            means_L1, widths_L1 = moments(
                np.ascontiguousarray(triangle_GG[lower])[None],
                np.ascontiguousarray(weights_G)[None],
                np.ascontiguousarray(arms_AG[arms_L]),
                models_L=np.zeros(1, np.int64),
                unit=False,
            )
            means_BL[b], widths_BL[b] = means_L1[:, 0], widths_L1[:, 0]
        return means_BL, widths_BL

    def scores(self, weights_NG: np.ndarray, arms_L: np.ndarray) -> np.ndarray:
        """Return float32 [N, L]: the scores of candidates under each of some weights of the arms' features."""
        no_factors = np.zeros((len(weights_NG), 0))
        models_N = np.arange(len(weights_NG))
        found_LN, _ = moments(no_factors, weights_NG, self.arms_AG[arms_L], models_L=models_N, widths=False)
        return np.ascontiguousarray(found_LN.T)

    def _with_one(self, contexts_NF: np.ndarray) -> np.ndarray:
        return np.column_stack([np.ones(len(contexts_NF)), contexts_NF])


def root_of(factor_T: np.ndarray, size: int) -> np.ndarray:
    """Return the lower triangle R [D, D] of a factor, for which the covariance is R' R."""
    root_DD = np.zeros((size, size))
    root_DD[np.tril_indices(size)] = factor_T
    scale_D = np.sqrt(np.diag(root_DD))
    np.fill_diagonal(root_DD, 1)
    return np.asarray(scale_D[:, None] * root_DD)
