"""What tuning gains: the best trial against the defaults of conf/model; and what pruning saves.

    RECSYS_DATA=… python scripts/bench_tune.py --folder bench_tune            # prints a row for each study as it ends
    RECSYS_DATA=… python scripts/bench_tune.py --folder bench_tune --data ml-1m --models ease item_knn --trials 12

Every interaction weighs 1. Of ml-100k each user's last item is the test and the one before it validation; ml-1m has no times, so a tenth
of its interactions is validation and a tenth test, at random. Studies choose on validation by NDCG@10; the test
part is read once for each, and once for the defaults. Neural models are tuned once for each of --pruners. Killed, the same command
goes on: the studies are resumed; the seconds are those of the trials.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

from recsys_dl.evaluation.rendering import text_table
from recsys_dl.runs import load_evaluation

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
SOURCES = {
    "ml-100k": ["data=movielens_100k", f"data.path={DATA / 'ml-100k'}", "split=leave_last_out"],
    "generated": ["data=generated", "data.num_users=500", "data.num_items=300", "data.num_interactions=10000"],
    "ml-1m": ["data=movielens_1m", f"data.path={DATA / 'ml-1m'}", "split=random"],
}
FIXED = {
    ("ml-1m", "two_tower"): ["model.shuffle=true", "model.features=none"]
}  # no times: the order within a user is meaningless
SHORTER = {
    ("ml-1m", "two_tower"): ["model.epochs=10"]
}  # of the trials alone: 40 x 20 epochs would take three hours of one core
NEURAL = ("two_tower", "gmf")


def main() -> None:
    """Run the studies; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the studies and runs")
    parser.add_argument("--data", choices=SOURCES, default="ml-100k")
    parser.add_argument("--models", nargs="+", default=["ease", "item_knn", "als", "two_tower"])
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument(
        "--pruners", nargs="+", default=["null", "median"], help="of neural models: null trains every trial to its end"
    )
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    rows = []
    for model in asked.models:
        words = [f"model={model}", *SOURCES[asked.data], "weights=binary", "seed=7", f"threads={asked.threads}"]
        words += FIXED.get((asked.data, model), [])
        if model in NEURAL:  # as every trial is
            words += ["trainer.patience=5"]
        plain, began = asked.folder / f"{asked.data}-{model}-defaults", time.monotonic()
        if not plain.exists():
            recsys_dl("train", *words, f"run={plain}")
            recsys_dl("evaluate", f"run={plain}", "part=test", "k=[10,20]")
        rows.append([model, "defaults", "1", *figures(plain), f"{time.monotonic() - began:.0f}"])
        for pruner in asked.pruners if model in NEURAL else ["null"]:
            study = asked.folder / f"{asked.data}-{model}-{pruner}-{asked.trials}"
            tuning = [f"space={model}", f"trials={asked.trials}", f"pruner={pruner}", "test=true"]
            tuning += SHORTER.get((asked.data, model), [])
            recsys_dl("tune", *words, *tuning, f"run={study}")
            trials = list(csv.DictReader((study / "trials.csv").open()))
            finished = f"{len(trials)}, {sum(one['state'] == 'pruned' for one in trials)} pruned"
            seconds = sum(float(one["seconds"] or 0) for one in trials)
            how = "tuned" if pruner == "null" else f"tuned, {pruner}"
            rows.append([model, how, finished, *figures(Path(trials[0]["folder"])), f"{seconds:.0f}"])
        table = text_table(["model", "", "trials", "validation NDCG@10", "test NDCG@10", "seconds"], rows)
        print(f"\n{table}\n", flush=True)


def recsys_dl(*words: str) -> None:
    """Run the command in a process of its own."""
    subprocess.run([sys.executable, "-m", "recsys_dl", *words], check=True, stdout=subprocess.DEVNULL)


def figures(run: Path) -> list[str]:
    """Return the NDCG@10 of a run on validation and on test."""
    return [f"{load_evaluation(run, part)[0].values['ndcg@10']:.4f}" for part in ("validation", "test")]


if __name__ == "__main__":
    main()
