"""The ledger's pages over HTTP, with the call that `entry` would inject."""

from collections.abc import AsyncIterator

import httpx
import pytest
from litestar import Litestar
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

    async def call() -> Call:
        return Call(actor=NOBODY, now=now, pool=pool, target="", key=None, body=b"", device_id=None)

    app = Litestar(handlers, dependencies={"call": Provide(call)}, openapi_config=None)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        yield opened


def test_every_page_of_the_ledger_needs_the_right_to_read_all_of_it():
    assert {handler.opt["access"] for handler in handlers} == {Access("ledger.read", frozenset({Scope.ALL}))}


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
        "/ledger/postings",
        "/ledger/postings?subject=%00",
    ],
)
async def test_a_malformed_question_is_refused(client, path):
    assert (await client.get(path)).status_code == 400
