"""A fit is whole or not at all, and says when it learned nothing; for every model of conf/model."""

import logging

import numpy as np
import pytest
from test_contract import build, data_for, planted

from recsys_dl.compose import options
from recsys_dl.data.interactions import Interactions
from recsys_dl.learning import whole_or_not
from recsys_dl.progress import track

NEURAL = {"gmf", "mlp", "neumf", "sasrec", "two_tower", "youtube_dnn"}
STEPPING = {"bpr": 1e6, "funk_svd": 1e6, "svd_pp": 1e6} | dict.fromkeys(
    ["feature_mf", *sorted(NEURAL)], 1e30
)  # learning rates that run away


def small(name: str, **settings):
    """A model that is quickly fitted."""
    model = build(name)
    for key, value in {
        "embedding_size": 8,
        "epochs": 2,
        "hidden_sizes": [8, 4],
        "feature_sizes": [],
        **settings,
    }.items():
        if key in model.arguments():
            setattr(model, key, value)
    return model


def answers(model) -> list[np.ndarray]:
    ranking = model.recommend(np.arange(model.num_users), k=5)
    return [ranking.items_BK, ranking.scores_BK, model.recommend(model.fold_in([[0, 2, 4]]), k=5).scores_BK]


@pytest.mark.parametrize("name", options("model"))
def test_weights_that_say_nothing_are_refused(name):
    log = planted()
    model = small(name)
    with pytest.raises(ValueError, match="all weights are 0; weights=binary"):
        model.fit(log.with_weights(np.zeros(len(log))))
    assert not hasattr(model, "num_items")


@pytest.mark.parametrize("name", options("model"))
@pytest.mark.parametrize("weight", [1e30, 3e38, 1e-38])
def test_weights_beyond_float32_give_finite_scores_or_an_error(name, weight):
    log = planted()
    model = small(name)
    try:
        model.fit(data_for(model, log.with_weights(np.full(len(log), weight))))
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "finite" in refused or "scale the weights" in refused
        assert not hasattr(model, "num_items")
        return
    users = np.arange(log.num_users)
    ranking = model.recommend(users, k=log.num_items - len(model.never_listed()))
    assert (ranking.items_BK >= 0).all(), "an item without a score"
    assert np.isfinite(ranking.scores_BK).all()


@pytest.mark.parametrize("name", sorted(STEPPING))
def test_steps_that_run_away_leave_the_model_as_it_was(name):
    model = small(name).fit(planted())
    before = answers(model)
    own = model.learning_rate, model.regularization if hasattr(model, "regularization") else None
    model.learning_rate, model.regularization = STEPPING[name], 0.0
    with pytest.raises(ValueError, match=r"learning_rate"):
        model.fit(planted())
    model.learning_rate, model.regularization = own  # which fold_in looks at too
    for one, two in zip(before, answers(model), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", options("model"))
def test_logs_from_which_nothing_follows_are_told_or_answered(name, caplog):
    """Nobody has anything in common, or everyone has everything: no error, no NaN, and a word where all scores are one."""
    size = 6
    alone = Interactions(np.arange(size), np.arange(size), np.full(size, 3.0))
    everything = Interactions(
        np.repeat(np.arange(size), size), np.tile(np.arange(size), size), np.full(size * size, 3.0)
    )
    for log in (
        alone,
        everything,
        Interactions([0], [0]),
        Interactions([0] * 4, [0, 1, 2, 3]),
        Interactions([0, 1], [0, 0]),
    ):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            model = small(name)
            model.fit(data_for(model, log))
        users = np.arange(log.num_users)
        scores_BI = model.score(users, np.tile(np.arange(log.num_items), (len(users), 1)))
        assert np.isfinite(scores_BI).all()
        if log.num_items > 1 and (np.ptp(scores_BI, axis=1) == 0).all():
            assert "learned nothing useful" in caplog.text


class Stopped(KeyboardInterrupt):
    """Ctrl-C at a place of our choice."""


def stop_after(monkeypatch, steps: int) -> None:
    """Let every progress bar, which all loops of learning show, end in Ctrl-C after some steps."""

    def stopping(iterable, *args, **options):
        for number, one in enumerate(track(iterable, *args, **options)):
            if number == steps:
                raise Stopped
            yield one
        if steps == -1:
            raise Stopped

    for module in ("als", "bpr", "ease", "explicit_als", "feature_mf", "funk_svd", "svd_pp", "rp3beta"):
        monkeypatch.setattr(f"recsys_dl.models.{module}.track", stopping, raising=False)
    monkeypatch.setattr("recsys_dl.families.neighborhood.track", stopping)


MORE = Interactions([0, 1, 2, 62], [1, 0, 3, 41], [5, 4, 3, 5], num_users=63, num_items=42)


@pytest.mark.parametrize("steps", [0, 1, -1])
@pytest.mark.parametrize(
    "name", ["als", "bpr", "ease", "explicit_als", "feature_mf", "funk_svd", "svd_pp", "item_knn", "user_knn"]
)
def test_ctrl_c_in_fit_keeps_what_was(name, steps, monkeypatch):
    fresh, model = small(name), small(name).fit(planted())
    before = answers(model)
    stop_after(monkeypatch, steps)
    other = planted().with_weights(np.ones(len(planted())))
    for one in (fresh, model):
        try:
            one.fit(other)
        except Stopped:
            continue
        pytest.skip("its loops have fewer steps")
    monkeypatch.undo()
    for one, two in zip(before, answers(model), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(ValueError, match="has not been fitted"):
        fresh.recommend([0], k=1)


def breaking_points(name: str) -> list[str]:
    """What learning on calls, at which it can be stopped: the beginning, the kernel, the end."""
    own = {
        "als": ["models.als.solve_rows", "models.als.fetch"],
        "bpr": [f"models.bpr.{one}" for one in ("bpr_epoch", "fetch", "integer_weights")],
        "feature_mf": [f"models.feature_mf.{one}" for one in ("feature_epoch", "vectors")],
        "item_knn": [f"families.neighborhood.{one}" for one in ("updated", "list_matrix", "prepare")],
        "user_knn": [f"families.neighborhood.{one}" for one in ("updated", "list_matrix", "prepare")],
    }
    return [f"recsys_dl.{place}" for place in own[name]] + ["recsys_dl.families.catalog.CatalogModel._check_learned"]


@pytest.mark.parametrize(
    ("name", "place"),
    [(name, place) for name in ("als", "bpr", "feature_mf", "item_knn", "user_knn") for place in breaking_points(name)],
)
@pytest.mark.parametrize("error", [Stopped, MemoryError, ValueError])
def test_learning_on_is_whole_or_not_at_all(name, place, error, monkeypatch):
    model = small(name).fit(planted())
    before = answers(model)

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(place, fail)
    with pytest.raises(error):
        model.fine_tune(MORE)
    monkeypatch.undo()
    assert (model.num_users, model.num_items) == (62, 41)
    for one, two in zip(before, answers(model), strict=True):
        np.testing.assert_array_equal(one, two)
    model.fine_tune(MORE)
    assert (model.num_users, model.num_items) == (63, 42)


@pytest.mark.parametrize("name", sorted(NEURAL))
@pytest.mark.parametrize("method", ["fit", "fine_tune", "grow"])
def test_a_network_that_fails_at_the_end_is_as_before(name, method, monkeypatch):
    model = small(name).fit(planted())
    before = answers(model)
    monkeypatch.setattr(
        "recsys_dl.families.catalog.CatalogModel._check_learned", lambda model: (_ for _ in ()).throw(Stopped)
    )
    with pytest.raises(Stopped):
        getattr(model, method)(MORE)
    for one, two in zip(before, answers(model), strict=True):
        np.testing.assert_array_equal(one, two)


def test_whoever_asks_while_it_learns_is_answered_as_before():
    class Counter:
        def _check_learned(self):
            assert self.numbers == [1, 2]

        @whole_or_not
        def fit(self, asker):
            self.numbers = [1]
            asker.append(getattr(counter, "numbers", None))
            self.numbers = [1, 2]
            return self

    counter, heard = Counter(), []
    assert counter.fit(heard) is counter
    assert heard == [None]
    assert counter.numbers == [1, 2]
    assert "_aside" not in vars(counter)


@pytest.mark.parametrize("name", ["als", "bpr", "explicit_als", "feature_mf", "funk_svd", "svd_pp", *sorted(NEURAL)])
def test_embeddings_that_memory_cannot_hold_are_refused_before_they_are_made(name):
    model = small(name, embedding_size=1 << 40)
    with pytest.raises(MemoryError, match=r"needs about [\d,]+ bytes of memory .* Lower embedding_size"):
        model.fit(planted())
    assert not hasattr(model, "num_items")
