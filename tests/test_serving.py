"""recsys-dl serve: one server on a small run, asked over HTTP."""

import asyncio
import json
import os
import shutil
import signal
import socket
import time

import numpy as np
import polars as pl
import pytest
from processes import command

from recsys_dl import Interactions, load_run
from recsys_dl.data.feedback_log import FeedbackLog
from recsys_dl.models import Popularity

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")

from serving_process import HEADERS, ITEMS, ask, start, write  # noqa: E402

from recsys_dl.serving.server import config_socket  # noqa: E402
from recsys_dl.serving.settings import Settings  # noqa: E402


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
def test_it_answers_what_the_command_and_python_answer(server, served, body, words):
    answer = ask(server, "/recommend", **body).json()
    run = load_run(served / "runs/ease")
    arguments = {name: value for name, value in body.items() if name != "user"}
    right = run.recommend([body["user"]] if "user" in body else None, **arguments)
    assert [one["item"] for one in answer["items"]] == [int(one) for one in right["item_id"]]
    assert [one["title"] for one in answer["items"]] == right["title"].to_list()
    np.testing.assert_allclose([one["score"] for one in answer["items"]], right["score"], rtol=1e-6)
    if words:
        command("recommend", "run=runs/ease", *words, "output=lists.csv", cwd=served)
        assert pl.read_csv(served / "lists.csv")["item_id"].to_list() == [one["item"] for one in answer["items"]]


def test_nothing_gets_popular_items_and_requests_together_get_what_each_gets_alone(server, served):
    counts = load_run(served / "runs/ease").model.item_counts_I
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


def test_similar_items_and_scores(server, served):
    run = load_run(served / "runs/ease")
    similar = ask(server, "/similar", items=[510, 511], k=3).json()["similar"]
    assert [one["item"] for one in similar[1]] == [int(one) for one in run.similar_items([511], 3)["similar_item_id"]]
    scores = ask(server, "/score", user=105, items=[503, 500]).json()["items"]
    assert [one["item"] for one in scores] == [503, 500]
    np.testing.assert_allclose([one["score"] for one in scores], run.model.score([5], np.array([[3, 0]]))[0], rtol=1e-6)


def test_feedback_is_kept_and_changes_the_next_list(server, served):
    answer = ask(server, "/recommend", user=110, k=5).json()
    first, second = (one["item"] for one in answer["items"][:2])
    kept = ask(
        server, "/feedback", request_id=answer["request_id"], events=[{"item": first}, {"item": second, "reward": 0}]
    )
    assert kept.json()["kept"] == 2
    run = load_run(served / "runs/ease")
    mine = [*run.seen.by_user[10].indices, first - 500]
    state = run.model.fold_in([mine])
    right = run.model.recommend(state, 5, exclude=Interactions([0] * len(mine), mine, num_items=ITEMS))
    assert items_of(ask(server, "/recommend", user=110, k=5)) == (500 + right.items_BK[0]).tolist()
    again = ask(server, "/feedback", request_id=answer["request_id"], events=[{"item": first}])
    assert again.status_code == 200
    other = next(item for item in range(500, 530) if item not in [one["item"] for one in answer["items"]])
    wrong = ask(server, "/feedback", request_id=answer["request_id"], events=[{"item": other}])
    assert (wrong.status_code, "one of the 5" in wrong.json()["error"]) == (422, True)
    (folder,) = (served / "runs/now.serving/logs").glob("*/log")
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


def test_openapi_has_examples(server):
    schema = server.get("/openapi.json").json()
    for path in ("/recommend", "/similar", "/score", "/explain", "/feedback"):
        name = schema["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[
            -1
        ]
        for example in schema["components"]["schemas"][name]["examples"]:
            assert "must be given" not in ask(server, path, **example).json().get("error", "")


def test_a_new_run_takes_over_without_a_lost_request_and_a_broken_one_is_refused(server, served):
    link = served / "runs/now"

    def point(name: str) -> None:
        (served / "runs/next").symlink_to(name)
        (served / "runs/next").rename(link)

    shutil.copytree(served / "runs/ease", served / "runs/broken")
    (served / "runs/broken/model/arrays.npz").write_bytes(b"no arrays")
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


def test_what_was_acknowledged_survives_a_kill_and_a_stop_answers_what_is_queued(served):
    write(served / "runs/popular", Popularity())
    words = ("run=runs/popular", "rate=5", "batch_ms=300", "threads=1")
    process, address = start(served, *words)
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
    process, address = start(served, *words)

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
    (folder,) = (served / "runs/popular.serving/logs").glob("*/log")
    assert len(FeedbackLog(folder).feedback()) == 5
    assert FeedbackLog(folder).interactions().items_N.tolist() == [item - 500]


def test_each_line_of_the_log_is_json(served, server):
    assert server.get("/health", headers={"X-Request-ID": "from-outside"}).status_code == 200
    mine, end = [], time.monotonic() + 10  # the line is written once the answer is sent
    while not mine and time.monotonic() < end:
        whole = (served / "log.jsonl").read_text().rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        mine = [line for line in lines if line.get("client_request_id") == "from-outside"]
        time.sleep(0.02)
    assert mine[0]["path"] == "/health"
    assert mine[0]["status"] == 200


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
def test_a_host_that_is_not_of_this_machine_is_an_error_with_advice(served, host):
    with pytest.raises(
        OSError, match=rf"^host={host} port=0 cannot be listened on .*must be a name or an address of this machine"
    ):
        config_socket(Settings(run=served / "runs/ease", host=host, port=0))


def test_a_port_in_use_and_a_store_of_another_kind_are_errors_with_advice(served):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = (f"port={taken.getsockname()[1]}", "run=runs/ease", "store=kept")
        assert "choose another port" in command("serve", *words, cwd=served, status=1).stderr
    (served / "kept/histories.sqlite").write_text("no such thing" * 100)
    assert "name another folder: store=" in command("serve", "run=runs/ease", "store=kept", cwd=served, status=1).stderr


@pytest.mark.parametrize("run", ["runs/eas", "runs/../../nowhere", "https://host/run", "a" * 300])
def test_what_is_no_run_gets_no_store_beside_it(served, run):
    before = sorted(served.rglob("*.serving"))
    assert "error: " in command("serve", f"run={run}", "port=0", cwd=served, status=1).stderr
    assert sorted(served.rglob("*.serving")) == before
    assert not os.path.exists(served / f"{run}.serving")


def test_connections_send_small_parts_at_once(tmp_path):
    """Without TCP_NODELAY an answer's second part waits 40 ms for the client's delayed acknowledgment."""
    with config_socket(Settings(tmp_path, port=0)) as listening, socket.create_connection(listening.getsockname()):
        connection, _ = listening.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
