"""CONTRIBUTING's promise: a new model is one Python file and one YAML. Carried out on a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for name in ("recsys_dl", "conf"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "kernels").symlink_to(ROOT / "kernels")  # a model adds none, and these are compiled already
    (copy / "tests").mkdir()
    for name in (
        "conftest.py",
        "cuda_scheduler.py",
        "imported.py",
        "processes.py",
        "test_contract.py",
        "test_docstrings.py",
        "test_architecture.py",
    ):
        shutil.copy(ROOT / "tests" / name, copy / "tests")
    shutil.copy(ROOT / "pyproject.toml", copy)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = dict(re.findall(r"^`((?:recsys_dl|conf)/[^`]+)`\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert set(found) == {"recsys_dl/models/co_counts.py", "conf/model/co_counts.yaml"}
    for path, content in found.items():
        (copy / path).write_text(content)
    return copy


def run(tree: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, *words], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout


def test_the_contract_tests_find_it_and_pass(tree):
    files = [f"tests/test_{name}.py" for name in ("contract", "docstrings", "architecture")]
    words = "co_counts or CoCounts or test_architecture"
    out = run(tree, "-m", "pytest", "-v", "-p", "no:cacheprovider", *files, "-k", words)
    assert len(re.findall(r"test_contract.py::\S*co_counts\S* PASSED", out)) >= 20
    assert len(re.findall(r"test_docstrings.py::\S*CoCounts\S* PASSED", out)) == 1
    assert "test_arrows_point_down[recsys_dl/models/co_counts.py] PASSED" in out


def test_it_trains_by_its_name(tree):
    log = tree / "log.csv"
    rows = [f"u{u},i{i},{1_400_000_000 + u * 100 + i}" for u in range(40) for i in range(u % 5, 30, 2)]
    log.write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    words = ["train", "model=co_counts", "model.min_users=2", "data=log", f"data.path={log}", "run=run"]
    out = run(tree, "-m", "recsys_dl.cli", *words)
    assert "ndcg" in out
    assert (tree / "run" / "model" / "arrays.npz").is_file()
