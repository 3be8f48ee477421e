"""ALS minimizes the objectives it names, answers new users as it would known ones, and learns on."""

import numba
import numpy as np
import pytest
from conftest import SIMULATED

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models.als import ALS
from recsys_dl.models.explicit_als import ExplicitALS

OBJECTIVES = {
    "rendle2022": {
        "objective": "rendle2022",
        "unobserved_weight": 0.2,
        "regularization": 0.02,
        "frequency_exponent": 0.8,
    },
    "hu2008": {"objective": "hu2008", "confidence": 3.0, "regularization": 0.7},
}


def log(num_users=40, num_items=30, *, seed=0, tastes=3):
    """Ratings 1 to 5 that follow a planted low rank; the last user has nothing, the last item nobody."""
    rng = np.random.default_rng(seed)
    liked = rng.normal(size=(num_users, tastes)) @ rng.normal(size=(num_items, tastes)).T
    seen = rng.random(liked.shape) < 0.35
    seen[-1] = seen[:, -1] = False
    users, items = np.nonzero(seen)
    ratings = np.clip(np.round(3 + liked[seen]), 1, 5)
    return Interactions(users, items, ratings, num_users=num_users, num_items=num_items)


def written(objective, train, users, items):
    """The objective over all cells, term by term as the paper writes it, in float64."""
    r = train.by_user.toarray().astype(np.float64)
    x, y = users.astype(np.float64), items.astype(np.float64)
    dots, observed = x @ y.T, r > 0
    arguments = OBJECTIVES[objective]
    regularization = arguments["regularization"]
    if objective == "hu2008":
        fit = ((1 + arguments["confidence"] * r) * (observed - dots) ** 2).sum()
        return fit + regularization * ((x**2).sum() + (y**2).sum())
    weight, exponent = arguments["unobserved_weight"], arguments["frequency_exponent"]
    fit = (r * (1 - dots) ** 2)[observed].sum() + weight * (dots**2).sum()
    of_users = (observed.sum(axis=1) + weight * r.shape[1]) ** exponent
    of_items = (observed.sum(axis=0) + weight * r.shape[0]) ** exponent
    return fit + regularization * (of_users @ (x**2).sum(axis=1) + of_items @ (y**2).sum(axis=1))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_is_the_written_objective(objective):
    train = log()
    model = ALS(embedding_size=6, epochs=2, device="cpu", **OBJECTIVES[objective]).fit(train)
    wanted = written(objective, train, model.user_emb_UD, model.item_emb_ID)
    assert model.loss() == pytest.approx(wanted, rel=1e-6)  # weights and penalties are float32


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_users_minimise_the_written_objective(objective):
    train = log()
    model = ALS(embedding_size=6, epochs=3, device="cpu", **OBJECTIVES[objective]).fit(train)
    users, items = model.user_emb_UD.astype(np.float64), model.item_emb_ID
    least = written(objective, train, users, items)
    step = 1e-3
    for user in (0, 7, 38):
        for d in range(6):
            moved = np.zeros_like(users)
            moved[user, d] = step
            above, below = (written(objective, train, users + sign * moved, items) for sign in (1, -1))
            curvature = (above - 2 * least + below) / step**2
            # The minimum along this column lies where the gradient vanishes: within float32 rounding of the row.
            assert abs((above - below) / (2 * step)) < 1e-4 * curvature


@pytest.mark.parametrize("solver", ["cholesky", "cg", "ials++"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_each_epoch_lowers_the_objective(objective, solver):
    train = log()
    losses = [
        ALS(embedding_size=20, epochs=epochs, solver=solver, block_size=16, device="cpu", **OBJECTIVES[objective])
        .fit(train)
        .loss()
        for epochs in range(8)
    ]
    # float32 rows: the loss is known to about 1e-6 of itself
    assert (np.diff(losses) <= 1e-6 * np.array(losses[:-1])).all()
    assert losses[-1] < 0.8 * losses[0]


def test_solvers_find_the_same_minimum():
    train, arguments = log(), OBJECTIVES["rendle2022"]
    losses = [
        ALS(embedding_size=20, epochs=60, solver=solver, block_size=16, device="cpu", **arguments).fit(train).loss()
        for solver in ("cholesky", "cg", "ials++")
    ]
    np.testing.assert_allclose(losses, losses[0], rtol=2e-3)  # still creeping downhill after 60 epochs


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_fold_in_of_a_training_history_is_the_users_own_row(objective):
    train = log()
    model = ALS(embedding_size=6, epochs=2, device="cpu", **OBJECTIVES[objective]).fit(train)
    np.testing.assert_array_equal(model.fold_in(train).values, model.user_emb_UD)
    ranking, folded = model.recommend([3, 39], k=5), model.recommend(model.fold_in(train.of_users([3, 39])), k=5)
    np.testing.assert_array_equal(ranking.items_BK, folded.items_BK)


def test_devices_agree(device):
    train = log(6, 8) if SIMULATED else log()
    for arguments in OBJECTIVES.values():
        for solver in ("cholesky", "cg"):
            model = ALS(embedding_size=5, epochs=2, solver=solver, device=device, **arguments).fit(train)
            reference = ALS(embedding_size=5, epochs=2, solver=solver, device="cpu", **arguments).fit(train)
            # The kernels are compared with float64 elsewhere; this is about what the model hands to them. Small beginnings
            # grow a hundredfold in the first half-steps, and their rounding with them.
            np.testing.assert_allclose(model.user_emb_UD, reference.user_emb_UD, atol=2e-3)
            ranking = model.recommend([0, 1, len(model.user_emb_UD) - 1], k=3, exclude=train)
            np.testing.assert_array_equal(
                ranking.items_BK, reference.recommend([0, 1, len(model.user_emb_UD) - 1], k=3, exclude=train).items_BK
            )


def test_the_number_of_threads_changes_no_bit():
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("needs two processors")
    models = []
    for threads in (1, 2):
        numba.set_num_threads(threads)
        models.append(ALS(embedding_size=20, epochs=3, device="cpu").fit(log(300, 200)))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(models[0].user_emb_UD, models[1].user_emb_UD)
    np.testing.assert_array_equal(models[0].item_emb_ID, models[1].item_emb_ID)


def named(interactions, users, items):
    return Dataset(interactions, Vocabulary(users, noun="user"), Vocabulary(items, noun="item"))


def halves():
    """A log cut in two: the second half knows five users and four items more, and lists ids in another order."""
    whole = log()
    old = (whole.users_N < 35) & (whole.items_N < 26) & (np.arange(len(whole)) % 4 > 0)
    users, items = [f"u{row}" for row in range(40)], [f"i{row}" for row in range(30)]
    first = whole.select(old)
    first = Interactions(first.users_N, first.items_N, first.weights_N, num_users=35, num_items=26)
    later = whole.select(~old)
    later = Interactions(39 - later.users_N, 29 - later.items_N, later.weights_N, num_users=40, num_items=30)
    return whole, named(first, users[:35], items[:26]), named(later, users[::-1], items[::-1])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_learning_on_approaches_a_fit_to_everything(objective):
    whole, first, later = halves()
    model = ALS(embedding_size=6, epochs=30, device="cpu", **OBJECTIVES[objective]).fit(first)
    model.fine_tune(later, epochs=30)
    everything = ALS(embedding_size=6, epochs=60, device="cpu", **OBJECTIVES[objective]).fit(whole)
    assert model.loss() == pytest.approx(everything.loss(), rel=0.02)  # another of the near-equal local minima

    assert model.users.ids[:35].to_list() == [f"u{row}" for row in range(35)]  # known ids keep their rows
    met_users = np.unique(whole.users_N)
    assert set(model.users.ids) == {f"u{row}" for row in met_users}
    row, known = model.users.rows(["u37"]), model.items.rows([f"i{item}" for item in whole.by_user[37].indices])
    assert set(model.train_UI[row[0]].indices) == set(known)


def test_learning_on_survives_saving(tmp_path):
    _, first, later = halves()
    arguments = {"embedding_size": 6, "epochs": 3, "device": "cpu"}
    straight = ALS(**arguments).fit(first).fine_tune(later).fine_tune(first)
    ALS(**arguments).fit(first).save(tmp_path / "one")
    ALS.load(tmp_path / "one").fine_tune(later).save(tmp_path / "two")
    saved = ALS.load(tmp_path / "two").fine_tune(first)
    np.testing.assert_array_equal(saved.user_emb_UD, straight.user_emb_UD)
    assert saved.items.ids.to_list() == straight.items.ids.to_list()
    assert straight.train_UI.sum() == 2 * first.interactions.weights_N.sum() + later.interactions.weights_N.sum()


def test_learning_on_by_rows():
    model = ALS(embedding_size=6, epochs=5, device="cpu").fit(Interactions([0, 0, 1, 2], [0, 1, 1, 2]))
    model.fine_tune(Interactions([4, 4, 1], [0, 5, 2]), epochs=5)
    assert (model.num_users, model.num_items) == (5, 6)
    assert model.item_counts_I.tolist() == [2, 2, 2, 0, 0, 1]
    assert model.user_emb_UD[4].any()
    assert not model.user_emb_UD[3].any()  # never seen: nothing to learn from
    assert not model.item_emb_ID[3:5].any()


def test_what_fine_tune_refuses():
    _, first, later = halves()
    with pytest.raises(ValueError, match="has not been fitted"):
        ALS().fine_tune(first)
    model = ALS(embedding_size=4, epochs=1, device="cpu").fit(first)
    with pytest.raises(ValueError, match="pass new interactions as a Dataset"):
        model.fine_tune(later.interactions)
    bare = ALS(embedding_size=4, epochs=1, device="cpu").fit(first.interactions)
    with pytest.raises(ValueError, match="without ids"):
        bare.fine_tune(later)


def test_arguments_out_of_range():
    for wrong, message in (
        ({"objective": "bpr"}, "objective must be"),
        ({"regularization": 0}, "regularization must be a finite number above 0"),
        ({"unobserved_weight": -1}, "unobserved_weight must be a finite number at least 0"),
        ({"embedding_size": 0}, "embedding_size must be a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ALS(**wrong)
    with pytest.raises(ValueError, match="regularization must be a finite number above 0"):
        ExplicitALS(regularization=0)


@pytest.mark.parametrize("solver", ["cholesky", "cg", "ials++"])
def test_explicit_each_epoch_lowers_the_objective(solver):
    train = log()
    losses = [
        ExplicitALS(embedding_size=20, epochs=epochs, solver=solver, block_size=16, device="cpu").fit(train).loss(train)
        for epochs in range(1, 8)
    ]
    assert (np.diff(losses) <= 1e-6 * np.array(losses[:-1])).all()  # as above


def test_explicit_users_minimise_the_written_objective():
    train = log()
    model = ExplicitALS(embedding_size=4, epochs=3, regularization=0.2, device="cpu").fit(train)
    ratings = train.by_user
    for user in (0, 7, 38):
        items = ratings[user].indices
        features = np.column_stack([model.item_emb_ID[items], np.ones(len(items))]).astype(np.float64)
        wanted = ratings[user].data - model.mean - model.bias_I[items]
        solved = np.linalg.solve(
            features.T @ features + 0.2 * len(items) * np.eye(5), features.T @ wanted.astype(np.float64)
        )
        np.testing.assert_allclose(model.user_emb_UD[user], solved[:-1], atol=1e-5)  # of float32 entries below 1
        np.testing.assert_allclose(model.bias_U[user], solved[-1], atol=1e-5)


def test_explicit_predicts_planted_ratings():
    whole = log(150, 80, tastes=2)
    held = np.arange(len(whole)) % 10 == 0
    train, test = whole.select(~held), whole.select(held)
    model = ExplicitALS(embedding_size=4, regularization=0.05, device="cpu").fit(train)
    miss = model.predict(test.users_N, test.items_N) - test.weights_N
    spread = test.weights_N - train.weights_N.mean()
    assert np.sqrt((miss**2).mean()) < 0.6 * np.sqrt((spread**2).mean())  # rounding and clipping alone leave about 0.35


def test_explicit_for_someone_or_something_unknown():
    train = log()
    model = ExplicitALS(embedding_size=4, epochs=5, device="cpu").fit(train)
    nobody, nothing = 39, 29
    ratings = model.predict([nobody, 3, nobody, -1, 3, -1], [5, nothing, nothing, 5, -1, -1])
    wanted = model.mean + np.array([model.bias_I[5], model.bias_U[3], 0, model.bias_I[5], model.bias_U[3], 0])
    np.testing.assert_allclose(ratings, np.clip(wanted, 1, 5), rtol=1e-6)
    bias_B, emb_BD = model.fold_in(train).values
    np.testing.assert_array_equal(emb_BD, model.user_emb_UD)
    np.testing.assert_array_equal(bias_B, model.bias_U)


def test_explicit_devices_agree(device):
    train = log(6, 8) if SIMULATED else log()
    model, reference = (ExplicitALS(embedding_size=4, epochs=2, device=where).fit(train) for where in (device, "cpu"))
    np.testing.assert_allclose(model.user_emb_UD, reference.user_emb_UD, atol=1e-4)  # float32 twice over
    np.testing.assert_allclose(model.bias_I, reference.bias_I, atol=1e-4)


def test_real_ratings(shared_data):
    parts = (np.loadtxt(shared_data / f"ml-100k/u1.{part}", dtype=np.int64) for part in ("base", "test"))
    train, test = (
        Interactions(part[:, 0] - 1, part[:, 1] - 1, part[:, 2], num_users=943, num_items=1682) for part in parts
    )
    model = ExplicitALS(device="cpu").fit(train)
    miss = model.predict(test.users_N, test.items_N) - test.weights_N
    assert np.sqrt((miss**2).mean()) < 0.93  # scikit-surprise's SVD gets 0.95 on this fold


def test_a_fit_that_was_stopped_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    train = Interactions(rng.integers(0, 60, 600), rng.integers(0, 40, 600), num_users=60, num_items=40)
    whole = ALS(embedding_size=4, epochs=4, device="cpu").fit(train)
    solve, calls = ALS._solve_side, []

    def stops(self, *given):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return solve(self, *given)

    monkeypatch.setattr(ALS, "_solve_side", stops)
    with pytest.raises(KeyboardInterrupt):
        ALS(embedding_size=4, epochs=4, device="cpu").fit(train, checkpoint=tmp_path / "kept")
    calls.clear()
    resumed = ALS(embedding_size=4, epochs=4, device="cpu").fit(train, checkpoint=tmp_path / "kept")
    assert len(calls) == 4  # of two epochs out of four
    np.testing.assert_array_equal(resumed.user_emb_UD, whole.user_emb_UD)
    np.testing.assert_array_equal(resumed.item_emb_ID, whole.item_emb_ID)
    with pytest.raises(ValueError, match="a state of a different training: epochs was 4, is 5"):
        ALS(embedding_size=4, epochs=5, device="cpu").fit(train, checkpoint=tmp_path / "kept")
    (tmp_path / "kept" / "newest.npz").write_bytes(b"PK")
    with pytest.raises(
        ValueError, match=r"newest\.npz must be a state of this training, but cannot be read .* remove it"
    ):
        ALS(embedding_size=4, epochs=4, device="cpu").fit(train, checkpoint=tmp_path / "kept")
