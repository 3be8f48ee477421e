"""Neural models that grow and learn on; runs that are fine-tuned, measured before and after, and kept as new runs."""

import copy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hydra.utils import instantiate

from recsys_dl.compose import compose
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.neural import NeuralModel

ROOT = Path(__file__).parent.parent
SMALL = {
    "gmf": ["model.embedding_size=8", "model.learning_rate=0.02", "model.epochs=8"],
    "mlp": ["model.embedding_size=8", "model.hidden_sizes=[16,8]", "model.learning_rate=0.02", "model.epochs=6"],
    "neumf": ["model.embedding_size=8", "model.hidden_sizes=[16,8]", "model.learning_rate=0.02", "model.epochs=6"],
    "two_tower": ["model.embedding_size=8", "model.learning_rate=0.02", "model.epochs=4"],
    "youtube_dnn": ["model.embedding_size=8", "model.hidden_sizes=[16]", "model.learning_rate=0.02", "model.epochs=4"],
    "sasrec": ["model.embedding_size=8", "model.learning_rate=0.01", "model.epochs=4"],
}


def log(pairs: list[tuple[str, str]], *, start: int = 0, features: bool = True, **about) -> Dataset:
    """A Dataset whose ids are numbered as they come; the parity of an id's number is its taste."""
    users = Vocabulary(list(dict.fromkeys(user for user, _ in pairs)), noun="user")
    items = Vocabulary(list(dict.fromkeys(item for _, item in pairs)), noun="item")
    times = np.arange(len(pairs)) + 1_400_000_000 + start
    rows = [users.rows([user for user, _ in pairs]), items.rows([item for _, item in pairs])]
    kinds = pl.DataFrame({"kind": ["odd" if int(item[1:]) % 2 else "even" for item in items.ids]})
    titles = pl.Series([f"Title of {item}" for item in items.ids])
    return Dataset(
        Interactions(*rows, None, times, num_users=len(users), num_items=len(items)),
        users,
        items,
        item_features=kinds if features else None,
        item_titles=titles,
        **about,
    )


def tastes(users: list[str], items: list[str], num: int, seed: int) -> list[tuple[str, str]]:
    """`num` items of their own taste for each user."""
    rng = np.random.default_rng(seed)
    own = {parity: [item for item in items if int(item[1:]) % 2 == parity] for parity in (0, 1)}
    return [(user, item) for user in users for item in rng.permutation(own[int(user[1:]) % 2])[:num].tolist()]


ITEMS = [f"i{n}" for n in range(30)]
OLD_USERS, NEW_USERS = [f"u{n}" for n in range(40)], [f"n{n}" for n in range(8)]
NEW_ITEMS = ["j0", "j1", "j2", "j3"]


def old_log() -> Dataset:
    return log(tastes(OLD_USERS, ITEMS, 9, 1))


def new_log() -> Dataset:
    """Ids in another order than in the old log; eight new users, four new items, all had."""
    pairs = tastes([*NEW_USERS, *OLD_USERS[9::-1]], [*NEW_ITEMS, *ITEMS[::-1]], 10, 2)
    return log(pairs, start=1000, name="later")


@pytest.fixture(scope="module")
def old() -> Dataset:
    return old_log()


@pytest.fixture(scope="module")
def new() -> Dataset:
    return new_log()


@pytest.fixture(scope="module")
def fitted(old) -> dict[str, NeuralModel]:
    return {}


@pytest.fixture(params=SMALL)
def model(request, fitted, old) -> NeuralModel:
    """A copy of a model that was fitted once."""
    name = request.param
    if name not in fitted:
        fitted[name] = instantiate(compose("train", [f"model={name}", "device=cpu", *SMALL[name]]).model).fit(old)
    return copy.deepcopy(fitted[name])


def small(name: str, **changed):
    settings = dict(word.split("=", 1) for word in SMALL.get(name, []))
    settings |= {f"model.{key}": str(value) for key, value in changed.items()}
    words = [f"{key}={value}" for key, value in settings.items()]
    return instantiate(compose("train", [f"model={name}", "device=cpu", *words]).model)


def weights_of(model: NeuralModel) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(
        (one[name] != two[name]).nnz == 0 if hasattr(one[name], "nnz") else np.array_equal(one[name], two[name])
        for name in one
    )


# Models


def test_growing_keeps_what_was_trained_to_the_bit(model, old, new):
    before, lists = weights_of(model), model.score(np.arange(40), np.tile(np.arange(30), (40, 1)))
    assert model.grow(new) is model
    assert (model.num_users, model.num_items) == (48, 34)
    assert model.users.ids[:40].to_list() == old.users.ids.to_list()
    assert set(model.users.ids[40:]) == set(NEW_USERS)
    assert set(model.items.ids[30:]) == set(NEW_ITEMS)
    for name, weights in weights_of(model).items():
        known = weights[: len(before[name])] if weights.dim() else weights
        assert torch.equal(known, before[name]), name
    # one product of matrices of another size may round otherwise
    np.testing.assert_allclose(model.score(np.arange(40), np.tile(np.arange(30), (40, 1))), lists, rtol=1e-5, atol=1e-6)
    counts = model.item_counts_I[:30]
    blank = model.recommend([40], 1).items_BK[0, 0]
    assert counts[blank] == counts.max()  # of someone who has only been given room nothing is known


def test_a_row_without_features_begins_as_the_mean_of_those_trained():
    log = Interactions([0, 0, 1], [0, 1, 1], num_users=3, num_items=3)  # user 2 and item 2 were never met
    model = small("gmf").fit(log)
    users_UE, items_IE = (
        model.network.get_submodule(name).weight.detach().clone() for name in ("user_emb", "item_emb")
    )
    model.grow(Interactions([3, 0], [2, 3], num_users=5, num_items=4))
    grown_UE, grown_IE = (model.network.get_submodule(name).weight.detach() for name in ("user_emb", "item_emb"))
    assert torch.equal(grown_UE[:3], users_UE)  # user 2 is not asked for
    for row in (3, 4):
        torch.testing.assert_close(grown_UE[row], (users_UE[0] + users_UE[1]) / 2)
    assert torch.equal(grown_IE[:2], items_IE[:2])
    for row in (2, 3):
        torch.testing.assert_close(grown_IE[row], (items_IE[0] + items_IE[1]) / 2)


@pytest.mark.parametrize("model", ["two_tower", "youtube_dnn", "sasrec"], indirect=True)
def test_a_new_item_begins_as_what_its_features_say(model, new):
    twin = {model.items.ids[row]: row for row in range(30)}
    with torch.no_grad():
        rows = torch.tensor([twin["i0"], twin["i1"]])
        encoder = model.network.items
        features = (encoder.codes_IM[rows], encoder.weights_IM[rows], encoder.dense_IF[rows])
        said_2D = encoder.feature_net(*features).numpy()
    model.grow(new)
    for item in NEW_ITEMS:
        row = int(model.items.rows([item])[0])
        np.testing.assert_allclose(model.item_emb_ID[row], said_2D[int(item[1:]) % 2], rtol=1e-5, atol=1e-6)
    model.fine_tune(new, epochs=1)
    even, odd = (model.network.items.item_emb.weight[model.items.rows([item])[0].item()] for item in ("j0", "j1"))
    assert not torch.equal(even, odd)  # what is their own is learned from there


def test_it_learns_the_new_and_keeps_the_old(model, new):
    model.fine_tune(new, epochs=12)
    users = np.arange(48)
    parity = np.array([int(user[1:]) % 2 for user in model.users.ids])
    items = np.array([int(item[1:]) % 2 for item in model.items.ids])
    log = Interactions.from_csr(model.train_UI)
    top_BK = model.recommend(users, 3, exclude=log).items_BK
    own_BK = items[top_BK] == parity[:, None]
    assert own_BK[40:].mean() > 0.75  # by chance 0.3
    assert own_BK[:40].mean() > 0.75  # by chance 0.35
    assert model.train_UI.shape == (48, 34)
    fresh = model.recommend(users, 30, exclude=log).items_BK
    assert np.isin(fresh, np.flatnonzero(np.isin(model.items.ids, NEW_ITEMS))).any()


def test_same_seed_same_bits_and_saved_ones_too(model, new, tmp_path):
    model.save(tmp_path / "model")
    twin = CatalogModel.load(tmp_path / "model").fine_tune(new, epochs=2)
    assert same(twin.arrays(), model.fine_tune(new, epochs=2).arrays())
    model.save(tmp_path / "tuned")
    again = CatalogModel.load(tmp_path / "tuned")
    users = np.arange(48)
    np.testing.assert_array_equal(again.recommend(users, 5).items_BK, model.recommend(users, 5).items_BK)


def test_frozen_weights_stay_to_the_bit(model, new):
    names = [name for name, _ in model.network.named_parameters()]
    prefix = "item_emb" if "item_emb.weight" in names else "items"
    grown = weights_of(copy.deepcopy(model).fine_tune(new, epochs=0))
    model.fine_tune(new, epochs=2, freeze=[prefix], learning_rate=0.05)
    changed = {name for name, weights in weights_of(model).items() if not torch.equal(weights, grown[name])}
    assert changed == {name for name in names if not name.startswith(f"{prefix}.")} - unused(model)
    assert all(weights.requires_grad for weights in model.network.parameters())


def unused(model: NeuralModel) -> set[str]:
    """Weights without influence here: there are no features of users, and what is new has no age."""
    return weights_of(model).keys() & {"user.profile.values.weight", "user.profile.dense.weight"}


@pytest.mark.parametrize("model", ["gmf", "neumf"], indirect=True)
@pytest.mark.parametrize("negatives", ["uniform", "popularity", "hard"])
def test_negatives_are_positives_of_neither_log(model, new, negatives, monkeypatch):
    model.negatives, model.num_hard = negatives, 5
    took = []
    make = type(model)._tuning_examples

    def kept(self, fresh, replayed):
        took.append((fresh, replayed, make(self, fresh, replayed)))
        return took[0][2]

    monkeypatch.setattr(type(model), "_tuning_examples", kept)  # it learns in a copy of itself
    old_UI = model.train_UI.copy()
    model.fine_tune(new, epochs=0, replay=0.5)
    fresh, replayed, examples = took[0]
    assert len(replayed) == len(new) // 2
    assert all(old_UI[pair] > 0 for pair in zip(replayed.users_N, replayed.items_N, strict=True))
    had = model.train_UI.toarray() > 0
    assert had.sum() > old_UI.nnz
    learned = Interactions.concat([fresh, replayed]).by_user
    assert len(examples) == learned.nnz
    for epoch in (0, 1):
        examples.begin(epoch)
        batch = examples.take(torch.arange(len(examples)), slice(0, len(examples)), epoch=epoch, step=0)
        users, items = batch.users_B.numpy()[:, None], batch.items_BL.numpy()
        assert (learned[users[:, 0], items[:, 0]] > 0).all()
        assert not had[users, items[:, 1:]].any()


@pytest.mark.parametrize("model", ["two_tower", "sasrec"], indirect=True)
def test_towers_learn_histories_of_those_who_did_something(model, monkeypatch):
    took: list[Interactions] = []
    make = model._examples
    monkeypatch.setattr(model, "_examples", lambda log: took.append(log) or make(log), raising=False)
    later = log([("n0", "i4"), ("u3", "j1"), ("u3", "i5"), ("n0", "i6")], start=9)
    kept = {
        user: list(map(int, items))
        for user, items in enumerate(np.split(model.history_N, model.history_starts_U1[1:-1]))
    }
    model.fine_tune(later, epochs=0, replay=5.0)  # 20 old interactions of users with nine each: two, and two of a third
    rows = {user: model.users.rows([user])[0] for user in ("u3", "n0")}
    items = {item: model.items.rows([item])[0] for item in ("i4", "i5", "i6", "j1")}
    learned = {user: took[0].items_N[took[0].users_N == user].tolist() for user in np.unique(took[0].users_N)}
    assert learned.pop(rows["u3"]) == [*kept[rows["u3"]], items["j1"], items["i5"]]
    assert learned.pop(rows["n0"]) == [items["i4"], items["i6"]]
    assert sorted(len(items) for items in learned.values()) == [2, 9, 9]
    assert all(learned[user] == kept[user][-len(learned[user]) :] for user in learned)
    mine = slice(*model.history_starts_U1[rows["u3"] : rows["u3"] + 2])
    assert model.history_N[mine].tolist() == [*kept[rows["u3"]], items["j1"], items["i5"]]


@pytest.mark.parametrize("name", ["sasrec", "two_tower"])
def test_replay_draws_every_old_user_alike(name, monkeypatch):
    """The first user's history alone is longer than all that may be replayed; the others' differ in length."""
    lengths = [25, 3, 4, 5, 6, 7, 8, 9, 3, 4, 5, 6, 7, 8, 9, 14]
    pairs = [(f"u{user}", f"i{item}") for user, length in enumerate(lengths) for item in range(length)]
    fitted = small(name, epochs=1).fit(log(pairs))
    later = log([("n0", "i1"), ("n0", "i2"), ("n0", "i3"), ("n0", "i4")], start=9)
    took: list[Interactions] = []
    make = type(fitted)._examples
    monkeypatch.setattr(type(fitted), "_examples", lambda self, log: took.append(log) or make(self, log))
    seeds = 100
    for seed in range(seeds):
        tuned = copy.copy(fitted)
        tuned.seed = seed
        tuned.fine_tune(later, epochs=0, replay=3.0)
    old = [one.select(one.users_N < len(lengths)) for one in took]
    assert [len(one) for one in old] == [12] * seeds
    times_U = np.sum([one.user_counts_U[: len(lengths)] > 0 for one in old], axis=0)
    share = times_U.mean() / seeds  # of the seeds at which a user is drawn; four standard deviations either way
    apart = 4 * np.sqrt(seeds * share * (1 - share))
    assert np.abs(times_U - times_U.mean()).max() < apart
    assert times_U.min() > 0


def test_newcomers_of_many_items_are_learned_from_the_newest():
    """More than are learned from: 200 of one taste, then 256 of another, whose item rows are higher."""
    users_N, items_N = np.divmod(np.arange(40 * 300), 300)
    items_N = items_N + 300 * (users_N % 2)  # even users like the first half of the items
    model = small("gmf", epochs=3).fit(Interactions(users_N, items_N, num_items=600))
    newest = np.arange(300, 556)
    history = np.concatenate([np.arange(200), newest])
    state = model.fold_in([history])
    assert model.score(state, np.arange(556, 600)[None]).mean() > model.score(state, np.arange(200, 300)[None]).mean()


def test_a_pair_of_both_logs_is_one():
    model = small("gmf").fit(Interactions([0, 1], [0, 1], num_items=4))
    model.fine_tune(Interactions([0, 0], [0, 2], num_users=2, num_items=4), epochs=1)
    np.testing.assert_array_equal(model.user_counts_U, [2, 1])
    np.testing.assert_array_equal(model.item_counts_I, [1, 1, 1, 0])


WRONG = {
    "an unknown name": (
        {"freeze": ["item_embedding"]},
        r"got 'item_embedding'. There are: axis_weights, item_emb, user_emb",
    ),
    "a name in place of names": ({"freeze": "item_emb"}, r"write \['item_emb'\]"),
    "nothing to learn": ({"freeze": ["axis_weights", "user_emb", "item_emb"]}, "leaves nothing of GMF to train"),
    "negative epochs": ({"epochs": -1}, "epochs must be a whole number, at least 0, got -1"),
    "half an epoch": ({"epochs": 0.5}, "epochs must be a whole number"),
    "no learning rate": ({"learning_rate": 0.0}, "learning_rate must be above 0"),
    "less than no replay": ({"replay": -1.0}, "replay must be at least 0"),
    "a rate that diverges": ({"learning_rate": 1e30}, "the loss must stay finite"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("model", ["gmf"], indirect=True)
def test_what_is_refused_leaves_the_model_as_it_was(model, new, case):
    arguments, message = WRONG[case]
    before, users = model.arrays(), model.users
    with pytest.raises(ValueError, match=message):
        model.fine_tune(new, **arguments)
    assert model.users is users
    assert same(model.arrays(), before)
    assert model.num_users == 40


@pytest.mark.parametrize("model", ["two_tower"], indirect=True)
def test_features_that_are_missing_or_others(model, old, new):
    before = model.arrays()
    pairs = [("u0", "j8"), ("n1", "j9")]
    with pytest.raises(ValueError, match=r"item features must have the column 'kind' \(text\) as in training"):
        model.fine_tune(log(pairs, features=False))
    other = log(pairs)
    numbers = Dataset(other.interactions, other.users, other.items, item_features=pl.DataFrame({"kind": [0.5, 1.5]}))
    with pytest.raises(ValueError, match="'kind' of the item features held text in training, got numbers"):
        model.grow(numbers)
    assert same(model.arrays(), before)
    model.fine_tune(log([("u0", "i2"), ("n1", "i3")], features=False), epochs=1)  # no new item, no feature needed


def test_logs_that_cannot_be_learned_on(fitted, old, new):
    model = small("gmf", epochs=1)
    with pytest.raises(ValueError, match="has not been fitted"):
        model.fine_tune(new)
    with pytest.raises(ValueError, match="has not been fitted"):
        model.grow(new)
    model.fit(old)
    with pytest.raises(ValueError, match="at least one new interaction, got an empty log"):
        model.fine_tune(new.with_interactions(new.interactions.select([])))
    with pytest.raises(ValueError, match="was fitted with user and item ids"):
        model.fine_tune(Interactions([99], [0], num_items=30))
    with pytest.raises(ValueError, match="without ids"):
        small("gmf", epochs=1).fit(old.interactions).fine_tune(new)
