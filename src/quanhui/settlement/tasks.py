"""Work with the institution outside any transaction: mark and commit, call, record.

A transfer is marked `calling` before it is called. One found so marked belongs to a worker who is at it or
has died at it: nobody sends it again; the sweep asks the institution what became of it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from quanhui import customers
from quanhui.base.db import Db, Pool, in_transaction
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.settlement import store
from quanhui.settlement.gateway import Institution, TransferOrder, TransferReport, TransferState
from quanhui.settlement.reports import record_reports
from quanhui.settlement.rules import PURPOSE, Hold

INBOX_KEPT = timedelta(days=7)


async def send_transfers(
    pool: Pool, institution: Institution, keyring: Keyring, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Send the transfers that the fact `settlement.transfer_due` tells of, each at most once a call to this.

    Only those not begun yet are sent, so the same jobs again do nothing. If this dies after the call,
    `query_unknown` finds out what happened.
    """
    out_nos = sorted({job.payload["out_no"] for job in jobs})
    orders = await in_transaction(pool, lambda db: _begin(db, keyring, out_nos, now=now))
    if not orders:
        return
    reports = await institution.send(orders, now=now)
    await in_transaction(pool, lambda db: record_reports(db, reports, now=now))


async def query_unknown(pool: Pool, institution: Institution, *, now: datetime, limit: int = 100) -> int:
    """Ask how transfers stand whose time to ask has come; returns how many. Run it every two seconds.

    Transfers that their payee left unconfirmed for 24 hours are closed at the institution first; they are
    expired only once it says so.
    """
    due = await in_transaction(pool, lambda db: store.take_queries(db, limit=limit, now=now))
    if not due:
        return 0
    closing = sorted(out_no for out_no, close in due.items() if close)
    if closing:
        await institution.close(closing, now=now)
    reports = await institution.query(sorted(due), now=now)
    await in_transaction(pool, lambda db: record_reports(db, reports, now=now))
    return len(due)


async def forget_notifications(db: Db, *, now: datetime) -> int:
    """Empty the callback inbox of what is older than a week; returns how many. Run it daily."""
    return await store.forget_notifications(db, older_than=INBOX_KEPT, now=now)


async def _begin(db: Db, keyring: Keyring, out_nos: Sequence[str], *, now: datetime) -> list[TransferOrder]:
    rows = await store.begin_calls(db, out_nos, now=now)
    if not rows:
        return []
    names = await customers.verified_names(db, keyring, sorted({row["seller_id"] for row in rows}))
    payees = await customers.payees(db, sorted({row["payee_id"] for row in rows}))
    orders, hopeless = [], []
    for row in rows:
        name, payee = names.get(row["seller_id"]), payees.get(row["payee_id"])
        if name is None or payee is None or payee.customer_id != row["seller_id"]:
            hopeless.append(row["out_no"])
            continue
        orders.append(
            TransferOrder(
                out_no=row["out_no"],
                amount_fen=row["amount_fen"],
                payee_account=customers.open_payee_account(keyring, payee).account,
                payee_name=name,
                purpose=PURPOSE,
            )
        )
    await record_reports(db, [_never_sent(out_no) for out_no in hopeless], now=now)
    return orders


def _never_sent(out_no: str) -> TransferReport:
    return TransferReport(out_no=out_no, state=TransferState.FAILED, reason=Hold.PAYEE_UNVERIFIED)
