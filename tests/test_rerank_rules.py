"""Business rules: what is written, what contradicts itself, and lists against every list there is."""

import numpy as np
import polars as pl
import pytest

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.protocols import Ranking, UserState
from recsys_dl.rerankers.rules import Rules

NUM_ITEMS = 12


def shop(num_users: int = 3) -> Dataset:
    """Twelve items: brands a a a b b b c c c d d null, prices 1 to 12, kinds that overlap, user 0 had items 0 and 5."""
    features = pl.DataFrame(
        {
            "brand": ["a", "a", "a", "b", "b", "b", "c", "c", "c", "d", "d", None],
            "price": [float(price) for price in range(1, 13)],
            "stock": [True] * 10 + [False, None],
            "kinds": [["x"], ["x", "y"], ["y"], [], ["z"], ["x", "z"], ["y"], ["z"], None, ["w"], ["w"], ["x"]],
        }
    )
    log = Interactions([0, 0, 1], [0, 5, 1], num_users=num_users, num_items=NUM_ITEMS)
    users, items = (Vocabulary([f"{noun}{row}" for row in range(size)]) for noun, size in (("u", num_users), ("i", 12)))
    return Dataset(log, users, items, item_features=features)


def lists(*rows: list[int]) -> Ranking:
    longest = max(map(len, rows))
    items = np.array([row + [-1] * (longest - len(row)) for row in rows], np.int32)
    return Ranking(items, np.where(items >= 0, -np.arange(longest), -np.inf).astype(np.float32))


def shown(answer, b: int = 0) -> list[int]:
    return [item for item in answer.items_BK[b].tolist() if item >= 0]


def ask(rules: list[dict], items: list[int], k: int, user: int = 2):
    return Rules(rules=rules).prepare(shop()).rerank([user], lists(items), k)


# Rules in files, and each rule by hand


def test_rules_of_a_file_stand_where_its_path_does(tmp_path):
    had, cheap = {"name": "new", "deny": "already_had"}, {"name": "cheap", "allow": {"price": {"max": 9}}}
    file = tmp_path / "shop.yaml"
    file.write_text("- name: one a brand\n  at_most: 1\n  per: brand\n")
    rules = Rules(rules=[had, str(file), cheap])
    assert rules.rules == [had, {"name": "one a brand", "at_most": 1, "per": "brand"}, cheap]
    file.write_text("rules:\n- name: new\n  deny: already_had\n")
    assert Rules(rules=[str(file)]).rules == [had]
    for text, message in (
        ("name: new", "must hold a list of rules, one mapping per rule, got dict"),
        ("[", "must be YAML"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            Rules(rules=[str(file)])
    with pytest.raises(FileNotFoundError, match=r"paths of YAML files with them, but .*nowhere\.yaml does not exist"):
        Rules(rules=[str(tmp_path / "nowhere.yaml")])


def test_allow_and_deny_take_items_out_and_say_which_rule_did():
    rules = [
        {"name": "stock", "allow": {"stock": True}},
        {"name": "price", "allow": {"price": {"min": 2, "max": 9}}},
        {"name": "no z", "deny": {"kinds": "z"}},
    ]
    answer = ask(rules, [11, 10, 9, 4, 0, 1, 8], 3)
    assert shown(answer) == [1, 8]
    assert answer.reasons == ("", "stock", "price", "no z", "the rules together")
    assert answer.dropped_BL.tolist() == [[1, 1, 2, 3, 2, 0, 0]]
    assert answer.unmet(0) == ["the rules leave a list of only 2"]


def test_what_a_user_had_is_denied_to_that_user_alone():
    rules = [{"name": "once", "deny": "already_had"}]
    answer = Rules(rules=rules).prepare(shop()).rerank([0, 1, 2], lists([0, 1, 5, 7], [0, 1, 5, 7], [0, 1, 5, 7]), 4)
    assert [shown(answer, b) for b in range(3)] == [[1, 7], [0, 5, 7], [0, 1, 5, 7]]
    state = UserState(None, Interactions.from_histories([[7], []], num_items=NUM_ITEMS))
    folded = Rules(rules=rules).prepare(shop()).rerank(state, lists([0, 7], [0, 7]), 2)
    assert [shown(folded, b) for b in range(2)] == [[0], [0, 7]]


def test_of_several_rules_that_take_a_candidate_out_the_first_is_named():
    had, cheap = {"name": "once", "deny": "already_had"}, {"name": "cheap", "deny": {"price": {"max": 1}}}
    for rules in ([had, cheap], [cheap, had]):
        answer = Rules(rules=rules).prepare(shop()).rerank([0], lists([0, 5, 7]), 2)  # user 0 had 0 and 5, 0 is cheap
        assert [answer.reasons[why] for why in answer.dropped_BL[0]] == [rules[0]["name"], "once", ""]


def test_at_most_of_each_brand_passes_items_over_and_no_brand_is_no_group():
    answer = ask([{"name": "two", "at_most": 2, "per": "brand"}], [0, 1, 2, 11, 3, 4, 5], 5)
    assert shown(answer) == [0, 1, 11, 3, 4]
    assert answer.dropped_BL.tolist() == [[0, 0, 1, 0, 0, 0, 0]]  # 5 was not reached


def test_at_most_within_the_first_places_lets_it_in_below():
    answer = ask([{"name": "top", "at_most": 1, "of": {"brand": "a"}, "within": 2}], [0, 1, 2, 3], 4)
    assert shown(answer) == [0, 3, 1, 2]
    assert answer.moved_BK.tolist() == [[0, 0, 1, 1]]
    assert answer.places_BK.tolist() == [[0, 3, 1, 2]]


def test_at_least_pulls_the_best_of_a_kind_up_to_the_last_place_that_does():
    answer = ask([{"name": "w", "at_least": 1, "of": {"kinds": "w"}, "within": 3}], [0, 1, 2, 3, 10, 9], 4)
    assert shown(answer) == [0, 1, 10, 2]
    assert answer.moved_BK.tolist() == [[0, 0, 1, 1]]
    assert answer.unmet(0) == []


def test_pins_stand_where_they_are_put_whether_candidates_or_not():
    rules = [{"name": "first", "pin": "i8", "at": 1}, {"name": "third", "pin": "i2", "at": 3}]
    answer = ask(rules, [0, 1, 2, 3], 4)
    assert shown(answer) == [8, 0, 2, 1]
    assert answer.places_BK.tolist() == [[-1, 0, 2, 1]]
    assert answer.moved_BK.tolist() == [[1, 0, 2, 0]]
    assert answer.scores_BK.tolist() == [[0, 0, -2, -2]]
    assert shown(ask(rules, [0, 1, 2, 3], 2)) == [8, 0]
    short = ask(rules, [0], 4)
    assert shown(short) == [8, 0, 2]
    nothing = ask(rules, [], 4)
    assert shown(nothing) == [8, 2]
    assert nothing.unmet(0) == ["rule 'third' (item i2 at 3): moved to 2, where the list ends"]
    assert nothing.scores_BK.tolist() == [[0, 0, -np.inf, -np.inf]]


def test_a_shorter_list_in_which_a_pin_meets_a_need_keeps_all_rules():
    rules = [{"name": "w", "at_least": 1, "of": {"kinds": "w"}, "within": 1}, {"name": "second", "pin": "i9", "at": 2}]
    answer = ask(rules, [0], 2)
    assert shown(answer) == [9]
    assert answer.unmet(0) == ["rule 'second' (item i9 at 2): moved to 1, where the list ends"]


def test_a_pin_the_user_had_is_left_out_and_said():
    rules = [{"name": "once", "deny": "already_had"}, {"name": "first", "pin": "i5", "at": 1}]
    answer = Rules(rules=rules).prepare(shop()).rerank([0, 1], lists([1, 2, 3], [4, 2, 3]), 2)
    assert [shown(answer, b) for b in range(2)] == [[1, 2], [5, 4]]
    assert answer.unmet(0) == ["rule 'first' (item i5 at 1): left out by rule 'once' (deny)"]
    assert answer.unmet(1) == []


# What cannot be kept for one user: the best list, and why


@pytest.mark.parametrize(
    ("rules", "items", "k", "expected", "message"),
    [
        ([{"at_least": 3, "of": {"kinds": "x"}}], [3, 4, 0], 3, [3, 4, 0], "2 missing, no more candidates match"),
        ([{"at_least": 1, "of": {"kinds": "x"}}], [3, 4, 6], 2, [3, 4], "1 missing, no more candidates match"),
        (
            [{"at_least": 2, "of": {"kinds": "y"}}, {"at_most": 1, "of": {"brand": "a"}}],
            [0, 1, 2, 3, 4],
            3,
            [1, 3, 4],
            "1 missing, rule 'rule 1' (at most 1) allows no more",
        ),
        (
            [{"at_least": 1, "of": {"brand": "a"}}, {"at_least": 1, "of": {"kinds": "z"}}, {"at_most": 1, "of": {"price": {"max": 8}}}],
            [0, 4, 8, 9],
            2,
            [0, 8],
            "1 missing, it cannot be satisfied together with the other rules",
        ),
    ],
)  # fmt: skip
def test_the_best_list_and_the_conflict_where_candidates_do_not_do(rules, items, k, expected, message):
    answer = ask([{"name": f"rule {n}"} | rule for n, rule in enumerate(rules)], items, k)
    assert shown(answer) == expected
    assert any(message in told for told in answer.unmet(0)), answer.unmet(0)


def test_rules_that_leave_nothing():
    answer = ask([{"name": "no a", "deny": {"brand": "a"}}], [0, 1, 2], 2)
    assert answer.items_BK.tolist() == [[-1, -1]]
    assert np.isneginf(answer.scores_BK).all()
    assert answer.unmet(0) == ["the rules leave a list of only 0"]
    assert (answer.dropped_BL == 1).all()


def test_messages_belong_to_their_lists():
    rules = Rules(rules=[{"name": "w", "at_least": 2, "of": {"kinds": "w"}}]).prepare(shop())
    answer = rules.rerank([0, 1, 2], lists([9, 10, 1], [0, 1, 2], [9, 1, 2]), 3)
    missing = [[told[told.index(":") + 2 :][:9] for told in answer.unmet(b)] for b in range(3)]
    assert missing == [[], ["2 missing"], ["1 missing"]]


# What can be known beforehand is an error


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"pin": "i1", "at": 1}, {"pin": "i2", "at": 1}], "put two items at the same position"),
        ([{"pin": "i1", "at": 1}, {"pin": "i1", "at": 2}], "put one item at two positions"),
        ([{"at_least": 4, "of": {"brand": "a"}, "within": 3}], "at least 4 items do not fit within 3 positions"),
        ([{"at_most": 2}], "needs one of per and of"),
        ([{"at_most": 2, "per": "brand", "of": {"brand": "a"}}], "needs one of per and of"),
        ([{"at_least": 2, "per": "brand"}], "at_least can be combined with .*, got 'per'"),
        ([{"at_least": 0, "of": {"brand": "a"}}], "at_least must be an integer of at least 1, got 0"),
        ([{"pin": "i1"}], "at must be an integer of at least 1, got None"),
        ([{"denny": {"brand": "a"}}], "did you mean 'deny'"),
        ([{"deny": {"brand": "a"}, "allow": {"brand": "b"}}], "must have one of allow, deny"),
        ([{"deny": "horror"}], "must be a condition"),
        ([{"allow": {}}], "must be a condition"),
        ([{"deny": {"brand": "a"}}, {"name": "rule 0", "deny": {"brand": "a"}}], "'rule 0' twice"),
        ([{"name": "", "deny": {"brand": "a"}}], "must be a mapping with a name"),
    ],
)
def test_rules_that_make_no_sense_are_refused_when_written(rules, message):
    with pytest.raises(ValueError, match=message):
        Rules(rules=[{"name": f"rule {n}"} | rule for n, rule in enumerate(rules)])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"deny": {"brnd": "a"}}], "did you mean 'brand'"),
        ([{"pin": "i99", "at": 1}], "the item is not among the 12 known items"),
        ([{"deny": {"brand": "a"}}, {"pin": "i1", "at": 2}], r"'rule 0' \(deny\) removes the item that rule 'rule 1' \(item i1 at 2\) pins"),
        ([{"allow": {"stock": True}}, {"pin": "i11", "at": 2}], "removes the item that rule 'rule 1'"),
        ([{"at_least": 5, "of": {"kinds": "x"}}], "only 4 of the allowed items match it"),
        ([{"deny": {"brand": "a"}}, {"at_least": 3, "of": {"kinds": "x"}}], "only 2 of the allowed items"),
        ([{"at_least": 3, "of": {"brand": "a"}}, {"at_most": 2, "per": "brand"}], r"rule 'rule 1' \(at most 2 per brand\) allows at most 2 items where rule 'rule 0' \(at least 3\) needs 3"),
        ([{"at_least": 2, "of": {"kinds": "w"}, "within": 3}, {"at_most": 1, "of": {"kinds": "w"}, "within": 5}], "allows at most 1 items"),
        ([{"at_most": 1, "of": {"brand": "a"}, "within": 3}, {"pin": "i0", "at": 1}, {"pin": "i1", "at": 3}], "bars what rules 'rule 1' .* 'rule 2' .* pin together"),
        ([{"at_least": 2, "of": {"brand": "a"}, "within": 3}, {"at_least": 2, "of": {"brand": "b"}, "within": 3}], "need more than the 3 positions"),
        ([{"at_least": 2, "of": {"brand": "a"}, "within": 2}, {"pin": "i8", "at": 2}], "need more than the 2 positions, 1 of them pinned"),
        ([{"deny": {"price": {"max": 6}}}, {"deny": {"price": {"min": 6}}}], "together leave none of the 12 items"),
        ([{"deny": {"brand": {"max": 6}}}], "a range needs numbers or times"),
        ([{"deny": {"price": {"maximum": 6}}}], "a range has min, max or both"),
        ([{"deny": {"price": ["cheap"]}}], "the column holds numbers"),
    ],
)  # fmt: skip
def test_rules_that_these_items_cannot_keep_are_refused_when_prepared(rules, message):
    rules = Rules(rules=[{"name": f"rule {n}"} | rule for n, rule in enumerate(rules)])
    with pytest.raises(ValueError, match=message):
        rules.prepare(shop())


def test_needs_beyond_k_are_refused_when_asked_and_pins_below_k_are_not():
    rules = [
        {"name": "a", "at_least": 2, "of": {"brand": "a"}},
        {"name": "b", "at_least": 2, "of": {"brand": "b"}},
        {"name": "pin", "pin": "i8", "at": 4},
    ]
    prepared = Rules(rules=rules).prepare(shop())
    with pytest.raises(ValueError, match="need more than the 3 positions"):
        prepared.rerank([2], lists([0, 1, 2, 3, 4, 5]), 3)
    with pytest.raises(ValueError, match="need more than the 4 positions, 1 of them pinned"):
        prepared.rerank([2], lists([0, 1, 2, 3, 4, 5]), 4)
    assert shown(prepared.rerank([2], lists([0, 1, 2, 3, 4, 5]), 5)) == [0, 1, 3, 8, 4]


def test_a_value_that_no_item_has_is_logged(caplog):
    Rules(rules=[{"name": "typo", "deny": {"kinds": ["xx", "y"]}}]).prepare(shop())
    assert "no item has the value 'xx' (did you mean 'x'?)" in caplog.text
