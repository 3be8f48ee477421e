"""What a training promises, and what wrong or unlucky ones are told."""

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from recsys_dl import evaluate
from recsys_dl.data.interactions import Interactions
from recsys_dl.models.gmf import GMF
from recsys_dl.models.neumf import NeuMF
from recsys_dl.training import TrainerOptions
from recsys_dl.training.batches import Batches, shuffled
from recsys_dl.training.fitting import fit_scorer
from recsys_dl.training.optimizers import rate_at
from recsys_dl.training.scorer import Scorer

CPU = torch.device("cpu")
NUM_USERS, NUM_ITEMS = 60, 30


def two_tastes() -> tuple[Interactions, Interactions]:
    """Two tastes: users like items of their own parity. Train and validation."""
    rng = np.random.default_rng(1)
    items_UK = np.array([rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 9, replace=False) for user in range(NUM_USERS)])
    users_UK = np.repeat(np.arange(NUM_USERS)[:, None], 9, axis=1)
    shape = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    train = Interactions(users_UK[:, 1:].ravel(), items_UK[:, 1:].ravel(), **shape)
    return train, Interactions(users_UK[:, 0], items_UK[:, 0], **shape)


@pytest.fixture(scope="module")
def parts() -> tuple[Interactions, Interactions]:
    return two_tastes()


def gmf(**arguments) -> GMF:
    defaults = {"embedding_size": 4, "batch_size": 64, "learning_rate": 0.01, "epochs": 2, "device": "cpu"}
    return GMF(**(defaults | arguments))


def neumf(**arguments) -> NeuMF:
    defaults = {"embedding_size": 4, "hidden_sizes": [8], "batch_size": 64, "learning_rate": 0.01, "epochs": 2}
    return NeuMF(**(defaults | {"device": "cpu"} | arguments))


def weights_of(model) -> dict[str, np.ndarray]:
    return {name: value.copy() for name, value in model.arrays().items() if name.startswith("network.")}


# Steps, on examples that are numbers: no draws, so one large batch can be compared


class Numbers:
    """Examples of y = 3 x - 1 with some noise."""

    def __init__(self, num: int) -> None:
        rng = torch.Generator().manual_seed(0)
        self.x = torch.randn(num, generator=rng)
        self.y = 3 * self.x - 1 + torch.randn(num, generator=rng)
        self.device = CPU

    def __len__(self) -> int:
        return len(self.x)

    def begin(self, epoch: int) -> None:
        pass

    def take(self, chosen_G, mine, *, epoch, step):
        return self.x[chosen_G[mine]], self.y[chosen_G[mine]]


def fitted_line(num: int, batch_size: int, *, epochs: int = 1, optimizer: str = "sgd", **more) -> np.ndarray:
    options = TrainerOptions(
        **{name: more.pop(name) for name in ("accumulate", "clip_norm", "precision") if name in more}
    )
    torch.manual_seed(1)
    network = nn.Linear(1, 1)
    batches = Batches(Numbers(num), batch_size, seed=2)

    def objective(net, batch):
        return (net(batch[0][:, None])[:, 0] - batch[1]).square().mean()

    num_steps = epochs * -(-len(batches) // options.accumulate)
    scorer = Scorer(network, objective, optimizer=optimizer, learning_rate=0.05, num_steps=num_steps, seed=3, **more)
    fit_scorer(scorer, batches, epochs=epochs, options=options, device=CPU, identity={}, validate=None, name="line")
    return torch.cat([weights.detach().flatten() for weights in network.parameters()]).numpy()


def line_by_hand(num: int, batch_size: int, steps: int, clip: float | None = None, factors=None) -> np.ndarray:
    """Gradient descent with momentum in float64, on the batches of the first epoch."""
    torch.manual_seed(1)
    start = nn.Linear(1, 1)
    a, b = float(start.weight.detach()), float(start.bias.detach())
    examples, velocity = Numbers(num), np.zeros(2)
    order = shuffled(num, 2, 0).numpy()
    for step in range(steps):
        some = order[step * batch_size : (step + 1) * batch_size]
        x, y = examples.x.numpy()[some].astype(float), examples.y.numpy()[some].astype(float)
        apart = a * x + b - y
        gradient = np.array([(2 * apart * x).mean(), (2 * apart).mean()])
        if clip is not None:
            gradient *= min(1, clip / np.linalg.norm(gradient))
        velocity = 0.9 * velocity + gradient
        a, b = np.array([a, b]) - 0.05 * (1 if factors is None else factors[step]) * velocity
    return np.array([a, b])


def test_steps_are_those_worked_out_by_hand():
    np.testing.assert_allclose(fitted_line(160, 10), line_by_hand(160, 10, 16), rtol=1e-5)


@pytest.mark.parametrize("num", [160, 165, 143])  # the last one ends with a step of fewer batches, and a smaller batch
def test_accumulated_batches_are_one_large_one(num):
    steps = -(-num // 20)
    np.testing.assert_allclose(fitted_line(num, 5, accumulate=4), line_by_hand(num, 20, steps), rtol=1e-5)


def test_gradients_are_scaled_down_to_the_norm():
    clipped = fitted_line(160, 10, clip_norm=0.5)
    np.testing.assert_allclose(clipped, line_by_hand(160, 10, 16, clip=0.5), rtol=1e-5)
    assert not np.allclose(clipped, line_by_hand(160, 10, 16), rtol=1e-2)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_changes_the_rate_by_step(schedule):
    factors = [rate_at(schedule, 0.25, 16)(step) for step in range(16)]
    expected = line_by_hand(160, 10, 16, factors=factors)
    np.testing.assert_allclose(fitted_line(160, 10, schedule=schedule, warmup=0.25), expected, rtol=1e-5)


# Models


def test_mixed_precision_trains_and_gives_float32(parts):
    train, _ = parts
    whole, model = gmf(epochs=20, learning_rate=0.05), gmf(epochs=20, learning_rate=0.05)
    whole.fit(train)
    model.fit(train, trainer=TrainerOptions(precision="bf16-mixed"))
    assert {weights.dtype for weights in model.network.parameters()} == {torch.float32}
    ranking = model.recommend(np.arange(NUM_USERS), 5, exclude=train)
    assert ranking.scores_BK.dtype == np.float32
    assert (ranking.items_BK % 2 == np.arange(NUM_USERS)[:, None] % 2).mean() > 0.8
    items_BL = np.arange(NUM_ITEMS)[None]
    assert not np.array_equal(model.score([0], items_BL), whole.score([0], items_BL))
    np.testing.assert_allclose(model.losses, whole.losses, rtol=0.05)  # bfloat16 has 8 bits


def test_mixed_precision_goes_with_clipping_and_sparse_rows(parts):
    for arguments, options in (({}, {"clip_norm": 0.1}), ({"optimizer": "row_adam"}, {})):
        model = gmf(**arguments).fit(parts[0], trainer=TrainerOptions(precision="bf16-mixed", **options))
        assert model.losses[1] < model.losses[0]


def test_early_stopping_keeps_the_best_weights(parts):
    train, validation = parts
    model = gmf(epochs=200, learning_rate=0.05)
    heard = _Heard()
    model.fit(
        train,
        validation=validation,
        trainer=TrainerOptions(patience=3, smoothing=1, metric="ndcg@5", loggers=(heard.logger,)),
    )
    figures = heard.of("ndcg@5")
    assert len(model.losses) == len(figures) < 200
    assert len(figures) - 1 - int(np.argmax(figures)) == 3
    found = evaluate(model, train, validation, k=5).values["ndcg@5"]
    assert found == pytest.approx(max(figures), abs=1e-12)
    best = int(np.argmax(figures))
    assert (model.best_epoch, model.stopped_epoch) == (best + 1, len(figures))
    again = gmf(epochs=best + 1, learning_rate=0.05).fit(train)
    for name, value in weights_of(again).items():
        assert np.array_equal(value, weights_of(model)[name])


def test_validation_every_few_epochs_and_at_the_end(parts):
    train, validation = parts
    heard = _Heard()
    options = TrainerOptions(patience=9, validate_every=3, loggers=(heard.logger,), log_every=1)
    model = gmf(epochs=7).fit(train, validation=validation, trainer=options)
    assert len(heard.of("ndcg@10")) == 3  # epochs 2, 5 and the last, 6
    assert heard.of("epoch_loss") == model.losses
    assert len(heard.of("loss")) == 7 * 16
    assert np.mean(heard.of("loss")[:16]) == pytest.approx(model.losses[0], rel=0.02)  # the last batch is a smaller one
    assert min(heard.of("samples_per_second")) > 0


class _Heard:
    """A logger that remembers."""

    def __init__(self) -> None:
        from pytorch_lightning.loggers.logger import Logger

        told = self.told = []

        class Remembering(Logger):
            name = version = "remembering"

            def log_metrics(self, metrics, step=None):
                told.append(dict(metrics))

            def log_hyperparams(self, *_args, **_kwargs):
                pass

        self.logger = Remembering()

    def of(self, name: str) -> list[float]:
        return [figures[name] for figures in self.told if name in figures]


def test_loggers_write_files_that_hold_loss_and_validation(parts, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train, validation = parts
    csv, board = CSVLogger(str(tmp_path), name="", version="csv"), TensorBoardLogger(tmp_path, name="", version="board")
    options = TrainerOptions(patience=5, loggers=(csv, board), log_every=4)
    model = gmf(epochs=3).fit(train, validation=validation, trainer=options)
    header, *lines = (tmp_path / "csv" / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    assert [float(row["epoch_loss"]) for row in table if row["epoch_loss"]] == pytest.approx(model.losses)
    assert sum(bool(row["ndcg@10"]) for row in table) == 3
    assert sum(bool(row["loss"]) for row in table) == 12
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"loss", "epoch_loss", "ndcg@10", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("epoch_loss")] == pytest.approx(model.losses)


def test_a_log_on_disk_is_not_read_into_memory(parts, tmp_path):
    train, _ = parts
    columns = {"users": train.users_N, "items": train.items_N, "weights": train.weights_N}
    for name, column in columns.items():
        np.save(tmp_path / f"{name}.npy", column)
    users, items, weights = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in columns)
    mapped = Interactions(users, items, weights, num_users=NUM_USERS, num_items=NUM_ITEMS)
    assert np.shares_memory(mapped.users_N, users)
    assert np.shares_memory(mapped.items_N, items)
    assert np.shares_memory(mapped.weights_N, weights)
    one, two = gmf().fit(train), gmf().fit(mapped)
    for name, value in weights_of(one).items():
        assert np.array_equal(value, weights_of(two)[name])
