"""Measure index settings, and recommend one."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from recsys_dl.folders import NO_ARRAY, new_folder
from recsys_dl.processes import current

from .beforehand import HELD_OUT, holds_out, settle_split
from .paths import find_paths
from .running import asked_of, in_processes, name_of, own_threads, read_parts, run_folder, shown

if TYPE_CHECKING:
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.evaluation import Evaluation
    from recsys_dl.retrieval.budget import Figures
    from recsys_dl.retrieval.vector_index import VectorIndex

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Task:
    """The item vectors and queries to measure.

    Attributes:
        source: description.
        item_emb_ID: item vectors.
        query_BD: queries.
        exclude: user b's interactions are excluded from the list of query b; or None.
        evaluate: the NDCG of a run's model with its lists from an index; None if nothing was held out.
    """

    source: str
    item_emb_ID: np.ndarray
    query_BD: np.ndarray
    exclude: Interactions | None
    evaluate: Callable[[VectorIndex], Evaluation] | None


def index(config: DictConfig) -> None:
    """Measure every setting of the grid; print the table and the recommended setting, write report and plot to a folder."""
    with in_processes(config.processes) as first:
        _check(config)
        if not first:
            measure(config)
            return
        with (
            run_folder(OmegaConf.create({"run": config.output}), "index") as target,
            new_folder(target, overwrite=config.output is None) as aside,
        ):
            table, verdict = report(config, aside)
    print(f"{table}\n\n{verdict}")
    print(f"\nThe report{' and plot.png are' if config.plot else ' is'} in {shown(target)}/")


def report(config: DictConfig, folder: Path) -> tuple[str, str]:
    """Write a report to an empty folder; return its table and verdict as text."""
    from recsys_dl.evaluation.rendering import page_width, text_table
    from recsys_dl.retrieval.budget import choose

    task, rows, of, threads = measure(config)
    chosen = choose(rows, loss=config.loss, of=of, prefer=config.prefer)
    title = f"{task.source}: {len(task.item_emb_ID):,} items x {task.item_emb_ID.shape[1]}, {threads} thread{'s' * (threads > 1)}"
    facts = {
        "source": task.source,
        "items": len(task.item_emb_ID),
        "embedding_size": task.item_emb_ID.shape[1],
        "queries": len(task.query_BD),
        "threads": threads,
        "processes": current().size,
        **{name: config[name] for name in ("k", "loss", "prefer", "measure", "part", "seed")},
        "loss_of": of,
        "rows": [_plain(row) for row in rows],
        "chosen": _plain(chosen),
    }
    (folder / "report.json").write_text(json.dumps(facts, indent=2) + "\n")
    lines = table_of(rows)
    with (folder / "report.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    if config.plot:
        from recsys_dl.retrieval.plot import draw

        draw(rows, chosen, folder / "plot.png", title=title, k=config.k, loss=config.loss, of=of)
    return f"{title}\n\n{text_table(lines[0], lines[1:], width=page_width())}", verdict_of(config, rows, chosen, of)


def measure(config: DictConfig) -> tuple[Task, list[Figures], str, int]:
    """Return what is measured, the figures, what a loss is of, and the threads of searching; all processes take part."""
    threads = own_threads(config.threads)
    threads = current().threads or threads
    task = of_run(config) if config.run is not None else of_vectors(config)
    of = config.loss_of or ("recall" if task.evaluate is None else "ndcg")
    if of == "ndcg" and task.evaluate is None:
        raise ValueError("loss_of=ndcg needs a run with a held-out part; for bare vectors use loss_of=recall")
    return task, measure_all(config, task), of, threads


def of_vectors(config: DictConfig) -> Task:
    """Return the task of bare vectors in files."""
    if config.vectors is None or config.queries is None:
        raise ValueError(
            "set run=… (a folder written by recsys-dl train), or both vectors=… and queries=… (.npy files)"
        )
    item_emb_ID, query_BD = (vectors_of_file(Path(config[name])) for name in ("vectors", "queries"))
    rng = np.random.default_rng(config.seed)
    if len(query_BD) > config.num_queries:
        query_BD = query_BD[np.sort(rng.choice(len(query_BD), config.num_queries, replace=False))]
    return Task(Path(config.vectors).stem, item_emb_ID, query_BD, None, None)


def of_run(config: DictConfig) -> Task:
    """Return the task of a run: its item vectors, and the users of a part of its split with their interactions."""
    from recsys_dl.data.dataset import seen_of
    from recsys_dl.data.interactions import Interactions
    from recsys_dl.evaluation import evaluate
    from recsys_dl.retrieval.exact import Exact
    from recsys_dl.retrieval.retriever import Retriever
    from recsys_dl.runs import StageTimer, load_run

    run = load_run(config.run)
    trained = find_paths(run.config, run.manifest.get("paths", {}))
    settle_split(trained)
    if config.part in HELD_OUT and not holds_out(trained, config.part):
        raise ValueError(
            f"{config.run} has no held-out {config.part} part for queries; use part=… or a run that has one"
        )
    model = getattr(run.model, "model", run.model)  # of one that is served by an index, the model
    retriever = Retriever(model, Exact(device="cpu")).build()
    split = read_parts(trained, StageTimer(), expected_hash=run.data_hash)
    asked, known = asked_of(split, config.part)
    left_out = Interactions.concat([split.train.seen, seen_of(known)])
    users = np.unique(asked.interactions.users_N)
    if len(users) > config.num_queries:
        users = np.sort(np.random.default_rng(config.seed).choice(users, config.num_queries, replace=False))
    exclude = left_out.of_users(users)
    state: Any = users
    if asked.histories is not None:
        histories = asked.histories.of_users(users)
        exclude, state = Interactions.concat([exclude, histories]), model.fold_in(histories)
    query_BD, otherwise_B = model.queries(state)
    if otherwise_B.all():
        raise ValueError(f"no user of {config.part} has training interactions, so there are no queries")

    def evaluated(index: VectorIndex) -> Evaluation:
        found = Retriever(model, index)
        return evaluate(found, split.train, asked, k=config.k, metrics=["ndcg"], exclude=known)

    return Task(
        f"{name_of(trained)} on {run.manifest['data']['name']}, {config.part}",
        retriever.index.item_emb_ID,  # type: ignore[attr-defined]
        query_BD[~otherwise_B],
        exclude.of_users(np.flatnonzero(~otherwise_B)),
        evaluated,
    )


def _fitting(names: list[str], config: DictConfig, num_items: int) -> list[str]:
    """Return the indexes that can be built of so few vectors; the others are logged with the reason.

    Raises:
        ValueError: none can.
    """
    found = []
    for name in names:
        index = instantiate(part_of(config, name), measure=config.measure)
        try:
            index.check(num_items)
            found.append(name)
        except ValueError as error:
            if len(names) == 1:
                raise
            log.warning("%s is left out: %s", name, error)
    return found


def measure_all(config: DictConfig, task: Task) -> list[Figures]:
    """Return the figures of exact search, then of every setting of the grid."""
    from recsys_dl.evaluation import compare
    from recsys_dl.retrieval.budget import survey

    names = ["exact", *_fitting([name for name in config.indexes if name != "exact"], config, len(task.item_emb_ID))]
    metric = f"ndcg@{config.k}"
    evaluations: dict[str, Evaluation] = {}

    def quality(index: VectorIndex) -> tuple[float, tuple[float, float, float]]:
        """Return NDCG, and the relative loss against exact search (the first one measured)."""
        assert task.evaluate is not None
        found = task.evaluate(index)
        whole = evaluations.setdefault("exact", found).values[metric]
        if not whole:
            raise ValueError(
                f"{metric} of exact search is 0, so a relative loss is undefined; use loss_of=recall, or a larger k"
            )
        apart = compare({"exact": evaluations["exact"], "this": found}, metric, baseline="exact").differences["this"]
        lost = (
            -apart.value / whole + 0.0,
            -apart.high / whole + 0.0,
            -apart.low / whole + 0.0,
        )  # + 0 turns -0 into 0
        return found.values[metric], lost

    rows = []
    for row in survey(
        {name: functools.partial(instantiate, part_of(config, name), measure=config.measure) for name in names},
        OmegaConf.to_container(config.grid),  # type: ignore[arg-type]
        task.item_emb_ID,
        task.query_BD,
        config.k,
        exclude=task.exclude,
        quality=None if task.evaluate is None else quality,
    ):
        rows.append(row)
        if sys.stderr.isatty() and not current().rank:
            print(f"{row.label}: recall {row.recall:.4f}, {row.p50_ms:.3g} ms per query", file=sys.stderr)
    return rows


def part_of(config: DictConfig, name: str) -> DictConfig:
    """Return the config of an index by the name of its YAML."""
    from recsys_dl.compose import compose, near, options

    if name not in options("index"):
        raise ValueError(
            f"there is no index {name!r}{near(name, options('index'))}. There are: {', '.join(options('index'))}"
        )
    return compose("index", [f"+index={name}", f"seed={config.seed}", f"device={config.device}"]).index


def table_of(rows: list[Figures]) -> list[list[str]]:
    """Return the report as rows of text cells, the header first."""
    with_ndcg = rows[0].ndcg is not None
    header = ["index", "recall", "p50 ms", "p99 ms", "queries/s", "MB", "build s"]
    lines = [[*header, *(["NDCG", "NDCG lost [95%]"] if with_ndcg else [])]]
    for row in rows:
        cells = [
            row.label,
            f"{row.recall:.4f}",
            f"{row.p50_ms:.3g}",
            f"{row.p99_ms:.3g}",
            f"{row.queries_per_second:,.0f}",
        ]
        cells += [f"{row.num_bytes / 1e6:,.1f}", f"{row.build_seconds:.2f}"]
        if row.ndcg_lost is not None:
            value, low, high = (100 * share for share in row.ndcg_lost)
            cells += [f"{row.ndcg:.4f}", f"{value:+.2f}% [{low:+.2f}, {high:+.2f}]"]
        lines.append(cells)
    return lines


def verdict_of(config: DictConfig, rows: list[Figures], chosen: Figures, of: str) -> str:
    """Return the recommended setting, and its gains over exact search."""
    best = {"latency": "lowest latency", "throughput": "most queries/s", "memory": "least memory"}[config.prefer]
    noun = f"NDCG@{config.k}" if of == "ndcg" else f"recall@{config.k}"
    exact, settings = rows[0], ", ".join(f"{name}={value!r}" for name, value in chosen.settings.items())
    target = part_of(config, chosen.index)._target_.rpartition(".")[2]
    return (
        f"For a loss of at most {config.loss:.2%} of {noun}, the {best} has: {chosen.label}\n"
        f"  {exact.p50_ms / chosen.p50_ms:.1f} times as fast as exact for a single query, "
        f"{chosen.queries_per_second / exact.queries_per_second:.1f} times in a batch, "
        f"{chosen.num_bytes / exact.num_bytes:.2f} times its memory\n"
        f"  from recsys_dl.retrieval import {target}; index = {target}({settings}).build(item_emb_ID)"
    )


def _check(config: DictConfig) -> None:
    """Validate up front what would otherwise fail after all measurements."""
    if config.plot and find_spec("matplotlib") is None:
        if not current().rank:
            print("no plot, since matplotlib is missing: pip install 'recsys_dl[plot]'", file=sys.stderr)
        config.plot = False
    for name in config.indexes:
        part_of(config, name)


def _plain(row: Figures) -> dict[str, Any]:
    return {"label": row.label, **dataclasses.asdict(row)}


def vectors_of_file(file: Path) -> np.ndarray:
    """Return the array [R, D] of a .npy file, mapped.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or no table of numbers.
    """
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, *NO_ARRAY) as error:
        raise ValueError(f"{file} must be a .npy file of numbers, one vector per row ({error})") from error
    if array.ndim != 2:
        raise ValueError(f"{file} must hold one vector per row, got an array of shape {array.shape}")
    return array
