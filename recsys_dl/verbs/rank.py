"""Train a ranker on learning-to-rank files."""

from __future__ import annotations

import itertools
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.threads import limit_threads

from .running import run_folder, shown

if TYPE_CHECKING:
    from recsys_dl.data.groups import Groups

log = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")


def rank(config: DictConfig) -> None:
    """Fit a ranker, evaluate it on the other given files, write a run folder."""
    threads = limit_threads(config.threads)
    from recsys_dl.evaluation.queries import evaluate_queries
    from recsys_dl.folders import new_folder
    from recsys_dl.metrics.ranking import check_conventions
    from recsys_dl.runs import StageTimer, logged_to, write_manifest, write_metrics

    name = config.ranker._target_.split(".")[-2]
    check_conventions("linear", config.blank_queries)
    if bad := [k for k in config.k if isinstance(k, bool) or not isinstance(k, int) or k < 1]:
        raise ValueError(f"k must be list lengths of at least 1, got {bad[0]!r}")
    files = {part: files_of(config.data, part) for part in PARTS if config.data[part] is not None}
    ranker = instantiate(config.ranker)
    stages = StageTimer()
    with (
        run_folder(config, name) as target,
        new_folder(target, overwrite=config.run is None) as aside,
        logged_to(aside / "run.log"),
    ):
        log.info("%s on %d threads, seed %s", name, threads, config.seed)
        with stages.stage("read"):
            parts = read_groups(files, config.data)
            check_apart(files, parts)
        for part, groups in parts.items():
            log.info("%s: %r", part, groups)
        with stages.stage("fit"):
            ranker.fit(parts["train"], validation=parts.get("validation"))
        with stages.stage("evaluate"):
            evaluations = {
                part: evaluate_queries(ranker, groups, list(config.k), blank_queries=config.blank_queries)
                for part, groups in parts.items()
                if part != "train"
            }
        plain: Any = OmegaConf.to_container(config, resolve=True)
        plain["data"] |= {part: [str(file.absolute()) for file in files[part]] for part in files}
        (aside / "config.yaml").write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
        ranker.save(aside / "ranker")
        write_metrics(aside, evaluations)
        train = parts["train"]
        about = {"name": files["train"][0].name, "hash": train.content_hash, "documents": train.num_documents}
        write_manifest(aside, about | {"queries": len(train), "features": train.num_features}, stages, seed=config.seed)
    spent = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.seconds.items())
    print(f"{name}: {spent}", file=sys.stderr)
    for part, evaluation in evaluations.items():
        print(f"{name} on {', '.join(map(str, files[part]))}, {part}\n\n{evaluation}\n")
    if not evaluations:
        print(f"{name}: fitted without data.validation and data.test, so there are no figures\n")
    print(f"The run is in {shown(target)}. Next, in Python:")
    print(
        f"  from recsys_dl.rankers.ranker import Ranker; Ranker.load({str(target / 'ranker')!r}).score_groups(groups)"
    )


def files_of(data: DictConfig, part: str) -> list[Path]:
    """Return the files of a part.

    Raises:
        ValueError: none, or one that does not exist.
    """
    given = data[part]
    files = [Path(str(one)) for one in (given if OmegaConf.is_list(given) else [given])]
    if not files:
        raise ValueError(f"data.{part} must name at least one file, got none")
    for file in files:
        if not file.is_file():
            what = "is a folder; name the files in it" if file.is_dir() else "does not exist"
            raise ValueError(f"data.{part} must be a file of documents, or a list of them: {file} {what}")
    return files


def read_groups(files: dict[str, list[Path]], data: DictConfig) -> dict[str, Groups]:
    """Return the documents of each part, all with the number of features of the widest file."""
    from recsys_dl.data.groups import Groups

    found = {part: [_read(file, data, data.num_features) for file in several] for part, several in files.items()}
    width = max(groups.num_features for several in found.values() for groups in several)
    for part, several in found.items():
        for at, groups in enumerate(several):
            if groups.num_features < width:  # its last features are 0 everywhere
                several[at] = _read(files[part][at], data, width)
    return {part: several[0] if len(several) == 1 else Groups.concat(several) for part, several in found.items()}


def check_apart(files: dict[str, list[Path]], parts: dict[str, Groups]) -> None:
    """Check that no part holds the documents of another.

    Raises:
        ValueError: two parts have a file in common, or are the same documents.
    """
    for one, other in itertools.combinations(files, 2):
        shared = {file.resolve() for file in files[one]} & {file.resolve() for file in files[other]}
        if shared or parts[one].content_hash == parts[other].content_hash:
            what = f"both hold {shown(min(shared))}" if shared else "are the same documents"
            raise ValueError(
                f"data.{one} and data.{other} must be of different queries, but {what}: figures on what was learned from say nothing of other "
                "queries; hold some out in a file of their own"
            )


def _read(file: Path, data: DictConfig, num_features: int | None) -> Groups:
    from recsys_dl.readers.letor import read_grouped, read_letor, read_lightgbm

    if data.group is not None or data.label is not None:
        if data.group is None or data.label is None:
            raise ValueError("a table needs both data.group and data.label, the columns of queries and of grades")
        return read_grouped(file, group=data.group, label=data.label, features=data.features and list(data.features))
    if file.suffix in (".csv", ".parquet", ".arrow", ".feather"):
        raise ValueError(f"{file} is a table: set data.group=… and data.label=…, its query and grade columns")
    more: dict[str, Any] = {"num_features": num_features, "zero_based": data.zero_based}
    beside = Path(f"{file}.query").is_file()
    return read_lightgbm(file, **more) if beside else read_letor(file, **more)
