"""The solver that ALS takes by itself."""

import numpy as np
import pytest

from recsys_dl import Interactions
from recsys_dl.families import als_solver
from recsys_dl.models import ALS, ExplicitALS


def a_log():
    rng = np.random.default_rng(0)
    users_N, items_N = np.nonzero(rng.random((60, 40)) < 0.2)
    return Interactions(users_N, items_N, rng.integers(1, 6, len(users_N)))


@pytest.mark.parametrize("model", [ALS, ExplicitALS])
@pytest.mark.parametrize(("work", "solver"), [(1e12, "cholesky"), (1, "cg")])
def test_auto_is_exact_where_an_epoch_is_cheap(model, work, solver, monkeypatch):
    monkeypatch.setattr(als_solver, "EXACT_WORK", work)
    auto, named = (model(embedding_size=8, epochs=3, solver=one, device="cpu").fit(a_log()) for one in ("auto", solver))
    other = model(embedding_size=8, epochs=3, solver={"cg": "cholesky", "cholesky": "cg"}[solver], device="cpu").fit(
        a_log()
    )
    np.testing.assert_array_equal(auto.item_emb_ID, named.item_emb_ID)
    assert (auto.item_emb_ID != other.item_emb_ID).any()


def test_the_work_counts_both_sides_of_every_pair_and_a_solve_for_every_row():
    assert als_solver.solver_for("auto", 100, entries=5e6, rows=0) == "cholesky"
    assert als_solver.solver_for("auto", 100, entries=5e6 + 1, rows=0) == "cg"
    assert als_solver.solver_for("auto", 100, entries=0, rows=300_000) == "cholesky"
    assert als_solver.solver_for("auto", 100, entries=0, rows=300_001) == "cg"
    assert als_solver.solver_for("ials++", 2, entries=1, rows=2) == "ials++"
