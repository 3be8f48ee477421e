"""Several processes compute what one does: ALS, evaluation, batch recommendation; and they end together."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import commands, program, programs

from recsys_dl import Interactions
from recsys_dl.cli import main
from recsys_dl.families.shared_rows import halves
from recsys_dl.processes import Group, current, together

ROOT = Path(__file__).parent.parent
ALONE = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}

PROGRAM = """
import sys
from recsys_dl.lazy import own_process
own_process()
import numpy as np
from recsys_dl import evaluate
from recsys_dl.data.generated import generated
from recsys_dl.data.split import leave_last_out
from recsys_dl.families import shared_rows
from recsys_dl.models import ALS, BPR, ExplicitALS, ItemKNN, UserKNN
from recsys_dl.processes import together
from recsys_dl.retrieval import HNSW, IVF, IVFPQ, Retriever, ivf

data = generated(num_users=2500, num_items=200, num_interactions=20_000, seed=3)
train, _, test = leave_last_out(data)
rated = train.interactions.with_weights(np.random.default_rng(0).integers(1, 6, len(train)))
small = {"embedding_size": 6, "epochs": 2, "device": "cpu"}
found = {}
with together() as group:
    for name, gathered, model in (
        ("cholesky", 64 << 20, ALS(**small)),
        ("in blocks", 4 * 6 * 150, ALS(objective="hu2008", **small)),
        ("ials++", 64 << 20, ALS(solver="ials++", block_size=3, **small)),
        ("cg", 4 * 6 * 150, ALS(solver="cg", **small)),
        ("explicit", 4 * 7 * 150, ExplicitALS(**small)),
    ):
        shared_rows.GATHERED_BYTES = gathered
        model.fit(rated if name == "explicit" else train)
        found |= {f"{name}/{key}": value for key, value in model.arrays().items() if "emb" in key or "bias" in key}
    found |= {f"bpr {key}": value for key, value in BPR(**small).fit(train).arrays().items() if "_emb_" in key or "_bias_" in key}
    for model in (ItemKNN(num_neighbors=5, device="cpu"), UserKNN(num_neighbors=5, device="cpu")):
        found[f"neighbors {type(model).__name__}"] = model.fit(train).neighbors_RR.toarray()
    # two processes stop after an epoch, four go on
    longer = small | {"epochs": 3}
    if group.size == 2:
        solve, calls = ALS._solve_side, []

        def stops(self, *given):
            calls.append(1)
            if len(calls) > 2:
                raise RuntimeError("stopped")
            return solve(self, *given)

        ALS._solve_side = stops
        try:
            ALS(**longer).fit(train, checkpoint="kept")
        except RuntimeError as error:
            assert str(error) == "stopped"
        ALS._solve_side = solve
    found["resumed/users"] = ALS(**longer).fit(train, checkpoint="kept" if group.size == 4 else None).user_emb_UD
    model = ALS(**small).fit(train)
    grown = model.fine_tune(test, epochs=1)
    found |= {"grown/users": grown.user_emb_UD}
    ivf.BLOCK = 4096  # FAISS multiplies this many at once
    vectors = np.random.default_rng(1).normal(size=(3 * 4096 + 100, 8)).astype(np.float32)
    how = {"num_lists": 20, "num_probes": 2, "device": "cpu"}
    for name, index in (("ivf", IVF(**how)), ("ivf_pq", IVFPQ(num_subvectors=3, rescore=0, **how))):
        ranking = index.build(vectors).remove([5]).search(vectors[:50], 10, exclude=[3])
        found |= {f"index {name}": index.arrays()["faiss"], f"lists {name}": ranking.items_BK, f"scores {name}": ranking.scores_BK}
    graph = HNSW(num_links=8).build(vectors[:2000]).arrays()["faiss"]
    assert len({one.tobytes() for one in group.gather(graph)}) == 1
    served = Retriever(ALS(**small), IVF(num_lists=5, device="cpu")).fit(train)
    found["served"] = evaluate(served, train, test, k=[5]).per_user["ndcg@5"]
    figures = evaluate(ALS(**small).fit(train), train, test, k=[5, 10], segments="cold")
    found |= {f"per user/{key}": value for key, value in figures.per_user.items()}
    found["figures"] = np.array(list(figures.values.values()))
    found["segments"] = np.array([value for row in figures.segments.rows for value in row.values.values()])
    if group.rank == 0:
        np.savez(sys.argv[1], **found)
"""


def torchrun(processes: int, *words: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={processes}",
            *map(str, words),
        ],
        cwd=cwd,
        env=os.environ | ALONE | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_two_and_four_processes_give_the_result_of_one(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    program(PROGRAM, "1.npz", cwd=tmp_path)
    done = torchrun(2, "program.py", "2.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    programs(4, PROGRAM, "4.npz", cwd=tmp_path)
    found = {processes: dict(np.load(tmp_path / f"{processes}.npz")) for processes in (1, 2, 4)}
    one = found[1]
    assert {"cholesky/user_emb_UD", "explicit/bias_I", "bpr item_bias_I", "per user/ndcg@10"} <= one.keys()
    for processes in (2, 4):
        assert found[processes].keys() == one.keys()
        for name, value in one.items():
            if "/" in name and not name.startswith("per user"):
                # Gram matrices are summed in the same parts, so that even conjugate gradients round alike; Numba's compiler may differ
                np.testing.assert_allclose(found[processes][name], value, rtol=1e-5, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(found[processes][name], value, err_msg=name)


FAILS = """
import sys
from recsys_dl.processes import together
with together() as group:
    group.gather(0)
    if group.rank or sys.argv[1] == "all":
        raise ValueError("the shard is damaged")
    group.gather(1)
"""


def test_who_fails_and_why_is_reported_once(tmp_path):
    (tmp_path / "program.py").write_text(FAILS)
    for who, words in (
        ("one", "RuntimeError: process 1 of 2: the shard is damaged"),
        ("all", "ValueError: the shard is damaged"),
    ):
        done = torchrun(2, "program.py", who, cwd=tmp_path)
        assert done.returncode == 1
        last = [
            line for line in done.stderr.splitlines() if line.startswith(("[rank0]", "[rank1]")) and "Error: " in line
        ]
        assert last[-1].partition(": ")[2] == words
        assert sum("Traceback" in line for line in done.stderr.splitlines() if line.startswith("[rank")) == (
            2 if who == "one" else 1
        )


TRAIN = ["data=generated", "data.num_users=2500", "data.num_items=200", "data.num_interactions=20000", "model=als"]
TRAIN += ["model.embedding_size=6", "device=cpu", "evaluate.k=[5]"]


def test_a_killed_process_ends_the_command_which_names_it(tmp_path):
    words = [
        sys.executable,
        "-m",
        "recsys_dl",
        "train",
        *TRAIN,
        "model.epochs=1000000",
        "trainer.processes=2",
        "run=here",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    job = subprocess.Popen(words, cwd=tmp_path, env=os.environ | ALONE, **pipes)
    for line in job.stderr:
        if line.startswith("split: "):  # both have joined and are about to fit
            break
    children = [int(pid) for pid in Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()]
    (second,) = [pid for pid in children if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(second, signal.SIGKILL)
    _, said = job.communicate(timeout=120)
    assert job.returncode == 1
    assert "error: process 1 of 2 was ended by SIGKILL" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)


def test_lists_and_figures_of_a_run_by_several_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TRAIN, "model.epochs=2", "run=run"]) == 0
    ask = ["recommend", "run=run", "users=all", "k=3"]
    assert main([*ask, "output=lists.parquet"]) == 0
    whole = pl.read_parquet("lists.parquet")
    assert main([*ask, "output=one/"]) == 0
    assert len(list(Path("one").glob("part-*.parquet"))) == 3
    assert pl.read_parquet("one/*.parquet").equals(whole["user_id", "item_id", "rank", "score"])
    assert json.loads(Path("one/_SUCCESS").read_text()) == {"rows": len(whole), "users": 2500, "parts": 3}
    for processes in (2, 4):
        folder = f"of{processes}"
        assert commands(processes, *ask, f"output={folder}", cwd=tmp_path).count("rows are in") == 1
        for file in Path("one").iterdir():
            assert file.read_bytes() == (Path(folder) / file.name).read_bytes(), file.name

    # what a killed command left is taken up
    kept = Path("of2/part-00000.parquet").stat().st_mtime_ns
    for gone in ("part-00001.parquet", "_SUCCESS"):
        Path("of2", gone).unlink()
    Path("of2/.part-00001.parquet.partial").write_bytes(b"begun")
    assert main([*ask, "output=of2/"]) == 0
    assert {file.name for file in Path("of2").iterdir()} == {file.name for file in Path("one").iterdir()}
    assert Path("of2/part-00001.parquet").read_bytes() == Path("one/part-00001.parquet").read_bytes()
    assert Path("of2/part-00000.parquet").stat().st_mtime_ns == kept

    capsys.readouterr()
    for words, said in (
        ([*ask[:-1], "k=4", "output=one/"], "one holds lists of another request: k was 3, is 4"),
        ([*ask[:2], "users=[u1]", "k=3", "output=run/"], "run holds something else"),
        ([*ask, "output=lists.xls"], "output must end in .csv or .parquet, or be a folder for Parquet files"),
        ([*ask, "output=one/", "processes=0"], "processes must be a whole number from 1 or null, got '0'"),
    ):
        assert main(words) == (2 if "processes=0" in words else 1)  # refused before the run is read
        assert said in capsys.readouterr().err

    assert main(["evaluate", "run", "k=[5]"]) == 0
    alone = json.loads(Path("run/metrics.json").read_text())["test"], dict(np.load("run/per_user/test.npz"))
    for file in (Path("run/metrics.json"), Path("run/per_user/test.npz")):
        file.write_text("{}") if file.suffix == ".json" else file.unlink()
    done = torchrun(2, "-m", "recsys_dl", "evaluate", "run=run", "k=[5]", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    shared = json.loads(Path("run/metrics.json").read_text())["test"]
    for name, ends in (
        alone[0].pop("intervals").items()
    ):  # a product of matrices, which BLAS rounds by the number of threads
        np.testing.assert_allclose(shared["intervals"][name], ends, rtol=1e-12)
    assert {name: value for name, value in shared.items() if name != "intervals"} == alone[0]
    for name, values in np.load("run/per_user/test.npz").items():
        np.testing.assert_array_equal(values, alone[1][name], err_msg=name)


def test_rows_are_split_by_cost_and_each_process_has_some():
    log = Interactions([0] * 50 + list(range(1, 9)), list(range(50)) + [0] * 8, num_users=9, num_items=50)
    parts = [halves(Alike(rank, 3), log.by_user, 4) for rank in range(3)]
    assert (
        parts[0].users_P1.tolist() == [0, 1, 2, 9] or parts[0].users_P1[1] == 1
    )  # the first user costs as much as all others
    assert sum(part.by_user.nnz for part in parts) == sum(part.by_item.nnz for part in parts) == log.by_user.nnz
    assert all(part.by_user.shape[0] and part.by_item.shape[0] for part in parts)
    with pytest.raises(
        ValueError, match="processes must be at most the number of users and of items, 9 and 50, got 10"
    ):
        halves(Group(0, 10), log.by_user, 4)


class Alike(Group):
    """A process among others with the same data, without a connection."""

    def gather(self, value):
        return [value] * self.size


def test_alone_without_a_launcher(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with together() as group:
        assert (group.rank, group.size, current().size) == (0, 1, 1)
    with (
        pytest.raises(ValueError, match="2 processes on num_nodes=1 must be started by torchrun or Slurm"),
        together(2),
    ):
        pass
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(ValueError, match="torchrun started 2 processes, but processes=3 on num_nodes=1 makes 3"),
        together(3),
    ):
        pass
