"""Each table says which test interactions count, prints no errors of ratings where nobody rated, and says what cannot be reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import command

from recsys_dl import Dataset, Interactions, Vocabulary, compare, evaluate, leave_last_out, load_run, read_log
from recsys_dl.cli import main
from recsys_dl.data.relevance import relevant_items
from recsys_dl.data.split import cold_items
from recsys_dl.data.weights import binary
from recsys_dl.evaluation import Evaluation
from recsys_dl.models import ALS, GMF, ItemKNN, Popularity


def joined(table: object) -> str:
    """Return a printed table in one line."""
    return " ".join(str(table).split())


def ratings(num_users: int = 40, each: int = 8) -> pl.DataFrame:
    rng = np.random.default_rng(2)
    rows = [
        (f"u{user}", f"i{item}", [0.5, 2, 4, 5][rng.integers(4)], 100 * n)
        for user in range(num_users)
        for n, item in enumerate(rng.permutation(20)[:each])
    ]
    return pl.DataFrame(rows, schema=["user", "item", "rating", "timestamp"], orient="row")


def test_the_rule_is_stated_and_a_threshold_changes_what_counts():
    train, validation, test = leave_last_out(read_log(ratings()))
    model = Popularity().fit(train)
    everything = evaluate(model, train, test, exclude=validation, relevant_from=0)
    assert "relevant: every test interaction, however low its rating" in str(everything)
    liked = evaluate(model, train, test, exclude=validation, relevant_from=4)
    assert liked.conventions["relevant"] == "test ratings of 4 or more"
    default = evaluate(model, train, test, exclude=validation)
    assert "relevant: test ratings of 4 or more, the upper third of 0.5 to 5" in joined(default)
    assert default.values == liked.values
    low = int((test.interactions.weights_N < 4).sum())
    assert low
    assert liked.conventions["blank_users"] == f"left out ({low})"
    expected = everything.per_user["recall@10"][test.interactions.by_user.sum(axis=1).A1[everything.users] >= 4]
    assert liked.values["recall@10"] == pytest.approx(expected.mean())
    with pytest.raises(ValueError, match="unlike conventions cannot be compared: relevant"):
        compare({"one": everything, "two": liked})
    with pytest.raises(ValueError, match=r"test ratings of 6 or more \(relevant_from\).*the largest weight is 5"):
        evaluate(model, train, test, relevant_from=6)
    for wrong in (-1, float("nan"), True, "4"):
        with pytest.raises(ValueError, match="relevant_from must be a number of at least 0"):
            evaluate(model, train, test, relevant_from=wrong)


@pytest.mark.parametrize(
    ("given", "least"),
    [
        ([1, 2, 3, 4, 5], 4),
        ([0.5, 1, 2, 3, 3.5, 4, 5], 3.5),
        ([*range(11)], 7),
        ([*range(1, 11)], 7),
        ([0.25, 0.5, 0.75, 1.0], 0.75),
        ([1, 5], 5),
        ([0, 1], 1),
        ([4, 4, 4], 4),
    ],
)
def test_by_default_what_was_rated_in_the_upper_third_of_the_scale_is_relevant(given, least):
    log = Interactions([0] * len(given), [*range(len(given))], given, num_users=1, num_items=len(given))
    names = Vocabulary([0], noun="user"), Vocabulary([*range(len(given))], noun="item")
    rated = Dataset(log, *names, weight_kind="ratings")
    relevant, rule = relevant_items(rated, log)
    assert (relevant.toarray()[0] > 0).tolist() == [rating >= least for rating in given]
    assert log.by_user.toarray()[0].tolist() == given
    assert f"{least:g} or more" in rule or len(set(given)) == 1
    for other in (log, Dataset(log, *names, weight_kind="counts"), Dataset(log, *names)):
        relevant, rule = relevant_items(other, log)
        assert relevant.toarray()[0].tolist() == given
        assert rule == "every test interaction"


def test_early_stopping_goes_by_the_same_rule():
    train, validation, _ = leave_last_out(read_log(ratings()))
    model = GMF(embedding_size=4, epochs=1, device="cpu").fit(train)
    (batch,) = model.val_dataloader(validation)
    low_N = validation.interactions.weights_N < 4
    assert low_N.any()
    assert batch["users_B"].tolist() == sorted(validation.interactions.users_N[~low_N].tolist())
    with pytest.raises(ValueError, match="validation must hold a relevant item: validation ratings of 4 or more"):
        model.val_dataloader(validation.with_interactions(validation.interactions.select(low_N)))


def test_implicit_logs_have_no_errors_of_ratings():
    rated = read_log(ratings())
    for data, noun in (
        (rated, "rating"),
        (binary(rated), None),
        (read_log(ratings(), weight=False), None),
        (read_log(ratings(), weight_kind="counts"), None),
    ):
        train, _, test = leave_last_out(data)
        model = ItemKNN().fit(train)
        found = evaluate(model, train, test, k=5)
        assert ("rmse" in found.values) == (noun == "rating")
        if noun is None:
            with pytest.raises(
                ValueError, match="rmse compares predicted ratings with true ones, and this log has none"
            ):
                evaluate(model, train, test, k=5, metrics=["rmse"])
    log = Interactions([0, 1, 1], [0, 0, 1], num_users=2, num_items=3)
    assert "rmse" not in evaluate(ItemKNN().fit(log), log, Interactions([0], [1], num_users=2, num_items=3), k=2).values


def test_what_cannot_be_reached_is_said(tmp_path: Path):
    train, _, test = cold_items(read_log(ratings()), seed=1, test=0.2)
    found = evaluate(Popularity().fit(train), train, test, k=5, relevant_from=0)
    text = f"{len(test)} of {len(test)} relevant test items are unknown to training, and Popularity never recommends such items"
    assert text in joined(found)
    assert found.values["recall@5"] == 0
    found.save(tmp_path / "figures")
    assert text in joined(Evaluation.load(tmp_path / "figures"))
    assert f"note: one: {text}" in joined(compare({"one": found, "two": found}, "ndcg@5"))
    train, _, test = leave_last_out(read_log(ratings()))
    assert not evaluate(Popularity().fit(train), train, test, k=5).notes


def test_the_command_takes_the_rule(tmp_path: Path):
    ratings().write_csv(tmp_path / "log.csv")
    words = ("train", "data=log", "data.path=log.csv", "model=popularity")
    out = command(*words, "run=any", cwd=tmp_path).stdout
    assert "relevant: test ratings of 4 or more, the upper third of 0.5 to 5" in joined(out)
    out = command(*words, "run=all", "evaluate.relevant_from=0", cwd=tmp_path).stdout
    assert "relevant: every test interaction, however low its rating" in out
    out = command(*words, "run=liked", "evaluate.relevant_from=4", cwd=tmp_path).stdout
    assert "relevant: test ratings of 4 or more" in out
    assert "relevant: test ratings of 4 or more" in command("evaluate", "run=liked", cwd=tmp_path).stdout
    out = command("evaluate", "run=liked", "relevant_from=5", cwd=tmp_path).stdout
    assert "relevant: test ratings of 5 or more" in out
    assert "ratings of 5" in load_run(tmp_path / "liked").metrics["test"]["conventions"]["relevant"]


def test_parts_given_in_another_order_are_noted():
    train, _, test = leave_last_out(read_log(ratings()), num_test=2)
    model = ItemKNN().fit(train)
    assert not evaluate(model, train, test, k=5).notes
    (swapped,) = evaluate(model, test, train, k=5, relevant_from=0).notes
    assert f"was fitted on {len(train):,} pairs of users and items, but train holds {len(test):,}" in swapped
    (same,) = evaluate(model, train, train, k=5, relevant_from=0).notes
    assert f"{len(train):,} of {len(train):,} relevant test items are excluded from the lists" in same
    fewer = read_log(ratings().filter(pl.col("item") != "i3"))
    with pytest.raises(ValueError, match="must be over the 20 items that ItemKNN was fitted on, got 19"):
        evaluate(ItemKNN().fit(read_log(ratings()).interactions), fewer.interactions, fewer.interactions, k=5)


def test_zeros_of_lists_that_are_filled_up_with_cold_items_are_noted():
    log = Interactions([0, 0, 1, 1], [0, 1, 0, 1], num_users=2, num_items=6)
    found = evaluate(ItemKNN().fit(log), log, Interactions([0, 1], [4, 5], num_users=2, num_items=6), k=1)
    assert any("2 of 2 relevant test items are unknown to training, and ItemKNN" in note for note in found.notes)


def test_factors_that_regularization_shrinks_to_nothing_are_warned_of(caplog):
    log = Interactions(np.repeat(np.arange(30), 2), np.arange(60) % 40, num_users=30, num_items=40)
    ALS(embedding_size=4, regularization=1.0, epochs=4, seed=1).fit(log)
    assert "ALS learned almost nothing" in caplog.text
    caplog.clear()
    ALS(embedding_size=4, regularization=0.03, epochs=4, seed=1).fit(log)
    assert "almost nothing" not in caplog.text


def test_a_part_without_a_relevant_item_is_refused_before_anything_is_fitted(tmp_path: Path, monkeypatch, capsys):
    ratings().write_csv(tmp_path / "log.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("recsys_dl.models.popularity.Popularity.fit", None)
    assert main(["train", "data=log", "data.path=log.csv", "model=popularity", "evaluate.relevant_from=6"]) == 1
    assert (
        "validation must hold a relevant item: validation ratings of 6 or more" in capsys.readouterr().err
    )  # no fit was called
