"""Optimizers and rates against plain NumPy."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from recsys_dl.training.optimizers import RowAdam, make_optimizer, rate_at


def row_adam(weights: np.ndarray, gradients: list[dict[int, np.ndarray]], rate: float, decay: float) -> np.ndarray:
    """Kingma and Ba 2015 row by row in float64, the second moment one number a row; rows without gradient wait."""
    weights = weights.astype(np.float64)
    first, second = np.zeros_like(weights), np.zeros(len(weights))
    steps = np.zeros(len(weights), int)
    for rows in gradients:
        for row, gradient in rows.items():
            steps[row] += 1
            first[row] = 0.9 * first[row] + 0.1 * gradient
            second[row] = 0.999 * second[row] + 0.001 * np.mean(gradient**2)
            unbiased = first[row] / (1 - 0.9 ** steps[row])
            root = np.sqrt(second[row] / (1 - 0.999 ** steps[row])) + 1e-8
            weights[row] = weights[row] * (1 - rate * decay) - rate * unbiased / root
    return weights


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_row_adam_is_adam_by_rows_and_leaves_other_rows_alone(decay):
    torch.manual_seed(0)
    table = nn.Embedding(9, 4, sparse=True)
    start = table.weight.detach().numpy().copy()
    optimizer = RowAdam(table.parameters(), learning_rate=0.05, weight_decay=decay)
    gradients = []
    for _ in range(20):
        rows = torch.randint(0, 7, (5,))  # with repetition: sparse gradients must be added up; 7 and 8 never come
        pull = torch.randn(5, 4)
        optimizer.zero_grad()
        (table(rows) * pull).sum().backward()
        optimizer.step()
        summed: dict[int, np.ndarray] = {}
        for row, one in zip(rows.tolist(), pull.double().numpy(), strict=True):
            summed[row] = summed.get(row, 0) + one
        gradients.append(summed)
    ended = table.weight.detach().numpy()
    np.testing.assert_allclose(ended, row_adam(start, gradients, 0.05, decay), rtol=1e-4, atol=1e-5)
    assert np.array_equal(ended[7:], start[7:])
    assert not np.isclose(ended[:7], start[:7]).any()


def test_row_adam_takes_dense_and_sparse_gradients_alike():
    rng = np.random.default_rng(1)
    start, pulls = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(6, 5, 3)).astype(np.float32)
    tables = [nn.Embedding(5, 3, sparse=sparse) for sparse in (True, False)]
    for table in tables:
        table.weight.data = torch.from_numpy(start.copy())
        optimizer = RowAdam(table.parameters(), learning_rate=0.1)
        for pull in torch.from_numpy(pulls):
            optimizer.zero_grad()
            (table(torch.arange(5)) * pull).sum().backward()
            optimizer.step()
    assert torch.equal(tables[0].weight, tables[1].weight)


def test_row_adam_takes_vectors_and_numbers():
    for shape in ((4,), ()):
        weights = nn.Parameter(torch.ones(shape))
        optimizer = RowAdam([weights], learning_rate=0.1)
        weights.grad = torch.full(shape, 2.0)
        optimizer.step()
        np.testing.assert_allclose(
            weights.detach(), 0.9, rtol=1e-6
        )  # Adam's first step is the rate, whatever the gradient


def test_row_adam_goes_on_from_its_state():
    torch.manual_seed(0)
    one, two = nn.Embedding(6, 2, sparse=True), nn.Embedding(6, 2, sparse=True)
    optimizers = [RowAdam(table.parameters(), learning_rate=0.1) for table in (one, two)]

    def step(table, optimizer, rows):
        optimizer.zero_grad()
        table(torch.tensor(rows)).square().sum().backward()
        optimizer.step()

    step(one, optimizers[0], [0, 1, 3])
    two.load_state_dict(one.state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for table, optimizer in zip((one, two), optimizers, strict=True):
        step(table, optimizer, [1, 2])
    assert torch.equal(one.weight, two.weight)


@pytest.mark.parametrize("name", ["adam", "sgd", "row_adam"])
def test_optimizers_by_name_go_downhill_with_the_decay_asked_for(name):
    weights = nn.Parameter(torch.full((3, 2), 2.0))
    optimizer = make_optimizer(name, [weights], learning_rate=0.05, weight_decay=0.5)
    weights.grad = torch.zeros_like(weights)
    optimizer.step()
    np.testing.assert_allclose(weights.detach(), 2 * (1 - 0.05 * 0.5), rtol=1e-6)
    for _ in range(200):
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
    assert weights.abs().max() < 0.1


def test_rates_by_hand():
    num = 10
    constant, linear, cosine = (rate_at(name, 0.0, num) for name in ("constant", "linear", "cosine"))
    assert [constant(step) for step in range(num + 1)] == [1.0] * 11
    assert [linear(step) for step in (0, 1, 5, 10, 12)] == pytest.approx([1, 0.9, 0.5, 0, 0])
    assert [cosine(step) for step in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    assert cosine(2) == pytest.approx((1 + math.cos(math.pi * 0.2)) / 2)
    warm = rate_at("linear", 0.4, num)
    assert [warm(step) for step in range(4)] == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5])
    assert [warm(step) for step in (4, 7, 10)] == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize("wrong", [("steps", 0.0), ("linear", 1.0), ("linear", -0.1)])
def test_wrong_rates(wrong):
    with pytest.raises(ValueError, match="must be"):
        rate_at(*wrong, 10)


def test_a_wrong_optimizer():
    with pytest.raises(ValueError, match="optimizer must be one of adam, row_adam, sgd, got 'lamb'"):
        make_optimizer("lamb", [], learning_rate=0.1, weight_decay=0)
