"""Run folders: the output of training, and reading it back.

runs/als/
  config.yaml     composed; `recsys-dl reproduce` needs nothing else
  metrics.json    values, intervals and conventions, for each part of the split that was evaluated
  manifest.json   provenance: data hash, seed, threads, processes, commit, library versions, hardware, environment variables, launcher
                  and job id; seconds of each stage, peak memory
  run.log         log output
  model/          the fitted model
  per_user/       per-user values of the metrics, for paired comparisons
  seen.npz        users' interactions except the test part, excluded from recommendations; weight 0: not used for training
  attribution/    of a pipeline: the contribution of each stage, for each evaluated part
  titles.parquet  item titles, if the data has them
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from recsys_dl.data.dataset import Dataset
from recsys_dl.data.interactions import Interactions
from recsys_dl.data.saved_tables import read_saved_table
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.earlier import in_current_names
from recsys_dl.evaluation import Evaluation
from recsys_dl.folders import new_file, sha256
from recsys_dl.progress import SIGN
from recsys_dl.protocols import Recommender
from recsys_dl.provenance import peak_memory, provenance
from recsys_dl.readers.text_files import shorten
from recsys_dl.run_lists import RunLists
from recsys_dl.saving import DAMAGE as DAMAGED
from recsys_dl.saving import load_arrays, load_saved, read_yaml, save_arrays
from recsys_dl.trust import check_config, check_links
from recsys_dl.version import __version__

log = logging.getLogger(__name__)

DAMAGE = (ValueError, OSError, yaml.YAMLError, *DAMAGED)  # what reading a damaged folder raises


@dataclass
class StageTimer:
    """Seconds that each named stage of a run took; `shown`: on the console too, not only in the log."""

    seconds: dict[str, float] = field(default_factory=dict)
    shown: bool = True

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under `name`, and log it."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
        log.info("%s: %.1f s", name, self.seconds[name], extra=SIGN if self.shown else None)


@dataclass(frozen=True, repr=False)
class Run(RunLists):
    """A run folder, read back; see `RunLists` for recommendations.

    Attributes:
        folder: its path.
        config: as composed, plain Python.
        metrics: part of the split -> `Evaluation.to_dict`.
        manifest: its provenance.
        model: fitted: a `CatalogModel` or a `Pipeline`.
        users, items: the vocabularies; rows of `model`.
        seen: users' interactions except the test part; weight 0 means seen but not used for training.
        titles: of the items, or None.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]
    manifest: dict[str, Any]
    model: Any
    users: Vocabulary
    items: Vocabulary
    seen: Interactions
    titles: pl.Series | None

    def __repr__(self) -> str:
        return f"Run({self.folder}: {type(self.model).__name__}, {len(self.users):,} users, {len(self.items):,} items)"

    @property
    def holds_out(self) -> bool:
        """Whether the model was fitted on the training part of a split, not on all of the log."""
        split = self.config.get("split")
        whole = split is None or str(split["_target_"]).endswith(".no_split")
        return not whole and "parent" not in self.manifest

    @property
    def data_hash(self) -> str:
        """Hash of the data that the run's config reads.

        Raises:
            ValueError: a fine-tuned run, whose data is not in its config.
        """
        if (parent := self.manifest.get("parent")) and parent.get("how") != "refit":
            raise ValueError(
                f"{self.folder} was {'given new items' if parent.get('how') == 'add_items' else 'fine-tuned'} from Python on data that its "
                f"config does not name, which therefore cannot be read again. Its figures are in {self.folder / 'metrics.json'}; recsys_dl.evaluate evaluates its model on your data; "
                f"its parent is {parent['folder']}."
            )
        return self.manifest["data"]["hash"]


def write_run(
    folder: Path,
    *,
    config: Mapping[str, Any],
    model: Recommender,
    seen: Interactions,
    data: Dataset,
    evaluations: Mapping[str, Evaluation],
    stages: StageTimer,
    paths: Mapping[str, str] | None = None,
    parent: Mapping[str, Any] | None = None,
) -> None:
    """Write a finished run to an empty folder. The caller writes `run.log` (see `logged_to`).

    `paths`: absolute paths of settings that name input files, by dotted key; `parent`: for a fine-tuned or refitted
    run, its parent run and how it was derived.
    """
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    model.save(folder / "model")
    save_arrays(folder / "seen.npz", {"seen": seen.by_user})
    if data.item_titles is not None:
        data.item_titles.alias("title").to_frame().write_parquet(folder / "titles.parquet")
    write_metrics(folder, evaluations)
    about = {"name": data.name, "hash": data.content_hash, "interactions": len(data)}
    course = {name: getattr(model, name, None) for name in ("best_epoch", "stopped_epoch")}
    more: dict[str, Any] = {name: epoch for name, epoch in course.items() if epoch is not None}
    if paths:
        more["paths"] = dict(paths)
    if parent is not None:
        more["parent"] = dict(parent)
    about |= {"users": data.num_users, "items": data.num_items}
    trainer = config.get("trainer") or {}
    processes = int(trainer.get("processes", 1)) * int(trainer.get("num_nodes", 1))
    write_manifest(folder, about, stages, seed=config.get("seed"), processes=processes, **more)


def write_manifest(
    folder: Path, data: Mapping[str, Any], stages: StageTimer, *, seed: Any, processes: int = 1, **more: Any
) -> None:
    """Write a run's provenance: data, seed, code, libraries, hardware, environment, launcher and durations."""
    manifest = {
        "recsys_dl": __version__,
        "data": dict(data),
        "seed": seed,
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "processes": processes,
        **provenance(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": stages.seconds,
        "peak_memory_bytes": peak_memory(),
        **more,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def write_metrics(folder: Path, evaluations: Mapping[str, Evaluation]) -> None:
    """Add evaluations to a run folder's metrics.json and per_user/.

    Figures at other k are merged with existing ones if the conventions are the same.
    """
    file = folder / "metrics.json"
    metrics = json.loads(file.read_text()) if file.exists() else {}
    (folder / "per_user").mkdir(exist_ok=True)
    for part, evaluation in evaluations.items():
        old, new = metrics.get(part), evaluation.to_dict()
        users, arrays = folder / "per_user" / f"{part}.npz", evaluation.arrays()
        if old is not None and all(old[key] == new[key] for key in ("conventions", "confidence")):
            new["values"], new["intervals"] = old["values"] | new["values"], old["intervals"] | new["intervals"]
            new["k"] = sorted({*old["k"], *new["k"]})
            new |= {name: old[name] for name in ("segments",) if name in old and name not in new}
            arrays = load_arrays(users) | arrays
        metrics[part] = new
        with new_file(users) as aside:
            save_arrays(aside, arrays)
    with new_file(file) as aside:
        aside.write_text(json.dumps(metrics, indent=2) + "\n")


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Read a folder written by `recsys-dl train`.

    Raises:
        FileNotFoundError: no run there.
        ValueError: it is damaged, has another version's format, or names a target that is not trusted (`recsys_dl.trust`).

    Examples:
        >>> import subprocess
        >>> from recsys_dl import load_run
        >>> command = "recsys-dl train data=generated model=popularity run=runs/first"
        >>> _ = subprocess.run(command.split(), check=True, capture_output=True)
        >>> load_run("runs/first")
        Run(runs/first: Popularity, 2,000 users, 1,000 items)
    """
    path = run_folder(folder)
    check_links(path)
    model = load_saved(path / "model", Recommender, noun="model")
    if model.users is None or model.items is None:
        raise ValueError(f"{path / 'model'} has no vocabularies; it was not written by `recsys-dl train`")
    try:
        config, metrics, manifest = _described(path)
        seen = Interactions.from_csr(load_arrays(path / "seen.npz")["seen"])
        titles = read_saved_table(path / "titles.parquet")["title"] if (path / "titles.parquet").exists() else None
        if (seen.num_users, seen.num_items) != (len(model.users), len(model.items)):
            raise ValueError(f"seen.npz is of {seen.num_users} users and {seen.num_items} items, the model of others")
        if titles is not None and len(titles) != len(model.items):
            raise ValueError(f"titles.parquet has {len(titles)} titles for {len(model.items)} items")
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({shorten(str(error), 200)}); restore it or retrain") from error
    check_config(config, path / "config.yaml")
    return Run(path, config, metrics, manifest, model, model.users, model.items, seen, titles)


def _described(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return a run folder's config, metrics and manifest."""
    files = [path / name for name in ("config.yaml", "metrics.json", "manifest.json")]
    config, metrics, manifest = (
        read_yaml(file) if file.suffix == ".yaml" else json.loads(file.read_text()) for file in files
    )
    for file, found in zip(files, (config, metrics, manifest), strict=True):
        if not isinstance(found, dict):
            raise ValueError(f"{file.name} must hold settings by name, but holds {type(found).__name__}")
    return in_current_names(config), metrics, manifest


def load_evaluation(folder: str | os.PathLike[str], part: str) -> tuple[Evaluation, dict[str, Any], str]:
    """Read a run's figures of one part with per-user values, its config and data hash, but not its model.

    Raises:
        FileNotFoundError: no run there.
        ValueError: it is damaged, or has no figures of that part.
    """
    path = run_folder(folder, of_model=False)
    check_links(path)
    try:
        config, metrics, manifest = _described(path)
        if part in metrics:
            evaluation = Evaluation.from_dict(metrics[part], load_arrays(path / "per_user" / f"{part}.npz"))
            return evaluation, config, str(manifest["data"]["hash"])
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({shorten(str(error), 200)}); restore it or retrain") from error
    if str((config.get("split") or {}).get("_target_")).endswith(".no_split"):
        raise ValueError(
            f"{path} has no figures, since it was fitted on all of its log: nothing was held out to compute any"
        )
    raise ValueError(
        f"{path} has no figures of {part}{', but of ' + ', '.join(metrics) if metrics else ''}: "
        f"recsys-dl evaluate run={path} part={part}"
    )


def run_folder(folder: str | os.PathLike[str], *, of_model: bool = True) -> Path:
    """Return the path of a folder that looks like a run: of a model, or if `of_model` is false also of a ranker.

    Raises:
        OSError: there is none.
        ValueError: it is a ranker's.
    """
    path = Path(folder)
    if path.is_file():
        raise NotADirectoryError(f"{path} is a file; a run is a folder written by `recsys-dl train`")
    if (path / "ranker").is_dir():
        if of_model:
            raise ValueError(
                f"{path} is a run of `recsys-dl rank`, which ranks documents and cannot recommend: "
                f"recsys_dl.rankers.ranker.Ranker.load({str(path / 'ranker')!r}) reads it"
            )
        return path
    for name in ("config.yaml", "metrics.json", "manifest.json", "seen.npz"):
        if not (path / name).is_file():
            what = _instead_of_a_run(path) or f"has no {name}{_runs_near(path)}"
            raise FileNotFoundError(f"{path} must hold a run of `recsys-dl train`, but {what}")
    return path


def _instead_of_a_run(path: Path) -> str:
    """Return what a folder is that is easily mistaken for a run, and where its run is; else ""."""
    if (path / "sweep.json").is_file() or (path / "study.json").is_file():
        return f"is a {'sweep' if (path / 'sweep.json').is_file() else 'study'}: name the run of a trial, {path / 'trials' / '000' / 'run'}"
    if (path / "manifest.json").is_file() and not (path / "config.yaml").is_file():
        return "is an export: name the run that was exported"
    if path.name == "model" and (path.parent / "metrics.json").is_file():
        return f"is the model of one: name the run, {path.parent}"
    return ""


def _runs_near(path: Path) -> str:
    """Return a hint with the runs in or next to a folder that is not a run."""
    for folder in (path, path.parent):
        if folder.is_dir() and (
            runs := sorted(
                one.parent for one in folder.glob("*/manifest.json") if (one.parent / "config.yaml").is_file()
            )
        ):
            return (
                f"; runs in {folder} are: {', '.join(run.name for run in runs[:8])}{', ...' if len(runs) > 8 else ''}"
            )
    return ""


@contextmanager
def logged_to(file: Path) -> Iterator[None]:
    """Write the package's log output during the block to `file`, with times."""
    handler = logging.FileHandler(file)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("recsys_dl")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def weights_hash(folder: Path) -> str:
    """Return the SHA-256 of the weights of a run's model; for a model served by an index, of the model itself."""
    home = folder / "model"
    return sha256(next(file for file in (home / "arrays.npz", home / "model" / "arrays.npz") if file.is_file()))
