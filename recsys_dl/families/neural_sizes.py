"""What the training of a neural model takes: its own network, built without memory, says how many weights there are.

U users, I items, N interactions, E columns of a table, B examples of a step, L items of an example, C columns of the softmax.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from recsys_dl.sizes import LogSize, Part, Sizes, Work
from recsys_dl.training.batches import FEWEST_STEPS

FLOAT = 4.0  # bytes
AGAIN = 3  # values of the forward pass, their gradients, and a temporary
FORWARD_AND_BACKWARD = 6  # floating-point operations per weight and example: one product forward, two backward


@dataclass(frozen=True)
class Weights:
    """Numbers of weights: of each user's row and each item's, and of everything else."""

    user: int
    item: int
    dense: int
    units: int  # outputs of all linear maps
    state: int  # of an item in a network over pairs

    def tables(self, log: LogSize) -> float:
        """Return the number of weights in tables of a row per user or item."""
        return float(self.user) * log.num_users + float(self.item) * log.num_items


@dataclass(frozen=True)
class Step:
    """What a model's steps take.

    Attributes:
        examples: per epoch.
        activations: bytes of a whole batch, over all processes.
        rows: weights in the rows of tables that a batch uses.
        work: of an epoch, except updating weights.
        parts: of memory, besides weights, optimizer and activations.
    """

    examples: float
    activations: float
    rows: float
    work: list[Work]
    parts: list[Part]
    vector_size: int | None


def batch_of(model: Any, examples: float) -> float:
    """Return the number of examples of a step, as in `Batches`."""
    return max(1.0, min(model.batch_size, examples / FEWEST_STEPS))


def weights_of(model: Any) -> Weights:
    """Return the numbers of weights of a model that has not been fitted."""

    def built(num_users: int, num_items: int) -> nn.Module:
        twin = copy.copy(model)
        twin.num_users, twin.num_items = num_users, num_items
        twin._imagine()
        with torch.device("meta"):  # allocates nothing
            return twin._build()

    def count(network: nn.Module) -> int:
        return sum(weights.numel() for weights in network.parameters())

    both = built(2, 2)
    user, item = count(built(3, 2)) - count(both), count(built(2, 3)) - count(both)
    units = sum(layer.out_features for layer in both.modules() if isinstance(layer, nn.Linear))
    return Weights(user, item, count(both) - 2 * user - 2 * item, units, sum(getattr(both, "widths", ())))


def network_sizes(model: Any, log: LogSize, weights: Weights, step: Step) -> Sizes:
    """Return the sizes of a model from those of its steps."""
    by_rows = model.optimizer == "row_adam"
    moments = {"adam": 2, "row_adam": 1, "sgd": 1}[model.optimizer]
    steps = max(1, round(step.examples / batch_of(model, step.examples)))
    users, items = FLOAT * weights.user * log.num_users, FLOAT * weights.item * log.num_items
    dense, tables = FLOAT * weights.dense, FLOAT * weights.tables(log)
    gradients = FLOAT * min(step.rows, weights.tables(log)) if by_rows else tables
    scalars = 2 * FLOAT * (bool(weights.user) * log.num_users + bool(weights.item) * log.num_items) if by_rows else 0.0
    parts = [
        Part("tables", "rows of users", users, "users", saved=True, resumed=True),
        Part("tables", "rows of items", items, "items", saved=True, resumed=True),
        Part("tables", "layers", dense, saved=True, resumed=True),
        Part("gradients", "rows of a batch and layers" if by_rows else "all weights", gradients + dense, "items"),
        Part("optimizer", model.optimizer, moments * (tables + dense) + scalars, "items", resumed=True),
        Part(
            "activations",
            f"a batch of {batch_of(model, step.examples):,.0f}",
            step.activations,
            divided=True,
            when="epoch",
        ),
        *step.parts,
    ]
    updated = steps * (weights.dense + (min(step.rows, weights.tables(log)) if by_rows else weights.tables(log)))
    whole = Sizes(
        parts,
        work=[*step.work, Work("weights", 12.0 * updated, 4 * FLOAT * (moments + 1) * updated)],
        steps=steps,
        epochs=model.epochs,
        reduced=dense if by_rows else tables + dense,
        gathered=gradients if by_rows else 0.0,
        vector_size=step.vector_size,
    )
    return replace(whole, sharded=_sharded(whole, dense, tables, step)) if model.shards_tables else whole


def _sharded(whole: Sizes, dense: float, tables: float, step: Step) -> Sizes:
    """Return the sizes with tables divided: a step fetches the rows of its batch, and returns their gradients."""

    def divided(part: Part) -> Part:
        if part.kind in ("tables", "gradients", "optimizer") and part.by is not None:
            return replace(part, divided=True)
        return replace(part, when="file") if part.kind == "serving" else part

    parts = [*map(divided, whole.parts), Part("serving", "whole tables", tables, "users", when="file")]
    return replace(whole, parts=parts, reduced=dense, gathered=0.0, fetched=2 * FLOAT * step.rows)


def pair_step(model: Any, log: LogSize, weights: Weights) -> Step:
    """Return what a step of a `PairModel` takes."""
    num, length = float(log.num_interactions), 1 + model.num_negatives
    batch = batch_of(model, num)
    pairs, hidden = batch * length, weights.units
    each_item = model.optimizer != "row_adam" and pairs >= log.num_items  # then each item's state is computed once
    per_pair = weights.state + hidden + (0 if each_item else weights.item)
    activations = (
        AGAIN * FLOAT * (pairs * per_pair + (log.num_items * (weights.state + weights.item) if each_item else 0))
    )
    state = FLOAT * weights.state
    return Step(
        examples=num,
        activations=activations,
        rows=batch * weights.user + pairs * weights.item,
        work=[
            Work(
                "pairs",
                FORWARD_AND_BACKWARD * num * length * (weights.dense + weights.item),
                24 * num * length * per_pair,
            )
        ],
        parts=[
            Part("interactions", "by user", 8.0 * num + 12 * log.num_users, "interactions", saved=True),
            Part("interactions", "pairs and their order", 32.0 * num, "interactions", when="epoch"),
            Part("serving", "states of users", 2 * state * log.num_users, "users", when="end"),
            Part("serving", "states of items", 2 * state * log.num_items, "items", when="end"),
        ],
        vector_size=model.embedding_size if type(model).has_vectors() else None,
    )


def tower_step(model: Any, log: LogSize, weights: Weights, examples: float, users: float, targets: float) -> Step:
    """Return what a step of a `TowerModel` takes; per example `users` user vectors, and `targets` targets of each."""
    num, size = float(log.num_interactions), model.embedding_size
    history = min(model.history_size, log.history)
    batch = batch_of(model, examples)
    vectors = batch * users
    full = model.softmax == "full"
    chosen = {"full": float(log.num_items), "sampled": float(model.num_negatives), "in_batch": vectors * targets}
    columns = chosen[model.softmax] + (0 if full else targets)
    encoded = min(float(log.num_items), chosen[model.softmax] + batch * (history + targets))
    encoded = float(log.num_items) if full else encoded
    activations = (
        vectors * columns * (12 if full else 28)  # scores, their softmax and gradient; else also labels and masks
        + AGAIN * FLOAT * size * encoded
        + AGAIN * FLOAT * vectors * (weights.units + 4 * size)
        + 8.0 * batch * (history + targets)
    )
    vector = FLOAT * size
    return Step(
        examples=examples,
        activations=activations,
        rows=encoded * weights.item,
        work=[
            Work("scores", FORWARD_AND_BACKWARD * examples * users * columns * size, 24 * examples * users * columns),
            Work(
                "towers",
                FORWARD_AND_BACKWARD * examples * users * (weights.dense + 2 * history * size),
                24 * examples * users * (weights.units + history * size),
            ),
        ],
        parts=[
            Part("interactions", "by user", 8.0 * num + 4 * log.num_users, "interactions", saved=True),
            Part(
                "interactions",
                "newest items of users",
                4.0 * min(num, model.history_size * log.num_users),
                "users",
                saved=True,
            ),
            Part("interactions", "histories and their order", 44.0 * num, "interactions", when="epoch"),
            Part("serving", "user_emb_UD", 2 * vector * log.num_users, "users", when="end"),
            Part("serving", "item_emb_ID", 2 * vector * log.num_items, "items", when="end"),
        ],
        vector_size=size,
    )
