"""Atomic writing of folders and files.

A folder is written next to its final location and moved when complete: a crash, a full disk or Ctrl-C leaves
the old folder (or nothing), never a partial new one. The writing process holds a lock that the operating system releases
when the process ends in any way: leftovers of a killed process are removed by the next one that writes there.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recsys_dl.leftovers import leftover_suffix, lock, remove_leftovers

# what NumPy raises, besides ValueError, for a damaged .npy file
NO_ARRAY = (EOFError, SyntaxError, tokenize.TokenError)


@contextmanager
def new_folder(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it becomes `path`, on any error it is removed.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false. If it appeared in the meantime, nothing is lost:
            the new one gets the next free name, given in the message.
        OSError: the disk is full or the parent cannot be written; the message names `path`.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists already; name another folder, or remove it first")
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} must be a folder, but is a file; name another folder")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target.parent)
        with _aside(target) as aside, writing(target):
            yield aside
            if target.exists() and not overwrite:
                other = next_free(target)
                aside.rename(other)
                raise FileExistsError(
                    f"{target} was created by another process in the meantime; the output is in {other}"
                )
            if target.exists():
                _replace(target, aside)
            else:
                aside.rename(target)


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the name of a file to write; on success it becomes `path` (in place of an old one), on any error it is removed.

    Raises:
        OSError: `path` is a folder, its folder does not exist, the disk is full; the message names `path`.
    """
    target = Path(path).absolute()
    if target.is_dir():
        raise IsADirectoryError(f"{target} must be a file, but is a folder; name a file in it")
    aside = target.with_name(f".{target.name}.partial")
    with writing(target):
        if not target.parent.exists():
            raise FileNotFoundError(f"{target} must be in an existing folder, but {target.parent} does not exist")
        try:
            yield aside
            aside.replace(target)
        finally:
            if aside.exists():
                aside.unlink()


def ensure_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder where there is none, and return its absolute path.

    Raises:
        OSError: it is a file, or cannot be made; the message names `path`.
    """
    target = Path(path).absolute()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} must be a folder, but is a file; name another")
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
    return target


class DiskFullError(OSError):
    """The disk is full.

    Attributes:
        path: what could not be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        folder = next(folder for folder in path.parents if folder.exists())
        free = shutil.disk_usage(folder).free
        super().__init__(
            f"the disk is full: nothing was written to {path}, where {free / 1e6:,.1f} MB are free; free some space, or choose "
            "another disk, and run again"
        )
        self.errno = errno.ENOSPC


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn errors of writing to `path` into clear messages: a full disk, a parent that is a file, missing permissions.

    Raises:
        OSError: instead of any of these; its message names `path`.
    """
    target = Path(path).absolute()
    parent = next(folder for folder in target.parents if folder.exists())
    if not parent.is_dir():
        raise NotADirectoryError(
            f"{target} cannot be written: {parent} is a file, not a folder; choose another location"
        )
    try:
        yield
    except DiskFullError as error:
        if not _is_aside(error.path, target):  # it was another place
            raise
        raise DiskFullError(target) from error
    except Exception as error:
        number, name = getattr(error, "errno", None), getattr(error, "filename", None)
        if _is_full(error, parent):
            raise DiskFullError(target) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS) and _is_below(name, parent):
            why = "is on a read-only file system" if number == errno.EROFS else "may not be written to by this user"
            raise PermissionError(f"{target} cannot be written: {parent} {why}; choose another location") from error
        if (
            isinstance(error, OSError)
            and number is not None
            and isinstance(name, str | os.PathLike)
            and (target.is_relative_to(name) or _is_aside(Path(name), target))
        ):
            raise OSError(f"{target} cannot be written ({error.strerror}); choose another location") from error
        raise


def _is_full(error: BaseException, folder: Path) -> bool:
    """Return whether an error was caused by a full disk, which Polars, NumPy and Torch report differently."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
        return True
    return (
        getattr(error, "errno", None) is None
        and re.search("writ|unexpected pos", str(error)) is not None
        and shutil.disk_usage(folder).free < 1 << 16
    )


def _is_aside(path: Path, target: Path) -> bool:
    """Return whether a path lies in the folder that is to become `target`."""
    if path == target or not path.is_relative_to(target.parent):
        return path == target
    return path.relative_to(target.parent).parts[0].startswith(f".{target.name}.")


def _is_below(name: object, folder: Path) -> bool:
    return isinstance(name, str | os.PathLike) and Path(name).absolute().is_relative_to(folder)


@contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, locked for this process; remove it in the end where it still is."""
    while True:
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=leftover_suffix(), dir=target.parent))
        with lock(aside) as mine:
            if mine is False:  # another process removed it as a leftover before it was locked
                continue
            try:
                aside.chmod(0o777 & ~_umask())
                yield aside
            finally:
                if aside.exists():
                    shutil.rmtree(aside, ignore_errors=True)
        return


def _replace(target: Path, aside: Path) -> None:
    """Replace the folder `target` by `aside`; at any time, one of the two is complete."""
    old = aside.with_suffix(".old")
    with lock(target):
        target.rename(old)
        try:
            aside.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def reserved(folder: Path) -> Iterator[Path]:
    """Yield `folder`, or the first of folder-2, folder-3, ... that does not exist, as an empty folder reserved for this process.

    On an error it is removed.
    """
    with writing(folder):
        while True:
            target = next_free(folder)
            try:
                target.mkdir(parents=True)
            except FileExistsError:
                if not target.exists():  # a parent is a file
                    raise
                continue
            with lock(target) as mine:
                if mine is False:
                    continue
                try:
                    yield target
                except BaseException:
                    with suppress(OSError):  # it is not there, or holds what was finished
                        target.rmdir()
                    raise
            return


def next_free(folder: Path) -> Path:
    """Return `folder`, or the first of folder-2, folder-3, ... that does not exist."""
    candidate, number = folder, 1
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}-{number}")
    return candidate


def sha256(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(stream)


def _sha256(stream) -> str:  # type: ignore[no-untyped-def]
    digest = hashlib.sha256()
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
