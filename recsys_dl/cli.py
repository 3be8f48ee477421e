"""The command `recsys-dl`: find the verb, compose its config, call it, explain what went wrong."""

from __future__ import annotations

import os
import sys

from recsys_dl.lazy import importing, own_process
from recsys_dl.verbs.calling import fail, left, run_verb

MANY = {"-m", "--multirun"}  # train, simulate: one trial for each combination of settings
# verbs that take a run's folder as their first word
OF_A_RUN = ("evaluate", "recommend", "reproduce", "refit", "index", "export", "status", "serve", "monitor")
HELP = """recsys-dl: recommenders on your data, by one command.

  recsys-dl train model=als data=movielens_small seed=7        fit, evaluate on validation, write runs/als
  recsys-dl train data=log data.path=ratings.csv               the same on your own file
  recsys-dl train pipeline=three_stage                         retrieve, rank and re-rank; what each stage adds
  recsys-dl evaluate run=runs/als part=test                    the final figures, once
  recsys-dl recommend run=runs/als 'users=[196,22]' k=10       lists by title
  recsys-dl compare 'models=[popularity,item_knn,als,bpr]'     a table with intervals and paired tests
  recsys-dl train -m model=als,bpr seed=1,2 launcher=slurm     a sweep, one trial per combination; the same command again resumes
  recsys-dl tune model=als space=als trials=40                 search the settings on validation (Optuna); the same command resumes
  recsys-dl sweep status sweeps/als-bpr                        how far a sweep is
  recsys-dl refit run=runs/als                                 the chosen settings on all of the log, for production
  recsys-dl plan model=neumf data=log data.path=ratings.csv    memory, network, seconds of an epoch: will it fit?
  recsys-dl reproduce run=runs/als                             rerun it: are the numbers the same?
  recsys-dl index run=runs/als k=10 loss=0.01                  measure index settings, and recommend one
  recsys-dl rank data.train=S1.txt data.test=S2.txt            a ranker on learning-to-rank files (LETOR, LightGBM)
  recsys-dl report runs/als runs/bpr part=validation           one HTML page: figures, tests, popularity bias, training, cost
  recsys-dl simulate -m policy=thompson,ucb1 world=tastes      policies in a world whose truth is known: regret, table and plot
  recsys-dl ope log=log.csv policy=policy.csv                  what a policy would have earned, from the log of another
  recsys-dl export run=runs/als format=torchscript             files that another process serves without this package
  recsys-dl serve run=runs/als                                 answers over HTTP, and keeps what users did with them
  recsys-dl monitor run=runs/als log=runs/als.serving          drift, concentration and quality of what was served; status 3 if one is off
  recsys-dl warmup                                             compile all kernels ahead and keep them on disk, for images
  recsys-dl bench kernels                                      kernels beside those of implicit and irspack, on this machine

Every setting is written key=value; recsys-dl VERB --help shows them all and what each means. Tab completion:
recsys-dl completion bash (zsh, fish). Reference: docs/command.md."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return the exit status: 0 done, 1 a reported error, 2 invalid words, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        own_process()
    for stream in (sys.stdout, sys.stderr):  # unencodable characters are shown as question marks
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        status = _run(words)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        return left()


def _run(words: list[str]) -> int:
    """Print help or the version, or compose a verb's config and call it; return the exit status."""
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    if words[0] in ("--version", "-V", "version"):
        from recsys_dl.version import __version__

        print(__version__)
        return 0
    from recsys_dl.compose.options import VERBS
    from recsys_dl.names import PREDICTS_RATINGS, near

    verb = words[0]
    overrides = ["split=none" if word == "split=null" else word for word in words[1:]]  # Hydra reads null as no option
    if verb == "train" and MANY & {*overrides}:
        verb, overrides = "sweep", [word for word in overrides if word not in MANY]
    many = verb == "simulate" and bool(MANY & {*overrides})
    overrides = [word for word in overrides if not (many and word in MANY)]
    if verb == "sweep" and overrides[:1] == ["status"]:
        verb, overrides = "status", overrides[1:]
    try:
        if verb == "sweep" and overrides and _is_run(overrides[0]) and not {"help"} & {*overrides}:
            where = next((word for word in overrides if os.path.isdir(word)), overrides[-1])
            raise ValueError(
                f"recsys-dl sweep takes settings, got {overrides[0]!r}: did you mean recsys-dl sweep status {where}?"
            )
        if verb == "completion":
            from recsys_dl.compose.completion import completion

            print(completion(overrides))
            return 0
        if verb not in VERBS:
            ratings = (
                f"; ratings are predicted from Python, load_run(...).model.predict(users, items), by {', '.join(PREDICTS_RATINGS)}"
                if verb.startswith(("predict", "rate"))
                else ""
            )
            raise ValueError(
                f"there is no verb {verb[:80]!r}{near(verb, VERBS)}. There are: {', '.join(VERBS)}{ratings}"
            )
        with importing():
            from recsys_dl.compose import compose_command, describe
            from recsys_dl.compose.grid import compose_grid, compose_several, is_of

        if {"-h", "--help", "help"} & {*overrides}:
            print(
                describe(
                    verb, [word for word in overrides if word not in ("-h", "--help", "help") and is_of(verb, word)]
                )
            )
            return 0
        overrides = with_runs(verb, overrides)
        if verb == "sweep":
            grid = compose_grid(overrides)
            return run_verb(verb, grid.config, grid=grid)
        if many:
            several = compose_several(verb, overrides)
            return run_verb(verb, several.configs[0], several=several)
        config = compose_command(verb, overrides)
    except ValueError as error:
        return fail(str(error), 2)
    except KeyboardInterrupt:
        return fail("stopped", 130)
    return run_verb(verb, config)


def with_runs(verb: str, words: list[str]) -> list[str]:
    """Return a verb's words with those that are runs' folders as its setting: `run=` the first, or of a report `runs=` all; kernels are all that bench measures."""
    if verb == "report" and (runs := [word for word in words if _is_run(word)]):
        quoted = ",".join("'" + run.replace("\\", "\\\\").replace("'", "\\'") + "'" for run in runs)
        return [f"runs=[{quoted}]", *(word for word in words if word not in runs)]
    if verb == "bench" and words[:1] == ["kernels"]:
        return words[1:]
    if verb in OF_A_RUN and words and _is_run(words[0]):
        return [f"run={words[0]}", *words[1:]]
    return words


def _is_run(word: str) -> bool:
    """Return whether a verb's first word is a run's folder, not a setting."""
    return not word.startswith("-") and ("=" not in word or os.path.isdir(word))


if __name__ == "__main__":
    sys.exit(main())
