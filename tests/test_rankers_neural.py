"""Neural rankers: every loss learns, networks see what they should, features come to one scale, trainings repeat."""

import re

import numpy as np
import pytest
import torch
from test_rankers import TEST, TRAIN, VALIDATION

from recsys_dl import losses
from recsys_dl.data.groups import Groups
from recsys_dl.rankers.attention_ranker import AttentionRanker
from recsys_dl.rankers.mlp_ranker import MLPRanker
from recsys_dl.rankers.normalization import learn_normalization, normalized
from recsys_dl.training import TrainerOptions

LOSSES = sorted(set(losses.__all__) - {"expected_grades", "sampled_softmax_loss"})


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_planted_order(loss):
    ranker = MLPRanker(loss=loss, hidden_sizes=[16], epochs=15, learning_rate=0.03, dropout=0.0).fit(TRAIN)
    assert ranker._ndcg(ranker.score_groups(TEST), TEST) > 0.93
    assert ranker.losses[-1] < ranker.losses[0]


def test_a_linear_ranker_is_linear():
    ranker = MLPRanker(hidden_sizes=[], epochs=3, normalization="none").fit(TRAIN)
    one, two = TEST.features_NF[:6], TEST.features_NF[6:12]
    middle = ranker.score_rows((one + two) / 2)
    np.testing.assert_allclose(middle, (ranker.score_rows(one) + ranker.score_rows(two)) / 2, rtol=1e-4, atol=1e-4)


def context(num_groups: int, seed: int) -> Groups:
    """A document is relevant where its value is near the mean of its list: no document tells that by itself."""
    rng = np.random.default_rng(seed)
    means = rng.uniform(-10, 10, num_groups)
    values = means[:, None] + rng.normal(size=(num_groups, 8))
    far = np.abs(values - values.mean(axis=1, keepdims=True))
    return Groups(values.reshape(-1, 1), (far < 0.5).ravel(), np.full(num_groups, 8))


def test_attention_sees_the_list_and_a_perceptron_does_not():
    train, test = context(400, 0), context(100, 1)
    options = {"epochs": 40, "learning_rate": 0.005, "dropout": 0.0, "batch_size": 64}
    found = {cls: cls(**options).fit(train) for cls in (AttentionRanker, MLPRanker)}
    figures = {cls: ranker._ndcg(ranker.score_groups(test), test) for cls, ranker in found.items()}
    assert figures[AttentionRanker] > 0.8
    assert figures[MLPRanker] < 0.75


def test_attention_at_padding_is_nothing():
    torch.manual_seed(0)
    network = AttentionRanker(num_blocks=2, width=8)
    network.num_features = 3
    network = network._build(1).eval()
    features, valid = torch.randn(4, 6, 3), torch.rand(4, 6) < 0.6
    valid[0] = False
    features.requires_grad_(True)
    outputs = network(features, valid)
    assert torch.isfinite(outputs).all()
    outputs[valid].sum().backward()
    assert (features.grad[~valid] == 0).all()
    assert (features.grad[valid].abs().sum(dim=1) > 0).all()


def test_normalizations_by_hand():
    features = np.array([[0, -3, 5], [10, 1, 5], [2, 1, 5], [0, 1, 5]], np.float32)
    learned = learn_normalization(features, "standard")
    np.testing.assert_allclose(
        normalized(features, learned, "standard"),
        (features - features.mean(0)) / [np.sqrt(17), np.sqrt(3), np.inf],
        rtol=1e-6,
    )
    logs = (np.sign(features) * np.log1p(np.abs(features)))[:, :2]
    learned = learn_normalization(features, "log1p")
    expected = (logs - logs.mean(0)) / logs.std(0)
    np.testing.assert_allclose(normalized(features, learned, "log1p")[:, :2], expected, rtol=1e-5, atol=1e-6)
    assert (normalized(features, learned, "log1p")[:, 2] == 0).all()
    assert normalized(features, learn_normalization(features, "none"), "none") is features


def test_quantiles_keep_the_order_and_nothing_else():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 1)).astype(np.float32)
    one, other = (
        normalized(column, learn_normalization(column, "quantile"), "quantile")
        for column in (values, np.exp(5 * values))
    )
    np.testing.assert_allclose(one, other, atol=0.02)  # 256 quantiles: a step of 0.4% of a width of 3.5
    assert abs(one.mean()) < 0.01
    assert one.std() == pytest.approx(1, abs=0.01)
    ties = np.repeat(np.array([[0.0], [1.0]], np.float32), [300, 100], axis=0)
    learned = learn_normalization(ties, "quantile")
    low, high = normalized(np.array([[0.0], [1.0]], np.float32), learned, "quantile").ravel()
    assert low == pytest.approx(-np.sqrt(1 / 3), abs=0.02)  # what standardizing 3/4 zeros and 1/4 ones gives
    assert high == pytest.approx(np.sqrt(3), abs=0.02)
    beyond = normalized(np.array([[-1e9], [1e9]], np.float32), learned, "quantile").ravel()
    assert beyond[0] < low < high < beyond[1]
    assert np.abs(beyond).max() < 4


@pytest.mark.parametrize("normalization", ["standard", "log1p", "quantile"])
def test_the_scale_of_a_feature_does_not_matter(normalization):
    scales = np.array([1e3, 1e-3, 1, 1, 1])
    wide = Groups(TRAIN.features_NF * scales, TRAIN.labels_N, TRAIN.sizes_Q)
    ranker = MLPRanker(normalization=normalization, epochs=12, learning_rate=0.02).fit(wide)
    test = Groups(TEST.features_NF * scales, TEST.labels_N, TEST.sizes_Q)
    floor = 0.8 if normalization == "log1p" else 0.93  # log1p is made for counts, and bends these
    assert ranker._ndcg(ranker.score_groups(test), test) > floor


def test_weights_count():
    """Two kinds of groups that contradict each other: the heavier kind is believed."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 1))
    grades = (features[:, 0] > 0) ^ (np.arange(400) >= 200)
    for heavy in (0, 1):
        weights = np.where((np.arange(400) >= 200) == heavy, 1.0, 0.1)
        ranker = MLPRanker(hidden_sizes=[], epochs=10, learning_rate=0.05)
        ranker.fit(Groups(features, grades, np.full(40, 10), weights_N=weights))
        low, high = ranker.score_rows([[-1.0], [1.0]])
        assert (high > low) == (heavy == 0)


def test_a_training_goes_on_from_its_checkpoint_to_the_bit(tmp_path):
    options = {"epochs": 6, "hidden_sizes": [8], "dropout": 0.2}
    whole = MLPRanker(**options).fit(TRAIN, validation=VALIDATION)
    trainer = TrainerOptions(checkpoint=tmp_path, checkpoint_every=1)

    class Stop(Exception):
        pass

    ranker = MLPRanker(**options)
    objective, calls = ranker._objective, []

    def dying(network, batch):
        calls.append(1)
        if len(calls) == 7:
            raise Stop
        return objective(network, batch)

    ranker._objective = dying
    with pytest.raises(Stop):
        ranker.fit(TRAIN, validation=VALIDATION, trainer=trainer)
    again = MLPRanker(**options).fit(TRAIN, validation=VALIDATION, trainer=trainer)
    np.testing.assert_array_equal(again.score_groups(TEST), whole.score_groups(TEST))
    with pytest.raises(ValueError, match="is a checkpoint of a different training: data was"):
        MLPRanker(**options).fit(TEST, validation=VALIDATION, trainer=trainer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "soft"}, "loss must be one of approx_ndcg_loss, bce_loss"),
        ({"loss": "sampled_softmax_loss"}, "sampled_softmax_loss needs log_q_BL with every list"),
        ({"loss_arguments": {"sigma": 2}}, "loss_arguments of softmax_loss must be among none, got 'sigma'"),
        ({"normalization": "max"}, "normalization must be one of none, standard, log1p, quantile, got 'max'"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"learning_rate": 0}, "learning_rate must be a finite number above 0, got 0"),
        ({"hidden_sizes": [0]}, "hidden_sizes must be a list, each a whole number of at least 1, got [0]"),
        ({"dropout": 1}, "dropout must be a finite number at least 0 and below 1, got 1"),
        ({"gains": "cubic"}, "gains must be one of"),
    ],
)
def test_arguments_that_do_not_hold(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        MLPRanker(**arguments)


def test_more_arguments_that_do_not_hold(monkeypatch):
    with pytest.raises(ValueError, match="num_heads must divide width=10, got 4"):
        AttentionRanker(width=10, num_heads=4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match='device="cuda" needs torch built for CUDA'):
        MLPRanker(device="cuda").fit(TRAIN)
    assert MLPRanker(device="auto").torch_device.type == "cpu"
