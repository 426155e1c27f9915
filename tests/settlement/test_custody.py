"""The platform takes out only what is its own, orders say whose money they move, and the report adds up."""

import csv
import io
from datetime import timedelta

import asyncpg
import pypdf
import pytest
from factories.edge import open_edge, operator

from quanhui import ledger
from quanhui.base.db import Db, Pool, transaction
from quanhui.ledger import BoughtLine, postings
from quanhui.settlement.custody.routes import handlers

AUDITOR = operator("stf_auditor", "ledger.read")


def bought(order_id: str, net_fen: int):
    return postings.buyback_accepted(
        order_id, seller_id="ann", lines=[BoughtLine("p1", net_fen)], fee_fen=0, net_fen=net_fen
    )


async def fund(db: Db, amount_fen: int, *, now) -> None:
    await ledger.post(
        db, postings.fund_institution("fnd_1", institution="bank", amount_fen=amount_fen), now=now
    )


async def withdraw(db: Db, name: str, amount_fen: int, *, now) -> None:
    transfers = postings.own_money_withdrawn(name, institution="bank", amount_fen=amount_fen)
    async with db.transaction():
        await ledger.post(db, transfers, now=now)


async def test_own_money_comes_out_of_custody_and_not_a_fen_of_others(db: Db, now):
    await fund(db, 100_00, now=now)
    await ledger.post(db, bought("ord_1", 60_00), now=now)
    await withdraw(db, "wdr_1", 30_00, now=now)
    with pytest.raises(asyncpg.CheckViolationError, match="belong to others"):
        await withdraw(db, "wdr_2", 10_01, now=now)
    await withdraw(db, "wdr_3", 10_00, now=now)
    assert (await ledger.trial_balance(db)).clearing_fen == 0


async def test_what_is_folded_counts_as_much_as_what_is_not(pool: Pool, now):
    async with transaction(pool) as db:
        await fund(db, 50_00, now=now)
    async with transaction(pool) as db:
        await ledger.fold(db, now=now)
        await ledger.post(db, bought("ord_1", 20_00), now=now)
    async with pool.acquire() as db:
        with pytest.raises(asyncpg.CheckViolationError):
            await withdraw(db, "wdr_1", 30_01, now=now)
        await withdraw(db, "wdr_2", 30_00, now=now)


async def test_two_withdrawals_at_once_do_not_take_together_what_each_may_take_alone(pool: Pool, now):
    async with transaction(pool) as db:
        await fund(db, 50_00, now=now)
    async with transaction(pool) as one, pool.acquire() as other:
        await withdraw(one, "wdr_1", 50_00, now=now)
        await other.execute("SET lock_timeout = '200ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await withdraw(other, "wdr_2", 50_00, now=now)
        await other.execute("RESET lock_timeout")
    async with pool.acquire() as db:
        with pytest.raises(asyncpg.CheckViolationError):
            await withdraw(db, "wdr_2", 50_00, now=now)


@pytest.mark.parametrize(
    ("dealing", "custodian_ref"), [("consignment", None), ("principal", "REF"), ("loan", None)]
)
async def test_a_consignment_without_its_custodian_is_refused(db: Db, now, dealing, custodian_ref):
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            "INSERT INTO redistribution.purchase (id, buyer_id, total_fen, state, reserved_until, created_at,"
            " dealing, custodian_ref) VALUES ('pur_1', 'cus_1', 1, 'pending_payment', $1, $1, $2, $3)",
            now,
            dealing,
            custodian_ref,
        )


@pytest.fixture
async def edge(pool: Pool, now):
    async with transaction(pool) as db:
        await fund(db, 100_00, now=now)
        await ledger.post(db, bought("ord_1", 60_00), now=now)
        sent = postings.payout_sent("po_1", customer_id="ann", amount_fen=25_00)
        await ledger.post(db, sent, now=now)
        spent = {"issuer_id": "iss", "merchant_id": "shop", "amount_fen": 8_00}
        await ledger.post(db, postings.redemption_captured("rdm_1", **spent), now=now)
        done = postings.payout_confirmed("po_1", institution="bank", amount_fen=25_00)
        await ledger.post(db, done, now=now + timedelta(days=1))
    async with open_edge(handlers, pool, now=now) as opened:
        yield opened


async def test_the_report_of_a_day_adds_up_and_later_days_do_not_change_it(edge):
    report = (await edge.get(AUDITOR, "/custody/report")).json()
    assert report["institutions"] == [{"institution": "bank", "held_fen": 100_00}]
    owed = {each["kind"]: each["amount_fen"] for each in report["owed"]}
    assert owed == {"user_payable": 35_00, "merchant_settlement": 8_00}
    assert (report["in_transit_fen"], report["due_fen"], report["own_fen"]) == (25_00, 8_00, 40_00)
    assert (report["uncovered_fen"], report["difference_fen"]) == (0, 0)
    following = (await edge.get(AUDITOR, "/custody/report", day="2026-11-23")).json()
    assert (following["held_fen"], following["in_transit_fen"], following["difference_fen"]) == (75_00, 0, 0)
    before = (await edge.get(AUDITOR, "/custody/report", day="2026-11-21")).json()
    assert (before["institutions"], before["owed_fen"]) == ([], 0)


async def test_the_files_say_what_the_report_says(edge):
    table = await edge.get(AUDITOR, "/custody/report/file", **{"as": "csv"})
    rows = list(csv.DictReader(io.StringIO(table.content.decode("utf-8-sig"))))
    found = {row["item"]: int(row["amount_fen"]) for row in rows}
    assert (found["机构存管合计 Held"], found["差额 Difference"], found["bank"]) == (100_00, 0, 100_00)
    printed = await edge.get(AUDITOR, "/custody/report/file")
    (page,) = pypdf.PdfReader(io.BytesIO(printed.content)).pages
    assert all(words in page.extract_text() for words in ("资金存管报告", "应付用户款", "100.00", "40.00"))


async def test_a_day_that_does_not_exist_is_malformed(edge):
    for day in ("2026-02-30", "9999-12-31"):
        answer = await edge.get(AUDITOR, "/custody/report", day=day)
        assert (answer.status_code, answer.json()["facts"]) == (422, {"field": "day"})
