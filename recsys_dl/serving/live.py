"""The run that answers, and its replacement while requests are answered."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.protocols import Recommender
from recsys_dl.run_requests import Requests
from recsys_dl.runs import DAMAGE, Run, load_run

from .catalog import Catalog
from .errors import Refused
from .exported import is_export, load_export
from .recorder import Recorder

log = logging.getLogger(__name__)

NUMBER = r"^(0|-?[1-9][0-9]{0,14})$"


class Live:
    """A loaded run, ready to answer.

    Attributes:
        run: the run.
        log: key of the log of its answers.
        signature: of its folder.
        numbers: whether item ids are written as numbers.
        catalog: look-ups in it.
    """

    def __init__(self, path: Path, recorder: Recorder, variant: str = "") -> None:
        self.signature = signature_of(path)
        real = Path(os.path.realpath(path))  # not half of one run and half of the next
        self.run: Run = load_export(real) if is_export(real) else load_run(real)
        if not isinstance(self.run.model, Recommender):
            raise ValueError(f"{path} must hold a recommender, got {type(self.run.model).__name__}")
        self.numbers = bool(self.run.items.ids.str.contains(NUMBER).all())
        self.loaded = int(time.time())
        self._warm()
        stages = getattr(self.run.model, "rerankers", {}).values()
        context_size = max((getattr(one, "context_size", 0) for one in stages), default=0)
        self.log = recorder.open_log(self.run.users, self.run.items, context_size, variant)
        self.catalog = Catalog(self.run, numbers=self.numbers)

    def _warm(self) -> None:
        """Answer a user and a new one, so that everything is read and compiled."""
        names = self.run.users.ids.head(1)
        one = Requests(names, np.zeros(1, np.int32), None)
        self.run.answer(one, 1)
        self.run.answer(Requests(names, None, self.run.seen.of_users([0])), 1)
        self.run.model.score(self.run.users_of(one), np.zeros((1, 1), np.int32))
        self.run.items.find(self.run.items.ids.head(1))

    def ids(self, rows: np.ndarray) -> list[Any]:
        """Return the ids of item rows, as numbers if all ids of the run are."""
        found = self.run.items.at(rows).to_list()
        return [int(one) for one in found] if self.numbers else found

    def about(self) -> dict[str, Any]:
        """Return what the server says of the run."""
        run = self.run
        return {
            "run": str(run.folder),
            "model": type(run.model).__name__,
            "users": len(run.users),
            "items": len(run.items),
            "data": run.manifest.get("data", {}).get("hash"),
            "loaded": self.loaded,
        }


class Current:
    """The live run, and how another takes its place.

    Args:
        path: of the run, or a link to it.
        recorder: keeps its answers.
        variant: of two runs, which.
        prepare: called with each loaded run before it answers.

    Attributes:
        live: answers now; replaced whole.
        refused: why the last replacement was refused, None if it was not.
    """

    def __init__(
        self, path: Path, recorder: Recorder, variant: str = "", prepare: Callable[[Live], None] | None = None
    ) -> None:
        self.path, self.recorder, self.variant = path, recorder, variant
        self.prepare = prepare
        self.live = Live(path, recorder, variant)
        if prepare is not None:
            prepare(self.live)
        self.refused: str | None = None
        self._tried = self.live.signature
        self._lock = threading.Lock()

    def changed(self) -> bool:
        """Return whether the folder, or what the link names, is another than was last loaded or refused."""
        return signature_of(self.path) not in (self._tried, None)

    def reload(self) -> Live:
        """Load the run aside, and let it answer once it is warm.

        Raises:
            Refused: it is broken, and the old one goes on answering; or another reload is in progress.
        """
        if not self._lock.acquire(blocking=False):
            raise Refused(409, "a reload is in progress; send this again when it is done", retry_after=5)
        try:
            self._tried = signature_of(self.path)
            try:
                live = Live(self.path, self.recorder, self.variant)
                if self.prepare is not None:
                    self.prepare(live)
            except (*DAMAGE, RuntimeError, AttributeError, IndexError, MemoryError) as error:
                self.refused = (
                    f"{self.path} was refused, and the run loaded before goes on answering: {str(error)[:500]}"
                )
                log.error("%s", self.refused)
                raise Refused(422, self.refused) from error
            self.live, self.refused = live, None
            log.info("%s answers now", live.run)
            return live
        finally:
            self._lock.release()


def signature_of(path: Path) -> tuple[Any, ...] | None:
    """Return what changes when a run folder or a link to one is replaced; None while there is no run."""
    try:
        manifest = (path / "manifest.json").stat()
    except OSError:
        return None
    return os.path.realpath(path), manifest.st_ino, manifest.st_mtime_ns, manifest.st_size
