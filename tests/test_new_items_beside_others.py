"""New items in hybrids and pipelines, of whose parts some score items by their content and others know them by interactions alone."""

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, Interactions, Vocabulary, add_items, load_run, read_log
from recsys_dl.bandits import LinearThompson, Thompson
from recsys_dl.cli import main
from recsys_dl.models import ALS, EASE, Content, Hybrid, ItemKNN, Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rankers import CandidateFeatures, LambdaMART
from recsys_dl.rankers.columns import (
    ItemAge,
    ItemPopularity,
    PopularityTrend,
    RetrieverRanks,
    RetrieverScores,
    UserActivity,
)
from recsys_dl.rankers.recent_columns import LastItems
from recsys_dl.rankers.side_columns import ContentSimilarity, ItemFeatures
from recsys_dl.rerankers import MMR, Calibration, Distinct, Exploration, Freshness, Rules
from recsys_dl.wider import WiderCatalog

DAY = 86_400
OLD = np.arange(40)
NEW = pl.DataFrame(
    {
        "item_id": ["n0", "n1"],
        "title": ["New robots", "New roses"],
        "genres": [["robots", "lasers"], ["roses", "kisses"]],
        "year": [2000, 2001],
        "released": [40 * DAY, 10 * DAY],
    }
)


def log(times=True):
    """Users of even rows like robots, the others roses."""
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", 4.0, int(DAY * rng.integers(1, 50)))
        for user in range(30)
        for item in rng.choice(np.arange(user % 2, 40, 2), 8, replace=False)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "rating", "timestamp"], orient="row")
    items = pl.DataFrame(
        {
            "item_id": [f"i{row}" for row in range(40)],
            "title": [f"T{row}" for row in range(40)],
            "genres": [[["robots", "lasers"], ["roses", "kisses"]][row % 2] for row in range(40)],
            "year": [1990 + row % 7 for row in range(40)],
            "released": [DAY * (row % 30) for row in range(40)],
        }
    )
    return read_log(frame if times else frame.drop("timestamp"), item_features=items)


@pytest.fixture(scope="module")
def data():
    return log()


@pytest.fixture
def new(data):
    fresh = Interactions([], [], num_users=data.num_users, num_items=2)
    frame = NEW.select(data.item_features.columns)
    return Dataset(fresh, data.users, Vocabulary(["n0", "n1"]), item_features=frame, item_titles=NEW["title"])


def row(data, user):
    return int(data.users.rows([user])[0])


def split_tastes(model, data):
    """Check that each of two new items goes to those who like its kind, by rows and by histories."""
    for user, first in (("u0", 40), ("u1", 41)):
        rows = [row(data, user)]
        for users in (rows, model.fold_in(Interactions.from_csr(wide(data).by_user[rows]))):
            assert model.recommend(users, 2, allow=[40, 41]).items_BK[0, 0] == first


def wide(data):
    old = data.interactions
    return Interactions(old.users_N, old.items_N, old.weights_N, old.times_N, num_users=data.num_users, num_items=42)


PARTS = {"als": ALS(embedding_size=4, epochs=3, device="cpu"), "ease": EASE(device="cpu"), "content": Content()}


@pytest.mark.parametrize(
    "how",
    [
        {"weights": {"als": 1, "ease": 1, "content": 1}},
        {"weights": {"als": 1, "ease": 0.5, "content": 0}},
        {"weights": {"als": 1, "ease": 1, "content": 1}, "normalize": "rank"},
        {"how": "switching"},
        {"how": "mixed"},
        {"how": "cascade", "num_candidates": [42, 42]},
    ],
    ids=str,
)
def test_a_hybrid_grows_where_a_part_can(how, data, new, tmp_path):
    hybrid = Hybrid(PARTS, **how).fit(data)
    users = np.arange(10)
    before = hybrid.recommend(users, 10, exclude=data)
    hybrid.grow(new)
    assert (hybrid.num_items, len(hybrid.items)) == (42, 42)
    assert isinstance(hybrid.parts["ease"], WiderCatalog)
    if how.get("how") != "cascade":  # in which new items are candidates of content alone, the last part
        split_tastes(hybrid, data)
    after = hybrid.recommend(users, 10, exclude=data, allow=OLD)
    if how.get("how") not in ("mixed", "cascade") and how.get("normalize") != "rank":  # where ranks shift
        np.testing.assert_array_equal(before.items_BK, after.items_BK)
        np.testing.assert_allclose(before.scores_BK, after.scores_BK, rtol=1e-5)
    assert (hybrid.item_sources()[40:] == "content").all()
    assert {"n0", "n1"} == set(hybrid.items.at([40, 41]))
    hybrid.save(tmp_path / "saved")
    again = Hybrid.load(tmp_path / "saved")
    np.testing.assert_array_equal(hybrid.recommend(users, 42).items_BK, again.recommend(users, 42).items_BK)
    near = int(again.similar_items([40], 1).items_BK[0, 0])
    assert data.item_features["genres"][near].to_list() == ["robots", "lasers"]


def test_ease_with_content_is_a_part_that_can(data, new):
    parts = PARTS | {"ease": EASE(content_weight=20, device="cpu")}
    hybrid = Hybrid(parts, how="switching").fit(data).grow(new)
    assert isinstance(hybrid.parts["ease"], EASE)
    assert (hybrid.item_sources()[40:] == "ease + content").all()
    split_tastes(hybrid, data)


def test_weight_0_puts_new_items_last_in_the_order_of_content(data, new):
    hybrid = Hybrid(PARTS, weights={"als": 1, "ease": 1, "content": 0}).fit(data).grow(new)
    lists = hybrid.recommend(np.arange(30), 42).items_BK
    assert set(lists[:, -2:].ravel()) == {40, 41}
    assert (lists[:, -2] == 40 + np.array([int(user[1:]) % 2 for user in data.users.ids])).all()


def test_a_wider_catalog_is_the_model_on_what_it_knows(data, tmp_path):
    knn = ItemKNN(device="cpu").fit(data)
    wider = WiderCatalog(knn, 42, data.items.grow(["n0", "n1"]))
    users = np.arange(5)
    for more in ({}, {"exclude": wide(data)}, {"allow": [1, 3, 40]}, {"allow": [40]}):
        mine = wider.recommend(users, 42, **more)
        theirs = knn.recommend(
            users,
            40,
            **{k: v if k == "exclude" else [i for i in v if i < 40] for k, v in more.items()}
            | ({"exclude": data} if "exclude" in more else {}),
        )
        np.testing.assert_array_equal(mine.items_BK[:, :40], theirs.items_BK)
        assert (mine.items_BK[:, 40:] == -1).all()
    np.testing.assert_array_equal(wider.score([0, 1], [[1, 40], [41, -1]])[:, 1], [-np.inf, -np.inf])
    assert (wider.similar_items([41, 3], 5).items_BK[0] == -1).all()
    np.testing.assert_array_equal(wider.similar_items([41, 3], 5).items_BK[1], knn.similar_items([3], 5).items_BK[0])
    state = wider.fold_in([[1, 40], [41]])
    np.testing.assert_array_equal(wider.recommend(state, 3).items_BK, knn.recommend(knn.fold_in([[1], []]), 3).items_BK)
    wider.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        WiderCatalog.load(tmp_path / "saved").recommend(users, 5).items_BK, wider.recommend(users, 5).items_BK
    )
    for wrong in (lambda: wider.recommend([0], 43), lambda: wider.score([0], [[42]]), lambda: wider.recommend([99], 1)):
        with pytest.raises(ValueError, match=r"42|99"):
            wrong()
    with pytest.raises(ValueError, match="42"):
        wider.recommend([0], 1, allow=[42])
    with pytest.raises(ValueError, match="another model"):
        wider.recommend(knn.fold_in([[1]]), 1)


def columns():
    return [
        RetrieverScores(),
        RetrieverRanks(),
        ItemPopularity(),
        ItemPopularity(window_days=20),
        PopularityTrend(window_days=20),
        ItemAge(),
        UserActivity(),
        ItemFeatures(),
        LastItems(),
        ContentSimilarity(size=4),
    ]


def rerankers():
    return {
        "mmr": MMR(weight=0.2),
        "alike": MMR(weight=0.2, compare_by="content"),
        "distinct": Distinct(by="title"),
        "fresh": Freshness(half_life_days=30, weight=0.1),
        "dated": Freshness(half_life_days=30, weight=0.1, age_column="released"),
        "calibrated": Calibration(categories="genres", weight=0.2),
        "rules": Rules(rules=[{"name": "kinds", "at_most": 8, "per": "genres"}]),
    }


def test_a_ranked_and_reranked_pipeline_takes_new_items(data, new, tmp_path):
    pipeline = Pipeline(
        {"als": PARTS["als"], "popular": Popularity(), "content": Content()},
        features=CandidateFeatures(columns()),
        ranker=LambdaMART(num_trees=5, min_documents=5),
        examples={"rounds": 1},
        rerankers=rerankers(),
    ).fit(data)
    users = np.arange(10)
    before = pipeline.recommend(users, 10, exclude=data)
    old = pipeline.features.compute(users, np.tile(OLD, (10, 1)), *evidence(pipeline, users, OLD))
    pipeline.grow(new, seen=data.interactions)
    after = pipeline.recommend(users, 10, exclude=data, allow=OLD)
    np.testing.assert_array_equal(before.items_BK, after.items_BK)
    np.testing.assert_allclose(before.scores_BK, after.scores_BK, rtol=1e-4)
    every = np.arange(42)
    grown = pipeline.features.compute(users, np.tile(every, (10, 1)), *evidence(pipeline, users, every))
    same = [at for at, name in enumerate(pipeline.features.names) if name != "content 1/rank"]  # ranks among more items
    np.testing.assert_allclose(grown[:, :40][..., same], old[..., same], atol=1e-5)
    twin = int(np.flatnonzero([kinds[0] == "robots" for kinds in data.item_features["genres"].to_list()])[0])
    of = [at for at, name in enumerate(pipeline.features.names) if name.startswith("item genres=")]
    np.testing.assert_array_equal(grown[:, 40][:, of], grown[:, twin][:, of])
    popularity = pipeline.features.names.index("popularity")
    assert (grown[:, 40:, popularity] == 0).all()
    split_tastes(pipeline, data)
    assert {40, 41} & set(pipeline.recommend(users, 40).items_BK.ravel())
    pipeline.save(tmp_path / "saved")
    again = Pipeline.load(tmp_path / "saved")
    np.testing.assert_array_equal(pipeline.recommend(users, 20).items_BK, again.recommend(users, 20).items_BK)
    more = Dataset(
        Interactions([], [], num_users=data.num_users, num_items=1),
        data.users,
        Vocabulary(["m0"]),
        item_features=new.item_features[:1],
    )
    again.grow(more, seen=wide(data))
    assert again.num_items == 43
    assert np.isfinite(again.score([0], [[42]], allow=[42])).all()


def evidence(pipeline, users, items):
    scores = {name: one.score(users, np.tile(items, (len(users), 1))) for name, one in pipeline.retrievers.items()}
    return (scores,)


@pytest.mark.parametrize("contexts", [False, True])
def test_policies_keep_what_they_learned(contexts, data, new):
    policy = LinearThompson() if contexts else Thompson()
    shown = Exploration(policy, places=[1], contexts=contexts)
    pipeline = Pipeline({"als": PARTS["als"], "content": Content()}, rerankers={"explore": shown}).fit(data)
    learned = pipeline.rerankers["explore"].policy
    learned.count_A = np.arange(40, dtype=learned.count_A.dtype)
    pipeline.grow(new, seen=data.interactions)
    np.testing.assert_array_equal(pipeline.rerankers["explore"].policy.count_A, [*range(40), 0, 0])
    assert pipeline.recommend([0, 1], 5).items_BK.shape == (2, 5)


def test_what_cannot_grow_says_why(data, new):
    known = Pipeline({"als": PARTS["als"]}).fit(data)
    with pytest.raises(ValueError, match="none of the retrievers als scores items by what they are about"):
        known.grow(new, seen=data.interactions)
    pipeline = Pipeline({"als": PARTS["als"], "content": Content()}).fit(data)
    with pytest.raises(ValueError, match="learns from no interaction"):
        pipeline.grow(data, seen=data.interactions)
    lacking = Dataset(new.interactions, new.users, new.items, item_features=new.item_features.drop("year"))
    with pytest.raises(ValueError, match="'year'"):
        pipeline.grow(lacking, seen=data.interactions)
    assert pipeline.num_items == 40
    hybrid = Hybrid(PARTS, how="switching").fit(data)
    with pytest.raises(ValueError, match="'year'"):
        hybrid.grow(lacking)
    assert (hybrid.num_items, len(hybrid.items), hybrid.parts["als"].num_items) == (40, 40, 40)


@pytest.mark.parametrize("kind", ["hybrid", "pipeline"])
def test_a_run_takes_them(kind, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = {"user_id": data.users.at(data.interactions.users_N), "item_id": data.items.at(data.interactions.items_N)}
    pl.DataFrame(ids | {"timestamp": data.interactions.times_N}).write_csv("log.csv")
    frame = data.item_features.with_columns(item_id=data.items.ids, title=data.item_titles)
    frame.with_columns(pl.col("genres").list.join("|")).write_csv("items.csv")
    words = {
        "hybrid": ["model=hybrid", "model@model.parts.item_knn=content", "model.parts.als.embedding_size=4"],
        "pipeline": [
            "pipeline=three_stage",
            "features@pipeline.features=content",
            "+model@pipeline.retrievers.content=content",
            "pipeline.retrievers.als.embedding_size=4",
            "pipeline.ranker.epochs=2",
            "pipeline.examples.rounds=1",
        ],
    }[kind]
    assert main(["train", "data=log", "data.path=log.csv", "data.item_features=items.csv", *words, "run=run"]) == 0
    run = add_items("run", NEW, "grown")
    assert len(run.items) == 42
    for user, first in (("u0", "n0"), ("u1", "n1")):
        assert run.recommend([user], k=2, allow=["n0", "n1"])["item_id"][0] == first
    assert set(load_run("grown").recommend(["u0", "u1"], k=42)["item_id"]) >= {"n0", "n1"}
    assert main(["recommend", "run=grown", "users=[u0]", "k=3", "explain=true"]) == 0
