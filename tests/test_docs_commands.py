"""Every command that the README and the guides print is made of verbs, options and settings that there are."""

import re
import shlex
from pathlib import Path

import pytest

from recsys_dl.cli import OF_A_RUN
from recsys_dl.compose import compose_command
from recsys_dl.compose.options import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_ANOTHER = (
    "--help",
    "-m",
    "--multirun",
    "…",
    "...",
    "hydra.searchpath",
    "model=mine",
)  # no command, or one that is answered by advice


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^(?:    )?(?:\$ )?(recsys-dl [^\n]*)$", text, re.MULTILINE):
            command = re.sub(r"\s#\s.*$", "", re.sub(r"\s[|>]\s.*$", "", line)).strip()
            if not any(word in command for word in OF_ANOTHER):
                found.append((page.name, command))
    return found


COMMANDS = commands()


def test_there_are_commands_of_every_verb():
    assert {shlex.split(command)[1] for _, command in COMMANDS} >= set(VERBS) - {"completion", "rank"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_its_words_compose(page, command):
    verb, *words = shlex.split(command)[1:]
    if verb == "completion":
        return
    if verb in OF_A_RUN and words and "=" not in words[0]:
        words[0] = f"run={words[0]}"
    assert compose_command(verb, words)
