"""Value a policy on the log of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.threads import limit_threads

if TYPE_CHECKING:
    from recsys_dl.readers.bandit_log import BanditLog

COLUMNS = ("arm", "reward", "propensity", "position", "user")


def ope(config: DictConfig) -> None:
    """Print what a policy would have earned on a log; write the figures to a file if asked."""
    limit_threads(config.threads)
    from recsys_dl.off_policy import evaluate_policy
    from recsys_dl.readers.bandit_log import read_bandit_log

    output = None if config.output is None else Path(str(config.output)).expanduser()
    if output is not None and output.suffix != ".json":
        raise ValueError(f"output must be a .json file, got {output}")
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
        output.write_text(json.dumps({**found.to_dict(), "settings": settings}, indent=2) + "\n")
    print(
        f"{config.policy} on {config.log} ({', '.join(f'{role}: {name}' for role, name in logged.columns.items())})\n"
    )
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
        return policy, logged
    found = None if path.is_dir() else read_probabilities(path, logged, arm=config.arm, position=config.position)
    if found is not None:
        table, arms = found
        return table, logged.among(arms)
    other = read_bandit_log(given, **{name: config[name] for name in COLUMNS})
    arms = logged.arms.grow(other.arms.ids.filter(~other.arms.ids.is_in(logged.arms.ids.implode())))
    return policy_table(other.among(arms).feedback), logged.among(arms)
