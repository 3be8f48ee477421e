"""The page of recsys-dl serve: what it looks up, and the page itself in a real browser."""

import json
import signal

import numpy as np
import polars as pl
import pytest

from recsys_dl import Interactions, load_run
from recsys_dl.data.dataset import Dataset
from recsys_dl.data.vocabulary import Vocabulary
from recsys_dl.models import ALS, Popularity
from recsys_dl.pipeline import Pipeline
from recsys_dl.rerankers import MMR, Exploration, Freshness
from recsys_dl.runs import StageTimer, write_run

httpx = pytest.importorskip("httpx", reason="asking a server needs httpx: pip install httpx")

from browser import CHROMIUM, Browser  # noqa: E402
from serving_process import HEADERS, TOKEN, ask, start  # noqa: E402

MARKUP = "<img src=x onerror=\"document.title='taken over'\">"
USERS, ITEMS = 60, 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    home = tmp_path_factory.mktemp("page")
    rng = np.random.default_rng(1)
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < 0.15 + 0.3 * (np.arange(ITEMS) < 10))
    log = Interactions(users, items, None, rng.integers(10**9, 2 * 10**9, len(users)), num_users=USERS, num_items=ITEMS)
    titles = pl.Series([f"Título {i}" for i in range(ITEMS)])
    titles[3] = MARKUP
    data = Dataset(
        log,
        Vocabulary(range(USERS), noun="user"),
        Vocabulary(range(500, 500 + ITEMS), noun="item"),
        item_titles=titles,
        name="page",
    )
    rerankers = {
        "mmr": MMR(weight=0.1),
        "fresh": Freshness(half_life_days=900, weight=0.2),
        "explore": Exploration(places=[5]),
    }
    models = {
        "pipeline": Pipeline({"als": ALS(embedding_size=8, seed=0), "popular": Popularity()}, rerankers=rerankers),
        "popular": Popularity(),
    }
    for name, model in models.items():
        (home / name).mkdir()
        write_run(
            home / name, config={}, model=model.fit(data), seen=log, data=data, evaluations={}, stages=StageTimer()
        )
    return home


@pytest.fixture(scope="module")
def address(folder):
    process, address = start(
        folder, "run=pipeline", "beside=popular", "share=0.5", "threads=1", "watch=0", RECSYS_DL_TOKEN=TOKEN
    )
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "Traceback" not in (folder / "log.jsonl").read_text()


@pytest.fixture(scope="module")
def client(address):
    with httpx.Client(base_url=address, headers=HEADERS, timeout=30) as client:
        yield client


def items_of(answer):
    assert answer.status_code == 200, answer.text
    return [one["item"] for one in answer.json()["items"]]


def test_titles_are_found_by_words_without_accents_and_by_id_the_most_popular_first(client, folder):
    counts = np.bincount(load_run(folder / "pipeline").seen.items_N, minlength=ITEMS)
    found = client.get("/titles", params={"q": "TITULO 1"}).json()["items"]
    assert {one["item"] for one in found} == {500 + i for i in range(ITEMS) if "1" in str(i) and i != 3}
    assert [one["users"] for one in found] == sorted((counts[one["item"] - 500] for one in found), reverse=True)
    assert client.get("/titles", params={"q": "507"}).json()["items"][0]["title"] == "Título 7"
    assert client.get("/titles", params={"q": MARKUP}).json()["items"][0]["item"] == 503
    assert client.get("/titles", params={"q": "no such"}).json()["items"] == []


def test_users_and_what_they_liked_feedback_included(client):
    users = client.get("/users", params={"q": "1", "limit": 30}).json()["users"]
    assert users[0]["user"] == "1"
    assert {one["user"] for one in users} == {"1", *(str(i) for i in range(10, 20))}
    item = items_of(ask(client, "/recommend", user=7, k=1, variant="a"))[0]
    assert ask(client, "/feedback", user=7, events=[{"item": item}]).status_code == 200
    first = client.get("/liked", params={"user": "7"}).json()["items"][0]
    assert (first["item"], first["source"], first["weight"]) == (item, "feedback", 1.0)
    assert client.get("/liked", params={"user": "nobody"}).status_code == 404


@pytest.mark.parametrize(
    ("path", "parameters", "message"),
    [
        ("/titles", {"q": "x" * 201}, "at most 200 characters"),
        ("/titles", {"limit": "1000"}, "less than or equal to 100"),
        ("/users", {"limit": "many"}, "valid integer"),
        ("/liked", {}, "user: must be given"),
        ("/run", {"variant": "../../etc"}, "'a' or 'b'"),
    ],
)
def test_lookups_have_limits(client, path, parameters, message):
    answer = client.get(path, params=parameters)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_a_request_may_adjust_the_pipeline_for_itself_only(client):
    body = {"user": 9, "k": 6, "seed": 1, "variant": "a"}
    as_configured = items_of(ask(client, "/recommend", **body))
    assert items_of(ask(client, "/recommend", **body, diversity=0.1, freshness=0.2, exploration=1)) == as_configured
    assert items_of(ask(client, "/recommend", **body, diversity=1.0)) != as_configured
    explored = ask(client, "/recommend", **body, exploration=3).json()
    assert [one == 1 for one in explored["propensities"]] == [True] * 3 + [False] * 3
    assert ask(client, "/recommend", **body, exploration=0).json()["propensities"] is None
    assert items_of(ask(client, "/recommend", **body)) == as_configured


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"diversity": 1.5}, "diversity: should be less than or equal to 1"),
        ({"diversity": True}, "diversity"),
        ({"exploration": 7, "k": 3}, "exploration must be between 0 and 3, got 7"),
        ({"variant": "c"}, "'a' or 'b'"),
        ({"variant": "b", "freshness": 0.5}, "freshness is a setting of a pipeline's re-rankers"),
    ],
)
def test_adjustments_out_of_range_are_refused(client, more, message):
    answer = ask(client, "/recommend", **{"user": 9, "variant": "a"} | more)
    assert answer.status_code == 422
    assert message in answer.json()["error"]


def test_explanations_hold_every_stage_and_what_the_user_liked_nearby(client, folder):
    why = ask(client, "/explain", user=9, k=5, seed=1, variant="a").json()
    assert [one["name"] for one in why["stages"]] == ["als", "popular", "merge", "mmr", "fresh", "explore"]
    assert [one["item"] for one in why["stages"][-1]["items"]] == [one["item"] for one in why["items"]]
    run = load_run(folder / "pipeline")
    liked = {500 + int(i) for i in run.seen.by_user[9].indices}
    near = [{one["item"] for one in item["similar_to"]} for item in why["items"]]
    assert any(near)
    assert all(one <= liked for one in near)
    plain = ask(client, "/explain", user=9, k=5, variant="b").json()
    assert plain["stages"] == []
    assert [one["item"] for one in plain["items"]] == items_of(ask(client, "/recommend", user=9, k=5, variant="b"))


def test_the_map_is_of_principal_components_and_the_user_is_amid_what_they_liked(client, folder):
    sample = client.get("/map", params={"variant": "a"}).json()
    vectors = np.asarray(load_run(folder / "pipeline").model.retrievers["als"].item_vectors(), np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    spread = np.linalg.svd(unit - unit.mean(axis=0), compute_uv=False) ** 2
    np.testing.assert_allclose(sample["variance"], spread[:2] / spread.sum(), atol=1e-3)
    places = ask(client, "/map", items=[500, 501]).json()
    mean = np.mean([[one["x"], one["y"]] for one in places["points"]], axis=0)
    np.testing.assert_allclose([places["center"]["x"], places["center"]["y"]], mean, atol=1e-3)
    assert client.get("/map", params={"variant": "b"}).json()["vectors"] == "interactions"


def test_two_runs_share_users_by_hash_and_each_has_its_log(client, folder):
    answered = {user: ask(client, "/recommend", user=user).json()["variant"] for user in range(USERS)}
    assert answered == {user: ask(client, "/recommend", user=user).json()["variant"] for user in range(USERS)}
    assert 0.25 < np.mean([one == "b" for one in answered.values()]) < 0.75
    assert {ask(client, "/recommend").json()["variant"] for _ in range(30)} == {"a", "b"}
    told = [json.loads(file.read_text()) for file in (folder / "pipeline.serving/logs").glob("*/variant.json")]
    assert sorted((one["variant"], one["share"]) for one in told) == [("a", 0.5), ("b", 0.5)]


def test_the_page_needs_no_token_its_data_does_and_openapi_has_its_paths(client, address):
    assert {
        path: httpx.get(address + path).status_code
        for path in ("/", "/page/page.js", "/run", "/titles", "/users", "/map")
    } == {
        "/": 200,
        "/page/page.js": 200,
        "/run": 401,
        "/titles": 401,
        "/users": 401,
        "/map": 401,
    }
    assert httpx.get(address + "/page/../../../etc/passwd").status_code in (401, 404)
    assert httpx.get(address + "/page/%2e%2e/app.py").status_code == 404
    page = httpx.get(address + "/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "http" not in page.text.replace("http-equiv", "")  # nothing from elsewhere
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/titles", "/users", "/liked", "/map", "/run"} <= {*paths}


@pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")
def test_the_page_in_a_browser(address, tmp_path):
    browser = Browser(tmp_path / "profile")
    shown = "[...document.querySelectorAll('#lists [data-variant=a] li')].map(e => e.dataset.item).join()"
    try:
        browser.send("Page.navigate", url=f"{address}/#user=9")
        browser.until("document.querySelector('#ask')?.open")  # the server wants its token
        browser.click("#token")
        browser.type(TOKEN)
        browser.press("Enter")
        first = browser.until(shown)
        assert len(first.split(",")) == 10
        assert browser.js("document.querySelectorAll('#lists [data-variant]').length") == 2
        assert browser.js("document.querySelectorAll('#stages .stage').length") == 6
        # a slider, by the keyboard
        browser.js("document.querySelector('#diversity').focus()")
        browser.press("End")
        adjusted = browser.until(f"{shown} !== {json.dumps(first)} && {shown}")
        assert "changed by the settings" in browser.until("document.querySelector('#status').textContent")
        browser.click("#reset")
        assert browser.until(f"{shown} !== {json.dumps(adjusted)} && {shown}") == first
        # another user, by typing
        browser.click("#user")
        browser.type("12")
        browser.until("document.querySelector('#user-options [role=option]')?.textContent.startsWith('12')")
        browser.press("ArrowDown")
        browser.press("Enter")
        browser.until("document.querySelector('#lists-title').textContent === 'Recommended to user 12'")
        browser.until(f"{shown} !== {json.dumps(first)}")
        # a new user, of a title that looks like markup
        browser.click("#who-title + .switch label:nth-child(2)")
        browser.until("document.querySelector('#lists-title').textContent.includes('new user')")
        browser.until("document.querySelector('#lists .note')?.textContent.includes('no interactions')")
        popular = browser.until(shown)
        browser.click("#title")
        browser.until("document.activeElement.id === 'title'")
        browser.type("<img")
        browser.until("document.querySelector('#title-options [role=option]')?.textContent.startsWith('<img')")
        browser.click("#title-options [role=option]")
        browser.until("!!document.querySelector('#liked li')")
        assert browser.js("document.querySelector('#liked li span').textContent") == MARKUP
        browser.until(f"{shown} && {shown} !== {json.dumps(popular)}")
        assert browser.js("document.querySelectorAll('main img').length") == 0
        assert browser.js("document.title") != "taken over"
        # something is drawn, and every control has a name
        drawn = "(() => { const c = document.querySelector('#map'); const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return d.some(v => v > 0); })()"
        browser.until(drawn)
        nameless = "[...document.querySelectorAll('input, select, button')].filter(e => !(e.labels?.length || e.ariaLabel || e.textContent.trim())).map(e => e.outerHTML)"
        assert browser.js(nameless) == []
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            assert browser.too_faint() == [], scheme
        bad = [one for one in browser.events if one.get("method") == "Runtime.exceptionThrown"]
        assert bad == []
    finally:
        browser.close()
