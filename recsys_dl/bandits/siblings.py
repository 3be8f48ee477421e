"""Which states can be merged."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_dl.data.messages import shorten


def check_sibling(policy: Any, state: Any, name: str) -> None:
    """Raise ValueError unless a state can have begun as a copy of a policy, so that what both learned can be added."""
    if type(state) is not type(policy):
        raise ValueError(f"{name} must be a {type(policy).__name__} like this policy, got {type(state).__name__}")
    if not hasattr(state, "num_arms"):
        raise ValueError(f"{name} has not been started: it must have begun as a copy of this policy")
    for argument, value in policy.arguments().items():
        if state.arguments()[argument] != value:
            raise ValueError(
                f"{name} must have the arguments of this policy, but its {argument} is "
                f"{shorten(repr(state.arguments()[argument]))}, not {shorten(repr(value))}"
            )
    for what in ("num_arms", "context_size"):
        if getattr(state, what) != getattr(policy, what):
            raise ValueError(
                f"{name} must have the {what} of this policy, {getattr(policy, what)}, got {getattr(state, what)}; merge first, "
                "then add arms"
            )
    theirs = state.prior()
    for part, values in policy.prior().items():
        if not np.array_equal(theirs[part], values):
            raise ValueError(
                f"{name} must have the prior of this policy, but its {part} differs: merge copies of one start"
            )
    if state.num_rewards < policy.num_rewards:
        raise ValueError(
            f"{name} has learned from {state.num_rewards:,} rewards, fewer than the {policy.num_rewards:,} of this policy: it must "
            "have begun as a copy of it"
        )
