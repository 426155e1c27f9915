"""What goes with every answer, the front door, and the reference that works without the internet."""

import re
from html.parser import HTMLParser

import msgspec
import pytest
from factories.api import Api, open_api, problem_of, settings_for
from structlog.testing import capture_logs

from quanhui.base.errors import all_problems
from quanhui.entry.settings import Environment

STRICT = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


@pytest.fixture
async def api(database_url):
    async with open_api(settings_for(database_url)) as opened:
        yield opened


class Links(HTMLParser):
    """Everything that a page fetches or leads to, and whether it holds a script of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.led_to: list[str] = []
        self.inline_scripts = 0

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a":
            self.led_to.append(given["href"])
        elif tag in ("script", "link", "img"):
            self.fetched.append(given.get("src") or given.get("href") or "")
            self.inline_scripts += tag == "script" and "src" not in given
        assert not any(name.startswith("on") for name in given)


def links_of(page: str) -> Links:
    links = Links()
    links.feed(page)
    return links


PATHS = [
    ("/", 200), ("/health", 200), ("/docs", 200), ("/docs/openapi.json", 200), ("/docs/start.js", 200),
    ("/docs-assets/swagger-ui.css", 200), ("/v1/places/stores", 200), ("/nothing", 404), ("/v1/me", 401),
    ("/v1/places/stores?limit=0", 422), ("/docs/nothing", 404),
]  # fmt: skip


@pytest.mark.parametrize(("path", "status"), PATHS)
async def test_every_answer_is_framed_nowhere_and_runs_only_our_scripts(api, path, status):
    answer = await api.get(path)
    assert answer.status_code == status
    assert STRICT.items() <= dict(answer.headers).items()
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers


async def test_a_refused_method_has_the_headers_too(api):
    answer = await api.post("/v1/me/payees/x", {})
    assert answer.status_code == 405
    assert STRICT.items() <= dict(answer.headers).items()


async def test_production_asks_browsers_to_stay_with_https(database_url):
    settings = msgspec.structs.replace(settings_for(database_url), environment=Environment.PRODUCTION)
    async with open_api(settings) as api:
        for path in ("/", "/nothing"):
            answer = await api.get(path)
            assert int(answer.headers["strict-transport-security"].removeprefix("max-age=")) >= 31_536_000


async def test_what_the_api_answers_is_kept_nowhere_on_the_way(api):
    assert (await api.get("/v1/places/stores")).headers["cache-control"] == "no-store"
    assert "no-store" not in (await api.get("/docs-assets/swagger-ui.css")).headers.get("cache-control", "")


async def test_a_failure_of_ours_is_in_the_log_under_the_id_that_the_caller_got(api: Api):
    await api.desk.pool.execute("ALTER TABLE places.store RENAME TO stolen")
    with capture_logs() as events:
        answer = await api.get("/v1/places/stores")
    assert (answer.status_code, problem_of(answer)) == (500, "unexpected-failure")
    assert answer.json()["facts"]["reference"] == answer.headers["x-request-id"]
    assert "store" not in answer.text
    (event,) = [event for event in events if event["event"] == "request_failed"]
    assert event["reference"] == answer.headers["x-request-id"]


async def test_two_requests_have_two_ids_and_a_callers_own_is_not_taken(api):
    told = [await api.get("/health", headers={"x-request-id": "13800138000"}) for _ in range(2)]
    ids = {answer.headers["x-request-id"] for answer in told}
    assert len(ids) == 2
    assert "13800138000" not in ids


async def test_the_front_door_leads_only_to_what_is_there(api, sample):
    page = await api.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert all(word in page.text for word in ("券汇", "回收", "viewport"))
    links = links_of(page.text)
    assert links.inline_scripts == 0
    assert {"/docs", "/health"} <= set(links.led_to)
    for path in links.led_to:
        answer = await api.get(path)
        assert answer.status_code == 200 or problem_of(answer) == "not-found"  # no checkpoint yet


async def test_the_reference_needs_nothing_from_elsewhere(api):
    page = await api.get("/docs")
    links = links_of(page.text)
    assert links.inline_scripts == 0
    kinds = {".js": "text/javascript", ".css": "text/css"}
    assert len(links.fetched) >= 3
    for path in links.fetched:
        if path.startswith("data:"):
            continue
        assert path.startswith("/"), "ours"
        answer = await api.get(path)
        assert answer.status_code == 200
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind == kinds[path[path.rindex(".") :]]
    start = (await api.get("/docs/start.js")).text
    assert "/docs/openapi.json" in start
    assert "http" not in start
    told = await api.get("/docs/openapi.json")
    assert told.headers["content-type"].startswith("application/")
    assert told.json()["openapi"].startswith("3.1")


async def test_every_problem_that_is_told_can_be_looked_up(api):
    for problem in all_problems():
        answer = await api.get(f"/problems/{problem.code}")
        assert answer.status_code == 200
        assert answer.json()["title"] == problem.zh
        assert answer.json()["meaning"]
    assert problem_of(await api.get("/problems/none-such")) == "not-found"


async def test_health_tells_the_version_and_no_more(api):
    answer = await api.get("/health")
    assert answer.json().keys() == {"status", "version"}
