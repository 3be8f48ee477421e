"""A k-core is the largest one, and everything known of users and items follows the rows that are left."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys_dl import Dataset, Interactions, read_log
from recsys_dl.data.filters import k_core


def chain() -> Dataset:
    """Return users a-d with items u-x, where dropping one user drops an item, which drops another user."""
    pairs = ["a u", "a v", "b u", "b v", "c v", "c w", "d w", "e x"]
    frame = pl.DataFrame([pair.split() for pair in pairs], schema=["user", "item"], orient="row")
    frame = frame.with_columns(rating=pl.Series(range(1, 9)), timestamp=pl.Series(range(11, 19)))
    movies = pl.DataFrame({"item": list("xwvu"), "title": list("XWVU"), "text": list("1234"), "genre": list("pqrs")})
    people = pl.DataFrame({"user": list("edcba"), "age": [5, 4, 3, 2, 1]})
    return read_log(frame, user_features=people, item_features=movies, name="chain")


def test_by_hand():
    core = k_core(chain(), users=2, items=2)
    # e and x go at once, d has one item, so w keeps one user, so c keeps one item.
    assert core.users.ids.to_list() == ["a", "b"]
    assert core.items.ids.to_list() == ["u", "v"]
    log = core.interactions
    assert (log.num_users, log.num_items) == (2, 2)
    assert log.users_N.tolist() == [0, 0, 1, 1]
    assert log.items_N.tolist() == [0, 1, 0, 1]
    assert log.weights_N.tolist() == [1, 2, 3, 4]
    assert log.times_N.tolist() == [11, 12, 13, 14]
    assert core.user_features["age"].to_list() == [1, 2]
    assert core.item_features["genre"].to_list() == ["s", "r"]
    assert core.item_titles.to_list() == ["U", "V"]
    assert core.item_texts.to_list() == ["4", "3"]
    assert core.name == "chain"


def test_one_and_one_drops_only_what_has_nothing():
    data = chain()
    core = k_core(data, users=1, items=1)
    assert core.content_hash == data.content_hash
    empty_rows = Interactions([0, 2], [1, 1], num_users=4, num_items=3)
    kept = k_core(read_log(empty_rows.by_user), users=1, items=1)
    assert kept.users.ids.to_list() == ["0", "2"]
    assert kept.items.ids.to_list() == ["1"]


def test_repeats_count_once():
    frame = pl.DataFrame({"user": ["a", "a", "b", "b"], "item": ["x", "x", "x", "y"]})
    core = k_core(read_log(frame), users=1, items=2)
    assert core.items.ids.to_list() == ["x"]
    assert len(core) == 3  # all repeats of what is left
    with pytest.raises(ValueError, match="no part of the log has 2 items for every user and 2 users for every item"):
        k_core(read_log(frame), users=2, items=2)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_largest(seed):
    rng = np.random.default_rng(seed)
    log = Interactions(rng.integers(0, 60, 300), rng.integers(0, 50, 300), num_users=60, num_items=50)
    core = k_core(read_log(log.by_user), users=4, items=3)
    assert core.interactions.user_counts_U.min() >= 4
    assert core.interactions.item_counts_I.min() >= 3
    users, items = set(range(60)), set(range(50))  # dropping one row at a time, in any order, ends at the same core
    pairs = set(zip(log.users_N.tolist(), log.items_N.tolist(), strict=True))
    while True:
        pairs = {(user, item) for user, item in pairs if user in users and item in items}
        few_users = {user for user in users if sum(pair[0] == user for pair in pairs) < 4}
        few_items = {item for item in items if sum(pair[1] == item for pair in pairs) < 3}
        if not (few_users or few_items):
            break
        users -= {min(few_users)} if few_users else set()
        items -= {min(few_items)} if few_items else set()
    assert core.users.ids.to_list() == [str(user) for user in sorted(users)]
    assert core.items.ids.to_list() == [str(item) for item in sorted(items)]
    assert len(core) == len(pairs)


def test_bad_arguments():
    with pytest.raises(ValueError, match="users must be a whole number of at least 1, got 0"):
        k_core(chain(), users=0)
    asked = chain().with_interactions(chain().interactions, histories=chain().interactions)
    with pytest.raises(ValueError, match="before the split"):
        k_core(asked)


def test_real_log(shared_data):
    core = k_core(read_log(shared_data / "amazon-video-games" / "interactions.txt"), users=5, items=5)
    assert core.interactions.user_counts_U.min() >= 5
    assert core.interactions.item_counts_I.min() >= 5
    assert 0 < len(core) < 287_107
