"""Jobs of redistribution.

Those that take a database connection run in the worker's transaction; those that take a pool call the
institution between two transactions of their own, and are safe to repeat.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui.base.db import Db, Pool, transaction
from quanhui.base.http import NoAnswer
from quanhui.base.outbox import Job
from quanhui.redistribution import purchases as buying, stock, store
from quanhui.redistribution.gateway import (
    CLOSED,
    NOT_FOUND,
    SUCCEEDED,
    UNKNOWN,
    PaymentInstitution,
    PaymentOrder,
    RefundOrder,
    Report,
)
from quanhui.redistribution.rules import (
    Delivery,
    Payment,
    Purchase,
    PurchaseState,
    id_of,
    out_no_of,
)
from quanhui.redistribution.store import queries

INSTITUTION = "institution"
DESCRIPTION = "购物券"
REFUND_REASON = "购物券退款"
ASK_AFTER = timedelta(seconds=30)
ASKED_AT_ONCE = 200


async def take_into_stock(db: Db, jobs: Sequence[Job], *, now: datetime) -> None:
    """Vouchers that buyback secured come into stock and, where the price table knows one, on the market."""
    await stock.take_into_stock(db, [msgspec.convert(job.payload, Delivery) for job in jobs], now=now)
    await stock.list_new_stock(db, now=now)


async def open_payments(
    pool: Pool, institution: PaymentInstitution, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Ask buyers to pay for what they reserved. Raises `NoAnswer` when any answer is missing: repeat."""
    waiting = [
        purchase
        for purchase in await _pending(pool, jobs)
        if purchase.closing_at is None and purchase.reserved_until > now
    ]
    orders = [
        PaymentOrder(
            out_no=purchase.out_no,
            amount_fen=purchase.total_fen,
            description=DESCRIPTION,
            expires_at=purchase.reserved_until,
        )
        for purchase in waiting
    ]
    if not orders:
        return
    reports = await institution.open_payments(orders, now=now)
    opened = [report for report in reports if report.institution_no is not None]
    async with transaction(pool) as db:
        await queries.record_payments(
            db,
            ids=[id_of(report.out_no, "pur") for report in opened],
            payment_nos=[report.institution_no for report in opened],
        )
    _require_all(reports)


async def close_payments(
    pool: Pool, institution: PaymentInstitution, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Close payments nobody made, and only then release what was reserved; what was paid in time is sold.

    Raises `NoAnswer` when any answer is missing: repeat.
    """
    waiting = await _pending(pool, jobs)
    if waiting:
        reports = await institution.close_payments([purchase.out_no for purchase in waiting], now=now)
        await _hear(pool, reports, ended=(CLOSED, NOT_FOUND), now=now)
        _require_all(reports)


async def ask_payments(pool: Pool, institution: PaymentInstitution, *, now: datetime) -> int:
    """Ask about payments of which no callback told, a while after they were opened; returns how many.

    One that the institution does not know is left alone: the order to open it may still be on its way.
    """
    async with pool.acquire() as db:
        rows = await queries.unanswered(db, opened_before=now - ASK_AFTER, limit=ASKED_AT_ONCE)
    waiting = store.purchases_of(rows)
    if waiting:
        reports = await institution.query_payments([purchase.out_no for purchase in waiting], now=now)
        await _hear(pool, reports, ended=(CLOSED,), now=now)
    return len(waiting)


async def confirm_payments(db: Db, jobs: Sequence[Job], *, now: datetime) -> None:
    """Payments that a callback told of: each payload is `{out_no, amount_fen}`."""
    payments = [msgspec.convert(job.payload, Payment) for job in jobs]
    await buying.confirm_paid(db, payments, institution=INSTITUTION, now=now)


async def give_back(
    pool: Pool, institution: PaymentInstitution, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Have buyers given back what they are owed. Raises `NoAnswer` until all of it has arrived: repeat."""
    async with pool.acquire() as db:
        rows = await queries.find_refunds(db, ids=[job.subject for job in jobs])
    due = [refund for refund in store.refunds_of(rows) if refund.done_at is None]
    orders = [
        RefundOrder(
            out_no=out_no_of(refund.id),
            payment_out_no=out_no_of(refund.purchase_id),
            amount_fen=refund.amount_fen,
            reason=REFUND_REASON,
        )
        for refund in due
    ]
    if not orders:
        return
    reports = await institution.refund(orders, now=now)
    done = [id_of(report.out_no, "rfd") for report in reports if report.state == SUCCEEDED]
    async with transaction(pool) as db:
        await buying.confirm_refunds(db, done, institution=INSTITUTION, now=now)
    if len(done) < len(orders):
        raise NoAnswer(party=INSTITUTION)


async def confirm_refunds(db: Db, jobs: Sequence[Job], *, now: datetime) -> None:
    """Refunds that a callback told of: each payload is `{out_no}`."""
    ids = [id_of(job.payload["out_no"], "rfd") for job in jobs]
    await buying.confirm_refunds(db, ids, institution=INSTITUTION, now=now)


async def withdraw(db: Db, jobs: Sequence[Job], *, now: datetime) -> None:
    """Vouchers that were frozen leave the market: each payload is `{voucher_ids}`."""
    await stock.withdraw(db, [each for job in jobs for each in job.payload["voucher_ids"]], now=now)


async def _pending(pool: Pool, jobs: Sequence[Job]) -> list[Purchase]:
    async with pool.acquire() as db:
        found = await buying.find_purchases(db, [job.subject for job in jobs])
    return [purchase for purchase in found if purchase.state is PurchaseState.PENDING_PAYMENT]


async def _hear(pool: Pool, reports: Sequence[Report], *, ended: Sequence[str], now: datetime) -> None:
    """Sell what was paid, release what has `ended`."""
    paid = [
        Payment(out_no=report.out_no, amount_fen=report.amount_fen)
        for report in reports
        if report.state == SUCCEEDED and report.amount_fen is not None
    ]
    gone = [id_of(report.out_no, "pur") for report in reports if report.state in ended]
    async with transaction(pool) as db:
        await buying.confirm_paid(db, paid, institution=INSTITUTION, now=now)
        await buying.release(db, gone, now=now)


def _require_all(reports: Sequence[Report]) -> None:
    if any(report.state == UNKNOWN for report in reports):
        raise NoAnswer(party=INSTITUTION)
