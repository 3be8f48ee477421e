"""Words on the command line -> one checked config. Only this room, `verbs/`, `cli.py`, scripts and tests know Hydra."""

from recsys_dl.names import near

from .composing import compose, compose_command
from .options import CONF, VERBS, groups, options, options_with
from .pages import describe

__all__ = ["CONF", "VERBS", "compose", "compose_command", "describe", "groups", "near", "options", "options_with"]
