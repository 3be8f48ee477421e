"""The Lightning module that every neural model is trained through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from recsys_dl.networks.sharded import sharded_tables

from .batches import Share, mixed
from .optimizers import make_optimizer, rate_at
from .table_parts import new_parts, put_back, take_out

CLIP_EPS = 1e-6  # added to the norm, as in torch.nn.utils.clip_grad_norm_


class DivergedError(ValueError):
    """A loss or weight is NaN or infinite; the message says at which batch and what to do."""


class Scorer(pl.LightningModule):
    """A network, its objective and its optimizer.

    Training is bitwise reproducible: dropout and the like are reseeded at each step by (seed, step, process), so it does
    not matter where training was resumed.

    Args:
        network: the network to train.
        objective: (network, batch) -> loss, a mean over the batch's examples.
        optimizer: name, see `make_optimizer`.
        learning_rate, weight_decay: of the optimizer.
        schedule, warmup: of the learning rate, see `rate_at`.
        num_steps: of the whole training.
        seed: for dropout.
    """

    def __init__(
        self,
        network: nn.Module,
        objective: Callable[[nn.Module, Any], Tensor],
        *,
        optimizer: str = "adam",
        learning_rate: float,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        warmup: float = 0.0,
        num_steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.objective = objective
        self.optimizer_name, self.learning_rate, self.weight_decay = optimizer, learning_rate, weight_decay
        self.rate = rate_at(schedule, warmup, num_steps)
        self.seed = seed
        self.newest_loss = torch.zeros(())
        self.kept_in: Path | None = (
            None  # folder of checkpoints, to which each process writes its rows of divided tables
        )
        self.newest_parts: str | None = None  # name of the newest folder of these within
        divided = sharded_tables(network)
        if divided:
            self._ddp_params_and_buffers_to_ignore = [f"network.{name}" for name in divided]

    def forward(self, *inputs: Any) -> Any:
        """Return the network's output."""
        return self.network(*inputs)

    def training_step(self, share: Share, index: int) -> Tensor:
        """Return the loss of one batch.

        Raises:
            DivergedError: it is NaN or infinite.
        """
        seed = mixed(self.seed, self.trainer.current_epoch, index, self.global_rank)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed takes 3 ms, for devices that do not exist
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        loss = self.objective(self.network, share.batch)
        self.newest_loss = loss.detach()
        if share.weight != 1:
            loss = loss * share.weight
        if self.trainer.world_size > 1:  # all processes stop at the same batch, so that none waits for others
            self.newest_loss = self.trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
        if not torch.isfinite(self.newest_loss):
            raise DivergedError(_words(f"the loss must stay finite, but is {float(self.newest_loss)}", share.names))
        return loss

    def check_weights(self, where: str) -> None:
        """Check that all weights are finite.

        Raises:
            DivergedError: a weight is NaN or infinite; the message says `where`.
        """
        for name, weights in self.network.named_parameters():
            if weights.numel() and not all(
                map(torch.isfinite, weights.detach().aminmax())
            ):  # without a mask of their size
                raise DivergedError(_words(f"weights must stay finite, but some of {name} are not", where))

    def configure_optimizers(self) -> Any:
        """Return the optimizer and, where the rate changes, its schedule by step."""
        learnable = [weights for weights in self.parameters() if weights.requires_grad]
        optimizer = make_optimizer(
            self.optimizer_name,
            learnable,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            fused=self.trainer.precision
            == "32-true",  # Lightning does not clip gradients of fused optimizers in mixed precision
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients by the norm over all weights, including rows of divided tables on other processes."""
        divided = sharded_tables(self.network)
        if not divided or not gradient_clip_val:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        gradients = {
            name: weights.grad for name, weights in self.network.named_parameters() if weights.grad is not None
        }
        squares = {name: gradient.square().sum() for name, gradient in gradients.items()}
        zero = torch.zeros((), device=self.device)
        there = sum((square for name, square in squares.items() if name in divided), zero)
        here = sum((square for name, square in squares.items() if name not in divided), zero)
        norm = (here + self.trainer.strategy.reduce(there, reduce_op="sum")).sqrt()
        for gradient in gradients.values():
            gradient.mul_((gradient_clip_val / (norm + CLIP_EPS)).clamp_max(1.0))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write this process's rows of divided tables beside the checkpoint."""
        if self.kept_in is not None and sharded_tables(self.network):
            strategy = self.trainer.strategy
            name = new_parts(self.kept_in) if self.trainer.is_global_zero else ""
            self.newest_parts = checkpoint["tables"] = strategy.broadcast(name)
            take_out(checkpoint, self.network, self.kept_in / self.newest_parts)
            strategy.barrier()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read this process's rows of divided tables."""
        if "tables" in checkpoint and self.kept_in is not None:
            put_back(checkpoint, self.network, self.kept_in / checkpoint["tables"])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Return the batch unchanged: it was created on the device."""
        return batch


def _words(what: str, where: str) -> str:
    return (
        f"{what} at {where}. The last good checkpoint is kept if trainer.checkpoint is set. Lower learning_rate, set "
        "trainer.clip_norm, or look for extreme values in weights and features."
    )
