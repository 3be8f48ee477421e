"""`recsys-dl plan`: what a training takes, before it is queued. Sizes that models state are compared with what a fit holds."""

import copy
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from hydra.utils import instantiate
from processes import command

from recsys_dl import Interactions
from recsys_dl.cli import main
from recsys_dl.compose import compose, options
from recsys_dl.planning import DEVICES, calibrate, machines, make_plan
from recsys_dl.planning.calibration import _shaped
from recsys_dl.planning.plan import in_bytes
from recsys_dl.sizes import LogSize, Part, Sizes, StatesSizes, Work, peak

NAMES = options("model")
HUGE = ["num_users=1e9", "num_items=1e8", "interactions=1e12"]


def model_of(name: str, *words: str):
    return instantiate(compose("train", [f"model={name}", "device=cpu", *words]).model)


STATING = [name for name in NAMES if isinstance(model_of(name), StatesSizes)]


@pytest.fixture(scope="module")
def log() -> Interactions:
    return _shaped(LogSize(400, 150, 6000), 6000)


def test_the_families_state_their_sizes():
    assert {"als", "bpr", "ease", "item_knn", "user_knn", "popularity", "gmf", "mlp", "neumf"} <= set(STATING)
    assert {"two_tower", "youtube_dnn", "sasrec"} <= set(STATING)


@pytest.mark.parametrize("name", STATING)
def test_tables_are_those_that_a_fit_holds(name, log):
    model = model_of(name)
    size = LogSize.of(log)
    stated = sum(part.num_bytes for part in model.sizes(size).parts if part.kind == "tables")
    if hasattr(model, "epochs"):
        model.epochs = 1
    arrays = model.fit(log).arrays()
    weights = [array for key, array in arrays.items() if key.startswith("network.")]
    if not weights:
        kept = ("by_user", "train_UI", "interactions_UI", "histories", "times_UI", "user_counts_U", "item_counts_I")
        weights = [array for key, array in arrays.items() if key not in kept]
    held = sum(
        array.data.nbytes + array.indices.nbytes if hasattr(array, "indices") else array.nbytes for array in weights
    )
    assert held <= stated * 1.01 + 64  # lists of neighbors may be shorter
    assert stated <= held * (1.5 if "knn" in name else 1.01) + 64


@pytest.mark.parametrize("name", STATING)
def test_sizes_do_not_change_the_model_and_grow_with_the_log(name, log):
    model = model_of(name)
    before = copy.copy(vars(model))
    small, large = (model.sizes(LogSize(1000 * k, 500 * k, 50_000 * k)) for k in (1, 10))
    assert vars(model) == before
    assert peak(large.parts) > 2 * peak(small.parts)
    assert all(work.operations >= 0 for work in small.work)
    assert sum(work.operations for work in large.work) > 5 * sum(work.operations for work in small.work)


@pytest.mark.parametrize("name", ["neumf", "two_tower", "sasrec"])
def test_a_billion_rows_are_counted_without_memory(name):
    sizes = model_of(name).sizes(LogSize(10**9, 10**8, 10**12))
    assert peak(sizes.parts) > 1e10


def test_optimizers_differ_as_they_should():
    log = LogSize(10**6, 10**5, 10**8)

    def of(optimizer: str, kind: str) -> float:
        sizes = model_of("gmf", f"model.optimizer={optimizer}").sizes(log)
        return sum(part.num_bytes for part in sizes.parts if part.kind == kind)

    assert of("adam", "optimizer") == 2 * of("sgd", "optimizer") == 2 * of("adam", "tables")
    assert of("row_adam", "gradients") < 0.02 * of("adam", "gradients")


def test_parts_at_different_times_do_not_add_up():
    parts = [
        Part("a", "x", 1.0),
        Part("a", "y", 5.0, when="start"),
        Part("a", "z", 3.0, when="epoch"),
        Part("a", "w", 1.0, when="epoch"),
    ]
    assert peak(parts) == 6.0


def test_calibration_finds_known_speeds():
    class Sleeper:
        """Takes a microsecond per interaction and ten per user, by a clock of its own."""

        def __init__(self) -> None:
            self.epochs = 1

        def sizes(self, log: LogSize) -> Sizes:
            work = [Work("entries", float(log.num_interactions), 0.0), Work("rows", float(log.num_users), 0.0)]
            return Sizes([], work, epochs=self.epochs)

        def fit(self, train: Interactions) -> None:
            now[0] += 0.5 + self.epochs * (1e-6 * len(train) + 1e-5 * train.num_users)

    now = [0.0]
    found = calibrate(Sleeper(), LogSize(100_000, 50_000, 5_000_000), clock=lambda: now[0])
    assert found.seconds_per_operation == pytest.approx({"entries": 1e-6, "rows": 1e-5}, rel=1e-6)
    assert found.epoch(Sleeper().sizes(LogSize(10, 1, 100))) == pytest.approx(2e-4)


def test_small_logs_are_shaped_like_the_large_one():
    small = _shaped(LogSize(100_000, 20_000, 10_000_000), 50_000)
    assert 50 < len(small) / small.num_users < 150
    assert len(np.unique(small.users_N.astype(np.int64) * small.num_items + small.items_N)) == len(small)
    tiny = _shaped(LogSize(2, 2, 4), 4)
    assert len(tiny) >= 1


def test_what_fits_and_how_many_would_do():
    log = LogSize(10**8, 10**7, 10**9)
    model = model_of("als", "model.embedding_size=128")
    one = make_plan("als", log, machines("h100"), model.sizes(log), None)
    assert one.fits is False
    enough = one.enough()
    assert 1 < enough <= 8
    assert one.process_bytes(enough, by_rows=True) <= one.capacity < one.process_bytes(1, by_rows=True)
    assert f"{enough} h100s would do" in one.text()
    assert "DOES NOT FIT" in one.text()
    small = LogSize(10**5, 10**4, 10**7)
    assert make_plan("als", small, machines("h100"), model.sizes(small), None).fits is True


def test_a_mapped_log_takes_no_memory_of_its_own():
    log = LogSize(10**6, 10**5, 10**9)
    sizes = model_of("als").sizes(log)
    held, mapped = (make_plan("als", log, machines("h100"), sizes, None, mapped=mapped) for mapped in (False, True))
    assert held.needed - mapped.needed >= 8e9
    assert mapped.run_bytes == held.run_bytes
    assert "mapped from files" in mapped.text()


def test_an_all_reduce_moves_twice_the_gradients():
    log = LogSize(10**6, 10**5, 10**7)
    sizes = model_of("gmf").sizes(log)
    plan = make_plan("gmf", log, machines("h100:4"), sizes, None)
    gradients = sum(part.num_bytes for part in sizes.parts if part.kind == "gradients")
    assert plan.step_traffic == pytest.approx(2 * 3 / 4 * gradients)
    assert make_plan("gmf", log, machines("h100"), sizes, None).step_traffic == 0


def test_als_fetches_whole_small_tables_and_rows_of_large_ones():
    small, large = LogSize(10**4, 10**3, 10**6), LogSize(10**8, 10**7, 10**9)
    model = model_of("als")
    assert model.sizes(small).fetched == 0
    assert model.sizes(small).gathered == 4 * 64 * (10**4 + 10**3) / 2
    sizes = model.sizes(large)
    assert sizes.gathered == 0
    two, four = (make_plan("als", large, machines(f"h100:{count}"), sizes, None).step_traffic for count in (2, 4))
    assert two == pytest.approx(4 * 64 * 1e9 / 2 / 2)
    assert four == pytest.approx(4 * 64 * 1e9 / 4 * 3 / 4)


def test_only_what_this_version_divides_shrinks_with_more_processes():
    log = LogSize(10**6, 10**5, 10**8)
    sizes = model_of("als").sizes(log)
    parts = {part.name: part for part in sizes.parts}
    assert parts["by item"].divided
    assert not parts["user_emb_UD"].divided
    one, four = (make_plan("als", log, machines(f"h100:{count}"), sizes, None).needed for count in (1, 4))
    assert one - four == pytest.approx(0.75 * sum(part.num_bytes for part in sizes.parts if part.divided))


def test_divided_tables_shrink_with_more_processes_and_rows_are_exchanged(capsys):
    log = LogSize(10**7, 10**6, 10**7)
    for optimizer in ("adam", "row_adam"):
        whole = model_of("gmf", f"model.optimizer={optimizer}", "model.batch_size=1024").sizes(log)
        sizes = whole.sharded
        rows = sum(part.num_bytes for part in whole.parts if part.kind in ("tables", "gradients", "optimizer"))
        one, two = (make_plan("gmf", log, machines("auto", count), sizes, None) for count in (1, 2))
        assert one.needed - two.needed > 0.499 * rows
        traffic = [make_plan("gmf", log, machines("auto", 4), found, None).step_traffic for found in (whole, sizes)]
        assert traffic[1] < traffic[0]
    assert model_of("two_tower").sizes(log).sharded is None
    words = [
        "plan",
        "num_users=1e9",
        "num_items=1e8",
        "interactions=1e12",
        "model.embedding_size=128",
        "trainer.processes=4",
    ]
    assert main([*words, "model=gmf", "device=h100", "trainer.shard_tables=true"]) == 1
    assert "divides tables among processes on CPUs, got device=h100" in capsys.readouterr().err
    assert main([*words, "model=two_tower", "trainer.shard_tables=true"]) == 1
    assert "divides the embedding tables of gmf, mlp and neumf" in capsys.readouterr().err


def test_early_stopping_keeps_a_second_copy():
    log = LogSize(10**6, 10**5, 10**7)
    sizes = model_of("gmf").sizes(log)
    one, two = (make_plan("gmf", log, machines("h100"), sizes, None, best_weights=best) for best in (False, True))
    assert two.needed - one.needed == sum(part.num_bytes for part in sizes.parts if part.kind == "tables")


def test_devices_state_their_sources():
    assert all(device.source and device.memory > 1e9 for device in DEVICES.values())


@pytest.mark.parametrize(
    ("num", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (81.9e9, "81.9 GB"), (999.7e9, "1,000 GB"), (4e13, "40 TB")],
)
def test_bytes_in_words(num, text):
    assert in_bytes(num) == text


def test_the_page_shows_what_its_script_computes(capsys):
    root = Path(__file__).parent.parent
    runpy.run_path(str(root / "scripts/scale_on_paper.py"), run_name="__main__")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (root / "docs/scale.md").read_text()
    assert len(rows) > 20
    assert not [row for row in rows if row not in page]


# The command


def test_the_plan_of_a_generated_log(tmp_path):
    words = ["data=generated", "data.num_users=300", "data.num_items=200", "data.num_interactions=3000", "model=als"]
    out = command("plan", *words, "threads=1", cwd=tmp_path).stdout
    assert "als on 2,400 interactions of 300 users and 200 items; this machine, 1 process" in out
    for line in ("user_emb_UD", "peak of a process", "run folder", "epoch: ", "fits: "):
        assert line in out
    assert not list(tmp_path.iterdir())  # nothing is written


def test_the_plan_of_a_billion_users(capsys):
    assert main(["plan", *HUGE, "device=h100:64", "model.embedding_size=128"]) == 1
    out = capsys.readouterr().out
    assert "512 GB" in out
    assert "on paper" in out
    assert re.search(r"with all that divided by rows, \d+ h100s would do", out)


def test_the_full_softmax_over_a_hundred_million_items_is_what_breaks(capsys):
    assert main(["plan", *HUGE, "device=h100:64", "model=two_tower"]) == 1
    advice = capsys.readouterr().out.split("DOES NOT FIT")[1]
    assert re.search(
        r"activations, a batch of 512: \d+ GB; is divided among processes; or lower model.batch_size", advice
    )


def test_weights_to_start_from_are_not_read(capsys):
    words = ["num_users=1e6", "num_items=1e5", "interactions=1e8", "device=h100"]
    assert main(["plan", *words, "model=neumf", "model.gmf=runs/gmf", "model.mlp=runs/mlp"]) == 0
    assert "fits: " in capsys.readouterr().out


def test_an_index_is_planned_with_the_model(capsys):
    assert main(["plan", *HUGE, "device=h100:512", "index=ivf_pq", "index.rescore=0"]) in (0, 1)
    assert "index: " in capsys.readouterr().out


def test_a_model_that_does_not_state_its_sizes_is_said_to_be_unknown(capsys):
    assert main(["plan", *HUGE, "model=content"]) == 3  # so that `plan … && sbatch …` does not queue it
    out = capsys.readouterr().out
    assert "unknown for content" in out
    assert "peak" not in out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["num_users=-5", "num_items=10", "interactions=20"],
            "num_users must be a whole number from 1 or null, got '-5'",
        ),
        (["num_users=many", "num_items=10", "interactions=20"], "num_users must be a whole number from 1 or null"),
        (["num_users=1.5", "num_items=10", "interactions=20"], "num_users must be a whole number from 1 or null"),
        (["num_users=10"], "given together, or read from data; add num_items=…, interactions=…"),
        (["num_users=10", "num_items=10", "interactions=200"], "more than the 100 pairs"),
        ([*HUGE, "device=h10"], "did you mean 'h100'?"),
        ([*HUGE, "device=h100:0"], "the count must be a whole number from 1"),
        ([*HUGE, "device=h100:many"], "the count must be a whole number from 1"),
        (
            ["num_users=10", "num_items=10", "interactions=50", "device=h100:64"],
            "64 processes are more than the 10 rows",
        ),
        (["num_users=1e10", "num_items=10", "interactions=50"], "numbered in int32"),
        ([*HUGE, "data=log"], "data=log would have no effect"),
        ([*HUGE, "split=random"], "split=random would have no effect"),
        (["data=log", "data.path=nothing.csv"], "it does not exist"),
        ([*HUGE, "pipeline=three_stage"], "recsys-dl plan has no choice of pipeline"),
        ([*HUGE, "trainer.patience=3"], "ALS learns without a trainer"),
    ],
)
def test_bad_input(words, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plan", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
