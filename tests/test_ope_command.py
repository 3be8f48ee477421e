"""Logs of decisions are read, and `recsys-dl ope` values a policy on them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_dl.bandits import LinUCB, Thompson
from recsys_dl.cli import main
from recsys_dl.data.feedback import BanditFeedback
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.off_policy import policy_table
from recsys_dl.readers.bandit_log import read_bandit_log, read_probabilities

CHANCES = np.array([0.1, 0.2, 0.6])


def frame(size=3000, seed=0, logged=(0.5, 0.3, 0.2)):
    rng = np.random.default_rng(seed)
    arms = rng.choice(3, size, p=logged)
    clicks = (rng.random(size) < CHANCES[arms]).astype(int)
    names = np.array(["hat", "coat", "scarf"])
    return pl.DataFrame(
        {
            "when": np.arange(size),
            "Item ID": names[arms],
            "click": clicks,
            "propensity_score": np.array(logged)[arms],
            "slot": rng.integers(1, 3, size),
            "age": rng.normal(size=size),
            "city": np.array(["Rome", "Bern"])[rng.integers(0, 2, size)],
            "visitor": rng.integers(100, 200, size),
        }
    )


def test_columns_are_recognized_or_named_and_contexts_encoded():
    log = read_bandit_log(frame(100), contexts=["age", "city"], user="visitor", position=False)
    assert log.columns == {"arm": "Item ID", "reward": "click", "propensity": "propensity_score"}
    assert log.contexts == ["age", "city=Bern", "city=Rome"]
    assert log.feedback.contexts_RF.shape == (100, 3)
    assert log.arms.ids.to_list() == ["coat", "hat", "scarf"]
    assert log.feedback.users_R.max() < 100
    assert log.feedback.positions_R is None
    with_positions = read_bandit_log(frame(100))
    assert set(with_positions.feedback.positions_R.tolist()) == {0, 1}
    other = frame(50).rename({"click": "gain", "propensity_score": "p0", "Item ID": "thing"})
    log = read_bandit_log(other, arm="thing", reward="gain", propensity="p0", arms=["scarf", "hat", "coat", "belt"])
    assert log.feedback.num_arms == 4
    np.testing.assert_array_equal(log.arms.at(log.feedback.arms_RK[:, 0]).to_numpy(), other["thing"].to_numpy())
    numbered = read_bandit_log({"action": [10, 9, 2], "reward": [0.5, 1, 0], "pscore": [0.5, 0.5, 1]})
    assert numbered.arms.ids.to_list() == ["2", "9", "10"]


def test_a_table_of_probabilities_a_log_and_a_saved_policy_are_valued(tmp_path, capsys):
    log, probabilities = tmp_path / "log.csv", tmp_path / "policy.csv"
    frame().drop("slot").write_csv(log)
    probabilities.write_text("item,probability\nscarf,0.8\nhat,0.2\n")
    assert main(["ope", f"log={log}", f"policy={probabilities}", f"output={tmp_path / 'out.json'}", "threads=1"]) == 0
    out = json.loads((tmp_path / "out.json").read_text())
    truth = 0.8 * 0.6 + 0.2 * 0.1
    found = {one["name"]: one for one in out["estimates"]}
    for name in ("ips", "snips", "dr"):
        assert found[name]["low"] < truth < found[name]["high"]
    assert out["settings"]["policy"] == str(probabilities)
    printed = capsys.readouterr().out
    assert "effective sample size" in printed
    assert "propensity: propensity_score" in printed

    own = tmp_path / "own.parquet"
    frame(2000, 1, logged=(0.2, 0.1, 0.7)).drop("slot").write_parquet(own)
    assert main(["ope", f"log={log}", f"policy={own}", "estimators=[snips]", f"output={tmp_path / 'own.json'}"]) == 0
    (snips,) = json.loads((tmp_path / "own.json").read_text())["estimates"]
    assert snips["low"] < 0.2 * 0.1 + 0.1 * 0.2 + 0.7 * 0.6 < snips["high"]

    Thompson().start(3).save(tmp_path / "thompson")
    assert (
        main(
            [
                "ope",
                f"log={log}",
                f"policy={tmp_path / 'thompson'}",
                "estimators=[ips]",
                f"output={tmp_path / 't.json'}",
            ]
        )
        == 0
    )
    (ips,) = json.loads((tmp_path / "t.json").read_text())["estimates"]
    assert ips["low"] < CHANCES.mean() < ips["high"]


def test_positions_have_their_own_probabilities(tmp_path, capsys):
    log, probabilities = tmp_path / "log.csv", tmp_path / "policy.csv"
    frame().write_csv(log)
    probabilities.write_text("item,slot,probability\nscarf,1,1\nhat,2,1\n")
    assert main(["ope", f"log={log}", f"policy={probabilities}", "estimators=[snips]"]) == 0
    table, _ = read_probabilities(probabilities, read_bandit_log(log))
    np.testing.assert_array_equal(table, [[0, 0, 1], [0, 1, 0]])
    probabilities.write_text("item,probability\nscarf,1\n")
    assert main(["ope", f"log={log}", f"policy={probabilities}"]) == 1
    assert "need a column of positions too" in capsys.readouterr().err
    for text, said in (("scarf,2,1", "must sum to 1 in each row, got 0 in row 0"), ("scarf,3,1", "1 to 2, got 3 to 3")):
        probabilities.write_text(f"item,slot,probability\n{text}\n")  # not the first position: no other row is meant
        assert main(["ope", f"log={log}", f"policy={probabilities}"]) == 1
        assert said in capsys.readouterr().err


def test_shares_of_a_log():
    table = policy_table(BanditFeedback([[0], [1], [1], [1]], np.zeros((4, 1)), None, 3, positions_R=[0, 0, 1, 1]))
    np.testing.assert_array_equal(table, [[0.5, 0.5, 0], [0, 1, 0]])
    slates = policy_table(BanditFeedback([[0, 1], [2, -1]], np.zeros((2, 2)), None, 3))
    np.testing.assert_array_equal(slates, [[0.5, 0, 0.5], [0, 1, 0]])
    with pytest.raises(ValueError, match="position 0 .* has no rounds"):
        policy_table(BanditFeedback([[0]], [[1.0]], None, 3, positions_R=[1]))


def test_open_bandit_data_as_it_comes(shared_data, tmp_path):
    folder = shared_data / "obd"
    log = read_bandit_log(folder / "random")
    assert (len(log.feedback), log.feedback.num_arms, len(log.arms)) == (10_000, 80, 80)
    assert log.arms.ids.to_list() == [str(item) for item in range(80)]
    assert log.feedback.rewards_RK.mean() == pytest.approx(0.0038)
    assert np.allclose(log.feedback.propensities_RK, 1 / 80)
    assert set(log.feedback.positions_R.tolist()) == {0, 1, 2}
    assert log.contexts[0].startswith("user_feature_0=")
    out = tmp_path / "obd.json"
    words = [f"log={folder / 'random'}", f"policy={folder / 'bts'}", "estimators=[ips,snips]", f"output={out}"]
    assert main(["ope", *words]) == 0
    found = json.loads(out.read_text())
    assert found["estimates"][0]["value"] == pytest.approx(0.005035, abs=1e-6)
    assert found["warnings"]


BAD = [  # columns that replace those of the log, words of the command, what is said
    ({"propensity_score": [0.0]}, [], "propensities must be above 0 and at most 1"),
    ({"propensity_score": [1.5]}, [], "propensities must be above 0 and at most 1"),
    ({"propensity_score": [None]}, [], "row 0 (from 0, without header): 'propensity_score' must be a number, got None"),
    ({"propensity_score": ["half"]}, [], "must be a number, got 'half'"),
    ({"click": [7]}, [], "rewards must be within reward_range, 0 to 1, got 7"),
    ({"click": [None]}, [], "'click' must be a number, got None"),
    ({"Item ID": [None]}, [], "has no 'Item ID', the arm that was shown"),
    ({}, ["reward=clicks"], "reward=clicks does not exist"),
    ({}, ["contexts=[agee]"], "contexts=agee does not exist"),
    ({}, ["estimators=[ipw]"], "estimators"),
    ({}, ["estimators=ips", "clip=3"], "clip=3 would have no effect: it is of clipped_ips, and estimators=['ips'] does not name it"),
    ({}, ["estimators=[ips,snips]", "folds=3"], "folds=3 would have no effect: it is of dm, dr"),
    ({}, ["estimators=ips", "reward_model=lightgbm"], "reward_model=lightgbm would have no effect"),
    ({}, ["estimators=[replay]"], "replay needs the log of a uniformly random policy"),
    ({}, ["output=figures.csv"], "output must be a .json file"),
    ({}, ["clip=0"], "clip"),
    ({"pscore": [0.5]}, [], "propensity_score, pscore could all be the propensity; name one: propensity=propensity_score"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "words", "said"), BAD)
def test_bad_logs_are_refused_with_the_row_or_the_setting(columns, words, said, tmp_path, capsys):
    table = frame(20).drop("slot").to_dict(as_series=False)
    table = {**table, **{name: [*values, *table.get(name, values * 20)[1:]] for name, values in columns.items()}}
    pl.DataFrame(table, strict=False).write_csv(tmp_path / "log.csv")
    (tmp_path / "policy.csv").write_text("item,probability\nscarf,0.5\nhat,0.5\n")
    assert main(["ope", f"log={tmp_path / 'log.csv'}", f"policy={tmp_path / 'policy.csv'}", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("item,probability\nscarf,0.5\nhat,0.4\n", "must sum to 1 in each row, got 0.9"),
        ("item,probability\nscarf,1.5\nhat,-0.5\n", "must be at least 0 and finite, got -0.5"),
        ("item,probability\nscarf,0.5\nscarf,0.5\n", "the arm 'scarf' has more than one probability"),
        (
            "item,probability\nboots,1\n",
            "missing support: 100.00% of the policy's choices are arms that the logging policy never logged: arm boots",
        ),
        ("item,chance\nscarf,1\n", "none of its columns is recognized as the propensity"),
    ],
)
def test_bad_policies_are_refused(text, said, tmp_path, capsys):
    frame(200).drop("slot").write_csv(tmp_path / "log.csv")
    (tmp_path / "policy.csv").write_text(text)
    assert main(["ope", f"log={tmp_path / 'log.csv'}", f"policy={tmp_path / 'policy.csv'}"]) == 1
    assert said in capsys.readouterr().err


def test_an_arm_that_was_never_logged_is_named_by_its_id(tmp_path, capsys):
    frame(500, logged=(0.6, 0.4, 0.0)).drop("slot").write_csv(tmp_path / "log.csv")
    other = frame(500, 1).drop("slot")
    other.write_csv(tmp_path / "other.csv")
    share = (other["Item ID"] == "scarf").mean()
    assert main(["ope", f"log={tmp_path / 'log.csv'}", f"policy={tmp_path / 'other.csv'}"]) == 1
    error = capsys.readouterr().err
    assert f"never logged: arm scarf in {share:.2%} of the rounds" in error
    assert "allowed_missing=" in error
    assert main(["ope", f"log={tmp_path / 'log.csv'}", f"policy={tmp_path / 'other.csv'}", "allowed_missing=0.3"]) == 0
    assert main(["ope", f"log={tmp_path / 'missing.csv'}", f"policy={tmp_path / 'other.csv'}"]) == 1
    assert main(["ope", f"log={tmp_path / 'log.csv'}", "policy=thompson"]) == 1
    assert "policy=thompson: there is no such file or folder" in capsys.readouterr().err


def test_the_published_ratio_of_open_bandit_data_is_reproduced(shared_data):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("bench_off_policy", Path(__file__).parents[1] / "scripts/bench_off_policy.py")
    bench = module_from_spec(spec)
    spec.loader.exec_module(bench)
    log = read_bandit_log(shared_data / "obd" / "random").feedback
    value, ratio, _ = bench._relative(log, bench.drawn_table())
    assert (value, ratio) == ("0.004553", "1.198")  # as published: 0.004553..., 1.198126...


def test_a_feedback_log_is_a_log(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    log = FeedbackLog("shown", num_arms=3)
    slates = np.array([rng.permutation(3)[:2] for _ in range(400)])
    log.append(slates, np.full((400, 2), 1 / 3), requests_B=np.arange(400), users_B=np.arange(400) % 50)
    rewards = rng.random(slates.shape) < CHANCES[slates]
    log.reward(np.repeat(np.arange(400), 2), slates.ravel(), rewards.ravel().astype(float))
    read = read_bandit_log("shown")
    assert (len(read.feedback), read.arms.ids.to_list()) == (800, ["0", "1", "2"])
    np.testing.assert_array_equal(read.feedback.arms_RK[:, 0], slates.ravel())
    np.testing.assert_array_equal(read.feedback.rewards_RK[:, 0], rewards.ravel())
    assert set(read.feedback.positions_R.tolist()) == {0, 1}
    Thompson(seed=1).start(3).save("policy")
    assert main(["ope", "log=shown", "policy=policy", "threads=1"]) == 0  # by the policy's shares at each position
    assert "bootstrap over users" in capsys.readouterr().out
    assert main(["ope", "log=shown", "policy=policy", "arm=item"]) == 1
    assert "whose columns are known; leave out arm=…" in capsys.readouterr().err


def test_a_saved_policy_knows_its_arms_by_number(tmp_path, capsys, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Thompson(seed=1).start(3).save("policy")
    learned = Thompson(seed=1).start(3).update(BanditFeedback([[2]] * 500, [[1.0]] * 500, None, num_arms=3))
    learned.save("third")
    table = frame(2000, logged=(1 / 3, 1 / 3, 1 / 3)).drop("slot")
    table.write_csv("log.csv")
    assert main(["ope", "log=log.csv", "policy=policy", "estimators=[ips]"]) == 0
    assert "taken in order: 0 is 'coat', 1 is 'hat', 2 is 'scarf'" in caplog.text
    caplog.clear()
    table.with_columns(pl.col("Item ID").replace({"hat": "2", "coat": "1", "scarf": "0"})).filter(
        pl.col("Item ID") != "1"
    ).with_columns(pl.lit(0.5).alias("propensity_score")).write_csv("numbers.csv")  # arm 1 was never logged
    assert (
        main(["ope", "log=numbers.csv", "policy=third", "estimators=[snips]", "output=value.json", "allowed_missing=1"])
        == 0
    )
    assert "in order" not in caplog.text
    hats = table.filter(pl.col("Item ID") == "hat")["click"].mean()  # arm 2
    assert json.loads(Path("value.json").read_text())["estimates"][0]["value"] == pytest.approx(hats, abs=0.01)
    Thompson(seed=1).start(5).save("five")
    LinUCB(seed=1).start(3, context_size=2).save("linear")
    for words, said in (
        (["policy=five"], "policy=five has 5 arms, and log.csv 3, such as 'coat'"),
        (["policy=linear"], "looks at contexts of 2 numbers, and contexts=… has none"),
        (["policy=linear", "contexts=[age,city]"], "has 3: age, city=Bern, city=Rome"),
        (["policy=policy", "output=no/x.json"], "output must be in an existing folder, but no does not exist"),
    ):
        assert main(["ope", "log=log.csv", *words]) == 1
        assert said in capsys.readouterr().err
