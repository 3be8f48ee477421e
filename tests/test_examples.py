"""The scripts of examples/ run as a user runs them, leave nothing behind, and print what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SHOWN = {  # what each one is about, as it must show in its output
    "continue_training": r"old users(.|\n)*new users(.|\n)*rank",
    "export_and_serve": r"known users: \[\['i\d+'(.|\n)*u1 without(.|\n)*someone who interacted",
    "own_csv": r"ndcg(.|\n)*C0042 -> A\d-\d\d, (.|\n)*someone who bought A3-00 and A3-01 -> A3",
    "sweep": r"ndcg@10(.|\n)*chosen by validation: (.|\n)*ndcg  ",
    "three_stages": r"pipeline(.|\n)*item_knn \(retriever\)(.|\n)*ranker(.|\n)*mmr \(reranker\)",
}


@pytest.mark.parametrize("name", sorted(file.stem for file in EXAMPLES.glob("*.py")))
def test_it_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(SHOWN[name], done.stdout), done.stdout
    assert not list(tmp_path.iterdir())


def test_each_can_be_read_in_a_minute():
    sizes = {file.name: len(file.read_text().splitlines()) for file in EXAMPLES.glob("*.py")}
    assert len(sizes) >= 5
    assert not {name: size for name, size in sizes.items() if not 20 <= size <= 60}
