"""What the site shows beside the guides, made when it is built: API pages, pages of models, examples, formulas.

- `api/ROOM.md`: one page a folder of `recsys_dl`, from its docstrings; found in the tree, so that nothing lists modules.
- `models/NAME.md`: in place of `<!-- measured -->` the rows of that model in docs/benchmarks/, in place of `<!-- settings -->`
  its YAML and its class. A model without a page here gets one of these two.
- `examples.md`: the scripts of `examples/`.
- Formulas in dollars become MathML, which browsers draw without a script.
"""

from __future__ import annotations

import ast
import html
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

log = logging.getLogger("mkdocs.hooks")  # whose warnings fail mkdocs build --strict

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "recsys_dl"
INSIDE = {"compose", "conf", "kernels", "verbs"}  # what the command and the models are made of
FORMULAS = {
    "inline": r'<span class="arithmatex">\\\((.*?)\\\)</span>',
    "block": r'<div class="arithmatex">\\\[(.*?)\\\]</div>',
}
INTERVAL = re.compile(r"(\[[-+]?\d*\.\d+), ([-+]?\d*\.\d+\])")
MODELS = sorted(file.stem for file in (ROOT / "conf" / "model").glob("*.yaml"))


class Row(NamedTuple):
    """A row of a benchmark, with the page and the heading above it."""

    page: str
    title: str
    heading: str
    header: str
    cells: str


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that are made here to the navigation."""
    assert config.nav is not None
    models = {"Models": ["models/index.md", *(f"models/{name}.md" for name in MODELS)]}
    rooms = {"API": ["api/index.md", *({room: f"api/{room}.md"} for room in rooms_of(PACKAGE))]}
    config.nav[2:2] = [models]
    config.nav += [{"Examples": "examples.md"}, rooms, {"Changes": "changelog.md"}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    pages = {"api/index.md": api_index(), "examples.md": examples(), "models/index.md": models_index()}
    pages |= {f"api/{room}.md": api_page(PACKAGE / room) for room in rooms_of(PACKAGE)}
    pages["changelog.md"] = (ROOT / "CHANGELOG.md").read_text()
    for name in MODELS:
        if files.get_file_from_path(f"models/{name}.md") is None:
            cls = target(name).rpartition(".")[2]
            pages[f"models/{name}.md"] = (
                f"# {cls}\n\n## Measured\n\n<!-- measured -->\n\n## Settings\n\n<!-- settings -->\n"
            )
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in a model's measured rows and settings."""
    folder, _, name = page.file.src_uri.removesuffix(".md").partition("/")
    if folder == "models" and name in MODELS:
        markdown = markdown.replace("<!-- measured -->", measured(name)).replace("<!-- settings -->", settings(name))
    return markdown


def on_page_content(content: str, **_: Any) -> str:
    """Draw formulas, and keep an interval of a table on one line."""
    for display, found in FORMULAS.items():
        content = re.sub(found, lambda m, display=display: mathml(m[1], display), content, flags=re.DOTALL)
    return INTERVAL.sub(r"\1,&nbsp;\2", content)


def mathml(formula: str, display: str) -> str:
    """Return a formula as an element that browsers draw, for readers who do not see it with its source."""
    drawn = convert(html.unescape(formula).strip(), display=display)
    if "\\" in drawn:
        log.warning("a formula has a command that latex2mathml does not know: %s", formula)
    return drawn


# API


def rooms_of(package: Path) -> list[str]:
    """Return the folders of a package that have a page."""
    found = (folder.parent.name for folder in package.glob("*/__init__.py"))
    return sorted(name for name in found if name not in INSIDE)


def exported(file: Path) -> list[str]:
    """Return `__all__` of a file, without importing it."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [name for name in ast.literal_eval(node.value) if not name.startswith("__")]
    return []


def api_page(room: Path) -> str:
    """Return a page of what a folder exports or, where it names nothing, of its files."""
    name = f"recsys_dl.{room.name}"
    parts = [f"# {name}", ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""]
    if room.name == "models":
        parts += [f"- [{target(one).rpartition('.')[2]}](../models/{one}.md)" for one in MODELS]
        files = [file for file in modules(room) if file.stem not in MODELS]
    else:
        names = exported(room / "__init__.py")
        parts += [f"::: {name}.{one}" for one in names]
        files = [] if names else modules(room)
    for file in files:
        parts.append(f"::: {name}.{file.stem}")
    return "\n\n".join(parts) + "\n"


def modules(room: Path) -> list[Path]:
    """Return the files of a folder, those below it too, that define anything public."""
    return [
        file
        for file in sorted(room.rglob("*.py"))
        if file.stem != "__init__" and re.search(r"^(class|def) [^_]", file.read_text(), re.MULTILINE)
    ]


def api_index() -> str:
    """Return the page of the package's own names, and of the files beside the folders."""
    lines = ["# recsys_dl", "| | |\n|---|---|"]
    rows = []
    for room in rooms_of(PACKAGE):
        doc = ast.get_docstring(ast.parse((PACKAGE / room / "__init__.py").read_text())) or ""
        rows.append(f"| [`recsys_dl.{room}`]({room}.md) | {doc.splitlines()[0].replace('|', '&#124;')} |")
    lines[1] += "\n" + "\n".join(rows)
    lines += [f"::: recsys_dl.{name}" for name in exported(PACKAGE / "__init__.py")]
    return "\n\n".join(lines) + "\n"


# Models


def target(name: str) -> str:
    """Return the import path of a model's class."""
    return yaml.safe_load((ROOT / "conf" / "model" / f"{name}.yaml").read_text())["_target_"]


def models_index() -> str:
    """Return a table of all models, with the first sentence of their pages."""
    lines = [
        "# Models",
        "Which of them for which data: [Benchmarks](../benchmarks/index.md).",
        "| model | |\n|---|---|",
    ]
    for name in MODELS:
        file = ROOT / "docs" / "models" / f"{name}.md"
        said = file.read_text().split("\n\n")[1].partition("$$")[0] if file.is_file() else ""
        said = re.split(r"(?<=\.)\s", said.strip())[0].rstrip(":").replace("\n", " ")
        lines[-1] += f"\n| [{target(name).rpartition('.')[2]}]({name}.md) | {said} |"
    return "\n\n".join(lines) + "\n"


def settings(name: str) -> str:
    """Return a model's YAML and its class."""
    text = (ROOT / "conf" / "model" / f"{name}.yaml").read_text().strip()
    options = "    options:\n      members: false\n      heading_level: 3\n"
    return f"```yaml\n{text}\n```\n\n::: {target(name)}\n{options}"


def measured(name: str) -> str:
    """Return the rows of docs/benchmarks/ that are about a model, under the headings of their tables."""
    lines = []
    before = None
    for row in rows_of(name):
        if (row.page, row.heading, row.header) != before:
            rule = "|" + "---|" * (row.header.count("|") - 1)
            link = f"[{row.title}](../benchmarks/{row.page})"
            where = link if row.heading == row.title else f"{link}: {row.heading}"
            lines.append(f"\n{where}\n\n{row.header}\n{rule}")
            before = (row.page, row.heading, row.header)
        lines.append(row.cells)
    return "\n".join(lines) or "None: not measured yet."


def rows_of(name: str) -> Iterator[Row]:
    """Find a model's rows: those that begin with its name in `conf/model`, or with that of its class."""
    cls = target(name).rpartition(".")[2]
    ours = re.compile(rf"\| (({name}(_blind)?)|({cls}\b(?!.*\bpublished)[^|]*)) \|")
    for file in sorted((ROOT / "docs" / "benchmarks").glob("*.md")):
        title = heading = header = ""
        for line in file.read_text().splitlines():
            if line.startswith("#"):
                heading = line.lstrip("# ")
                title = title or heading
            elif not line.startswith("|"):
                header = ""
            elif not header:
                header = line
            elif header.startswith("| model") and ours.match(line):
                yield Row(file.name, title, heading, header, line)


# Examples


def examples() -> str:
    """Return the scripts of `examples/`, each under what its first line says."""
    parts = [
        "# Examples",
        "Scripts of `examples/`: each runs on a laptop in well under a minute, without the internet.",
    ]
    for file in sorted((ROOT / "examples").glob("*.py")):
        text = file.read_text()
        said = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
        title, _, rest = said.partition(": ")
        code = text.split('"""', 2)[2].strip()
        parts += [
            f"## {title.rstrip('.')}",
            f"`examples/{file.name}`" + (f": {rest}" if rest else ""),
            f"```python\n{code}\n```",
        ]
    return "\n\n".join(parts) + "\n"
