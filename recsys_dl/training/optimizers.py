"""Optimizers by name, among them one that touches only the rows of a table that a batch used, and rates that change by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import Parameter

OptimizerName = Literal["adam", "row_adam", "sgd"]
Schedule = Literal["constant", "linear", "cosine"]
OPTIMIZERS: tuple[str, ...] = get_args(OptimizerName)
SCHEDULES: tuple[str, ...] = get_args(Schedule)


def make_optimizer(
    name: str, parameters: Iterable[Parameter], *, learning_rate: float, weight_decay: float, fused: bool = True
) -> torch.optim.Optimizer:
    """Return an optimizer: "adam" (AdamW: decay apart from the gradient), "row_adam" (see `RowAdam`) or "sgd" (momentum 0.9).

    Args:
        name: of these three.
        parameters: to learn.
        learning_rate: of a step.
        weight_decay: see each.
        fused: whether a step of "adam" is one kernel.

    Raises:
        ValueError: another name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    if name == "row_adam":
        return RowAdam(parameters, learning_rate=learning_rate, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def rate_at(schedule: str, warmup: float, num_steps: int) -> Callable[[int], float]:
    """Return the factor of the learning rate at each step: up from 0 during `warmup` (a share of the steps), then as named.

    "constant" stays, "linear" and "cosine" (Loshchilov and Hutter 2017) fall to 0 at the last step.

    Raises:
        ValueError: another name, or warmup outside [0, 1).
    """
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share of the steps, at least 0 and below 1, got {warmup}")
    rising = warmup * num_steps

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = min((step - rising) / max(num_steps - rising, 1), 1.0)
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[schedule]

    return factor


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) whose second moment is one number a row, and whose sparse gradients cost only their rows.

    A table of R rows with gradients of `nn.Embedding(sparse=True)` keeps D + 1 numbers a row beside the weights, and a step
    reads and writes only the rows of the batch: moments and decay of other rows wait (as "lazy" Adam; one second moment
    for a row as in the row-wise AdaGrad of Naumov et al. 2019, DLRM, section 4). Other parameters are taken row by row in full.

    Args:
        parameters: to learn.
        learning_rate: of a step.
        betas: decay of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: share of a touched row's weights taken off, times the learning rate.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": learning_rate, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step along the gradients; return what the closure, if one is given, returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._step(weights, group)
        return loss

    def _step(self, weights: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weights]
        shape = (len(weights), *([1] * (weights.dim() - 1))) if weights.dim() else ()
        if not state:
            state["steps"] = torch.zeros(shape, device=weights.device)
            state["first"] = torch.zeros_like(weights)
            state["second"] = torch.zeros(shape, device=weights.device)
        gradient = weights.grad
        assert gradient is not None
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, gradient = gradient.indices()[0], gradient.values()
        else:
            rows = slice(None)  # type: ignore[assignment]
        within = tuple(range(1, weights.dim()))
        square = gradient.square().mean(within, keepdim=True) if within else gradient.square()
        beta1, beta2 = group["betas"]
        if weights.dim() == 0:
            rows = ...  # type: ignore[assignment]
        state["steps"][rows] += 1
        first = torch.lerp(state["first"][rows], gradient, 1 - beta1)
        second = torch.lerp(state["second"][rows], square, 1 - beta2)
        state["first"][rows], state["second"][rows] = first, second
        steps = state["steps"][rows]
        root = (second / (1 - beta2**steps)).sqrt() + group["eps"]
        kept = 1 - group["lr"] * group["weight_decay"]
        weights[rows] = kept * weights[rows] - group["lr"] * first / (1 - beta1**steps) / root
