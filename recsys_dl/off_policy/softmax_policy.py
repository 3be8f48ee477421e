"""A softmax policy: fixed probabilities, linear in the context. B requests, A arms, F numbers of a context."""

from __future__ import annotations

from typing import Any

import numpy as np
from typing_extensions import Self

from recsys_dl.arguments import Seed
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.kernels.random import random_bits, stream_keys
from recsys_dl.protocols import Decisions
from recsys_dl.saving import Saved


class SoftmaxPolicy(Saved):
    """Shows one arm a request, with the probabilities softmax(bias + weights @ context); learned by `learn_policy`.

    Args:
        seed: of the draws; the same seed, request and context give the same arm.

    Attributes:
        num_arms: A.
        bias_A: float64, log-odds of each arm, in the mean context.
        weights_AF: float64, of standardized contexts; F = 0 if it does not look at them.
        mean_F: of the contexts that it was learned from.
        scale_F: standard deviation of these.

    Examples:
        >>> import numpy as np
        >>> from recsys_dl.off_policy import SoftmaxPolicy
        >>> policy = SoftmaxPolicy().start(2)
        >>> policy.bias_A = np.array([0.0, np.log(3.0)])
        >>> policy.probabilities(None, num_requests=1)
        array([[0.25, 0.75]])
    """

    noun = "policy"
    num_arms: int

    def __init__(self, *, seed: Seed = 0) -> None:
        self.seed = seed

    def start(self, num_arms: int, *, context_size: int = 0, arm_features_AF: np.ndarray | None = None) -> Self:
        """Show all arms equally often; features of arms are not used."""
        self.num_arms = int(num_arms)
        self.bias_A = np.zeros(self.num_arms)
        self.weights_AF = np.zeros((self.num_arms, context_size))
        self.mean_F, self.scale_F = np.zeros(context_size), np.ones(context_size)
        return self

    def probabilities(
        self, contexts_BF: np.ndarray | None, *, num_requests: int, candidates_BL: np.ndarray | None = None
    ) -> np.ndarray:
        """Return float64 [B, A]: the probability of each arm.

        Raises:
            ValueError: contexts of another length, missing, or not finite; candidates.
        """
        if candidates_BL is not None:
            raise ValueError("this policy chooses among all of its arms, and takes no candidates")
        logits_BA = np.broadcast_to(self.bias_A, (num_requests, self.num_arms))
        size = self.weights_AF.shape[1]
        if size:
            contexts = np.asarray(contexts_BF, np.float64) if contexts_BF is not None else np.zeros((0, 0))
            if contexts.shape != (num_requests, size) or not np.isfinite(contexts).all():
                raise ValueError(
                    f"contexts must be finite numbers [{num_requests}, {size}], as in the log that the policy was learned from, got "
                    f"{None if contexts_BF is None else contexts.shape}"
                )
            logits_BA = logits_BA + ((contexts - self.mean_F) / self.scale_F) @ self.weights_AF.T
        return softmax(logits_BA)

    def select(
        self,
        contexts_BF: np.ndarray | None,
        k: int = 1,
        *,
        requests_B: np.ndarray,
        candidates_BL: np.ndarray | None = None,
    ) -> Decisions:
        """Draw one arm for each request.

        Raises:
            ValueError: k above 1, or as in `probabilities`.
        """
        if k != 1:
            raise ValueError(f"this policy shows one arm a request, got k={k}")
        requests_B = np.asarray(requests_B)
        chances_BA = self.probabilities(contexts_BF, num_requests=len(requests_B), candidates_BL=candidates_BL)
        bits_B = random_bits(stream_keys(self.seed, requests_B), np.zeros(len(requests_B), np.uint64))
        drawn_B = (bits_B >> np.uint64(11)).astype(np.float64) / 2.0**53
        below_BA = chances_BA.cumsum(axis=1)
        arms_B = (drawn_B[:, None] * below_BA[:, -1:] >= below_BA).sum(axis=1).astype(np.int32)
        shown_B1 = chances_BA[np.arange(len(arms_B)), arms_B][:, None]
        return Decisions(arms_B[:, None], shown_B1, shown_B1[:, 0], np.log(shown_B1).astype(np.float32))

    def update(self, feedback: BanditFeedback) -> Self:
        """Raise ValueError: it is learned from a whole log, by `learn_policy`."""
        raise ValueError("a softmax policy is learned from a whole log by learn_policy; learn another one")

    def arrays(self) -> dict[str, Any]:
        """Return its numbers."""
        return {name: getattr(self, name) for name in ("bias_A", "weights_AF", "mean_F", "scale_F")}

    def restore(self, arrays: dict[str, Any]) -> None:
        """Take its numbers."""
        for name in ("bias_A", "weights_AF", "mean_F", "scale_F"):
            setattr(self, name, arrays[name])
        self.num_arms = len(self.bias_A)

    def _check_fitted(self) -> None:
        if not hasattr(self, "bias_A"):
            raise ValueError("this policy has not been learned or started yet")


def softmax(logits_BA: np.ndarray) -> np.ndarray:
    """Return float64 [B, A]: probabilities in proportion to exp(logits)."""
    shares = np.exp(logits_BA - logits_BA.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))
