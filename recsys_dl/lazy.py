"""Imports that cost little: names of a package are imported when first used, and no garbage is searched for meanwhile."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recsys_dl.names import near

_own = False  # whether this process is the command's


def from_files(
    package: str, names: Sequence[str], others: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package whose classes lie in files of their names.

    Args:
        package: its name.
        names: what `dir` shows. A class in a file of its name (`ItemKNN` in `item_knn.py`) is found though it is not among them.
        others: name -> file, of what lies in a file of another name.
    """
    folder = Path(str(sys.modules[package].__file__)).parent
    files = {file.stem.replace("_", ""): file.stem for file in folder.glob("[!_]*.py")}

    def get(name: str) -> Any:
        module = (others or {}).get(name) or files.get(name.lower())
        with importing():
            found = importlib.import_module(f".{module}", package) if module else None
        value = (
            found if name == module else getattr(found, name, None)
        )  # a file's own name is the file, whatever it holds
        if value is None:
            raise AttributeError(f"module {package!r} has no {name!r}{near(name, names)}; there are {', '.join(names)}")
        return value

    def show() -> list[str]:
        return sorted({*vars(sys.modules[package]), *names})

    return get, show


def own_process() -> None:
    """Declare this process the command's own, whose garbage collector `importing` may set."""
    global _own
    _own = True


@contextmanager
def importing() -> Iterator[None]:
    """Import without searches for garbage, and leave what is imported out of all later ones, if this process is the command's own.

    Python goes through all living objects again and again while imports create more, and once more when the process ends: two fifths
    of the processor time of a small neural training, a quarter of ALS's.
    """
    if not _own or not gc.isenabled():
        yield
        return
    known = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        gc.enable()
