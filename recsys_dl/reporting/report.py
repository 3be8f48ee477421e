"""A report about one run or several: an HTML file that needs nothing else."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_dl.evaluation import Evaluation, compare
from recsys_dl.evaluation.attribution import Attribution
from recsys_dl.evaluation.rendering import html_table
from recsys_dl.evaluation.scorecard import conventions_text
from recsys_dl.folders import ensure_folder, new_file
from recsys_dl.names import counted
from recsys_dl.run_requests import Requests
from recsys_dl.runs import Run, load_evaluation, load_run
from recsys_dl.version import __version__

from . import figures
from .parts import MOST_USERS, by_activity, learning_curves, popularity_shares, resources

LISTS = "As recsys-dl recommend lists them: without anything that a user is known to have interacted with, in validation too."
TESTS = "p: paired bootstrap test over users, two-sided, Holm-corrected for {num}"
BEYOND = ("coverage", "novelty", "gini", "popularity_lift", "diversity")


def report(
    folders: Sequence[str | Path],
    file: str | Path,
    *,
    part: str = "test",
    metric: str = "ndcg@10",
    overwrite: bool = False,
) -> Path:
    """Write a report about runs to an HTML file, and return its path.

    It shows figures with intervals, paired tests between the runs, segments, quality by activity of users, popularity bias and
    concentration of the lists, learning curves, what each stage of a pipeline adds, what the runs took, the protocol, and how to
    reproduce them.

    Args:
        folders: of runs, evaluated on the same part of the same data; with several, the tests compare each with the first.
        file: to write; its folder is made if needed.
        part: of the split, "test" or "validation".
        metric: for tests and plots, such as "ndcg@10"; its k is the length of the lists.
        overwrite: whether to replace the file if it exists.

    Raises:
        FileNotFoundError: no such run.
        FileExistsError: the file exists.
        ValueError: no runs, one given twice, one without figures of that part or without that metric, or runs that were not evaluated in the same way.
        ImportError: matplotlib is not installed.

    Examples:
        >>> import subprocess
        >>> from recsys_dl.reporting import report
        >>> command = "recsys-dl train data=generated model=popularity run=runs/first"
        >>> _ = subprocess.run(command.split(), check=True, capture_output=True)
        >>> report(["runs/first"], "report.html", part="validation").name
        'report.html'
    """
    target = Path(file)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; name another file, or set overwrite=true to replace it")
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"a report is an HTML file, such as report.html, got {target.name}")
    names = {str(folder).rstrip("/"): Path(folder) for folder in folders}
    if not names or len({folder.resolve() for folder in names.values()}) < len(folders):
        raise ValueError(f"runs must name run folders, each once, got {', '.join(map(str, folders)) or 'none'}")
    judged = {name: load_evaluation(folder, part)[0] for name, folder in names.items()}
    for name, evaluation in judged.items():
        if metric not in evaluation.per_user:
            raise ValueError(
                f"{name} has no {metric} of {part} for each user, but {', '.join(evaluation.per_user) or 'none'}"
            )
    loaded = {name: load_run(folder) for name, folder in names.items()}
    sections = [
        _figures(judged, metric),
        _activity(judged, loaded, metric),
        _popularity(judged, loaded, metric),
        *(_segments(name, one) for name, one in judged.items()),
        *(_course(name, run) for name, run in loaded.items()),
        *(_stages(name, run, part) for name, run in loaded.items()),
        _resources(loaded),
        _protocol(judged),
        _again(loaded, part),
    ]
    title = ", ".join(Path(name).name for name in names)
    body = "\n".join(section for section in sections if section)
    about = f"{part}, recsys_dl {__version__}: {_sizes(next(iter(loaded.values())))}"
    page = PAGE.format(title=html.escape(title), about=html.escape(about), body=body)
    ensure_folder(target.parent)
    with new_file(target) as aside:
        aside.write_text(page, encoding="utf-8")
    return target


def _section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def _figures(judged: Mapping[str, Evaluation], metric: str) -> str:
    if len(judged) > 1:
        found = compare(dict(judged), metric=metric)
        rows = []
        for name, one in found.evaluations.items():
            apart = found.differences.get(name)
            tested = (
                [f"{apart.value:+.4f} [{apart.low:+.4f}, {apart.high:+.4f}]", f"{found.p_values[name]:.4f}"]
                if apart
                else ["", ""]
            )
            rows.append([name, one.cell(metric), *tested])
        tests = html_table(
            ["run", metric, f"minus {found.baseline}", "p (Holm)"],
            rows,
            TESTS.format(num=counted(len(found.differences), "comparison")),
        )
        shared = [
            name for name in next(iter(judged.values())).values if all(name in one.values for one in judged.values())
        ]
        figures_ = html_table(["", *judged], [[name, *(one.cell(name) for one in judged.values())] for name in shared])
        return _section("Figures", tests, figures_)
    (one,) = judged.values()
    return _section("Figures", one._repr_html_())


def _activity(judged: Mapping[str, Evaluation], loaded: Mapping[str, Run], metric: str) -> str:
    seen = next(iter(loaded.values())).seen
    groups = {name: by_activity(one, metric, seen) for name, one in judged.items()}
    table = html_table(
        ["known interactions", "users", *groups],
        [
            [
                name,
                f"{users:,}",
                *(f"{found[at][2]:.4f} [{found[at][3]:.4f}, {found[at][4]:.4f}]" for found in groups.values()),
            ]
            for at, (name, users, *_) in enumerate(next(iter(groups.values())))
        ],
    )
    return _section("By activity of users", figures.activity(groups, metric), table)


def _popularity(judged: Mapping[str, Evaluation], loaded: Mapping[str, Run], metric: str) -> str:
    k = int(metric.partition("@")[2])
    users_U = next(iter(judged.values())).users
    if len(users_U) > MOST_USERS:
        users_U = np.sort(np.random.default_rng(0).choice(users_U, MOST_USERS, replace=False))
    found = {}
    for name, run in loaded.items():
        requests = Requests(pl.Series(run.users.at(users_U)), users_U, None)
        items_BK = run.answer(requests, min(k, len(run.items))).items_BK
        found[name] = popularity_shares(items_BK, run.seen)
    shares, places = ({name: pair[at] for name, pair in found.items()} for at in (0, 1))
    rows = [
        [
            name,
            f"{places_I.astype(bool).sum():,} of {len(places_I):,}",
            f"{shares[name][1][0]:.0%}",
            f"{shares[name][1][5:].sum():.0%}",
        ]
        for name, places_I in places.items()
    ]
    interactions = shares[next(iter(shares))][0]
    rows.append(["interactions", "", f"{interactions[0]:.0%}", f"{interactions[5:].sum():.0%}"])
    header = ["lists of", "items recommended", "most popular tenth", "less popular half"]
    parts = [figures.popularity(shares), figures.concentration(places)]
    beyond = [name for name in (f"{one}@{k}" for one in BEYOND) if all(name in one.values for one in judged.values())]
    if len(judged) > 1 and beyond:
        points = {name: (one.values[beyond[0]], one.values[metric]) for name, one in judged.items()}
        parts.append(figures.tradeoff(points, (beyond[0], metric)))
    return _section(f"What is recommended: top {k} of {len(users_U):,} users", *parts, html_table(header, rows, LISTS))


def _segments(name: str, evaluation: Evaluation) -> str:
    if evaluation.segments is None:
        return ""
    return _section(f"Segments, {name}", evaluation.segments.html())


def _course(name: str, run: Run) -> str:
    curves = learning_curves(run.folder / "run.log")
    if not curves:
        return ""
    best = run.manifest.get("best_epoch")
    return _section(f"Training, {name}", figures.epochs(curves, best))


def _stages(name: str, run: Run, part: str) -> str:
    file = run.folder / "attribution" / f"{part}.json"
    if not file.is_file():
        return ""
    attribution = Attribution.from_dict(json.loads(file.read_text()))
    return _section(f"What each stage adds, {name}", attribution._repr_html_())


def _resources(loaded: Mapping[str, Run]) -> str:
    found = {name: resources(run.manifest, run.folder) for name, run in loaded.items()}
    header = list(dict.fromkeys(key for one in found.values() for key in one))
    return _section(
        "What it took",
        html_table(["run", *header], [[name, *(one.get(key, "") for key in header)] for name, one in found.items()]),
    )


def _protocol(judged: Mapping[str, Evaluation]) -> str:
    one = next(iter(judged.values()))
    return _section("Protocol", f"<pre>{html.escape(conventions_text(one.conventions, one.confidence))}</pre>")


def _again(loaded: Mapping[str, Run], part: str) -> str:
    parts = []
    for name, run in loaded.items():
        versions: Mapping[str, Any] = run.manifest.get("versions") or {}
        facts = {
            "data": f"{run.manifest['data'].get('name', '')}, hash {run.manifest['data']['hash'][:16]}",
            "seed": run.manifest.get("seed"),
            "finished": run.manifest.get("finished"),
            "commit": run.manifest.get("commit") or "unknown",
            "machine": f"{run.manifest.get('machine', '')}; {(run.manifest.get('hardware') or {}).get('processor', '')}",
            "libraries": ", ".join(f"{library} {version}" for library, version in versions.items()),
        }
        lines = [f"recsys-dl reproduce run={name}", f"recsys-dl evaluate run={name} part={part}"]
        rows = [[key, str(value)] for key, value in facts.items()]
        parts.append(
            f"<h3>{html.escape(name)}</h3><pre>{html.escape(chr(10).join(lines))}</pre>{html_table(['', ''], rows)}"
        )
    return _section("Reproduce", *parts)


def _sizes(run: Run) -> str:
    data = run.manifest["data"]
    return f"{data.get('name', 'data')}, {len(run.users):,} users, {len(run.items):,} items"


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.5rem; margin: 0; }} h2 {{ font-size: 1.15rem; margin: 2rem 0 .4rem; border-bottom: 1px solid #8885; }}
h3 {{ font-size: 1rem; margin: 1rem 0 .3rem; }} section {{ overflow-x: auto; }}
img {{ max-width: 100%; background: white; margin: .6rem .6rem 0 0; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }}
td, th {{ padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #8883; white-space: nowrap; }}
td:first-child, th:first-child {{ text-align: left; }} th {{ border-bottom: 2px solid #8888; }}
pre {{ background: #8881; padding: .6rem; white-space: pre-wrap; }} small {{ opacity: .75; }}
</style></head><body><h1>{title}</h1><p>{about}</p>
{body}
</body></html>
"""
