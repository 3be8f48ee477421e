"""Slates are valued near the truth by each estimator whose assumption holds."""

import itertools

import numpy as np
import pytest

from recsys_dl.bandits import Boltzmann
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.metrics.off_policy_slates import uniform_pairs
from recsys_dl.off_policy import evaluate_slates

SLATES = np.array(list(itertools.permutations(range(3), 2)))
CHANCE_KA = np.array([[0.1, 0.5, 0.8], [0.3, 0.2, 0.4]])
TARGET_S = np.array([0.05, 0.05, 0.1, 0.2, 0.1, 0.5])  # probability of each slate under the policy
TABLE_KA = np.array([[TARGET_S[SLATES[:, k] == a].sum() for a in range(3)] for k in range(2)])
TRUTH = float((TABLE_KA * CHANCE_KA).sum())


def logged(size=4000, seed=0):
    """Uniformly random slates; the index of each."""
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, 6, size)
    slates = SLATES[drawn]
    rewards = (rng.random((size, 2)) < CHANCE_KA[[0, 1], slates]).astype(float)
    return BanditFeedback(slates, rewards, np.full((size, 2), 1 / 3), 3, joint_R=np.full(size, 1 / 6)), drawn


def test_each_estimator_is_near_the_truth():
    log, drawn = logged()
    found = evaluate_slates(log, TABLE_KA, pairs_PP=uniform_pairs(3, 2), joint_R=TARGET_S[drawn])
    assert [one.name for one in found.estimates] == ["position_ips", "pseudoinverse", "slate_ips", "slate_snips"]
    for one in found.estimates:
        assert one.low < TRUTH < one.high, one.name
    assert found["logged"].value == pytest.approx(log.rewards_RK.sum(axis=1).mean())
    text = str(found)
    assert "depends on the arm there alone" in text
    assert "a sum of terms of its positions" in text


def test_a_policy_is_drawn():
    log, _ = logged()
    policy = Boltzmann(temperature=0.5).start(3)
    found = evaluate_slates(log, policy, draws=20_000)
    assert found["position_ips"].low < CHANCE_KA.mean(axis=1).sum() < found["position_ips"].high


def test_empty_positions_count_nothing():
    log = BanditFeedback([[0, -1], [1, 0]] * 50, [[1.0, np.nan], [0.0, 1.0]] * 50, [[0.5, np.nan], [0.5, 0.5]] * 50, 2)
    assert evaluate_slates(log, [[0.5, 0.5], [1.0, 0.0]])["position_ips"].value == pytest.approx((1.0 + 2.0) / 2)


@pytest.mark.parametrize(
    ("changes", "how", "words"),
    [
        ({"propensities_RK": None}, {}, "no propensities of positions"),
        ({"joint_R": None}, {"joint_R": np.full(50, 0.1)}, "no joint propensities of slates"),
        ({}, {"joint_R": np.full(50, 1.5)}, "probabilities of the policy must be in"),
        ({"rewards_RK": np.full((50, 2), np.nan)}, {}, "rewards of 100 of 100 rounds are not known"),
        ({}, {"policy": np.ones((3, 3)) / 3}, "a table of 2 positions x 3 arms"),
        ({}, {"policy": [[0.5, 0.2, 0.2], [1, 0, 0]]}, "must sum to 1 in each row, got 0.9 in row 0"),
        ({"num_arms": 4, "propensities_RK": np.full((50, 2), 0.3)}, {"policy": [[0, 0, 0, 1.0], [1.0, 0, 0, 0]]}, "missing support: 50.00% .* arm 3 at position 1"),
    ],
)  # fmt: skip
def test_bad_slates_are_refused(changes, how, words):
    log, _ = logged(50)
    columns = {name: getattr(log, name) for name in ("arms_RK", "rewards_RK", "propensities_RK", "num_arms", "joint_R")}
    with pytest.raises(ValueError, match=words):
        evaluate_slates(BanditFeedback(**(columns | changes)), **({"policy": TABLE_KA} | how))
