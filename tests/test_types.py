"""What a type checker and an editor see of the public surface."""

import importlib
import inspect
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import yaml
from hydra.utils import get_class

from recsys_dl.arguments import parameters_of
from recsys_dl.families.network_model import NetworkModel, TrainingArguments
from recsys_dl.families.pair_network import PairArguments, PairModel
from recsys_dl.families.towers import TowerArguments, TowerModel
from recsys_dl.rankers.neural import NeuralRanker, RankerTraining

ROOT = Path(__file__).parent.parent
ROOMS = {"models": "model", "retrieval": "index", "rankers": "ranker", "rerankers": "reranker", "bandits": "policy"}
SNIPPET = """
from recsys_dl import evaluate, leave_last_out, read_log
from recsys_dl.models import ALS, MLP, SASRec, TwoTower
from recsys_dl.rankers import AttentionRanker, MLPRanker
from recsys_dl.rerankers import MMR
from recsys_dl.retrieval import HNSW, Retriever

train, validation, test = leave_last_out(read_log("ratings.csv"))
model = ALS(embedding_size=64, seed=7).fit(train)
reveal_type(model)
reveal_type(model.recommend([0], k=10).items_BK)
print(evaluate(model, train, test, k=[10, 20], exclude=validation))
TwoTower(num_targets=3, embedding_size=32, epochs=2, seed=7)
MLP(hidden_sizes=[8], loss="bce_loss", learning_rate=0.1)
MLPRanker(hidden_sizes=(8,), epochs=3)
Retriever(model, HNSW(num_links=8))
"""
WRONG = {
    "ALS(embeding_size=3)": 'Unexpected keyword argument "embeding_size" for "ALS"',
    "TwoTower(epoch=3)": 'Unexpected keyword argument "epoch" for "TwoTower"',
    "SASRec(embeding_size=3)": 'Unexpected keyword argument "embeding_size" for "SASRec"',
    "MLP(los=3)": 'Unexpected keyword argument "los" for "MLP"',
    "MLPRanker(hidden=3)": 'Unexpected keyword argument "hidden" for "MLPRanker"',
    "AttentionRanker(epoch=3)": 'Unexpected keyword argument "epoch" for "AttentionRanker"',
    "MMR(weigth=3)": 'Unexpected keyword argument "weigth" for "MMR"',
    "HNSW(links=3)": 'Unexpected keyword argument "links" for "HNSW"',
    'ALS(embedding_size="64")': 'Argument "embedding_size" to "ALS" has incompatible type "str"; expected "int"',
    "model.recomend([0], k=3)": '"ALS" has no attribute "recomend"',
    "from recsys_dl.models import ALSS": 'Module "recsys_dl.models" has no attribute "ALSS"',
    "from recsys_dl import evaluat": 'Module "recsys_dl" has no attribute "evaluat"',
}


def test_a_type_checker_knows_every_argument(tmp_path):
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET + "\n".join(WRONG) + "\n")
    arguments = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *arguments, str(file)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    assert 'Revealed type is "recsys_dl.models.als.ALS"' in found
    assert re.search(r'Revealed type is "numpy\.ndarray', found)
    for message in WRONG.values():
        assert message in found, f"{message}\n\n{found}"
    assert found.count(" error: ") == len(WRONG), found


@pytest.mark.parametrize(
    ("arguments", "cls"),
    [
        (TrainingArguments, NetworkModel),
        (TowerArguments, TowerModel),
        (PairArguments, PairModel),
        (RankerTraining, NeuralRanker),
    ],
)
def test_what_is_handed_on_is_listed_as_the_parent_takes_it(arguments, cls):
    listed = {
        name: hint
        for one in reversed(arguments.__orig_bases__)
        for name, hint in getattr(one, "__annotations__", {}).items()
    }
    listed |= arguments.__annotations__
    taken = {name: one.annotation for name, one in parameters_of(cls).items()}
    assert set(listed) == set(taken)
    for name, hint in listed.items():
        text = hint.__forward_arg__ if isinstance(hint, typing.ForwardRef) else hint
        assert text == taken[name], name


@pytest.mark.parametrize("room", ROOMS)
def test_each_option_is_a_name_of_its_package(room):
    package = importlib.import_module(f"recsys_dl.{room}")
    configs = [yaml.safe_load(file.read_text()) or {} for file in (ROOT / "conf" / ROOMS[room]).glob("*.yaml")]
    classes = {one["_target_"].rpartition(".")[2] for one in configs if "_target_" in one}
    assert classes <= set(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match=f"has no '{package.__all__[0]}x' .did you mean '{package.__all__[0]}'"):
        getattr(package, f"{package.__all__[0]}x")


@pytest.mark.parametrize("group", ROOMS.values())
def test_a_signature_hides_no_argument(group):
    for file in (ROOT / "conf" / group).glob("*.yaml"):
        config = yaml.safe_load(file.read_text()) or {}
        if "_target_" not in config:
            continue
        parameters = inspect.signature(get_class(config["_target_"])).parameters
        assert all(one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL) for one in parameters.values())
        assert set(config) - {"_target_", "_convert_", "_partial_", "defaults"} <= set(parameters), file.name


def test_every_option_is_found_by_hydra_in_a_fresh_process():
    """A file of a package is its module, even where it imports a function of its own name."""
    targets = {
        target
        for group in ("model", "index", "retriever", "ranker", "reranker", "features", "policy")
        for file in (ROOT / "conf" / group).glob("*.yaml")
        for target in re.findall(r"^_target_: (\S+)", file.read_text(), re.MULTILINE)
    }
    program = "import sys; from hydra.utils import get_object; [get_object(target) for target in sys.argv[1:]]"
    done = subprocess.run(
        [sys.executable, "-c", program, *sorted(targets)], capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr[-800:]


def test_a_class_without_a_constructor_has_no_arguments():
    from recsys_dl.rankers.columns import ItemAge

    assert parameters_of(ItemAge) == {}
    assert ItemAge().arguments() == {}
