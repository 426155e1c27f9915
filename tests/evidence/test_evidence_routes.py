import httpx
import msgspec
import pytest
from litestar import Litestar, Request, Response
from litestar.di import Provide

from evidence.logs import commit, event, sequence_all, signer
from quanhui import evidence, verifier
from quanhui.base.access import NOBODY, PUBLIC
from quanhui.base.errors import Problem
from quanhui.base.web import Call, problem_view
from quanhui.evidence.routes import handlers


def refused(_request: Request, problem: Problem) -> Response:
    return Response(problem_view(problem), status_code=problem.status)


@pytest.fixture
async def client(pool, now):
    def call() -> Call:
        return Call(actor=NOBODY, now=now, pool=pool, target="", key=None, body=b"", device_id=None)

    app = Litestar(
        handlers,
        dependencies={"call": Provide(call, sync_to_thread=False)},
        exception_handlers={Problem: refused},
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


async def test_everything_here_is_open_to_the_public():
    assert {handler.opt["access"] for handler in handlers} == {PUBLIC}


async def test_anyone_can_check_the_log_from_outside(client, pool, now):
    assert (await client.get("/evidence/checkpoint")).status_code == 404
    await commit(pool, [event(number) for number in range(5)], now)
    await sequence_all(pool, signer(), now)
    early = (await client.get("/evidence/checkpoint")).text
    await commit(pool, [event(number, "title_transferred") for number in range(5)], now)
    await sequence_all(pool, signer(), now)
    late = await client.get("/evidence/checkpoint")
    assert late.headers["content-type"].startswith("text/plain")
    growth = await client.get("/evidence/proofs/consistency", params={"first": 5, "second": 10})
    assert verifier.verify_growth(early, late.text, growth.json(), signer().verifier_key).ok
    included = await client.get("/evidence/proofs/inclusion", params={"leaf": 9, "size": 10})
    assert len(included.json()["hashes"]) == 2
    beyond = await client.get("/evidence/proofs/inclusion", params={"leaf": 9, "size": 11})
    assert (beyond.status_code, beyond.json()["type"]) == (404, "/problems/beyond-checkpoint")


async def test_a_malformed_proof_query_is_the_callers_error(client):
    for query in ("leaf=-1&size=3", "leaf=a&size=3", "leaf=1", "leaf=1&size=9223372036854775808"):
        assert (await client.get(f"/evidence/proofs/inclusion?{query}")).status_code == 400
    for query in ("first=0&second=3", "first=1", "first=1&second=9223372036854775808"):
        assert (await client.get(f"/evidence/proofs/consistency?{query}")).status_code == 400


async def test_a_receipt_can_be_checked_by_upload_and_a_changed_one_is_not_proved(client, pool, now):
    await commit(pool, [event(1), event(1, "title_transferred")], now)
    await sequence_all(pool, signer(), now)
    async with pool.acquire() as db:
        receipt = msgspec.to_builtins(await evidence.receipt(db, ["ord_1"]))
    assert (await client.post("/evidence/verify", json=receipt)).json()["proved"] is True
    receipt["events"][1]["payload"]["subject"] = "ord_2"
    answer = (await client.post("/evidence/verify", json=receipt)).json()
    assert (answer["proved"], [finding["ok"] for finding in answer["findings"]]) == (
        False,
        [True, True, False],
    )


async def test_an_upload_larger_than_any_receipt_is_refused_unread(client):
    answer = await client.post("/evidence/verify", content=b" " * 2_000_001)
    assert answer.status_code == 413
