"""Downloading archives once, with progress, checksum and resume; opening archives and folders."""

from __future__ import annotations

import errno
import hashlib
import http.client
import logging
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from recsys_dl.progress import track

log = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes per read, and per step of the progress bar
TIMEOUT = 30  # seconds without a byte
TRIES = 5  # consecutive connections without any data


def cache_folder() -> Path:
    """Return where downloads are kept: RECSYS_CACHE, or ~/.cache/recsys_dl."""
    chosen = os.environ.get("RECSYS_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "recsys_dl"


def fetch(url: str, *, md5: str | None = None) -> Path:
    """Return a file from the cache, downloading it first if needed.

    It is written to a temporary file and moved once its checksum matches, so cached files are complete. A partial
    download is kept, and the next call resumes it.

    Args:
        url: of the file; its last part names it in the cache.
        md5: hexadecimal; None compares with the file at `<url>.md5`.

    Raises:
        ConnectionError: the server cannot be reached, answers with an error, or repeatedly drops the connection.
        ValueError: the checksum is wrong; the download is removed.
        OSError: the cache cannot be written.
    """
    folder = cache_folder()
    target = folder / _name(url)
    if target.exists():
        return target
    partial = target.with_name(target.name + ".partial")
    expected = md5 or _published_md5(url)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as out:
            _fill(out, url)
        came = _md5(partial)
        if came != expected:
            partial.unlink()
            raise ValueError(
                f"{url} was corrupted in transit: its MD5 must be {expected}, got {came}. It was removed; run again to download it."
            )
        partial.rename(target)
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"the disk of {folder} is full; free some space and run again to resume"
            ) from error
        raise OSError(
            error.errno,
            f"downloads are kept in {folder}, which cannot be written ({error.strerror}). "
            "Set RECSYS_CACHE to a writable folder.",
        ) from error
    finally:
        with suppress(OSError):
            if partial.is_file() and not partial.stat().st_size:
                partial.unlink()
    log.info("%s is in %s", url, target)
    return target


@contextmanager
def opened(path: Path, logs: Sequence[str], others: Sequence[str] = ()) -> Iterator[tuple[Path, Path]]:
    """Yield a log and its folder: `path` itself, a folder in it, or the unpacked contents of a zip archive.

    Args:
        path: a folder or a zip archive.
        logs: file names; the first that exists is the log.
        others: files to unpack with it, if they exist.

    Raises:
        FileNotFoundError: no such path, or no log in it.
        ValueError: the file is not a complete zip archive.
    """
    wanted = " or ".join(logs)
    if path.is_dir():
        for folder in (path, *sorted(part for part in path.iterdir() if part.is_dir())):
            for name in logs:
                if (folder / name).exists():
                    yield folder / name, folder
                    return
        raise FileNotFoundError(f"{path} must hold {wanted}, got {_some(part.name for part in path.iterdir())}")
    if not path.exists():
        raise FileNotFoundError(f"{path} must be a folder or a zip archive that holds {wanted}, but it does not exist")
    with tempfile.TemporaryDirectory(prefix="recsys_dl.") as unpacked:
        folder = Path(unpacked)
        try:
            with zipfile.ZipFile(path) as archive:
                members = {Path(name).name: name for name in reversed(archive.namelist())}
                log = next((name for name in logs if name in members), None)
                if log is None:
                    raise FileNotFoundError(f"{path} must hold {wanted}, got {_some(members)}")
                for name in {log, *others} & set(members):
                    with archive.open(members[name]) as member, (folder / name).open("wb") as out:
                        shutil.copyfileobj(member, out, CHUNK)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path} is not a complete zip archive ({error}); download it again") from error
        yield folder / log, folder


def _fill(out: IO[bytes], url: str) -> None:
    """Append the missing bytes, over as many connections as needed."""
    failed = 0
    while True:
        start = out.tell()
        problem: object = "the connection was dropped"
        try:
            if _append(out, url):
                return
        except (http.client.HTTPException, ConnectionResetError, TimeoutError) as error:
            problem = error
        out.flush()
        failed = 0 if out.tell() > start else failed + 1
        if failed == TRIES:
            raise ConnectionError(
                f"{url} failed {TRIES} times in a row ({problem}); {out.tell():,} bytes are kept, run again to resume"
            )
        log.info("%s was interrupted at %d bytes (%s); resuming", url, out.tell(), problem)


def _append(out: IO[bytes], url: str) -> bool:
    """Append the data from one connection; return whether the file is complete."""
    start = out.tell()
    with _ask(url, {"Range": f"bytes={start}-"} if start else {}) as answer:
        given = answer.headers.get("Content-Range", "")
        if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if given == f"bytes */{start}":
                return True
            _empty(out)  # it is not a prefix of the server's file
            return False
        if start and not given.startswith(f"bytes {start}-"):
            start = 0  # a server without range support sends the whole file
            _empty(out)
        length = answer.headers.get("Content-Length")
        size = None if length is None else start + int(length)
        steps = None if size is None else -(-(size - start) // CHUNK)
        for chunk in track(iter(lambda: answer.read(CHUNK), b""), f"{_name(url)} (MB)", total=steps):
            out.write(chunk)
    return size is None or out.tell() == size


def _empty(out: IO[bytes]) -> None:
    out.seek(0)
    out.truncate()


def _published_md5(url: str) -> str:
    with _ask(f"{url}.md5") as answer:
        text = answer.read(CHUNK).decode("ascii", "replace")
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if found is None:
        raise ValueError(f"{url}.md5 must hold an MD5 of 32 hexadecimal digits, got {text[:80]!r}")
    return found[0].lower()


def _ask(url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    """Return the server's response, including 416 (range not satisfiable)."""
    elsewhere = "download the file manually and set path=…"
    try:
        request = urllib.request.Request(url, headers=headers or {})  # noqa: S310  who calls names it, no server or file does
        return urllib.request.urlopen(request, timeout=TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error  # type: ignore[return-value]
        raise ConnectionError(
            f"{url}: the server responded {error.code} {error.reason}. Try later, or {elsewhere}"
        ) from error
    except urllib.error.URLError as error:
        raise ConnectionError(f"{url} cannot be reached ({error.reason}). Check the network, or {elsewhere}") from error


def _md5(file: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _name(url: str) -> str:
    return url.rsplit("/", 1)[1]


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "") or "nothing"
