"""Hybrids: combinations computed by hand, planted optima, parts that know only some items, and what is kept."""

import copy
import logging

import numpy as np
import pytest
from test_contract import ALL_USER, NUM_ITEMS, NUM_USERS, planted

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.held_out import hold_out
from recsys_dl.families.part_scores import first_knowing, normalized, weighted_sum
from recsys_dl.families.weight_search import best_weights
from recsys_dl.models import ALS, EASE, Hybrid, ItemKNN, Popularity
from recsys_dl.retrieval import Exact, Retriever
from recsys_dl.saving import load_saved


class Table(CatalogModel):
    """Scores as given, [U, I]; knows the items that it is told."""

    def __init__(self, scores_UI=(), known=(), blank=False):
        self.scores_UI, self.known, self.blank = np.array(scores_UI, np.float32), list(known), blank
        self.popularity_fallback = not blank

    def user_sources(self, users):
        return np.full(len(users), "features") if self.blank else super().user_sources(users)

    def item_sources(self):
        known_I = np.isin(np.arange(self.num_items), self.known) if self.known else np.ones(self.num_items, bool)
        return np.where(known_I, "features", "nothing")

    def fit(self, train):
        self._begin(train)
        return self

    def _values(self, users_B):
        return users_B

    def _fold(self, histories):
        return np.zeros(histories.num_users, int)

    def _scores(self, values):
        return self.scores_UI[values].copy()

    def _item_scores(self, items_B):
        return np.tile(self.scores_UI[0], (len(items_B), 1))


ONE = Interactions([0, 0], [3, 4], num_users=1, num_items=5)


def tables(*rows, log=ONE, **settings) -> Hybrid:
    return Hybrid({f"t{at}": Table([row]) for at, row in enumerate(rows)}, **settings).fit(log)


@pytest.fixture(scope="module")
def train() -> Dataset:
    return Dataset(
        planted(),
        Vocabulary([f"u{row}" for row in range(NUM_USERS)], noun="user"),
        Vocabulary([f"i{row}" for row in range(NUM_ITEMS)], noun="item"),
    )


def two() -> dict:
    return {"als": ALS(embedding_size=8, epochs=2, device="cpu"), "knn": ItemKNN(device="cpu")}


def test_weighted_by_hand():
    hybrid = tables([0, 1, 2, 3, 4], [10, 0, 0, 0, 0], weights={"t0": 3, "t1": 1}, normalize="min_max")
    np.testing.assert_allclose(hybrid.score([0], [range(5)])[0], [0.25, 0.1875, 0.375, 0.5625, 0.75], rtol=1e-6)
    hybrid = tables([0, 1, 2, 3, 4], [10, 0, 0, 0, 0], weights={"t0": 1, "t1": 1})
    z0, z1 = (np.arange(5) - 2) / np.sqrt(2), (np.array([10, 0, 0, 0, 0]) - 2) / 4
    np.testing.assert_allclose(hybrid.score([0], [range(5)])[0], (z0 + z1) / 2, rtol=1e-6)
    hybrid = tables([0, 1, 2, 3, 4], [10, 0, 0, 0, 0], weights={"t0": 1, "t1": 1}, normalize="rank")
    ranks = np.array([[5, 4, 3, 2, 1], [1, 2, 3, 4, 5]])
    np.testing.assert_allclose(hybrid.score([0], [range(5)])[0], (1 / (60 + ranks)).mean(axis=0), rtol=1e-6)


def test_mixed_and_cascade_by_hand():
    rows = [5, 4, 3, 2, 1], [1, 2, 3, 4, 5]
    assert list(tables(*rows, how="mixed").recommend([0], k=5).items_BK[0]) == [0, 4, 1, 3, 2]
    assert list(tables(*rows, how="mixed").recommend([0], k=2, exclude=ONE).items_BK[0]) == [0, 2]
    cascade = tables(*rows, how="cascade", num_candidates=3)
    assert list(cascade.recommend([0], k=5).items_BK[0]) == [2, 1, 0, 3, 4]
    assert list(cascade.recommend([0], k=2, allow=[1, 3, 4]).items_BK[0]) == [4, 3]
    halved = [tables(*rows, [0, 9, 0, 0, 0], how="cascade", num_candidates=count) for count in (4, [4, 2])]
    assert halved[0].recommend([0], k=5).items_BK.tolist() == halved[1].recommend([0], k=5).items_BK.tolist()
    three = tables(*rows, [0, 9, 0, 0, 0], how="cascade", num_candidates=[4, 3])
    assert list(three.recommend([0], k=5).items_BK[0]) == [1, 3, 2, 0, 4]


def test_an_item_that_a_part_does_not_know_is_scored_by_the_others_on_the_same_scale():
    parts = {"a": Table([[0, 1, 2, 3, -99]], known=[0, 1, 2, 3]), "b": Table([[0, 10, 20, 30, 25]])}
    hybrid = Hybrid(parts, weights={"a": 1, "b": 1}).fit(ONE)
    scores = hybrid.score([0], [range(5)])[0]
    np.testing.assert_allclose(np.diff(scores[:4]), np.diff(scores[:2])[0], rtol=1e-5)
    assert scores[4] == pytest.approx(scores[2:4].mean(), rel=1e-5)  # 25 lies between 20 and 30
    assert list(hybrid.answered_by([0], [[0, 4]])[0]) == ["a + b", "b"]
    switching = Hybrid(copy.deepcopy(parts), how="switching").fit(ONE)
    assert switching.score([0], [range(5)])[0, 4] == pytest.approx(switching.score([0], [[2, 3]]).mean(), rel=1e-5)
    assert list(switching.answered_by([0], [[0, 4]])[0]) == ["a", "b"]


def test_fewer_parts_do_not_make_an_item_more_extreme():
    """Of two parts that disagree the mean varies less than each: what one alone scores is brought to that scale."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 1, 2000)).astype(np.float32)
    knows = np.ones(scores.shape, bool)
    knows[0, :, 1000:] = False
    total = weighted_sum(normalized(scores, knows, "z_score"), knows, np.array([[0.5, 0.5]], np.float32))[0]
    assert total[1000:].std() == pytest.approx(total[:1000].std(), rel=0.1)


def test_an_item_that_nobody_knows_has_the_lowest_score():
    parts = {"a": Table([[0, 1, 2, 3, 99]], known=[0, 1, 2, 3]), "b": Table([[0, 1, 2, 3, 99]], known=[0, 1])}
    for how in ("weighted", "switching", "mixed", "cascade"):
        hybrid = Hybrid(copy.deepcopy(parts), how=how, weights={"a": 1, "b": 2} if how == "weighted" else None).fit(ONE)
        scores = hybrid.score([0], [range(5)])[0]
        assert np.isfinite(scores).all()
        assert scores[4] == scores.min()
        assert hybrid.answered_by([0], [[4]])[0, 0] == ""
    assert list(hybrid.item_sources()) == ["a + b"] * 2 + ["a"] * 2 + ["nothing"]


def test_switching_by_what_is_known_of_users_and_items():
    log = Interactions([0, 0, 0, 1, 2, 2], [0, 1, 2, 0, 0, 1], num_users=3, num_items=4)
    up, down = np.tile(np.arange(4), (3, 1)), np.tile(np.arange(4)[::-1], (3, 1))
    switching = Hybrid(
        {"up": Table(up), "down": Table(down)},
        how="switching",
        min_user_interactions={"up": 2},
        min_item_interactions={"up": 1},
    ).fit(log)
    assert [list(row) for row in switching.answered_by([0, 1], np.tile([0, 1, 3], (2, 1)))] == [
        ["up", "up", "down"],
        ["down"] * 3,
    ]
    assert list(switching.recommend([0, 1], k=1, allow=[0, 1, 2]).items_BK[:, 0]) == [2, 0]
    new = switching.fold_in([[3], [1, 2]])
    assert list(switching.recommend(new, k=1, allow=[0, 1, 2]).items_BK[:, 0]) == [0, 2]


def test_a_user_of_whom_nothing_is_known_is_answered_by_the_parts_that_can():
    log = Interactions([0, 0, 0], [3, 3, 4], num_users=2, num_items=5)
    scores = np.tile(np.arange(5)[::-1], (2, 1))
    blind, knowing = Table(np.zeros((2, 5))), Table(scores, blank=True)
    hybrid = Hybrid({"blind": blind, "knowing": knowing}, weights={"blind": 1, "knowing": 0}).fit(log)
    assert list(hybrid.recommend([1], k=2).items_BK[0]) == [0, 1]
    assert hybrid.answered_by([1], [[0]])[0, 0] == "knowing"
    assert hybrid.answered_by([0], [[0]])[0, 0] == "blind"
    both = Hybrid({"a": Table(scores), "b": Table(scores)}, weights={"a": 1, "b": 1}).fit(log)
    assert list(hybrid.user_sources([0, 1])) == ["history", "knowing"]
    assert list(both.user_sources([0, 1])) == ["history", "popularity"]
    assert both.answered_by([1], [[0]])[0, 0] == "popularity"


@pytest.mark.parametrize("normalize", ["z_score", "min_max", "rank"])
def test_one_part_alone_or_with_all_the_weight_orders_as_it_does(train, normalize):
    users = np.arange(NUM_USERS)
    for name in two():
        alone = two()[name].fit(train).recommend(users, k=10, exclude=train).items_BK
        weights = {other: float(other == name) for other in two()}
        whole = Hybrid(two(), weights=weights, normalize=normalize).fit(train)
        single = Hybrid({name: two()[name]}, normalize=normalize).fit(train)
        for hybrid in (whole, single):
            found = hybrid.recommend(users, k=10, exclude=train).items_BK
            assert (found[:60] == alone[:60]).mean() > 0.99  # rounding may break or make ties


def halves(seed: int = 0) -> tuple[Interactions, Interactions, dict]:
    """Items of two dimensions; each of two parts sees one, the third is noise. Users like what is high in 0.7 x first + 0.3 x second."""
    rng = np.random.default_rng(seed)
    num_users, num_items = 400, 120
    first, second, noise = rng.normal(size=(3, num_users, num_items))
    liked = np.argsort(-(0.7 * first + 0.3 * second), axis=1)[:, :10]
    known = rng.integers(0, num_items, (num_users, 4))
    log = Interactions(np.repeat(np.arange(num_users), 4), known.ravel(), num_users=num_users, num_items=num_items)
    fresh = [(user, item) for user in range(num_users) for item in liked[user] if item not in known[user]]
    asked = Interactions(*zip(*fresh, strict=True), num_users=num_users, num_items=num_items)
    return log, asked, {"first": Table(first), "second": Table(3 * second + 1), "noise": Table(noise)}


def test_tuned_weights_find_the_planted_optimum_and_beat_the_half_blind_parts():
    from recsys_dl import evaluate

    log, asked, parts = halves()
    fitted = {name: part.fit(log) for name, part in parts.items()}
    even = Interactions(asked.users_N[::2], asked.items_N[::2], num_users=400, num_items=120)
    odd = Interactions(asked.users_N[1::2], asked.items_N[1::2], num_users=400, num_items=120)
    hybrid = Hybrid(fitted).combine(log, even)
    first, second, noise = hybrid.weights_SP[0]
    assert first == pytest.approx(0.7, abs=0.1)
    assert second == pytest.approx(0.3, abs=0.1)
    assert noise <= 0.03
    figures = {
        name: evaluate(one, log, odd, k=10).values["ndcg@10"] for name, one in {**fitted, "hybrid": hybrid}.items()
    }
    assert figures["hybrid"] > max(figures["first"], figures["second"]) + 0.03


def test_weights_by_segment():
    """Users of whom much is known like what is first in one table, the others what is first in another."""
    rng = np.random.default_rng(1)
    one, other = rng.normal(size=(2, 400, 120))
    known = Interactions(np.repeat(np.arange(200), 20), np.tile(np.arange(20), 200), num_users=400, num_items=120)
    few = Interactions(np.arange(200, 400), np.zeros(200, int), num_users=400, num_items=120)
    log = Interactions.concat([known, few])
    liked = np.concatenate([one[:200, 20:].argsort()[:, -5:] + 20, other[200:, 1:].argsort()[:, -5:] + 1])
    asked = Interactions(np.repeat(np.arange(400), 5), liked.ravel(), num_users=400, num_items=120)
    parts = {"one": Table(one).fit(log), "other": Table(other).fit(log)}
    hybrid = Hybrid(parts, segments=[10]).combine(log, asked)
    assert hybrid.weights_SP[0, 1] > 0.9
    assert hybrid.weights_SP[1, 0] > 0.9
    np.testing.assert_array_equal(hybrid._user_weights(np.array([0, 399])), hybrid.weights_SP[[1, 0]])
    whole = Hybrid(parts, segments=[10_000]).combine(log, asked)
    np.testing.assert_array_equal(whole.weights_SP[0], whole.weights_SP[1])  # nobody there: those of all users
    assert 0.1 < whole.weights_SP[0, 0] < 0.9


def test_the_search_finds_any_corner_and_the_inside():
    for goal in ([0.0, 0.0, 1.0], [0.6, 0.4, 0.0], [0.2, 0.3, 0.5]):
        found, value = best_weights(lambda weights_P, goal=goal: -float(np.abs(weights_P - goal).sum()), 3)
        np.testing.assert_allclose(found, goal, atol=0.03)
        assert value <= 0


def test_what_is_held_out(train):
    left, held = hold_out(train, 0.2, "auto", 0)
    assert len(left) + len(held) == len(train)
    mine = held.interactions.times_N[held.interactions.users_N == 0]
    assert len(mine) == 3
    assert mine.min() > left.interactions.times_N[left.interactions.users_N == 0].max()
    first, second = (hold_out(train, 0.2, "random", seed)[1].interactions.items_N for seed in (0, 1))
    assert not np.array_equal(first, second)
    assert hold_out(Interactions([0, 1], [0, 0]), 0.5, "auto", 0) is None


def test_a_log_too_small_for_tuning_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        hybrid = Hybrid(two()).fit(Interactions([0, 1, 2], [0, 1, 1]))
    assert "no weights can be tuned" in caplog.text
    np.testing.assert_allclose(hybrid.weights_SP, 0.5)


def failing(train):
    raise ValueError("no")


def test_parts_given_stay_as_they_are_and_a_failed_fit_changes_nothing(train):
    given = two()
    hybrid = Hybrid(given, weights={"als": 1, "knn": 1}).fit(train)
    assert not hasattr(given["als"], "num_items")
    assert hasattr(hybrid.parts["als"], "num_items")
    before = hybrid.recommend([0], k=5).items_BK
    hybrid.parts["knn"].fit = failing
    with pytest.raises(ValueError, match="the part knn could not be fitted"):
        hybrid.fit(train)
    np.testing.assert_array_equal(hybrid.recommend([0], k=5).items_BK, before)


@pytest.mark.parametrize("how", ["weighted", "switching", "mixed", "cascade"])
def test_saved_and_loaded(train, tmp_path, how):
    hybrid = Hybrid(two(), how=how).fit(train)
    hybrid.save(tmp_path / "hybrid")
    again = load_saved(tmp_path / "hybrid", Hybrid, noun="model")
    users = np.array([0, 1, 60, 61])
    one, other = (model.recommend(users, k=8, exclude=train) for model in (hybrid, again))
    np.testing.assert_array_equal(one.items_BK, other.items_BK)
    np.testing.assert_array_equal(one.scores_BK, other.scores_BK)
    fresh = Hybrid(two(), how=how)
    fresh.users = fresh.items = None
    for part, fitted in zip(fresh.parts.values(), hybrid.parts.values(), strict=True):
        part.users = part.items = None
        part.restore(fitted.arrays())
    fresh.restore(hybrid.arrays())
    np.testing.assert_array_equal(fresh.recommend(users, k=8).items_BK, hybrid.recommend(users, k=8).items_BK)


def test_a_part_swapped_in_the_folder_is_noticed_and_nothing_is_half_written(train, tmp_path):
    hybrid = Hybrid(two(), weights={"als": 1, "knn": 1}).fit(train)
    hybrid.save(tmp_path / "hybrid")
    ItemKNN(device="cpu").fit(Interactions([0, 1], [0, 1])).save(tmp_path / "hybrid/parts/knn", overwrite=True)
    with pytest.raises(ValueError, match="is damaged: all parts must be fitted on one log"):
        load_saved(tmp_path / "hybrid", Hybrid, noun="model")

    class Unsaved(Table):
        def save(self, folder, **options):
            raise OSError("the disk is full")

    broken = Hybrid({"a": two()["knn"], "b": Unsaved(np.zeros((NUM_USERS, NUM_ITEMS)))}, weights={"a": 1, "b": 1}).fit(
        train
    )
    with pytest.raises(OSError, match="disk is full"):
        broken.save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_parts_that_are_served_pipelines_or_hybrids(train):
    from recsys_dl.pipeline import Pipeline

    parts = {
        "served": Retriever(two()["als"], Exact(device="cpu")),
        "pipeline": Pipeline({"knn": two()["knn"]}, num_candidates=5),
        "hybrid": Hybrid({"ease": EASE(device="cpu"), "popular": Popularity()}, weights={"ease": 1, "popular": 0}),
    }
    hybrid = Hybrid(parts, weights={"served": 1, "pipeline": 1, "hybrid": 1}).fit(train)
    users = np.arange(60)
    top = hybrid.recommend(users, k=3, exclude=train).items_BK
    assert (top % 2 == (users % 2)[:, None]).mean() > 0.95
    assert "pipeline" not in hybrid.answered_by([0], [[NUM_ITEMS - 1]])[0, 0]
    assert hybrid.similar_items([0], k=3).items_BK.shape == (1, 3)


def test_first_knowing_takes_the_first():
    scores = np.array([[[1, 2, 3]], [[4, 5, 6]]], np.float32)
    may = np.array([[[True, False, False]], [[True, True, False]]])
    assert first_knowing(scores, may).tolist() == [[1, 5, 1]]


def exported(hybrid, folder, train):
    import torch

    from recsys_dl.export import export

    export(hybrid, folder, seen=train.seen, exclude_seen=False)
    return torch.jit.load(folder / "scorer.pt"), torch.jit.load(folder / "user_tower.pt")


@pytest.mark.parametrize("normalize", ["z_score", "min_max", "rank"])
@pytest.mark.parametrize("how", ["weighted", "segments", "switching"])
def test_exported_scores_are_the_same(train, tmp_path, how, normalize):
    """Also where a part knows only some items, and for weights by segment."""
    import torch

    settings: dict = {"weights": {"als": 0.7, "ease": 0.3}}
    if how == "segments":
        settings = {"segments": [5, 18]}
    elif how == "switching":
        settings = {"how": "switching", "min_user_interactions": {"als": 10}, "min_item_interactions": {"als": 25}}
    parts = {"als": ALS(embedding_size=8, epochs=2, device="cpu"), "ease": EASE(device="cpu")}
    hybrid = Hybrid(parts, normalize=normalize, **settings).fit(train)
    if how == "segments":
        hybrid.weights_SP = np.array([[1, 0], [0.5, 0.5], [0.2, 0.8]], np.float32)
    hybrid._know_PI = np.array(np.ones((2, NUM_ITEMS)), bool)
    hybrid._know_PI[0, 30:] = hybrid._know_PI[:, 40] = False
    scorer, tower = exported(hybrid, tmp_path / "served", train)
    served = hybrid.served(train.interactions)
    rows = np.array([0, 1, 7, ALL_USER])
    every = np.tile(np.arange(NUM_ITEMS), (len(rows), 1))
    states = served.states[rows].toarray() if hasattr(served.states, "toarray") else served.states[rows]
    close = {"rtol": 1e-4, "atol": 1e-5}
    own = hybrid.score(rows, every)
    np.testing.assert_allclose(scorer(torch.from_numpy(states)).numpy(), own, **close)
    history = [[0, 2, 4], [1, 3, 5, 7, 9, 11]]
    padded = torch.tensor([[0, 2, 4, -1, -1, -1], history[1]])
    state = tower(torch.tensor([-1, -1]), padded, {"weights_BH": torch.ones(2, 6)})
    np.testing.assert_allclose(scorer(state).numpy(), hybrid.score(hybrid.fold_in(history), every[:2]), **close)


def test_lists_and_parts_that_cannot_be_exported(train, tmp_path):
    from recsys_dl.export import export
    from recsys_dl.pipeline import Pipeline

    with pytest.raises(ValueError, match="how=mixed cannot be exported"):
        export(Hybrid(two(), how="mixed").fit(train), tmp_path / "mixed", seen=train)
    hybrid = Hybrid({"als": two()["als"], "pipe": Pipeline({"knn": two()["knn"]})}, weights={"als": 1, "pipe": 1}).fit(
        train
    )
    with pytest.raises(ValueError, match=r"the part pipe \(Pipeline\) cannot be exported"):
        export(hybrid, tmp_path / "pipe", seen=train)
    assert not list(tmp_path.iterdir())
