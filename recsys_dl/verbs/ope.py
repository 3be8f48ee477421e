"""Value a policy on the log of another."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.names import counted
from recsys_dl.threads import limit_threads

from .running import json_file

if TYPE_CHECKING:
    from recsys_dl.readers.bandit_log import BanditLog

log = logging.getLogger(__name__)

COLUMNS = ("arm", "reward", "propensity", "position", "user")


def ope(config: DictConfig) -> None:
    """Print what a policy would have earned on a log; write the figures to a file if asked."""
    limit_threads(config.threads)
    from recsys_dl.folders import new_file
    from recsys_dl.off_policy import evaluate_policy
    from recsys_dl.readers.bandit_log import read_bandit_log

    output = json_file(config.output)
    named = {name: config[name] for name in COLUMNS}
    logged = read_bandit_log(str(config.log), contexts=list(config.contexts or ()), draws=config.draws, **named)
    policy, logged = _policy(str(config.policy), logged, config)
    found = evaluate_policy(
        logged.feedback,
        policy,
        estimators=None if config.estimators is None else list(config.estimators),
        reward_model=instantiate(config.reward_model),
        num_folds=config.folds,
        reward_range=list(config.reward_range),
        clip=config.clip,
        threshold=config.threshold,
        shrinkage=config.shrinkage,
        interval=config.interval,
        confidence=config.confidence,
        allowed_missing=config.allowed_missing,
        names=logged.arms.ids.to_list(),
        seed=config.seed,
    )
    if output is not None:
        settings: Any = OmegaConf.to_container(config, resolve=True)
        with new_file(output) as aside:
            aside.write_text(json.dumps({**found.to_dict(), "settings": settings}, indent=2) + "\n")
    columns = ", ".join(f"{role}: {name}" for role, name in logged.columns.items())
    print(f"{config.policy} on {config.log}{f' ({columns})' if columns else ''}\n")
    print(found)


def _policy(given: str, logged: BanditLog, config: DictConfig) -> tuple[Any, BanditLog]:
    """Return a saved policy, or a table of probabilities from a file of probabilities or from the shares of another log.

    The log is returned too, with the arms that only the policy has.
    """
    from recsys_dl.off_policy import policy_table
    from recsys_dl.protocols import Policy
    from recsys_dl.readers.bandit_log import read_bandit_log, read_probabilities
    from recsys_dl.saving import Saved, load_saved

    path = Path(given).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"policy={given}: there is no such file or folder; name a table of probabilities (arm, probability), the folder that a policy "
            "was saved in, or another log"
        )
    if (path / "config.yaml").is_file():
        policy = load_saved(path, Saved, noun="policy")
        if not isinstance(policy, Policy):
            raise ValueError(f"policy={given} must hold a saved policy, but holds a saved {type(policy).__name__}")
        return _for_log(policy, given, logged, str(config.log))
    found = None if path.is_dir() else read_probabilities(path, logged, arm=config.arm, position=config.position)
    if found is not None:
        table, arms = found
        return table, logged.among(arms)
    other = read_bandit_log(given, **{name: config[name] for name in COLUMNS})
    arms = logged.arms.grow(other.arms.ids.filter(~other.arms.ids.is_in(logged.arms.ids.implode())))
    return policy_table(other.among(arms).feedback), logged.among(arms)


def _for_log(policy: Any, given: str, logged: BanditLog, where: str) -> tuple[Any, BanditLog]:
    """Return a saved policy, or its table where the log has positions, and the log with the arms numbered as the policy numbers them.

    Ids that are numbers of the policy's arms are these; others are taken in their order, which is printed.

    Raises:
        ValueError: the policy has another number of arms, or looks at other contexts.
    """
    from recsys_dl.data.vocabulary import Vocabulary
    from recsys_dl.off_policy import position_table

    ids, count = logged.arms.ids.to_list(), policy.num_arms
    numbers = Vocabulary(list(map(str, range(count))), noun="arm")
    if (numbers.find(logged.arms.ids) >= 0).all():
        logged = logged.among(numbers)
    elif len(ids) != count:
        raise ValueError(
            f"policy={given} has {counted(count, 'arm')}, and {where} {len(ids):,}, such as {ids[0]!r}: a policy knows its arms by "
            f"number, so the log must name them 0 to {count - 1}, or show all of them"
        )
    else:
        order = ", ".join(f"{number} is {one!r}" for number, one in enumerate(ids[:5]))
        log.warning(
            "policy=%s knows its arms by number; those of the log are taken in order: %s%s",
            given,
            order,
            ", …" * (count > 5),
        )
    size = getattr(policy, "context_size", 0)
    if size and size != len(logged.contexts):
        held = f"{len(logged.contexts)}: {', '.join(logged.contexts)}" if logged.contexts else "none"
        raise ValueError(
            f"policy={given} looks at contexts of {counted(size, 'number')}, and contexts=… has {held}; name the columns it was started with"
        )
    if logged.feedback.positions_R is not None and logged.feedback.positions_R.any() and not size:
        return position_table(policy, int(logged.feedback.positions_R.max()) + 1), logged
    return policy, logged
