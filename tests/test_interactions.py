"""Interactions: what they accept, what they refuse, and that CSR, parts and hashes say what the columns say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_dl.data.interactions import Interactions

USERS, ITEMS = 5, 7
logs = st.lists(
    st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.integers(0, 9), st.integers(-5, 5)), max_size=40
)


def make(rows: list[tuple[int, int, int, int]]) -> Interactions:
    users, items, weights, times = np.array(rows, np.int64).reshape(-1, 4).T
    return Interactions(users, items, weights, times, num_users=USERS, num_items=ITEMS)


@given(logs)
def test_csr_both_ways_sums_repeated_pairs_and_counts_distinct_ones(rows):
    log = make(rows)
    dense = np.zeros((USERS, ITEMS), np.float32)
    had = np.zeros((USERS, ITEMS), bool)
    for user, item, weight, _ in rows:
        dense[user, item] += weight  # small integers: exact in float32
        had[user, item] = True
    assert (log.by_user.toarray() == dense).all()
    assert (log.by_item.toarray() == dense.T).all()
    assert log.by_user.dtype == log.by_item.dtype == np.float32
    assert log.by_user.has_sorted_indices
    assert log.by_item.has_sorted_indices
    assert log.by_user.nnz == had.sum()
    assert (log.user_counts_U == had.sum(axis=1)).all()
    assert (log.item_counts_I == had.sum(axis=0)).all()
    assert log.user_counts_U.shape == (USERS,)
    assert log.item_counts_I.shape == (ITEMS,)


@given(logs, st.lists(st.integers(0, USERS - 1), max_size=8))
def test_of_users_keeps_each_users_order_and_repeats_repeated_users(rows, users):
    part = make(rows).of_users(np.array(users, np.int64))
    wanted = [(b, *row[1:]) for b, user in enumerate(users) for row in rows if row[0] == user]
    got = list(zip(part.users_N, part.items_N, part.weights_N, part.times_N, strict=True))
    assert got == wanted
    assert (part.num_users, part.num_items) == (len(users), ITEMS)


@given(logs, st.data())
def test_select_by_mask_equals_select_by_positions(rows, data):
    log = make(rows)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    by_mask, by_position = log.select(mask), log.select(np.flatnonzero(mask))
    assert by_mask.content_hash == by_position.content_hash
    assert by_mask.items_N.tolist() == [row[1] for row, kept in zip(rows, mask, strict=True) if kept]
    assert (by_mask.num_users, by_mask.num_items) == (USERS, ITEMS)


def test_select_of_nothing():
    log = make([(0, 1, 1, 1)])
    assert len(log.select([])) == len(log.select(np.zeros(1, bool))) == 0


@settings(max_examples=20)
@given(logs, logs)
def test_concat_is_in_order_and_keeps_times_only_if_all_have_them(a, b):
    whole = Interactions.concat([make(a), make(b)])
    assert whole.content_hash == make(a + b).content_hash
    untimed = Interactions([0], [0])
    assert Interactions.concat([make(a), untimed]).times_N is None


def test_concat_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one part"):
        Interactions.concat([])


def test_sizes_may_exceed_the_largest_row_and_follow_from_it_otherwise():
    assert (Interactions([0, 3], [1, 0]).num_users, Interactions([0, 3], [1, 0]).num_items) == (4, 2)
    wide = Interactions([0], [0], num_users=9, num_items=8)
    assert wide.by_user.shape == (9, 8)
    empty = Interactions([], [])
    assert (len(empty), empty.num_users, empty.num_items) == (0, 0, 0)
    assert Interactions([], [], num_users=2, num_items=3).by_user.shape == (2, 3)


def test_columns_cannot_be_written_but_the_callers_arrays_can():
    users, items = np.array([0, 1], np.int32), np.array([1, 0], np.int32)
    weights, times = np.ones(2, np.float32), np.array([5, 6])
    log = Interactions(users, items, weights, times)
    for column, own in ((log.users_N, users), (log.items_N, items), (log.weights_N, weights), (log.times_N, times)):
        assert np.shares_memory(column, own), "an array of the right type is not copied"
        assert own.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    matrix = sp.csr_matrix(np.eye(3, dtype=np.float32))
    Interactions.from_csr(matrix)
    matrix.data[0] = 2.0


def test_times_come_as_integers_floats_or_datetime64():
    seconds = np.array([1.9, -0.1])
    assert Interactions([0, 1], [0, 1], None, seconds).times_N.tolist() == [1, -1]  # rounded down
    moments = np.array(["1970-01-02", "1969-12-31T23:59:59"], "datetime64[ns]")
    assert Interactions([0, 1], [0, 1], None, moments).times_N.tolist() == [86_400, -1]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1.0, np.nan], "every time must be known, got nan at position 1"),
        (np.array(["2020-01-01", "NaT"], "datetime64[s]"), "got NaT at position 1"),
        (["a", "b"], "times must be seconds"),
        ([1], r"2 entries of users, got times of shape \(1,\)"),
    ],
)
def test_wrong_times(times, message):
    with pytest.raises(ValueError, match=message):
        Interactions([0, 1], [0, 1], None, times)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, np.nan, -1.0], r"got nan at position 1 \(2 in all\)"),
        ([1.0, np.inf, 0.0], "got inf at position 1"),
        ([1.0, 0.0, -0.5], "got -0.5 at position 2"),
        ([1.0, 1e300, 0.0], r"got 1e\+300 at position 1"),  # infinite as float32
        ([1.0, 2.0], r"3 entries of users, got weights of shape \(2,\)"),
        (["a", "b", "c"], "weights must be numbers"),
        ([1j, 1, 1], "weights must be numbers"),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        Interactions([0, 1, 2], [0, 1, 2], weights)


@pytest.mark.parametrize(
    ("users", "sizes", "message"),
    [
        ([0, -1], {}, r"user rows must be in \[0, 2147483647\), got -1"),
        ([0, 3], {"num_users": 3}, r"user rows must be in \[0, 3\), got 3"),
        ([0, 2**40], {}, "got 1099511627776"),
        ([0, 1], {"num_users": -1}, "the number of users must be in"),
        ([0.0, 1.0], {}, "one-dimensional array of integers, got float64"),
        (["a", "b"], {}, "ids become rows through a Vocabulary"),
        ([[0, 1]], {}, r"of shape \(1, 2\)"),
        ([0], {}, "1 entries of users, got items"),
    ],
)
def test_wrong_rows(users, sizes, message):
    with pytest.raises(ValueError, match=message):
        Interactions(users, [0, 1], **sizes)


def test_of_users_refuses_a_user_that_is_not_there():
    with pytest.raises(ValueError, match=r"user rows must be in \[0, 5\), got 5"):
        make([(0, 0, 1, 0)]).of_users([5])


def test_from_csr_takes_every_stored_entry_of_any_format():
    dense = np.array([[0, 2, 0], [1, 0, 3]], np.float64)
    for form in (sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.csr_array, sp.lil_matrix):
        log = Interactions.from_csr(form(dense))
        assert (log.by_user.toarray() == dense).all()
        assert log.times_N is None


def test_from_histories():
    log = Interactions.from_histories([[1, 2], [], np.array([0])], num_items=3)
    assert log.users_N.tolist() == [0, 0, 2]
    assert log.items_N.tolist() == [1, 2, 0]
    assert (log.num_users, log.num_items) == (3, 3)
    assert len(Interactions.from_histories([], num_items=3)) == 0
    for wrong in ([["12"]], [[1.5]], [[3]], [[-1]]):
        with pytest.raises(ValueError, match="item rows must"):
            Interactions.from_histories(wrong, num_items=3)


def test_with_weights_keeps_the_rest():
    log = make([(0, 1, 5, 2), (1, 0, 3, 4)])
    other = log.with_weights(np.array([1.0, 0.5]))
    assert other.weights_N.tolist() == [1.0, 0.5]
    assert other.times_N.tolist() == [2, 4]
    assert log.weights_N.tolist() == [5, 3]


def test_the_hash_knows_every_column_the_order_and_the_shape():
    rows = [(0, 1, 5, 2), (1, 0, 3, 4)]
    log = make(rows)
    assert log.content_hash == make(rows).content_hash
    others = [
        make(rows[::-1]),
        make([(0, 1, 5, 2), (1, 0, 3, 5)]),
        make([(0, 1, 5, 2), (1, 0, 2, 4)]),
        make([(0, 1, 5, 2), (1, 1, 3, 4)]),
        Interactions(log.users_N, log.items_N, log.weights_N, num_users=USERS, num_items=ITEMS),
        Interactions(log.users_N, log.items_N, log.weights_N, log.times_N, num_users=USERS + 1, num_items=ITEMS),
    ]
    hashes = {other.content_hash for other in others}
    assert len(hashes) == len(others)
    assert log.content_hash not in hashes


def test_a_sorted_csr_is_kept_and_another_is_sorted():
    matrix = sp.random(50, 20, 0.3, "csr", dtype=np.float32, random_state=0)
    kept, built = Interactions.from_csr(matrix), Interactions.from_csr(matrix.tocoo())
    assert np.shares_memory(kept.by_user.data, matrix.data)
    assert kept.content_hash == built.content_hash
    assert (kept.by_user != built.by_user).nnz == (kept.by_item != built.by_item).nnz == 0
    repeated = sp.csr_matrix((np.ones(3, np.float32), np.array([4, 1, 4], np.int32), np.array([0, 3], np.int32)))
    assert Interactions.from_csr(repeated).by_user.toarray().tolist() == [[0, 1, 0, 0, 2]]
    assert len(Interactions.from_csr(repeated)) == 3
