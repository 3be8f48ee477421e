"""compare: sorted, tested over the same users, and never across unlike conventions."""

import json
from dataclasses import replace

import numpy as np
import pytest

from recsys_dl import Interactions, compare, evaluate
from recsys_dl.evaluation import Evaluation
from recsys_dl.metrics.intervals import holm
from recsys_dl.models import Popularity


class Noisy(Popularity):
    """Popularity times something random: worse the more noise."""

    def __init__(self, *, noise):
        super().__init__()
        self.noise = noise

    def _scores(self, values):
        scores = super()._scores(values)
        factors = np.random.default_rng(0).random((1, scores.shape[1])) ** self.noise
        return (scores * factors).astype(np.float32)

    def predict(self, users_P, items_P):
        return np.full(len(users_P), self.noise, np.float32)


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(1)
    cells = rng.choice(
        300 * 50, 4000, replace=False, p=np.tile(1 / np.arange(1, 51), 300) / (300 * sum(1 / np.arange(1, 51)))
    )
    users, items = np.divmod(cells, 50)
    chosen = rng.random(4000) < 0.2
    weights = rng.integers(1, 6, 4000)
    return [Interactions(users[at], items[at], weights[at], num_users=300, num_items=50) for at in (~chosen, chosen)]


@pytest.fixture(scope="module")
def evaluations(parts):
    train, test = parts
    return {
        name: evaluate(Noisy(noise=noise).fit(train), train, test, k=[5, 10])
        for name, noise in (("noisy", 3), ("popular", 0), ("noisier", 9))
    }


def test_sorted_best_first_and_tested_against_it(evaluations):
    table = compare(evaluations, metric="ndcg@10")
    assert list(table.evaluations) == ["popular", "noisy", "noisier"]
    assert table.baseline == "popular"
    assert list(table.differences) == ["noisy", "noisier"]
    for name, apart in table.differences.items():
        gap = evaluations[name].values["ndcg@10"] - evaluations["popular"].values["ndcg@10"]
        assert apart.value == pytest.approx(gap, rel=1e-12)
        assert apart.low < apart.value < apart.high
    assert list(table.p_values.values()) == holm([apart.p_value for apart in table.differences.values()])
    assert table.p_values["noisier"] < 0.01


def test_a_named_baseline(evaluations):
    table = compare(evaluations, metric="recall@5", baseline="noisier")
    assert set(table.differences) == {"popular", "noisy"}
    assert table.differences["popular"].value > 0
    assert "minus noisier" in str(table)


def test_lower_errors_come_first(evaluations):
    table = compare(evaluations, metric="rmse")
    assert list(table.evaluations) == ["noisy", "popular", "noisier"]  # ratings are about 3


@pytest.mark.parametrize("width", [80, 100, 160])
def test_it_prints_every_figure_within_the_page(evaluations, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    text = str(compare(evaluations, metric="ndcg@10"))
    assert max(map(len, text.splitlines())) <= width
    for name in (
        "ndcg@10",
        "recall@10",
        "map@10",
        "coverage@10",
        "rmse",
        "p (Holm)",
        "Holm-corrected for 2",
        "gains: binary",
    ):
        assert name in text
    assert "recall@5" not in text
    low, high = evaluations["noisy"].intervals["recall@10"]
    assert f"[{low:.4f}, {high:.4f}]" in text
    lines = [line for line in text.splitlines() if line.startswith(("popular", "noisy", "noisier"))]
    assert [line.split()[0] for line in lines[:3]] == ["popular", "noisy", "noisier"]


def test_the_same_seed_gives_the_same_and_json_can_hold_it(evaluations):
    one, two = (compare(evaluations, seed=4).to_dict() for _ in range(2))
    assert one == two
    assert json.loads(json.dumps(one)) == one
    assert one["differences"]["noisy"].keys() == {"value", "interval", "p_value", "p_value_holm"}


def test_read_back_they_compare_as_before(evaluations, tmp_path):
    for name, evaluation in evaluations.items():
        evaluation.save(tmp_path / name)
    again = {name: Evaluation.load(tmp_path / name) for name in evaluations}
    assert compare(again, metric="rmse").to_dict() == compare(evaluations, metric="rmse").to_dict()


def test_one_model_alone_is_a_table_too(evaluations):
    table = compare({"popular": evaluations["popular"]})
    assert table.differences == {}
    assert "popular" in str(table)


UNLIKE = {
    "gains": {"gains": "linear"},
    "blank_users": {"blank_users": "zero"},
    "excluded": {"exclude": Interactions([0], [0], num_users=300, num_items=50)},
}


@pytest.mark.parametrize("key", UNLIKE)
def test_unlike_conventions_are_refused_by_name(parts, evaluations, key):
    train, test = parts
    other = evaluate(Noisy(noise=0).fit(train), train, test, k=[5, 10], **UNLIKE[key])
    with pytest.raises(ValueError, match=f"unlike conventions cannot be compared: {key} is"):
        compare({"one": evaluations["popular"], "two": other})


def test_other_data_is_refused(parts, evaluations):
    train, test = parts
    fewer = evaluate(Noisy(noise=0).fit(train), train, test.select(np.arange(1, len(test))), k=[5, 10])
    with pytest.raises(ValueError, match="data is"):
        compare({"one": evaluations["popular"], "two": fewer})


def test_ratings_on_another_scale_are_compared_by_rank_but_not_by_error(parts, evaluations):
    train, test = parts
    binary = [part.with_weights(np.ones(len(part))) for part in (train, test)]
    other = evaluate(Noisy(noise=1).fit(binary[0]), *binary, k=[5, 10])
    both = {"stars": evaluations["popular"], "ones": other}
    table = compare(both, metric="ndcg@10")
    assert "rmse" not in str(table)
    with pytest.raises(ValueError, match="ratings is"):
        compare(both, metric="rmse")


def test_other_users_are_refused(evaluations):
    other = replace(evaluations["noisy"], users=evaluations["noisy"].users[::-1])
    with pytest.raises(ValueError, match="unlike users"):
        compare({"one": evaluations["popular"], "two": other})


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda e: {}, {}, "at least one evaluation"),
        (lambda e: e, {"baseline": "als"}, "one of noisy, popular, noisier, got 'als'"),
        (lambda e: e, {"metric": "coverage@10"}, "'coverage@10' has no per-user values"),
        (lambda e: e, {"metric": "ndcg@7"}, "'ndcg@7' has no per-user values"),
        (lambda e: {"bare": Evaluation.from_dict(e["noisy"].to_dict())}, {}, "bare has no per-user values"),
        (lambda e: e | {"wide": replace(e["noisy"], confidence=0.99)}, {}, "intervals differ: 0.95 for noisy, 0.99"),
    ],
)
def test_bad_input_is_named(evaluations, change, arguments, message):
    with pytest.raises(ValueError, match=message):
        compare(change(evaluations), **arguments)
