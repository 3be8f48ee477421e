"""Show how far a sweep is."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from .running import shown


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
    if not found and (elsewhere := _elsewhere(folder)):
        raise FileNotFoundError(f"{folder} is no sweep: {elsewhere}")
    for one in found or [folder]:
        print_ledger(Ledger(one))


def _elsewhere(folder: Path) -> str:
    """Return where to look in place of a study, or of a folder within a sweep or a study; "" for others."""
    for above in (folder, *folder.absolute().parents[:3]):
        if (above / "study.json").is_file():
            return f"it is {'' if above == folder else 'in '}the study {shown(above)}, whose trials are in {shown(above / 'trials.csv')}"
        if (above / "sweep.json").is_file():
            return f"it is in the sweep {shown(above)}: recsys-dl sweep status {shown(above)}"
    return ""
