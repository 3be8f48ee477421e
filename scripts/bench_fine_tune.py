"""What fine-tuning gains and forgets on ml-latest-small, cut by time; prints the tables of docs/fine_tuning.md.

    python scripts/bench_fine_tune.py                       # als, item_knn, gmf, neumf, two_tower, sasrec
    python scripts/bench_fine_tune.py --models gmf neumf

The first 80% of the log make a run, the next 10% are what it learns on from. Of both, each user's three newest interactions are held
out. Measured are: those held out of the old log (what is forgotten), those held out of the new one (what is learned, by users that
the run knew and by new ones), and the last 10%, where most users are strangers. Each model is tuned with and without replay of the
old log, and the last table tests the one against the other on the same users. Hyper-parameters are those of conf/model.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import OmegaConf

from recsys_dl.compose import compose
from recsys_dl.data.split import leave_last_out, time_split
from recsys_dl.evaluation import compare
from recsys_dl.evaluation.rendering import text_table
from recsys_dl.fine_tuning import NEW, OLD, Tuned, fine_tune
from recsys_dl.folders import new_folder
from recsys_dl.readers.sources import movielens
from recsys_dl.runs import Run, Stages, load_run, write_run

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "ml-latest-small"
MODELS = ("als", "item_knn", "gmf", "neumf", "two_tower", "sasrec")
HELD = 3  # interactions of each user
REPLAY = 3.0


def trained(name: str, train, folder: Path) -> Run:  # type: ignore[no-untyped-def]
    """Return a run of the model with the settings of its YAML."""
    config = compose("train", [f"model={name}", "device=cpu"])
    stages = Stages()
    with stages.stage("fit"):
        model = instantiate(config.model).fit(train)
    plain = OmegaConf.to_container(config, resolve=True)
    with new_folder(folder) as aside:
        write_run(
            aside,
            config=plain,
            model=model,
            seen=train.interactions,
            data=train,
            evaluations={},
            stages=stages,  # type: ignore[arg-type]
        )
    return load_run(folder)


def main() -> None:
    """Train, tune and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--epochs", type=int, help="None takes each model's own")
    parser.add_argument("--replay", type=float, default=REPLAY)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    split = time_split(movielens("latest-small", given.data), validation=0.1, test=0.1)
    old, new = (
        leave_last_out(part, num_validation=0, num_test=HELD, min_interactions=HELD + 2)
        for part in (split.train, split.validation)
    )
    tests = {"held out of the old log": old.test, "held out of the new log": new.test, "last 10%": split.test}
    rows, against = [], []
    for name in given.models:
        with tempfile.TemporaryDirectory() as folder:
            run = trained(name, old.train, Path(folder) / name)
        neural = hasattr(run.model, "fine_tune")
        tuned: dict[float, dict[str, Tuned]] = {}
        for replay in (0.0, given.replay) if neural else (0.0,):
            options = {"replay": replay, "learning_rate": given.learning_rate} if neural else {}
            start = time.perf_counter()
            one = fine_tune(run, new.train, epochs=given.epochs, **options)
            seconds = time.perf_counter() - start
            tuned[replay] = {test: one.on(part) for test, part in tests.items()}
            for test, report in tuned[replay].items():
                for group, told in report.comparisons.items():
                    apart = told.differences["after"]
                    before, after = (report.before[group].values[told.metric], report.after[group].values[told.metric])
                    change = f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"
                    users = f"{len(report.before[group].users)}"
                    rows.append(
                        [
                            name,
                            f"{replay:g}",
                            test,
                            group,
                            users,
                            f"{before:.4f}",
                            f"{after:.4f}",
                            change,
                            f"{seconds:.1f}",
                        ]
                    )
        for test in tests if neural else ():
            for group in (OLD, NEW):
                if group in tuned[0.0][test].after:
                    pair = {"with": tuned[given.replay][test].after[group], "without": tuned[0.0][test].after[group]}
                    told = compare(pair, "ndcg@10", baseline="without")
                    apart = told.differences["with"]
                    against.append([name, test, group, f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]"])
    print(f"old log {old.train!r}, new log {new.train!r}\n")
    header = ["model", "replay", "test", "users", "number", "before", "after", "after minus before", "s"]
    print(text_table(header, rows))
    if against:
        print(f"\n{text_table(['model', 'test', 'users', f'replay {given.replay:g} minus none'], against)}")


if __name__ == "__main__":
    main()
