"""Composing command-line words into one validated config. Only this package, `verbs/`, `cli.py`, scripts and tests know Hydra."""

from recsys_dl.names import near

from .composing import compose, compose_command
from .options import CONF, VERBS, groups, options, options_with
from .pages import describe

__all__ = ["CONF", "VERBS", "compose", "compose_command", "describe", "groups", "near", "options", "options_with"]
