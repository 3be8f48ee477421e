"""What someone has seen and what a model learns from are two things: what is not learned from is never recommended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from processes import command

from recsys_dl import Dataset, Interactions, evaluate, leave_last_out, load_run, read_log
from recsys_dl.data.dataset import seen_of
from recsys_dl.data.filters import k_core
from recsys_dl.data.split import cold_items, random_split, seen_besides_test, time_split, user_split
from recsys_dl.data.weights import binary, scaled, time_decay
from recsys_dl.export import export
from recsys_dl.fine_tuning import fine_tune
from recsys_dl.models import ALS, Popularity
from recsys_dl.rerankers.rules import Rules


def pairs(log: Interactions) -> set[tuple[int, int]]:
    return set(zip(log.users_N.tolist(), log.items_N.tolist(), strict=True))


def ratings(num_users: int = 60, num_items: int = 25, each: int = 12, seed: int = 1) -> pl.DataFrame:
    """Return a log in which everyone rates `each` items from 1 to 5, one a day."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"u{user}", f"i{item}", int(rng.integers(1, 6)), 86_400 * day)
        for user in range(num_users)
        for day, item in enumerate(rng.permutation(num_items)[:each])
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")


def one_user() -> Dataset:
    """Return a log whose user rates a..f one after another, b and e below 4."""
    frame = pl.DataFrame(
        {
            "user": ["u"] * 6,
            "item": list("abcdef"),
            "rating": [5, 2, 4, 5, 1, 5],
            "timestamp": [10, 20, 30, 40, 50, 60],
        }
    )
    return binary(read_log(frame), threshold=4)


def test_a_threshold_is_remembered():
    data = one_user()
    assert data.interactions.items_N.tolist() == [0, 2, 3, 5]
    assert data.seen_only is not None
    assert data.seen_only.items_N.tolist() == [1, 4]
    assert data.seen_only.weights_N.tolist() == [2, 1]
    assert pairs(data.seen) == {(0, item) for item in range(6)}
    assert data.seen.by_user.toarray().tolist() == [[1, 0, 1, 1, 0, 1]]  # nothing to learn from what was only seen
    assert (
        data.content_hash
        != data.with_interactions(data.interactions).__class__(data.interactions, data.users, data.items).content_hash
    )


def test_a_window_and_dislikes_are_remembered_alike():
    whole = read_log(ratings())
    recent = whole.learn_from(whole.interactions.times_N >= 86_400 * 4)
    liked = recent.learn_from(recent.interactions.weights_N > 1)
    assert len(liked) < len(recent) < len(whole)
    for part in (recent, liked, scaled(liked), time_decay(liked, half_life_days=3)):
        assert pairs(part.seen) == pairs(whole.interactions)
    with pytest.raises(ValueError, match="one bool for each of 720"):
        whole.learn_from(np.arange(3))
    with pytest.raises(ValueError, match="must leave an interaction"):
        whole.learn_from(np.zeros(len(whole), bool))


def test_a_core_keeps_what_was_seen_of_its_users_and_items():
    data = binary(read_log(ratings(num_items=60)), threshold=4)
    core = k_core(data, users=3, items=3)
    assert core.seen_only is not None
    assert 0 < len(core.seen_only) < len(data.seen_only)

    def named(one: Dataset) -> set[tuple[str, str]]:
        log = one.seen_only
        return set(zip(one.users.ids[log.users_N].to_list(), one.items.ids[log.items_N].to_list(), strict=True))

    stays = {"user": set(core.users.ids), "item": set(core.items.ids)}
    assert named(core) == {(u, i) for u, i in named(data) if u in stays["user"] and i in stays["item"]}


def test_a_split_by_time_shows_each_part_what_was_seen_before_it():
    split = leave_last_out(one_user())
    assert [part.interactions.items_N.tolist() for part in split] == [[0, 2], [3], [5]]
    assert [part.seen_only.items_N.tolist() for part in split] == [[1], [4], []]
    assert pairs(seen_besides_test(split)) == {(0, item) for item in (0, 1, 2, 3, 4)}


def test_what_was_seen_after_the_test_began_is_not_excluded_there_but_never_recommended():
    frame = pl.DataFrame(
        {"user": ["u"] * 5, "item": list("abcde"), "rating": [5, 5, 5, 1, 1], "timestamp": [1, 2, 3, 4, 5]}
    )
    split = leave_last_out(binary(read_log(frame), threshold=4))
    assert [part.seen_only.items_N.tolist() for part in split] == [[], [], [3, 4]]
    assert pairs(seen_besides_test(split)) == {(0, 0), (0, 1), (0, 3), (0, 4)}


@pytest.mark.parametrize(
    "cut",
    [
        lambda data: random_split(data, seed=1),
        lambda data: leave_last_out(data),
        lambda data: leave_last_out(data, order="log"),
        lambda data: time_split(data),
        lambda data: user_split(data, seed=1),
        lambda data: user_split(data, order="random", seed=1),
        lambda data: cold_items(data, seed=1),
    ],
)
def test_no_split_loses_what_was_seen_or_excludes_what_is_asked_for(cut):
    rng = np.random.default_rng(3)
    frame = ratings()
    again = frame.sample(200, seed=5).with_columns(
        rating=pl.Series(rng.integers(1, 6, 200)), timestamp=pl.Series(rng.integers(0, 86_400 * 12, 200))
    )
    data = binary(
        read_log(
            pl.concat([frame, again]),
        ),
        threshold=4,
    )
    train, validation, test = cut(data)
    assert pairs(train.seen) | pairs(validation.seen) | pairs(test.seen) | pairs(
        seen_besides_test((train, validation, test))
    ) == pairs(data.seen)
    held = pairs(validation.interactions) | pairs(test.interactions)
    for part in (train, validation, test):
        assert not held & pairs(part.seen_only)


def test_a_split_by_the_time_of_all_knows_nothing_of_later():
    train, validation, test = time_split(binary(read_log(ratings()), threshold=4))
    assert train.seen_only.times_N.max() <= validation.interactions.times_N.min()
    assert validation.seen_only.times_N.max() <= test.interactions.times_N.min()


def test_evaluation_leaves_out_what_was_seen():
    train, validation, test = leave_last_out(binary(read_log(ratings()), threshold=4))
    model = Popularity().fit(train)
    asked = np.unique(test.interactions.users_N)

    class Watched:
        """Remembers what was left out."""

        users, items = model.users, model.items

        def recommend(self, users, k, *, exclude=None, allow=None):
            out = model.recommend(users, k, exclude=exclude)
            lists.append((users, out.items_BK))
            return out

    lists: list = []
    found = evaluate(Watched(), train, test, k=10, exclude=validation)
    assert {int(user) for users, _ in lists for user in users} == set(asked.tolist())
    seen = pairs(train.seen) | pairs(validation.seen)
    assert any(pair in pairs(train.seen_only) for pair in seen)
    for users, items_BK in lists:
        shown = {(int(user), int(item)) for user, row in zip(users, items_BK, strict=True) for item in row}
        assert not shown & seen
    assert found.conventions["excluded"] == "train and what else was seen and other given parts"
    assert found.conventions["excluded_test_items"] == 0


def test_models_rules_and_exports_leave_out_what_was_seen(tmp_path: Path):
    data = binary(read_log(ratings()), threshold=4)
    model = ALS(embedding_size=8, epochs=3, seed=1).fit(data)
    users = np.arange(data.num_users)
    assert model.num_items == 25
    shown = model.recommend(users, 13, exclude=data).items_BK
    assert not {(u, int(i)) for u in users for i in shown[u] if i >= 0} & pairs(data.seen)
    rules = Rules(rules=[{"name": "new", "deny": "already_had"}]).prepare(data)
    ranked = rules.rerank(users, model.recommend(users, 25), 13)
    assert not {(u, int(i)) for u in users for i in ranked.items_BK[u] if i >= 0} & pairs(data.seen)
    export(model, tmp_path / "served", format="torchscript", seen=data)
    served = torch.jit.load(str(tmp_path / "served" / "recommender.pt"))
    lists, _ = served.recommend(data.users.ids.to_list(), 10)
    for user, items in zip(users, lists, strict=True):
        assert not {(int(user), int(data.items.rows([item])[0])) for item in items} & pairs(data.seen)


def test_a_run_never_recommends_what_was_rated_low(tmp_path: Path):
    frame = ratings()
    frame.write_csv(tmp_path / "ratings.csv")
    run = tmp_path / "run"
    log = ["train", "data=log", "data.path=ratings.csv"]
    command(*log, "weights=binary", "weights.threshold=4", "model=popularity", f"run={run}", cwd=tmp_path)
    found = load_run(run)
    users = frame["user"].unique(maintain_order=True).to_list()
    shown = set(found.recommend(users, k=10).select("user_id", "item_id").iter_rows())
    low = set(frame.filter(pl.col("rating") < 4).select("user", "item").iter_rows())
    assert len(shown) > 100
    assert not shown & low
    liked = set(found.history(users, k=25).select("user_id", "item_id").iter_rows())
    assert not liked & low
    assert "what else was seen" in command("evaluate", f"run={run}", "part=test", cwd=tmp_path).stdout

    new = frame.head(120).with_columns(pl.col("timestamp") + 86_400 * 50, rating=pl.Series([1, 5] * 60))
    fresh = new.with_columns(item="n" + pl.col("item"))
    command(*log, "model=als", "model.embedding_size=4", "run=als", cwd=tmp_path)
    tuned = fine_tune(tmp_path / "als", binary(read_log(fresh), threshold=4))
    known = {(tuned.model.users.ids[u], tuned.model.items.ids[i]) for u, i in pairs(tuned.known)}
    items = set(tuned.model.items.ids)
    assert {pair for pair in fresh.select("user", "item").iter_rows() if pair[1] in items} <= known


def test_bare_interactions_are_what_was_seen():
    log = Interactions([0, 1], [1, 0])
    assert seen_of(log) is log
