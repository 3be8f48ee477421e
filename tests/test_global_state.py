"""Importing and calling this package changes nothing global, and what the host set globally changes no answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import program

PROGRAM = '''
import ctypes, gc, json, locale, logging, multiprocessing, os, random, signal, sys, threading, warnings
from pathlib import Path

import numpy as np
import threadpoolctl
import numba, polars, scipy.sparse.linalg, scipy.special, torch  # set up warnings and variables when they are imported
multiprocessing.get_start_method()  # which Numba looks up

logging.getLogger("host").setLevel(logging.DEBUG)
random.seed(1); np.random.seed(2); torch.manual_seed(3)


def mapped_blocks():
    """How many blocks the C library maps for itself when asked for 64 MB: what mallopt changes."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return None
    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd a b c d e".split()]
    libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
    before = libc.mallinfo2().hblks
    block = libc.malloc(ctypes.c_size_t(64 << 20))
    after = libc.mallinfo2().hblks
    libc.free(block)
    return after - before


def state():
    found = {
        "environment": dict(os.environ),
        "warnings": [str(one) for one in warnings.filters],
        "logging": [(logging.root.level, [str(one) for one in logging.root.handlers], logging.root.manager.disable)]
        + [(name, logging.getLogger(name).level, len(logging.getLogger(name).handlers)) for name in ("recsys_dl", "host")],
        "signals": [str(signal.getsignal(one)) for one in sorted(signal.valid_signals())],
        "random": hash(random.getstate()), "numpy": hash(str(np.random.get_state())), "errors": np.geterr(),
        "printing": {key: str(value) for key, value in np.get_printoptions().items()},
        "allocator": mapped_blocks(), "hooks": [str(sys.excepthook), str(sys.displayhook)], "path": list(sys.path),
        "locale": locale.setlocale(locale.LC_ALL), "starts": multiprocessing.get_start_method(allow_none=True),
        "folder": os.getcwd(), "gc": [gc.isenabled(), gc.get_threshold()], "recursion": sys.getrecursionlimit(),
        "streams": [id(sys.stdout), id(sys.stderr)], "tracing": [str(sys.gettrace()), str(threading.excepthook)],
    }
    if "torch" in sys.modules:
        import torch
        found["torch"] = {
            "generator": hash(torch.get_rng_state().numpy().tobytes()), "type": str(torch.get_default_dtype()),
            "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
            "deterministic": [torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark],
            "products": torch.get_float32_matmul_precision(), "gradients": torch.is_grad_enabled(),
            "inference": torch.is_inference_mode_enabled(), "autocast": torch.is_autocast_enabled("cpu"),
        }
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        if name in sys.modules:
            found[name] = [logging.getLogger(name).level, len(logging.getLogger(name).handlers)]
    if "numba" in sys.modules:
        import numba
        found["numba"] = numba.get_num_threads()
    if "polars" in sys.modules:
        import polars
        found["polars"] = [polars.Config.state(), polars.thread_pool_size()]
    found["pools"] = sorted((one["user_api"], one["num_threads"]) for one in threadpoolctl.threadpool_info())
    return found


changed = {}
last = state()


def after(name):
    """Note what has changed; parts that are new count only for what was there before."""
    global last
    now = state()
    for key, value in last.items():
        if key == "pools":
            rest = list(now[key])
            differs = any(one not in rest or rest.remove(one) for one in value)
        else:
            differs = now[key] != value
        if differs:
            changed.setdefault(name, {})[key] = [str(value)[:2000], str(now[key])[:2000]]
    last = now


import recsys_dl
after("import")
from recsys_dl import Dataset, Interactions, evaluate, fine_tune, leave_last_out, load_run, read_log
from recsys_dl.models import BPR, GMF, ItemKNN, TwoTower
import recsys_dl.evaluation, recsys_dl.export, recsys_dl.pipeline, recsys_dl.rankers, recsys_dl.retrieval
after("import of models")

out = Path(sys.argv[1])
rng = np.random.default_rng(0)
lines = [f"{u},{i},{k}" for u in range(40) for k, i in enumerate(rng.permutation(30)[:8])]
(out / "log.csv").write_text("user_id,item_id,timestamp\\n" + "\\n".join(lines) + "\\n")
data = read_log(out / "log.csv")
train, validation, test = leave_last_out(data)
after("read and split")
from recsys_dl.training import TrainerOptions
from recsys_dl.models.als import ALS
from recsys_dl.models.ease import EASE
from recsys_dl.models.gmf import GMF
from recsys_dl.models.neumf import NeuMF
from recsys_dl.models.sasrec import SASRec
from recsys_dl.models.svd import SVD

small = {"embedding_size": 4, "epochs": 2, "device": "cpu"}
neural = [lambda: GMF(**small), lambda: NeuMF(hidden_sizes=[8, 4], dropout=0.2, **small), lambda: SASRec(**small)]
fitted = []
for make in [lambda: ALS(embedding_size=4), lambda: EASE(), lambda: SVD(embedding_size=4), *neural]:
    model = make()
    options = {"validation": validation, "trainer": TrainerOptions(patience=1)} if make in neural else {}
    model.fit(train, **options)
    after(f"fit of {type(model).__name__}")
    model.recommend([0, 1], 3, exclude=train), model.recommend(model.fold_in([[1, 2]]), 3), model.similar_items([1], 2)
    after(f"answers of {type(model).__name__}")
    evaluate(model, train, test, k=5)
    after(f"evaluation of {type(model).__name__}")
    model.save(out / type(model).__name__)
    type(model).load(out / type(model).__name__)
    after(f"saving of {type(model).__name__}")
    fitted.append(model)
try:
    GMF(**small | {"learning_rate": 1e30, "optimizer": "sgd"}).fit(train)
except ValueError:
    after("a training that diverges")
from recsys_dl.export import export
export(fitted[3], out / "served", seen=train.interactions)
after("export")
from recsys_dl.runs import StageTimer, write_run
(out / "run").mkdir()
write_run(
    out / "run", config={"seed": 7}, model=fitted[3], seen=train.interactions, data=train, evaluations={}, stages=StageTimer()
)
load_run(out / "run").recommend(train.users.ids[:2].to_list(), 3)
after("a run")
fine_tune(out / "run", validation, epochs=1, replay=1.0, test=test)
after("fine-tuning")
from recsys_dl.rankers.mlp_ranker import MLPRanker
from recsys_dl.data.groups import Groups
groups = Groups(rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 3, 60), np.full(12, 5))
MLPRanker(epochs=2, hidden_sizes=[4], device="cpu").fit(groups)
after("fit of a ranker")

# the same bits, whatever the host has set
weights = [{key: value for key, value in one.arrays().items() if key.startswith("network.")} for one in fitted]
expected = {type(one).__name__: one.recommend([0, 1], 5).scores_BK for one in fitted[3:]}
random.seed(11); np.random.seed(12); torch.manual_seed(13)
torch.set_default_dtype(torch.float64)
torch.set_float32_matmul_precision("medium")
torch.use_deterministic_algorithms(True, warn_only=True)
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
warnings.simplefilter("error")
last = state()
differ = []
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
    last = state()
    for make, old, model in zip(neural, weights[3:], fitted[3:]):
        again = make().fit(train, validation=validation, trainer=TrainerOptions(patience=1))
        loaded = type(again).load(out / type(again).__name__)
        for name, one in (("fit", again), ("load", loaded)):
            if not all(np.array_equal(value, one.arrays()[key]) for key, value in old.items()):
                differ.append(f"{name} {type(again).__name__}")
        folded = [np.asarray(one.fold_in([[1, 2]]).values[0]) for one in (model, again)]
        if not np.array_equal(*folded):
            differ.append(f"fold_in {type(again).__name__}")
        if not np.array_equal(again.recommend([0, 1], 5).scores_BK, expected[type(again).__name__]):
            differ.append(f"recommend {type(again).__name__}")
    after("calls under settings of the host")
print(json.dumps({"changed": changed, "differ": differ}))
'''


def test_nothing_global_is_changed_and_nothing_global_changes_the_bits(tmp_path):
    root = Path(__file__).parent.parent
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        env=environment | {"PYTHONPATH": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["changed"] == {}
    assert found["differ"] == []


COLLECTOR = """
import gc, sys
from pathlib import Path
from recsys_dl import lazy
from recsys_dl.cli import main

def imported(name):
    Path(f"{name}.py").write_text("import gc\\nsearched = gc.isenabled()")
    frozen = gc.get_freeze_count()
    with lazy.importing():
        module = __import__(name)
    return module.searched, gc.get_freeze_count() > frozen, gc.isenabled()

sys.path.insert(0, ".")
sys.argv = ["recsys-dl", "--version"]
main(CALLED)
print(imported("one"), imported("one"))
gc.disable()
print(imported("two"))
"""


@pytest.mark.parametrize(
    ("called", "first", "again"),
    [("None", (False, True, True), (False, False, True)), ("['--version']", (True, False, True), (True, False, True))],
    ids=["by a shell", "by a host"],
)
def test_only_the_commands_own_process_leaves_imports_out_of_searches_for_garbage(tmp_path, called, first, again):
    printed = program(COLLECTOR.replace("CALLED", called), cwd=tmp_path).splitlines()
    assert printed[1:] == [f"{first} {again}", "(False, False, False)"]
