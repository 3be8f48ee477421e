"""What is typed after `recsys-dl`: read as meant, or refused with what would do, before anything is read or fitted."""

import os
import re
import subprocess
import sys

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from recsys_dl.cli import main
from recsys_dl.compose import VERBS, compose, compose_command, describe, groups, options
from recsys_dl.compose.completion import SCRIPTS, candidates, completion
from recsys_dl.compose.options import CONF, groups_of, keys_of, settings_of, text_of
from recsys_dl.compose.settings import SETTINGS

LOG = ["data=log", "data.path=log.csv"]

WRONG = [
    ("train seed=-1", "seed must be a whole number from 0, such as 7, got '-1'"),
    ("train seed=", "seed must be a whole number from 0, such as 7, got nothing"),
    ("train seed=1 seed=2", "seed is given twice"),
    ("train threads=abc", "threads must be a whole number from 1 or null, got 'abc'"),
    ("train model.embedding_size=8.5", "model.embedding_size must be a whole number from 1, such as 64, got '8.5'"),
    ("train model.embedding_size=null", "model.embedding_size must be a whole number"),
    ("train model.epochs=true", "model.epochs must be a whole number from 0, such as 16, got 'true'"),
    (
        "train model.solver=choleski",
        "model.solver must be auto, cholesky, cg or ials++, got 'choleski' (did you mean 'cholesky'?)",
    ),
    ("train split.order=lg", "split.order must be time or log, got 'lg' (did you mean 'log'?)"),
    ("train evaluate=5", "evaluate is a group of settings, such as evaluate.k=…"),
    ("train device=gpu", "device must be auto, cpu or cuda, got 'gpu'"),
    ("train model=ALS", "(did you mean 'als'?)"),
    ("train model=als,bpr", "recsys-dl compare 'models=[als,bpr]'"),
    ("train trainer.patience=3", "ALS learns without a trainer"),
    ("train model=bpr logger=csv", "BPR learns without a trainer"),
    ("train hydra.run.dir=x", "hydra.run.dir would have no effect; the output folder is set with run=…"),
    ("train hydra.job.name=x", "would have no effect"),
    ("train experiment=index_movielens", "it is for recsys-dl index"),
    ("train experiment=ltr_lambdamart", "recsys-dl train does not read ranker"),
    ("train ranker=lambdamart", "would have no effect: its place is a pipeline: pipeline=three_stage"),
    ("train +ranker=lambdamart", "recsys-dl train does not read ranker"),
    ("train features=content", "would have no effect: its place is a pipeline"),
    ("train pipeline=three_stage model.epochs=3", "a pipeline is trained in place of a model"),
    ("train pipeline=three_stage model=bpr", "a pipeline is trained in place of a model"),
    ("train pipeline=three_stage reranker=dpp", "+reranker@pipeline.rerankers.dpp=dpp"),
    ("train pipeline.num_retrieved=5", "pipeline=three_stage would have it"),
    ("train filter.users=3", "filter=k_core would have it"),
    ("train weights.threshold=4", "weights=binary would have it"),
    ("train model=popularity device=cuda", "Popularity computes on the CPU alone"),
    ("train +foo=1", "recsys-dl train does not read foo"),
    ("train +model.foo=1", "model.foo: ALS takes no 'foo'"),
    ("train +seed=4", "omit the +"),
    ("train ~model", "recsys-dl train reads model"),
    ("train +model@pipeline.retrievers.x=bpr", "no pipeline is chosen"),
    ("train --model als", "settings are written key=value, without dashes: model=als"),
    ("train --seed=3", "without dashes: seed=3"),
    ("train --config my.yaml", "hydra.searchpath="),
    ("compare -m", "one command is one run"),
    ("refit --multirun", "one command is one run"),
    ("train --cfg job", "recsys-dl VERB --help prints the settings"),
    ("train model als", "'model': model=als"),
    ("train model = als", "'model': model=als"),
    ("train hydra.searchpath=[file:///nowhere] model=mine", "/nowhere does not exist"),
    ("train data=log", "a setting is missing: data.path"),
    ("train data=log data.path=", "data.path must be given"),
    ("train data=log data.path=null", "data.path must be given"),
    (
        "tune model=als model.regularization=tag(lgo,interval(0.001,0.1))",
        "the only tag is log, got 'lgo' (did you mean 'log'?)",
    ),
    ("tune model=als model.epochs=tag(log,choice(1,2))", "a tag has no effect on a list of values"),
    ("train seed=1,2", "got '1,2'; one command is one run"),
    ("train seed=range(1,3)", "got 'range(1,3)'; one command is one run"),
    (
        "train -m seed=1,,2",
        "got '1,,2'; several values of a sweep are written 1,2,3 or range(1,4), without an empty place",
    ),
    ("train -m seed=[1,2]", "got '[1,2]'; several values of a sweep are written 1,2,3"),
    ("train -m seed=rnge(1,3)", "got 'rnge(1,3)' (did you mean range(1,3)?)"),
    ("train -m seed=range(1,3", "got 'range(1,3' (did you mean range(1,3)?)"),
    ("train -m seed=range(1,3,0)", "the step of a range must not be 0"),
    ("plan num_items=1,000 num_users=1 interactions=1", "got '1,000'; a number is written without commas: 1000"),
    ("train model=hybrid ~model@model.parts.bpr", "nothing is chosen there; there are: ~model@model.parts."),
    (
        "train model=hybrid ~model@model.parts.als ~model@model.parts.ease ~model@model.parts.item_knn",
        "Hybrid needs at least one part, and none is left",
    ),
    (
        "train model=content model.column_weights={genres:-1}",
        "a mapping {name: number from 0} or null, got '-1' for genres",
    ),
    ("sweep statu DIR", "did you mean recsys-dl sweep status DIR?"),
    ("sweep sweeps/als", "did you mean recsys-dl sweep status sweeps/als?"),
    ("evaluate run=x model=als", "recsys-dl evaluate has no choice of model"),
    ("simulate seeds=[7,8]", "seed=7 seeds=2 are 7 and 8"),
    ("simulate seed=3,4", "recsys-dl simulate -m policy=thompson,ucb1"),
    ("simulate run=x", "there is no setting 'run' (did you mean 'output'?)"),
    ("simulate thompson", "'thompson': policy=thompson"),
    ("simulate replay=x rounds=5", "rounds=5 would have no effect: replay=… takes the arms and rewards of a log"),
    ("simulate -m policy=ucb1,thompson replay=x world=tastes", "world=tastes would have no effect: replay=…"),
    ("train output=x", "there is no setting 'output' (did you mean 'run'?)"),
    ("compare runs=[a,b] models=[als,bpr]", "models=[als,bpr] would have no effect: runs=… compares figures"),
    ("compare runs=[a,b] seed=3", "seed=3 would have no effect: runs=… compares figures"),
    ("index vectors=a.npy run=b", "run=… has vectors of its own"),
    ("recommend users=[1]", "a setting is missing: run"),
]


def test_what_a_verb_cannot_do_is_not_advised(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text("item_id,click,propensity\na,1,0.5\n")
    for words, expected in (
        (["index", "k=3,4"], "got '3,4'; one command is one run\n"),
        (["simulate", "seeds=[7,8]"], "seeds is how many"),
        (["ope", "log.csv"], "got 'log.csv': to read your own file, set log=log.csv\n"),
        (["rank", "log.csv"], "got 'log.csv': to read your own file, set data.train=log.csv\n"),
        (["simulate", "log.csv"], "must be written key=value, without spaces around the =, got 'log.csv'\n"),
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.endswith(expected) or expected in said
        assert "recsys-dl compare" not in said
        assert "data=log" not in said
    for verb in ("ope", "simulate", "rank", "train"):
        assert main([verb, "--help"]) == 0
        another = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("The chosen ones"))
        assert main([verb, another.split()[-2], "--help"]) == 0
        capsys.readouterr()


@pytest.mark.parametrize(("command", "expected"), WRONG, ids=[command for command, _ in WRONG])
def test_wrong_words_are_refused_before_any_work(command, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command.split(" ")) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert expected in said
    assert len(said.splitlines()) <= 10
    assert not list(tmp_path.iterdir())


def test_values_of_another_spelling_are_read():
    config = compose(
        "train", ["model.epochs=1e2", "evaluate.k=10", "model.embedding_size='8'", "model.regularization=1"]
    )
    assert (config.model.epochs, config.evaluate.k, config.model.embedding_size) == (100, [10], 8)
    assert isinstance(config.model.epochs, int)
    assert compose("train", ["evaluate.k=5,10"]).evaluate.k == [5, 10]
    config = compose("train", ["pipeline=three_stage", "ranker=mlp_ranker", "pipeline.ranker.hidden_sizes=[]"])
    assert config.pipeline.ranker.hidden_sizes == []
    config = compose("train", ["pipeline=three_stage", "ranker=lambdamart", "features=untimed"])
    assert config.pipeline.ranker._target_.endswith("LambdaMART")
    for words in (["model.item_kinds={genres: bag}"], ["model.item_kinds.genres=bag"]):
        assert compose("train", ["model=two_tower", *words]).model.item_kinds == {"genres": "bag"}


FILES = ["a=b.csv", "a,b.csv", "a#b.csv", "my log (1).csv", "größe.csv", "[x].csv", "it's.csv", "{a}.csv", "a;b&c.csv"]


@pytest.mark.parametrize(
    "name", [*FILES, "1e5", "007", "1_000", "true", "/tmp/x/", "~/log.csv", 'say "x".csv', "a\\b.csv"]
)
def test_file_names_are_read_as_typed(name):
    config = compose("train", ["data=log", f"data.path={name}", f"run={name}", f"data.item_features={name}"])
    assert config.data.path == name
    assert config.run == name
    assert compose("index", [f"vectors={name}"]).vectors == name


IDS = ["1e5", "null", "1_000", "12.50", "true", "007", "a b", "ü(1)", "x=y", "0x10", "-1", "1:2"]


@pytest.mark.parametrize("key", ["users", "history", "allow", "exclude"])
def test_ids_are_text_as_typed(key):
    assert compose("recommend", ["run=r", f"{key}=[{','.join(IDS)}]"])[key] == IDS
    assert compose("recommend", ["run=r", f"{key}=[ {' , '.join(IDS)} ]"])[key] == IDS
    assert compose("recommend", ["run=r", f"{key}=['007',\"a,b\",'it\\'s']"])[key] == ["007", "a,b", "it's"]
    assert compose("recommend", ["run=r", f"{key}=1e5"])[key] == "1e5"
    assert compose("recommend", ["run=r", f"{key}=a,1_0"])[key] == ["a", "1_0"]
    assert compose("export", ["run=r", "allow=[1_0,1e1]"]).allow == ["1_0", "1e1"]


def test_options_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    own = f"hydra.searchpath=[{tmp_path}]"
    (tmp_path / "model" / "mine.yaml").write_text("_target_: recsys_dl.models.popularity.Popularity\nwindow_days: 3\n")
    assert compose("train", [own, "model=mine"]).model.window_days == 3
    monkeypatch.chdir(tmp_path.parent)
    assert compose("train", [f"hydra.searchpath={tmp_path.name}", "model=mine"]).model.window_days == 3
    with pytest.raises(ValueError, match="did you mean 'mine'"):
        compose("train", [own, "model=mien"])
    for text, expected in (
        ("a: [1\nb: 2\n", "mine.yaml, line 2: invalid YAML"),
        (
            "_target_: recsys_dl.models.popularity.Popularity\nwindow_day: 3\n",
            "Popularity takes no 'window_day' .did you mean 'window_days'",
        ),
        ("_target_: nowhere.Model\n", "model._target_ is nowhere.Model, which cannot be imported"),
    ):
        (tmp_path / "model" / "mine.yaml").write_text(text)
        with pytest.raises(ValueError, match=expected):
            compose("train", [own, "model=mine"])
    (tmp_path / "ranker").mkdir()
    (tmp_path / "ranker" / "mine.yaml").write_text(
        "_target_: recsys_dl.rankers.mlp_ranker.MLPRanker\nhidden_sizes: []\n"
    )
    assert compose("train", [own, "pipeline=three_stage", "ranker=mine"]).pipeline.ranker.hidden_sizes == []


def test_an_application_that_uses_hydra_itself_keeps_its_state(tmp_path):
    (tmp_path / "app.yaml").write_text("mine: ${now:x}\n")
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(tmp_path), version_base="1.1"):
        OmegaConf.register_new_resolver("now", lambda _: "ours", replace=True)
        compose("train", ["model=popularity"])
        assert hydra_compose("app").mine == "ours"
        with pytest.raises(ValueError, match="did you mean 'seed'"):
            compose("train", ["sed=1"])
        assert hydra_compose("app").mine == "ours"
    GlobalHydra.instance().clear()
    compose("train")
    assert not GlobalHydra.instance().is_initialized()


@pytest.mark.parametrize("verb", VERBS)
def test_every_setting_of_a_verb_has_a_type_and_a_meaning(verb):
    own = OmegaConf.to_container(OmegaConf.load(CONF / f"{verb}.yaml"))
    own.pop("defaults", None)
    own.pop("grid", None)
    assert not [key for key in keys_of(own) if key not in SETTINGS[verb]]
    page = describe(verb)
    for line in text_of(verb).splitlines():
        assert line in page
    if "model" in groups_of(verb):
        assert "for observed ones" in page
        assert "sampled by popularity" in describe(verb, ["model=bpr"])
    assert settings_of(verb)


def test_tab_completion():
    assert candidates(["tr"]) == ["train"]
    assert "model=als" in candidates(["train", "model=a"])
    assert candidates(["train", "model=item"]) == ["model=item_knn"]
    assert {"model.embedding_size=", "model.epochs="} <= {*candidates(["train", "model.e"])}
    assert "model.window_days=" in candidates(["train", "model=popularity", "model."])
    assert candidates(["train", "evaluate.p"]) == ["evaluate.part="]
    assert candidates(["train", "device=c"]) == ["device=cpu", "device=cuda"]
    with pytest.raises(ValueError, match="bash, zsh, fish"):
        completion(["tcsh"])
    assert all("recsys-dl completion words" in script for script in SCRIPTS.values())
    program = (
        f'{completion(["bash"])}\nrecsys-dl() {{ {sys.executable} -m recsys_dl "$@"; }}\n'
        "COMP_LINE='recsys-dl train model=item'; COMP_POINT=${#COMP_LINE}; compopt() { :; }; _recsys_dl; echo \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "item_knn"


def test_completion_and_help_import_nothing_slow():
    program = (
        "import sys; from recsys_dl.cli import main; main(['completion', 'words', 'train', 'model=']); main(['train', '--help']);"
        "print(sorted({'torch', 'numba', 'scipy', 'polars', 'pandas', 'numpy'} & {*sys.modules} - {'numpy'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "model=als" in done.stdout


def test_an_ascii_terminal_prints(tmp_path):
    for words in (["--help"], ["train", "--help"], ["train", "data=log", "data.path=größe.csv"]):
        done = subprocess.run(
            [sys.executable, "-m", "recsys_dl", *words],
            env=os.environ
            | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        assert b"Traceback" not in done.stderr
        assert done.stdout + done.stderr


def test_errors_speak_the_commands_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(
        "user,item\n" + "\n".join(f"{u},{i}" for u in range(9) for i in range(u, u + 5)) + "\n"
    )
    assert main(["train", *LOG, "model=popularity"]) == 1
    assert re.search(r"split\.order=log", capsys.readouterr().err)
    assert main(["train", *LOG, "model=neumf", "split.order=log", "trainer.precision=17"]) in (1, 2)
    assert "trainer.precision" in capsys.readouterr().err
    assert main(["train", *LOG, "split.order=log", "model.embedding_size=1e12"]) == 1
    assert len(capsys.readouterr().err.splitlines()) <= 10


def test_all_options_of_all_groups_have_right_types():
    for group in groups():
        for option in options(group):
            if group in groups_of("train") and group not in ("experiment", "pipeline"):
                compose("train", [f"{group}={option}"])
    with pytest.raises(ValueError, match="missing"):
        compose_command("train", ["data=log"])
