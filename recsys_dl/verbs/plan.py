"""What a training would take."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from recsys_dl.threads import limit_threads

from .beforehand import check_tables, settle_split
from .running import name_of, read_parts, trainer_of

PRETRAINED = ("gmf", "mlp")  # folders of weights to start from, which change no sizes and fit no small log
UNKNOWN = 3  # exit status
SIZES = ("num_users", "num_items", "interactions")


def plan(config: DictConfig) -> int:
    """Print what a training would take; exit status 1 if it does not fit, 3 if that is unknown."""
    limit_threads(config.threads)
    from recsys_dl.planning import calibrate, check_rows, machines, make_plan
    from recsys_dl.sizes import LogSize, StatesSizes

    trainer = trainer_of(config)
    where = machines(config.device, trainer.world_size)
    _check_sizes(config)
    if trainer.shard_tables and where.device is not None:
        raise ValueError(
            f"trainer.shard_tables=true divides tables among processes on CPUs, got device={config.device}; leave device out to plan for "
            "machines like this one, or trainer.shard_tables"
        )
    model, index = _made(config)
    check_tables(config, trainer, model)
    read, mapped = None, False
    if config.interactions is None:
        from recsys_dl.runs import StageTimer

        settle_split(config)
        split = read_parts(config, StageTimer(), expected_hash=None)
        log, read = LogSize.of(split.train.interactions), len(split.data)
        mapped = split.train.interactions.mapped and getattr(model, "bounded", False)
    else:
        log = LogSize(config.num_users, config.num_items, config.interactions)
    check_rows(log, where)
    stated = isinstance(model, StatesSizes)
    sizes = model.sizes(log) if stated else None
    if trainer.shard_tables and sizes is not None:
        sizes = sizes.sharded
    calibration = calibrate(model, log) if stated and where.device is None else None
    num_bytes = None
    if index is not None and sizes is not None and sizes.vector_size is not None:
        num_bytes = float(index.bytes_needed(log.num_items, sizes.vector_size))
    found = make_plan(
        name_of(config),
        log,
        where,
        sizes,
        calibration,
        read=read,
        mapped=mapped,
        index_bytes=num_bytes,
        best_weights=trainer.patience is not None,
    )
    print(found.text())
    return {True: 0, False: 1, None: UNKNOWN}[found.fits]


def _made(config: DictConfig) -> tuple[Any, Any]:
    """Return the model and the index, if any, not fitted; `device` names machines to plan for, not where they compute."""
    here = config.copy()
    here.device = "auto"
    for name in PRETRAINED:
        if here.model.get(name) is not None:
            here.model[name] = None
    return instantiate(here.model), None if here.get("index") is None else instantiate(here.index)


def _check_sizes(config: DictConfig) -> None:
    """Check that sizes are given together, and are possible.

    Raises:
        ValueError: they are not.
    """
    given = {name: config[name] for name in SIZES if config[name] is not None}
    if given and len(given) < len(SIZES):
        left = ", ".join(f"{name}=…" for name in SIZES if name not in given)
        raise ValueError(f"num_users, num_items and interactions are given together, or read from data; add {left}")
    if given and given["interactions"] > given["num_users"] * given["num_items"]:
        raise ValueError(
            f"interactions={given['interactions']:,} are more than the {given['num_users'] * given['num_items']:,} pairs of "
            f"{given['num_users']:,} users and {given['num_items']:,} items"
        )
