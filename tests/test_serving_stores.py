"""What every store of recsys-dl serve keeps: a file, PostgreSQL and Redis, the latter two as real servers that are killed, held and started again."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import database_servers
import polars as pl
import pytest
from database_servers import PASSWORD, QUOTED

from recsys_dl.data.durable import DurableTable
from recsys_dl.data.feedback_log import REWARDS, FeedbackLog

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")
pytest.importorskip("fastapi", reason="serving needs recsys_dl[serve]")

from processes import command  # noqa: E402
from serving_process import ask, start, write_runs  # noqa: E402

from recsys_dl.serving.histories import Histories  # noqa: E402
from recsys_dl.serving.mirror import MirroredTable  # noqa: E402
from recsys_dl.serving.shared import opened  # noqa: E402
from recsys_dl.serving.store import REMEMBERED, Address, Shown, StoreError  # noqa: E402

SHARED = ("postgresql", "redis")
KINDS = ("sqlite", *SHARED)


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """Servers by their kind, started when first asked for."""
    made: dict = {}

    def of(kind: str):
        if kind not in made:
            server = database_servers.make(kind, tmp_path_factory.mktemp(kind))
            server.start()
            made[kind] = server
        return made[kind]

    yield of
    for server in made.values():
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def store(databases, request, tmp_path):
    kind = request.param
    return Histories(tmp_path / "histories.sqlite") if kind == "sqlite" else opened(Address.of(databases(kind).url))


@pytest.fixture
def server(databases, request):
    return databases(request.param)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    write_runs(folder)
    return folder


every = pytest.mark.parametrize("store", KINDS, indirect=True)
shared = pytest.mark.parametrize("server", SHARED, indirect=True)


@every
def test_histories_have_an_item_once_and_in_order(store):
    long, odd = "ü" * 1000, "zero\0and ':%"
    for user in ("ada", long, odd):
        assert store.of(user) == []
        store.add([(user, "a", 1.0), (user, "b", 0.1), (user, odd, -2.5), ("someone else", "a", 1.0)])
        store.add([(user, "a", 3.0), (user, long, 1e-300)])
        assert store.of(user) == [("b", 0.1), (odd, -2.5), ("a", 3.0), (long, 1e-300)]
    store.add([("many", str(n), 1.0) for n in range(10_050)])
    assert [item for item, _ in store.of("many")] == [str(n) for n in range(50, 10_050)]
    store.check()


@every
def test_answers_are_found_by_their_id_for_a_week(store):
    now = int(time.time())
    here = Shown("r1", "log", "ada\0", {"b": 1, "a\0": 0}, now)
    nobody, old = Shown("r2", "log", None, {"a": 0}, now), Shown("r3", "log", None, {"a": 0}, now - REMEMBERED - 5)
    store.remember([here, nobody, here])
    assert (store.answered("r1"), store.answered("r2"), store.answered("r4")) == (here, nobody, None)
    assert list(store.answered("r1").arms) == ["b", "a\0"]
    if not hasattr(store, "append"):
        store.remember([old])
        assert store.answered("r3") is None


@every
def test_writers_at_once_lose_nothing(store):
    def work(name: int) -> None:
        for n in range(20):
            store.add([("both", f"{name} {n}", 1.0), ("both", "shared", float(n))])
            if hasattr(store, "append"):
                numbers.append(store.append("log/rewards at once", f"{name} {n}".encode()))

    numbers: list[int] = []
    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(store.of("both")) == 81
    if hasattr(store, "append"):
        assert sorted(numbers) == list(range(1, 81))
        assert store.count("log/rewards at once") == 80
        assert {*store.since("log/rewards at once", 60)} < {
            f"{name} {n}".encode() for name in range(4) for n in range(20)
        }
        assert len(store.since("log/rewards at once", 60)) == 20


def rewards(folder: Path) -> int:
    (log,) = folder.glob("logs/*/log")
    return len(DurableTable(log / "rewards", REWARDS).read())


@shared
def test_servers_share_histories_answers_and_logs_and_a_crash_of_the_database_loses_nothing(home, server):
    """Two servers of one store; the database is killed between their feedback, and is away and hangs while they answer."""
    words = ("run=runs/ease", f"store={server.shown}", "timeout=8", "watch=0", "threads=1")
    started = [start(home, *words, RECSYS_DL_STORE_PASSWORD=PASSWORD) for _ in range(2)]
    one, two = (httpx.Client(base_url=address, timeout=20) for _, address in started)
    answer = ask(one, "/recommend", user=105, k=3).json()
    item = answer["items"][0]["item"]
    until(
        lambda: (
            ask(two, "/feedback", request_id=answer["request_id"], events=[{"item": item, "reward": 1}]).status_code
            == 200
        )
    )
    assert item not in [found["item"] for found in ask(one, "/recommend", user=105, k=20).json()["items"]]
    assert ask(two, "/feedback", user="new", events=[{"item": 500}, {"item": 501}]).json()["kept"] == 2
    server.kill()
    for client in (one, two):
        away = ask(client, "/recommend", user="new")
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert ask(client, "/recommend", history=[500], k=3).status_code == 200
        assert ask(client, "/feedback", user="new", events=[{"item": 502}]).status_code == 503
        assert client.get("/liked", params={"user": "new"}).status_code == 503
        until(lambda client=client: client.get("/ready").status_code == 503)
        assert "127.0.0.1" not in away.text + client.get("/ready").text
    server.start()
    for client in (one, two):
        until(lambda client=client: client.get("/ready").status_code == 200)
        assert [liked["item"] for liked in client.get("/liked", params={"user": "new"}).json()["items"]] == [501, 500]
        assert len(client.get("/liked", params={"user": 105}).json()["items"]) >= 1
    server.hold()
    began = time.monotonic()
    assert ask(one, "/recommend", user="new").status_code == 503
    assert ask(one, "/feedback", user="new", events=[{"item": 502}]).status_code == 503
    assert time.monotonic() - began < 20  # not for ever
    server.release()
    until(lambda: ask(one, "/feedback", user="new", events=[{"item": 503}]).status_code == 200)
    (folder,) = (home / "runs/ease.serving").glob(f"{'postgresql' if 'postgresql' in server.url else 'redis'}-*")
    until(lambda: rewards(folder) == 1)
    (log,) = folder.glob("logs/*/log")
    assert FeedbackLog(log).interactions().items_N.tolist() == [item - 500]
    for process, _ in started:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert server.shown in process.stdout.read()
    said = (home / "log.jsonl").read_text()
    assert "Traceback" not in said
    assert server.shown in said
    assert not [word for word in (PASSWORD, QUOTED) if word in said]


def until(holds, seconds: float = 25) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@shared
def test_acknowledged_writes_survive_kill_9_of_the_database(server):
    """Four writers, killed at any moment, three times."""
    address = Address.of(server.url)
    user = f"killed {server.port}"
    kept: list[str] = []
    for turn in range(3):
        stores = [opened(address) for _ in range(4)]

        def work(store, name: int, turn: int = turn) -> None:
            for n in range(100_000):
                item = f"{turn} {name} {n}"
                try:
                    store.add([(user, item, 1.0)])
                except StoreError:
                    return
                kept.append(item)

        threads = [threading.Thread(target=work, args=(store, name)) for name, store in enumerate(stores)]
        for one in threads:
            one.start()
        time.sleep(0.3)
        server.kill()
        for one in threads:
            one.join()
        server.start()
    there = {item for item, _ in opened(address).of(user)}
    assert kept
    assert {*kept[-5_000:]} <= there


@shared
def test_a_copy_is_made_again_and_one_of_another_content_is_refused(server, tmp_path):
    store = opened(Address.of(server.url))
    name = f"copied {time.time()}/rewards"
    table = MirroredTable(tmp_path / "a", REWARDS, store=store, name=name)
    rows = DurableTable(tmp_path / "source", REWARDS)
    for n in range(150):
        one = {"request": [n], "arm": [n % 3], "reward": [1.0], "time": [n]}
        assert table.append(rows.checked(pl.DataFrame(one))) == rows.append(pl.DataFrame(one)) == n + 1
        if n in (3, 4, 140):
            assert len(table) == n + 1
    other = MirroredTable(tmp_path / "b", REWARDS, store=store, name=name)
    assert table.read(20).equals(rows.read(20))
    assert other.read().equals(rows.read())
    assert other.find("request", rows.read()["request"].head(7), through=5)["append"].to_list() == [1, 2, 3, 4, 5]
    assert len([*(tmp_path / "b").glob("*.parquet")]) < 40
    with pytest.raises(ValueError, match=r"earlier state; delete the folder"):
        MirroredTable(tmp_path / "b", REWARDS, store=store, name=f"{name} of before")


@pytest.mark.parametrize("kind", SHARED)
def test_stores_that_cannot_be_used_are_refused_at_the_start_without_their_password(home, databases, kind):
    server = databases(kind)
    port = database_servers.free_port()
    for url, message in {
        server.url.replace(f":{server.port}/", f":{port}/"): "server that answers within 2 s",
        server.url.replace(QUOTED, "wrong%2Fpassword"): "check that it runs, and its host, port, user and password",
        server.url.replace("127.0.0.1:", "127.0.0.1:x"): "must be a folder, postgresql://",
    }.items():
        found = command("serve", "run=runs/ease", f"store='{url}'", "port=0", cwd=home, status=1)
        assert message in found.stderr
        assert "Traceback" not in found.stderr
        assert not re.search(f"{re.escape(PASSWORD)}|{QUOTED}|wrong.{{1,3}}password", found.stderr + found.stdout)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("postgresql", ["fsync=off"], "has fsync=off: what it acknowledged may be lost; set fsync=on"),
        ("postgresql", ["default_transaction_read_only=on"], "but only reads"),
        (
            "redis",
            ["appendonly no"],
            "has appendonly no: a crash would lose feedback; set appendonly yes and appendfsync always",
        ),
        ("redis", ["appendfsync everysec"], "has appendfsync everysec"),
        ("redis", ["maxmemory 100mb", "maxmemory-policy allkeys-lru"], "set maxmemory-policy noeviction"),
        ("redis", ["rename-command CONFIG hidden"], "refuses CONFIG GET"),
    ],
)
def test_databases_that_lose_what_they_acknowledge_are_refused(tmp_path, kind, settings, message):
    server = database_servers.make(kind, tmp_path)
    server.start(*settings)
    try:
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            opened(Address.of(server.url))
        assert PASSWORD not in str(error.value)
        assert QUOTED not in str(error.value)
    finally:
        server.stop()


def test_redis_that_stops_keeping_while_it_runs_is_not_written(tmp_path):
    server = database_servers.make("redis", tmp_path)
    server.start()
    store = opened(Address.of(server.url))
    store.add([("ada", "a", 1.0)])
    server.kill()
    server.start("appendfsync no")
    try:
        for _ in range(2):
            with pytest.raises(StoreError, match="does not keep what it acknowledges"):
                store.add([("ada", "b", 1.0)])
        server.kill()
        server.start()
        time.sleep(1.1)
        assert store.of("ada") == [("a", 1.0)]
        store._client.config_set("appendfsync", "everysec")
        with pytest.raises(StoreError, match="does not keep what it acknowledges"):
            store.check()
    finally:
        server.stop()


@pytest.mark.parametrize("package", ["psycopg", "redis"])
def test_a_client_library_that_is_absent_is_named_with_its_extra(package):
    url, extra = (
        ("postgresql://me:secret@host/db", "postgres") if package == "psycopg" else ("redis://:secret@host", "redis")
    )
    code = f"""
import sys
sys.modules[{package!r}] = None
from recsys_dl.serving.shared import opened
from recsys_dl.serving.store import Address
try:
    opened(Address.of({url!r}))
except ImportError as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert f"pip install 'recsys_dl[{extra}]'" in found.stdout, found.stderr
    assert "secret" not in found.stdout + found.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me:secret@host/db", "got the scheme 'mysql'"),
        ("postgresql://me:secret@host", "no name of a database"),
        ("redis://:secret@host:99999/0", "the part after redis:// is none"),
        ("redis://:secret@host/zero", "must be a whole number, got 'zero'"),
        ("postgresql://me:secret@[host/db", "the part after postgresql:// is none"),
    ],
)
def test_urls_that_are_none_are_refused_without_their_password(url, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        Address.of(url)
    assert "secret" not in str(error.value)


def test_an_address_hides_its_password():
    address = Address.of("postgres://me:s%40cret@[::1]:5433/my%20db?sslmode=require")
    assert (address.password, address.host, address.port, address.database) == ("s@cret", "::1", 5433, "my db")
    assert "cret" not in f"{address} {address!r}"
    assert address.clean("FATAL:\n  s@cret is wrong") == "FATAL: *** is wrong"
    assert address.with_password("other").password == "s@cret"
    assert Address.of("redis://host").with_password("other").password == "other"
    assert json.dumps(str(Address.of("redis://host"))) == '"redis://host:6379/"'
