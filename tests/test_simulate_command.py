"""recsys-dl simulate."""

import csv

from processes import command

from recsys_dl.cli import main

QUICK = ("rounds=300", "seeds=2", "threads=1")


def test_a_table_and_a_plot_of_several_policies_and_worlds(tmp_path):
    words = ("-m", "policy=thompson,ucb1", "world=fixed_arms,tastes", "world.num_arms=4", *QUICK)
    out = command("simulate", *words, cwd=tmp_path).stdout
    folder = tmp_path / "simulations/thompson-fixed_arms-tastes-ucb1"
    assert out.count("thompson ") == 2
    assert (folder / "table.txt").read_text() in out
    assert (folder / "regret.png").read_bytes()[:4] == b"\x89PNG"
    with (folder / "regret.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["world"], row["policy"]) for row in rows} == {
        (world, policy) for world in ("fixed_arms", "tastes") for policy in ("thompson", "ucb1")
    }
    ends = {row["policy"]: row for row in rows if row["world"] == "fixed_arms" and row["rounds"] == "300"}
    assert float(ends["thompson"]["low"]) < float(ends["thompson"]["regret"]) < float(ends["thompson"]["high"])
    again = command("simulate", *words, cwd=tmp_path).stdout
    assert "thompson-fixed_arms-tastes-ucb1-2" in again
    assert [line.split()[1] for line in again.splitlines() if line.startswith(("thompson", "ucb1"))] == [
        line.split()[1] for line in out.splitlines() if line.startswith(("thompson", "ucb1"))
    ]


def test_settings_that_vary_name_the_rows_and_theory_is_beside_them(tmp_path):
    words = ("policy=epsilon_greedy", "policy.epsilon=0,1", "world.means=[0.5,0.4]", "output=here", "plot=false")
    out = command("simulate", "-m", *words, *QUICK, cwd=tmp_path).stdout
    assert "epsilon=0 " in out
    assert "epsilon=1 " in out
    assert "Lai-Robbins rate 28." in out
    assert not (tmp_path / "here/regret.png").exists()
    said = command("simulate", "output=here", "plot=false", *QUICK, cwd=tmp_path, status=1).stderr
    assert "output=here exists already; name another folder" in said


def test_a_log_is_written_and_replayed(tmp_path):
    random = ("policy=epsilon_greedy", "policy.epsilon=1", "world.num_arms=3")
    command("simulate", *random, "log=random", "plot=false", "rounds=2000", "seeds=1", "threads=1", cwd=tmp_path)
    out = command("simulate", "-m", "policy=thompson,ucb1", "replay=random", "threads=1", cwd=tmp_path).stdout
    assert "thompson" in out
    assert out.rstrip().endswith("2,000")
    error = command("simulate", "log=random", "plot=false", *QUICK, cwd=tmp_path, status=1).stderr
    assert "log=random exists already" in error


def test_stopped_it_leaves_no_half_of_a_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def stopped(*_, log, **__):
        log.append([[1]], [[0.5]], requests_B=[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("recsys_dl.simulation.simulate", stopped)
    assert main(["simulate", "log=new", "output=there", "plot=false", *QUICK]) == 130
    assert "no partial output is left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_it_refuses(tmp_path):
    for words, status, message in (
        (("k=11",), 1, "k must be at most the 10 arms"),
        (("-m", "rounds=10,20"), 2, "rounds must be the same for all of a table"),
        (("replay=nowhere",), 1, "must be the folder of a feedback log"),
        (("world=labeled", "world.source=mnist"), 2, "digits"),
        (("policy=tompson",), 2, "did you mean 'thompson'"),
        (("world.means=[0.5]",), 1, "at least two arms"),
        (("-m", "policy=thompson,ucb1", "log=new"), 1, "log= takes the decisions of one policy"),
    ):
        assert message in command("simulate", *words, "plot=false", cwd=tmp_path, status=status).stderr
    assert not list(tmp_path.iterdir())
