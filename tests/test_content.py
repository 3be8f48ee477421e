"""Content-based filtering: profiles by hand, tastes, reasons, cold items, wrong input."""

import numpy as np
import polars as pl
import pytest

from recsys_dl import evaluate
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.profile_encoder import ProfileEncoder
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import Content, Hybrid, ItemKNN
from recsys_dl.pipeline import Pipeline

FILMS = pl.DataFrame(
    {
        "genres": [["War"], ["War", "Drama"], ["Comedy"], ["Comedy", "Drama"], ["Heist"], ["Heist", "Comedy"], None],
        "year": [1972, 1975, 2003, 2001, 1971, 1979, None],
    }
)


def films(users, items, weights=None, *, features=FILMS, kind=None, times=None, **more) -> Dataset:
    log = Interactions(users, items, weights, times, num_items=features.height)
    people = Vocabulary([f"u{row}" for row in range(log.num_users)], noun="user")
    return Dataset(
        log,
        people,
        Vocabulary([f"i{row}" for row in range(features.height)]),
        item_features=features,
        weight_kind=kind,
        **more,
    )


def planted(num_users=40, num_items=60, seed=3) -> Dataset:
    """Items of two tastes that only their words show; the last ten nobody has interacted with."""
    rng = np.random.default_rng(seed)
    words = [["robots lasers", "planets robots", "lasers planets"], ["roses kisses", "wedding roses", "kisses wedding"]]
    texts = pl.Series([words[row % 2][rng.integers(3)] + f" w{row}" for row in range(num_items)])
    users, items = [], []
    for user in range(num_users):
        mine = np.arange(user % 2, num_items - 10, 2)
        chosen = rng.choice(mine, 8, replace=False)
        users += [user] * 8
        items += chosen.tolist()
    log = Interactions(users, items, num_items=num_items)
    return Dataset(
        log,
        Vocabulary([f"u{row}" for row in range(num_users)], noun="user"),
        Vocabulary([f"i{row}" for row in range(num_items)]),
        item_texts=texts,
    )


def test_a_profile_by_hand():
    genres = FILMS.select("genres")
    profiles = ProfileEncoder(min_count=1).fit(genres).transform(genres)
    idf = {name: np.log(8 / (1 + count)) + 1 for name, count in (("Comedy", 3), ("Drama", 2), ("Heist", 2), ("War", 2))}
    wanted = np.array([0, idf["Drama"], 0, idf["War"]])
    np.testing.assert_allclose(profiles.terms_RT[1].toarray()[0], wanted / np.linalg.norm(wanted), rtol=1e-6)
    assert profiles.terms_RT[6].nnz == 0
    assert profiles.known_R.tolist() == [True] * 6 + [False]


def test_a_score_is_the_cosine_of_rocchios_profile():
    train = films([0, 0, 0], [0, 2, 4], [5, 1, 4], features=FILMS.select("genres"), kind="ratings")
    model = Content(min_count=1, dislikes=0.5).fit(train)
    items = model.terms_IT.toarray().astype(np.float64)
    center = (10 + 5 * 10 / 3) / (3 + 5)  # the user's mean drawn toward that of all by five ratings
    assert 1 < center < 4
    wanted = (5 * items[0] + 4 * items[4]) / 9 - 0.5 * items[2]
    wanted /= np.linalg.norm(wanted)
    np.testing.assert_allclose(model.score([0], np.arange(7)[None])[0], items @ wanted, atol=1e-6)


def test_a_new_users_history_without_ratings_is_liked():
    train = films([0, 0, 0], [0, 2, 4], [5, 1, 4], kind="ratings")
    model = Content(min_count=1).fit(train)
    bare = model.score(model.fold_in([[2]]), np.arange(7)[None])[0]
    rated = model.score(model.fold_in(Interactions([0], [2], [4.5], num_items=7)), np.arange(7)[None])[0]
    np.testing.assert_allclose(bare, rated, atol=1e-6)
    assert bare[3] > bare[0]


def test_close_years_are_alike_and_decades_have_names():
    years = pl.DataFrame({"year": [1962, 1968, 1971, 1974, 1985, 1999]})
    encoder = ProfileEncoder().fit(years)
    assert encoder.terms == ["1960s", "1970s", "1980s", "1990s"]
    likeness = (lambda rows: (rows @ rows.T).toarray())(encoder.transform(years).terms_RT)
    assert likeness[1, 2] > likeness[1, 3] > likeness[1, 4] == 0
    beyond = encoder.transform(pl.DataFrame({"year": [1890, 2040]})).terms_RT.toarray()
    np.testing.assert_array_equal(beyond, np.eye(4, dtype=np.float32)[[0, 3]])


def test_a_year_behind_a_title_is_no_word_of_it():
    titles = pl.Series(["Heat (1995)", "Heat (1986)", "1984 (1984)", "1984 (1956)"])
    assert ProfileEncoder(ngrams=1).fit(None, titles=titles).terms == ["1984", "heat"]


def test_markup_is_no_content():
    plain = ["red shoes & boots", "red hats", "Käse in a box", "Käse & wine", "1 < 2 > 0, a@b.org <a@b.org>"]
    marked = [
        "<p class='nbsp'>red<br/>shoes &amp; boots</p>",
        '<b>red</b>&nbsp;<a href="http://shop.org/red?x=1">hats</a>',
        "K&auml;se <!-- br\nbr --> in a <i>box</i>",
        "K&#228;se &amp; wine",
        plain[4],
    ]
    one, other = (
        films([0], [0], features=FILMS.head(5).select("year"), item_texts=pl.Series(texts)) for texts in (plain, marked)
    )
    first, second = (Content(min_count=1).fit(data) for data in (one, other))
    assert (first.terms_IT != second.terms_IT).nnz == 0
    np.testing.assert_array_equal(first.score([0], [np.arange(5)]), second.score([0], [np.arange(5)]))
    with pytest.raises(ValueError, match="'nbsp' is none"):
        second.fold_in(tastes=["nbsp"])


def test_rare_tastes_weigh_more():
    genres = pl.DataFrame({"genres": [["Drama"]] * 8 + [["Heist"], ["Heist"]]})
    model = Content(min_count=1).fit(films([0], [0], features=genres))
    scores = model.score(model.fold_in(tastes=["heist", "drama"]), np.arange(10)[None])[0]
    np.testing.assert_allclose(scores[9] / scores[0], np.log(11 / 2) / np.log(11 / 8), rtol=1e-5)


def test_a_column_that_is_nearly_always_the_same_counts_little():
    frame = pl.DataFrame({"language": ["en"] * 18 + ["fr"] * 2, "genres": [["a"], ["b"]] * 10})
    profiles = ProfileEncoder().fit(frame).transform(frame).terms_RT
    same_language, same_genre = ((profiles[0] @ profiles[row].T)[0, 0] for row in (1, 18))
    assert same_language < 0.2 < 0.8 < same_genre


def test_given_vectors_are_compared_by_their_cosine():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(6, 4)).astype(np.float32)
    frame = pl.DataFrame({"embedding": vectors})
    train = films([0], [2], features=frame)
    model = Content().fit(train)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(model.score([0], np.arange(6)[None])[0], unit @ unit[2], atol=1e-6)


def test_old_interactions_fade():
    train = films([0, 0], [0, 2], times=[0, 30 * 86_400], features=FILMS.select("genres"))
    even, fading = (Content(min_count=1, half_life_days=days).fit(train) for days in (None, 10.0))
    np.testing.assert_allclose(even.liked_UI.toarray()[0, [0, 2]], [0.5, 0.5])
    np.testing.assert_allclose(fading.liked_UI.toarray()[0, [0, 2]], [1 / 9, 8 / 9], rtol=1e-6)
    with pytest.raises(ValueError, match="needs times"):
        Content(min_count=1, half_life_days=10.0).fit(films([0], [0]))


def test_items_that_nobody_interacted_with_are_found():
    train = planted()
    cold = Interactions(
        np.repeat(np.arange(40), 5),
        [item for user in range(40) for item in range(50 + user % 2, 60, 2)],
        num_users=40,
        num_items=60,
    )
    model = Content().fit(train)
    among = model.recommend(np.arange(40), 5, exclude=train, allow=np.arange(50, 60))
    assert (among.items_BK % 2 == np.arange(40)[:, None] % 2).all()
    assert evaluate(model, train, cold, 10, metrics=["recall"]).values["recall@10"] > 0.2  # of 52 unseen items


def test_new_items_enter_a_fitted_model():
    whole = planted()
    first = Dataset(
        Interactions(whole.interactions.users_N, whole.interactions.items_N, num_items=50),
        whole.users,
        Vocabulary(whole.items.ids[:50]),
        item_texts=whole.item_texts[:50],
    )
    model = Content().fit(first)
    before = model.recommend(np.arange(40), 5, exclude=first)
    model.grow(whole.with_interactions(whole.interactions.select(np.zeros(len(whole), bool))))
    assert model.num_items == 60
    top = model.recommend(np.arange(40), 3, exclude=whole, allow=np.arange(50, 60)).items_BK
    assert (top % 2 == np.arange(40)[:, None] % 2).all()
    np.testing.assert_array_equal(
        model.recommend(np.arange(40), 5, exclude=whole, allow=np.arange(50)).items_BK, before.items_BK
    )


def test_stated_tastes():
    model = Content(min_count=1).fit(films([0], [0]))
    top = model.recommend(model.fold_in(tastes=["heist", "1970s"]), 2)
    assert set(top.items_BK[0]) == {4, 5}
    only = model.recommend(model.fold_in(tastes=["genres=comedy"]), 1, exclude=Interactions([0], [2], num_items=7))
    assert only.items_BK[0, 0] in (3, 5)
    both = model.fold_in([[0]], tastes=["comedy"])
    scores = model.score(both, np.arange(7)[None])[0]
    assert scores[0] > 0 < scores[2]
    with pytest.raises(ValueError, match=r"'hesit' is none.*heist"):
        model.fold_in(tastes=["hesit"])
    with pytest.raises(ValueError, match="tastes must be a list"):
        model.fold_in(tastes="heist")
    with pytest.raises(ValueError, match="got neither"):
        model.fold_in()
    with pytest.raises(ValueError, match="tastes are of one user"):
        model.fold_in([[0], [1]], tastes=["heist"])
    with pytest.raises(ValueError, match=r"a flat list of the terms of one user, .*got \['heist'\] in it"):
        model.fold_in(tastes=[["heist"]])


def test_stated_tastes_may_have_weights():
    model = Content(min_count=1).fit(films([0], [0]))

    def scores(tastes):
        return model.score(model.fold_in(tastes=tastes), np.arange(7)[None])[0]

    np.testing.assert_allclose(scores({"heist": 2.5, "comedy": 2.5}), scores(["heist", "comedy"]), rtol=1e-6)
    much, little = scores({"heist": 9, "comedy": 0.1}), scores({"heist": 0.1, "comedy": 9})
    np.testing.assert_allclose(much, scores(["heist"]), atol=0.05)
    np.testing.assert_allclose(little, scores(["comedy"]), atol=0.05)
    assert not np.allclose(much, little)
    for wrong in (0, -1.0, float("nan"), float("inf"), "much", True, None):
        with pytest.raises(ValueError, match=r"the weight of 'heist' in tastes must be a finite number above 0, got"):
            scores({"heist": wrong})


def test_a_hybrid_has_the_reasons_of_its_parts():
    train = films([0, 0, 1], [0, 1, 2])
    content = Content(min_count=1).fit(train)
    hybrid = Hybrid({"knn": ItemKNN(device="cpu").fit(train), "content": content}, weights={"knn": 1, "content": 1})
    hybrid.combine(train)
    items_BL = np.array([[5, 3, 6]])  # nothing is known of the last
    for users, same in (([0], [0]), (hybrid.fold_in([[0, 1]]), content.fold_in([[0, 1]]))):
        assert hybrid.reasons_of_parts(users, items_BL) == content.reasons(same, items_BL)
    alone = Hybrid({"knn": ItemKNN(device="cpu").fit(train), "content": content}, weights={"knn": 1, "content": 0})
    assert alone.combine(train).reasons_of_parts([0], np.array([[2]])) == [[None]]  # which the other part ranks


@pytest.mark.parametrize("of", ["model", "hybrid", "pipeline"])
def test_models_without_tastes_say_what_has_them(of):
    knn = ItemKNN(device="cpu")
    model = {"model": knn, "hybrid": Hybrid({"knn": knn}), "pipeline": Pipeline({"knn": knn})}[of].fit(
        films([0, 1], [0, 1])
    )
    with pytest.raises(TypeError, match=r"fold_in takes histories, not tastes, .*Content\(\).fit\(train\).fold_in"):
        model.fold_in(tastes=["heist"])
    assert len(model.fold_in([[0]])) == 1


def test_reasons_take_lists_and_refuse_what_is_no_table():
    model = Content(min_count=1).fit(films([0, 1], [0, 1]))
    items_BK = model.recommend([0, 1], 2).items_BK
    assert model.reasons([0, 1], items_BK.tolist()) == model.reasons(np.array([0, 1]), items_BK)
    with pytest.raises(ValueError, match="one row for each of 2 users"):
        model.reasons([0, 1], [1, 2])
    for wrong in ("3", -1, 0, 1.5, None):
        with pytest.raises(ValueError, match="num_terms must be a whole number of at least 1"):
            model.reasons([0], [[1]], num_terms=wrong)


def test_reasons_name_the_liked_item_and_what_is_shared():
    model = Content(min_count=1).fit(films([0, 0], [0, 4]))
    first, second, none = model.reasons([0], np.array([[5, 1, -1]]))[0]
    assert (first.item, first.terms[0]) == (4, "Heist")
    assert (second.item, second.terms[0]) == (0, "War")
    assert none is None
    twice = Content(min_count=1).fit(films([0], [0], item_titles=pl.Series(["war"] * 3 + ["x", "y", "z", "war"])))
    assert [term.casefold() for term in twice.reasons([0], np.array([[1]]))[0][0].terms].count("war") == 1
    assert 0.5 < first.share <= 1
    stated = model.reasons(model.fold_in(tastes=["comedy"]), np.array([[2]]))[0][0]
    assert (stated.item, stated.terms) == (-1, ("Comedy",))


def test_someone_without_a_liked_item_of_known_content_gets_the_most_popular():
    train = films([0, 0, 1, 2], [2, 3, 2, 6])
    model = Content(min_count=1).fit(train)
    popular = model.recommend([2], 1).items_BK
    np.testing.assert_array_equal(popular, [[2]])
    np.testing.assert_array_equal(model.recommend(model.fold_in([[6]]), 1).items_BK, popular)
    assert model.score([2], [[2]])[0, 0] == pytest.approx(2 / 3)


def test_the_same_after_loading(tmp_path):
    train = planted()
    model = Content(ngrams=2, stop_words=["roses"], kinds={"texts": "text"}).fit(train)
    model.save(tmp_path / "model")
    again = Content.load(tmp_path / "model")
    one, two = (each.recommend(np.arange(40), 10, exclude=train) for each in (model, again))
    np.testing.assert_array_equal(one.items_BK, two.items_BK)
    np.testing.assert_array_equal(one.scores_BK, two.scores_BK)
    assert again.fold_in(tastes=["robots"]).values[0].nnz
    with pytest.raises(ValueError, match="'roses' is none"):
        again.fold_in(tastes=["roses"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texts": pl.Series(["the and of"] * 7)}, "no word is in 2 rows, in at most 50% of them"),
        ({"texts": pl.Series([None] * 7, dtype=pl.String)}, "no values"),
        ({"texts": pl.Series([""] * 7)}, "no word is in"),
        (
            {"frame": pl.DataFrame({"price": [1.0, np.nan, 2, 3, 4, 5, 6]})},
            r"must hold finite numbers.*got nan in row 1",
        ),
        ({"frame": pl.DataFrame({"price": [1.0, np.inf, 2, 3, 4, 5, 6]})}, r"finite numbers.*got inf in row 1"),
        ({"frame": pl.DataFrame({"v": [[1.0, 2.0]] * 6 + [[1.0]]})}, "vectors of one length, 2, got one of 1"),
        (
            {"frame": pl.DataFrame({"v": [[1.0, 2.0]] * 6 + [[np.nan, 1.0]]})},
            "vectors of finite numbers, got nan in row 6",
        ),
        (
            {"frame": pl.DataFrame({"genres": ["a", "b", "c", "d", "e", "f", "g"]})},
            "no value in 2 rows, each occurs once",
        ),
        ({"frame": pl.DataFrame({"x": [{"a": 1}] * 7})}, "cannot be encoded"),
    ],
)
def test_content_that_says_nothing_or_is_no_number(change, message):
    with pytest.raises(ValueError, match=message):
        ProfileEncoder().fit(change.get("frame"), change.get("texts"))


def test_wrong_words():
    with pytest.raises(ValueError, match="item features or texts are needed"):
        Content().fit(Interactions([0], [0]))
    with pytest.raises(ValueError, match=r"kinds names 'genre', which is not a column.*genres"):
        Content(kinds={"genre": "bag"}).fit(films([0], [0]))
    with pytest.raises(ValueError, match=r"column_weights names 'yaer'.*year"):
        Content(column_weights={"yaer": 2}).fit(films([0], [0]))
    with pytest.raises(ValueError, match=r"one of category, bag.*got genres='bags'"):
        Content(kinds={"genres": "bags"})
    with pytest.raises(ValueError, match="column_weights"):
        Content(column_weights={"year": -1})
    with pytest.raises(ValueError, match='or "english"'):
        Content(stop_words="german")
    with pytest.raises(ValueError, match="which can be number or category, not text"):
        Content(kinds={"year": "text"}).fit(films([0], [0]))


def test_later_features_must_be_like_those_of_training():
    encoder = ProfileEncoder(min_count=1).fit(FILMS)
    with pytest.raises(ValueError, match="must have the column 'year'"):
        encoder.transform(FILMS.select("genres"))
    with pytest.raises(ValueError, match="held lists of text in training, got true or false"):
        encoder.transform(FILMS.with_columns(genres=pl.lit(True)))
    one = encoder.transform(FILMS.with_columns(genres=pl.lit("War")).head(1)).terms_RT
    assert one[0, encoder.terms.index("War")] > 0
    vectors = ProfileEncoder().fit(pl.DataFrame({"v": [[1.0, 2.0], [2.0, 1.0]]}))
    with pytest.raises(ValueError, match="one length, 2 as in training, got one of 3"):
        vectors.transform(pl.DataFrame({"v": [[1.0, 2.0, 3.0]]}))
