"""What feedback and its log refuse."""

from datetime import datetime

import numpy as np
import pytest

from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.simulation import FixedArms, simulate


def feedback(arms, **given):
    arms = np.asarray(arms)
    plain = {"rewards_RK": np.zeros(arms.shape), "propensities_RK": np.full(arms.shape, 0.5), "num_arms": 3}
    return BanditFeedback(arms, **plain | given)


@pytest.mark.parametrize(
    ("arms", "given", "said"),
    [
        ([["a"], ["b"]], {}, "arms must be a matrix of integers .*Vocabulary"),
        ([[1, 1]], {}, r"an arm may be shown once in a request, got \[1, 1\] in row 0"),
        ([[0], [1]], {"num_arms": 2.5}, "num_arms must be a whole number of at least 1, got 2.5"),
        ([[0], [1]], {"draws": -1}, "draws must be a whole number of at least 0, got -1"),
        ([[0], [1]], {"rewards_RK": [["yes"], ["no"]]}, "rewards must be numbers, in rows of equal length"),
        ([[0], [1]], {"contexts_RF": [[1, 2], [3]]}, "contexts must be numbers, in rows of equal length"),
        ([[0, 1]], {"joint_R": [0.9]}, "at most that of each of its arms, got 0.9 and 0.5 in row 0"),
        ([[0], [1]], {"positions_R": [0, -1]}, "positions must be between 0 and 32,767, got -1"),
        ([[0], [1]], {"times_R": [0.5, 1.5]}, "times must be 2 integers, seconds since 1970"),
    ],
)
def test_what_feedback_refuses(arms, given, said):
    with pytest.raises(ValueError, match=said):
        feedback(arms, **given)


def test_times_may_be_dates():
    times = np.array(["1970-01-01T00:01", "1970-01-02"], "datetime64[m]")
    np.testing.assert_array_equal(feedback([[0], [1]], times_R=times).times_R, [60, 86_400])


def test_what_a_log_refuses(tmp_path):
    log = FeedbackLog(tmp_path / "log", num_arms=3)
    log.append([[0], [1]], [[0.5], [0.5]], requests_B=[1, 2], times_B=[10, 20])
    for call, said in (
        (lambda: log.append([[0]], None, requests_B=[3]), "needs propensities"),
        (lambda: log.append([[0]], [[0.5]], requests_B=[-3]), "requests must be between 0 and"),
        (lambda: log.reward([1], [0], ["much"]), "rewards must be numbers, got"),
        (lambda: log.settle(datetime(2026, 1, 1)), "before must be a whole number of seconds since 1970"),
        (lambda: log.since(-1), "position must be one that since returned, 0 or None, got -1"),
        (lambda: log.since(5), "which ends at 0, got 5"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="must be the folder of a feedback log or a new one, but is a file"):
        FeedbackLog(tmp_path / "file", num_arms=3)


def test_a_batch_of_more_than_all_rounds():
    from recsys_dl.bandits import Thompson

    with pytest.raises(ValueError, match="batch must be at most rounds, 5"):
        simulate(Thompson(), FixedArms(means=[0.1, 0.2]), rounds=5, batch=10)
