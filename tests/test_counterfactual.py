"""Recall and DCG over all relevant pairs are estimated without bias from those that were observed."""

import numpy as np
import pytest
import scipy.sparse as sp

from recsys_dl import Interactions, evaluate
from recsys_dl.cli import main
from recsys_dl.evaluation import evaluate_counterfactual, popularity_propensities
from recsys_dl.models import Popularity

USERS, ITEMS = 200, 30
ALL = USERS + ITEMS  # those that train has, after those that are asked


def world(seed=0):
    """All relevant pairs, and the propensity of each item; popular items are seen far more often."""
    rng = np.random.default_rng(seed)
    return rng.random((USERS, ITEMS)) < 0.2, np.linspace(0.9, 0.05, ITEMS)


def fitted():
    """A model that lists items 0, 1, 2, …, the most exposed first."""
    others, items = np.nonzero(np.arange(ITEMS)[:, None] >= np.arange(ITEMS))
    train = Interactions(USERS + others, items, num_users=ALL, num_items=ITEMS)
    return Popularity().fit(train), train


def observed(relevant, propensities, rng):
    users, items = np.nonzero(relevant & (rng.random(relevant.shape) < propensities))
    return Interactions(users, items, num_users=ALL, num_items=ITEMS)


def test_what_is_observed_flatters_and_the_unbiased_figures_do_not():
    relevant, propensities = world()
    model, train = fitted()
    rng = np.random.default_rng(1)
    truth = {"recall@5": relevant[:, :5].sum() / relevant.sum()}
    truth["dcg@5"] = (relevant[:, :5] / np.log2(np.arange(2, 7))).sum() / relevant.sum()
    errors, held = {}, []
    for _ in range(40):
        test = observed(relevant, propensities, rng)
        found = evaluate_counterfactual(model, train, test, k=5, propensities=propensities, num_resamples=200)
        for name, value in truth.items():
            errors.setdefault(name, []).append(found.values[name] - value)
            errors.setdefault(f"unbiased_{name}", []).append(found.values[f"unbiased_{name}"] - value)
        low, high = found.intervals["unbiased_recall@5"]
        held.append(low <= truth["recall@5"] <= high)
    for name in truth:
        biased, unbiased = np.array(errors[name]), np.array(errors[f"unbiased_{name}"])
        assert biased.mean() > 0.3 * truth[name]
        assert abs(unbiased.mean()) < 4 * unbiased.std() / np.sqrt(40)
    assert np.mean(held) > 0.85  # 40 of 0.95 have a standard error of 0.034


def test_with_equal_propensities_both_are_the_mean_over_pairs_and_pairs_may_have_their_own():
    relevant, propensities = world(2)
    model, train = fitted()
    test = observed(relevant, propensities, np.random.default_rng(3))
    equal = evaluate_counterfactual(model, train, test, k=[3, 5], power=0)
    assert equal.values["recall@5"] == pytest.approx(equal.values["unbiased_recall@5"], rel=1e-12)
    usual = evaluate(model, train, test, k=5)
    hits = usual.per_user["recall@5"] * np.bincount(test.users_N, minlength=ALL)[usual.users]
    assert equal.values["recall@5"] == pytest.approx(hits.sum() / len(test), rel=1e-12)
    matrix = sp.csr_matrix(np.tile(propensities, (ALL, 1)))
    by_item, by_pair = (
        evaluate_counterfactual(model, train, test, k=5, propensities=one).values for one in (propensities, matrix)
    )
    assert by_item == by_pair
    halved = evaluate_counterfactual(model, train, test, k=5, propensities=propensities / 2).values
    assert halved == pytest.approx(by_item, rel=1e-12)
    np.testing.assert_allclose(popularity_propensities(train, 1.0)[[0, -1]], [1, 2 / 31])
    assert "popularity to the power of 0.5" in str(evaluate_counterfactual(model, train, test, k=5))


def test_few_effective_pairs_are_noted():
    model, train = fitted()
    test = Interactions([0, 1, 2], [0, 5, 29], num_users=ALL, num_items=ITEMS)
    found = evaluate_counterfactual(model, train, test, k=5, propensities=world()[1])
    assert "effective number of test pairs" in str(found)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"propensities": np.zeros(ITEMS)}, "above 0 and at most 1 at every relevant test pair, got 0.0 for user row 0 and item row 5"),
        ({"propensities": np.full(ITEMS, 2.0)}, "got 2.0 for user row 0"),
        ({"propensities": np.full(ITEMS, np.nan)}, "got nan for user row 0"),
        ({"propensities": [0.5]}, "one for each of 30 items"),
        ({"propensities": sp.csr_matrix((ALL, ITEMS))}, "a pair that could not be observed was"),
        ({"propensities": sp.csr_matrix((3, ITEMS))}, "a matrix of 230 users x 30 items"),
        ({"clip": 1.5}, "clip must be at least 0 and below 1"),
        ({"power": -1.0}, "power must be"),
        ({"k": 99}, "k must be between 1 and the 30 items"),
        ({"confidence": 95.0}, "confidence must be between 0 and 1"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(more, words):
    model, train = fitted()
    test = Interactions([0], [5], num_users=ALL, num_items=ITEMS)
    with pytest.raises(ValueError, match=words):
        evaluate_counterfactual(model, train, test, **more)


def test_the_command_prints_both(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},{time}" for user in range(40) for time, item in enumerate(rng.permutation(25)[:8] ** 2 // 30)
    ]
    (tmp_path / "log.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    assert main(["train", "model=popularity", "data=log", "data.path=log.csv", "run=popular", "evaluate.k=[3]"]) == 0
    assert main(["evaluate", "run=popular", "k=[3]", "propensity_power=0.5"]) == 0
    printed = capsys.readouterr().out
    assert "unbiased_recall" in printed
    assert "propensities: popularity to the power of 0.5" in printed
    assert main(["evaluate", "run=popular", "propensity_power=-1"]) == 2
    assert "propensity_power" in capsys.readouterr().err
