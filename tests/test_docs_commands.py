"""Every command that the README and the guides print is made of verbs, options and settings that there are."""

import re
import shlex
from pathlib import Path

import pytest

from recsys_dl.cli import with_runs
from recsys_dl.compose import compose_command
from recsys_dl.compose.grid import compose_grid, compose_several
from recsys_dl.compose.options import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OF_ANOTHER = (
    "--help",
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
                found.append((str(page.relative_to(ROOT)), command))
    return found


COMMANDS = commands()


def verb_of(command: str) -> tuple[str, list[str]]:
    """Return the verb that the command line runs, and its words."""
    verb, *words = shlex.split(command)[1:]
    if verb == "train" and "-m" in words:
        return "sweep", [word for word in words if word != "-m"]
    return ("status", words[1:]) if [verb, *words[:1]] == ["sweep", "status"] else (verb, words)


def test_there_are_commands_of_every_verb():
    assert {verb_of(command)[0] for _, command in COMMANDS} >= set(VERBS) - {"completion", "rank"}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_its_words_compose(page, command):
    verb, words = verb_of(command)
    if verb == "completion":
        return
    if verb == "sweep":
        assert compose_grid(words).trials
        return
    if verb == "simulate" and "-m" in words:
        assert compose_several(verb, [word for word in words if word != "-m"]).configs
        return
    assert compose_command(verb, with_runs(verb, words))


# what a command needs beyond `pip install .`, by what it holds -> extras that bring it; a page names them as `.[demo,cpu]` or in a list of extras
NEEDS = {
    r"\bdata=movielens_small\b": {"demo"},
    r"\b(index=|@[\w.]*index=|\w+=als index=)(hnsw|ivf|ivf_pq|flat)\b": {"cpu", "gpu"},
    r"^recsys-dl index\b": {"cpu", "gpu"},
    r"\branker(@[\w.]+)?=lambdamart\b|experiment=ltr_lambdamart": {"rank"},
}


def extras_named(page: str) -> set[str]:
    text = (ROOT / page).read_text()
    named = {extra for group in re.findall(r"(?:\.|recsys_dl)\[([\w,]+)\]", text) for extra in group.split(",")}
    for listed in re.findall(r"[Ee]xtras[^\n]*(?:\n[^\n]+)*", text):
        named |= set(re.findall(r"`(\w+)`", listed))
    return named


def test_the_rules_of_needs_are_met_by_some_command():
    assert [rule for rule in NEEDS if not any(re.search(rule, command) for _, command in COMMANDS)] == []


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_its_page_names_the_extra_that_it_needs(page, command):
    named = extras_named(page)
    for rule, extras in NEEDS.items():
        if re.search(rule, command):
            assert extras & named, f"{page} names none of the extras {sorted(extras)}, which `{command}` needs"
