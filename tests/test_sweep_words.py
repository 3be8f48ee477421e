"""The words of a sweep: Hydra's grammar, and every trial validated before the first one starts."""

import pytest

from recsys_dl.cli import main
from recsys_dl.compose.grid import compose_grid
from recsys_dl.compose.options import options


def trials(*words):
    return [" ".join(one) for one in compose_grid(["data=generated", *words]).trials]


def test_every_combination_in_order():
    assert trials("model=als,bpr", "seed=1,2") == [
        "data=generated model=als seed=1",
        "data=generated model=als seed=2",
        "data=generated model=bpr seed=1",
        "data=generated model=bpr seed=2",
    ]


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("seed=range(1,4)", ["1", "2", "3"]),
        ("model.embedding_size=range(8,25,8)", ["8", "16", "24"]),
        ("seed=choice(3,1)", ["3", "1"]),
        ("model.objective=rendle2022,hu2008", ["rendle2022", "hu2008"]),
        ("seed=1,1,2", ["1", "2"]),
        ("seed=5", ["5"]),
    ],
)
def test_values(word, values):
    key = word.partition("=")[0]
    assert trials(word) == [f"data=generated {key}={value}" for value in values]


def test_glob_chooses_options():
    found = [one for one in options("model") if one.endswith("knn")]
    assert len(found) > 1
    assert trials("model=glob(*knn)") == [f"data=generated model={name}" for name in found]
    some = trials("model=glob([*knn,gmf],exclude=user*)")
    assert some == ["data=generated model=gmf", "data=generated model=item_knn"]


def test_a_list_is_one_value():
    assert trials("evaluate.k=[5,10]") == ["data=generated evaluate.k=[5,10]"]


def test_the_same_config_in_other_words_is_one_trial():
    default = compose_grid(["data=generated"]).configs[0].seed
    assert len(trials(f"seed={default},8")) == 2
    assert len(trials("data.num_users=2000,2001", "data.num_items=1000")) == 2


def test_own_words_are_of_the_sweep():
    grid = compose_grid(
        ["data=generated", "seed=1,2", "launcher=joblib", "launcher.jobs=3", "run=out", "metric=ndcg@20"]
    )
    assert (grid.config.launcher.jobs, grid.config.run, grid.config.metric) == (3, "out", "ndcg@20")
    assert grid.varied == ["seed"]
    assert all("launcher" not in one and "run=" not in one for words in grid.trials for one in words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.regularization=interval(0.01,0.1)"], "intervals are searched by recsys-dl tune"),
        (["seed=glob(*)"], "glob() chooses options of a group"),
        (["model=glob(nothing*)"], "there is no value in it"),
        (["evaluate.k=5,10"], "must be the same for all trials"),
        (["threads=1,2"], "must be the same for all trials"),
        (["model=als,popularity", "model.epochs=2"], "1 of the 2 trials cannot run, so none was started"),
        (["model=als,bprr"], "did you mean 'bpr'"),
        (["seed=1,two"], "seed must be a whole number"),
        (["launcher=slurmm"], "did you mean 'slurm'"),
        (["launcher=slurm", "launcher.partitoin=x"], "did you mean 'launcher.partition'"),
        (["launcher=slurm", "launcher.cpus=many"], "launcher.cpus must be a whole number"),
    ],
)
def test_bad_words(words, message):
    with pytest.raises(ValueError) as error:
        compose_grid(["data=generated", *words])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) <= 10


def test_help_of_a_sweep(capsys):
    assert main(["train", "-m", "model=als,bpr", "launcher=slurm", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "launcher=slurm, whose settings are launcher" in shown
    assert "array_parallelism" not in shown
    assert "partition: null" in shown
