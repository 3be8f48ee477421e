"""Show how far a sweep is."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig


def status(config: DictConfig) -> None:
    """Print the table of a sweep's trials, or of each sweep in a folder.

    Raises:
        FileNotFoundError: no sweep there.
    """
    from recsys_dl.sweeps.ledger import Ledger
    from recsys_dl.sweeps.status import print_ledger

    folder = Path(config.run)
    found = (
        [folder] if (folder / "sweep.json").is_file() else sorted(file.parent for file in folder.glob("*/sweep.json"))
    )
    for one in found or [folder]:
        print_ledger(Ledger(one))
