"""The generated log follows the truth that was planted, and nobody scores better on it than the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hydra.utils import instantiate

from recsys_dl import Interactions, evaluate, leave_last_out
from recsys_dl.compose import compose
from recsys_dl.data.checks import leakage
from recsys_dl.data.generated import COLD_FROM, DAY, START, Planted, generated
from recsys_dl.data.split import time_split
from recsys_dl.evaluation.oracle import Oracle
from recsys_dl.models import EASE, Popularity

SMALL = Planted(num_users=300, num_items=200, num_interactions=6_000, num_tastes=4, seed=3)


@pytest.fixture(scope="module")
def data():
    return SMALL.dataset()


def test_counts_and_shapes(data):
    log = data.interactions
    assert (len(log), log.num_users, log.num_items) == (6_000, 300, 200)
    assert np.diff(log.times_N).min() >= 0  # in the order of time
    assert log.times_N[0] >= START
    assert log.times_N[-1] < START + 730 * DAY
    counts_U = np.bincount(log.users_N, minlength=300)
    assert counts_U.min() >= 3
    assert counts_U.max() <= 200 // 5
    assert len(np.unique(log.users_N * 200 + log.items_N)) == 6_000  # nobody has an item twice
    assert data.user_features.columns == ["segment"]
    assert data.item_features.columns == ["category", "season", "released"]
    assert data.item_titles.n_unique() == 200
    assert (data.items.ids[17], data.users.ids[17]) == ("i17", "u17")


def test_the_same_arguments_the_same_log(data):
    assert SMALL.dataset().content_hash == data.content_hash
    again = generated(num_users=300, num_items=200, num_interactions=6_000, num_tastes=4, seed=4)
    assert again.content_hash != data.content_hash
    config = compose("train", ["data=generated", "seed=7"]).data
    assert instantiate(config).content_hash == Planted().dataset().content_hash  # the YAML says what the class says


def test_probabilities_are_probabilities():
    moments = START + (np.arange(300) * 2.4 * DAY).astype(np.int64)
    for times in (None, moments):
        scores = SMALL.probabilities(np.arange(300), times)
        assert scores.min() >= 0
        np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-12)  # 200 additions in float64
    early, late = (SMALL.probabilities(np.arange(9), np.full(9, START + day * DAY)) for day in (656, 658))
    assert COLD_FROM * 730 == 657
    assert (early[:, SMALL.cold_I] == 0).all()
    assert (late[:, SMALL.cold_I] > 0).all()
    assert SMALL.cold_I.sum() == 20
    assert (SMALL.season_I >= 0).sum() == 60


def test_draws_follow_the_probabilities():
    planted = Planted(num_users=40, num_items=30, num_interactions=120, num_tastes=3, seed=1)
    n = 200_000
    for period in (0, 5):
        items = planted._draw(np.full(n, 7), np.full(n, period), np.random.default_rng(0))
        expected = planted.tastes_UC[7] @ planted.items_PCI[period]
        spread = np.sqrt(expected * (1 - expected) / n)
        # 5 standard errors: 30 binomial counts stray further once in 50,000 runs, and the seed is fixed
        assert (np.abs(np.bincount(items, minlength=30) / n - expected) <= 5 * spread).all()


def test_repeats_are_drawn_again_as_if_in_turn():
    """Two draws without repeats: P(a, then b) = p_a p_b / (1 - p_a), by which the order matters."""
    planted = Planted(num_users=1, num_items=30, num_interactions=3, num_tastes=1, cold_items=0, seed=0)
    object.__setattr__(planted, "num_users", 200_000)  # many users with the same single taste
    users = np.tile(np.arange(200_000), 2)
    items = planted._items(users, np.zeros(len(users), np.int64), np.random.default_rng(5)).reshape(2, -1)
    p = planted.items_PCI[0, 0]
    expected = p[:, None] * p / (1 - p[:, None])
    np.fill_diagonal(expected, 0)
    found = np.bincount(items[0] * 30 + items[1], minlength=900).reshape(30, 30) / 200_000
    # 5.5 standard errors: 870 cells stray further once in 30,000 runs, and the seed is fixed
    assert (np.abs(found - expected) <= 5.5 * np.sqrt(expected / 200_000) + 1e-12).all()


def test_seasons_and_cold_items_show(data):
    log = data.interactions
    summer = SMALL.season_I == 2
    in_summer = (((log.times_N - START) / DAY) % 365 // 91.25) == 2
    share_in, share_out = summer[log.items_N[in_summer]].mean(), summer[log.items_N[~in_summer]].mean()
    assert share_in > 2 * share_out  # five times as popular
    first_cold = np.flatnonzero(SMALL.cold_I[log.items_N])[0]
    assert log.times_N[first_cold] >= START + COLD_FROM * 730 * DAY
    split = time_split(data, validation=0)
    assert leakage(split.train, split.test).count("unknown items") > 5


def test_texts_tell_tastes(data):
    """A classifier by shared words, nothing else, finds the taste of nearly every item."""
    lines = [set(text.split()) for text in data.item_texts]
    for line, taste in list(zip(lines, SMALL.taste_I, strict=True))[:50]:
        overlaps = [
            sum(len(line & other) for other, theirs in zip(lines, SMALL.taste_I, strict=True) if theirs == guess)
            for guess in range(4)
        ]
        assert np.argmax(overlaps) == taste


def test_the_oracle_is_the_best_and_its_score_is_known():
    planted = Planted(num_users=3_000, num_items=150, num_interactions=40_000, num_tastes=6, seed=2)
    train, validation, test = leave_last_out(planted.dataset())
    known = Interactions.concat([train.interactions, validation.interactions])
    oracle = Oracle(planted, test)
    expected = oracle.best_possible(test, known, 10)
    scores = evaluate(oracle, train, test, k=10, exclude=validation)
    for name, value in expected.items():
        # 4 standard errors of the mean over 3,000 users
        assert abs(scores.values[name] - value) < 4 * scores.per_user[name].std() / np.sqrt(3_000)
    for model in (Popularity(), EASE()):
        rival = evaluate(model.fit(train), train, test, k=10, exclude=validation)
        assert rival.values["ndcg@10"] < scores.values["ndcg@10"]
    blind = evaluate(Oracle(planted), train, test, k=10, exclude=validation)  # knows no season
    assert blind.values["ndcg@10"] < scores.values["ndcg@10"]


def test_what_the_oracle_answers():
    oracle = Oracle(SMALL)
    p = SMALL.probabilities(np.array([5]))[0]
    best = np.argsort(-p)
    ranking = oracle.recommend([5], 3)
    assert ranking.items_BK.tolist() == [best[:3].tolist()]
    np.testing.assert_allclose(ranking.scores_BK[0], p[best[:3]], rtol=1e-6)  # float32
    scores = oracle.score([5], np.array([[best[0], -1]]))
    assert scores[0, 0] == ranking.scores_BK[0, 0]
    assert scores[0, 1] == -np.inf
    most = Interactions(np.full(198, 5), best[:198], num_users=300, num_items=200)
    assert oracle.recommend([5], 4, exclude=most).items_BK.tolist() == [[best[198], best[199], -1, -1]]
    assert oracle.recommend([5], 200).items_BK.shape == (1, 200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_tastes": 0}, "num_tastes must be between 1 and 1000 for 1000 items, got 0"),
        ({"num_interactions": 5_999}, r"between 6,000 \(3 per user\) and 200,000 .* got 5,999"),
        ({"num_interactions": 200_001}, "got 200,001"),
        ({"num_users": 0, "num_interactions": 0}, "got 0"),
        ({"cold_items": 0.8}, "together at most 1, got 0.8 and 0.3"),
        ({"taste_purity": 1.0}, "taste_purity must be between 0 and 0.99, got 1.0"),
        ({"days": 0}, "days must be between 1 and 36500, got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        generated(**arguments)


def test_what_the_oracle_refuses(data):
    with pytest.raises(ValueError, match="asked must have times"):
        Oracle(SMALL, Interactions([0], [0]))
    with pytest.raises(ValueError, match="one interaction per user, got .* use leave_last_out"):
        Oracle(SMALL).best_possible(data, data, 10)
