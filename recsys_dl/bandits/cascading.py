"""Slates under the cascade model of clicks."""

from __future__ import annotations

import numpy as np

from recsys_dl.data.feedback import BanditFeedback

from .thompson import Thompson


class Cascading(Thompson):
    """Thompson sampling of slates whose users look from the top and stop at the first click.

    Positions above the first reward, and its own, were looked at; those below it say nothing and are not learned from. Without a click
    all were looked at. Below a reward that is not known (NaN) nothing is known either. A slate's value, the chance of a click, does
    not depend on its order; arms with the highest draws go first. Kveton et al. 2015, "Cascading Bandits: Learning to Rank in the Cascade Model";
    Cheung, Tan, Zhong 2019, "A Thompson Sampling Algorithm for Cascading Bandits". Propensities are those of `Thompson`.

    Args:
        prior_mean: expected chance of a click on an arm that is looked at, before feedback.
        prior_count: looks that this is worth.
        content_count: looks that an expectation of a new arm from its features is worth; 0: features are not used.
        half_life: seconds after which a look counts half; None: nothing is forgotten.
        seed: for the draws.

    Examples:
        >>> from recsys_dl.bandits import Cascading
        >>> from recsys_dl.data.feedback import BanditFeedback
        >>> policy = Cascading().start(3)
        >>> policy.update(BanditFeedback([[2, 0, 1]], [[0.0, 1.0, 0.0]], None, num_arms=3)).count_A
        array([1., 0., 1.])
    """

    def _observed(self, feedback: BanditFeedback) -> np.ndarray:
        known_RK = super()._observed(feedback)
        stops_RK = ~known_RK | (feedback.rewards_RK > 0)
        before_RK: np.ndarray = np.cumsum(stops_RK, axis=1) - stops_RK
        return np.asarray(known_RK & (before_RK == 0))
