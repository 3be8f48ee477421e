"""What after_clicks, answers and interviews do not take, each said in words."""

import numpy as np
import pytest

from recsys_dl import Dataset, Interactions, Vocabulary
from recsys_dl.cold_start import after_clicks, answers, first_clicks, interview_items, judge_interview
from recsys_dl.data.generated import generated
from recsys_dl.data.split import user_split
from recsys_dl.models import ALS, Popularity


@pytest.fixture(scope="module")
def parts():
    return user_split(generated(num_users=100, num_items=80, num_interactions=700, seed=5), test=0.25, seed=5)


@pytest.fixture(scope="module")
def model(parts):
    return Popularity().fit(parts.train)


WRONG_ITEMS = [[-1], [80], [1.5], ["i3"], None, [[1, 2]], 3, [True], ["a", 1]]


@pytest.mark.parametrize("shown", WRONG_ITEMS, ids=str)
def test_items_that_are_no_rows(parts, model, shown):
    must = r"items must be rows of the items shown, integers in \[0, 80\), got .*; ids become rows through train.items.rows"
    with pytest.raises(ValueError, match=must):
        judge_interview(model, parts.train, parts.test, shown, k=10)
    with pytest.raises(ValueError, match=must):
        answers(parts.test.histories, shown)


def test_rows_as_lists_arrays_and_none_at_all(parts, model):
    asked = [judge_interview(model, parts.train, parts.test, one, k=10) for one in ([3, 5], np.array([5, 3], np.int32))]
    assert asked[0].values == asked[1].values
    assert len(answers(parts.test.histories, [])) == 0


WRONG_CLICKS = [
    (5, "got 5"),
    ("5", "got '5'"),
    (b"5", "got b'5'"),
    ({5: 1}, r"got \{5: 1\}"),
    ([0.5], "got 0.5"),
    ([1, 1], "got 1 twice"),
    ([True], "got True"),
    (["5"], "got '5'"),
    ([-1], "got -1"),
    ([], "got none"),
    (None, "got None"),
]


@pytest.mark.parametrize(("clicks", "got"), WRONG_CLICKS, ids=str)
def test_clicks_that_are_no_list_of_numbers(parts, model, clicks, got):
    with pytest.raises(ValueError, match=f"clicks must be a list of different whole numbers of at least 0.*{got}"):
        after_clicks(model, parts.train, parts.test, clicks, k=10)


def test_clicks_of_any_iterable(parts, model):
    assert list(after_clicks(model, parts.train, parts.test, np.array([0, 2]), k=10)) == [0, 2]
    assert list(after_clicks(model, parts.train, parts.test, range(2), k=10)) == [0, 1]
    with pytest.raises(ValueError, match="num must be a whole number of at least 0, got 0.5"):
        first_clicks(parts.test.histories, 0.5)


def test_information_by_a_model_of_another_log():
    users, items = [0, 0, 1, 1, 2, 2, 2, 3, 3], [0, 1, 0, 2, 1, 2, 3, 3, 0]
    log = Interactions(users, items)
    train = Dataset(log, Vocabulary(list("1234"), noun="user"), Vocabulary(list("abcd"), noun="item"))
    turned = Dataset(
        Interactions(3 - np.array(users), 3 - np.array(items)),
        Vocabulary(list("4321"), noun="user"),
        Vocabulary(list("dcba"), noun="item"),
    )
    als = {"embedding_size": 2, "epochs": 1, "device": "cpu"}
    with pytest.raises(ValueError, match="numbers its users differently"):
        interview_items(train, 2, model=ALS(**als).fit(turned))
    fewer = Interactions([0, 0, 1, 1, 2, 2], [0, 1, 0, 2, 1, 3])
    with pytest.raises(ValueError, match="train must be over the 3 users that ALS was fitted on, got 4"):
        interview_items(log, 2, model=ALS(**als).fit(fewer))
    more = Interactions(users, items, num_items=5)
    with pytest.raises(ValueError, match="train must be over the 5 items that ALS was fitted on, got 4"):
        interview_items(log, 2, model=ALS(**als).fit(more))
    assert len(interview_items(train, 2, model=ALS(**als).fit(train))) == 2
