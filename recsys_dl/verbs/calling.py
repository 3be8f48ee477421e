"""Calling a verb, and explaining what went wrong. No slow imports."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
from typing import Any

from recsys_dl.lazy import importing


def run_verb(verb: str, config: Any, **more: Any) -> int:
    """Call a verb; return the exit status, after printing what went wrong."""
    from recsys_dl.progress import quiet_libraries, shown_on_console

    console = logging.StreamHandler()
    console.addFilter(shown_on_console)  # the rest goes to run.log
    logging.basicConfig(format="%(message)s", handlers=[console])
    logging.getLogger("recsys_dl").setLevel(logging.INFO)
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM leaves nothing half-written
    try:
        with quiet_libraries():
            with importing():
                called = getattr(importlib.import_module(f"recsys_dl.verbs.{verb}"), verb)
            status = int(called(config, **more) or 0)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return fail("stopped; no partial output is left", 130)
    except BrokenPipeError:
        return left()
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR"):
            raise
        from recsys_dl.compose.complaints import words_of

        return fail(words_of(error, config), 1)


def left() -> int:
    """Handle a closed output pipe, as with `head`."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141


def fail(message: str, status: int) -> int:
    """Print an error; return the exit status."""
    from recsys_dl.compose.complaints import capped

    print(f"error: {capped(message)}", file=sys.stderr)
    return status
