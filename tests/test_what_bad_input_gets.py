"""The tables of bad input in docs/ show what is printed; nothing of it is silent, a traceback, or too long to be read."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from what_bad_input_gets import PAGES, ROOT, Answer, cases, placed, table

CASES = cases()


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """What is printed, by a process that has computed nothing yet and so may fork."""
    file = tmp_path_factory.mktemp("given") / "answers.json"
    subprocess.run([sys.executable, str(ROOT / "tests" / "what_bad_input_gets.py"), str(file)], check=True)
    return [Answer(**one) for one in json.loads(file.read_text())]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.what for case in CASES])
def test_what_it_gets(number, given):
    case, answer = CASES[number], given[number]
    assert answer.text, "silent"
    assert answer.fine == case.fine, answer.text
    assert "Traceback" not in answer.text, answer.text
    assert len(answer.text.splitlines()) <= 10, answer.text
    assert len(answer.text) <= 1500, answer.text


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_show_it(page, given):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    assert text == placed(text, page, table(page, CASES, given)), "python tests/what_bad_input_gets.py writes them anew"
