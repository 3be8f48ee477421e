"""Optimizers by name, including one that updates only the rows used in a batch, and learning rate schedules."""

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
    """Return an optimizer: "adam" (AdamW: decoupled weight decay), "row_adam" (see `RowAdam`) or "sgd" (momentum 0.9).

    Args:
        name: one of these.
        parameters: to optimize.
        learning_rate: step size.
        weight_decay: see each.
        fused: whether "adam" uses a fused kernel.

    Raises:
        ValueError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {name!r}")
    if name == "row_adam":
        return RowAdam(parameters, learning_rate=learning_rate, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, momentum=0.9, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def rate_at(schedule: str, warmup: float, num_steps: int) -> Callable[[int], float]:
    """Return the learning rate factor at each step: warmup from 0 over a share `warmup` of the steps, then the schedule.

    "constant" stays at 1, "linear" and "cosine" (Loshchilov and Hutter 2017) decay to 0 at the last step.

    Raises:
        ValueError: an unknown name, or warmup outside [0, 1).
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
    """Adam (Kingma and Ba 2015) with one second moment per row, and sparse updates of only the rows with gradients.

    A table of R rows with gradients of `nn.Embedding(sparse=True)` keeps D + 1 numbers per row besides the weights, and a step
    reads and writes only the rows in the batch: moments and decay of other rows are unchanged (like "lazy" Adam; one second
    moment per row as in the row-wise AdaGrad of Naumov et al. 2019, DLRM, section 4). Other parameters are updated in full.

    Args:
        parameters: to optimize.
        learning_rate: step size.
        betas: decay of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: decoupled weight decay of updated rows, times the learning rate.
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
        """Take a gradient step; return the closure's result, if given."""
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
