"""The state of a training after its last epoch, so that it goes on after a kill, with any number of processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from recsys_dl.folders import new_file, writing
from recsys_dl.processes import Group
from recsys_dl.saving import load_arrays, save_arrays

FILE = "newest.npz"


class EpochCheckpoint:
    """A folder with the newest state, written by the first process.

    Args:
        folder: None keeps nothing.
        group: the processes.
        identity: returns plain values that a state must match to be resumed; called if there is a folder.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None, group: Group, identity: Callable[[], Mapping[str, Any]]
    ) -> None:
        self.file = None if folder is None else Path(folder).absolute() / FILE
        self.group = group
        self.identity = {} if self.file is None else {name: str(value) for name, value in identity().items()}

    def newest(self) -> tuple[int, dict[str, Any]]:
        """Return the number of epochs done and the arrays after them; 0 and none if there is no state yet.

        Raises:
            ValueError: a state of another training, or one that cannot be read.
        """
        if self.file is None or not any(self.group.gather(self.file.exists())):
            return 0, {}
        try:
            arrays = load_arrays(self.file)
            about = json.loads(bytes(arrays.pop("about")))
            epoch, found = int(about["epoch"]), dict(about["identity"])
        except Exception as error:
            raise ValueError(
                f"{self.file} must be a state of this training, but cannot be read ({str(error)[:200]}); remove it to start from scratch"
            ) from error
        differ = [name for name in {**found, **self.identity} if found.get(name) != self.identity.get(name)]
        if differ:
            words = "; ".join(
                f"{name} was {found.get(name)}, is {self.identity.get(name)}" for name in sorted(differ)[:3]
            )
            raise ValueError(
                f"{self.file} is a state of a different training: {words}. Set another folder as checkpoint, or remove this one."
            )
        return epoch, arrays

    def keep(self, epoch: int, arrays: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Replace the state; all processes take part in `arrays`.

        Raises:
            OSError: it cannot be written; the previous one is kept.
        """
        if self.file is None:
            return
        state = arrays()
        if self.group.rank == 0:
            about = json.dumps({"epoch": epoch, "identity": self.identity}).encode()
            with writing(self.file):
                self.file.parent.mkdir(parents=True, exist_ok=True)
            with new_file(self.file) as aside:
                save_arrays(aside, {**state, "about": np.frombuffer(about, np.uint8)})
