"""recsys-dl serve: one server on a small run, asked over HTTP."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from processes import command

from recsys_dl import Interactions, load_run
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import EASE, Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rerankers import Exploration
from recsys_dl.runs import StageTimer, write_run

for package in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(package, reason=f"serving needs {package}: pip install '.[serve]'")
httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")

TOKEN = "correct horse"
HEADERS = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
USERS, ITEMS = 40, 30


def data() -> Dataset:
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < 0.2)
    log = Interactions(users, items, num_users=USERS, num_items=ITEMS)
    names = Vocabulary(range(100, 100 + USERS), noun="user"), Vocabulary(range(500, 500 + ITEMS), noun="item")
    return Dataset(log, *names, item_titles=pl.Series([f"Title {i}" for i in range(ITEMS)]), name="small")


def write(folder: Path, model) -> None:
    folder.mkdir(parents=True)
    log = data()
    fitted = model.fit(log)
    write_run(folder, config={}, model=fitted, seen=log.interactions, data=log, evaluations={}, stages=StageTimer())


def start(folder: Path, *words: str, **environment: str):
    """Start a server; return its process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys_dl.cli", "serve", "port=0", *words],
        cwd=folder,
        env=dict(os.environ) | environment,
        stdout=subprocess.PIPE,
        stderr=(folder / "log.jsonl").open("a"),
        text=True,
    )
    line = process.stdout.readline()
    assert line.startswith("http://"), (line, (folder / "log.jsonl").read_text()[-2000:])
    return process, line.split()[0]


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serving")
    write(folder / "runs/ease", EASE(regularization=5.0))
    write(
        folder / "runs/pipeline",
        Pipeline({"ease": EASE(regularization=5.0)}, rerankers={"explore": Exploration(places=[2])}),
    )
    (folder / "runs/now").symlink_to("ease")
    return folder


@pytest.fixture(scope="session")
def server(place):
    words = ("run=runs/now", "timeout=2", "queue_size=64", "body_kb=64", "watch=0.2", "max_k=20", "threads=1")
    process, address = start(place, *words, RECSYS_DL_TOKEN=TOKEN)
    with httpx.Client(base_url=address, headers=HEADERS, timeout=20) as client:
        yield client
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in (place / "log.jsonl").read_text()


def ask(server, path: str, **body):
    return server.post(path, json=body)


def items_of(answer) -> list:
    assert answer.status_code == 200, answer.text
    return [one["item"] for one in answer.json()["items"]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"user": 105, "k": 7}, ("users=[105]", "k=7")),
        ({"user": "105", "k": 7, "exclude": [503], "allow": list(range(500, 520))}, None),
        ({"history": [501, "502"], "k": 5}, None),
    ],
)
def test_it_answers_what_the_command_and_python_answer(server, place, body, words):
    answer = ask(server, "/recommend", **body).json()
    run = load_run(place / "runs/ease")
    arguments = {name: value for name, value in body.items() if name != "user"}
    right = run.recommend([body["user"]] if "user" in body else None, **arguments)
    assert [one["item"] for one in answer["items"]] == [int(one) for one in right["item_id"]]
    assert [one["title"] for one in answer["items"]] == right["title"].to_list()
    np.testing.assert_allclose([one["score"] for one in answer["items"]], right["score"], rtol=1e-6)
    if words:
        command("recommend", "run=runs/ease", *words, "output=lists.csv", cwd=place)
        assert pl.read_csv(place / "lists.csv")["item_id"].to_list() == [one["item"] for one in answer["items"]]


def test_nothing_gets_popular_items_and_requests_together_get_what_each_gets_alone(server, place):
    counts = load_run(place / "runs/ease").model.item_counts_I
    assert items_of(ask(server, "/recommend", k=1)) == [500 + int(counts.argmax())]
    bodies = (
        [{"user": 100 + i} for i in range(20)] + [{"history": [500 + i], "k": 4} for i in range(10)] + [{"user": 1}]
    )

    async def together() -> list:
        async with httpx.AsyncClient(base_url=server.base_url, headers=HEADERS, timeout=20) as client:
            return await asyncio.gather(*(client.post("/recommend", json=body) for body in bodies))

    answers = asyncio.run(together())
    assert [one.status_code for one in answers] == [200] * 30 + [404]
    for body, answer in list(zip(bodies, answers, strict=True))[::7]:
        if answer.status_code == 200:
            alone = ask(server, "/recommend", **body).json()["items"]
            assert [one["item"] for one in answer.json()["items"]] == [one["item"] for one in alone]


def test_similar_items_and_scores(server, place):
    run = load_run(place / "runs/ease")
    similar = ask(server, "/similar", items=[510, 511], k=3).json()["similar"]
    assert [one["item"] for one in similar[1]] == [int(one) for one in run.similar_items([511], 3)["similar_item_id"]]
    scores = ask(server, "/score", user=105, items=[503, 500]).json()["items"]
    assert [one["item"] for one in scores] == [503, 500]
    np.testing.assert_allclose([one["score"] for one in scores], run.model.score([5], np.array([[3, 0]]))[0], rtol=1e-6)
    assert "only pipelines" in ask(server, "/explain", user=105).json()["error"]


WRONG = {
    "an unknown user": ("/recommend", '{"user": 7}', 404, "user '7' is not among the 40 known users"),
    "an unknown item": ("/recommend", '{"history": [7]}', 404, "item '7' is not among the 30 known items"),
    "k of zero": ("/recommend", '{"k": 0}', 422, "k: should be greater than or equal to 1, got 0"),
    "k above max_k": ("/recommend", '{"k": 21}', 422, "k must be between 1 and 20, got 21"),
    "a huge k": ("/recommend", '{"k": 1' + "0" * 5000 + "}", 422, "must be JSON"),
    "a fraction as id": ("/recommend", '{"user": 1.5}', 422, "user"),
    "true as id": ("/recommend", '{"user": true}', 422, "user"),
    "both kinds": ("/recommend", '{"user": 105, "history": []}', 422, "either user"),
    "no such field": ("/recommend", '{"usr": 105}', 422, "usr: there is no such field"),
    "everything excluded": ("/recommend", '{"allow": [500], "exclude": [500]}', 422, "at least one item"),
    "tastes of another model": ("/recommend", '{"tastes": ["heist"]}', 422, "tastes are for models"),
    "NaN": ("/feedback", '{"user": 105, "events": [{"item": 500, "reward": NaN}]}', 422, "must be JSON"),
    "an infinite reward": ("/feedback", '{"user": 105, "events": [{"item": 500, "reward": 1e999}]}', 422, "reward"),
    "no events": ("/feedback", '{"user": 105, "events": []}', 422, "events"),
    "an unknown answer": (
        "/feedback",
        f'{{"request_id": "{"0" * 32}", "events": [{{"item": 500}}]}}',
        404,
        "no answer",
    ),
    "not JSON": ("/recommend", "k=10", 422, "must be JSON"),
    "half a body": ("/recommend", '{"user":', 422, "must be JSON"),
    "an array": ("/recommend", "[1]", 422, "must be a JSON object"),
    "nothing": ("/recommend", "", 422, "must be given"),
    "deep JSON": ("/recommend", "[" * 30_000, 422, "must be JSON"),
    "deep objects": ("/score", '{"items":' * 5_000, 422, "must be JSON"),
    "a lone surrogate": ("/recommend", '{"user": "\\ud800"}', 422, "must be JSON"),
    "bytes that are no text": ("/recommend", b'{"user": "\xff\xfe"}', 422, "must be JSON"),
    "a zero character": ("/recommend", '{"user": "\\u0000"}', 404, "is not among"),
    "ten megabytes": ("/recommend", b" " * 10_000_000, 413, "a body may have 64 kB"),
    "a path with dots": ("/../../etc/passwd", "{}", 404, "Not Found"),
    "an encoded path": ("/%2e%2e/%2e%2e/etc/passwd%00", "{}", 404, "Not Found"),
    "a run of the client's": ("/recommend", '{"run": "../../etc"}', 422, "there is no such field"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_requests_get_what_must_hold(server, name):
    path, body, status, message = WRONG[name]
    answer = server.post(path, content=body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]
    assert len(answer.text) < 1500
    assert "Traceback" not in answer.text
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


def test_other_content_types_methods_and_tokens(server):
    form = server.post("/recommend", content='{"k": 3}', headers={"Content-Type": "text/plain"})
    assert form.status_code == 422
    assert "Content-Type: application/json" in form.json()["error"]
    assert server.get("/recommend").status_code == 405
    for wrong in ("", "Bearer wrong", f"Basic {TOKEN}", "Bearer \xff"):
        answer = server.post("/recommend", json={}, headers={"Authorization": wrong.encode("latin-1")})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert server.get("/health", headers={"Authorization": ""}).json()["users"] == USERS
    assert server.get("/ready", headers={"Authorization": ""}).status_code == 200


def test_slow_clients_are_cut_off_and_others_answered(server):
    host, port = server.base_url.host, server.base_url.port
    head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    slow = {"headers": "POST /recommend HT", "body": f"{head}Content-Length: 20\r\n\r\n{{"}
    opened = {name: socket.create_connection((host, port)) for name in slow}
    for name, text in slow.items():
        opened[name].sendall(text.encode())
    assert ask(server, "/recommend", user=105).status_code == 200
    for one in opened.values():
        one.settimeout(15)
    assert b"408" in opened["body"].recv(1000)
    assert opened["headers"].recv(1000) == b""
    for one in opened.values():
        one.close()


def test_feedback_is_kept_and_changes_the_next_list(server, place):
    answer = ask(server, "/recommend", user=110, k=5).json()
    first, second = (one["item"] for one in answer["items"][:2])
    kept = ask(
        server, "/feedback", request_id=answer["request_id"], events=[{"item": first}, {"item": second, "reward": 0}]
    )
    assert kept.json()["kept"] == 2
    run = load_run(place / "runs/ease")
    mine = [*run.seen.by_user[10].indices, first - 500]
    state = run.model.fold_in([mine])
    right = run.model.recommend(state, 5, exclude=Interactions([0] * len(mine), mine, num_items=ITEMS))
    assert items_of(ask(server, "/recommend", user=110, k=5)) == (500 + right.items_BK[0]).tolist()
    again = ask(server, "/feedback", request_id=answer["request_id"], events=[{"item": first}])
    assert again.status_code == 200
    other = next(item for item in range(500, 530) if item not in [one["item"] for one in answer["items"]])
    wrong = ask(server, "/feedback", request_id=answer["request_id"], events=[{"item": other}])
    assert (wrong.status_code, "one of the 5" in wrong.json()["error"]) == (422, True)
    (folder,) = (place / "runs/now.serving/logs").glob("*/log")
    log = FeedbackLog(folder).feedback()
    (row,) = np.flatnonzero((log.arms_RK[:, 0] == first - 500) & (log.rewards_RK[:, 0] == 1))
    assert (log.arms_RK[row][:2] + 500).tolist() == [first, second]
    assert (log.rewards_RK[row, 1], log.propensities_RK[row, 0]) == (0, 1)


def test_feedback_of_a_user_that_the_run_does_not_know_makes_them_known(server):
    assert ask(server, "/recommend", user="Zoë 1").status_code == 404
    assert (
        ask(server, "/feedback", user="Zoë 1", events=[{"item": 503}, {"item": 504, "reward": -1}]).status_code == 200
    )
    listed = items_of(ask(server, "/recommend", user="Zoë 1", k=20))
    assert listed[:3] == items_of(ask(server, "/recommend", history=[503], k=3, exclude=[504]))
    assert not {503, 504} & {*listed}


def test_overload_is_refused_before_memory_grows(server):
    async def flood() -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.base_url, headers=HEADERS, timeout=30, limits=limits) as client:
            answers = await asyncio.gather(
                *(client.post("/recommend", json={"history": [500], "k": 20}) for _ in range(300))
            )
            return [(one.status_code, one.headers.get("retry-after")) for one in answers]

    answers = asyncio.run(flood())
    assert {status for status, _ in answers} <= {200, 429, 503}
    assert all(after for status, after in answers if status != 200)
    assert (200, None) in answers
    figures = server.get("/metrics").text
    assert 'recsys_requests_total{path="/recommend",status="200"}' in figures
    assert "recsys_in_flight 0.0" in figures


def test_openapi_has_examples(server):
    schema = server.get("/openapi.json").json()
    for path in ("/recommend", "/similar", "/score", "/explain", "/feedback"):
        name = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[
            -1
        ]
        for example in schema["components"]["schemas"][name]["examples"]:
            assert "must be given" not in ask(server, path, **example).json().get("error", "")


def test_a_new_run_takes_over_without_a_lost_request_and_a_broken_one_is_refused(server, place):
    link = place / "runs/now"

    def point(name: str) -> None:
        (place / "runs/next").symlink_to(name)
        (place / "runs/next").rename(link)

    shutil.copytree(place / "runs/ease", place / "runs/broken")
    (place / "runs/broken/model/arrays.npz").write_bytes(b"no arrays")
    point("broken")
    broken = server.post("/reload")
    assert broken.status_code in (422, 409)
    deadline = time.time() + 10
    while server.get("/health").json()["refused"] is None and time.time() < deadline:
        time.sleep(0.1)
    assert "goes on answering" in server.get("/health").json()["refused"]

    async def through() -> list[int]:
        async with httpx.AsyncClient(base_url=server.base_url, headers=HEADERS, timeout=20) as client:
            statuses, model = [], "EASE"
            point("pipeline")  # seen by itself
            while model == "EASE" and len(statuses) < 5000:
                answers = await asyncio.gather(*(client.post("/recommend", json={"user": 105}) for _ in range(8)))
                statuses += [one.status_code for one in answers]
                model = (await client.get("/health")).json()["model"]
            assert model == "Pipeline"
            return statuses

    assert set(asyncio.run(through())) == {200}
    assert server.get("/health").json()["refused"] is None
    drawn = [ask(server, "/recommend", user=106, k=3, seed=seed).json() for seed in (1, 1, 2, 3, 4)]
    assert drawn[0]["items"] == drawn[1]["items"]
    assert len({one["items"][1]["item"] for one in drawn}) > 1
    assert drawn[0]["propensities"][0] == 1 > drawn[0]["propensities"][1] > 0
    why = ask(server, "/explain", user=106, k=3, seed=1).json()
    assert [one["item"] for one in why["items"]] == [one["item"] for one in drawn[0]["items"]]
    assert "found_by" in why["items"][0]
    point("ease")
    assert server.post("/reload").status_code in (200, 409)
    assert server.post("/reload", headers={"Authorization": ""}).status_code == 401


def test_what_was_acknowledged_survives_a_kill_and_a_stop_answers_what_is_queued(place):
    write(place / "runs/popular", Popularity())
    words = ("run=runs/popular", "rate=5", "batch_ms=300", "threads=1")
    process, address = start(place, *words)
    with httpx.Client(base_url=address, timeout=20) as client:
        answer = client.post("/recommend", json={"user": 100, "k": 2}).json()
        item = answer["items"][0]["item"]
        assert client.post(
            "/feedback", json={"request_id": answer["request_id"], "events": [{"item": item}]}
        ).is_success
        assert client.post("/reload").status_code == 403
        statuses = {client.post("/similar", json={"items": []}).status_code for _ in range(12)}
        assert statuses == {422, 429}
    process.kill()
    process.wait()
    process, address = start(place, *words)

    async def stopped() -> list[int]:
        async with httpx.AsyncClient(base_url=address, timeout=20) as client:
            asked = [asyncio.create_task(client.post("/recommend", json={"user": 100, "k": 2})) for _ in range(4)]
            await asyncio.sleep(0.15)  # they wait for a batch
            process.send_signal(signal.SIGTERM)
            return [
                (one.status_code, [each["item"] for each in one.json()["items"]])
                for one in await asyncio.gather(*asked)
            ]

    answers = asyncio.run(stopped())
    assert process.wait(20) == 0
    assert {status for status, _ in answers} == {200}
    assert all(item not in items for _, items in answers)
    (folder,) = (place / "runs/popular.serving/logs").glob("*/log")
    assert len(FeedbackLog(folder).feedback()) == 5
    assert FeedbackLog(folder).interactions().items_N.tolist() == [item - 500]


def test_each_line_of_the_log_is_json(place, server):
    assert server.get("/health", headers={"X-Request-ID": "from-outside"}).status_code == 200
    lines = [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()]
    mine = [line for line in lines if line.get("client_request_id") == "from-outside"]
    assert mine[0]["path"] == "/health"
    assert mine[0]["status"] == 200


def test_a_port_in_use_is_an_error_with_advice(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = (f"port={taken.getsockname()[1]}", "run=runs/ease", "store=kept")
        assert "choose another port" in command("serve", *words, cwd=place, status=1).stderr
