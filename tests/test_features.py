"""Features of users and items as numbers: worked out by hand, wrong tables answered, texts against scikit-learn."""

import json
from datetime import date

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from processes import program as run_program

from recsys_dl.data.features import FeatureEncoder, Features
from recsys_dl.data.generated import generated
from recsys_dl.data.text_vectors import TextVectors, _right_singular_vectors
from recsys_dl.saving import load_arrays, save_arrays

TABLE = pl.DataFrame(
    {
        "shelf": ["a", "b", "a", None, "c", "b"],
        "adult": [True, False, False, True, None, True],
        "genres": [["x", "y"], ["y"], [], None, ["x", "x", "z"], ["y", "x"]],
        "price": [1.0, 3.0, None, 5.0, 3.0, 3.0],
    }
)


def encoded(encoder: FeatureEncoder, *table) -> Features:
    return encoder.fit(*table).transform(*table)


def same(one: Features, two: Features) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in vars(one))


def test_each_kind_by_hand():
    encoder = FeatureEncoder(min_count=2)
    features = encoded(encoder, TABLE)
    # shelf: 1 unknown, 2 a, 3 b (c once: rare). adult: 4 unknown, 5 false, 6 true. genres: 7 none, 8 x, 9 y (z: rare).
    assert encoder.num_values == 10
    wanted = [[2, 6, 8, 9], [3, 5, 9, 0], [2, 5, 7, 0], [1, 6, 7, 0], [1, 4, 8, 0], [3, 6, 8, 9]]
    assert [sorted(filter(None, row)) for row in features.codes_RM.tolist()] == [
        sorted(filter(None, row)) for row in wanted
    ]
    both = features.codes_RM[0] >= 8
    assert features.weights_RM[0][both].tolist() == [0.5, 0.5]  # a bag of two
    assert features.weights_RM[1].tolist() == [1, 1, 1, 0]
    # price: mean 3, variance 8 / 5
    std = np.sqrt(8 / 5)
    np.testing.assert_allclose(features.dense_RF[:, 0], np.array([-2, 0, 0, 2, 0, 0]) / std, rtol=1e-6)
    assert features.dense_RF[:, 1].tolist() == [0, 0, 1, 0, 0, 0]
    assert (features.codes_RM.dtype, features.weights_RM.dtype, features.dense_RF.dtype) == ("int32",) + (
        "float32",
    ) * 2
    assert len(features) == 6
    assert encoder.num_dense == 2


def test_weights_of_each_column_sum_to_one():
    features = encoded(FeatureEncoder(min_count=1), TABLE)
    np.testing.assert_allclose(features.weights_RM.sum(axis=1), 3, rtol=1e-6)  # shelf, adult, genres
    assert ((features.codes_RM == 0) == (features.weights_RM == 0)).all()


def test_later_rows_of_the_same_columns():
    encoder = FeatureEncoder(min_count=1).fit(TABLE)
    new = pl.DataFrame(
        {
            "colour": ["red", "red"],  # never learned
            "price": [7, None],  # whole numbers where floats were learned
            "genres": pl.Series([["q", "y"], ["q"]]),
            "adult": [None, False],
            "shelf": ["zzz", "a"],
        }
    )
    features = encoder.transform(new)
    assert features.dense_RF[0, 0] == pytest.approx(4 / np.sqrt(8 / 5))
    unknown, a = 1, 2
    assert features.codes_RM[0, 0] == unknown
    assert features.codes_RM[1, 0] == a
    known = encoder.transform(TABLE)
    y_code = known.codes_RM[1, 2]
    assert features.codes_RM[0, 2] == y_code  # q, unknown, is left out; y alone weighs 1
    assert features.weights_RM[0, 2] == 1
    no_genre = known.codes_RM[2, 2]
    assert features.codes_RM[1, 2] == no_genre


def test_one_row_is_encoded_as_among_others():
    encoder = FeatureEncoder(min_count=1)
    everything = encoded(encoder, TABLE)
    for row in range(len(TABLE)):
        alone = encoder.transform(TABLE[row])
        width = alone.codes_RM.shape[1]
        np.testing.assert_array_equal(alone.codes_RM[0], everything.codes_RM[row, :width])
        assert not everything.codes_RM[row, width:].any()
        np.testing.assert_array_equal(alone.dense_RF[0], everything.dense_RF[row])


def test_kinds_by_type_and_by_word():
    rows = np.arange(200)
    table = pl.DataFrame(
        {
            "few": rows % 7,
            "many": rows,
            "real": rows / 3,
            "day": [date(2020, 1, 1 + row % 28) for row in rows],
            "label": pl.Series([f"l{row % 3}" for row in rows], dtype=pl.Categorical),
            "codes": pl.Series([[row % 4, row % 5] for row in rows]),
            "plot": [f"word{row % 3} common{row % 5}" for row in rows],
        }
    )
    kinds = {"plot": "text", "real": "log_number"}
    encoder = FeatureEncoder(kinds=kinds).fit(table)
    assert {column.name: column.kind for column in encoder._columns} == {
        "few": "category",
        "many": "number",
        "real": "log_number",
        "day": "number",
        "label": "category",
        "codes": "bag",
        "plot": "text",
    }
    features = encoder.transform(table)
    logs = np.log1p(rows / 3)
    np.testing.assert_allclose(features.dense_RF[:, 2], (logs - logs.mean()) / logs.std(), rtol=1e-5, atol=1e-6)
    without = FeatureEncoder(kinds={"many": "category", "few": "ignore"}).fit(table)
    assert list(without.ignored) == ["few", "many"]
    assert without.ignored["many"].startswith("no value in 3 rows")


def test_far_numbers_are_drawn_in():
    numbers = [0.0] * 99 + [1e9]
    assert encoded(FeatureEncoder(), pl.DataFrame({"x": numbers})).dense_RF[-1, 0] == 5


def test_columns_that_say_nothing_are_left_out():
    table = TABLE.with_columns(
        nothing=pl.lit(None), same=pl.lit("s"), constant=pl.lit(0.1), ids=pl.Series([f"i{row}" for row in range(6)])
    )
    encoder = FeatureEncoder(min_count=2)
    assert same(encoded(encoder, table), FeatureEncoder(min_count=2).fit(TABLE).transform(TABLE))
    assert encoder.ignored == {
        "nothing": "no values",
        "same": "a single value",
        "constant": "a single value",
        "ids": "no value in 2 rows, each occurs once",
    }
    assert same(encoder.transform(TABLE), encoder.transform(table))


def test_texts_beside_a_frame_and_alone():
    texts = pl.Series("plot", ["red fox hunts", "red fox sleeps", "blue whale hunts", "blue whale sleeps", None])
    alone = encoded(FeatureEncoder(text_size=3), None, texts)
    assert alone.codes_RM.shape == (5, 0)
    assert alone.dense_RF.shape == (5, 4)
    assert alone.dense_RF[:, 3].tolist() == [0, 0, 0, 0, 1]
    assert not alone.dense_RF[4, :3].any()
    beside = encoded(FeatureEncoder(text_size=3), pl.DataFrame({"year": [1.0, 2.0, 3.0, 4.0, 5.0]}), texts)
    np.testing.assert_array_equal(beside.dense_RF[:, 2:], alone.dense_RF)


def test_kept_as_arrays_and_read_in_a_new_process(tmp_path):
    data = generated(num_users=300, num_items=120, num_interactions=3000)
    encoder = FeatureEncoder(text_size=8)
    features = encoded(encoder, data.item_features, data.item_texts)
    save_arrays(tmp_path / "encoder.npz", encoder.arrays())
    data.item_features.write_parquet(tmp_path / "features.parquet")
    data.item_texts.alias("text").to_frame().write_parquet(tmp_path / "texts.parquet")
    program = (
        "import sys, numpy as np, polars as pl; from pathlib import Path; from recsys_dl.saving import load_arrays;"
        "from recsys_dl.data.features import FeatureEncoder; f = Path(sys.argv[1]);"
        "e = FeatureEncoder.from_arrays(load_arrays(f / 'encoder.npz'));"
        "x = e.transform(pl.read_parquet(f / 'features.parquet'), pl.read_parquet(f / 'texts.parquet')['text']);"
        "np.savez(f / 'after.npz', sizes=[e.num_values, e.num_dense], **vars(x))"
    )
    run_program(program, tmp_path)
    after = load_arrays(tmp_path / "after.npz")
    assert after["sizes"].tolist() == [encoder.num_values, encoder.num_dense]
    for name, array in vars(features).items():
        np.testing.assert_array_equal(after[name], array)
    with np.load(tmp_path / "encoder.npz", allow_pickle=False) as stored:
        assert all(array.dtype.kind in "fu" for array in stored.values())  # numbers alone
        assert json.loads(stored["schema"].tobytes())["noun"] == "item"


def test_wrong_columns_later():
    encoder = FeatureEncoder(min_count=1).fit(TABLE, pl.Series(["a cat", "a cat", "dog", "dog", "cow", "cow"]))
    texts = pl.Series(["cow"] * 6)
    with pytest.raises(
        ValueError, match=r"must have the column 'price' \(numbers\) as in training, got 'shelf', 'adult'"
    ):
        encoder.transform(TABLE.drop("price"), texts)
    with pytest.raises(ValueError, match="'price' of the item features held numbers in training, got text"):
        encoder.transform(TABLE.with_columns(price=pl.lit("cheap")), texts)
    with pytest.raises(ValueError, match="'shelf' of the item features held text in training, got whole numbers"):
        encoder.transform(TABLE.with_columns(shelf=pl.lit(3)), texts)
    with pytest.raises(ValueError, match="'adult' .* held true or false in training, got Struct"):
        encoder.transform(TABLE.with_columns(adult=pl.struct("shelf")), texts)
    with pytest.raises(ValueError, match=r"must have texts \(text\) as in training"):
        encoder.transform(TABLE)
    all_missing = TABLE.with_columns(price=pl.lit(None), genres=pl.lit(None), shelf=pl.lit(None))
    assert encoder.transform(all_missing, texts).dense_RF[:, 1].all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none(bad):
    table = pl.DataFrame({"price": [1.0, 2.0, bad]})
    message = rf"the column 'price' of the user features must hold finite numbers, or null .*, got {bad} in row 2"
    with pytest.raises(ValueError, match=message):
        FeatureEncoder(noun="user").fit(table)
    encoder = FeatureEncoder(noun="user").fit(pl.DataFrame({"price": [1.0, 2.0, 3.0]}))
    with pytest.raises(ValueError, match=message):
        encoder.transform(table)
    negative = pl.DataFrame({"price": [3.0, -1.0]})
    with pytest.raises(ValueError, match="not negative, or null where one is missing, got -1.0 in row 1"):
        FeatureEncoder(kinds={"price": "log_number"}).fit(negative)


def test_tables_that_cannot_be_encoded():
    with pytest.raises(ValueError, match=r"need a column whose values differ between rows, got 'x'; x: a single value"):
        FeatureEncoder().fit(pl.DataFrame({"x": ["a", "a", "a"]}))
    with pytest.raises(ValueError, match="differ between rows, got none"):
        FeatureEncoder().fit(None)
    with pytest.raises(
        ValueError, match=r"'x' of the item features holds Struct.* leave it out: kinds=\{'x': 'ignore'\}"
    ):
        FeatureEncoder().fit(pl.DataFrame({"x": [{"a": 1}, {"a": 2}]}))
    with pytest.raises(ValueError, match="holds text, which can be category or text, not number"):
        FeatureEncoder(kinds={"x": "number"}).fit(pl.DataFrame({"x": ["a", "b"]}))
    with pytest.raises(ValueError, match="kinds names 'y', which is not a column of the item features; they are 'x'"):
        FeatureEncoder(kinds={"y": "number"}).fit(pl.DataFrame({"x": [1, 2]}))
    with pytest.raises(ValueError, match="must be one of category, bag, .*, got x='colour'"):
        FeatureEncoder(kinds={"x": "colour"})
    with pytest.raises(ValueError, match="may not be called 'texts'"):
        FeatureEncoder().fit(pl.DataFrame({"texts": [1, 2]}), pl.Series(["a", "b"]))
    with pytest.raises(ValueError, match="must be at least 1, got 0 and 64"):
        FeatureEncoder(min_count=0)


def documents(num_texts: int) -> pl.Series:
    """Texts of random words; the first is missing, the second has none that is known."""
    rng = np.random.default_rng(5)
    words = np.array([f"Wörd{at}" for at in range(60)])
    chance = 1 / np.arange(2, 62)
    lines = [" ".join(rng.choice(words, 15, p=chance / chance.sum())) + ", a-b!" for _ in range(num_texts - 2)]
    return pl.Series([None, "unheard", *lines], dtype=pl.String)


def test_text_weights_are_scikit_learns():
    sklearn = pytest.importorskip("sklearn.feature_extraction.text")
    texts = documents(200)
    vectors = TextVectors(size=5).fit(texts)
    filled = texts.drop_nulls().to_list()
    peer = sklearn.TfidfVectorizer(sublinear_tf=True, min_df=2, max_df=0.5)
    wanted = peer.fit_transform(filled).toarray()
    assert vectors.words.to_list() == list(peer.get_feature_names_out())
    np.testing.assert_allclose(vectors._matrix(texts).toarray()[1:], wanted, rtol=1e-6, atol=1e-7)  # idf is float32


def test_text_vectors_keep_the_geometry():
    """With as many numbers as the rank, distances are those of TF-IDF but for the scale."""
    texts = documents(40)
    full = TextVectors(size=100).fit(texts)
    matrix = full._matrix(texts).toarray()[2:]
    vectors = full.transform(texts)[2:]
    distances = np.linalg.norm(matrix[:, None] - matrix, axis=-1)
    mine = np.linalg.norm(vectors[:, None] - vectors, axis=-1)
    np.testing.assert_allclose(mine / mine.max(), distances / distances.max(), atol=1e-5)
    few = TextVectors(size=4).fit(texts).transform(texts)
    assert few.shape == (40, 4)
    assert np.mean(few[2:] ** 2) == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(few[2:].mean(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("shape", [(50, 30), (30, 50)])
@pytest.mark.parametrize("rank", [30, 3])
def test_singular_vectors_are_numpys(shape, rank):
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.normal(size=(size, 30)))[0] for size in shape)
    matrix = left * np.where(np.arange(30) < rank, 0.7 ** np.arange(30), 0) @ right.T
    found = _right_singular_vectors(sp.csr_matrix(matrix), 8, 1)
    wanted = np.linalg.svd(matrix)[2][: min(8, rank)].T
    assert found.shape == wanted.shape
    # what power iteration leaves of the next vectors: below (0.7 ** 18) ** 10 of them
    np.testing.assert_allclose(np.abs((found * wanted).sum(axis=0)), 1, atol=1e-6)
    assert (found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])] > 0).all()


def test_texts_without_anything_to_say():
    texts = documents(30)
    vectors = TextVectors(size=3).fit(texts)
    assert not vectors.transform(texts)[:2].any()
    assert vectors.transform(texts)[2:].any(axis=1).all()
    empty = TextVectors().fit(pl.Series(["one", "two", None]))
    assert empty.transform(texts).shape == (30, 0)
    alike = TextVectors().fit(pl.Series(["one two", "one two", "three", "four", "five"]))
    assert np.isfinite(alike.transform(texts)).all()
    again = TextVectors.from_arrays(empty.arrays())
    assert again.transform(texts).shape == (30, 0)


def test_the_same_seed_gives_the_same_text_vectors():
    texts = documents(50)
    one, two = (TextVectors(size=4, seed=3).fit(texts).transform(texts) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_vectors_are_dense_and_missing_ones_are_marked():
    table = pl.DataFrame({"emb": [[3.0, 4.0], None, [0.0, 0.0], [-1.0, 0.0]], "tags": [[1, 2], [2, 2], [1, 1], [0, 3]]})
    encoder = FeatureEncoder(kinds={"tags": "vector"}).fit(table)
    features = FeatureEncoder.from_arrays(encoder.arrays()).transform(table)
    half = np.sqrt(2)  # the mean square of an entry is 1
    wanted = [[0.6 * half, 0.8 * half, 0], [0, 0, 1], [0, 0, 0], [-half, 0, 0]]
    np.testing.assert_allclose(features.dense_RF[:, :3], wanted, rtol=1e-6)
    assert features.dense_RF.shape == (4, encoder.num_dense) == (4, 6)
    assert features.codes_RM.shape == (4, 0)
    assert encoder.transform(pl.DataFrame({"emb": ["[3, 4]"], "tags": [[0, 1]]})).dense_RF[
        0, :2
    ].tolist() == pytest.approx(wanted[0][:2])
    with pytest.raises(ValueError, match="vectors of one length, 2 as in training, got one of 3 in row 0"):
        encoder.transform(pl.DataFrame({"emb": [[1.0, 2.0, 3.0]], "tags": [[0, 1]]}))
    with pytest.raises(ValueError, match="all its vectors are 0"):
        FeatureEncoder().fit(pl.DataFrame({"emb": [[0.0, 0.0], [0.0, 0.0]]}))


def test_a_row_is_known_only_by_what_training_had():
    rows = {
        "tags": [["x"], ["x", "y"], ["y"]] * 2,
        "kind": ["a", "a", "b"] * 2,
        "plot": ["sea ship", "war gun", "man town"] * 2,
        "emb": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]] * 2,
        "year": [1.0, 2.0, 3.0] * 2,
    }
    blank = {"tags": [["new"]], "kind": ["new"], "plot": ["nothing known"], "emb": [None], "year": [None]}
    table = pl.DataFrame(rows)
    encoder = FeatureEncoder(min_count=1, kinds={"plot": "text"}).fit(table)
    assert encoder.transform(table).known_R.all()
    assert not encoder.transform(pl.DataFrame(blank, schema=table.schema)).known_R.any()
    for name, values in rows.items():
        one = pl.DataFrame(blank | {name: values[:1]}, schema=table.schema)
        assert encoder.transform(one).known_R.all(), name
