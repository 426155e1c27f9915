"""The ledger's pages over HTTP, with the call that `entry` would inject."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request
from litestar.di import Provide

from quanhui.base.access import NOBODY, Access, Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.web import Call
from quanhui.ledger import Transfer, post
from quanhui.ledger.routes import handlers

pytestmark = pytest.mark.filterwarnings("ignore:.*Inferred dependency field:DeprecationWarning")


@pytest.fixture
async def client(pool: Pool, now) -> AsyncIterator[httpx.AsyncClient]:
    async with transaction(pool) as db:
        moves = [
            Transfer(
                key=f"ord_1:e:{n}",
                src="custody:bank",
                dst=f"user_payable:{customer}",
                amount_fen=n + 1,
                event="e",
                subject="ord_1",
            )
            for n, customer in enumerate(["ann", "bob", "ann"])
        ]
        await post(db, moves, now=now)

    async def call(request: Request[Any, Any, Any]) -> Call:
        key = request.headers.get("idempotency-key")
        return Call(actor=NOBODY, now=now, pool=pool, target="", key=key, body=b"", device_id=None)

    app = Litestar(handlers, dependencies={"call": Provide(call)}, openapi_config=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


def test_the_ledger_is_read_and_closed_by_whom_all_of_it_is_shown_to():
    for handler in handlers:
        word = "ledger.read" if handler.http_methods == {"GET"} else "ledger.close"
        assert handler.opt["access"] == Access(word, frozenset({Scope.ALL}))


async def test_periods_are_closed_and_asked_back_over_http(client):
    body = {"length": "day", "day": "2026-11-21"}
    closed = await client.post("/ledger/periods", json=body, headers={"idempotency-key": "k1"})
    assert (closed.status_code, closed.json()["ends_at"]) == (201, "2026-11-21T16:00:00Z")
    path = f"/ledger/periods/{closed.json()['id']}/reopen"
    asked = await client.post(path, json={"reason": "late"}, headers={"idempotency-key": "k2"})
    assert (asked.status_code, asked.json()["state"]) == (200, "reopening")


async def test_the_trial_balance_sums_to_zero(client):
    trial = (await client.get("/ledger/trial-balance")).json()
    assert [trial[sum_] for sum_ in ("client_fen", "platform_fen", "total_fen", "clearing_fen")] == [0] * 4
    payable = next(line for line in trial["lines"] if line["prefix"] == "user_payable")
    assert (payable["accounts"], payable["balance_fen"], payable["meaning_zh"]) == (2, 6, "应付用户款")


async def test_accounts_are_filtered_by_prefix_and_paged_by_cursor(client):
    first = (await client.get("/ledger/accounts", params={"prefix": "user_", "limit": 1})).json()
    assert [(a["code"], a["balance_fen"]) for a in first["items"]] == [("user_payable:ann", 4)]
    params = {"prefix": "user_", "limit": 1, "cursor": first["next_cursor"]}
    second = (await client.get("/ledger/accounts", params=params)).json()
    assert [a["code"] for a in second["items"]] == ["user_payable:bob"]
    assert second["next_cursor"] is None


WEEK = {"since": "2026-11-20T00:00:00+08:00", "until": "2026-11-27T00:00:00+08:00"}


async def test_the_trial_balance_of_a_past_instant_says_which(client):
    before = (await client.get("/ledger/trial-balance", params={"as_of": WEEK["since"]})).json()
    assert {line["balance_fen"] for line in before["lines"]} == {0}
    assert before["as_of"] == "2026-11-19T16:00:00Z"


async def test_the_journal_is_searched_with_filters_and_paged(client):
    params = {"account": "user_payable:ann", "event": "e", "limit": 1, **WEEK}
    page = (await client.get("/ledger/transfers", params=params)).json()
    assert [line["key"] for line in page["items"]] == ["ord_1:e:2"]
    rest = await client.get("/ledger/transfers", params={**params, "cursor": page["next_cursor"]})
    assert [line["key"] for line in rest.json()["items"]] == ["ord_1:e:0"]


async def test_a_period_of_an_account_is_summed_and_downloaded(client):
    path = "/ledger/accounts/user_payable:ann"
    told = (await client.get(f"{path}/summary", params=WEEK)).json()
    assert (told["opening_fen"], told["credits_fen"], told["closing_fen"], told["transfers"]) == (0, 4, 4, 2)
    for form, begins in (("csv", b"\xef\xbb\xbfid,"), ("xlsx", b"PK")):
        file = await client.get(f"{path}/export", params={**WEEK, "format": form})
        assert file.content.startswith(begins)
        assert (
            f"user_payable-ann_20261119T160000Z_20261126T160000Z.{form}"
            in file.headers["content-disposition"]
        )


async def test_holds_folding_and_closings_are_shown(client):
    assert (await client.get("/ledger/accounts/user_payable:ann/holds")).json() == []
    assert (await client.get("/ledger/folding")).json() == {
        "transfers": 3,
        "oldest_s": 0,
        "same_cluster": True,
        "alarm": False,
    }
    assert (await client.get("/ledger/periods")).json() == {"items": [], "next_cursor": None}


async def test_a_statement_pages_from_newest_to_oldest(client):
    page = (await client.get("/ledger/accounts/user_payable:ann/statement", params={"limit": 1})).json()
    assert [line["key"] for line in page["items"]] == ["ord_1:e:2"]
    params = {"cursor": page["next_cursor"]}
    rest = (await client.get("/ledger/accounts/user_payable:ann/statement", params=params)).json()
    assert [line["key"] for line in rest["items"]] == ["ord_1:e:0"]


async def test_the_postings_of_an_order_are_shown_with_their_codes(client):
    shown = (await client.get("/ledger/postings", params={"subject": "ord_1"})).json()
    assert [(p["src"], p["dst"], p["amount_fen"]) for p in shown] == [
        ("custody:bank", "user_payable:ann", 1),
        ("custody:bank", "user_payable:bob", 2),
        ("custody:bank", "user_payable:ann", 3),
    ]
    assert (await client.get("/ledger/postings", params={"subject": "ord_2"})).json() == []


@pytest.mark.parametrize(
    "path",
    [
        "/ledger/accounts?limit=101",
        "/ledger/accounts?prefix=%25",
        "/ledger/accounts/user_payable:ann/statement?cursor=x",
        "/ledger/accounts/user_payable:ann/statement?cursor=9223372036854775808",
        "/ledger/transfers?min_fen=0",
        "/ledger/transfers?since=2026-11-20",
        "/ledger/accounts/user_payable:ann/export?since=2026-11-20T00:00:00Z",
        "/ledger/accounts/user_payable:ann/export?since=2026-11-20T00:00:00Z&until=2026-11-21T00:00:00Z&format=pdf",
        "/ledger/postings",
        "/ledger/postings?subject=%00",
    ],
)
async def test_a_malformed_question_is_refused(client, path):
    assert (await client.get(path)).status_code == 400
