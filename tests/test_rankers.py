"""What every ranker promises. Runs once for each YAML in conf/ranker; a new ranker needs no line here."""

import re

import numpy as np
import pytest
from hydra.utils import instantiate
from processes import program as run_program

from recsys_dl.compose import compose, options
from recsys_dl.data.groups import Groups
from recsys_dl.rankers.attention_ranker import AttentionRanker
from recsys_dl.rankers.mlp_ranker import MLPRanker
from recsys_dl.rankers.ranker import Ranker

NUM_FEATURES = 5
NAMES = ["good", "bad", "noise", "constant", "count"]


def planted(num_groups: int, seed: int) -> Groups:
    """Grades 0-2 that rise with the feature "good" and fall with "bad"; some groups are of one document, some all alike."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, num_groups)
    features = rng.normal(size=(sizes.sum(), NUM_FEATURES))
    features[:, 3] = 4.0
    features[:, 4] = np.floor(np.exp(3 * features[:, 4]))
    worth = 2 * features[:, 0] - features[:, 1]
    grades = (worth > 0.5).astype(int) + (worth > 2.0)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    grades[starts[3] : starts[5]] = 0
    return Groups(features, grades, sizes, names=NAMES)


TRAIN, VALIDATION, TEST = planted(100, 0), planted(40, 1), planted(60, 2)


def build(name: str, **changes):
    small = {"lambdamart": {"num_trees": 60}}.get(name, {"epochs": 12, "learning_rate": 0.02})
    overrides = [f"ranker.{key}={value}" for key, value in (small | changes).items()]
    return instantiate(compose("train", [f"+ranker={name}", "device=cpu", *overrides]).ranker)


@pytest.fixture(scope="module", params=options("ranker"))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def ranker(name):
    ranker = build(name)
    assert ranker.fit(TRAIN, validation=VALIDATION) is ranker
    return ranker


def test_planted_order_is_found(ranker):
    found, random = (ranker._ndcg(scores, TEST) for scores in (ranker.score_groups(TEST), TEST.features_NF[:, 2]))
    assert found > 0.95
    assert random < 0.7


def test_lists_rows_and_groups_are_scored_alike(ranker):
    part = TEST.padded(np.arange(20))
    scores_BL = ranker.score(part.features_BLF, part.valid_BL)
    assert scores_BL.dtype == np.float32
    assert np.isneginf(scores_BL[~part.valid_BL]).all()
    assert np.isfinite(scores_BL[part.valid_BL]).all()
    by_group = ranker.score_groups(TEST)
    # a matrix product of another shape adds in another order: float32 rounding
    np.testing.assert_allclose(scores_BL[part.valid_BL], by_group[part.rows_BL[part.valid_BL]], rtol=1e-4, atol=1e-5)
    for q in range(5):
        rows = slice(TEST.starts_Q[q], TEST.starts_Q[q + 1])
        np.testing.assert_allclose(ranker.score_rows(TEST.features_NF[rows]), by_group[rows], rtol=1e-4, atol=1e-5)


def test_padding_changes_nothing(ranker):
    part = TEST.padded(np.arange(12))
    expected = ranker.score(part.features_BLF, part.valid_BL)
    noise = np.where(part.valid_BL[..., None], part.features_BLF, np.nan)
    wider = np.concatenate([noise, np.full((12, 7, NUM_FEATURES), 1e6)], axis=1)
    valid = np.pad(part.valid_BL, ((0, 0), (0, 7)))
    scores = ranker.score(wider, valid)
    np.testing.assert_allclose(scores[:, : expected.shape[1]], expected, rtol=1e-4, atol=1e-5)
    assert np.isneginf(scores[:, expected.shape[1] :]).all()


def test_candidates_in_another_order_have_the_same_scores(ranker):
    features = TEST.features_NF[:9][None]
    order = np.random.default_rng(0).permutation(9)
    np.testing.assert_allclose(ranker.score(features[:, order]), ranker.score(features)[:, order], rtol=1e-4, atol=1e-5)


def test_nothing_to_score(ranker):
    assert ranker.score(np.empty((0, 4, NUM_FEATURES))).shape == (0, 4)
    assert ranker.score(np.empty((3, 0, NUM_FEATURES))).shape == (3, 0)
    empty = ranker.score(np.zeros((2, 3, NUM_FEATURES)), np.array([[False] * 3, [True] * 3]))
    assert np.isneginf(empty[0]).all()
    assert np.isfinite(empty[1]).all()
    assert ranker.score_rows(np.empty((0, NUM_FEATURES))).shape == (0,)


def test_blocks_of_any_size_are_scored_alike(ranker, monkeypatch):
    part = TEST.padded()
    expected = ranker.score(part.features_BLF, part.valid_BL)
    for module in ("ranker", "neural"):
        monkeypatch.setattr(f"recsys_dl.rankers.{module}.BLOCK_BYTES", 2000)
    np.testing.assert_allclose(ranker.score(part.features_BLF, part.valid_BL), expected, rtol=1e-4, atol=1e-5)


def test_validation_stops_and_the_best_is_kept(ranker):
    assert ranker._ndcg(ranker.score_groups(VALIDATION), VALIDATION) == pytest.approx(max(ranker.history), abs=1e-12)
    hopeless = Groups(VALIDATION.features_NF, VALIDATION.labels_N[::-1].copy(), VALIDATION.sizes_Q, names=NAMES)
    name = type(ranker).__module__.rpartition(".")[2]
    stopped = build(name, patience=3).fit(TRAIN, validation=hopeless)
    best = int(np.argmax(stopped.history))
    assert len(stopped.history) == best + 4
    assert build(name).fit(TRAIN).history == []


def test_same_seed_same_bits(ranker, name):
    twin = build(name).fit(TRAIN, validation=VALIDATION)
    np.testing.assert_array_equal(twin.score_groups(TEST), ranker.score_groups(TEST))
    changes = {"query_fraction": 0.5} if name == "lambdamart" else {"epochs": 1}
    one, other = (build(name, seed=seed, **changes).fit(TRAIN).score_groups(TEST) for seed in (1, 2))
    assert (one != other).any()


def test_a_saved_ranker_answers_the_same_in_a_new_process(ranker, tmp_path):
    folder = tmp_path / "ranker"
    ranker.save(folder)
    np.save(tmp_path / "features.npy", TEST.features_NF[:8])
    program = f"""
import numpy as np
from recsys_dl.rankers.ranker import Ranker
ranker = Ranker.load({str(folder)!r})
np.save({str(tmp_path / "scores.npy")!r}, ranker.score_rows(np.load({str(tmp_path / "features.npy")!r})))
print(type(ranker).__name__, ranker.names, len(ranker.history))
"""
    out = run_program(program)
    assert out.strip() == f"{type(ranker).__name__} {ranker.names} {len(ranker.history)}"
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), ranker.score_rows(TEST.features_NF[:8]))
    again = type(ranker).load(folder)
    assert again.arguments() == ranker.arguments()
    assert {file.suffix for file in folder.iterdir()} == {".yaml", ".npz"}
    with pytest.raises(FileExistsError, match="exists already"):
        ranker.save(folder)
    ranker.save(folder, overwrite=True)


def test_what_is_not_a_saved_ranker(ranker, tmp_path):
    with pytest.raises(FileNotFoundError, match="must hold a saved ranker"):
        Ranker.load(tmp_path)
    ranker.save(tmp_path / "ranker")
    other = AttentionRanker if isinstance(ranker, MLPRanker) else MLPRanker
    with pytest.raises(ValueError, match=rf"which is not an? {other.__name__}"):
        other.load(tmp_path / "ranker")
    file = tmp_path / "ranker" / "arrays.npz"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"arrays\.npz is missing or damaged"):
        Ranker.load(tmp_path / "ranker")


def test_importance_finds_what_was_planted(ranker):
    worth = ranker.feature_importance(TEST)
    assert sorted(worth, key=worth.get)[-1] == "good"
    assert worth["constant"] == 0
    assert worth["good"] > 0.1 > abs(worth["noise"])
    assert ranker.feature_importance(TEST) == worth


@pytest.mark.parametrize(
    ("features", "valid", "message"),
    [
        (
            np.zeros((2, 3, 4)),
            None,
            "features must be [B, L, 5] as in training, and valid [B, L]; got (2, 3, 4) and (2, 3)",
        ),
        (np.zeros((3, 5)), None, "features must be [B, L, 5]"),
        (np.zeros((2, 3, 5)), np.ones((2, 4), bool), "got (2, 3, 5) and (2, 4)"),
        (np.full((2, 3, 5), np.nan), None, "features must be finite, got nan for good of list 0"),
    ],
)
def test_lists_that_do_not_fit(ranker, features, valid, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ranker.score(features, valid)


def test_groups_that_do_not_fit(ranker, name):
    other = Groups(TEST.features_NF[:, :4], TEST.labels_N, TEST.sizes_Q)
    turned = Groups(TEST.features_NF, TEST.labels_N, TEST.sizes_Q, names=["good", "noise", "bad", "constant", "count"])
    nothing = Groups(TEST.features_NF, np.zeros(TEST.num_documents), TEST.sizes_Q, names=NAMES)
    with pytest.raises(ValueError, match="groups must have the 5 features of training, got 4"):
        ranker.score_groups(other)
    with pytest.raises(ValueError, match="in the same order, got 'noise' instead of 'bad'"):
        ranker.score_groups(turned)
    fresh = build(name)
    with pytest.raises(ValueError, match="validation must have the 5 features of training, got 4"):
        fresh.fit(TRAIN, validation=other)
    with pytest.raises(ValueError, match="validation must hold a document that is relevant"):
        fresh.fit(TRAIN, validation=nothing)
    with pytest.raises(ValueError, match="at least one group"):
        fresh.fit(TRAIN.select([]))


def test_not_fitted(name, tmp_path):
    fresh = build(name)
    for call in (
        lambda: fresh.score_rows(np.zeros((1, 5))),
        lambda: fresh.score_groups(TEST),
        lambda: fresh.save(tmp_path),
    ):
        with pytest.raises(ValueError, match="has not been fitted"):
            call()


@pytest.mark.parametrize("experiment", [name for name in options("experiment") if name.startswith("ltr_")])
def test_every_experiment_is_a_ranker(experiment):
    assert isinstance(instantiate(compose("train", [f"experiment={experiment}", "device=cpu"]).ranker), Ranker)


def test_lists_and_mappings_of_a_config_are_kept_as_plain_values(tmp_path):
    overrides = ["ranker.propensities=[1,0.5]", "++ranker.monotone.good=1", "ranker.num_trees=2"]
    ranker = instantiate(compose("train", ["+ranker=lambdamart", *overrides]).ranker)
    clicks = Groups(
        TRAIN.features_NF,
        TRAIN.labels_N > 0,
        TRAIN.sizes_Q,
        names=NAMES,
        positions_N=1 + np.arange(len(TRAIN.labels_N)) % 2,
    )
    ranker.fit(clicks).save(tmp_path / "ranker")
    again = Ranker.load(tmp_path / "ranker")
    assert (again.propensities, again.monotone) == ([1.0, 0.5], {"good": 1})


def test_groups_without_an_order_are_refused(name):
    same = Groups(TRAIN.features_NF, np.repeat(np.arange(len(TRAIN)) % 3, TRAIN.sizes_Q), TRAIN.sizes_Q)
    for groups in (same, Groups(TRAIN.features_NF, np.zeros(TRAIN.num_documents), TRAIN.sizes_Q)):
        ranker = build(name)
        with pytest.raises(
            ValueError, match="within each of 100 groups all labels are equal, so there is no order to learn"
        ):
            ranker.fit(groups)
        assert not hasattr(ranker, "num_features")


def test_a_ranker_that_learned_one_constant_says_so(name, caplog):
    groups = Groups(np.ones((60, 2)), np.tile([0, 1, 2], 20), [3] * 20)
    ranker = build(name).fit(groups)
    assert np.ptp(ranker.score_groups(groups)) == 0
    assert "learned a constant" in caplog.text
    caplog.clear()
    build(name).fit(TRAIN)
    assert "constant" not in caplog.text


def test_what_is_not_finite_is_not_kept(ranker, name, monkeypatch):
    before = ranker.score_groups(TEST)
    monkeypatch.setattr(type(ranker), "_scores", lambda self, features, valid: np.full(valid.shape, np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        ranker.fit(planted(30, 9))
    monkeypatch.undo()
    np.testing.assert_array_equal(ranker.score_groups(TEST), before)


def test_ctrl_c_leaves_a_ranker_as_it_was(ranker, name, monkeypatch):
    before = ranker.score_groups(TEST)
    place = "lightgbm.train" if name == "lambdamart" else "recsys_dl.training.fitting.fit_scorer"

    def stop(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, stop)
    with pytest.raises(KeyboardInterrupt):
        ranker.fit(planted(30, 9))
    np.testing.assert_array_equal(ranker.score_groups(TEST), before)
