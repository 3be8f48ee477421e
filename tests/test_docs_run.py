"""The Python blocks of pages that have no test of their own run, in their order, in an empty folder."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["retrieval", "losses", "cold_start", "off_policy", "simulation", "feedback_log"])
def test_its_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{page}.md").read_text()
    there: dict = {}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, f"docs/{page}.md", "exec"), there)
    indented = re.findall(r"^    (?:import|from) \w", text, re.MULTILINE)
    assert not indented, "Python stands in ```python blocks, which this test runs"
