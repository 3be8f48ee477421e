""".github/workflows: they parse, and each command they run is one that there is."""

import os
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS = {file.stem: yaml.load(file.read_text(), yaml.BaseLoader) for file in FILES}  # BaseLoader: `on` stays a word
JOBS = [(name, job) for name, workflow in WORKFLOWS.items() for job in workflow["jobs"]]
COMMANDS = {"pip", "python", "ruff", "mypy", "mkdocs", "recsys-dl", "test"}


def project() -> dict:
    """Return the metadata."""
    return pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]


def test_what_there_is():
    assert set(WORKFLOWS["ci"]["jobs"]) == {"lint", "audit", "tests", "wheel", "docs"}
    assert WORKFLOWS["release"]["on"] == {"push": {"tags": ["v*"]}}
    assert WORKFLOWS["release"]["jobs"]["publish"]["permissions"] == {"id-token": "write"}


def test_the_pythons_are_those_of_the_metadata():
    said = re.findall(r"Python :: (3\.\d+)", "\n".join(project()["classifiers"]))
    assert WORKFLOWS["ci"]["jobs"]["tests"]["strategy"]["matrix"]["python"] == said
    assert project()["requires-python"] == f">={said[0]}"


@pytest.mark.parametrize(("name", "job"), JOBS)
def test_its_steps_can_run(name, job):
    steps = WORKFLOWS[name]["jobs"][job]["steps"]
    extras = project()["optional-dependencies"]
    installed: set[str] = set()
    for step in steps:
        assert set(step) & {"run", "uses"}, step
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step["uses"])
            continue
        program, *words = shlex.split(step["run"])
        for constraints in re.findall(r"-[cr] (\S+\.txt)", step["run"]):
            assert (ROOT / constraints).is_file(), step
        if program == "pip":
            installed |= set(words)
            assert set(re.findall(r"\.\[(\w+)\]", step["run"])) <= set(extras)
        elif program == "python" and words[0] == "-m":
            assert words[1] in installed or find_spec(words[1]), step
        elif program.startswith("./"):
            assert os.access(ROOT / program, os.X_OK), step
        else:
            assert program in installed or program in COMMANDS, step
            assert program in installed or shutil.which(program) or program == "recsys-dl", step
    if job == "lint":
        assert [step["run"] for step in steps[-3:]] == ["ruff check .", "ruff format --check .", "mypy"]


def test_ci_run_does_what_the_workflow_does():
    text = (ROOT / ".ci" / "run").read_text()
    for job in ("lint", "docs"):
        for step in WORKFLOWS["ci"]["jobs"][job]["steps"]:
            command = step.get("run", "pip")
            assert command.startswith("pip") or command in text, command
