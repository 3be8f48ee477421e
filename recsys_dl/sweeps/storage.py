"""Opening Optuna's storages, with their errors in clear words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from recsys_dl.folders import DiskFullError

SECONDS = 120  # that a worker waits for another's writing


@contextmanager
def open_storage(url: str, folder: Path) -> Iterator[optuna.storages.BaseStorage]:
    """Yield the storage at a URL: of SQLAlchemy, such as sqlite:///study.db or postgresql://…, or a file that ends in .log.

    Raises:
        ValueError: it cannot be opened, or is damaged.
        ImportError: its driver is not installed.
        OSError: the disk is full.
    """
    with clear_errors(folder):
        if url.endswith(".log") and "://" not in url:
            from optuna.storages.journal import JournalFileBackend

            yield optuna.storages.JournalStorage(JournalFileBackend(url))
            return
        from sqlalchemy.exc import SQLAlchemyError

        shown = re.sub(r"//[^/@]*@", "//…@", url)
        waits = {"connect_args": {"timeout": SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        try:
            yield optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=waits))
        except ModuleNotFoundError as error:
            raise ImportError(
                f"storage={shown} needs a driver that is not installed: pip install {error.name}"
            ) from error
        except (SQLAlchemyError, ValueError) as error:
            if is_full(error):
                raise
            first = re.sub(r"//[^/@]*@", "//…@", str(error).splitlines()[0])
            raise ValueError(
                f"storage={shown} cannot be opened ({first[:200]}); give an Optuna URL such as sqlite:///study.db or "
                "postgresql://user@host/base, a journal such as study.log, or leave it out"
            ) from error


@contextmanager
def clear_errors(folder: Path) -> Iterator[None]:
    """Turn a storage's error of a full disk into ours.

    Raises:
        OSError: the disk is full; the message names the study's folder.
    """
    try:
        yield
    except Exception as error:
        if is_full(error) and not isinstance(error, DiskFullError):
            raise DiskFullError(folder / "study.db") from error
        raise


def is_full(error: BaseException | None) -> bool:
    """Return whether SQLite reports a full disk, here or as a cause."""
    while error is not None:
        if "database or disk is full" in str(error) or "disk I/O error" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
