"""Growing fitted networks by new users and items, and fine-tuning them on a new log.

U users, I items, X rows of a table, D its columns, N new interactions, P pairs of the old log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from recsys_dl.data.dataset import Dataset, as_interactions
from recsys_dl.data.interactions import Interactions
from recsys_dl.training.batches import mixed

from .network_model import NetworkModel

TABLES = {
    "user_emb.weight": "user",
    "item_emb.weight": "item",
}  # names of the embedding tables in networks


def grow(model: NetworkModel, new: Dataset | Interactions, *, learn: bool) -> tuple[Interactions, Interactions]:
    """Add rows to a model for the new users and items of `new`; trained rows are kept bit for bit.

    Args:
        model: fitted; modified in place.
        new: matched by id, or rows; see `CatalogModel._aligned`.
        learn: whether the new interactions become part of the model's training log.

    Returns:
        The old log and the new one, both in the model's rows.
    """
    met = {"user": model.user_counts_U > 0, "item": model.item_counts_I > 0}
    old = {name: value.clone() for name, value in model.network.state_dict().items()}
    fresh = model._aligned(new)
    past = Interactions.concat([Interactions.from_csr(model.train_UI), fresh.select(np.zeros(len(fresh), bool))])
    log = Interactions.concat([past, fresh]) if learn else past
    model._remember(log)
    model.train_UI = log.by_user
    model._take_in(new, {noun: len(met_X) for noun, met_X in met.items()})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mixed(model.seed))
        network = model._build()
    asked = {"user": fresh.user_counts_U > 0, "item": fresh.item_counts_I > 0}
    weights = {}
    for name, made in network.state_dict().items():
        weights[name] = old[name].cpu()
        for ending, noun in TABLES.items():
            if name == ending or name.endswith(f".{ending}"):
                cold_X = asked[noun].copy()
                cold_X[: len(met[noun])] &= ~met[noun]
                cold_X[len(met[noun]) :] = True
                weights[name] = made.clone()
                weights[name][: len(old[name])] = old[name]
                weights[name][torch.from_numpy(cold_X)] = model._newcomer(
                    noun, old[name].cpu()[torch.from_numpy(met[noun])]
                )
    network.load_state_dict(weights)
    model.network = network.to(model.torch_device)
    return past, fresh


def check_tuning(model: NetworkModel, new: Dataset | Interactions, freeze: Sequence[str], **numbers: Any) -> set[str]:
    """Return the names of the weights that `freeze` selects.

    Raises:
        ValueError: no interactions, nothing left to train, an unknown name, or a number out of range.
    """
    if not len(as_interactions(new)):
        raise ValueError(
            "fine_tune needs at least one new interaction, got an empty log; grow(new) adds rows without training"
        )
    epochs, learning_rate, replay = numbers["epochs"], numbers["learning_rate"], numbers["replay"]
    if isinstance(epochs, bool) or not isinstance(epochs, int | np.integer) or epochs < 0:
        raise ValueError(f"epochs must be a whole number, at least 0, got {epochs!r}")
    if learning_rate is not None and not learning_rate > 0:
        raise ValueError(f"learning_rate must be above 0, or None for that of the model, got {learning_rate}")
    if not 0 <= replay < np.inf:
        raise ValueError(f"replay must be at least 0 old interactions for each new one, got {replay}")
    if isinstance(freeze, str):
        raise ValueError(f"freeze must be a list of names, got the single {freeze!r}; write [{freeze!r}]")
    names = [name for name, _ in model.network.named_parameters()]
    frozen = {name for name in names for prefix in freeze if name == prefix or name.startswith(f"{prefix}.")}
    for prefix in freeze:
        if not any(name == prefix or name.startswith(f"{prefix}.") for name in names):
            parts = [name.removesuffix(".weight").removesuffix(".bias").split(".") for name in names]
            known = {".".join(one[:depth]) for one in parts for depth in (1, 2, 3)}
            raise ValueError(
                f"freeze must name weights of {type(model).__name__}, got {prefix!r}. There are: {', '.join(sorted(known))}"
            )
    if epochs and frozen == set(names):
        raise ValueError(f"freeze={list(freeze)} leaves nothing of {type(model).__name__} to train; freeze less")
    return frozen


@contextmanager
def only_learning(network: nn.Module, frozen: set[str]) -> Iterator[None]:
    """Freeze some weights inside the block."""
    for name, weights in network.named_parameters():
        weights.requires_grad_(name not in frozen)
    try:
        yield
    finally:
        network.requires_grad_(True)


@contextmanager
def unchanged_on_error(model: NetworkModel) -> Iterator[None]:
    """Restore a model if the block fails; the block must replace the model's attributes, not modify them in place."""
    before = dict(vars(model))
    try:
        yield
    except BaseException:
        vars(model).clear()
        vars(model).update(before)
        raise


def replayed(past: Interactions, num_new: int, replay: float, seed: int) -> Interactions:
    """Return `replay` times as many old interactions as there are new ones, at most all, drawn without replacement."""
    num = min(len(past), round(replay * num_new))
    rng = np.random.default_rng(mixed(seed, 5))
    return past.select(np.sort(rng.choice(len(past), num, replace=False)))
