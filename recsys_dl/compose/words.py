"""One word of the command line, `key=value`: parsing it, and translating it to Hydra's grammar.

Hydra's grammar gives special meaning to `=`, `,`, `#`, parentheses and more, and rejects others. A
value that it cannot parse is text; so are ids, whatever they look like.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys_dl.names import near

from .options import groups_of, options
from .several import SEVERAL

SEARCHPATH = "hydra.searchpath"  # folders of a caller's own options
FLAGS = {  # of Hydra's own command lines and of other tools
    **dict.fromkeys(("-m", "--multirun"), SEVERAL),
    **dict.fromkeys(
        ("-c", "--cfg", "-i", "--info", "-p", "--package", "--resolve", "--hydra-help"),
        "recsys-dl VERB --help prints the settings and what each means",
    ),
    **dict.fromkeys(
        ("-cd", "--config-dir", "-cp", "--config-path", "-cn", "--config-name", "--config"),
        "put your own config as an option into a folder of yours: 'hydra.searchpath=[file:///home/me/conf]' model=mine",
    ),
}
HYDRA = {"hydra.run": "the output folder is set with run=…", "hydra.job": "the output folder is set with run=…"}
OF_FILES = {"ope": "log", "rank": "data.train"}  # the setting of a file, of verbs without a choice of data
FIELD = re.compile(r"""\s*(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|([^,]*?))\s*(?:,|$)""", re.DOTALL)


@dataclass(frozen=True)
class Word:
    """A setting as it was typed.

    Attributes:
        text: the whole.
        sign: "", or Hydra's + (add), ++ (add or set), ~ (leave out).
        key: dotted, or a group, or group@place.
        value: as typed; None where there is no "=".
    """

    text: str
    sign: str
    key: str
    value: str | None

    @property
    def group(self) -> str:
        """The part of the key before the place."""
        return self.key.partition("@")[0]

    def for_hydra(self, value: str) -> str:
        """Return the word with a value in Hydra's syntax."""
        return f"{self.sign}{self.key}={value}"


def read_words(overrides: Sequence[str], verb: str) -> list[Word]:
    """Return the words of a command line after its verb.

    Raises:
        ValueError: one that is not written key=value, is given twice, or has no effect.
    """
    words: list[Word] = []
    for at, text in enumerate(overrides):
        word = _read(text, overrides[at + 1 : at + 3], verb)
        if twin := next((one for one in words if one.key == word.key), None):
            raise ValueError(f"{word.key} is given twice, as {_cut(twin.text)} and as {_cut(text)}; leave one out")
        words.append(word)
    return words


def hydra_value(word: Word, *, ids: bool, listed: bool, text: bool) -> str:
    """Return a word's value in Hydra's syntax.

    Args:
        word: with a value.
        ids: whether it holds ids, which are kept as typed.
        listed: whether a list is expected, so that `a,b` is one.
        text: whether text is expected, which is kept as typed.
    """
    typed = word.value or ""
    if ids:
        return _told_ids(typed)
    found = parsed(word.for_hydra(typed))
    if found is None:
        if listed and "," in typed and typed[:1] not in "[{'\"":
            return f"[{','.join(_quoted(one.strip()) for one in typed.split(','))}]"
        return _quoted(typed)
    if found.is_sweep_override():
        return f"[{typed}]" if listed and parsed(word.for_hydra(f"[{typed}]")) is not None else _quoted(typed)
    if text and not isinstance(found._value, str) and typed != "null" and typed[:1] not in "[{'\"":
        return _quoted(typed)
    return typed


def _read(text: str, following: Sequence[str], verb: str) -> Word:
    flag, equals, value = text.partition("=")
    if text.startswith("-"):
        if flag in FLAGS:
            raise ValueError(f"there is no {flag}; {FLAGS[flag]}")
        name = flag.lstrip("-").replace("-", "_")
        meant = value if equals else next((one for one in following if not one.startswith("-") and "=" not in one), "…")
        raise ValueError(f"settings are written key=value, without dashes: {name}={meant}, got {_cut(text)!r}")
    if "=" not in text and text[:1] not in "~+" and (hint := _bare(text, verb)):
        raise ValueError(f"a setting must be written key=value, got {_cut(text)!r}: {hint}")
    match = re.match(r"^([~+]*)([\w./@-]+)(?:=(.*))?$", text, re.DOTALL)
    if not match or (match[3] is None and not match[1].startswith("~")):
        after = following[0] if following else ""
        if match and after.startswith("="):
            after = after[1:] or "".join(following[1:2]) or "…"
        hint = f": {match[2]}={after}" if match and after and "=" not in after and not after.startswith("-") else ""
        raise ValueError(f"a setting must be written key=value, without spaces around the =, got {_cut(text)!r}{hint}")
    word = Word(text, match[1], match[2], match[3])
    if word.sign not in ("", "+", "++", "~"):
        raise ValueError(
            f"a setting starts with nothing, + (add), ++ (add or set) or ~ (leave out), got {_cut(text)!r}"
        )
    if word.key.partition(".")[0] == "hydra" and word.key != SEARCHPATH:
        advice = next((advice for key, advice in HYDRA.items() if f"{word.key}.".startswith(f"{key}.")), None)
        raise ValueError(
            f"{word.key} would have no effect{near(word.key, [SEARCHPATH])}; {advice or f'of Hydra itself only {SEARCHPATH} is supported'}"
        )
    return word


def _bare(text: str, verb: str) -> str:
    """Return the verb's setting for a bare word: a file, or the name of an option such as a model."""
    chosen = groups_of(verb)
    if Path(text).expanduser().is_file() and (
        key := OF_FILES.get(verb, "data=log data.path" if "data" in chosen else None)
    ):
        return f"to read your own file, set {key}={text}"
    first = sorted(chosen, key=lambda group: group not in ("model", "pipeline", "data"))
    return next((f"{group}={text}" for group in first if text in options(group)), "")


def parsed(text: str) -> Any:
    """Return Hydra's reading of a word; None if it cannot be parsed."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        return None


def _quoted(text: str) -> str:
    """Return text in Hydra's quotes."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + r"\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"'{escaped}{chr(92) * trailing}'"


def _told_ids(typed: str) -> str:
    """Return ids in Hydra's quotes, as typed: from a list `[a, b]` or `a,b`, or a single one."""
    if typed in ("", "null"):
        return typed
    listed = typed.startswith("[") and typed.endswith("]")
    ids = _split(typed[1:-1] if listed else typed)
    if not listed and (len(ids) == 1 or Path(typed).is_file()):
        return _quoted(ids[0] if len(ids) == 1 else typed)
    return f"[{','.join(map(_quoted, ids))}]"


def _split(text: str) -> list[str]:
    """Split at commas outside quotes; strip quotes and whitespace."""
    fields: list[str] = []
    start = 0
    while start < len(text):
        match = FIELD.match(text, start)
        assert match is not None
        double, single, bare = match.groups()
        quoted = double if double is not None else single
        fields.append(bare if quoted is None else re.sub(r"\\(['\"\\])", r"\1", quoted))
        start = match.end()
    return [] if not text.strip() else fields


def _cut(text: str, length: int = 80) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
