"""What every re-ranker promises: once for each YAML in conf/reranker."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import polars as pl
import pytest
import yaml
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from processes import program as run_program

from recsys_dl.compose import compose, options
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking, Reranked, Reranker, UserState
from recsys_dl.rerankers.distinct import Distinct
from recsys_dl.rerankers.freshness import Freshness
from recsys_dl.rerankers.list_reranker import ListReranker
from recsys_dl.rerankers.mmr import MMR
from recsys_dl.rerankers.rules import Rules

NUM_USERS, NUM_ITEMS = 20, 40


def shop() -> Dataset:
    rng = np.random.default_rng(4)
    users, items = np.nonzero(rng.random((NUM_USERS, NUM_ITEMS)) < 0.2)
    log = Interactions(users, items, None, rng.integers(0, 10**8, len(users)), num_users=NUM_USERS, num_items=NUM_ITEMS)
    features = pl.DataFrame(
        {"genres": [sorted(rng.choice(list("abcdef"), i % 4, replace=False)) for i in range(NUM_ITEMS)]}
    )
    titles = pl.Series([f"Part {row // 2} ({'one' if row % 5 else 'ONE'})" for row in range(NUM_ITEMS)])
    vocabularies = Vocabulary(range(NUM_USERS)), Vocabulary(range(NUM_ITEMS))
    return Dataset(log, *vocabularies, item_features=features, item_titles=titles)


def build(name: str) -> Reranker:
    """Build a YAML's re-ranker."""
    return instantiate(config_of(name))


@cache
def config_of(name: str) -> Any:
    config = compose("train", ["pipeline=three_stage", f"+reranker@pipeline.rerankers.this={name}"])
    return OmegaConf.create(OmegaConf.to_container(config, resolve=True)["pipeline"]["rerankers"]["this"])


@pytest.fixture(scope="module", params=options("reranker"))
def reranker(request):
    return build(request.param).prepare(shop())


def candidates(rows: int, size: int, seed: int = 0) -> Ranking:
    """Lists of different lengths, the last without a candidate."""
    rng = np.random.default_rng(seed)
    items = np.array([rng.permutation(NUM_ITEMS)[:size] for _ in range(rows)], np.int32).reshape(rows, size)
    scores = -np.sort(-rng.normal(size=(rows, size)).astype(np.float32), axis=1)
    lengths = rng.integers(0, size + 1, rows)
    lengths[-1:] = 0
    there = np.arange(size) < lengths[:, None]
    return Ranking(np.where(there, items, -1).astype(np.int32), np.where(there, scores, -np.inf).astype(np.float32))


def test_it_is_a_reranker_and_says_what_it_is(reranker):
    assert isinstance(reranker, Reranker)
    assert repr(reranker).startswith(f"{type(reranker).__name__}(")
    assert "not prepared" not in repr(reranker)
    with pytest.raises(ValueError, match="has not been prepared"):
        again = {"policy": reranker.policy} if hasattr(reranker, "policy") else {}
        type(reranker)(**reranker.arguments(), **again).rerank([0], candidates(1, 3), 2)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(1, 15), st.integers(0, 8))
def test_lists_are_parts_of_the_candidates_in_a_new_order(reranker, seed, size, k, more):
    given_ = candidates(6, size, seed)
    answer = reranker.rerank(np.arange(6), given_, k, keep=k + more)
    assert isinstance(answer, Reranked)
    assert answer.items_BK.shape == answer.scores_BK.shape == answer.places_BK.shape == (6, k + more)
    assert (answer.items_BK.dtype, answer.scores_BK.dtype, answer.places_BK.dtype) == (np.int32, np.float32, np.int32)
    assert (answer.scores_BK[:, :-1] >= answer.scores_BK[:, 1:]).all()
    assert answer.moved_BK.max(initial=0) < len(answer.reasons)
    for b in range(6):
        had, got = given_.items_BK[b][given_.items_BK[b] >= 0].tolist(), answer.items_BK[b]
        length = int((got >= 0).sum())
        assert (got[length:] == -1).all()
        assert np.isneginf(answer.scores_BK[b, length:]).all()
        assert np.isfinite(answer.scores_BK[b, :length]).all()
        kept = [item for item, dropped in zip(had, answer.dropped_BL[b], strict=False) if not dropped]
        assert length == min(k + more, len(kept))
        assert len(set(got[:length].tolist())) == length
        assert set(got[:length].tolist()) <= set(kept)
        assert [had[place] for place in answer.places_BK[b, :length]] == got[:length].tolist()
        assert (answer.places_BK[b, length:] == -1).all()
        rest = answer.places_BK[b, k:length]
        assert (np.diff(rest) > 0).all(), "beyond k the candidates' order stays"


def test_what_is_kept_beyond_k_changes_nothing_above(reranker):
    short, long = (reranker.rerank(np.arange(8), candidates(8, 20), 5, keep=keep) for keep in (None, 20))
    assert np.array_equal(short.items_BK, long.items_BK[:, :5])
    assert np.array_equal(short.moved_BK, long.moved_BK[:, :5])


def test_one_user_is_answered_as_in_a_batch_on_any_number_of_threads(reranker):
    given_ = candidates(NUM_USERS, 25, seed=2)
    whole = reranker.rerank(np.arange(NUM_USERS), given_, 8)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = reranker.rerank(np.arange(NUM_USERS), given_, 8)
    finally:
        numba.set_num_threads(before)
    users = np.array([7, 3, 7])
    some = reranker.rerank(users, Ranking(given_.items_BK[users], given_.scores_BK[users]), 8)
    for name in ("items_BK", "scores_BK", "places_BK", "moved_BK", "dropped_BL", "propensities_BK"):
        if getattr(whole, name) is not None:
            assert np.array_equal(getattr(whole, name), getattr(alone, name)), name
            assert np.array_equal(getattr(whole, name)[users], getattr(some, name)), name


def test_padding_anywhere_changes_nothing(reranker):
    dense = candidates(6, 10, seed=3)
    holes = Ranking(np.full((6, 21), -1, np.int32), np.full((6, 21), np.nan, np.float32))
    holes.items_BK[:, 1::2], holes.scores_BK[:, 1::2] = dense.items_BK, dense.scores_BK
    one, two = (reranker.rerank(np.arange(6), lists, 7) for lists in (dense, holes))
    assert np.array_equal(one.items_BK, two.items_BK)
    assert np.array_equal(one.scores_BK, two.scores_BK)


def test_saved_and_loaded_in_a_new_process_it_answers_the_same(reranker, tmp_path):
    given_ = candidates(NUM_USERS, 25, seed=5)
    answer = reranker.rerank(np.arange(NUM_USERS), given_, 8, request=3)
    reranker.save(tmp_path / "saved")
    policy = ["policy"] if getattr(reranker, "policy", None) is not None else []
    assert sorted(file.name for file in (tmp_path / "saved").iterdir()) == ["arrays.npz", "config.yaml", *policy]
    with pytest.raises(FileExistsError):
        reranker.save(tmp_path / "saved")
    again = ListReranker.load(tmp_path / "saved")
    assert type(again) is type(reranker)
    state = UserState(None, Interactions.from_histories([[1, 2], [], [5, 6, 7]], num_items=NUM_ITEMS))
    three = Ranking(given_.items_BK[:3], given_.scores_BK[:3])
    for one, two in (
        (answer, again.rerank(np.arange(NUM_USERS), given_, 8, request=3)),
        (reranker.rerank(state, three, 8), again.rerank(state, three, 8)),
    ):
        assert np.array_equal(one.items_BK, two.items_BK)
        assert np.array_equal(one.scores_BK, two.scores_BK)
    with pytest.raises(ValueError, match="which is no"):
        (MMR if not isinstance(reranker, MMR) else Distinct).load(tmp_path / "saved")
    with (tmp_path / "saved" / "arrays.npz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match="missing or damaged"):
        ListReranker.load(tmp_path / "saved")


def test_a_new_process_gives_the_same(tmp_path):
    """All of them in one process, which takes its seconds to start."""
    given_ = candidates(NUM_USERS, 25, seed=5)
    np.savez(tmp_path / "lists.npz", items=given_.items_BK, scores=given_.scores_BK)
    for name in options("reranker"):
        build(name).prepare(shop()).save(tmp_path / name)
    program = f"""
import numpy as np
from recsys_dl.protocols import Ranking
from recsys_dl.rerankers.list_reranker import ListReranker
lists = np.load({str(tmp_path / "lists.npz")!r})
for name in {options("reranker")!r}:
    answer = ListReranker.load({str(tmp_path)!r} + "/" + name).rerank(np.arange({NUM_USERS}), Ranking(lists["items"], lists["scores"]), 8)
    np.save({str(tmp_path)!r} + "/" + name + ".npy", answer.items_BK)
"""
    run_program(program)
    for name in options("reranker"):
        answer = build(name).prepare(shop()).rerank(np.arange(NUM_USERS), given_, 8)
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), answer.items_BK), name


@pytest.mark.parametrize(
    ("items", "scores", "users", "k", "message"),
    [
        ([[3, 4]], [[1.0, np.nan]], [0], 2, "must be finite, got nan for item row 4 in list 0"),
        ([[3, 4], [5, 6]], [[2, 1], [np.inf, 1]], [0, 1], 2, "must be finite, got inf for item row 5 in list 1"),
        ([[3, 4, 3]], [[3, 2, 1]], [0], 2, "item row 3 twice in list 0"),
        ([[3, 40]], [[2, 1]], [0], 2, "item row 40 is outside the 40 items"),
        ([[3, -2]], [[2, 1]], [0], 2, "item row -2 is outside"),
        ([[3.0, 4.0]], [[2, 1]], [0], 2, "item rows must be integers"),
        ([[3, 4]], [[2, 1]], [0, 1], 2, "one row per user"),
        ([[3, 4]], [[2, 1, 0]], [0], 2, "of the same shape"),
        ([[3, 4]], [[2, 1]], [0], 0, "k must be an integer of at least 1, got 0"),
        ([[3, 4]], [[2, 1]], [0], 2.0, "k must be an integer of at least 1, got 2.0"),
        ([[3, 4]], [[2, 1]], ["a"], 2, "users must be rows"),
    ],
)
def test_bad_requests(reranker, items, scores, users, k, message):
    with pytest.raises(ValueError, match=message):
        reranker.rerank(users, Ranking(np.array(items), np.array(scores)), k)


def test_keep_below_k_and_histories_of_other_items(reranker):
    with pytest.raises(ValueError, match="keep must be an integer of at least 5, got 4"):
        reranker.rerank([0], candidates(1, 3), 5, keep=4)
    state = UserState(None, Interactions.from_histories([[1]], num_items=NUM_ITEMS + 1))
    with pytest.raises(ValueError, match="over the 40 items of training, got 41"):
        reranker.rerank(state, candidates(1, 3), 5)


def test_no_candidates_and_no_users(reranker):
    empty = reranker.rerank([3], Ranking(np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32)), 4)
    assert empty.items_BK.tolist() == [[-1] * 4]
    nobody = reranker.rerank(np.zeros(0, int), Ranking(np.zeros((0, 5), np.int32), np.zeros((0, 5), np.float32)), 4)
    assert nobody.items_BK.shape == (0, 4)


# Freshness and de-duplication


def aged(times, features=None) -> Dataset:
    """Item row i was first met at times[i] days."""
    log = Interactions(
        [0] * len(times), range(len(times)), None, [86400 * day for day in times], num_items=len(times) + 1
    )
    vocabularies = Vocabulary([0]), Vocabulary(range(len(times) + 1))
    return Dataset(log, *vocabularies, item_features=None if features is None else pl.DataFrame(features))


def ranked(reranker, data, items, scores, k=None):
    given_ = Ranking(np.array([items], np.int32), np.array([scores], np.float32))
    return reranker.prepare(data).rerank([0], given_, k or len(items))


def test_relevance_halves_with_age():
    """Days 0, 10 and 20 of 20: with a half-life of ten days .25, .5 and 1; item 3 was never met, and is new."""
    data = aged([0, 10, 20])
    got = ranked(Freshness(half_life_days=10, relevance="scores"), data, [0, 1, 2, 3], [4.0, 3.0, 0.9, 0.8])
    assert got.items_BK.tolist() == [[1, 0, 2, 3]]
    assert got.scores_BK.tolist() == [[1.5, 1.0, np.float32(0.9), np.float32(0.8)]]
    half = ranked(Freshness(half_life_days=10, weight=0.5, relevance="scores"), data, [0, 1, 2], [4.0, 3.0, 0.9])
    assert half.scores_BK.tolist() == [[2.5, 2.25, np.float32(0.9)]]
    none = ranked(Freshness(half_life_days=10, weight=0.0), data, [2, 0, 1], [3.0, 2.0, 2.0])
    assert none.items_BK.tolist() == [[2, 0, 1]]
    scaled = ranked(Freshness(half_life_days=10), data, [0, 1, 2], [4.0, 3.0, 2.0])
    assert scaled.scores_BK.tolist() == [[0.25, 0.25, 0.0]]
    assert scaled.items_BK.tolist() == [[0, 1, 2]]


def test_ages_out_of_a_column():
    years = {"year": [2000, 2010, None, 2020]}
    data = aged([0, 1, 2], years)
    now = 50 * 31_556_952  # 2020
    arguments = {"half_life_days": 3652.425, "age_column": "year", "age_unit": "year", "relevance": "scores"}
    got = ranked(Freshness(**arguments, now=now), data, [0, 1, 2, 3], [4.0, 4.0, 4.0, 4.0])
    assert got.items_BK.tolist() == [[3, 1, 2, 0]]  # unknown: as the middle one of the known
    assert got.scores_BK[0].tolist() == pytest.approx([4, 2, 2, 1], rel=1e-6)
    dates = {"released": pl.Series(["1970-01-01", "1970-01-03", "1970-01-02", None]).str.to_date()}
    got = ranked(Freshness(half_life_days=1, age_column="released"), aged([0, 1, 2], dates), [0, 1, 2], [3.0, 3.0, 3.0])
    assert got.items_BK.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"half_life_days": 0}, "half_life_days must be a finite number above 0, got 0"),
        ({"half_life_days": 1, "age_unit": "days"}, "age_unit must be one of"),
        ({"half_life_days": 1, "age_column": "year"}, "needs the item column 'year'"),
        ({"half_life_days": 1, "relevance": "scores"}, "negative scores would increase"),
    ],
)
def test_freshness_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranked(Freshness(**arguments), aged([0, 1]), [0, 1], [1.0, -1.0])


def test_freshness_without_times():
    with pytest.raises(ValueError, match="this log has no times"):
        Freshness(half_life_days=1).prepare(Interactions([0], [0]))


def test_of_one_thing_only_the_best_is_shown():
    titles = pl.Series(
        [
            "The Matrix (1999)",
            "Matrix, The (1999)",
            "matrix the 1999!",
            "The Matrix (2021)",
            "Amélie",
            "AMELIE",
            None,
            None,
        ]
    )
    log = Interactions([0], [0], num_users=1, num_items=8)
    data = Dataset(log, Vocabulary([0]), Vocabulary(range(8)), item_titles=titles)
    got = ranked(Distinct(), data, [2, 3, 0, 7, 5, 1, 4, 6], [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], 7)
    assert got.items_BK.tolist() == [[2, 3, 7, 5, 6, -1, -1]]
    assert got.dropped_BL.tolist() == [[0, 0, 1, 0, 0, 1, 1, 0]]
    assert got.reasons == ("", "same title")
    by = Dataset(
        log,
        *(Vocabulary(range(n)) for n in (1, 8)),
        item_features=pl.DataFrame({"series": [1, 1, 2, 2, 3, 3, None, None]}),
    )
    assert ranked(Distinct(by="series"), by, range(8), -np.arange(8.0), 8).items_BK.tolist() == [
        [0, 2, 4, 6, 7, -1, -1, -1]
    ]
    with pytest.raises(ValueError, match="by=series needs the item column 'series'"):
        Distinct(by="series").prepare(data)


def test_the_example_and_the_rules_of_the_docs(capsys):
    text = (Path(__file__).parents[1] / "docs/reranking.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 10
    assert told[0].endswith("campaign")
    rules = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])["rules"]
    assert len(Rules(rules=rules).rules) == 7
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == set(options("reranker"))
