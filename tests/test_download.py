"""A download is whole or not there: it goes on after a cut, refuses a wrong checksum, and says what to do when it fails.

Everything is fetched from a server on the loopback interface, in a thread of this process.
"""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from recsys_dl.readers import download
from recsys_dl.readers.download import CHUNK, cache_folder, fetch, opened

BODY = np.random.default_rng(0).bytes(3 * CHUNK + 12_345)
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /data.zip and its checksum; the server's attributes say how it misbehaves."""

    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.path, self.headers.get("Range")))
        if self.path == "/data.zip.md5":
            return self.send(200, server.md5_file)
        if self.path != "/data.zip":
            return self.send(404, b"")
        start = 0
        if server.ranges and "Range" in self.headers:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(BODY):
                return self.send(416, b"", {"Content-Range": f"bytes */{len(BODY)}"})
        cut = server.cuts.pop(0) if server.cuts else None
        extra = {"Content-Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}"} if start else {}
        return self.send(206 if start else 200, server.body[start:], extra, cut)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.cuts, server.ranges, server.body = [], [], True, BODY
    server.md5_file = f"MD5 (data.zip) = {MD5}\n".encode()
    server.url = f"http://127.0.0.1:{server.server_port}/data.zip"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def left() -> list[str]:
    return sorted(file.name for file in cache_folder().glob("*"))


def test_it_is_fetched_once_and_checked(server):
    file = fetch(server.url)
    assert file == cache_folder() / "data.zip"
    assert file.read_bytes() == BODY
    assert left() == ["data.zip"]
    assert fetch(server.url) == file
    assert server.asked == [("/data.zip.md5", None), ("/data.zip", None)]


def test_a_known_checksum_spares_asking(server):
    fetch(server.url, md5=MD5)
    assert server.asked == [("/data.zip", None)]


@pytest.mark.parametrize("text", [MD5, f"{MD5}  data.zip\n", f"{MD5.upper()} *data.zip", f"MD5 (data.zip) = {MD5}"])
def test_checksum_files_as_they_are_written(server, text):
    server.md5_file = text.encode()
    assert fetch(server.url).read_bytes() == BODY


def test_it_goes_on_after_cuts(server):
    server.cuts = [CHUNK + 17, 5, CHUNK]
    assert fetch(server.url, md5=MD5).read_bytes() == BODY
    ranges = [asked for _, asked in server.asked]
    assert ranges == [None, f"bytes={CHUNK + 17}-", f"bytes={CHUNK + 22}-", f"bytes={2 * CHUNK + 22}-"]


def test_the_next_call_goes_on_where_the_last_gave_up(server):
    server.cuts = [1000] + [0] * download.TRIES
    with pytest.raises(ConnectionError, match="failed 5 times in a row .*1,000 bytes are kept, run again"):
        fetch(server.url, md5=MD5)
    assert left() == ["data.zip.partial"]
    server.asked.clear()
    assert fetch(server.url, md5=MD5).read_bytes() == BODY
    assert server.asked == [("/data.zip", "bytes=1000-")]
    assert left() == ["data.zip"]


def test_a_server_without_ranges_sends_it_all_again(server):
    server.cuts, server.ranges = [1000], False
    assert fetch(server.url, md5=MD5).read_bytes() == BODY


@pytest.mark.parametrize("length", [len(BODY), len(BODY) + 100])
def test_a_partial_file_that_is_complete_or_too_long(server, length):
    cache_folder().mkdir()
    (cache_folder() / "data.zip.partial").write_bytes((BODY + bytes(100))[:length])
    assert fetch(server.url, md5=MD5).read_bytes() == BODY


def test_a_wrong_checksum_leaves_nothing(server):
    server.body = BODY[:-1] + b"!"
    came = hashlib.md5(server.body, usedforsecurity=False).hexdigest()
    with pytest.raises(ValueError, match=f"its MD5 must be {MD5}, got {came}. It was removed; run again"):
        fetch(server.url)
    assert left() == []


def test_a_checksum_file_without_a_checksum(server):
    server.md5_file = b"<html>not here</html>"
    with pytest.raises(
        ValueError, match=r"data.zip.md5 must hold an MD5 of 32 hexadecimal digits, got '<html>not here"
    ):
        fetch(server.url)
    assert left() == []


def test_not_found(server):
    with pytest.raises(ConnectionError, match=r"other.zip: the server responded 404 .* set path="):
        fetch(server.url.replace("data", "other"), md5=MD5)
    assert left() == []


def test_no_network(server):
    server.shutdown()
    server.server_close()
    with pytest.raises(
        ConnectionError, match=r"cannot be reached \(.*refused\). Check the network, or download the file"
    ):
        fetch(server.url, md5=MD5)


def test_a_cache_that_cannot_be_written(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"cannot be written \(Not a directory\). Set RECSYS_CACHE to a writable folder"):
        fetch(server.url, md5=MD5)


def test_a_full_disk(server, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which is always full")
    cache_folder().mkdir()
    (cache_folder() / "data.zip.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="is full; free some space and run again to resume"):
        fetch(server.url, md5=MD5)


def test_the_cache_is_at_home(monkeypatch):
    monkeypatch.delenv("RECSYS_CACHE", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "recsys_dl"


# Opening what is on disk


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for name in names:
            out.writestr(name, f"this is {name}")
    return path


def test_an_archive_a_folder_and_a_folder_in_it(tmp_path):
    inside = tmp_path / "outer" / "ml"
    inside.mkdir(parents=True)
    (inside / "b.csv").write_text("this is ml/b.csv")
    zipped = archive(tmp_path / "ml.zip", "ml/b.csv", "ml/extra.csv", "ml/unwanted.csv")
    for place in (zipped, inside, inside.parent):
        with opened(place, ["a.csv", "b.csv"], ["extra.csv", "missing.csv"]) as (log, folder):
            assert log == folder / "b.csv"
            assert log.read_text() == "this is ml/b.csv"
            if place == zipped:
                assert sorted(file.name for file in folder.iterdir()) == ["b.csv", "extra.csv"]
    assert not folder.exists() or folder == inside


def test_an_archive_cannot_write_elsewhere(tmp_path):
    zipped = archive(tmp_path / "evil.zip", "../../b.csv")
    with opened(zipped, ["b.csv"]) as (log, folder):
        assert log.parent == folder
    assert not (tmp_path.parent / "b.csv").exists()


def test_not_what_is_expected(tmp_path):
    zipped = archive(tmp_path / "other.zip", *(f"{letter}.txt" for letter in "abcdefghij"))
    with pytest.raises(FileNotFoundError, match=r"must hold u.data, got a.txt, .*h.txt and 2 more"):
        with opened(zipped, ["u.data"]):
            pass
    with pytest.raises(FileNotFoundError, match=r"must hold u.data or v.data, got other.zip"):
        with opened(tmp_path, ["u.data", "v.data"]):
            pass
    with pytest.raises(FileNotFoundError, match="a folder or a zip archive that holds u.data, but it does not exist"):
        with opened(tmp_path / "nowhere", ["u.data"]):
            pass


def test_a_damaged_archive(tmp_path):
    whole = archive(tmp_path / "whole.zip", "u.data").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-10])
    spoilt = whole.replace(b"this is u.data", b"this is x.data")
    (tmp_path / "spoilt.zip").write_bytes(spoilt)
    for name in ("cut.zip", "spoilt.zip"):
        with pytest.raises(ValueError, match=r"is not a complete zip archive \(.*\); download it again"):
            with opened(tmp_path / name, ["u.data"]):
                pass
