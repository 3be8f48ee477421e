"""What a value seems to mean that is none: several values, a number with commas, a misspelled or unfinished range."""

from __future__ import annotations

import re
from collections.abc import Callable

from recsys_dl.names import nearest

SEVERAL = "one command is one run: for a table of several models recsys-dl compare 'models=[als,bpr]', for every combination of values recsys-dl train -m"
OF_VERBS = {  # what is said in place of SEVERAL by verbs that do not train the models of conf/model
    "simulate": "a table has one value of each, but may compare policies, worlds and their settings: recsys-dl simulate -m policy=thompson,ucb1; seeds is how "
    "many, beginning with seed: seed=7 seeds=2 are 7 and 8",
    **dict.fromkeys(("train", "sweep", "compare", "tune", "plan"), SEVERAL),
}
OF_SWEEP = "several values of a sweep are written 1,2,3 or range(1,4), without an empty place"
RANGES = ("range", "choice", "interval", "tag", "glob", "shuffle", "sort")


def several_of(typed: str, fits: Callable[[str], bool]) -> str:
    """Return advice for a value that was refused, beginning with its sign, or "".

    Args:
        typed: the value.
        fits: whether a single value would do.
    """
    if re.fullmatch(r"[+-]?\d{1,3}(,\d{3})*,0\d\d(,\d{3})*", typed) and fits(typed.replace(",", "")):
        return f"; a number is written without commas: {typed.replace(',', '')}"
    if call := re.fullmatch(r"(\w+)\((.*?)\)?", typed):
        name = nearest(call[1], RANGES)
        meant = f"{name}({call[2]})"
        return "" if name is None else f" (did you mean {meant}?)" if meant != typed else f"; {SEVERAL}"
    values = [one.strip() for one in typed.strip("[]").split(",")]
    given = [one for one in values if one]
    return f"; {SEVERAL}" if len(values) > 1 and given and all(map(fits, given)) else ""


def for_verb(verb: str, message: str) -> str:
    """Return a message with what a verb says to someone who has given several values."""
    return message.replace(SEVERAL, OF_VERBS.get(verb, "one command is one run"))


def in_a_sweep(message: str) -> str:
    """Return a message with what is said to someone who has asked for several runs."""
    return message.replace(SEVERAL, OF_SWEEP)
