"""Training with embedding tables that are divided among processes (`trainer.shard_tables`): checks before, whole tables after."""

from __future__ import annotations

from torch import nn

from recsys_dl.networks.sharded import Sharding, sharded_tables
from recsys_dl.processes import current
from recsys_dl.training.options import WITHOUT_TABLES, TrainerOptions

from .mapped_tables import mapped_rows
from .network_model import NetworkModel


def asked_sharding(model: NetworkModel, options: TrainerOptions) -> Sharding | None:
    """Return which rows of its tables this process is to hold; None if all.

    Raises:
        ValueError: the model's tables cannot be divided, or not here.
    """
    if not options.shard_tables:
        return None
    if not model.shards_tables:
        raise ValueError(f"{WITHOUT_TABLES} for {type(model).__name__}")
    if model.torch_device.type != "cpu":
        raise ValueError(
            f"trainer.shard_tables=true divides tables among processes on CPUs, but the device is {model.torch_device.type}; set device=cpu, "
            "or trainer.shard_tables=false"
        )
    group = current()
    if group.size != options.world_size:
        raise ValueError(
            f"trainer.shard_tables=true needs its {options.world_size} processes before the network is built, but "
            f"{group.size} {'is' if group.size == 1 else 'are'} connected; use the command, or start the script by torchrun or srun and fit "
            "within `with recsys_dl.processes.together():`"
        )
    return Sharding(group.rank, group.size)


def check_rows(network: nn.Module) -> None:
    """Check that each process gets rows of each divided table.

    Raises:
        ValueError: more processes than rows.
    """
    for table in sharded_tables(network).values():
        if table.sharding.size > table.num_rows:
            raise ValueError(
                f"trainer.shard_tables=true gives each process at least a row of each table, but {table.sharding.size} processes are more "
                f"than the {table.num_rows} rows of a table; take fewer"
            )


def assemble(model: NetworkModel) -> None:
    """Replace divided tables, after training, by whole ones that are mapped from files, of which memory holds what is used."""
    if model.sharding is None:
        return
    for name, table in sharded_tables(model.network).items():
        weights = mapped_rows(table.num_rows, table.weight.shape[1], table.sharding, table.held)
        home, _, own = name.removesuffix(".weight").rpartition(".")
        whole = nn.Embedding.from_pretrained(weights, freeze=False, sparse=table.sparse)
        setattr(model.network.get_submodule(home), own, whole)
    model.network.eval()
    model.sharding, model.mapped = None, True
