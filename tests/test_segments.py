"""Figures of segments: warm and cold, by known interactions and by features; by hand, and as parts of the whole."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from test_command import write_log
from test_evaluate import Given

from recsys_dl import Dataset, Interactions, Vocabulary, evaluate, leave_last_out, load_run
from recsys_dl.cli import main
from recsys_dl.data.generated import generated
from recsys_dl.data.split import cold_split, user_split
from recsys_dl.evaluation import Evaluation
from recsys_dl.models import ALS, Bootstrap, Content, ItemKNN, Popularity, TwoTower
from recsys_dl.pipeline import Pipeline
from recsys_dl.retrieval import Exact, Retriever


class Scores(Given):
    """Scores handed over, for users without interactions too."""

    popularity_fallback = False


# users 0 to 2 and items 0 to 2 are known, user 3 and items 3 and 4 are not
TRAIN = Interactions([0, 0, 1, 2], [0, 1, 0, 2], num_users=4, num_items=5)
TEST = Interactions([0, 0, 1, 3, 3], [2, 4, 3, 0, 3], num_users=4, num_items=5)
SCORES = [[0, 0, 0.9, 0.8, 0.1], [0, 0.9, 0.4, 0.3, 0.5], [0] * 5, [0.9, 0.7, 0.6, 0.8, 0.5]]
ALONE = "cold items"


def by_hand(**more):
    return evaluate(Scores(scores_UI=SCORES).fit(TRAIN), TRAIN, TEST, k=[1, 2], segments="cold", **more)


def test_values_by_hand():
    # of two items user 0 gets 2, 3; user 1 gets 1, 4; user 3 gets 0, 3; of cold ones 3, 4 and 4, 3 and 3, 4
    found = by_hand().segments
    expected = {  # recall@1, recall@2, users, left out, relevant items
        "all": (1 / 3, 1 / 2, 3, 0, 5),  # (1/2 + 0 + 1/2) / 3, (1/2 + 0 + 1) / 3
        "warm users": (1 / 4, 1 / 4, 2, 0, 3),
        "cold users": (1 / 2, 1, 1, 0, 2),
        "warm items": (1, 1, 2, 1, 2),
        "cold items": (0, 1 / 3, 3, 0, 3),
        ("cold items", ALONE): (1 / 3, 1, 3, 0, 3),
        "warm users, warm items": (1, 1, 1, 1, 1),
        "warm users, cold items": (0, 0, 2, 0, 2),
        ("warm users, cold items", ALONE): (0, 1, 2, 0, 2),
        "cold users, warm items": (1, 1, 1, 0, 1),
        "both cold": (0, 1, 1, 0, 1),
        ("both cold", ALONE): (1, 1, 1, 0, 1),
        "0 known": (1 / 2, 1, 1, 0, 2),
        "1-2 known": (1 / 4, 1 / 4, 2, 0, 3),
    }
    assert len(found.rows) == len(expected)
    for name, (first, second, *counts) in expected.items():
        row = found[name]
        np.testing.assert_allclose([row.values["recall@1"], row.values["recall@2"]], [first, second], err_msg=str(name))
        assert [row.users, row.left_out, row.items] == counts, name
        low, high = row.intervals["recall@2"]
        assert low <= row.values["recall@2"] <= high
    np.testing.assert_allclose(found["cold items"].values["ndcg@2"], 1 / np.log2(3) / 3)
    assert found.cold_items == 2
    assert "3-5 known" in str(found.notes)
    assert found["warm users"].answered_by == {"history": 1}
    assert found["cold users"].answered_by == {"no history": 1}
    assert found["cold items"].scored_by == {"nothing": 1}


def test_the_figures_of_the_whole_do_not_depend_on_segments():
    plain = evaluate(Scores(scores_UI=SCORES).fit(TRAIN), TRAIN, TEST, k=[1, 2])
    assert (plain.values, plain.intervals, plain.conventions) == (
        by_hand().values,
        by_hand().intervals,
        by_hand().conventions,
    )
    assert plain.segments is None


def test_blocks_do_not_matter():
    one, other = by_hand(), by_hand(memory=1)
    assert one.segments.to_dict() == other.segments.to_dict()


@pytest.fixture(scope="module")
def parts():
    data = generated(num_users=300, num_items=200, num_interactions=6000, seed=3)
    return cold_split(data, seed=3)


MODELS = {
    "als": lambda: ALS(embedding_size=8, epochs=3, device="cpu"),
    "popularity": Popularity,
    "index": lambda: Retriever(ALS(embedding_size=8, epochs=3, device="cpu"), Exact(device="cpu")),
    "pipeline": lambda: Pipeline(
        {"knn": ItemKNN(device="cpu"), "popular": Popularity()}, num_candidates=150, num_retrieved=120
    ),
    "content": Content,
    "bootstrap": lambda: Bootstrap(ALS(embedding_size=8, epochs=3, device="cpu")),
    "towers": lambda: TwoTower(epochs=1, embedding_size=8, device="cpu"),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_disjoint_segments_add_up_to_the_whole(parts, make):
    train, validation, test = parts
    labels = np.arange(train.num_users) % 3
    model = make().fit(train)
    asked = {"cold": None, "user:third": labels}
    evaluation = evaluate(model, train, test, k=10, exclude=validation, segments=asked)
    table = evaluation.segments
    whole = table["all"]
    assert whole.values["ndcg@10"] == pytest.approx(evaluation.values["ndcg@10"], abs=1e-12)
    assert whole.intervals["ndcg@10"] == pytest.approx(evaluation.intervals["ndcg@10"], abs=1e-12)
    names = [row.segment for row in table.rows]
    for disjoint in (
        ["warm users", "cold users"],
        [name for name in names if name.endswith("known")],
        [f"third: {n}" for n in range(3)],
    ):
        rows = [table[name] for name in disjoint]
        assert sum(row.users for row in rows) == whole.users
        assert sum(row.left_out for row in rows) == whole.left_out
        assert sum(row.items for row in rows) == whole.items
        for metric in table.metrics:
            mean = sum(row.users * row.values[metric] for row in rows) / whole.users
            assert mean == pytest.approx(whole.values[metric], abs=1e-12)
    assert table["warm items"].items + table["cold items"].items == whole.items
    for name in ("warm items", "cold items"):
        for candidates in {row.candidates for row in table.rows if row.segment == name}:
            row = table[name, candidates]
            two = [
                table[f"warm users, {name}", candidates],
                table["both cold" if name == ALONE else f"cold users, {name}", candidates],
            ]
            mean = sum(one.users * one.values["recall@20"] for one in two) / row.users
            assert mean == pytest.approx(row.values["recall@20"], abs=1e-12)


def test_what_answers_is_said(parts):
    train, validation, test = parts
    for name, users, items in (
        ("als", {"popularity": 1}, {"nothing": 1}),
        ("index", {"popularity": 1}, {"nothing": 1}),
        ("pipeline", {"popularity": 1}, {"nothing": 1}),
        ("towers", {"features": 1}, {"features": 1}),
        ("content", {"popularity": 1}, {"features": 1}),
        ("bootstrap", {"popularity": 1}, {"features": 1}),
    ):
        model = MODELS[name]().fit(train)
        table = evaluate(model, train, test, exclude=validation, segments="cold").segments
        assert table["both cold"].answered_by == users, name
        assert table["cold items"].scored_by == items, name
        assert table["warm users"].answered_by == {"history": 1}
        everyone = table["cold items"].users
        assert (f"same score for {everyone} of {everyone} users" in str(table.notes)) == (name in ("als", "index")), (
            name
        )


def test_two_towers_reach_cold_items_by_their_features(parts):
    train, validation, test = parts
    towers = TwoTower(epochs=3, embedding_size=16, device="cpu", seed=1).fit(train)
    of = {
        name: evaluate(model, train, test, exclude=validation, segments="cold").segments
        for name, model in (("towers", towers), ("als", MODELS["als"]().fit(train)))
    }
    found = {name: table["cold items", ALONE].values["recall@10"] for name, table in of.items()}
    assert found["towers"] > found["als"]


def test_nothing_cold_is_said_instead_of_empty_rows():
    data = generated(num_users=100, num_items=60, num_interactions=600, cold_items=0, seed=1)
    train, _, test = leave_last_out(data)
    known = set(train.interactions.items_N)
    test = test.with_interactions(test.interactions.select(np.isin(test.interactions.items_N, list(known))))
    table = evaluate(Popularity().fit(train), train, test, segments="cold").segments
    assert not [row.segment for row in table.rows if "cold" in row.segment or "warm" in row.segment]
    assert "no users are cold" in str(table.notes)
    assert "no items are cold" in str(table.notes)


def test_users_who_are_folded_in_are_known_by_their_histories(parts):
    data = generated(num_users=200, num_items=100, num_interactions=2000, seed=2)
    train, _, test = user_split(data, seed=2)
    table = evaluate(ALS(embedding_size=4, epochs=2, device="cpu").fit(train), train, test, segments="cold").segments
    assert "0 known" not in [row.segment for row in table.rows]
    assert table["all"].answered_by == {"history": 1}


def frames() -> Dataset:
    users = pl.DataFrame({"plan": ["a", "b", "a", None], "age": [20, 30, 40, 50]})
    items = pl.DataFrame({"tags": [["x"], ["x", "y"], ["y"], [], ["x"]]})
    return Dataset(TRAIN, Vocabulary(range(4)), Vocabulary(range(5)), user_features=users, item_features=items)


def test_segments_of_features():
    data, test = frames(), frames().with_interactions(TEST)
    model = Scores(scores_UI=SCORES).fit(data)
    table = evaluate(model, data, test, k=2, segments=["user:plan", "user:age", "item:tags"]).segments
    found = {row.segment: (row.users, row.items) for row in table.rows}
    assert found == {
        "all": (3, 5), "plan: a": (1, 2), "plan: b": (1, 1), "plan: (missing)": (1, 2),
        "age: 20": (1, 2), "age: 30": (1, 1), "age: 50": (1, 2),
        "tags: x": (2, 2), "tags: y": (1, 1), "tags: (missing)": (2, 2),
    }  # fmt: skip
    assert table["tags: x"].values["recall@2"] == 1 / 2  # user 0 misses item 4, user 3 gets item 0
    assert "no users with a relevant item: age: 40" in str(table.notes)


def test_labels_that_are_handed_over():
    model = Scores(scores_UI=SCORES).fit(TRAIN)
    for labels in (["p", "q", "p", "p"], np.array(["p", "q", "p", "p"]), pl.Series(["p", "q", "p", "p"])):
        table = evaluate(model, TRAIN, TEST, k=2, segments={"user:plan": labels}).segments
        assert {row.segment: row.users for row in table.rows} == {"all": 3, "plan: p": 2, "plan: q": 1}
    both = {"user:kind": list("abab"), "item:kind": list("aabbb")}
    names = [row.segment for row in evaluate(model, TRAIN, TEST, k=2, segments=both).segments.rows]
    assert set(names) == {"all", "user:kind: a", "user:kind: b", "item:kind: a", "item:kind: b"}
    numbers = np.linspace(0, 1, 5)
    numbers[2] = np.nan
    table = evaluate(model, TRAIN, TEST, k=2, segments={"item:price": numbers}).segments
    assert {row.segment: row.items for row in table.rows}["price: (missing)"] == 1


def test_many_numbers_are_cut_into_quarters_and_many_values_put_together():
    data = generated(num_users=300, num_items=200, num_interactions=6000, seed=3)
    train, _, test = leave_last_out(data)
    labels = {"user:age": np.arange(300), "item:maker": [f"m{min(n, 30)}" for n in range(200)]}
    names = [row.segment for row in evaluate(Popularity().fit(train), train, test, segments=labels).segments.rows]
    assert names[1:5] == ["age: 0 to 74", "age: 75 to 149", "age: 150 to 224", "age: 225 to 299"]
    assert "maker: m30" in names
    assert "maker: other (11 values)" in names


BAD = {
    "cld": (r"got 'cld' \(did you mean 'cold'\?\)"),
    "user:plans": r"no column 'plans' \(did you mean 'plan'\?\); there are plan, age",
    "age": r"got 'age' \(did you mean 'user:age'\?\); there are cold, user:plan, user:age, item:tags",
    "item:": "got 'item:'",
}


@pytest.mark.parametrize(("asked", "message"), BAD.items())
def test_a_segment_that_there_is_not(asked, message):
    data, test = frames(), frames().with_interactions(TEST)
    with pytest.raises(ValueError, match=message):
        evaluate(Scores(scores_UI=SCORES).fit(data), data, test, k=2, segments=asked)


def test_titles_and_free_texts_make_no_segments():
    data = replace(frames(), item_features=None, item_titles=pl.Series(["a", "b", "c", "d", "e"]))
    with pytest.raises(ValueError, match="needs item features, and train has only titles and free texts, which differ"):
        evaluate(Scores(scores_UI=SCORES).fit(data), data, data.with_interactions(TEST), k=2, segments="item:title")


def test_what_else_is_refused():
    model = Scores(scores_UI=SCORES).fit(TRAIN)
    for asked, message in (
        ({"user:plan": ["a"] * 3}, "'user:plan' must be one for each of the 4 user rows of the log, got 3"),
        ({"item:price": np.zeros(4)}, "'item:price' must be one for each of the 5 item rows of the log, got 4"),
        ("user:age", "needs user features, and train has none"),
        ({"user:plan": pl.DataFrame({"a": [1, 2, 3, 4]})}, "one column"),
        ([], "must name at least one"),
        (frames().user_features, "a mapping of names to labels.*got DataFrame"),
        (3, "got int"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(model, TRAIN, TEST, k=2, segments=asked)
    with pytest.raises(ValueError, match="segments need a ranking metric"):
        evaluate(model, TRAIN, TEST, k=2, metrics=["coverage"], segments="cold")
    with pytest.raises(KeyError, match="there are all, warm users"):
        by_hand().segments["cold item"]


def test_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    evaluation = by_hand()
    text = str(evaluation)
    assert max(map(len, text.splitlines())) <= 80
    assert "cold items *" in text
    assert "candidates are the 2 items without an interaction in train" in text
    assert "<td>both cold *</td>" in evaluation._repr_html_()
    frame = evaluation.segments.to_frame()
    assert frame.filter(segment="cold items", candidates=ALONE, metric="recall", k=1)["value"].to_list() == [
        pytest.approx(1 / 3)
    ]
    evaluation.save(tmp_path / "there")
    again = Evaluation.load(tmp_path / "there")
    assert (
        again.segments.to_dict()
        == evaluation.segments.to_dict()
        == json.loads(json.dumps(evaluation.segments.to_dict()))
    )
    assert str(again.segments.text(80)) == evaluation.segments.text(80)


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "log.csv")
    train = [
        "train",
        "data=log",
        "data.path=log.csv",
        "device=cpu",
        "threads=1",
        "evaluate.k=[5]",
        "split=cold",
        "model=als",
        "run=als",
    ]
    assert main(train) == 0
    assert main(["evaluate", "run=als", "cold=true", "k=[5]"]) == 0
    assert "both cold *" in capsys.readouterr().out
    stored = load_run("als").metrics["test"]["segments"]
    assert {row["segment"] for row in stored["rows"]} > {"cold users", "cold items", "both cold"}
    assert main(["evaluate", "run=als", "k=[3]"]) == 0  # other figures leave those of segments there
    assert load_run("als").metrics["test"]["segments"] == stored
    for words, message in (
        (["segments=[colds]"], "did you mean 'cold'?"),
        (["segments=user:age"], "needs user features"),
        (["cold=maybe"], "cold must be true or false, such as false, got 'maybe'"),
    ):
        assert main(["evaluate", "run=als", *words]) != 0
        assert message in capsys.readouterr().err
