"""Weights come out as worked out by hand, on a Dataset as on Interactions, and bad arguments say what to change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate

from recsys_dl import Interactions, leave_last_out, read_log
from recsys_dl.compose import compose
from recsys_dl.data.weights import binary, keep, log_scaled, scaled, time_decay

CONF = Path(__file__).parents[1] / "conf"
DAY = 86_400


def ratings() -> Interactions:
    return Interactions([0, 0, 1, 2], [0, 1, 1, 2], [1, 5, 3, 4], [0, 10 * DAY, 20 * DAY, 15 * DAY])


def test_keep_changes_nothing():
    log = ratings()
    assert keep(log) is log


def test_binary_drops_below_the_threshold():
    log = binary(ratings(), threshold=3)
    assert log.weights_N.tolist() == [1, 1, 1]
    assert log.items_N.tolist() == [1, 1, 2]
    assert (log.num_users, log.num_items) == (3, 3)  # rows stay, also of those left with nothing
    assert binary(ratings()).weights_N.tolist() == [1, 1, 1, 1]


def test_scaled_is_a_straight_line():
    # 1e-7: float32 rounding of numbers up to 1
    np.testing.assert_allclose(scaled(ratings()).weights_N, [0.2, 1.0, 0.6, 0.8], atol=1e-7)
    np.testing.assert_allclose(scaled(ratings(), lowest=0, highest=2).weights_N, [0, 2, 1, 1.5], atol=2e-7)
    assert scaled(Interactions([0, 1], [0, 0], [3, 3])).weights_N.tolist() == [1, 1]


def test_log_scaled():
    expected = np.log(1 + np.array([1, 5, 3, 4]) / 2)
    np.testing.assert_allclose(log_scaled(ratings(), unit=2).weights_N, expected, rtol=1e-7)  # float32 rounding


def test_time_decay_halves():
    decayed = time_decay(ratings(), half_life_days=5)
    np.testing.assert_allclose(decayed.weights_N, [1 / 16, 5 / 4, 3, 4 / 2], rtol=1e-7)  # float32 rounding


def test_a_dataset_keeps_all_else():
    frame = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "rating": [1.0, 4.0, 5.0]})
    movies = pl.DataFrame({"item": ["x", "y"], "title": ["X", "Y"]})
    data = read_log(frame, item_features=movies, name="three")
    liked = binary(data, threshold=4)
    assert len(liked) == 2
    assert liked.users is data.users
    assert liked.item_titles.to_list() == ["X", "Y"]
    assert liked.name == "three"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: binary(log, threshold=6), "threshold=6 leaves no interaction: the largest weight is 5; lower it"),
        (lambda log: scaled(log, lowest=2), "lowest must be at most highest, got 2 and 1.0"),
        (lambda log: log_scaled(log, unit=0), "unit must be a finite number above 0, got 0"),
        (lambda log: time_decay(log, half_life_days=-1), "half_life_days must be a finite number above 0, got -1"),
        (lambda log: time_decay(Interactions([0], [0]), half_life_days=1), "needs interactions with times, got none"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(ratings())


def test_weights_come_before_the_split():
    frame = pl.DataFrame({"user": [0, 0, 0], "item": [0, 1, 2], "timestamp": [1, 2, 3]})
    train, _, test = leave_last_out(read_log(frame))
    asked = test.with_interactions(test.interactions, histories=train.interactions)
    with pytest.raises(ValueError, match="before the split"):
        binary(asked)


def test_an_empty_log_stays_empty():
    empty = Interactions([], [], [], [])
    for change in (binary, scaled, log_scaled, lambda log: time_decay(log, half_life_days=1)):
        assert len(change(empty)) == 0
    assert len(binary(empty, threshold=3)) == 0


def test_every_option_is_a_config():
    files = sorted(CONF.glob("weights/*.yaml"))
    assert [file.stem for file in files] == ["binary", "keep", "log", "scaled", "time_decay"]
    for file in files:
        assert len(instantiate(compose("train", [f"weights={file.stem}"]).weights)(ratings())) == 4


def rated(ratings: list, name: str = "rating") -> dict:
    """60 rows of 20 users, whose ratings are these in turn."""
    rows = range(60)
    return {
        "user": [f"u{row % 20}" for row in rows],
        "item": [f"i{row * 7 % 30}" for row in rows],
        name: [ratings[row % len(ratings)] for row in rows],
    }


def test_the_range_of_weights_is_said():
    assert "weight = rating (ratings, 1 to 5)" in read_log(rated([1, 2, 3, 4, 5])).report.columns
    assert "weight = plays (counts, 1 to 500)" in read_log(rated([1, 2, 500], "plays")).report.columns
    assert "weight = rating (all 1)" in read_log(rated([1])).report.columns
    assert "weight = liked (0 or 1)" in read_log(rated([0, 1], "liked"), weight="liked").report.columns


def test_codes_for_not_rated_are_refused_unless_declared(caplog):
    for code in (99, 999, 100):
        with pytest.raises(
            ValueError, match=f"rating is {code} in 10 of 60 rows, and 1 to 5 in the others: .*'not rated'.*weight_kind"
        ):
            read_log(rated([1, 2, 3, 4, 5, code]))
    assert read_log(rated([1, 2, 3, 4, 5, 99]), weight_kind="ratings").weight_kind == "ratings"
    with pytest.raises(ValueError, match=r"got -1; if -1 means 'not rated', skip such rows"):
        read_log(rated([1, 2, 3, -1]))
    with pytest.raises(ValueError, match=r"got -3; if it is a return"):
        read_log(rated([1, 2, -3], "quantity"))


@pytest.mark.parametrize(
    ("ratings", "name", "said"),
    [
        ([1, 2, 3, 4, 50], "rating", "rating is 50 in 12 of 60 rows, and 1 to 4 in the others"),
        (
            [1, 2, 3, 4, 5, 20, 40, 60, 80, 100],
            "rating",
            "rating is 20 to 100 in 30 of 60 rows, and 1 to 5 in the others: two scales",
        ),
        ([0, 0, 3, 4, 5], "rating", "rating is 0 in 24 of 60 rows, and 3 to 5 in the others. If 0 means 'not rated'"),
        (
            [1, 2, 3, 4, 5, 99],
            "weight",
            "weight is 99 in 10 of 60 rows, and 1 to 5 in the others: is it a rating, or a code",
        ),
    ],
)
def test_ratings_out_of_scale_are_warned_of(ratings, name, said, caplog):
    read_log(rated(ratings, name))
    assert said in caplog.text


@pytest.mark.parametrize(
    ("ratings", "name"),
    [
        ([1, 2, 3, 4, 5], "rating"),
        ([10, 20, 30, 100], "rating"),
        ([0, 1, 2, 3, 4, 5] * 3, "rating"),
        ([1, 2, 3, 99], "plays"),
        ([0.5, 2, 5], "stars"),
    ],
)
def test_ordinary_scales_are_not(ratings, name, caplog):
    read_log(rated(ratings, name))
    assert "in the others" not in caplog.text
