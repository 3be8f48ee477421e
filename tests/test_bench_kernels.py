"""recsys-dl bench kernels: what it measures, and that what it measures is right."""

import csv
import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from processes import command

from recsys_dl.benchmarking import JOBS
from recsys_dl.benchmarking.jobs import contender, shape_of
from recsys_dl.benchmarking.kernels import installed
from recsys_dl.benchmarking.objective import hu2008, rendle2022
from recsys_dl.benchmarking.rated import rated

HERE = ("als_cg", "item_knn", "top_k")


def a_log():
    log_UI = sp.random(150, 120, 0.1, format="csr", dtype=np.float32, random_state=0)
    log_UI.data[:] = 1
    return log_UI


def test_every_contender_that_is_installed_has_a_row(tmp_path):
    said = command(
        "bench",
        "kernels",
        f"jobs=[{','.join(HERE)}]",
        "logs=[ml-100k]",
        "sizes=[8]",
        "rounds=2",
        "threads=1",
        cwd=tmp_path,
    ).stdout
    rows = list(csv.DictReader((tmp_path / "bench/kernels.csv").open()))
    assert {row["job"] for row in rows} == {*HERE}
    for row in rows:
        assert float(row["fastest"]) <= float(row["seconds"]) <= float(row["slowest"])
        assert int(row["peak"]) > 50e6
        assert f"| {row['job']} | ml-100k |" in said
    errors = [
        float(row["figure"]) for row in rows if row["job"] in ("item_knn", "top_k") and row["contender"] == "recsys_dl"
    ]
    assert len(errors) == 2
    assert max(errors) < 1e-5
    assert (tmp_path / "bench/kernels.png").stat().st_size > 5_000


@pytest.mark.parametrize("job", ["als_cg", "als_exact", "als_blocks"])
def test_every_epoch_lowers_the_objective_that_is_reported(job):
    for name in (name for name in JOBS[job].contenders if name.startswith("recsys_dl")):
        made = contender(job, name, a_log(), 8, 1)
        figures = []
        for _ in range(4):
            made.step()
            figures.append(made.figure())
        assert all(later < earlier for earlier, later in itertools.pairwise(figures))


@pytest.mark.parametrize(("objective", "solver"), [(rendle2022, "rendle2022"), (hu2008, "hu2008")])
def test_the_objective_is_least_where_exact_solves_end(objective, solver):
    name = {"rendle2022": "recsys_dl", "hu2008": "recsys_dl, hu2008"}[solver]
    made = contender("als_exact", name, a_log(), 4, 1)
    for _ in range(60):
        made.step()
    lowest = objective(made.log_UI, made.users, made.items)
    for table in (made.users, made.items):
        for change in (0.02, -0.02):
            table += np.float32(change)
            assert objective(made.log_UI, made.users, made.items) > lowest
            table -= np.float32(change)


@pytest.mark.parametrize("job", ["svd", "ease", "judge", "evaluate"])
def test_contenders_have_the_same_figure(job):
    figures = {}
    for name in JOBS[job].contenders:
        if installed(name):
            made = contender(job, name, a_log(), 8, 1)
            made.step()
            figures[name] = made.figure()
    assert 0 < figures["recsys_dl"] < np.inf
    tolerance = {"svd": 2e-3, "ease": 1e-5}.get(job, 1e-6)  # scikit-learn's SVD is approximate; float32 inverses
    assert figures == pytest.approx(dict.fromkeys(figures, figures["recsys_dl"]), rel=tolerance)


@pytest.mark.parametrize("job", ["funk_svd", "svd_pp", "item_ratings_knn", "user_ratings_knn"])
def test_ratings_are_learned(job):
    log_UI = a_log()
    made = contender(job, "recsys_dl", log_UI, 8, 1)
    made.step()
    data = rated(log_UI)
    assert len(data.ratings_H) == log_UI.nnz // 100
    assert data.train_UI.nnz + len(data.ratings_H) == log_UI.nnz
    assert made.figure() < data.error(np.full(len(data.ratings_H), data.train_UI.data.mean()))


def test_costs_grow_with_what_they_depend_on():
    log_UI = a_log()
    for name, job in JOBS.items():
        small, large = (shape_of(log_UI, size) for size in (16, 32))
        assert job.amount(small) > 0
        if job.cost is not None and job.sized:
            assert all(more > less for more, less in zip(job.cost(large), job.cost(small), strict=True)), name


def test_wrong_words_and_a_folder_that_exists_are_refused(tmp_path):
    assert "did you mean 'als_cg'" in command("bench", "kernels", "jobs=[als_gc]", cwd=tmp_path, status=2).stderr
    assert "ml-20m" in command("bench", "logs=[ml-2m]", cwd=tmp_path, status=2).stderr
    (tmp_path / "bench").mkdir()
    assert "exists already" in command("bench", cwd=tmp_path, status=1).stderr
