"""recsys-dl monitor: what fails, what does not, and what says that it cannot be known yet."""

import json

import numpy as np
import pytest
from processes import command

from recsys_dl import Interactions
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.data.vocabulary import Vocabulary, save_vocabularies
from recsys_dl.models import ALS
from recsys_dl.monitoring.drift import by_chance, popularity_groups, share_of_top, stability_index
from recsys_dl.runs import StageTimer, write_run

USERS, ITEMS, LISTS, K = 400, 200, 3000, 5
POPULAR = 1 / np.arange(1, ITEMS + 1)
POPULAR /= POPULAR.sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("monitor")
    rng = np.random.default_rng(0)
    items = np.concatenate([rng.choice(ITEMS, 15, replace=False, p=POPULAR) for _ in range(USERS)])
    log = Interactions(np.repeat(np.arange(USERS), 15), items, num_users=USERS, num_items=ITEMS)
    data = Dataset(log, Vocabulary(range(USERS), noun="user"), Vocabulary(range(ITEMS), noun="item"), name="monitor")
    (home / "run").mkdir()
    model = ALS(embedding_size=4, epochs=3, seed=0).fit(data)
    write_run(home / "run", config={}, model=model, seen=log, data=data, evaluations={}, stages=StageTimer())
    return home


def write_log(home, *, items=ITEMS, known=0.9, shown=None, chosen=None, rate=lambda t: 0.3, random_pays=0.1):
    """Write lists of K items over ten days, the last of which was drawn from 50; a chosen one is rewarded."""
    rng = np.random.default_rng(1)
    folder = home / "logs" / "one"
    folder.mkdir(parents=True)
    users, names = Vocabulary(range(USERS), noun="user"), Vocabulary(range(items), noun="item")
    save_vocabularies(folder, users, names)
    log = FeedbackLog(folder / "log", items=names)
    times = np.linspace(1_700_000_000, 1_700_864_000, LISTS).astype(int)
    even = np.full(items, 1 / items)
    arms = np.stack(
        [rng.choice(items, K, replace=False, p=even if shown is None else shown(t)) for t in np.linspace(0, 1, LISTS)]
    )
    users_B = rng.integers(0, USERS, LISTS)
    chances = np.full((LISTS, K), 1.0)
    chances[:, -1] = 1 / 50
    mine = rng.random(LISTS) < known
    for some, rows in ((mine, users_B), (~mine, None)):
        if some.any():
            log.append(
                arms[some],
                chances[some],
                requests_B=np.flatnonzero(some),
                users_B=None if rows is None else rows[some],
                times_B=times[some],
            )
    earns = np.array([rng.random() < rate(t) for t in np.linspace(0, 1, LISTS)])
    weights = (POPULAR[arms % ITEMS] if chosen is None else chosen(arms)).astype(float)
    at = np.array([rng.choice(K - 1, p=row[:-1] / row[:-1].sum()) for row in weights])
    log.reward(np.flatnonzero(earns), arms[earns, at[earns]], np.ones(earns.sum()), times[earns])
    lucky = rng.random(LISTS) < random_pays
    log.reward(np.flatnonzero(lucky), arms[lucky, -1], np.ones(lucky.sum()), times[lucky])
    return folder


def watched(folder, log, *words, status=0):
    answer = command(
        "monitor", f"run={folder}/run", f"log={log}", f"output={log}/figures.json", *words, cwd=folder, status=status
    )
    return json.loads((log / "figures.json").read_text()), answer.stdout


def test_a_log_like_training_passes(folder, tmp_path):
    # popular items in the lists, as users chose in training; the last item of each list drawn
    write_log(tmp_path, shown=lambda t: POPULAR, chosen=lambda arms: np.ones(arms.shape), random_pays=0.02)
    found, text = watched(folder, tmp_path, "popularity=0.5")
    assert found["failed"] == [], text
    assert "FAILED" not in text
    assert found["lists"] == LISTS
    assert sum(window["lists"] for window in found["windows"]) == LISTS
    values = {check["name"]: check["value"] for check in found["checks"]}
    assert values["new_users"] == pytest.approx(0.1, abs=0.02)
    assert values["lift"] > 1


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("unknown_items", {"items": ITEMS + 50}),
        ("new_users", {"known": 0.2}),
        ("popularity", {"chosen": lambda arms: (arms > 100) + 1e-9}),
        ("concentration", {"shown": lambda t: (1 - t) / ITEMS + t * np.eye(ITEMS)[:10].sum(axis=0) / 10}),
        ("quality", {"rate": lambda t: 0.4 if t < 0.5 else 0.2, "random_pays": 0.01}),
        ("lift", {"random_pays": 0.6}),
    ],
)
def test_each_check_fails_where_its_kind_of_change_is(folder, tmp_path, name, how):
    write_log(tmp_path, **how)
    found, text = watched(folder, tmp_path, status=3)
    assert name in found["failed"], text
    assert "FAILED" in text


def test_scores_of_other_users_are_drift(folder, tmp_path):
    from recsys_dl import load_run
    from recsys_dl.run_requests import Requests

    run = load_run(folder / "run")
    everyone = run.answer(Requests(run.users.ids, np.arange(USERS, dtype=np.int32), None), K).scores_BK[:, 0]
    low = np.argsort(everyone)[:40]
    names = Vocabulary(range(ITEMS), noun="item")
    (tmp_path / "logs/one").mkdir(parents=True)
    save_vocabularies(tmp_path / "logs/one", Vocabulary(range(USERS), noun="user"), names)
    log = FeedbackLog(tmp_path / "logs/one/log", items=names)
    rng = np.random.default_rng(0)
    arms = np.stack([rng.choice(ITEMS, K, replace=False) for _ in range(500)])
    log.append(arms, np.ones(arms.shape), requests_B=range(500), users_B=rng.choice(low, 500), times_B=range(500))
    found, text = watched(folder, tmp_path, status=3)
    assert found["failed"] == ["scores"], text
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["quality"]["value"] is None
    assert "are needed" in checks["quality"]["words"]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["log=nowhere"], 1, "must be the store of recsys-dl serve"),
        (["log=store", "quality=-1"], 2, "quality"),
        (["log=store", "windows=1"], 2, "windows"),
        (["log=store", "output=figures.csv"], 1, "output must be a .json file"),
        (["log=two"], 1, "has 2 logs"),
        (["log=bare"], 1, "a feedback log without the ids of its users and items; recsys-dl ope log=bare values"),
        (["log=shared"], 1, "shared/redis-1a2b3c4d/logs/b"),
        (["log='redis://:secret@host/0'"], 1, "the copy of its log that each server keeps in RUN.serving"),
    ],
)
def test_errors_say_what_to_do(folder, words, status, message):
    copies = ("shared/redis-1a2b3c4d/logs/a", "shared/redis-1a2b3c4d/logs/b")
    for name in ("store/logs/a", "two/logs/a", "two/logs/b", *copies):
        if not (folder / name).exists():
            FeedbackLog(folder / name / "log", num_arms=3)
    if not (folder / "bare").exists():
        FeedbackLog(folder / "bare", num_arms=3)
    answer = command("monitor", "run=run", *words, cwd=folder, status=status)
    assert message in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "secret" not in answer.stderr


def test_the_index_of_stability_is_its_formula_and_chance_is_as_often_as_said():
    then, now = np.array([30, 50, 20]), np.array([10, 60, 30])
    p, q = then / 100, now / 100
    assert stability_index(then, now) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    rng = np.random.default_rng(0)
    drawn = [stability_index(rng.multinomial(4000, [0.1] * 10), rng.multinomial(2000, [0.1] * 10)) for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(by_chance(10, 4000, 2000), rel=0.1)  # 400 draws: standard error 2%
    assert np.isfinite(stability_index(np.array([5, 5]), np.array([10, 0])))


def test_groups_of_items_hold_about_the_same_share_of_interactions():
    counts = np.random.default_rng(0).integers(0, 50, 500)
    groups = popularity_groups(counts)
    shares = np.bincount(groups, weights=counts) / counts.sum()
    assert np.abs(shares - 0.1).max() < 0.02
    assert counts[groups == 0].min() >= counts[groups == 9].max()
    assert share_of_top(np.array([0, 0, 0, 1]), 100) == 0.75
