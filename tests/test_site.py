"""The documentation site: what its hook makes, that links and figures hold, and that the first page runs."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from processes import program

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MODELS = {file.stem for file in (ROOT / "conf" / "model").glob("*.yaml")}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
MADE = {DOCS / "models" / "index.md", DOCS / "examples.md"}  # by docs/hooks.py


@pytest.fixture(scope="module")
def hooks():
    """docs/hooks.py, which mkdocs loads by its path."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_its_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if not link.startswith(("http", "mailto:", "#")):
            there = (page.parent / link.split("#")[0]).resolve()
            assert there.exists() or there in MADE, f"{link} is not there"


def test_the_first_page_of_benchmarks_says_what_its_pages_say():
    lines = [line for line in (DOCS / "benchmarks" / "index.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(lines) >= 8
    for line in lines:
        *_, figures, page, _ = line.split("|")
        text = (DOCS / "benchmarks" / re.search(r"\((\w+\.md)\)", page).group(1)).read_text()
        found = re.findall(r"(?<![\w.])(?:0?\.\d{3,4})(?!\d)", figures)
        assert found, line
        assert not [figure for figure in found if figure not in text], line


def test_each_model_has_a_page():
    pages = {file.stem: file.read_text() for file in (DOCS / "models").glob("*.md")}
    assert len(pages) >= 18
    assert set(pages) <= MODELS
    for name, text in pages.items():
        assert f"recsys-dl train model={name}" in text
        for part in ("$$", "## When to use it", "<!-- measured -->", "<!-- settings -->"):
            assert part in text, (name, part)


def test_a_models_page_shows_its_rows_and_its_settings(hooks):
    rows = list(hooks.rows_of("svd_pp"))
    assert {row.page for row in rows} == {"quality.md", "ratings.md"}
    assert any(row.cells.startswith("| SVDpp, chosen | .9051") for row in rows)
    assert not any("surprise SVDpp" in row.cells for row in rows)
    assert not any("published" in row.cells for row in hooks.rows_of("neumf"))
    assert {row.cells.split(" |")[0] for row in hooks.rows_of("als")} == {"| als", "| ALS, rendle2022, ours"}
    for name in hooks.MODELS:
        text = hooks.settings(name)
        assert f"::: {hooks.target(name)}" in text
        assert "_target_" in text


def test_api_pages_are_found_in_the_tree(hooks, tmp_path):
    package = tmp_path / "package"
    for room in ("one", "verbs"):
        (package / room).mkdir(parents=True)
        (package / room / "__init__.py").write_text('"""A room."""\n')
    (package / "one" / "nouns.py").write_text('"""Nouns."""\n\n\nclass Noun:\n    """One."""\n')
    (package / "one" / "inside.py").write_text("def _private(): ...\n")
    assert hooks.rooms_of(package) == ["one"]
    assert "::: recsys_dl.one.nouns" in hooks.api_page(package / "one")
    assert "inside" not in hooks.api_page(package / "one")
    (package / "one" / "__init__.py").write_text('"""A room."""\n\nfrom .nouns import Noun\n\n__all__ = ["Noun"]\n')
    assert hooks.api_page(package / "one").endswith("::: recsys_dl.one.Noun\n")
    assert {"losses", "models", "training"} <= set(hooks.rooms_of(hooks.PACKAGE))


def test_formulas_are_drawn_without_a_script(hooks):
    drawn = hooks.on_page_content('<p><span class="arithmatex">\\(x_u \\cdot y_i &lt; 1\\)</span></p>')
    assert "<math" in drawn
    assert "\\cdot" not in drawn
    assert "<script" not in drawn


def test_every_formula_is_understood(hooks, caplog):
    for file in (DOCS / "models").glob("*.md"):
        text = file.read_text()
        for block, inline in re.findall(r"\$\$(.*?)\$\$|(?<!\$)\$([^$\n]+)\$(?!\$)", text, re.DOTALL):
            hooks.mathml(block or inline, "block")
    assert not caplog.records
    hooks.mathml(r"\nosuchcommand x", "block")
    assert "nosuchcommand" in caplog.text


def test_the_first_page_runs(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},{4 + item % 2},{1_400_000_000 + user * 100 + n}"
        for user in [196, 22, *range(500, 560)]
        for n, item in enumerate(rng.choice(np.arange(user % 2, 160, 2), 30, replace=False))
    ]
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n" + "\n".join(rows) + "\n")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    assert len(blocks) >= 3
    assert "minus popularity" in program("".join(blocks), cwd=tmp_path)
