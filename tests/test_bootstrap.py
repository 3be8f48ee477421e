"""New items in factor models: vectors from content, nothing lost for known items, growth without a fit."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from test_content import planted

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.profiles import Profiles
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.families.content_mapping import ContentMapping
from recsys_dl.models import ALS, BPR, EASE, SVD, Bootstrap, FunkSVD, SVDpp
from recsys_dl.saving import load_arrays, save_arrays

BASES = [
    ALS(embedding_size=8, epochs=5, device="cpu"),
    BPR(embedding_size=8, epochs=20, device="cpu"),
    SVD(embedding_size=4),
]
RATING_BASES = [FunkSVD(embedding_size=4, epochs=5), SVDpp(embedding_size=4, epochs=5)]
USERS = np.arange(40)
COLD = np.arange(50, 60)


@pytest.mark.parametrize("base", BASES, ids=lambda base: type(base).__name__)
@pytest.mark.parametrize("mapping", ["ridge", "neighbors", "network"])
def test_cold_items_go_to_those_who_like_their_kind(base, mapping):
    train = planted()
    model = Bootstrap(base, mapping=mapping).fit(train)
    top = model.recommend(USERS, 3, exclude=train, allow=COLD).items_BK
    assert (top % 2 == USERS[:, None] % 2).mean() > 0.95
    near = model.similar_items([50], 5).items_BK[0]
    assert (near % 2 == 0).mean() > 0.7


@pytest.mark.parametrize("base", [*BASES, *RATING_BASES], ids=lambda base: type(base).__name__)
def test_known_items_keep_their_vectors_and_their_order(base):
    train = planted()
    plain = type(base)(**base.arguments()).fit(train)
    model = Bootstrap(base).fit(train)
    known = np.arange(50)
    np.testing.assert_array_equal(model.item_vectors()[known], plain.item_vectors()[known])
    one, two = (each.recommend(USERS, 10, exclude=train, allow=known) for each in (plain, model))
    np.testing.assert_array_equal(one.items_BK, two.items_BK)
    cold = model.item_vectors()[COLD]
    assert np.isfinite(cold).all()
    assert np.ptp(cold, axis=0).any()


def test_the_ridge_by_hand():
    """Two genres, items of a genre have one vector: a new item gets nearly that of its genre."""
    genres = pl.DataFrame({"genre": [["war"], ["comedy"]] * 20 + [["war"], ["comedy"], None]})
    users, items = np.nonzero(np.random.default_rng(0).random((30, 40)) < 0.5)
    same = (users % 2) == (items % 2)
    log = Interactions(users[same], items[same], num_items=43)
    train = Dataset(log, Vocabulary(range(30), noun="user"), Vocabulary(range(43)), item_features=genres)
    model = Bootstrap(SVD(embedding_size=2)).fit(train)
    vectors = model.item_vectors()
    for genre, new in ((0, 40), (1, 41)):
        np.testing.assert_allclose(vectors[new], vectors[genre:40:2].mean(axis=0), atol=0.05)
    np.testing.assert_array_equal(vectors[42], 0)  # of which nothing is known
    assert (model.similar_items([42], 3).items_BK == -1).all()


def test_scale_shows_new_items_more_often():
    train = planted()
    shown = []
    for scale in (0.5, 1.0, 3.0):
        model = Bootstrap(BASES[0], scale=scale).fit(train)
        shown.append(float(np.isin(model.recommend(USERS, 10, exclude=train).items_BK, COLD).mean()))
    assert shown[0] <= shown[1] < shown[2]


def test_another_scale_is_the_fit_at_that_scale():
    train = planted()
    one, two = Bootstrap(BASES[0], scale=3).fit(train), Bootstrap(BASES[0]).fit(train)
    other = two.with_scale(3)
    np.testing.assert_allclose(other.item_vectors(), one.item_vectors(), rtol=1e-6)
    np.testing.assert_array_equal(other.recommend(USERS, 10).items_BK, one.recommend(USERS, 10).items_BK)
    assert (two.scale, other.arguments()["scale"]) == (1, 3)
    with pytest.raises(ValueError, match="scale must be"):
        two.with_scale(0)


def test_all_terms_tell_more_than_few_dimensions_of_them(tmp_path):
    """A thousand tags, each with a vector of its own: a new item's is the sum of those of its tags."""
    rng = np.random.default_rng(0)
    tags_TD = rng.normal(size=(1000, 8))
    tags = [sorted(rng.choice(1000, 4, replace=False)) for _ in range(3000)]
    vectors_ID = np.array([tags_TD[one].sum(axis=0) for one in tags])
    liked = np.argsort(-(rng.normal(size=(150, 8)) @ vectors_ID[:2800].T), axis=1)[:, :150]
    features = pl.DataFrame({"tags": [[f"t{tag}" for tag in one] for one in tags]})
    log = Interactions(np.repeat(np.arange(150), 150), liked.ravel(), num_items=3000)
    train = Dataset(log, Vocabulary(range(150), noun="user"), Vocabulary(range(3000)), item_features=features)
    new, explained = np.arange(2800, 3000), []
    for size in (None, 32):
        model = Bootstrap(SVD(embedding_size=8), content_size=size, min_count=1).fit(train)
        made_ND, true_ND = (rows - rows.mean(axis=0) for rows in (model.item_vectors()[new], vectors_ID[new]))
        map_DD = np.linalg.lstsq(made_ND, true_ND, rcond=None)[0]  # the factors are turned
        explained.append(1 - ((true_ND - made_ND @ map_DD) ** 2).sum() / (true_ND**2).sum())
    assert explained[0] > explained[1] + 0.2, explained
    model = Bootstrap(SVD(embedding_size=8)).fit(train)
    model.save(tmp_path / "model")
    again = Bootstrap.load(tmp_path / "model")
    profiles = again.encoder.transform(features)
    np.testing.assert_array_equal(again.mapping_fitted.predict(profiles), model.mapping_fitted.predict(profiles))


@pytest.mark.parametrize("base", [*BASES, *RATING_BASES], ids=lambda base: type(base).__name__)
def test_new_items_enter_without_a_fit(base):
    whole = planted()
    log = whole.interactions
    first = Dataset(
        Interactions(log.users_N, log.items_N, num_items=50),
        whole.users,
        Vocabulary(whole.items.ids[:50]),
        item_texts=whole.item_texts[:50],
    )
    model = Bootstrap(base).fit(first)
    before = model.recommend(USERS, 10, exclude=first)
    nothing = whole.with_interactions(log.select(np.zeros(len(log), bool)))
    model.grow(nothing)
    assert (model.num_items, model.base.num_items) == (60, 60)
    again = model.recommend(USERS, 10, exclude=log, allow=np.arange(50))
    np.testing.assert_array_equal(again.items_BK, before.items_BK)
    assert np.isfinite(model.score(USERS[:2], np.tile(COLD, (2, 1)))).all()
    with pytest.raises(ValueError, match="learns from no interaction, got 320"):
        model.grow(whole)


def test_the_same_after_loading(tmp_path):
    train = planted()
    model = Bootstrap(BASES[0], kinds={"texts": "text"}).fit(train)
    model.save(tmp_path / "model")
    again = Bootstrap.load(tmp_path / "model")
    for one, two in zip(*(vars(each.recommend(USERS, 60)).values() for each in (model, again)), strict=True):
        np.testing.assert_array_equal(one, two)
    more = Dataset(
        Interactions([], [], num_users=40, num_items=61),
        train.users,
        train.items.grow(["new"]),
        item_texts=pl.concat([train.item_texts, pl.Series(["robots lasers planets"])]),
    )
    again.grow(more)
    assert again.items.find(["new"])[0] == 60
    liked = again.score([0, 1], [[60], [60]])
    assert liked[0, 0] > liked[1, 0]


def test_wrong_words():
    with pytest.raises(
        ValueError, match="base must be a model with item vectors of its own, such as als, bpr or svd, got EASE"
    ):
        Bootstrap(EASE())
    with pytest.raises(ValueError, match=r"base must be .*, got the class SVD: write SVD\(\)"):
        Bootstrap(SVD)
    with pytest.raises(ValueError, match="item features or texts are needed"):
        Bootstrap(SVD()).fit(Interactions([0, 1], [0, 1]))
    with pytest.raises(ValueError, match="mapping"):
        Bootstrap(SVD(), mapping="forest")
    one = Dataset(
        Interactions([0], [0], num_items=3),
        Vocabulary(["u"], noun="user"),
        Vocabulary(["a", "b", "c"]),
        item_features=pl.DataFrame({"genre": [["x"], ["x"], ["y"]]}),
    )
    vectors = Bootstrap(SVD(embedding_size=1), min_count=1).fit(one).item_vectors()
    np.testing.assert_allclose(vectors, vectors[[0, 0, 0]])  # of one item follows nothing else
    apart = replace(one, item_features=pl.DataFrame({"genre": [None, ["x"], ["y"]]}))
    with pytest.raises(ValueError, match="both interactions and content"):
        Bootstrap(SVD(embedding_size=1), min_count=1).fit(apart)


def test_neighbors_are_the_mean_of_the_most_similar_weighted_by_similarity_and_users(tmp_path):
    rng = np.random.default_rng(0)
    terms = sp.csr_matrix(rng.random((30, 6)) * (rng.random((30, 6)) < 0.6), dtype=np.float32)
    profiles = Profiles(terms, np.zeros((30, 0), np.float32)).unit()
    vectors, counts = rng.normal(size=(30, 4)), rng.integers(1, 50, 30)
    mapping = ContentMapping("neighbors", None, (), 0).fit(profiles, vectors, counts)
    new = profiles.rows(np.arange(5))
    near = (new.terms_RT @ profiles.terms_RT.T).toarray()
    for row, made in zip(near, mapping.predict(new), strict=True):
        best = np.argsort(-row, kind="stable")[:20]
        weights = row[best] * counts[best] / (counts[best] + 10)
        np.testing.assert_allclose(made, weights @ vectors[best] / weights.sum(), rtol=1e-4, atol=1e-6)
    save_arrays(tmp_path / "mapping.npz", mapping.arrays())
    again = ContentMapping.from_arrays(load_arrays(tmp_path / "mapping.npz"))
    np.testing.assert_array_equal(again.predict(new), mapping.predict(new))
    nothing = Profiles(sp.csr_matrix((1, 6), dtype=np.float32), np.zeros((1, 0), np.float32))
    assert not mapping.predict(nothing).any()
