"""A row that comes twice is one event, a rating given again replaces the one before, counts add up: for every model alike."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import command

from recsys_dl import Dataset, Interactions, evaluate, leave_last_out, read_log
from recsys_dl.data.checks import leakage
from recsys_dl.data.repeats import fold, kind_of
from recsys_dl.models import ExplicitALS, FunkSVD, ItemKNN, Popularity, UserKNN


def frame(**columns: list) -> pl.DataFrame:
    return pl.DataFrame(columns)


def plays(times: int = 1) -> pl.DataFrame:
    """Return a log of 20 users with 6 items each, every row `times` times."""
    rows = [(f"u{user}", f"i{(user + n) % 9}", 1000 + 10 * n) for user in range(20) for n in range(6)]
    return pl.DataFrame(rows * times, schema=["user", "item", "timestamp"], orient="row")


def test_copies_are_one_event_and_no_test_pair_is_in_train(caplog):
    once, twice = read_log(plays()), read_log(plays(times=2))
    assert "120 of 240 rows repeat the user, item, time and weight of an earlier row" in caplog.text
    assert len(twice) == 120
    assert twice.report.copies == 120
    assert "120 are exact copies of other rows" in str(twice.report)
    assert twice.content_hash == once.content_hash
    train, validation, test = leave_last_out(twice)
    assert not leakage(train, test, validation=validation).count("seen")


def test_repeat_consumption_is_kept_and_a_split_says_what_that_costs(caplog):
    again = pl.concat([plays(), plays().with_columns(pl.col("timestamp") + 500)])
    data = read_log(again)
    assert len(data) == 240
    assert (data.report.copies, data.report.repeated, data.report.repeats) == (0, 120, "keep")
    caplog.clear()
    train, _, test = leave_last_out(data)
    assert leakage(train, test).count("seen") == 20
    assert "20 of 20 test interactions repeat a user and an item of train" in caplog.text
    assert "repeats=last" in caplog.text
    caplog.clear()
    train, _, test = leave_last_out(read_log(again, repeats="last"))
    assert not leakage(train, test).count("seen")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_without_times_repeats_are_a_choice():
    pairs = frame(user=["a", "a", "a", "b"], item=["x", "x", "y", "x"])
    assert len(read_log(pairs)) == 4
    assert read_log(pairs, repeats="sum").interactions.weights_N.tolist() == [2, 1, 1]
    assert read_log(pairs, repeats="first").interactions.weights_N.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="repeats must be null or one of keep, first, last, mean, sum, got 'once'"):
        read_log(pairs, repeats="once")


@pytest.mark.parametrize(
    ("repeats", "expected"),
    [
        ("keep", [(0, 3, 30), (1, 5, 5), (0, 1, 10), (0, 2, 20)]),
        ("first", [(1, 5, 5), (0, 1, 10)]),
        ("last", [(0, 3, 30), (1, 5, 5)]),
        ("mean", [(0, 2, 30), (1, 5, 5)]),
        ("sum", [(0, 6, 30), (1, 5, 5)]),
    ],
)
def test_fold_by_hand(repeats, expected):
    log = Interactions([0, 0, 0, 0], [0, 1, 0, 0], [3, 5, 1, 2], [30, 5, 10, 20])
    folded = fold(log, repeats)
    columns = (folded.items_N.tolist(), folded.weights_N.tolist(), folded.times_N.tolist())
    assert list(zip(*columns, strict=True)) == expected


def test_the_kind_of_weights_goes_by_their_name_then_by_their_values():
    assert kind_of("Rating", np.array([1.0, 100.0])) == "ratings"
    assert kind_of("play_count", np.array([1.0, 2.0])) == "counts"
    assert kind_of(None, np.array([0.5, 5.0])) == "ratings"
    assert kind_of("value", np.array([1.0, 11.0])) == "counts"
    assert kind_of("value", np.linspace(0, 1, 50)) == "counts"
    assert kind_of("rating", np.array([1.0, 1.0])) is None
    assert kind_of("rating", np.array([0.0, 1.0])) is None


def test_a_rating_given_again_replaces_the_one_before():
    ratings = frame(user=["a", "a", "b"], item=["x", "x", "x"], rating=[2, 5, 3], timestamp=[9, 4, 1])
    data = read_log(ratings)
    assert data.weight_kind == "ratings"
    assert data.interactions.by_user.toarray().ravel().tolist() == [2, 3]  # of a the later one, though it stands first
    counted = read_log(ratings, weight_kind="counts")
    assert counted.interactions.by_user.toarray().ravel().tolist() == [7, 3]
    with pytest.raises(ValueError, match="weight_kind must be null, ratings or counts, got 'stars'"):
        read_log(ratings, weight_kind="stars")


@pytest.mark.parametrize(
    "model",
    [
        ItemKNN(),
        UserKNN(),
        ItemKNN(measure="pearson_baseline"),
        ExplicitALS(embedding_size=4),
        FunkSVD(embedding_size=4, epochs=5),
    ],
)
def test_every_model_of_ratings_averages_what_it_is_given_twice(model):
    rng = np.random.default_rng(1)
    users, items = np.nonzero(rng.random((30, 12)) < 0.6)
    ratings = rng.integers(1, 6, len(users)).astype(np.float64)
    twice = [np.concatenate([column, column]) for column in (users, items, ratings)]
    model.fit(Interactions(*twice))
    assert model.rating_range_2.tolist() == [1, 5]
    predicted = model.predict(users, items)
    np.testing.assert_allclose(
        predicted, model.fit(Interactions(users, items, ratings)).predict(users, items), rtol=1e-3
    )


def test_learning_on_keeps_averages(tmp_path: Path):
    first = Interactions([0, 0, 1, 1, 2], [0, 1, 0, 1, 1], [5, 1, 4, 2, 3], num_users=3, num_items=2)
    again = Interactions([0, 2], [0, 0], [3, 2], num_users=3, num_items=2)
    model = ItemKNN().fit(first).fine_tune(again)
    assert model._ratings().toarray().tolist() == [[4, 1], [4, 2], [2, 3]]
    assert model.interactions_UI.toarray().tolist() == [[8, 1], [4, 2], [2, 3]]
    model.save(tmp_path / "knn")
    loaded = ItemKNN.load(tmp_path / "knn")
    np.testing.assert_array_equal(loaded.predict([0, 1], [0, 1]), model.predict([0, 1], [0, 1]))
    np.testing.assert_array_equal(loaded.rating_range_2, [1, 4])


def test_a_grade_given_twice_is_averaged_and_counts_are_summed():
    train = Interactions([0, 1, 1, 2], [0, 0, 1, 1], num_users=3, num_items=5)
    model = Popularity().fit(train)
    once = Interactions([2, 2], [0, 3], [3, 1], num_users=3, num_items=5)
    twice = Interactions([2, 2, 2], [0, 0, 3], [3, 3, 1], num_users=3, num_items=5)

    def figure(test: Interactions | Dataset) -> float:
        return evaluate(model, train, test, k=2, metrics=["ndcg"], gains="linear").values["ndcg@2"]

    second = 1 / np.log2(3)  # at rank 2 one of three items that nobody has, all tied
    assert figure(twice) == figure(once) == pytest.approx((3 + second / 3) / (3 + second))
    ids = (
        read_log(frame(user=list("0122"), item=list("0011"))).users,
        read_log(frame(user=list("00000"), item=list("01234"))).items,
    )
    counted = Dataset(twice, *ids, weight_kind="counts")
    assert figure(counted) == pytest.approx((6 + second / 3) / (6 + second))


def test_weights_of_zero_are_seen_but_not_learned_from(caplog):
    log = frame(user=["a", "a", "b"], item=["x", "y", "x"], plays=[0, 7, 2])
    with caplog.at_level(logging.INFO):
        data = read_log(log)
    assert len(data) == 2
    assert data.seen_only.items_N.tolist() == [0]
    assert "1 interactions of weight 0 are kept as seen, but not used for training" in caplog.text
    assert len(read_log(log.rename({"plays": "rating"}))) == 3  # a scale that begins at 0
    thumbs = read_log(frame(user=["a", "a"], item=["x", "y"], rating=[0, 1]))
    assert (len(thumbs), len(thumbs.seen)) == (1, 2)
    read_log(frame(user=["a", "b"], item=["x", "y"], plays=[0, 0]))
    assert "all weights are 0" in caplog.text
    assert "data.weight=false" in caplog.text


def test_the_command_takes_the_choice(tmp_path: Path):
    pl.concat([plays(), plays().with_columns(pl.col("timestamp") + 500)]).write_csv(tmp_path / "log.csv")
    words = ("train", "data=log", "data.path=log.csv", "model=popularity", "evaluate.part=test", "evaluate.k=[5]")
    assert "20 of 20 test interactions repeat" in command(*words, "run=kept", cwd=tmp_path).stderr
    done = command(*words, "run=last", "data.repeats=last", cwd=tmp_path)
    assert "repeat" not in done.stderr
    assert "excluded test items: 0" in done.stdout
