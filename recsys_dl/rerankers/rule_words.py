"""Parsing rules from YAML, and validating them as far as possible without data."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

KINDS = {
    "allow": {"allow"},
    "deny": {"deny"},
    "at_most": {"at_most", "per", "of", "within"},
    "at_least": {"at_least", "of", "within"},
    "pin": {"pin", "at"},
}
WORDS = sorted(set().union(*KINDS.values()) | {"name"})
SEEN = "already_had"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: used in answers and messages.
        kind: allow, deny, at_most, at_least or pin.
        condition: of allow, deny, at_most and at_least: the items it applies to; None with `per`, and for already_had.
        per: of at_most: the column whose values are each limited.
        number: of at_most and at_least: items; of a pin: its position, from 1.
        within: of at_most and at_least: only the top positions; None for all.
        item_id: of a pin.
    """

    name: str
    kind: str
    condition: Mapping[str, Any] | None = None
    per: str | None = None
    number: int = 0
    within: int | None = None
    item_id: str = ""

    @property
    def forbids_seen(self) -> bool:
        """Whether it removes items the user already interacted with."""
        return self.kind == "deny" and self.condition is None

    def __str__(self) -> str:
        what = {"allow": "allow", "deny": "deny"}.get(self.kind, "")
        if self.kind == "pin":
            what = f"item {self.item_id} at {self.number}"
        elif self.number or self.kind in ("at_most", "at_least"):
            what = f"{self.kind.replace('_', ' ')} {self.number}{f' per {self.per}' if self.per else ''}"
            what += f" within {self.within}" if self.within else ""
        return f"{self.name!r} ({what})"


def read_rules(given: Sequence[Mapping[str, Any]]) -> list[Rule]:
    """Parse rules, in order.

    Raises:
        ValueError: a rule without a unique name, an unknown word, an invalid number, or
            rules that always contradict each other: two items pinned to the same position, an item pinned twice.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ValueError(f"rules must be a list with one mapping per rule, got {given!r}")
    rules = [_read(number, words) for number, words in enumerate(given, 1)]
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"rules must have distinct names, got {name!r} twice")
    if sum(rule.kind == "at_least" for rule in rules) > 32 or sum(rule.kind == "at_most" for rule in rules) > 32:
        raise ValueError("there may be at most 32 at_least rules, and 32 at_most rules")
    pins = [rule for rule in rules if rule.kind == "pin"]
    for n, pin in enumerate(pins):
        for other in pins[:n]:
            if other.number == pin.number:
                raise ValueError(f"rules {other} and {pin} put two items at the same position; move one of them")
            if other.item_id == pin.item_id:
                raise ValueError(f"rules {other} and {pin} put one item at two positions; remove one of them")
    return rules


def gathered(given: Sequence[Mapping[str, Any] | str]) -> Any:
    """Return rules with file paths replaced by the rules in those files.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not a list of rules in YAML.
    """
    if not isinstance(given, Sequence) or isinstance(given, str):
        return given
    rules: list[Any] = []
    for words in given:
        rules += _rules_of(Path(words)) if isinstance(words, str) else [words]
    return rules


def _rules_of(file: Path) -> list[Any]:
    if not file.is_file():
        raise FileNotFoundError(f"rules must be mappings, or paths of YAML files with them, but {file} does not exist")
    try:
        rules = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be YAML: {error}") from error
    if isinstance(rules, Mapping) and set(rules) == {"rules"}:
        rules = rules["rules"]
    if not isinstance(rules, list) or not all(isinstance(words, Mapping) for words in rules):
        raise ValueError(f"{file} must hold a list of rules, one mapping per rule, got {type(rules).__name__}")
    return rules


def _read(number: int, words: Mapping[str, Any]) -> Rule:
    if not isinstance(words, Mapping) or not isinstance(words.get("name"), str) or not words["name"]:
        raise ValueError(f"rule {number} must be a mapping with a name, got {words!r}")
    name = words["name"]
    kinds = [kind for kind in KINDS if kind in words]
    if len(kinds) != 1:
        unknown = [word for word in words if word not in WORDS]
        close = difflib.get_close_matches(str(unknown[0]), WORDS, n=1) if unknown else []
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"rule {name!r} must have one of {', '.join(KINDS)}, got {', '.join(map(str, words))}{hint}")
    kind = kinds[0]
    for word in words:
        if word not in KINDS[kind] | {"name"}:
            known = sorted(KINDS[kind] - {kind})
            raise ValueError(
                f"rule {name!r}: {kind} can be combined with {', '.join(known) or 'nothing else'}, got {word!r}"
            )
    if kind in ("allow", "deny"):
        condition = words[kind]
        if kind == "deny" and condition == SEEN:
            return Rule(name, kind)
        _check_condition(name, kind, condition)
        return Rule(name, kind, condition)
    if kind == "pin":
        place = _count(name, "at", words.get("at"), 1)
        item = words["pin"]
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise ValueError(f"rule {name!r}: pin must be an item id, got {item!r}")
        return Rule(name, kind, number=place, item_id=str(item))
    most = _count(name, kind, words[kind], 0 if kind == "at_most" else 1)
    within = None if words.get("within") is None else _count(name, "within", words["within"], 1)
    if kind == "at_least" and within is not None and most > within:
        raise ValueError(f"rule {name!r}: at least {most} items do not fit within {within} positions")
    if (words.get("per") is None) == (words.get("of") is None):
        raise ValueError(f"rule {name!r}: {kind} needs {'one of per and of' if kind == 'at_most' else 'of'}")
    if words.get("per") is not None:
        if not isinstance(words["per"], str):
            raise ValueError(f"rule {name!r}: per must be an item column, got {words['per']!r}")
        return Rule(name, kind, per=words["per"], number=most, within=within)
    _check_condition(name, "of", words["of"])
    return Rule(name, kind, words["of"], number=most, within=within)


def _check_condition(name: str, word: str, condition: Any) -> None:
    if not isinstance(condition, Mapping) or not condition:
        seen = f", or {SEEN}" if word == "deny" else ""
        raise ValueError(
            f"rule {name!r}: {word} must be a condition such as {{genres: [Horror]}}{seen}, got {condition!r}"
        )


def _count(name: str, word: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"rule {name!r}: {word} must be an integer of at least {least}, got {value!r}")
    return value
