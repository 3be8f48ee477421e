"""Every split keeps what it says: which interactions fall where, in which order, and the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hydra.utils import instantiate

from recsys_dl import Dataset, Interactions, Vocabulary, leave_last_out, read_log
from recsys_dl.compose import compose
from recsys_dl.data.split import Split, cold_items, cold_split, cold_users, random_split, time_split, user_split

CONF = Path(__file__).parents[1] / "conf"


def log_of(users, items, times=None, num_users=None, num_items=None) -> Dataset:
    log = Interactions(users, items, np.arange(len(users)), times, num_users=num_users, num_items=num_items)
    frames = {
        "user_features": pl.DataFrame({"age": range(log.num_users)}),
        "item_titles": pl.Series(range(log.num_items)),
    }
    return Dataset(log, Vocabulary(range(log.num_users)), Vocabulary(range(log.num_items)), **frames)


def many(seed: int = 0, times: bool = True) -> Dataset:
    """Return 40 users' logs of 1 to 60 interactions, with many equal times, in no order."""
    rng = np.random.default_rng(seed)
    users = rng.permutation(np.repeat(np.arange(40), rng.integers(1, 61, 40)))
    items = rng.integers(0, 30, len(users))
    return log_of(users, items, rng.integers(0, 20, len(users)) if times else None, num_users=41, num_items=33)


def rows(part: Dataset | Interactions) -> list[int]:
    """Return positions in the log: weights say them."""
    log = part.interactions if isinstance(part, Dataset) else part
    return log.weights_N.astype(int).tolist()


SPLITS = {
    "random": lambda data: random_split(data, validation=0.2, test=0.3, seed=5),
    "leave_last_out": leave_last_out,
    "time": time_split,
    "user": lambda data: user_split(data, seed=5),
    "user at random": lambda data: user_split(data, order="random", seed=5),
    "cold_items": lambda data: cold_items(data, seed=5),
    "cold_users": lambda data: cold_users(data, seed=5),
}
ALL = SPLITS | {"cold": lambda data: cold_split(data, seed=5)}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_parts_are_the_whole_in_the_order_of_the_log(split):
    data = many()
    parts = split(data)
    assert isinstance(parts, Split)
    held = [part.histories for part in parts if part.histories is not None]
    everything = [*parts, *held]
    assert sorted(at for part in everything for at in rows(part)) == list(range(len(data)))
    for part in everything:
        assert rows(part) == sorted(rows(part))
    for part in parts:
        assert len(part) > 0
        assert (part.num_users, part.num_items) == (data.num_users, data.num_items)
        assert part.users is data.users
        assert part.user_features is data.user_features
        assert part.item_titles is data.item_titles


@pytest.mark.parametrize("split", ALL.values(), ids=ALL)
def test_the_same_each_time(split):
    first, second = split(many()), split(many())
    assert [part.content_hash for part in first] == [part.content_hash for part in second]


def test_another_seed_another_split():
    for split in (random_split, user_split, cold_items, cold_users, cold_split):
        assert rows(split(many(), seed=1).test) != rows(split(many(), seed=2).test)


def test_random_split_sizes():
    train, validation, test = random_split(many(), validation=0.25, test=0.5, seed=0)
    n = len(many())
    assert (len(validation), len(test)) == (round(n / 4), round(n / 2))
    assert len(train) == n - len(validation) - len(test)
    assert len(random_split(many(), validation=0, seed=0).validation) == 0


def test_leave_last_out_by_hand():
    # User 0: times 5, 1, 9, 9 (the later row of the two 9s is the last). User 1: three. User 2: two, too few.
    users = [0, 1, 0, 2, 0, 1, 0, 2, 1]
    times = [5, 7, 1, 0, 9, 6, 9, 1, 8]
    train, validation, test = leave_last_out(log_of(users, [0, 1, 2, 3, 4, 5, 6, 7, 8], times))
    assert rows(test) == [6, 8]
    assert rows(validation) == [1, 4]
    assert rows(train) == [0, 2, 3, 5, 7]


def test_leave_last_out_counts():
    users = [0] * 6 + [1] * 4
    data = log_of(users, range(10), list(range(10)))
    parts = leave_last_out(data, num_validation=0, num_test=2)
    assert [rows(part) for part in parts] == [[0, 1, 2, 3, 6, 7], [], [4, 5, 8, 9]]
    parts = leave_last_out(data, min_interactions=5)
    assert [rows(part) for part in parts] == [[0, 1, 2, 3, 6, 7, 8, 9], [4], [5]]


def test_leave_last_out_by_the_order_of_the_log():
    users = [0, 0, 1, 0, 1, 1]
    train, validation, test = leave_last_out(log_of(users, range(6), [9, 8, 7, 6, 5, 4]), order="log")
    assert [rows(train), rows(validation), rows(test)] == [[0, 2], [1, 4], [3, 5]]


def test_leave_last_out_against_a_plain_loop():
    data = many(3)
    log = data.interactions
    expected = {"train": [], "validation": [], "test": []}
    for user in range(log.num_users):
        mine = sorted(np.flatnonzero(log.users_N == user), key=lambda at: (log.times_N[at], at))
        if len(mine) < 3:
            expected["train"] += mine
            continue
        expected["train"] += mine[:-2]
        expected["validation"].append(mine[-2])
        expected["test"].append(mine[-1])
    for part, wanted in zip(leave_last_out(data), expected.values(), strict=True):
        assert rows(part) == sorted(wanted)


def test_time_split_cuts_once_for_all():
    data = many(1)
    train, validation, test = time_split(data, validation=0.2, test=0.1)
    n = len(data)
    assert (len(validation), len(test)) == (round(0.2 * n), round(0.1 * n))
    newest, oldest = train.interactions.times_N.max(), validation.interactions.times_N.min()
    assert newest <= oldest
    assert validation.interactions.times_N.max() <= test.interactions.times_N.min()
    # At the same second, what stands earlier in the log falls into the earlier part.
    tied_before = [at for at in rows(train) if data.interactions.times_N[at] == newest]
    tied_after = [at for at in rows(validation) if data.interactions.times_N[at] == newest]
    assert not tied_after or max(tied_before) < min(tied_after)


@pytest.mark.parametrize("order", ["time", "log", "random"])
def test_user_split_holds_out_whole_users(order):
    data = many(2)
    train, validation, test = user_split(data, validation=0.1, test=0.3, asked=0.25, order=order, seed=1)
    log = data.interactions
    users = [set(part.interactions.users_N.tolist()) for part in (train, validation, test)]
    assert users[0].isdisjoint(users[1] | users[2])
    assert users[1].isdisjoint(users[2])
    assert train.histories is None
    num_eligible = int((np.bincount(log.users_N) >= 2).sum())
    assert (len(users[1]), len(users[2])) == (round(0.1 * num_eligible), round(0.3 * num_eligible))
    for part, mine in ((validation, users[1]), (test, users[2])):
        assert set(part.histories.users_N.tolist()) == mine
        for user in mine:
            asked = part.interactions.select(part.interactions.users_N == user)
            known = part.histories.select(part.histories.users_N == user)
            total = len(asked) + len(known)
            assert len(asked) == np.clip(np.rint(0.25 * total), 1, total - 1)
            if order == "time":
                assert known.times_N.max() <= asked.times_N.min()
            if order == "log":
                assert max(rows(known)) < min(rows(asked))


def test_user_split_keeps_users_with_one_interaction_in_train():
    users = [0, 1, 1, 2, 2, 3]
    parts = user_split(log_of(users, range(6), range(6)), validation=0, test=0.5, seed=0)
    assert {0, 3} <= set(parts.train.interactions.users_N.tolist())
    assert len(parts.test) == len(parts.test.histories) == 1


def test_cold_items_and_users_are_unknown_to_train():
    data = many(4)
    for split, column in ((cold_items, "items_N"), (cold_users, "users_N")):
        parts = split(data, validation=0.2, test=0.2, seed=3)
        known = [set(getattr(part.interactions, column).tolist()) for part in parts]
        everything = set(getattr(data.interactions, column).tolist())
        assert known[0].isdisjoint(known[1] | known[2])
        assert known[1].isdisjoint(known[2])
        assert known[0] | known[1] | known[2] == everything
        assert len(known[1]) == len(known[2]) == round(0.2 * len(everything))  # rows with no interaction are not drawn
    assert len(parts.test.histories) == 0
    assert parts.test.histories.num_users == data.num_users


def kinds(train: Dataset, part: Dataset) -> dict[tuple[bool, bool], int]:
    """Count a part's interactions by whether train knows the user, and the item."""
    log, users, items = part.interactions, *map(set, (train.interactions.users_N, train.interactions.items_N))
    found = [(u in users, i in items) for u, i in zip(log.users_N, log.items_N, strict=True)]
    return {kind: found.count(kind) for kind in set(found)}


@pytest.mark.parametrize("seed", range(12))
def test_cold_split_holds_every_kind_and_leaks_none(seed):
    data = many(seed)
    train, validation, test = cold_split(data, validation=0.2, test=0.2, seed=seed)
    log = data.interactions
    for part in (validation, test):
        assert set(kinds(train, part)) == {(True, True), (True, False), (False, True), (False, False)}
    for name in ("users_N", "items_N"):
        known, held, last = (set(getattr(part.interactions, name)) for part in (train, validation, test))
        assert not (held - known) & last  # cold in validation: not in test
        assert not (last - known) & held  # cold in test: not in validation
    places = [at for part in (train, validation, test) for at in rows(part)]
    assert len(set(places)) == len(places)
    for at in set(range(len(data))) - set(places):  # in no part: between cold ones of different parts
        assert log.users_N[at] not in train.interactions.users_N
        assert log.items_N[at] not in train.interactions.items_N


def test_cold_split_sizes():
    rng = np.random.default_rng(0)
    users, items = np.divmod(rng.permutation(100 * 100)[:4000], 100)
    train, validation, test = cold_split(
        log_of(users, items, num_users=100, num_items=100), validation=0.1, test=0.2, seed=3
    )
    cold_users_, cold_items_ = (
        [
            len(np.setdiff1d(getattr(part.interactions, name), getattr(train.interactions, name)))
            for part in (validation, test)
        ]
        for name in ("users_N", "items_N")
    )
    assert (cold_users_, cold_items_) == ([10, 20], [10, 20])
    warm = len(train) + kinds(train, validation)[True, True] + kinds(train, test)[True, True]
    assert kinds(train, validation)[True, True] == round(0.1 * warm)
    assert kinds(train, test)[True, True] == round(0.2 * warm)


def test_a_user_whose_items_are_all_cold_is_as_cold_as_they_are():
    # each item has two users and each user two items, which are both cold now and then
    data = log_of([*range(40), *range(40)], [*range(40), *range(1, 40), 0], num_users=40, num_items=40)
    stranded = 0
    for seed in range(20):
        train, validation, test = cold_split(data, validation=0.05, test=0.1, seed=seed)
        for name in ("users_N", "items_N"):
            known, held, last = (set(getattr(part.interactions, name)) for part in (train, validation, test))
            assert not (held & last) - known
            stranded += len(last - known) > 4
    assert stranded


def test_cold_split_says_when_too_little_is_left():
    alone = log_of(
        list(range(20)), list(range(20)), num_users=20, num_items=20
    )  # every user one item, every item one user
    with pytest.raises(ValueError, match="every warm user and item keeps one in train; lower them"):
        cold_split(alone, seed=0)
    with pytest.raises(ValueError, match=r"test=0.01 of 20 items leaves test empty"):
        cold_split(alone, test=0.01, seed=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_split(many(), test=0, seed=0), "test must be a finite number above 0 and below 1, got 0"),
        (
            lambda: random_split(many(), validation=-0.1, seed=0),
            "validation must be a finite number at least 0 and below 1",
        ),
        (lambda: random_split(many(), validation=0.5, test=0.5, seed=0), "below 1 together"),
        (
            lambda: random_split(many(), test=float("nan"), seed=0),
            "test must be a finite number above 0 and below 1, got nan",
        ),
        (
            lambda: random_split(log_of([0, 1], [0, 1]), seed=0),
            "validation=0.1 of 2 interactions leaves validation empty",
        ),
        (lambda: random_split(log_of([0, 1], [0, 1]), validation=0, test=0.9, seed=0), "leave none for train; lower"),
        (lambda: time_split(many(times=False)), "time_split needs interactions with times, got none"),
        (lambda: leave_last_out(many(times=False)), "order='log'"),
        (lambda: leave_last_out(many(), order="random"), "order must be one of time, log, got 'random'"),
        (lambda: leave_last_out(many(), num_test=0), "num_test must be a whole number of at least 1, got 0"),
        (lambda: leave_last_out(many(), min_interactions=2), "min_interactions must be at least 3"),
        (lambda: leave_last_out(many(), num_test=100), "no user has the 102 interactions.*the most active has"),
        (lambda: leave_last_out(log_of([], [], [])), "the most active has 0"),
        (lambda: user_split(many(), asked=1, seed=0), "asked must be a finite number above 0 and below 1, got 1"),
        (lambda: user_split(many(times=False), seed=0), "needs interactions with times"),
        (lambda: user_split(many(), order="newest", seed=0), "order must be one of time, log, random, got 'newest'"),
        (lambda: user_split(log_of([0, 1], [0, 1], [0, 1]), seed=0), "of 0 users with two interactions"),
        (lambda: cold_items(log_of([0, 1], [0, 0]), seed=0), "of 1 items leaves validation empty"),
    ],
)
def test_what_cannot_be_split(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bare_interactions_are_refused():
    with pytest.raises(TypeError, match="a split needs a Dataset, got Interactions; use read_log"):
        leave_last_out(many().interactions)


def test_every_option_is_a_config():
    files = sorted(CONF.glob("split/*.yaml"))
    assert [file.stem for file in files] == [
        "cold",
        "cold_items",
        "cold_users",
        "leave_last_out",
        "none",
        "random",
        "time",
        "user",
    ]
    for file in files:
        split = instantiate(compose("train", [f"split={file.stem}"]).split)
        assert len(split(many()).train) > 0


def test_real_log(shared_data):
    data = read_log(shared_data / "ml-latest-small" / "ratings.csv")
    train, validation, test = leave_last_out(data)
    assert (len(validation), len(test)) == (610, 610)  # every user has at least 20 ratings
    assert len(train) == 100_836 - 2 * 610
