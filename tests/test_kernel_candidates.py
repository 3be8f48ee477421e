"""The best of a few candidates, and how many items a row may have."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_dl.kernels import candidates
from recsys_dl.kernels.candidates import best_candidates, num_permitted
from recsys_dl.kernels.item_lists import ItemLists

NUM_ITEMS = 30


def as_lists(lists) -> ItemLists:
    bounds = np.concatenate([[0], np.cumsum([len(items) for items in lists])])
    return ItemLists(bounds[:-1], bounds[1:], np.array([i for items in lists for i in sorted(items)], np.int32))


sets = st.lists(st.sets(st.integers(0, NUM_ITEMS - 1)), min_size=3, max_size=3)


@pytest.mark.parametrize("in_turn", [0, 1 << 20], ids=["threads", "in turn"])
@given(
    seed=st.integers(0, 99),
    width=st.integers(0, 25),
    k=st.integers(1, 40),
    exclude=sets,
    allow=st.one_of(st.none(), sets),
)
@settings(max_examples=60, deadline=None)
def test_the_best_of_what_is_permitted(in_turn, seed, width, k, exclude, allow):
    rng = np.random.default_rng(seed)
    items_BC = np.array([rng.permutation(NUM_ITEMS)[:width] for _ in range(3)], np.int32).reshape(3, width)
    items_BC[rng.random(items_BC.shape) < 0.2] = -1
    scores_BC = rng.integers(-2, 3, (3, width)).astype(np.float32)
    within = None if allow is None else as_lists(allow)
    before, candidates.IN_TURN = candidates.IN_TURN, in_turn
    try:
        found_BK, best_BK = best_candidates(items_BC, scores_BC, k, exclude=as_lists(exclude), allow=within)
    finally:
        candidates.IN_TURN = before
    for b in range(3):
        pairs = sorted(
            (-score, item)
            for score, item in zip(scores_BC[b], items_BC[b], strict=True)
            if item >= 0 and item not in exclude[b] and (allow is None or item in allow[b])
        )[:k]
        assert found_BK[b].tolist() == [item for _, item in pairs] + [-1] * (k - len(pairs))
        assert best_BK[b].tolist() == [-score for score, _ in pairs] + [-np.inf] * (k - len(pairs))


@given(present=st.sets(st.integers(0, NUM_ITEMS - 1)), exclude=sets, allow=st.one_of(st.none(), sets))
@settings(max_examples=60, deadline=None)
def test_how_many_are_permitted(present, exclude, allow):
    present_I = np.isin(np.arange(NUM_ITEMS), list(present))
    counts_B = num_permitted(present_I, 3, exclude=as_lists(exclude), allow=None if allow is None else as_lists(allow))
    wanted = [present - exclude[b] if allow is None else (present & allow[b]) - exclude[b] for b in range(3)]
    assert counts_B.tolist() == [len(items) for items in wanted]
    assert num_permitted(present_I, 2).tolist() == [len(present)] * 2
