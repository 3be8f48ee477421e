"""Groups: what they hold, how they are cut, padded and put together, and what they refuse."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_dl.data.groups import Groups

FEATURES = np.arange(12, dtype=np.float32).reshape(6, 2)
LABELS = [2, 0, 1, 0, 0, 3]


def three() -> Groups:
    """Groups of 1, 3 and 2 documents."""
    return Groups(
        FEATURES,
        LABELS,
        [1, 3, 2],
        group_ids=["a", "b", "c"],
        names=["f", "g"],
        positions_N=[1, 3, 1, 2, 2, 0],
        weights_N=[1, 2, 3, 4, 5, 6],
    )


def drawn(sizes, num_features=3, seed=0) -> Groups:
    rng = np.random.default_rng(seed)
    count = int(np.sum(sizes))
    return Groups(rng.normal(size=(count, num_features)), rng.integers(0, 3, count), sizes, weights_N=rng.random(count))


def test_what_it_holds():
    groups = three()
    assert (len(groups), groups.num_documents, groups.num_features) == (3, 6, 2)
    np.testing.assert_array_equal(groups.starts_Q, [0, 1, 4, 6])
    np.testing.assert_array_equal(groups.owners_N, [0, 1, 1, 1, 2, 2])
    assert groups.features_NF.dtype == groups.labels_N.dtype == groups.weights_N.dtype == np.float32
    assert groups.positions_N.dtype == np.int32
    assert repr(groups) == "Groups(3 groups of 6 documents, 2 features, with positions and weights)"
    with pytest.raises(ValueError, match="read-only"):
        groups.features_NF[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        groups.labels_N[0] = 1


def test_padded_by_hand():
    part = three().padded([1, 0])
    np.testing.assert_array_equal(part.features_BLF, [[[2, 3], [4, 5], [6, 7]], [[0, 1], [0, 0], [0, 0]]])
    np.testing.assert_array_equal(part.labels_BL, [[0, 1, 0], [2, 0, 0]])
    np.testing.assert_array_equal(part.valid_BL, [[True, True, True], [True, False, False]])
    np.testing.assert_array_equal(part.weights_BL, [[2, 3, 4], [1, 0, 0]])
    np.testing.assert_array_equal(part.rows_BL[part.valid_BL], [1, 2, 3, 0])
    assert part.features_BLF.dtype == part.labels_BL.dtype == part.weights_BL.dtype == np.float32
    assert Groups(FEATURES, LABELS, [6]).padded().weights_BL is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(1, 2000))
def test_batches_hold_every_document_once_in_bounded_memory(sizes, memory):
    groups = drawn(sizes)
    met = []
    for part in groups.batches(memory=memory):
        assert part.features_BLF.nbytes <= memory or len(part.groups_B) == 1
        np.testing.assert_array_equal(part.valid_BL.sum(axis=1), groups.sizes_Q[part.groups_B])
        np.testing.assert_array_equal(part.features_BLF[part.valid_BL], groups.features_NF[part.rows_BL[part.valid_BL]])
        assert not part.features_BLF[~part.valid_BL].any()
        met.extend(part.rows_BL[part.valid_BL])
    assert sorted(met) == list(range(groups.num_documents))


def test_padded_and_back_is_the_same():
    groups = drawn([4, 1, 7, 2])
    part = groups.padded()
    noise = np.where(part.valid_BL[..., None], part.features_BLF, np.nan)  # whatever stands at padding is not read
    again = Groups.from_padded(noise, part.labels_BL, part.valid_BL, weights_BL=part.weights_BL)
    for what in ("features_NF", "labels_N", "starts_Q", "weights_N"):
        np.testing.assert_array_equal(getattr(again, what), getattr(groups, what))


def test_select_and_concat():
    groups = three()
    parts = [groups.select([0]), groups.select([False, True, True])]
    again = Groups.concat(parts)
    assert again.group_ids == ("a", "b", "c")
    assert again.names == ("f", "g")
    for what in ("features_NF", "labels_N", "starts_Q", "positions_N", "weights_N"):
        np.testing.assert_array_equal(getattr(again, what), getattr(groups, what))
    turned = groups.select([2, 0])
    assert turned.group_ids == ("c", "a")
    np.testing.assert_array_equal(turned.labels_N, [0, 3, 2])
    assert len(groups.select([])) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features_NF": FEATURES[0]}, "features must be a matrix [documents, features], got shape (2,)"),
        ({"features_NF": np.array([["a"]])}, "features must be numbers"),
        (
            {"features_NF": np.where(FEATURES == 7, np.nan, FEATURES)},
            "features must be finite, got nan for feature g at here 3 (1 in all)",
        ),
        ({"labels_N": [1, 0, -2, 0, 0, 1]}, "labels must be finite and not negative, got -2 at here 2"),
        ({"labels_N": [1, 0, 2, 0, 0, np.nan]}, "labels must be finite and not negative, got nan at here 5"),
        ({"labels_N": ["a"] * 6}, "labels must be numbers"),
        ({"labels_N": [1, 2]}, "labels must be one for each of 6 documents, got shape (2,)"),
        ({"sizes_Q": [1, 3, 1]}, "group sizes must sum to the 6 documents, got 5"),
        ({"sizes_Q": [3, 0, 3]}, "a group must hold at least one document, got 0 for group 1"),
        ({"sizes_Q": [3.0, 3.0]}, "group sizes must be integers"),
        ({"group_ids": ["a", "b"]}, "group_ids must name each of 3 groups, got 2"),
        (
            {"group_ids": ["a", "b", "a"]},
            "the documents of a group must be contiguous, but group 'a' appears again at here 4",
        ),
        ({"names": ["f", "f"]}, "names must be 2 distinct names, got f, f"),
        ({"positions_N": [1, 1, 2, 1.5, 1, 2]}, "positions must be whole numbers, got 1.5 at here 3"),
        ({"positions_N": [1, 1, 2, -3, 1, 2]}, "positions must be finite and not negative, got -3 at here 3"),
        ({"weights_N": [1, 1, 1, 1, np.inf, 1]}, "weights must be finite and not negative, got inf at here 4"),
    ],
)
def test_what_does_not_hold_is_an_error_that_says_where(change, message):
    given = {"features_NF": FEATURES, "labels_N": LABELS, "sizes_Q": [1, 3, 2], "names": ["f", "g"]} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        Groups(**given, where=lambda row: f"here {row}")


def test_where_without_a_file_is_the_row():
    with pytest.raises(ValueError, match=r"got -1 at document 1 \(from 0\)"):
        Groups(FEATURES, [0, -1, 0, 0, 0, 0], [6])


def test_candidates_without_any_and_parts_that_differ():
    with pytest.raises(ValueError, match=r"at least one document, got 0 for group 1"):
        Groups.from_padded(np.zeros((2, 3, 2)), np.zeros((2, 3)), [[True, True, False], [False] * 3])
    features = np.zeros((2, 3, 2))
    features[1, 0, 1] = np.inf
    with pytest.raises(ValueError, match="got inf for feature number 2 at list 1"):
        Groups.from_padded(features, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"\[B, L, F\]"):
        Groups.from_padded(np.zeros((2, 3, 2)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="num_features 3, 4"):
        Groups.concat([drawn([2], 3), drawn([2], 4)])
    with pytest.raises(ValueError, match="appears again"):
        Groups.concat([drawn([2]), drawn([2])])
    with pytest.raises(ValueError, match="either all parts must have weights or none"):
        Groups.concat([drawn([2]), Groups(np.zeros((1, 3)), [1], [1], group_ids=["x"])])
    with pytest.raises(ValueError, match=r"groups must be in \[0, 3\), got 3 to 3"):
        three().select([3])
    with pytest.raises(ValueError, match="appears again"):
        three().select([1, 1])
