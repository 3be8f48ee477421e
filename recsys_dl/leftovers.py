"""Cleaning up partial output of killed processes; locks distinguish it from output being written.

The operating system releases a lock when its process ends in any way. On a file system without locks, nothing
is treated as a leftover.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EINVAL)  # of file systems without them


def leftover_suffix() -> str:
    """Return the suffix of this machine's partial folders; other machines' locks may not be visible here."""
    return f".{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())[:64] or 'localhost'}.partial"


@contextmanager
def lock(folder: Path) -> Iterator[bool | None]:
    """Hold a folder's lock inside the block; yield whether it was acquired, None if the file system has no locks."""
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):
        yield False
        return
    try:
        mine: bool | None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = folder.exists() and os.path.samestat(os.fstat(handle), folder.stat())
        except BlockingIOError:
            mine = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            mine = None
        yield mine
    finally:
        os.close(handle)


def remove_leftovers(parent: Path) -> list[Path]:
    """Remove partial output of terminated processes of this machine in a folder; return and log it.

    A folder that was being replaced is restored if its process was killed after moving it away.
    """
    end = re.escape(leftover_suffix().removesuffix(".partial"))
    pattern = re.compile(rf"\.(.+)\.[a-z0-9_]{{8}}{end}\.(partial|old)")
    gone = []
    for folder in sorted(parent.iterdir()):
        match = pattern.fullmatch(folder.name)
        if match is None or not folder.is_dir() or folder.is_symlink():
            continue
        target = parent / match[1]
        with lock(folder) as dead:
            if not dead:
                continue
            if match[2] == "old" and not target.exists():
                folder.rename(target)
                log.warning("%s was restored: the process replacing it was killed", target)
                continue
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder)
        if target.is_dir():
            with lock(target) as dead, suppress(OSError):
                if dead:
                    target.rmdir()  # reserved by the killed process; fails if not empty
    if gone:
        names = ", ".join(folder.name for folder in gone[:3]) + (", ..." if len(gone) > 3 else "")
        log.warning("removed partial output of killed processes from %s: %s", parent, names)
    return gone
