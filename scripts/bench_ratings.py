"""Rating prediction on ml-100k's five official folds, beside scikit-surprise in the same run.

    python scripts/bench_ratings.py                                   # ours alone, if surprise is not installed here
    python scripts/bench_ratings.py --peer-python path/to/python      # where it is installed
    python scripts/bench_ratings.py --models FunkSVD SVDpp --folds 1 2

In each fold a tenth of the base (seed 7) is held back; every setting of a model's grid below is fitted on the rest, and the one with the
least RMSE on that tenth is fitted again on the whole base and predicts the test, once. The test is never used to choose. Next to it stands
the same model with surprise's default settings, where the two have the same parameters. Surprise stands there with its defaults, and, where
that is not its best, with the settings named in PEERS. Both sides predict the same pairs; the same lines below score them. What starts from
random numbers is fitted with each of SEEDS and its scores averaged, but for surprise's SVDpp (one seed), which takes most of a minute.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(os.environ.get("RECSYS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "ml-100k"
SEEDS = tuple(range(7, 17))  # RMSE over seeds spreads by .001, alike in all folds, as they share the first embeddings
NEIGHBOURS = {"shrinkage": [25, 100, 200], "num_raters": [20, 40]}
GRIDS: dict[str, dict[str, list[Any]]] = {
    "FunkSVD": {"regularization": [0.08, 0.1, 0.12], "epochs": [70, 100]},
    "SVDpp": {"regularization": [0.05, 0.06, 0.08], "epochs": [30, 40]},
    "ExplicitALS": {"regularization": [0.1, 0.12, 0.15], "embedding_size": [15, 31, 63]},
    "ItemKNN": NEIGHBOURS | {"measure": ["pearson_baseline", "adjusted_cosine"]},
    "UserKNN": NEIGHBOURS | {"measure": ["pearson_baseline", "pearson"]},
}
AS_SURPRISE: dict[str, dict[str, Any]] = {  # surprise's defaults, in our words
    "FunkSVD": {
        "embedding_size": 100,
        "epochs": 20,
        "learning_rate": 0.005,
        "regularization": 0.02,
        "bias_regularization": 0.02,
        "initial_scale": 0.1,
    },
    "SVDpp": {
        "embedding_size": 20,
        "epochs": 20,
        "learning_rate": 0.007,
        "regularization": 0.02,
        "bias_regularization": 0.02,
        "initial_scale": 0.1,
    },
}
ITEMS = {"sim_options": {"name": "pearson_baseline", "user_based": False}}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "surprise SVD, defaults": ("SVD", {}),
    "surprise SVD, our settings": (
        "SVD",
        {"n_factors": 100, "n_epochs": 100, "lr_all": 0.005, "reg_all": 0.1, "reg_bu": 0.02, "reg_bi": 0.02}
        | {"init_std_dev": 0.03},
    ),
    "surprise SVDpp, defaults": ("SVDpp", {"cache_ratings": True}),
    "surprise SVDpp, our settings at 20 factors": (
        "SVDpp",
        {"n_factors": 20, "n_epochs": 40, "lr_all": 0.007, "reg_all": 0.06, "reg_bu": 0.02, "reg_bi": 0.02}
        | {"init_std_dev": 0.03, "cache_ratings": True},
    ),
    "surprise KNNBaseline, defaults (users)": ("KNNBaseline", {}),
    "surprise KNNBaseline, items, pearson_baseline": ("KNNBaseline", ITEMS),
    "surprise KNNWithMeans, defaults (users)": ("KNNWithMeans", {}),
    "surprise KNNWithMeans, items, pearson_baseline": ("KNNWithMeans", ITEMS),
}
PAIRS = [
    ("FunkSVD, chosen", "surprise SVD, defaults"),
    ("FunkSVD, chosen", "surprise SVD, our settings"),
    ("FunkSVD, surprise's defaults", "surprise SVD, defaults"),
    ("SVDpp, chosen", "surprise SVDpp, defaults"),
    ("SVDpp, chosen", "surprise SVDpp, our settings at 20 factors"),
    ("SVDpp, surprise's defaults", "surprise SVDpp, defaults"),
    ("ExplicitALS, chosen", "surprise SVD, defaults"),
    ("ItemKNN, chosen", "surprise KNNBaseline, items, pearson_baseline"),
    ("ItemKNN, chosen", "surprise KNNWithMeans, items, pearson_baseline"),
    ("UserKNN, chosen", "surprise KNNBaseline, defaults (users)"),
    ("UserKNN, chosen", "surprise KNNWithMeans, defaults (users)"),
]


def main() -> None:
    """Run the folds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4, 5], choices=range(1, 6))
    parser.add_argument("--models", nargs="+", default=list(GRIDS), choices=GRIDS, metavar="MODEL")
    parser.add_argument("--peer-python", default=sys.executable, help="a Python that has scikit-surprise")
    parser.add_argument("--peer", type=Path, nargs=2, help=argparse.SUPPRESS)  # how the script calls itself there
    arguments = parser.parse_args()
    if arguments.peer:
        run_peers(*arguments.peer)
        return
    if not DATA.is_dir():
        sys.exit(f"ml-100k must lie at {DATA}; set RECSYS_DATA to the folder that holds ml-100k/")
    program = "from importlib.metadata import version; import surprise; print(version('scikit-surprise'))"
    found = subprocess.run([arguments.peer_python, "-c", program], capture_output=True, text=True)
    if found.returncode:
        print(f"{arguments.peer_python} has no scikit-surprise: ours alone. Name one that has it by --peer-python.\n")
    else:
        print(f"scikit-surprise {found.stdout.strip()}\n")
    results: dict[str, list[tuple[float, float, float]]] = {}
    for fold in arguments.folds:
        base, test = (np.loadtxt(DATA / f"u{fold}.{part}", dtype=np.int64) for part in ("base", "test"))
        answers = run_ours(base, test, arguments.models)
        if not found.returncode:
            files = [str(DATA / f"u{fold}.{part}") for part in ("base", "test")]
            command = [arguments.peer_python, __file__, "--peer", *files]
            answers |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for name, (predictions, seconds) in answers.items():
            errors_SP = np.asarray(predictions, np.float64) - test[:, 2]
            rmse, mae = np.sqrt(np.mean(errors_SP**2, axis=1)).mean(), np.abs(errors_SP).mean()
            score = (float(rmse), float(mae), seconds / len(predictions))
            results.setdefault(name, []).append(score)
            print(f"fold {fold}: {name}: RMSE {score[0]:.4f}", file=sys.stderr)
    print_tables(results, arguments.folds)


def run_ours(base: np.ndarray, test: np.ndarray, names: list[str]) -> dict[str, tuple[list[np.ndarray], float]]:
    """Return, by contender, predictions of the test with each seed, and the seconds that fitting and they took."""
    from recsys_dl import Interactions, models
    from recsys_dl.progress import track

    def interactions(rows: np.ndarray) -> Interactions:
        return Interactions(rows[:, 0] - 1, rows[:, 1] - 1, rows[:, 2], num_users=943, num_items=1682)

    held = np.random.default_rng(7).random(len(base)) < 0.1
    part, validation, whole = interactions(base[~held]), base[held], interactions(base)
    answers = {}
    for name in names:
        make = getattr(models, name)
        errors = []
        for values in track(list(itertools.product(*GRIDS[name].values())), f"{name}: choosing"):
            setting = dict(zip(GRIDS[name], values, strict=True))
            rated = make(**setting).fit(part).predict(validation[:, 0] - 1, validation[:, 1] - 1)
            errors.append((float(np.mean((rated - validation[:, 2]) ** 2)), setting))
        chosen = min(errors, key=lambda tried: tried[0])[1]
        print(f"{name}: {chosen}", file=sys.stderr)
        contenders = {f"{name}, chosen": chosen}
        if name in AS_SURPRISE:
            contenders[f"{name}, surprise's defaults"] = AS_SURPRISE[name]
        for contender, setting in contenders.items():
            seeds = [{"seed": seed} for seed in SEEDS] if "seed" in inspect.signature(make).parameters else [{}]
            start = time.perf_counter()
            rated = [make(**setting, **seed).fit(whole).predict(test[:, 0] - 1, test[:, 1] - 1) for seed in seeds]
            answers[contender] = (rated, time.perf_counter() - start)
    return answers


def run_peers(base: Path, test: Path) -> None:
    """Print, as JSON by contender, surprise's predictions of the test with each seed, and the seconds taken."""
    import surprise

    data = surprise.Dataset.load_from_folds([(str(base), str(test))], surprise.Reader("ml-100k"))
    train, pairs = next(surprise.model_selection.PredefinedKFold().split(data))
    answers = {}
    for contender, (name, setting) in PEERS.items():
        seeds = [{"random_state": seed} for seed in (SEEDS if name == "SVD" else SEEDS[:1])]
        if name.startswith("KNN"):
            seeds = [{"verbose": False}]
        start = time.perf_counter()
        models = [getattr(surprise, name)(**seed, **setting).fit(train) for seed in seeds]
        rated = [[answer.est for answer in model.test(pairs)] for model in models]
        answers[contender] = (rated, time.perf_counter() - start)
    print(json.dumps(answers))


def print_tables(results: dict[str, list[tuple[float, float, float]]], folds: list[int]) -> None:
    """Print each contender's mean and standard deviation over the folds, and the paired differences, as Markdown."""
    scores = {name: np.array(rows) for name, rows in results.items()}
    spread = {name: rows.std(axis=0, ddof=1) if len(rows) > 1 else rows[0] * np.nan for name, rows in scores.items()}
    print(f"ml-100k, official folds {', '.join(f'u{fold}' for fold in folds)}: mean ± standard deviation over folds\n")
    print("| model | RMSE | MAE | fit + predict, s |\n|---|---|---|---|")
    for name in sorted(scores, key=lambda name: scores[name][:, 0].mean()):
        (rmse, mae, seconds), (rmse_sd, mae_sd, _) = scores[name].mean(axis=0), spread[name]
        print(f"| {name} | {rmse:.4f} ± {rmse_sd:.4f} | {mae:.4f} ± {mae_sd:.4f} | {seconds:.1f} |")
    pairs = [pair for pair in PAIRS if set(pair) <= set(scores)]
    if pairs:
        print("\nPaired by fold, ours less the peer (below zero: ours is better)\n")
        print("| ours | peer | RMSE | MAE | folds ahead by RMSE |\n|---|---|---|---|---|")
    for ours, peer in pairs:
        apart = scores[ours] - scores[peer]
        (rmse, mae, _), ahead = apart.mean(axis=0), int((apart[:, 0] < 0).sum())
        rmse_sd, mae_sd = apart[:, :2].std(axis=0, ddof=1) if len(apart) > 1 else (np.nan, np.nan)
        print(
            f"| {ours} | {peer} | {rmse:+.4f} ± {rmse_sd:.4f} | {mae:+.4f} ± {mae_sd:.4f} | {ahead} of {len(folds)} |"
        )


if __name__ == "__main__":
    main()
