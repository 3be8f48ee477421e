"""What wrong or unlucky trainings are answered."""

import errno
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_training import gmf, neumf, two_tastes, weights_of

from recsys_dl.data.interactions import Interactions
from recsys_dl.training import TrainerOptions
from recsys_dl.training.scorer import DivergedError


@pytest.fixture(scope="module")
def parts() -> tuple[Interactions, Interactions]:
    return two_tastes()


def test_a_loss_that_is_no_number_says_which_batch(parts, tmp_path):
    train, _ = parts
    options = TrainerOptions(checkpoint=tmp_path, checkpoint_every=4)
    model = gmf(epochs=3)
    calls = []
    objective = model._objective

    def sick(network, batch):
        calls.append(batch)
        return objective(network, batch) * (float("nan") if len(calls) == 22 else 1.0)  # batch 5 of epoch 1

    model._objective = sick
    with pytest.raises(DivergedError, match=r"is nan at batch 5 of epoch 1.*[Ll]ower learning_rate"):
        model.fit(train, trainer=options)
    kept = torch.load(tmp_path / "newest.ckpt", weights_only=True)
    assert kept["global_step"] == 20
    well = gmf(epochs=3).fit(train, trainer=options)  # goes on from the last good one
    whole = gmf(epochs=3).fit(train)
    for name, value in weights_of(whole).items():
        assert np.array_equal(value, weights_of(well)[name])


def test_weights_that_are_no_numbers_are_never_kept_nor_returned(parts, tmp_path):
    train, _ = parts
    options = TrainerOptions(checkpoint=tmp_path, checkpoint_every=1)
    with pytest.raises(DivergedError, match="at batch [01] of epoch 0"):
        gmf(learning_rate=1e30, optimizer="sgd").fit(train, trainer=options)
    if (tmp_path / "newest.ckpt").exists():
        state = torch.load(tmp_path / "newest.ckpt", weights_only=True)["state_dict"]
        assert all(torch.isfinite(value).all() for value in state.values())
    model = gmf(epochs=1)
    objective, calls = model._objective, []

    def at_last(network, batch):
        calls.append(batch)
        nothing = network.axis_weights.sum() * 0.0
        return objective(network, batch) + (nothing.sqrt() if len(calls) == 16 else nothing)  # 0, whose slope is NaN

    model._objective = at_last
    with pytest.raises(DivergedError, match="the end of epoch 0"):
        model.fit(train)


def test_a_checkpoint_of_another_training_is_refused(parts, tmp_path):
    train, _ = parts
    options = TrainerOptions(checkpoint=tmp_path)
    gmf().fit(train, trainer=options)
    before = (tmp_path / "newest.ckpt").read_bytes()
    cases = [
        (lambda: neumf().fit(train, trainer=options), "model was 'GMF', is 'NeuMF'"),
        (lambda: gmf().fit(train.select(np.arange(200)), trainer=options), "data was"),
        (lambda: gmf(embedding_size=8).fit(train, trainer=options), "embedding_size was '4', is '8'"),
        (lambda: gmf().fit(train, trainer=replace(options, accumulate=2)), "accumulate was 1, is 2"),
    ]
    for fit, words in cases:
        with pytest.raises(ValueError, match="is a checkpoint of a different training") as caught:
            fit()
        assert words in str(caught.value)
    assert (tmp_path / "newest.ckpt").read_bytes() == before


def test_a_damaged_checkpoint_is_refused(parts, tmp_path):
    train, _ = parts
    options = TrainerOptions(checkpoint=tmp_path)
    gmf().fit(train, trainer=options)
    whole = (tmp_path / "newest.ckpt").read_bytes()
    for text in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        (tmp_path / "newest.ckpt").write_bytes(text)
        with pytest.raises(ValueError, match=r"newest\.ckpt must be a checkpoint .* remove it to start from scratch"):
            gmf().fit(train, trainer=options)


def test_a_full_disk_keeps_the_checkpoint_before(parts, tmp_path, monkeypatch):
    train, _ = parts
    options = TrainerOptions(checkpoint=tmp_path, checkpoint_every=4)
    save, calls = torch.save, []

    def full(content, file, *more, **named):
        calls.append(file)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return save(content, file, *more, **named)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"no checkpoint could be written .* [Tt]he previous one is kept"):
        gmf().fit(train, trainer=options)
    assert [file.name for file in tmp_path.iterdir()] == ["newest.ckpt"]
    assert torch.load(tmp_path / "newest.ckpt", weights_only=True)["global_step"] == 8
    monkeypatch.undo()
    whole, later = gmf().fit(train), gmf().fit(train, trainer=options)
    for name, value in weights_of(whole).items():
        assert np.array_equal(value, weights_of(later)[name])


def test_an_interrupted_training_raises(parts, tmp_path):
    train, _ = parts
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    model = gmf(epochs=50)
    objective, calls = model._objective, []

    def stopped(network, batch):
        calls.append(batch)
        if len(calls) == 20:
            raise KeyboardInterrupt
        return objective(network, batch)

    model._objective = stopped
    with pytest.raises(KeyboardInterrupt):
        model.fit(train, trainer=TrainerOptions(checkpoint=tmp_path))
    assert torch.load(tmp_path / "newest.ckpt", weights_only=True)["global_step"] == 16
    with pytest.raises(KeyboardInterrupt):  # and Ctrl-C still works afterwards
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "8"}, "precision must be one of 32-true, bf16-mixed, 16-mixed, got '8'"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1, got 0"),
        ({"accumulate": 1.5}, "accumulate must be a whole number of at least 1, got 1.5"),
        ({"patience": "abc"}, "patience must be a whole number of at least 1, got 'abc'"),
        ({"patience": True}, "patience must be a whole number of at least 1, got True"),
        ({"processes": 0}, "processes must be"),
        ({"clip_norm": 0}, "clip_norm must be a number above 0, got 0"),
        ({"clip_norm": float("nan")}, "clip_norm must be a number above 0"),
        ({"metric": "ndgc@10"}, "metric must be one of"),
        ({"metric": "ndcg"}, "with a list length, such as ndcg@10"),
        ({"metric": "ndcg@0"}, "with a list length"),
    ],
)
def test_wrong_options(options, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        TrainerOptions(**options)


def test_options_that_do_not_go_together(parts, monkeypatch):
    train, validation = parts
    with pytest.raises(ValueError, match='"16-mixed" needs a GPU'):
        gmf().fit(train, trainer=TrainerOptions(precision="16-mixed"))
    with pytest.raises(ValueError, match="sparse gradients, whose norm cannot be clipped"):
        gmf(optimizer="row_adam").fit(train, trainer=TrainerOptions(clip_norm=1.0))
    with pytest.raises(ValueError, match=r"no validation part was given"):
        gmf().fit(train, trainer=TrainerOptions(patience=2))
    with pytest.raises(ValueError, match="validation must be over the rows of train"):
        gmf().fit(train, validation=Interactions([0], [0]), trainer=TrainerOptions(patience=2))
    empty = validation.select(np.zeros(0, int))
    with pytest.raises(ValueError, match="validation must hold a relevant item"):
        gmf().fit(train, validation=empty, trainer=TrainerOptions(patience=2))
    options = TrainerOptions(processes=3)
    with pytest.raises(ValueError, match="at most the 2 GPUs of this machine, got 3"):
        options.check(optimizer="adam", device="cuda", num_gpus=2)
    with pytest.raises(ValueError, match="NCCL cannot add up"):
        options.check(optimizer="row_adam", device="cuda", num_gpus=4)
    with pytest.raises(ValueError, match='"16-mixed" cannot scale'):
        TrainerOptions(precision="16-mixed").check(optimizer="row_adam", device="cuda", num_gpus=1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="torchrun started 2 processes, but processes=3"):
        options.check(optimizer="adam", device="cpu", num_gpus=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(parts):
    with pytest.raises(RuntimeError, match=r'device="cuda" needs'):
        gmf(device="cuda").fit(parts[0])
