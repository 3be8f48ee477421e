"""What a study leaves: the table of its trials, the best one's config as an experiment, and its figures on the test part."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .experiment import write_experiment
from .running import SplitData, asked_of, name_of, print_figures, shown

if TYPE_CHECKING:
    from recsys_dl.sweeps.records import Record
    from recsys_dl.sweeps.study import Study

    from .search import Search

log = logging.getLogger(__name__)


def winner_of(study: Study, search: Search) -> Record | None:
    """Return the best trial, by the first metric; None if none finished."""
    from recsys_dl.sweeps.records import winners

    return next(iter(winners(study.records(search.command), search.metrics)), None)


def best_experiment(study: Study, search: Search) -> Path | None:
    """Write the best trial's config as `experiment/best.yaml` in the study's folder; None if there is none, or it cannot be one."""
    best = winner_of(study, search)
    if best is None:
        return None
    values = ", ".join(f"{name} {best.values[name]:.4f}" for name in search.metrics)
    about = f"Trial {best.number} of {study.folder.name}: {values} on validation."
    return write_experiment(study.folder, [*search.words, *search.words_of(best.settings)], about)


def print_study(study: Study, search: Search, experiment: Path | None, seconds: float) -> None:
    """Print the trials, the importance of settings, failures and what to do next; write the table, page and figure."""
    from recsys_dl.sweeps.records import STATES, winners
    from recsys_dl.sweeps.results import failures, table, write_report

    records = study.records(search.command)
    importance = study.importance()
    counts = (
        ", ".join(f"{n} {state}" for state in STATES if (n := sum(one.state == state for one in records)))
        or "0 started"
    )
    title = f"{name_of(search.base)}: {counts} of {study.trials} trials, {seconds:.0f} s"
    source = search.base.data.get("path") or search.base.data._target_.rpartition(".")[2]
    files = write_report(
        records,
        study.folder,
        metrics=search.metrics,
        title=f"{name_of(search.base)} on {source}",
        importance=importance,
    )
    print(f"{title}\n\n{table(records, search.metrics)}")
    if importance:
        parts = ", ".join(f"{key} {share:.0%}" for key, share in importance.items())
        print(f"\nImportance for {search.metrics[0]}: {parts}")
    if text := failures(records):
        print(f"\n{text}")
    print(f"\nAll trials: {', '.join(shown(file) for file in files)}")
    best = winners(records, search.metrics)
    if not best:
        timeout = None if records else search.config.timeout
        late = (
            ""
            if timeout is None
            else f": timeout={timeout:g} was over before one began; the same command with a longer one goes on"
        )
        print(f"No trial finished{late}.")
        return
    if len(best) > 1:
        print(f"\nNo other trial beats {', '.join(str(one.number) for one in best)}; the best in {search.metrics[0]}:")
    place = shlex.quote(f"hydra.searchpath=[file://{study.folder}]")
    again = best[0].command if experiment is None else f"recsys-dl train {place} experiment=best"
    print(f"\nThe best is trial {best[0].number}. Next:\n  {again}")
    print(f"  recsys-dl evaluate run={shown(Path(best[0].folder))} part=test")


def test_winner(study: Study, search: Search, split: SplitData) -> None:
    """Evaluate the best trial on the test part, once for the whole study; print the figures."""
    from recsys_dl.evaluation import evaluate
    from recsys_dl.runs import load_evaluation, load_run, write_metrics

    best = winner_of(study, search)
    if best is None:
        return
    tested = study.tested()
    number = best.number if tested is None else int(tested["trial"])
    folder = study.folder / "trials" / f"{number:03d}" / "run"
    if tested is None:
        run = load_run(folder)
        asked, exclude = asked_of(split, "test")
        how: dict[str, Any] = {"k": list(search.base.evaluate.k), "relevant_from": search.base.evaluate.relevant_from}
        write_metrics(folder, {"test": evaluate(run.model, split.train, asked, exclude=exclude, **how)})
        study.set_tested(number)
    elif number != best.number:
        log.warning(
            "the test part was read for trial %d; the best is trial %d now. Reading it for another would be choosing by it, so the "
            "figures are those of trial %d",
            number,
            best.number,
            number,
        )
    config = search.composed(best.settings)
    config.evaluate.part = "test"
    print()
    print_figures(
        f"trial {number} of {study.folder.name}, {name_of(config)}", config, load_evaluation(folder, "test")[0]
    )
