"""`data=shards` from object stores (a local S3 server) and from what Dask wrote; credentials by environment only."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from processes import command
from test_shards_data import BLOCK, frame, shards_of

from recsys_dl import load_run, read_log
from recsys_dl.readers.shards import read_shards

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("moto", reason="moto, a local S3 server, is not installed: pip install 'recsys_dl[dev]'")
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'recsys_dl[s3]'")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def store(server, monkeypatch):
    """An S3 with a log in a bucket, and this process's credentials for it in the environment."""
    import s3fs

    for name in KEYS:
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    if not system.exists("bucket"):
        system.mkdir("bucket")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(store, tmp_path) -> str:
    shards_of(frame(), tmp_path / "logs")
    store.put(str(tmp_path / "logs"), "bucket/logs", recursive=True)
    return "s3://bucket/logs"


def test_the_command_trains_on_a_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    words = f"train data=shards data.path={bucket} data.block={BLOCK} model=als model.embedding_size=8 model.epochs=1 run=run"
    command(*words.split(), cwd=tmp_path)
    run = load_run(tmp_path / "run")
    assert run.data_hash == read_log(frame()).content_hash
    assert run.config["data"]["path"] == bucket
    text = "".join(file.read_text(errors="replace") for file in (tmp_path / "run").glob("*.*"))
    assert "testing" not in text, "no credentials are stored"
    command("evaluate", "run=run", "part=test", cwd=tmp_path)


def test_a_bucket_that_is_replaced_is_read_again(store, bucket, tmp_path):
    first = read_shards(bucket, cache=tmp_path / "cache", block=BLOCK)
    frame(50).write_parquet(tmp_path / "more.parquet")
    store.put(str(tmp_path / "more.parquet"), "bucket/logs/part-00000.parquet")
    assert read_shards(bucket, cache=tmp_path / "cache", block=BLOCK).content_hash != first.content_hash


def test_stores_that_refuse_are_explained(bucket, tmp_path, monkeypatch):
    import s3fs

    with pytest.raises(FileNotFoundError, match="s3://nosuchbucket/logs .*does not exist"):
        read_shards("s3://nosuchbucket/logs", cache=tmp_path)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        patch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(ConnectionError, match=r"cannot be read .*Check the address and the network"):
            read_shards(bucket, cache=tmp_path)
    with monkeypatch.context() as patch:
        for name in KEYS:
            patch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, str(tmp_path / "none"))
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(PermissionError, match="Credentials are taken from the environment: AWS_ACCESS_KEY_ID"):
            read_shards(bucket, cache=tmp_path)


def test_unauthorized_is_explained(tmp_path, monkeypatch, server):
    """A server that answers 403, as Amazon does for a wrong key."""
    import http.server
    import threading

    import s3fs

    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    refusing = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=refusing.serve_forever, daemon=True).start()
    for name in KEYS:
        monkeypatch.setenv(name, "wrong")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{refusing.server_port}")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(PermissionError, match="s3://bucket/logs: access is denied"):
            read_shards("s3://bucket/logs", cache=tmp_path)
    finally:
        refusing.shutdown()
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ImportError, match="pip install 'gcsfs'"):
        read_shards("gs://bucket/logs", cache=tmp_path)


def test_what_dask_wrote_is_read(tmp_path):
    pytest.importorskip("dask.dataframe", reason="dask is not installed: pip install 'recsys_dl[dev]'")
    recipe = Path(__file__).parent.parent / "docs" / "shards.md"
    code = recipe.read_text().split("<!-- tested -->\n```python\n")[1].split("```")[0]
    table = frame(3000)
    (tmp_path / "raw").mkdir()
    for number in range(4):
        table[number * 800 : number * 800 + 800].write_csv(tmp_path / "raw" / f"{number}.csv")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = pl.read_parquet(tmp_path / "logs" / "*.parquet")
    mine = read_shards(tmp_path / "logs", cache=tmp_path / "cache", block=BLOCK)
    theirs = read_log(written)
    assert len(list((tmp_path / "logs").glob("part.*.parquet"))) > 1
    assert (mine.num_users, mine.num_items, len(mine)) == (theirs.num_users, theirs.num_items, len(theirs))
    core = table.filter(pl.col("rating") >= 1).unique(["user_id", "item_id"])
    assert mine.num_users <= core["user_id"].n_unique()
