"""The command `recsys-dl`: find the verb, compose its config, call it, explain what went wrong."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys

VERBS = ("train", "evaluate", "recommend", "compare", "reproduce", "refit", "rank", "index", "export")
OF_A_RUN = ("evaluate", "recommend", "reproduce", "refit", "index", "export")  # take a run's folder as their first word
HELP = """recsys-dl: recommenders on your data, by one command.

  recsys-dl train model=als data=movielens_small seed=7        fit, evaluate on validation, leave runs/als
  recsys-dl train data=log data.path=ratings.csv               the same on your own file
  recsys-dl train pipeline=three_stage                         retrieve, rank and re-rank; what each stage adds
  recsys-dl evaluate run=runs/als part=test                    the figures to report, once
  recsys-dl recommend run=runs/als 'users=[196,22]' k=10       lists by title
  recsys-dl compare 'models=[popularity,item_knn,als,bpr]'     a table with intervals and paired tests
  recsys-dl refit run=runs/als                                 the chosen settings on all of the log, for service
  recsys-dl reproduce run=runs/als                             run it again: are the numbers the same?
  recsys-dl index run=runs/als k=10 loss=0.01                  what settings of an index cost, and which to take
  recsys-dl rank data.train=S1.txt data.test=S2.txt            a ranker on files of learning to rank (LETOR, LightGBM)
  recsys-dl export run=runs/als format=torchscript             files that another process serves without this package

Every setting is written key=value; recsys-dl VERB --help shows them all."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; return the exit status: 0 done, 1 an error that was explained, 2 wrong words, 130 stopped."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(HELP)
        return 0
    from recsys_dl import __version__
    from recsys_dl.compose import compose, describe, near
    from recsys_dl.progress import quiet_libraries, shown_on_console

    if words[0] == "--version":
        print(__version__)
        return 0
    verb = words[0]
    overrides = ["split=none" if word == "split=null" else word for word in words[1:]]  # Hydra takes null for no option
    if verb not in VERBS:
        return _fail(f"there is no verb {verb!r}{near(verb, VERBS)}. There are: {', '.join(VERBS)}", 2)
    if {"-h", "--help"} & set(overrides):
        try:
            print(describe(verb, [word for word in overrides if word not in ("-h", "--help")]))
        except ValueError as error:
            return _fail(str(error), 2)
        return 0
    if verb in OF_A_RUN and overrides and "=" not in overrides[0]:
        overrides[0] = f"run={overrides[0]}"
    try:
        config = compose(verb, overrides)
    except ValueError as error:
        return _fail(str(error), 2)
    console = logging.StreamHandler()
    console.addFilter(shown_on_console)  # the rest goes to run.log
    logging.basicConfig(format="%(message)s", handlers=[console])
    logging.getLogger("recsys_dl").setLevel(logging.INFO)
    with contextlib.suppress(ValueError):  # of another thread than the main one
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # to stop politely is to leave nothing half-written
    try:
        with quiet_libraries():
            status = int(getattr(importlib.import_module(f"recsys_dl.verbs.{verb}"), verb)(config) or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return _fail("stopped; nothing half-written is left", 130)
    except BrokenPipeError:  # whoever read our output has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        return _fail(_words_of(error), 1)


def _words_of(error: BaseException) -> str:
    """Return what the part itself said, not what Hydra says of it; an error nobody worded keeps its type."""
    from hydra.errors import InstantiationException
    from omegaconf.errors import MissingMandatoryValue

    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, MissingMandatoryValue):
        return f"a setting is missing: {str(error).splitlines()[0]}; give it as key=value"
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if (
        isinstance(error, ValueError | OSError | KeyError | RuntimeError | TypeError | ImportError | MemoryError)
        and text
    ):
        return text
    return f"{type(error).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def _fail(message: str, status: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
