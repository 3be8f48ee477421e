"""Our models as LightningModules in a script of the user's own: Lightning's Trainer, callbacks and checkpoints."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.tuner import Tuner
from torch.utils.data import DataLoader

from recsys_dl import evaluate
from recsys_dl.data.interactions import Interactions
from recsys_dl.families.lightning import RecommenderModule
from recsys_dl.models.gmf import GMF
from recsys_dl.models.neumf import NeuMF
from recsys_dl.models.sasrec import SASRec
from recsys_dl.models.two_tower import TwoTower
from recsys_dl.models.youtube_dnn import YouTubeDNN
from recsys_dl.training.shards import write_shards

NUM_USERS, NUM_ITEMS = 60, 30
SMALL = {"embedding_size": 4, "batch_size": 64, "learning_rate": 0.01, "epochs": 3, "device": "cpu"}
MODELS = {
    "gmf": lambda **more: GMF(**SMALL | more),
    "gmf, hard": lambda **more: GMF(**SMALL | {"negatives": "hard", "optimizer": "row_adam"} | more),
    "neumf": lambda **more: NeuMF(**SMALL | {"hidden_sizes": [8], "dropout": 0.2, "schedule": "cosine"} | more),
    "two_tower": lambda **more: TwoTower(**SMALL | {"softmax": "in_batch"} | more),
    "sasrec": lambda **more: SASRec(**SMALL | more),
    "youtube_dnn": lambda **more: YouTubeDNN(**SMALL | {"hidden_sizes": [8], "softmax": "sampled"} | more),
}


@pytest.fixture(scope="module")
def parts() -> tuple[Interactions, Interactions]:
    """Two tastes: users like items of their own parity. Train and validation."""
    rng = np.random.default_rng(1)
    items_UK = np.array([rng.choice(np.arange(user % 2, NUM_ITEMS, 2), 9, replace=False) for user in range(NUM_USERS)])
    users_UK = np.repeat(np.arange(NUM_USERS)[:, None], 9, axis=1)
    shape = {"num_users": NUM_USERS, "num_items": NUM_ITEMS}
    train = Interactions(users_UK[:, 1:].ravel(), items_UK[:, 1:].ravel(), **shape)
    return train, Interactions(users_UK[:, 0], items_UK[:, 0], **shape)


def trainer(folder, *callbacks, **more) -> pl.Trainer:
    defaults = {"accelerator": "cpu", "max_epochs": 3, "logger": False, "enable_progress_bar": False}
    if not any(isinstance(one, ModelCheckpoint) for one in callbacks):
        defaults["enable_checkpointing"] = False
    return pl.Trainer(default_root_dir=folder, callbacks=list(callbacks), **defaults | more)


def weights_of(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.network.state_dict().items()}


@pytest.mark.parametrize("name", MODELS)
def test_a_script_with_lightnings_own_callbacks(parts, tmp_path, name):
    train, validation = parts
    model = MODELS[name]()
    module = model.lightning_module(train)
    start = weights_of(model)
    stopping = EarlyStopping("val_ndcg@10", mode="max", patience=3)
    best = ModelCheckpoint(tmp_path, monitor="val_ndcg@10", mode="max", filename="{epoch}-{val_ndcg@10:.3f}")
    logger = CSVLogger(tmp_path, name="", version="")
    own = trainer(tmp_path, stopping, best, LearningRateMonitor("step"), logger=logger, log_every_n_steps=4)
    own.fit(module, model.train_dataloader(train), model.val_dataloader(validation))

    # it learned what `fit` learns, to the bit, and the model answers by it
    fitted = MODELS[name]().fit(train)
    for key, value in weights_of(fitted).items():
        assert torch.equal(value, weights_of(model)[key]), key
        assert value.numel() < 4 or not value.any() or not torch.equal(value, start[key]) or "profile" in key, key
    users = np.arange(NUM_USERS)
    assert np.array_equal(model.recommend(users, 5).items_BK, fitted.recommend(users, 5).items_BK)

    # what was logged is what evaluation finds
    found = evaluate(model, train, validation, k=10).values["ndcg@10"]
    assert float(own.callback_metrics["val_ndcg@10"]) == pytest.approx(found, abs=1e-6)
    assert float(own.callback_metrics["train_loss"]) == pytest.approx(fitted.losses[-1], rel=0.05)
    header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_loss_step", "train_loss_epoch", "val_ndcg@10"} < set(header)
    assert any(column.startswith("lr-") for column in header)

    # the best weights come back from Lightning's checkpoint, into a model begun on the same data
    other = MODELS[name]()
    other.lightning_module(train)
    RecommenderModule.load_from_checkpoint(best.best_model_path, model=other)
    found = evaluate(other, train, validation, k=10).values["ndcg@10"]
    assert found == pytest.approx(float(best.best_model_score), abs=1e-6)
    assert found == pytest.approx(float(stopping.best_score), abs=1e-6)


def test_lightnings_early_stopping_stops(parts, tmp_path):
    train, validation = parts
    model = MODELS["gmf"]()
    module = model.lightning_module(train, metric="recall@5")
    stopping = EarlyStopping("val_recall@5", mode="max", patience=1, min_delta=1.0)
    own = trainer(tmp_path, stopping, max_epochs=20)
    own.fit(module, model.train_dataloader(train), model.val_dataloader(validation))
    assert stopping.stopped_epoch == 1
    assert own.current_epoch == 2


def test_batches_of_ones_own(parts, tmp_path):
    """Dicts of tensors from an ordinary DataLoader with torch's own collation."""
    train, _ = parts
    rng = np.random.default_rng(0)
    negatives = rng.integers(0, NUM_ITEMS, (len(train), 3))
    items = np.concatenate([train.items_N[:, None], negatives], axis=1).astype(np.int64)
    examples = [
        {"users_B": int(user), "items_BL": torch.from_numpy(row), "labels_BL": torch.tensor([1, 0, 0, 0])}
        for user, row in zip(train.users_N, items, strict=True)
    ]
    model = GMF(**SMALL | {"learning_rate": 0.05})
    own = trainer(tmp_path, max_epochs=5)
    own.fit(model.lightning_module(train), DataLoader(examples, batch_size=32, shuffle=True))
    lists = model.recommend(np.arange(NUM_USERS), 5, exclude=train).items_BK
    assert (lists % 2 == np.arange(NUM_USERS)[:, None] % 2).mean() > 0.8


def test_a_fitted_model_goes_on(parts, tmp_path):
    train, _ = parts
    model = MODELS["gmf"]().fit(train)
    before, start = model.recommend([0], 5).scores_BK, model.losses[-1]
    own = trainer(tmp_path)
    own.fit(model.lightning_module(), model.train_dataloader(train))
    assert float(own.callback_metrics["train_loss"]) < start
    assert not np.array_equal(model.recommend([0], 5).scores_BK, before)
    model.save(tmp_path / "model")
    again = GMF.load(tmp_path / "model")
    assert np.array_equal(again.recommend([0], 5).scores_BK, model.recommend([0], 5).scores_BK)


def test_a_stopped_trainer_leaves_a_model_that_answers_by_its_weights(parts, tmp_path):
    train, _ = parts

    class Stop(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 5:
                raise RuntimeError("stopped")

    model = MODELS["gmf"]()
    with pytest.raises(RuntimeError, match="stopped"):
        trainer(tmp_path, Stop()).fit(model.lightning_module(train), model.train_dataloader(train))
    ranking = model.recommend([3], 1)
    network = model.network
    scores_I = (network.user_emb.weight[3] * network.axis_weights) @ network.item_emb.weight.T
    assert ranking.scores_BK[0, 0] == pytest.approx(scores_I.max().item(), rel=1e-5)


def test_the_learning_rate_finder_sees_the_loss(parts, tmp_path):
    train, _ = parts
    model = GMF(**SMALL)
    module = model.lightning_module(train)
    finder = Tuner(trainer(tmp_path, max_epochs=20, enable_checkpointing=True)).lr_find(
        module, model.train_dataloader(train), num_training=30, min_lr=1e-4
    )
    assert len(finder.results["loss"]) >= 20
    assert np.isfinite(finder.results["loss"]).all()
    if finder.suggestion() is not None:
        assert module.learning_rate == finder.suggestion()


WRONG = {
    "a tuple": (
        lambda: (torch.zeros(3), torch.zeros(3)),
        "a batch of GMF must be a dict of the tensors users_B, items_BL",
    ),
    "a name that is missing": (lambda: {"users_B": torch.zeros(3)}, "missing: items_BL, labels_BL"),
    "another name": (
        lambda: dict.fromkeys(["users_B", "items_BL", "labels_BL", "ratings"], torch.zeros(3, 2)),
        "unknown: ratings",
    ),
    "rows that are ids": (
        lambda: {"users_B": torch.tensor([196]), "items_BL": torch.zeros(1, 2), "labels_BL": torch.zeros(1, 2)},
        r"users_B must be rows in \[0, 60\), got 196 to 196",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_batches_that_are_refused(parts, tmp_path, case):
    make, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        trainer(tmp_path).fit(GMF(**SMALL).lightning_module(parts[0]), DataLoader([make()], batch_size=None))


def test_what_does_not_go_together(parts, tmp_path):
    train, validation = parts
    with pytest.raises(ValueError, match="has not been fitted"):
        GMF(**SMALL).lightning_module()
    with pytest.raises(ValueError, match="has not been fitted"):
        GMF(**SMALL).train_dataloader(train)
    with pytest.raises(ValueError, match="metric must be one of"):
        GMF(**SMALL).lightning_module(train, metric="ndgc@10")
    model = GMF(**SMALL)
    module = model.lightning_module(train)
    with pytest.raises(ValueError, match="must be over the rows of"):
        model.train_dataloader(Interactions([0], [0]))
    with pytest.raises(ValueError, match="validation must be over the rows of train"):
        model.val_dataloader(Interactions([0], [0]))
    with pytest.raises(ValueError, match="validation must hold a relevant item"):
        model.val_dataloader(validation.select(np.zeros(0, int)))
    with pytest.raises(ValueError, match="fit\\(train\\) streams Shards"):
        model.train_dataloader(write_shards(train, tmp_path / "shards"))
    with pytest.raises(ValueError, match="trainer must be TrainerOptions"):
        model.fit(train, trainer=trainer(tmp_path))
    with pytest.raises(ValueError, match="schedule='cosine' .* needs an end"):
        other = GMF(**SMALL | {"schedule": "cosine"})
        trainer(tmp_path, max_epochs=-1).fit(other.lightning_module(train), other.train_dataloader(train))

    best = ModelCheckpoint(tmp_path / "kept")
    trainer(tmp_path, best, max_epochs=1).fit(module, model.train_dataloader(train))
    for other, words in (
        (GMF(**SMALL | {"embedding_size": 8}), "embedding_size was '?4'?, is '?8'?"),
        (NeuMF(**SMALL), "model was GMF, is NeuMF"),
    ):
        other.lightning_module(train)
        with pytest.raises(ValueError, match=f"the checkpoint belongs to another model: .*{words}"):
            RecommenderModule.load_from_checkpoint(best.best_model_path, model=other)
    fewer = GMF(**SMALL)
    fewer.lightning_module(train.select(np.arange(400)))
    with pytest.raises(ValueError, match="data was"):
        RecommenderModule.load_from_checkpoint(best.best_model_path, model=fewer)
