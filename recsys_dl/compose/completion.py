"""Tab completion: scripts for bash, zsh and fish, and the candidates they request. No slow imports."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .options import VERBS, groups, groups_of, options, settings_of, text_of

SCRIPTS = {
    "bash": r"""# recsys-dl completion bash >> ~/.bashrc
_recsys_dl() {
    local line="${COMP_LINE:0:COMP_POINT}" words current prefix
    read -ra words <<< "$line"
    [[ "$line" == *" " ]] && words+=("")
    current="${words[-1]}"
    mapfile -t COMPREPLY < <(recsys-dl completion words "${words[@]:1}" 2>/dev/null)
    if [[ "$current" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        prefix="${current%"${current##*=}"}"
        COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
    fi
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" == *[=.] ]] && compopt -o nospace
}
complete -o default -F _recsys_dl recsys-dl""",
    "zsh": r"""# recsys-dl completion zsh >> ~/.zshrc   (after compinit)
_recsys_dl() {
    local -a found open
    found=("${(@f)$(recsys-dl completion words "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    open=(${(M)found:#*[=.]})
    found=(${found:#*[=.]})
    (( $#open )) && compadd -S '' -- $open
    (( $#found )) && compadd -- $found
    (( $#open + $#found )) || { compset -P '*='; _files }
}
compdef _recsys_dl recsys-dl""",
    "fish": r"""# recsys-dl completion fish > ~/.config/fish/completions/recsys-dl.fish
complete -c recsys-dl -f -a '(recsys-dl completion words (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
complete -c recsys-dl -n 'string match -qr "(path|output|run|features)=" -- (commandline -ct)' -F""",
}
RUNS = Path("runs")


def completion(words: Sequence[str]) -> str:
    """Return a shell's script, or after `words` the candidates for the last of the following words.

    Raises:
        ValueError: an unsupported shell.
    """
    if words[:1] == ["words"]:
        return "\n".join(candidates(words[1:]))
    if len(words) != 1 or words[0] not in SCRIPTS:
        raise ValueError(f'completion takes one of {", ".join(SCRIPTS)}, such as: eval "$(recsys-dl completion bash)"')
    return SCRIPTS[words[0]]


def candidates(words: Sequence[str]) -> list[str]:
    """Return completions of the last word, given those before it (the verb first)."""
    verb, last = (words[0] if words else ""), (words[-1] if words else "")
    if len(words) < 2:
        return [one for one in (*VERBS, "completion") if one.startswith(last)]
    if verb == "completion":
        return [one for one in SCRIPTS if one.startswith(last)]
    if verb not in VERBS:
        return []
    key, equals, _ = last.partition("=")
    found = [f"{key}={value}" for value in _values(verb, key)] if equals else _keys(verb, words[1:-1])
    return sorted(one for one in found if one.startswith(last))


def _values(verb: str, key: str) -> list[str]:
    """Return the options of a group, the existing runs, or the choices of a setting."""
    from typing import Literal, get_args, get_origin

    from .settings import SETTINGS

    if key.partition("@")[0].lstrip("+") in groups():
        return options(key.partition("@")[0].lstrip("+"))
    if key == "run" and verb not in ("train", "compare"):
        return [str(folder) for folder in sorted(RUNS.iterdir())] if RUNS.is_dir() else []
    annotation = SETTINGS[verb].get(key)
    choices = [one for one in (annotation, *get_args(annotation)) if get_origin(one) is Literal]
    if choices:
        return list(map(str, get_args(choices[0])))
    return ["true", "false"] if annotation is bool else []


def _keys(verb: str, before: Sequence[str]) -> list[str]:
    """Return groups, the verb's own settings, and those of the chosen options."""
    text = text_of(verb)
    chosen = dict(re.findall(r"^  - ([\w/]+): (\S+)", text, re.MULTILINE))
    chosen |= {word.partition("=")[0]: word.partition("=")[2] for word in before if word.partition("=")[0] in chosen}
    found = [f"{group}=" for group in groups_of(verb)]
    for name in settings_of(verb):
        inner = re.findall(rf"^{name}:[^\n]*\n((?:  .*\n?)+)", text, re.MULTILINE)
        within = re.findall(r"^  (\w+):", inner[0], re.MULTILINE) if inner else []
        found += [f"{name}.{one}=" for one in within] or [f"{name}="]
    for group, option in chosen.items():
        if option in options(group) and not (group == "model" and chosen.get("pipeline", "null") != "null"):
            body = text_of(f"{group}/{option}").partition("_target_:")[2]
            found += [f"{group}.{name}=" for name in re.findall(r"^([a-z]\w*):", body, re.MULTILINE)]
    return found
