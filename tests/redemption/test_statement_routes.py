"""Statements over HTTP: who sees and does what, and files whose totals are the ledger's."""

import io
from datetime import date, timedelta

import openpyxl
import pypdf
import pytest
from factories.edge import open_edge, operator
from factories.tills import issue, open_trade, spend

from quanhui import ledger, redemption
from quanhui.base.access import Scope
from quanhui.base.db import Pool, transaction
from quanhui.base.money import yuan
from quanhui.ledger import postings
from quanhui.redemption.merchants import routes
from quanhui.redemption.merchants.agreeing import add_contract

AFTER = timedelta(hours=14)
MAKER = operator("stf_maker", "statements.read", "statements.settle")
CHECKER = operator("stf_checker", "statements.read", "statements.settle")


def merchant(merchant_id: str):
    return operator(
        f"opr_of_{merchant_id[-6:]}",
        "statements.read",
        "statements.confirm",
        scope=Scope.MERCHANT,
        merchant_id=merchant_id,
    )


@pytest.fixture
async def trade(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        opened = await open_trade(db, now=now)
        await add_contract(
            db,
            opened.till.merchant_id,
            fee_bps=60,
            valid_from=date(2026, 11, 22),
            valid_to=None,
            actor_id="stf_1",
            now=now - timedelta(days=2),
        )
        funds = postings.fund_institution("fnd_1", institution="bank", amount_fen=10**8)
        await ledger.post(db, funds, now=now)
        for number in range(40):
            code, _ = await issue(db, keyring, opened.card, now=now)
            spent = await spend(db, keyring, opened, code, 50_00 + number, now=now)
        await redemption.reverse(db, spent.id, amount_fen=1_11, reason="退货", operator_id="opr_1", now=now)
        await redemption.draw_statements(db, now=now + AFTER)
    return opened


@pytest.fixture
async def edge(pool: Pool, trade, now):
    async with open_edge(routes.handlers, pool, now=now + AFTER) as opened:
        yield opened


async def only_statement(edge, actor):
    (statement,) = (await edge.get(actor, "/merchants/statements")).json()["items"]
    return statement


async def test_the_totals_in_the_files_are_those_of_the_ledger(edge, pool, trade):
    me = merchant(trade.till.merchant_id)
    statement = await only_statement(edge, me)
    async with pool.acquire() as db:
        code = postings.merchant_settlement(trade.till.merchant_id)
        owed_fen = (await ledger.balances(db, [code]))[code].balance_fen
    assert statement["gross_fen"] == owed_fen
    path = f"/merchants/statements/{statement['id']}/file"
    excel = await edge.get(me, path, **{"as": "xlsx"})
    book = openpyxl.load_workbook(io.BytesIO(excel.content))
    rows = list(book["明细 Lines"].iter_rows(min_row=2, values_only=True))
    assert len(rows) == 41
    assert sum(row[3] for row in rows) == owed_fen
    assert sum(row[5] for row in rows) == statement["net_fen"] == owed_fen - statement["fee_fen"]
    sums = dict(book["汇总 Summary"].iter_rows(values_only=True))
    assert sums["应结净额 Net (分 fen)"] == statement["net_fen"]
    printed = await edge.get(me, path)
    assert printed.headers["content-type"] == "application/pdf"
    assert statement["id"] in printed.headers["content-disposition"]
    text = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(printed.content)).pages)
    assert all(
        words in text for words in ("商户结算单", "蓉家福", yuan(owed_fen), yuan(statement["net_fen"]))
    )


async def test_lines_come_page_by_page_and_lead_to_their_postings(edge, pool, trade):
    me = merchant(trade.till.merchant_id)
    statement = await only_statement(edge, me)
    path, seen, cursor = f"/merchants/statements/{statement['id']}/lines", [], {}
    while cursor is not None:
        page = (await edge.get(me, path, limit=16, **cursor)).json()
        seen += page["items"]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    assert len({line["id"] for line in seen}) == statement["lines"] == 41
    async with pool.acquire() as db:
        for line in seen[:3]:
            (posted,) = await ledger.postings_of(db, line["subject"])
            assert posted.amount_fen == line["amount_fen"]


async def test_another_merchants_statement_is_not_there(edge, trade):
    statement = await only_statement(edge, MAKER)
    stranger = merchant(trade.far_away.merchant_id)
    assert (await edge.get(stranger, "/merchants/statements")).json()["items"] == []
    named = {"merchant": trade.till.merchant_id}
    assert (await edge.get(stranger, "/merchants/statements", **named)).status_code == 404
    path = f"/merchants/statements/{statement['id']}"
    for ending in ("", "/lines", "/file"):
        assert (await edge.get(stranger, path + ending)).status_code == 404
    assert (await edge.post(stranger, path + "/confirm")).status_code == 404
    assert (await edge.post(stranger, path + "/disputes", {"line_id": 1, "reason": "x"})).status_code == 404


async def test_filters_narrow_the_list(edge, trade):
    for filters, found in (
        ({"state": "drawn"}, 1),
        ({"state": "paid"}, 0),
        ({"since": "2026-11-22", "until": "2026-11-22"}, 1),
        ({"since": "2026-11-23"}, 0),
        ({"merchant": trade.far_away.merchant_id}, 0),
    ):
        page = (await edge.get(MAKER, "/merchants/statements", **filters)).json()
        assert len(page["items"]) == found, filters
    impossible = await edge.get(MAKER, "/merchants/statements", since="2026-13-40")
    assert impossible.json()["facts"] == {"field": "since"}


async def test_from_dispute_to_payment_over_http(edge, pool, trade):
    me = merchant(trade.till.merchant_id)
    statement = await only_statement(edge, me)
    path = f"/merchants/statements/{statement['id']}"
    line = (await edge.get(me, path + "/lines", limit=1)).json()["items"][0]
    disputed = await edge.post(me, path + "/disputes", {"line_id": line["id"], "reason": "少记"})
    assert disputed.status_code == 201
    dispute = f"/merchants/disputes/{disputed.json()['id']}"
    answer = {"correction_fen": 100, "answer": "属实"}
    assert (await edge.post(me, dispute + "/answer", answer)).status_code == 403
    assert (await edge.post(MAKER, dispute + "/answer", answer)).status_code == 200
    assert (await edge.post(MAKER, dispute + "/settle", {"agreed": True})).status_code == 403
    assert (await edge.post(CHECKER, dispute + "/settle", {"agreed": True})).json()["state"] == "settled"
    async with transaction(pool) as db:
        await redemption.release_statements(db, now=edge.now)
    transfer = {"institution": "bank", "reference": "BOC-0001"}
    first = await edge.post(MAKER, path + "/transfers", transfer, key="once")
    again = await edge.post(MAKER, path + "/transfers", transfer, key="once")
    assert (first.status_code, again.json()) == (201, first.json())
    assert first.json()["amount_fen"] == statement["net_fen"] + 100
    assert (await edge.post(CHECKER, path + "/transfers/check", {"confirmed": True})).status_code == 200
    shown = (await edge.get(me, path)).json()
    assert shown["statement"]["state"] == "paid"
    assert (len(shown["disputes"]), len(shown["transfers"])) == (1, 1)


async def test_fees_and_charges_are_for_merchants_that_exist(edge, trade):
    contract = {"merchant_id": trade.far_away.merchant_id, "fee_bps": 50, "valid_from": "2026-12-01"}
    assert (await edge.post(MAKER, "/merchants/contracts", contract)).status_code == 201
    assert (await edge.post(MAKER, "/merchants/contracts", contract)).status_code == 409
    assert len((await edge.get(MAKER, "/merchants/contracts")).json()["items"]) == 2
    charge = {"merchant_id": trade.till.merchant_id, "amount_fen": 500, "note": "满减"}
    assert (await edge.post(MAKER, "/merchants/charges", charge)).json()["amount_fen"] == -500
    for path, body in (("/merchants/contracts", contract), ("/merchants/charges", charge)):
        unknown = await edge.post(MAKER, path, body | {"merchant_id": "mer_unknown"})
        assert unknown.status_code == 404
