"""TwoTower, YouTubeDNN and SASRec as models: features of the cold, orders, ages, losses, saving, exports."""

import numpy as np
import polars as pl
import pytest
import torch

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.export import export
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.models.sasrec import SASRec
from recsys_dl.models.two_tower import TwoTower
from recsys_dl.models.youtube_dnn import YouTubeDNN
from recsys_dl.retrieval import Exact, Retriever
from recsys_dl.training import TrainerOptions

SMALL = {"embedding_size": 16, "history_size": 20, "batch_size": 256, "seed": 7, "device": "cpu"}
TOWERS = {
    "two_tower": lambda **more: TwoTower(**{**SMALL, "epochs": 15, "learning_rate": 0.01, **more}),
    "youtube_dnn": lambda **more: YouTubeDNN(
        **{**SMALL, "epochs": 10, "learning_rate": 0.005, "hidden_sizes": [32], **more}
    ),
    "sasrec": lambda **more: SASRec(**{**SMALL, "epochs": 8, "learning_rate": 0.005, "num_heads": 1, **more}),
}
NUM_USERS, NUM_ITEMS, NUM_TASTES = 120, 60, 3
COLD_ITEMS = np.arange(48, 60)  # in the vocabulary, with features, never met
BLANK_ITEM = 59  # of which not even features are known
NEW_USERS = np.arange(108, 120)  # with features, without interactions
BLANK_USER = 119


def tastes(num: int) -> np.ndarray:
    return np.arange(num) % NUM_TASTES


def planted() -> Dataset:
    """Users have items of their taste; a column tells users' taste, a list and a text items'. Cold and blank ones at the end."""
    rng = np.random.default_rng(1)
    users, items = [], []
    for user in range(NEW_USERS[0]):
        mine = np.flatnonzero(tastes(COLD_ITEMS[0]) == user % NUM_TASTES)
        drawn = np.concatenate([rng.choice(mine, 8, replace=False), rng.choice(COLD_ITEMS[0], 2, replace=False)])
        items += list(dict.fromkeys(rng.permutation(drawn).tolist()))
        users += [user] * (len(items) - len(users))
    times = rng.permutation(len(users)) * 1000
    words = [["sea ship sail", "moon rocket star", "horse saddle ranch"][taste] for taste in tastes(NUM_ITEMS)]
    noise = rng.choice(["red", "blue", "green", "grey"], NUM_ITEMS)
    texts = pl.Series([f"{word} {colour}" for word, colour in zip(words, noise, strict=True)])
    genres = pl.Series([[f"g{taste}", "any"] for taste in tastes(NUM_ITEMS)])
    blank = pl.Series(np.arange(NUM_ITEMS) == BLANK_ITEM)
    segments = pl.Series([f"s{taste}" for taste in tastes(NUM_USERS)])
    return Dataset(
        Interactions(users, items, None, times, num_users=NUM_USERS, num_items=NUM_ITEMS),
        Vocabulary([f"u{row}" for row in range(NUM_USERS)], noun="user"),
        Vocabulary([f"i{row}" for row in range(NUM_ITEMS)], noun="item"),
        user_features=pl.DataFrame({"segment": segments.set(pl.Series(np.arange(NUM_USERS) == BLANK_USER), None)}),
        item_features=pl.DataFrame({"genres": pl.select(pl.when(~blank).then(genres)).to_series().alias("genres")}),
        item_texts=texts.set(blank, None).alias("text"),
    )


@pytest.fixture(scope="module")
def data() -> Dataset:
    return planted()


@pytest.fixture(scope="module", params=TOWERS)
def fitted(request, data):
    return TOWERS[request.param](id_dropout=0.3).fit(data)


def own_taste(items_BK: np.ndarray, users_B: np.ndarray) -> float:
    """Share of recommended items of the user's taste; a third by chance."""
    return float((tastes(NUM_ITEMS)[items_BK] == (users_B % NUM_TASTES)[:, None]).mean())


def test_items_never_met_are_recommended_by_their_features(fitted, data):
    users = np.arange(NEW_USERS[0])
    cold = COLD_ITEMS[:-1]
    assert own_taste(fitted.recommend(users, k=3, allow=cold).items_BK, users) > 0.9
    blind = type(fitted)(**{**fitted.arguments(), "features": "none"}).fit(data)
    assert blind.item_encoder is None
    assert len(np.unique(blind.score([0], cold[None]))) == 1  # nothing is known of them
    met = np.arange(COLD_ITEMS[0])
    assert own_taste(fitted.recommend(users, k=3, allow=met, exclude=data).items_BK, users) > 0.9


def test_users_without_a_history_are_answered_by_their_features(fitted, data):
    known = NEW_USERS[:-1]
    assert own_taste(fitted.recommend(known, k=5).items_BK, known) > 0.9
    most = np.sort(data.interactions.item_counts_I)[::-1][:5]
    blank = fitted.recommend([BLANK_USER], k=5)
    np.testing.assert_array_equal(data.interactions.item_counts_I[blank.items_BK[0]], most)
    assert fitted.queries([0, known[0], BLANK_USER])[1].tolist() == [False, False, True]


def test_people_unseen_are_answered_by_history_and_features(fitted, data):
    """One without anything, one with features alone, one with a history alone, one with both; each of taste 1."""
    liked = np.flatnonzero(tastes(COLD_ITEMS[0]) == 1)[:6]
    log = Interactions(np.repeat([2, 3], 6), np.tile(liked, 2), num_users=4, num_items=NUM_ITEMS)
    unseen = Dataset(
        log,
        Vocabulary(["a", "b", "c", "d"], noun="user"),
        data.items,
        user_features=pl.DataFrame({"segment": [None, "s1", None, "s1"], "age": [1, 2, 3, 4]}),
    )
    state = fitted.fold_in(unseen)
    lists = fitted.recommend(state, k=3, exclude=log).items_BK
    assert own_taste(lists[1:], np.array([1, 1, 1])) > 0.9
    np.testing.assert_array_equal(lists[0], fitted.recommend([BLANK_USER], k=3).items_BK[0])
    plain = fitted.fold_in(log)
    np.testing.assert_allclose(plain.values[0][3], plain.values[0][2], rtol=1e-5, atol=1e-6)
    assert np.abs(state.values[0][3] - plain.values[0][3]).max() > 1e-4
    row = fitted.recommend([0], k=5)
    mine = data.interactions.items_N[data.interactions.users_N == 0]
    mine = mine[np.argsort(data.interactions.times_N[data.interactions.users_N == 0])]
    same = Dataset(
        Interactions(np.zeros(len(mine), int), mine, num_users=1, num_items=NUM_ITEMS),
        Vocabulary(["x"], noun="user"),
        data.items,
        user_features=data.user_features[:1],
    )
    np.testing.assert_allclose(
        fitted.recommend(fitted.fold_in(same), k=5).scores_BK, row.scores_BK, rtol=1e-4, atol=1e-5
    )


def test_an_item_of_which_nothing_is_known_stands_as_the_rarest(fitted, data):
    counts = data.interactions.item_counts_I[: COLD_ITEMS[0]]
    rare = np.argsort(counts, kind="stable")[:5]  # a tenth of 48
    np.testing.assert_allclose(fitted.item_emb_ID[BLANK_ITEM], fitted.item_emb_ID[rare].mean(0), rtol=1e-5, atol=1e-6)
    near = fitted.similar_items([BLANK_ITEM, COLD_ITEMS[0]], k=5)
    assert (near.items_BK[0] == -1).all()
    assert own_taste(near.items_BK[1:], COLD_ITEMS[:1]) > 0.7
    assert BLANK_ITEM not in fitted.similar_items(np.arange(40), k=50).items_BK


def test_saved_with_features(fitted, data, tmp_path):
    fitted.save(tmp_path / "saved")
    again = CatalogModel.load(tmp_path / "saved")
    users = np.arange(NUM_USERS)
    np.testing.assert_array_equal(again.recommend(users, k=9).scores_BK, fitted.recommend(users, k=9).scores_BK)
    new = Dataset(
        Interactions([0], [3], num_users=1, num_items=NUM_ITEMS),
        Vocabulary(["x"], noun="user"),
        data.items,
        user_features=pl.DataFrame({"segment": ["s2"]}),
    )
    for one, two in zip(again.fold_in(new).values, fitted.fold_in(new).values, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(again.item_vectors(), fitted.item_vectors())


def test_feature_columns_that_are_wrong_later(fitted, data):
    log = Interactions([0], [3], num_users=1, num_items=NUM_ITEMS)
    users = Vocabulary(["x"], noun="user")
    for frame, words in (
        (pl.DataFrame({"age": [3]}), "user features must have the column 'segment' .text. as in training, got 'age'"),
        (pl.DataFrame({"segment": [3]}), "'segment' of the user features held text in training, got whole numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            fitted.fold_in(Dataset(log, users, data.items, user_features=frame))


def with_item_features(data: Dataset, **columns) -> Dataset:
    return Dataset(data.interactions, data.users, data.items, item_features=pl.DataFrame(columns))


def test_features_that_cannot_be_learned(data):
    nan = with_item_features(data, price=np.where(np.arange(NUM_ITEMS) == 5, np.nan, np.arange(NUM_ITEMS) / 2))
    with pytest.raises(
        ValueError, match="the column 'price' of the item features must hold finite numbers.* got nan for item 'i5'"
    ):
        TOWERS["two_tower"](epochs=0).fit(nan)
    same = with_item_features(data, kind=["x"] * NUM_ITEMS)
    with pytest.raises(ValueError, match="item features need a column whose values differ between rows"):
        TOWERS["two_tower"](epochs=0).fit(same)
    assert TOWERS["two_tower"](epochs=0, features="none").fit(same).item_encoder is None
    kinds = TOWERS["two_tower"](epochs=0, item_kinds={"price": "ignore"})
    with pytest.raises(ValueError, match="kinds names 'price', which is not a column of the item features"):
        kinds.fit(same)


def test_half_precision(fitted, data):
    model = type(fitted)(**fitted.arguments())
    model.fit(data, trainer=TrainerOptions(precision="bf16-mixed"))
    users = np.arange(NEW_USERS[0])
    met = np.arange(COLD_ITEMS[0])
    assert own_taste(model.recommend(users, k=3, allow=met, exclude=data).items_BK, users) > 0.9


@pytest.mark.parametrize("softmax", ["sampled", "in_batch"])
def test_other_softmaxes_find_the_tastes(fitted, data, softmax):
    model = type(fitted)(**{**fitted.arguments(), "softmax": softmax, "num_negatives": 64, "features": "none"}).fit(
        data
    )
    users = np.arange(NEW_USERS[0])
    met = np.arange(COLD_ITEMS[0])
    assert own_taste(model.recommend(users, k=3, allow=met, exclude=data).items_BK, users) > 0.9
    assert model.losses[-1] < model.losses[0]


def test_lengths_temperature_attention_and_rows(data):
    """Options that the defaults leave out, together: each must train and still find the tastes."""
    model = TOWERS["two_tower"](
        normalize=True,
        temperature=0.2,
        pooling="attention",
        user_sizes=[32],
        feature_sizes=[24],
        optimizer="row_adam",
        softmax="sampled",
        num_negatives=48,
        shuffle=True,
        weight_decay=0.01,
    ).fit(data)
    np.testing.assert_allclose(np.linalg.norm(model.item_emb_ID[: COLD_ITEMS[0]], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.user_emb_UD, axis=1), 5, rtol=1e-5)
    users = np.arange(NEW_USERS[0])
    assert own_taste(model.recommend(users, k=3, exclude=data).items_BK, users) > 0.9


def chains(num_users: int = 150, num_items: int = 30) -> Interactions:
    """Each item is followed by the next one, the last by the first; users begin anywhere. Without times: the log is in order."""
    rng = np.random.default_rng(2)
    items = (rng.integers(num_items, size=(num_users, 1)) + np.arange(12)) % num_items
    return Interactions(np.repeat(np.arange(num_users), 12), items.ravel(), num_users=num_users, num_items=num_items)


def test_attention_over_the_sequence_learns_what_follows_what():
    log = chains()
    last = log.items_N.reshape(150, 12)[:, -1]
    model = TOWERS["sasrec"](epochs=12, dropout=0.1, learning_rate=0.01).fit(log)
    users = np.arange(150)
    hit = (model.recommend(users, k=1).items_BK[:, 0] == (last + 1) % 30).mean()
    assert hit > 0.95
    followed = model.recommend(model.fold_in([[4, 5, 6, 7], [20, 21], [13]]), k=1).items_BK[:, 0]
    assert followed.tolist() == [8, 22, 14]
    mean = TOWERS["two_tower"](num_targets=1, dropout=0.1).fit(log)
    assert (mean.recommend(users, k=1).items_BK[:, 0] == (last + 1) % 30).mean() < 0.8  # a mean knows no order


def test_age_tells_what_is_popular_now():
    """Items 0 to 9 had their day, 10 to 19 have it now; users' histories are of other items and say nothing."""
    rng = np.random.default_rng(4)
    users, items, times = [], [], []
    for user in range(400):
        begin = rng.random()
        for at in range(5):
            now = begin * 0.95 + at / 100
            trending = rng.integers(10) + 10 * (rng.random() < now)
            users.append(user), items.append(trending if at else 20 + rng.integers(10)), times.append(now * 1e6)
    log = Interactions(users, items, None, times, num_users=400, num_items=30)
    told = TOWERS["youtube_dnn"](epochs=12, examples_per_user=5).fit(log)
    blind = TOWERS["youtube_dnn"](epochs=12, examples_per_user=5).fit(
        Interactions(users, items, num_users=400, num_items=30)
    )
    newcomer = [[25]]

    def share_of_new(model):
        chance = np.exp(model.score(model.fold_in(newcomer), np.arange(20)[None])[0])
        return chance[10:].sum() / chance.sum()

    assert share_of_new(told) > 0.8
    assert share_of_new(told) > share_of_new(blind) + 0.15


@pytest.mark.parametrize("softmax", ["full", "sampled", "in_batch"])
def test_two_processes_take_the_gradient_of_one(fitted, data, softmax):
    """What DDP computes: each process's loss on its part, weighed by its share, is on average the loss of the whole batch."""
    model = type(fitted)(
        **{**fitted.arguments(), "softmax": softmax, "epochs": 0, "dropout": 0.0, "id_dropout": 0.0}
    ).fit(data)
    network, examples = model.network.train(), model._examples(data.interactions)
    examples.begin(0)
    chosen = torch.randperm(len(examples), generator=torch.Generator().manual_seed(1))[:21]

    def gradient(mine):
        network.zero_grad()
        loss = model._objective(network, examples.take(chosen, mine, epoch=0, step=0))
        loss.backward()
        return torch.cat([weights.grad.flatten() for weights in network.parameters()])

    whole = gradient(slice(0, 21))
    parts = [gradient(mine) * (mine.stop - mine.start) / 21 for mine in (slice(0, 8), slice(8, 21))]
    torch.testing.assert_close(parts[0] + parts[1], whole, rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_towers_leave_as_torchscript(fitted, data):
    """The scripted tower gives what fold_in gives, from histories of any length and features; `seen` gives newcomers states."""
    served = fitted.served()
    tower = torch.jit.script(served.user_tower.eval())
    lists = [[3, 6, 9, 12], [1], list(range(30)), []]  # one longer than history_size
    history = np.full((4, 32), -1)
    for row, items in enumerate(lists):
        history[row, : len(items)] = items
    given = {one.name: torch.zeros((4, *one.shape), dtype=getattr(torch, one.dtype)) for one in served.inputs}
    states = tower(torch.from_numpy(history), given).numpy()
    wanted = fitted.fold_in(lists).values[0]
    np.testing.assert_allclose(states, wanted, rtol=1e-4, atol=1e-5)
    features = pl.DataFrame({"segment": ["s0", "s1", "s2", "s1"]})
    side = fitted.user_encoder.transform(features)
    parts = (side.codes_RM, side.weights_RM, side.dense_RF)
    for name, part in zip(("codes_BM", "weights_BM", "dense_BF"), parts, strict=True):
        if name in given:
            given[name][:, : part.shape[1]] = torch.from_numpy(part)
    log = Interactions.from_histories(lists, num_items=NUM_ITEMS)
    unseen = Dataset(log, Vocabulary(list("abcd"), noun="user"), data.items, user_features=features)
    np.testing.assert_allclose(
        tower(torch.from_numpy(history), given).numpy(), fitted.fold_in(unseen).values[0], rtol=1e-4, atol=1e-5
    )
    scores = served.scorer(torch.from_numpy(served.states)).numpy()
    scores[:, ~served.listed_I] = -np.inf  # as every export does
    every = np.tile(np.arange(NUM_ITEMS), (NUM_USERS, 1))
    np.testing.assert_allclose(
        scores[:BLANK_USER], fitted.score(np.arange(NUM_USERS), every)[:BLANK_USER], rtol=1e-4, atol=1e-5
    )
    assert served.known_U.tolist() == [row != BLANK_USER for row in range(NUM_USERS)]
    told = fitted.served(Interactions([BLANK_USER] * 3, [1, 4, 7], num_users=NUM_USERS, num_items=NUM_ITEMS))
    assert told.known_U.all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"softmax": "soft"}, "softmax must be one of full, sampled, in_batch, got 'soft'"),
        ({"features": "some"}, "features must be one of all, items, users, none, got 'some'"),
        ({"history_size": 0}, "history_size must be a whole number of at least 1, got 0"),
        ({"embedding_size": 0}, "embedding_size must be a whole number of at least 1, got 0"),
        ({"id_dropout": 1.0}, "id_dropout must be a finite number at least 0 and below 1, got 1.0"),
        ({"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0"),
        ({"item_kinds": {"x": "colour"}}, "must be one of category, .* got x='colour'"),
    ],
)
def test_wrong_arguments(wrong, words):
    for make in TOWERS.values():
        with pytest.raises(ValueError, match=words):
            make(**wrong)


def test_wrong_arguments_of_one_model():
    with pytest.raises(ValueError, match="pooling must be one of mean, attention, got 'max'"):
        TOWERS["two_tower"](pooling="max")
    with pytest.raises(ValueError, match="num_heads must divide embedding_size=16, got 3"):
        TOWERS["sasrec"](num_heads=3)
    for name in ("two_tower", "youtube_dnn"):
        with pytest.raises(ValueError, match="examples_per_user must be a whole number of at least 1, got 0"):
            TOWERS[name](num_targets=1, examples_per_user=0)
    with pytest.raises(ValueError, match="hidden_sizes must be a list, .* with at least 1"):
        TOWERS["youtube_dnn"](hidden_sizes=[])


def test_what_is_given_away_leaves_the_model_able_to_learn():
    log = Interactions([0, 0, 1, 1, 2], [0, 1, 1, 2, 0])
    model = TwoTower(epochs=1, embedding_size=4, device="cpu").fit(log)
    model.served().user_tower.requires_grad_(False)
    assert all(weights.requires_grad for weights in model.network.parameters())


def test_items_of_which_nothing_is_known_are_never_listed(fitted, data, caplog, tmp_path):
    """By no list, whatever is allowed; by features where there are some; nor by an index or an export."""
    users = np.arange(NEW_USERS[0])
    assert fitted.never_listed().tolist() == [BLANK_ITEM]
    blind = type(fitted)(**{**fitted.arguments(), "features": "none", "epochs": 1}).fit(data)
    assert blind.never_listed().tolist() == COLD_ITEMS.tolist()
    assert f"nothing is known of {len(COLD_ITEMS)} of {NUM_ITEMS} items" in caplog.text
    for model, cold in ((fitted, [BLANK_ITEM]), (blind, COLD_ITEMS)):
        served = Retriever(model, Exact(device="cpu")).build()
        whole = Retriever(model, Exact(device="cpu").build(model.item_vectors()))
        for recommender in (model, served, whole):
            assert not np.isin(recommender.recommend(users, k=NUM_ITEMS).items_BK, cold).any()
            assert not np.isin(recommender.recommend([BLANK_USER], k=NUM_ITEMS).items_BK, cold).any()
            assert (recommender.recommend(users, k=3, allow=cold).items_BK == -1).all()
        assert np.isneginf(model.score(users, np.tile(cold, (len(users), 1)))).all()
    folder = export(blind, tmp_path / "served", seen=data)
    recommender = torch.jit.load(folder / "recommender.pt")
    lists, _ = recommender.recommend([data.users.ids[0], "nobody"], NUM_ITEMS)
    assert not {data.items.ids[int(row)] for row in COLD_ITEMS} & {item for items in lists for item in items}
    with pytest.raises(ValueError, match="knows nothing of the items in allow"):
        export(blind, tmp_path / "none", seen=data, allow=[data.items.ids[BLANK_ITEM]])
