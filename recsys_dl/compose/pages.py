"""The output of `recsys-dl VERB --help`: the YAML of the verb and of the chosen options, whose comments document each setting."""

from __future__ import annotations

from collections.abc import Sequence

from .composing import composed, is_choice, searched
from .options import groups_of, options, text_of
from .words import read_words


def describe(verb: str, overrides: Sequence[str] = ()) -> str:
    """Return a verb's YAML, the options of its groups, and the YAML of the chosen ones.

    Raises:
        ValueError: an override that matches no setting.
    """
    words = read_words(overrides, verb)
    text = text_of(verb)
    chosen = groups_of(verb)
    if not chosen:
        return text.rstrip()
    _, own = searched(words)
    _, places = composed(verb, words, checked=any(not is_choice(verb, word, own) for word in words))
    table = "".join(f"  {group:<12} {', '.join(options(group, own))}\n" for group in chosen)
    parts = [text.rstrip(), f"Options, one YAML each:\n{table}".rstrip()]
    typed = [word.text for word in words if word.value is not None and word.key not in places]
    if typed:
        parts.append(f"Set here: {' '.join(typed)}")
    another = {"model": "bpr", "data": "log"}
    group = next((one for one in another if one in chosen), chosen[0])
    option = another.get(group) or next((one for one in options(group, own) if one != places.get(group)), "…")
    parts.append(f"The chosen ones (for another: recsys-dl {verb} {group}={option} --help):")
    for place, option in sorted(places.items(), key=lambda one: _order(chosen, one[0])):
        group, _, within = place.partition("@")
        if option is not None and not group.startswith("hydra"):
            held = "".join(f"\n  {line}" if line else "" for line in text_of(f"{group}/{option}", own).splitlines())
            parts.append(f"{place}={option}, whose settings are {within or group}.…{held}")
    return "\n\n".join(parts)


def _order(chosen: Sequence[str], place: str) -> tuple[int, str]:
    group, _, within = place.partition("@")
    home = within.partition(".")[0] or group
    return (chosen.index(home) if home in chosen else len(chosen), within)
