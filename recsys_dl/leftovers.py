"""What killed processes leave half-written, and the locks that tell it from what a living one is writing.

The operating system releases a lock when the process that holds it ends, however it ends. Where a file system has no locks, nothing
is ever taken for a leftover.
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
    """Return how names of half-written folders of this machine end: others' locks are not always seen here."""
    return f".{re.sub(r'[^A-Za-z0-9-]', '-', socket.gethostname())[:64] or 'localhost'}.partial"


@contextmanager
def lock(folder: Path) -> Iterator[bool | None]:
    """Hold a folder's lock inside the block; yield whether it could be had, None where the file system has no locks."""
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
    """Remove what processes of this machine that no longer run have left half-written in a folder; return and log what.

    A folder that was being replaced comes back where its process was killed after taking it away.
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
                log.warning("%s is back as it was before a process that was to replace it was killed", target)
                continue
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder)
        if target.is_dir():
            with lock(target) as dead, suppress(OSError):
                if dead:
                    target.rmdir()  # reserved by the one that was killed; refused where anything is in it
    if gone:
        names = ", ".join(folder.name for folder in gone[:3]) + (", ..." if len(gone) > 3 else "")
        log.warning("removed from %s what killed processes left half-written: %s", parent, names)
    return gone
