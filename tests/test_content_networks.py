"""DropoutNet, Heater and CLCRec: networks over a factor model's vectors and the content of items."""

import numpy as np
import polars as pl
import pytest
from test_content import planted

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.profiles import Profiles
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.families.content_mapping import ContentMapping, vectors_by_others
from recsys_dl.models import ALS, BPR, EASE, SVD, CLCRec, DropoutNet, FunkSVD, Heater

MODELS = [DropoutNet, Heater, CLCRec]
BASES = [ALS(embedding_size=8, epochs=5, device="cpu"), BPR(embedding_size=8, epochs=20, device="cpu")]
USERS, COLD, KNOWN = np.arange(40), np.arange(50, 60), np.arange(50)
QUICK = {"epochs": 3, "hidden_sizes": (16,), "device": "cpu"}


@pytest.fixture(scope="module")
def train() -> Dataset:
    return planted()


@pytest.fixture(scope="module", params=MODELS, ids=lambda one: one.__name__)
def model(request, train):
    return request.param(SVD(embedding_size=4), **QUICK).fit(train)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("base", [*BASES, FunkSVD(embedding_size=4, epochs=5)], ids=lambda base: type(base).__name__)
def test_cold_items_go_to_those_who_like_their_kind(make, base, train):
    model = make(base, **QUICK).fit(train)
    top = model.recommend(USERS, 3, exclude=train, allow=COLD).items_BK
    # a model of ratings learns from this log of equal ones that all are liked
    assert (top % 2 == USERS[:, None] % 2).mean() > (0.4 if isinstance(base, FunkSVD) else 0.95)
    assert np.isfinite(model.item_vectors()).all()
    assert len(model.losses) == 3


def test_training_lowers_the_loss(train):
    for make in MODELS:
        losses = make(ALS(embedding_size=8, epochs=5, device="cpu"), **QUICK | {"epochs": 8}).fit(train).losses
        assert losses[-1] < losses[0], make.__name__


def test_clcrec_keeps_the_order_of_known_items(train):
    base = BASES[0]
    plain = type(base)(**base.arguments()).fit(train)
    model = CLCRec(base, **QUICK).fit(train)
    one, two = (each.recommend(USERS, 10, exclude=train, allow=KNOWN) for each in (plain, model))
    np.testing.assert_array_equal(one.items_BK, two.items_BK)
    np.testing.assert_allclose(one.scores_BK, two.scores_BK, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", MODELS)
def test_an_untrained_network_is_the_base_and_a_ridge_of_it(make, train):
    base = BASES[0]
    plain = type(base)(**base.arguments()).fit(train)
    more = {"num_experts": 1} if make is Heater else {}
    model = make(base, **QUICK | {"epochs": 0}, **more).fit(train)
    np.testing.assert_allclose(model.item_vectors()[KNOWN], plain.item_emb_ID[KNOWN], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(model.user_emb_UD, plain.user_emb_UD, rtol=1e-5, atol=1e-7)
    profiles = model.encoder.transform(None, train.item_texts, train.item_titles)
    made = model.mapping_fitted.predict(profiles)[COLD]
    np.testing.assert_allclose(model.item_vectors()[COLD], made, rtol=1e-4, atol=1e-6)


def test_vectors_of_training_items_are_made_by_others():
    """An item whose vector nothing else resembles has one made without it."""
    import scipy.sparse as sp

    rng = np.random.default_rng(0)
    content = rng.normal(size=(50, 3)).astype(np.float32)
    vectors = content @ rng.normal(size=(3, 2))
    vectors[7] = [100, -100]
    profiles, counts = Profiles(sp.csr_matrix((50, 0), dtype=np.float32), content), np.full(50, 20)
    mapping = ContentMapping("ridge", None, (), 7).fit(profiles, vectors, counts)
    mapping.penalty = 1e-3
    made = vectors_by_others(mapping, profiles, vectors, counts)
    outside = np.delete(np.arange(50), 7)
    expected = np.linalg.lstsq(np.c_[content[outside], np.ones(49)], vectors[outside], rcond=None)[0]
    np.testing.assert_allclose(made[7], np.r_[content[7], 1] @ expected, atol=0.05)
    one = vectors_by_others(mapping, profiles.rows(np.array([7])), vectors[[7]], counts[[7]])
    np.testing.assert_array_equal(one, vectors[[7]].astype(np.float32))


def test_scale_shows_new_items_more_often(model, train):
    shown = [
        np.isin(model.with_scale(scale).recommend(USERS, 10, exclude=train).items_BK, COLD).mean()
        for scale in (0.2, 1.0, 5.0)
    ]
    assert shown[0] <= shown[1] <= shown[2]
    assert shown[0] < shown[2]
    again = type(model)(SVD(embedding_size=4), **QUICK, scale=5).fit(train)
    np.testing.assert_allclose(again.item_vectors(), model.with_scale(5).item_vectors(), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="scale must be"):
        model.with_scale(0)


def first_items(train: Dataset) -> Dataset:
    log = train.interactions
    return Dataset(
        Interactions(log.users_N, log.items_N, num_items=50),
        train.users,
        Vocabulary(train.items.ids[:50]),
        item_texts=train.item_texts[:50],
    )


@pytest.mark.parametrize("make", MODELS)
def test_new_items_enter_without_a_fit(make, train, tmp_path):
    first = first_items(train)
    model = make(BASES[0], **QUICK).fit(first)
    before = model.recommend(USERS, 10, exclude=first)
    log = train.interactions
    model.grow(train.with_interactions(log.select(np.zeros(len(log), bool))))
    assert (model.num_items, model.base.num_items) == (60, 60)
    after = model.recommend(USERS, 10, exclude=log, allow=KNOWN)
    np.testing.assert_array_equal(after.items_BK, before.items_BK)
    top = model.recommend(USERS, 3, allow=COLD).items_BK
    assert (top % 2 == USERS[:, None] % 2).mean() > 0.95
    assert (model.item_sources()[COLD] == "features").all()
    model.save(tmp_path / "model")
    again = make.load(tmp_path / "model")
    np.testing.assert_array_equal(
        again.recommend(USERS, 5, allow=COLD).items_BK, model.recommend(USERS, 5, allow=COLD).items_BK
    )


@pytest.mark.parametrize("make", MODELS)
def test_learning_on(make, train):
    """Known users keep their base vectors, new ones are folded in, and the networks learn on."""
    first = first_items(train)
    model = make(BASES[0], **QUICK).fit(first)
    users = Vocabulary([*train.users.ids, "even", "odd"], noun="user")
    pairs = [(40, item) for item in range(0, 20, 2)] + [(41, item) for item in range(1, 20, 2)]
    log = Interactions(*zip(*pairs, strict=True), num_users=42, num_items=60)
    model.fine_tune(Dataset(log, users, train.items, item_texts=train.item_texts), epochs=2)
    assert (model.num_users, model.num_items) == (42, 60)
    top = model.recommend([40, 41], 5, exclude=log).items_BK
    assert (top % 2 == [[0], [1]]).mean() > 0.7
    folded = model.recommend(
        model.fold_in(log.of_users(np.array([40, 41]))), 5, exclude=log.of_users(np.array([40, 41]))
    )
    np.testing.assert_array_equal(folded.items_BK, top)


@pytest.mark.parametrize("make", MODELS)
def test_the_callers_own_lightning_trainer(make, train):
    import pytorch_lightning as pl_

    model = make(BASES[0], **QUICK)
    module = model.lightning_module(train)
    before = model.item_vectors()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl_.Trainer(max_epochs=2, accelerator="cpu", **quiet)
    trainer.fit(module, model.train_dataloader(train))
    assert not np.array_equal(model.item_vectors(), before)
    top = model.recommend(USERS, 3, exclude=train, allow=COLD).items_BK
    assert (top % 2 == USERS[:, None] % 2).mean() > 0.95


@pytest.mark.parametrize("make", MODELS)
def test_wrong_words(make, train):
    with pytest.raises(
        ValueError, match="base must be a model with item vectors of its own, such as als, bpr or svd, got EASE"
    ):
        make(EASE())
    with pytest.raises(ValueError, match="item features or texts are needed"):
        make(SVD(), epochs=1).fit(Interactions([0, 1], [0, 1]))
    with pytest.raises(ValueError, match="hidden_share"):
        make(SVD(), hidden_share=1.0)
    few = Dataset(
        Interactions([0], [0], num_items=3),
        Vocabulary(["u"], noun="user"),
        Vocabulary(["a", "b", "c"]),
        item_features=pl.DataFrame({"genre": [None, ["x"], ["y"]]}),
    )
    with pytest.raises(ValueError, match="both interactions and content"):
        make(SVD(embedding_size=1), min_count=1, epochs=1).fit(few)
