"""Several processes compute what one does: ALS, evaluation, batch recommendation; and they end together."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recsys_dl import Interactions
from recsys_dl.families.shared_rows import halves
from recsys_dl.processes import Group, current, together

ROOT = Path(__file__).parent.parent
ALONE = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "COLUMNS": "120"}

PROGRAM = """
import sys
import numpy as np
from recsys_dl import evaluate
from recsys_dl.data.generated import generated
from recsys_dl.data.split import leave_last_out
from recsys_dl.families import shared_rows
from recsys_dl.models import ALS, ExplicitALS
from recsys_dl.processes import together

data = generated(num_users=2500, num_items=200, num_interactions=20_000, seed=3)
train, _, test = leave_last_out(data)
small = {"embedding_size": 6, "epochs": 2, "device": "cpu"}
found = {}
with together() as group:
    for name, gathered, model in (
        ("cholesky", 64 << 20, ALS(**small)),
        ("in blocks", 4 * 6 * 40, ALS(objective="hu2008", **small)),
        ("ials++", 64 << 20, ALS(solver="ials++", block_size=3, **small)),
        ("cg", 4 * 6 * 40, ALS(solver="cg", **small)),
        ("explicit", 4 * 7 * 40, ExplicitALS(**small)),
    ):
        shared_rows.GATHERED_BYTES = gathered
        model.fit(train)
        found |= {f"{name}/{key}": value for key, value in model.arrays().items() if "emb" in key or "bias" in key}
    model = ALS(**small).fit(train)
    grown = model.fine_tune(test, epochs=1)
    found |= {"grown/users": grown.user_emb_UD}
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
    found = {}
    for processes in (1, 2, 4):
        done = torchrun(processes, "program.py", f"{processes}.npz", cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        found[processes] = dict(np.load(tmp_path / f"{processes}.npz"))
    one = found[1]
    assert {"cholesky/user_emb_UD", "explicit/bias_I", "per user/ndcg@10"} <= one.keys()
    for processes in (2, 4):
        assert found[processes].keys() == one.keys()
        for name, value in one.items():
            if "/" in name and not name.startswith("per user"):
                # Gram matrices are summed in the same parts, so that even conjugate gradients round alike; Numba's compiler may differ
                np.testing.assert_allclose(found[processes][name], value, rtol=1e-5, atol=1e-5, err_msg=name)
            else:
                np.testing.assert_array_equal(found[processes][name], value, err_msg=name)


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
