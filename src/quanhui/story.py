"""The business from end to end: which fact leads to which verb, and what the clock looks after.

Read `STORY` from top to bottom. Each line begins with a fact: something became true in one part of the
business, in the same transaction as the change. It ends with who hears of it. The outbox carries facts
from one to the other; a verb may hear the same fact twice and does its work once. The parts of the
business do not know each other: they meet here and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from quanhui import (
    buyback,
    customers,
    ledger,
    places,
    redemption,
    redistribution,
    settlement,
    staff,
    vouchers,
)
from quanhui.base import attempts, tokens
from quanhui.base.db import Db, Pool
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.base.steps import Chore, When
from quanhui.base.web import forget_answers
from quanhui.buyback import tasks as buyback_tasks
from quanhui.catalogue import Connectors
from quanhui.customers import tasks as customer_tasks
from quanhui.redemption import tasks as till_tasks
from quanhui.redistribution import tasks as market_tasks

VOUCHERS_FROZEN = "vouchers.frozen"
SESSIONS_KEPT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Desk:
    """What errands need: the database, the keys, the terms of the moment, and the parties outside."""

    pool: Pool
    keyring: Keyring
    terms: buyback.TermsSource
    connectors: Connectors
    institution: settlement.SandboxInstitution
    channels: settlement.Channels
    sms: customers.SmsGateway


# ── Facts told by a party outside are passed on to whoever they concern ───────────────────────────────────


async def hear_payments(db: Db, jobs: Sequence[Job], now: datetime) -> None:
    """Only a payment that succeeded sells something; one that was closed is asked for by the clock."""
    paid = [job for job in jobs if job.payload["state"] == settlement.PaymentState.SUCCEEDED]
    if paid:
        await market_tasks.confirm_payments(db, paid, now=now)


async def hear_refunds(db: Db, jobs: Sequence[Job], now: datetime) -> None:
    """Only a refund that succeeded is done."""
    done = [job for job in jobs if job.payload["state"] == settlement.PaymentState.SUCCEEDED]
    if done:
        await market_tasks.confirm_refunds(db, done, now=now)


async def settle_orders(db: Db, jobs: Sequence[Job], now: datetime) -> None:
    """The sellers of these orders have their money."""
    await buyback.mark_settled(db, [job.payload["order_id"] for job in jobs], now=now)


async def unsettle_orders(db: Db, jobs: Sequence[Job], now: datetime) -> None:
    """The money of these orders came back."""
    await buyback.mark_returned(db, [job.payload["order_id"] for job in jobs], now=now)


async def owe_for_goods(db: Db, jobs: Sequence[Job], now: datetime) -> None:
    """Goods were handed over in place of money: the store's merchant is owed for them."""
    paid = await settlement.find_payouts(db, [job.subject for job in jobs])
    goods = {
        payout.id: payout.store_id
        for payout in paid.values()
        if payout.method is settlement.Method.GOODS and payout.store_id
    }
    stores = await places.get_stores(db, sorted({*goods.values()}))
    merchant_of = {store.id: store.merchant_id for store in stores}
    claims = [
        redemption.Claim(
            subject=payout_id,
            merchant_id=merchant_of[store_id],
            kind=redemption.ClaimKind.GOODS,
            amount_fen=paid[payout_id].amount_fen,
            happened_at=now,
        )
        for payout_id, store_id in goods.items()
    ]
    await redemption.add_claims(db, claims)


async def audit_status(db: Db, jobs: Sequence[Job], now: datetime) -> None:
    """A customer was suspended or let back in: that belongs in the audit trail of who did it."""
    entries = [
        staff.AuditEntry(
            actor_id=job.payload["actor_id"],
            action=f"customer.{job.payload['status']}",
            subject=job.subject,
            reason=job.payload["reason"],
        )
        for job in jobs
    ]
    await staff.audit(db, entries, now=now)


STORY = (
    # 登录 A person asks to sign in.
    When(customers.CODE_REQUESTED).send(
        "customers.send_sign_in_codes",
        lambda desk, jobs, now: customer_tasks.send_sign_in_codes(desk.sms, desk.keyring, jobs, now),
    ),
    When(customers.STATUS_CHANGED).then("staff.audit_status", audit_status),
    # 回收 A seller accepted a quote for vouchers of outside issuers: lock them, then title passes …
    When(buyback.ACCEPTED).send_each(
        "buyback.lock_at_issuers",
        lambda desk, jobs, now: buyback_tasks.lock_at_issuers(
            desk.pool, desk.terms, desk.connectors, jobs[0], now=now
        ),
    ),
    # … have their codes replaced, so that the seller's are dead …
    When(buyback.TITLE_TRANSFERRED).send_each(
        "buyback.rekey_at_issuers",
        lambda desk, jobs, now: buyback_tasks.rekey_at_issuers(
            desk.pool, desk.terms, desk.connectors, jobs[0], now=now
        ),
    ),
    # … or, if an issuer refused, let go of what was locked before.
    When(buyback.CANCELLED).send_each(
        "buyback.unlock_at_issuers",
        lambda desk, jobs, now: buyback_tasks.unlock_at_issuers(
            desk.pool, desk.terms, desk.connectors, jobs[0], now=now
        ),
    ),
    # 结算 The vouchers are safely ours: the seller is paid …
    When(buyback.SECURED).then(
        "settlement.open_payouts", lambda db, jobs, now: settlement.open_payouts(db, jobs, now=now)
    ),
    When(settlement.TRANSFER_DUE).send(
        "settlement.send_transfers",
        lambda desk, jobs, now: settlement.send_transfers(
            desk.pool, desk.channels, desk.keyring, jobs, now=now
        ),
    ),
    When(settlement.PAYOUT_SUCCEEDED).then("buyback.settle_orders", settle_orders),
    When(settlement.PAYOUT_SUCCEEDED).then("redemption.owe_for_goods", owe_for_goods),
    When(settlement.PAYOUT_RETURNED).then("buyback.unsettle_orders", unsettle_orders),
    # 分发 … and the vouchers come into stock and onto the market.
    When(buyback.SECURED).then(
        "redistribution.take_into_stock",
        lambda db, jobs, now: market_tasks.take_into_stock(db, jobs, now=now),
    ),
    # A buyer reserved some: collect the money; sell when it is there; give back what came too late.
    When(redistribution.PAYMENT_WANTED).send(
        "redistribution.open_payments",
        lambda desk, jobs, now: market_tasks.open_payments(desk.pool, desk.institution, jobs, now=now),
    ),
    When(settlement.PAYMENT_REPORTED).then("redistribution.hear_payments", hear_payments),
    When(redistribution.CLOSE_WANTED).send(
        "redistribution.close_payments",
        lambda desk, jobs, now: market_tasks.close_payments(desk.pool, desk.institution, jobs, now=now),
    ),
    When(redistribution.REFUND_WANTED).send(
        "redistribution.give_back",
        lambda desk, jobs, now: market_tasks.give_back(desk.pool, desk.institution, jobs, now=now),
    ),
    When(settlement.REFUND_REPORTED).then("redistribution.hear_refunds", hear_refunds),
    # 核销 An outside voucher was spent, or that was taken back: the issuer is asked until it tells.
    When(redemption.OUTCOME_UNKNOWN).send(
        "redemption.ask_unknown",
        lambda desk, jobs, now: till_tasks.ask_unknown(
            desk.pool, desk.keyring, desk.connectors, jobs, now=now
        ),
    ),
    When(redemption.REVERSAL_WANTED).send(
        "redemption.reverse_at_issuers",
        lambda desk, jobs, now: till_tasks.reverse_at_issuers(
            desk.pool, desk.keyring, desk.connectors, jobs, now=now
        ),
    ),
    # 冻结 A voucher was frozen: it leaves the market.
    When(VOUCHERS_FROZEN).then(
        "redistribution.withdraw", lambda db, jobs, now: market_tasks.withdraw(db, jobs, now=now)
    ),
)

CHORES = (
    Chore("ledger.fold", timedelta(seconds=1), verb=lambda db, now: ledger.fold(db, now=now)),
    Chore(
        "settlement.query_unknown",
        timedelta(seconds=2),
        errand=lambda desk, now: settlement.query_unknown(desk.pool, desk.channels, now=now),
    ),
    Chore(
        "settlement.wake_waiting",
        timedelta(seconds=2),
        verb=lambda db, now: settlement.wake_waiting(db, now=now),
    ),
    Chore(
        "settlement.release_capped",
        timedelta(seconds=30),
        verb=lambda db, now: settlement.release_capped(db, now=now),
    ),
    Chore(
        "settlement.retry_failed",
        timedelta(seconds=10),
        verb=lambda db, now: settlement.retry_failed(db, now=now),
    ),
    Chore(
        "settlement.forget_notifications",
        timedelta(days=1),
        verb=lambda db, now: settlement.forget_notifications(db, now=now),
    ),
    # 对账 Books, records and bills are compared: the sums all the time, each line once its bill is here.
    Chore(
        "settlement.watch_books",
        timedelta(minutes=1),
        verb=lambda db, now: settlement.watch_books(db, now=now),
    ),
    Chore(
        "settlement.fetch_bills",
        timedelta(hours=1),
        errand=lambda desk, now: settlement.fetch_bills(desk.pool, desk.channels, now=now),
    ),
    Chore(
        "settlement.alarm_overdue",
        timedelta(hours=1),
        verb=lambda db, now: settlement.alarm_overdue(db, now=now),
    ),
    Chore(
        "buyback.expire_quotes",
        timedelta(seconds=5),
        verb=lambda db, now: buyback.expire_quotes(db, now=now),
    ),
    Chore(
        "buyback.close_settled",
        timedelta(hours=1),
        verb=lambda db, now: buyback.close_settled(db, now=now),
    ),
    Chore(
        "redistribution.sweep_reservations",
        timedelta(seconds=5),
        verb=lambda db, now: redistribution.sweep_reservations(db, now=now),
    ),
    Chore(
        "redistribution.ask_payments",
        timedelta(seconds=5),
        errand=lambda desk, now: market_tasks.ask_payments(desk.pool, desk.institution, now=now),
    ),
    Chore(
        "redistribution.list_new_stock",
        timedelta(seconds=30),
        verb=lambda db, now: redistribution.list_new_stock(db, now=now),
    ),
    Chore(
        "redemption.sweep_authorisations",
        timedelta(seconds=5),
        verb=lambda db, now: redemption.sweep_authorisations(db, now=now),
    ),
    Chore(
        "redemption.draw_statements",
        timedelta(minutes=10),
        verb=lambda db, now: redemption.draw_statements(db, now=now),
    ),
    Chore(
        "redemption.release_statements",
        timedelta(minutes=10),
        verb=lambda db, now: redemption.release_statements(db, now=now),
    ),
    Chore(
        "redistribution.sweep_guarantees",
        timedelta(minutes=10),
        verb=lambda db, now: redistribution.sweep_guarantees(db, now=now),
    ),
    Chore(
        "redistribution.sweep_expired",
        timedelta(minutes=10),
        verb=lambda db, now: redistribution.sweep_expired(db, now=now),
    ),
    Chore("base.forget_answers", timedelta(hours=1), verb=lambda db, now: forget_answers(db, now=now)),
    Chore("base.sweep_attempts", timedelta(minutes=10), verb=lambda db, now: attempts.sweep(db, now=now)),
    Chore(
        "base.sweep_sessions",
        timedelta(hours=1),
        verb=lambda db, now: tokens.sweep(db, before=now - SESSIONS_KEPT),
    ),
    Chore(
        "customers.forget_codes",
        timedelta(minutes=10),
        verb=lambda db, now: customers.forget_codes(db, now=now),
    ),
    Chore(
        "staff.forget_messages",
        timedelta(minutes=10),
        verb=lambda db, now: staff.forget_messages(db, now=now),
    ),
    Chore("vouchers.expire", timedelta(minutes=1), verb=lambda db, now: vouchers.expire(db, now=now)),
)
