"""What bad input gets: every case of what_bad_input_gets.yaml carried out, and the tables of docs/ that show what was printed.

    python tests/what_bad_input_gets.py                 # writes the tables anew
    python tests/what_bad_input_gets.py answers.json    # leaves what is printed in a file

A case is a `command`, or one line of `python` after `from recsys_dl import *`, in an empty folder that holds `files`,
a good `ratings.csv` and, where a case asks for it (`run: true`), the run of a popularity model in `runs/popularity`.
Each case has a process of its own, forked before anything has been computed, so that none sees what another changed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
CASES = Path(__file__).with_name("what_bad_input_gets.yaml")
PAGES = ("data", "command", "tuning", "bandits", "simulation", "off_policy")
PATHS = re.compile(r"(/[\w.-]+)*/bad_input_[\w]+/")


@dataclass(frozen=True)
class Case:
    """One input. `fine`: it is read, and what is printed says how; everything else must be refused."""

    page: str
    what: str
    command: str | None = None
    python: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    run: bool = False
    fine: bool = False

    @property
    def entered(self) -> str:
        """What a person types."""
        return self.command or self.python or ""


@dataclass(frozen=True)
class Answer:
    """What a person sees: everything printed on the terminal, and whether it ended well."""

    text: str
    fine: bool


def cases() -> list[Case]:
    """Return every case."""
    return [Case(**one) for one in yaml.safe_load(CASES.read_text())]


def ratings() -> str:
    """Return a good log: 60 users, 20 ratings of theirs each."""
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},{1 + (user + item) % 5},{1_400_000_000 + 1000 * user + at}"
        for user in range(1, 61)
        for at, item in enumerate(rng.choice(np.arange(1, 101), 20, replace=False))
    ]
    return "userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n"


def answers(asked: list[Case]) -> list[Answer]:
    """Carry every case out."""
    import imported  # noqa: F401  (once, not in every process)

    with tempfile.TemporaryDirectory(prefix="bad_input_") as home:
        template = Path(home) / "run"
        template.mkdir()
        (template / "ratings.csv").write_text(ratings())
        train = "recsys-dl train model=popularity data=log data.path=ratings.csv"
        made = _in_process(Case("command", "", command=train), template, Path(home) / "made")
        assert made.fine, made.text
        return [_carried_out(case, Path(home), number, template) for number, case in enumerate(asked)]


def _carried_out(case: Case, home: Path, number: int, template: Path) -> Answer:
    import shutil

    folder = home / f"bad_input_{number}"
    folder.mkdir()
    if case.run:
        shutil.copytree(template / "runs", folder / "runs")
    for name, content in {"ratings.csv": (template / "ratings.csv").read_text(), **case.files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return _in_process(case, folder, home / f"{number}.txt")


def _in_process(case: Case, folder: Path, printed: Path) -> Answer:
    """Carry one case out in a process of its own, whose terminal is the file `printed`."""
    child = os.fork()
    if not child:
        status = 70
        with contextlib.suppress(BaseException), printed.open("w") as terminal:
            os.chdir(folder)
            os.dup2(terminal.fileno(), 1)
            os.dup2(terminal.fileno(), 2)
            sys.stdout = sys.stderr = io.TextIOWrapper(os.fdopen(os.dup(1), "wb"), encoding="utf-8", write_through=True)
            os.environ["COLUMNS"] = "120"
            status = _enter(case)
            sys.stdout.flush()
        os._exit(status)
    _, status = os.waitpid(child, 0)
    text = re.sub(r"\b\d+\.\d s\b", "0.1 s", PATHS.sub("", printed.read_text()))  # how long it took is not of interest
    return Answer(text.strip(), os.waitstatus_to_exitcode(status) == 0)


def _enter(case: Case) -> int:
    if case.command is not None:
        from recsys_dl.cli import main

        program, *words = shlex.split(case.command)
        assert program == "recsys-dl", case
        return main(words)
    import logging

    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        names: dict = {}
        exec("import numpy as np\nimport polars as pl\nfrom recsys_dl import *", names)
        exec(case.python or "", names)
    except Exception as error:
        known = isinstance(error, ValueError | FileNotFoundError | TypeError | AttributeError)
        print(f"{type(error).__name__}: {error}" if known else traceback.format_exc())
        return 1
    return 0


def table(page: str, asked: list[Case], given: list[Answer]) -> str:
    """Return a page's table in Markdown."""
    rows = ["| | entered | printed |", "|---|---|---|"]
    for case, answer in zip(asked, given, strict=True):
        if case.page == page:
            files = "".join(f"<br>{name}: {_code(text)}" for name, text in case.files.items())
            printed = "<br>".join(line.strip().replace("|", "\\|") for line in answer.text.splitlines() if line.strip())
            rows.append(f"| {case.what} | {_code(case.entered)}{files} | {_escaped(printed)} |")
    return "\n".join(rows)


def _code(text: str) -> str:
    cut = re.sub(r"[\x00-\x08\x0b-\x1f]", "·", text if len(text) <= 160 else text[:160] + "…")
    return f"`` {cut.strip()} ``".replace("|", "\\|").replace("\n", "⏎").replace("\t", "⇥")


def _escaped(text: str) -> str:
    return re.sub(r"(?<!<)\*", r"\\*", text.replace("<br>", "\0").replace("<", "&lt;").replace("\0", "<br>"))


def placed(text: str, page: str, rows: str) -> str:
    """Return a page's text with its table in place."""
    begin, end = f"<!-- made by tests/what_bad_input_gets.py: {page} -->\n", "<!-- end -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    assert found, f"docs/{page}.md must hold {begin.strip()} and {end}"
    assert closed, f"docs/{page}.md must hold {end}"
    return f"{head}{begin}\n{rows}\n\n{end}{tail}"


def main() -> None:
    """Write the tables, or what is printed to the file that the command line names."""
    asked = cases()
    given = answers(asked)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(json.dumps([asdict(answer) for answer in given]))
        return
    for page in PAGES:
        file = ROOT / "docs" / f"{page}.md"
        file.write_text(placed(file.read_text(), page, table(page, asked, given)))


if __name__ == "__main__":
    main()
