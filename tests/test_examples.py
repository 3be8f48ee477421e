"""The scripts of examples/ run in an empty folder, leave nothing behind, and print what they promise."""

import re
from pathlib import Path

import pytest
from processes import program

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
    printed = program((EXAMPLES / f"{name}.py").read_text(), cwd=tmp_path)
    assert re.search(SHOWN[name], printed), printed
    assert not list(tmp_path.iterdir())


def test_each_can_be_read_in_a_minute():
    sizes = {file.name: len(file.read_text().splitlines()) for file in EXAMPLES.glob("*.py")}
    assert len(sizes) >= 5
    assert not {name: size for name, size in sizes.items() if not 20 <= size <= 60}
