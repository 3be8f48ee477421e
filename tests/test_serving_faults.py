"""recsys-dl serve: what bad requests, slow clients, overload and a store that fails get."""

import asyncio
import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_dl import serving

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")

from serving_process import HEADERS, TOKEN, USERS, ask  # noqa: E402

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
    "a reward that overflows": (
        "/feedback",
        '{"user": 105, "events": [{"item": 500, "reward": 1e30}]}',
        422,
        "events.0.reward: should be less than or equal to 1000000, got 1e+30",
    ),
    "an empty id": ("/recommend", '{"user": ""}', 422, "user: should"),
    "an infinite reward": ("/feedback", '{"user": 105, "events": [{"item": 500, "reward": 1e999}]}', 422, "reward"),
    "no events": ("/feedback", '{"user": 105, "events": []}', 422, "events: should have at least 1 item, got []"),
    "true as a number": ("/recommend", '{"k": true}', 422, "k: should be a valid integer, got true"),
    "a list as id": ("/recommend", '{"user": [1]}', 422, "user: should be a valid integer or a valid string, got [1]"),
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


def test_an_empty_list_says_why(server):
    had = server.get("/liked", params={"user": 105}).json()["items"][0]["item"]
    for path in ("/recommend", "/explain"):
        answer = ask(server, path, user=105, allow=[had], k=3).json()
        assert answer["items"] == []
        assert any(
            note.startswith("no item is left: the user has interacted with all items") for note in answer["notes"]
        )
    wrong = server.get("/users", params={"q": "", "limit": -2})
    assert wrong.json()["error"] == "limit: should be greater than or equal to 1, got '-2'"


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


def test_a_client_that_sends_all_of_a_large_body_before_it_reads_gets_its_answer(server):
    head = f"POST /recommend HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    chunk = f"{10_000:x}\r\n{' ' * 10_000}\r\n"
    for sent in (
        f"{head}Content-Length: 10000000\r\n\r\n{' ' * 10_000_000}",
        f"{head}Transfer-Encoding: chunked\r\n\r\n{chunk * 1000}0\r\n\r\n",
    ):
        with socket.create_connection((server.base_url.host, server.base_url.port), timeout=15) as one:
            one.sendall(sent.encode())
            assert one.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_store_that_cannot_be_written_acknowledges_nothing_and_lists_go_on(server, served):
    answer = ask(server, "/recommend", user=111, k=1).json()
    body = {"request_id": answer["request_id"], "events": [{"item": answer["items"][0]["item"]}]}
    (folder,) = (served / "runs/now.serving/logs").glob("*/log")
    rewards, aside = folder / "rewards", folder / "aside"
    rewards.rename(aside)
    rewards.write_text("in the way")
    try:
        refused = ask(server, "/feedback", **body)
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert server.get("/ready").status_code == 503
        assert ask(server, "/recommend", user=111, k=1).json()["items"] == answer["items"]
    finally:
        rewards.unlink()
        aside.rename(rewards)
    assert ask(server, "/feedback", **body).json()["kept"] == 1
    assert server.get("/ready").status_code == 200
    assert ask(server, "/recommend", user=111, k=1).json()["items"] != answer["items"]


def test_an_answer_that_takes_too_long_is_503_and_is_not_computed_later(served, tmp_path):
    app = serving.make_app(
        serving.Settings(served / "runs/ease", batch_ms=600, timeout=0.1, store=tmp_path / "store", watch=0)
    )

    async def slow():
        yield b"{"
        await asyncio.sleep(0.3)
        yield b"}"

    async def late() -> list:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://here") as client:
            other = asyncio.create_task(
                client.post("/recommend", content=slow())
            )  # or one that is alone would not wait
            await asyncio.sleep(0.01)
            answer = await client.post("/recommend", json={"user": 105})
            assert (await other).status_code == 408
            await asyncio.sleep(0.8)
            return [answer, (await client.get("/metrics")).text]

    answer, figures = asyncio.run(late())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "longer than 0.1 s" in answer.json()["error"]
    assert "recsys_batch_size_count 0.0" in figures
    assert "recsys_in_flight 0.0" in figures


LEAVES = (
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats() | st.text(max_size=5) | st.sampled_from([105, 505])
)
FIELDS = (
    "user",
    "history",
    "tastes",
    "k",
    "exclude",
    "allow",
    "seed",
    "items",
    "events",
    "request_id",
    "item",
    "reward",
)
JSONS = st.recursive(
    LEAVES,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), part, max_size=4),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(["recommend", "similar", "score", "explain", "feedback"]), body=JSONS)
def test_no_body_is_an_error_of_the_server(server, path, body):
    answer = server.post(f"/{path}", content=json.dumps(body))
    assert answer.status_code in (200, 404, 422), (body, answer.text)


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
