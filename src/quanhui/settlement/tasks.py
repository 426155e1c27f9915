"""Work with the channels outside any transaction: choose, mark and commit, call, record.

A transfer is marked `calling` before it is called. One found so marked belongs to a worker who is at it or
has died at it: nobody sends it again; the sweep asks the institution what became of it.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from quanhui import customers
from quanhui.base.db import Db, Pool, in_transaction
from quanhui.base.keyring import Keyring
from quanhui.base.outbox import Job
from quanhui.settlement import channel_store, store
from quanhui.settlement.gateway import Institution, TransferOrder, TransferReport, TransferState
from quanhui.settlement.reports import record_reports
from quanhui.settlement.routing import Waiting, after_answers, grouped, is_silence, plan
from quanhui.settlement.rules import PURPOSE, Hold

Channels: TypeAlias = Mapping[str, Institution]
"""The gateways of the payment channels, by the name of each."""
INBOX_KEPT = timedelta(days=7)


async def send_transfers(
    pool: Pool, channels: Channels, keyring: Keyring, jobs: Sequence[Job], *, now: datetime
) -> None:
    """Send the transfers that the fact `settlement.transfer_due` tells of, each at most once a call to this.

    Only those not begun yet are sent, so the same jobs again do nothing. Each goes through the channel that
    suits it; one that none can take waits, and `wake_waiting` brings it back. If this dies after a call,
    `query_unknown` finds out what happened.
    """
    out_nos = sorted({job.payload["out_no"] for job in jobs})
    orders = await in_transaction(pool, lambda db: _begin(db, channels, keyring, out_nos, now=now))

    async def send(name: str) -> None:
        reports = await channels[name].send(orders[name], now=now)
        await in_transaction(pool, lambda db: _record_sent(db, name, reports, now=now))

    await _each(send(name) for name in orders)


async def query_unknown(pool: Pool, channels: Channels, *, now: datetime, limit: int = 100) -> int:
    """Ask how transfers stand whose time to ask has come; returns how many. Run it every two seconds.

    Each is asked about where it was sent, also at a channel that is stopped. Transfers that their payee left
    unconfirmed for 24 hours are closed there first; they are expired only once the channel says so.
    """
    due = await in_transaction(pool, lambda db: store.take_queries(db, list(channels), limit=limit, now=now))

    async def ask(name: str) -> None:
        closing = sorted(out_no for out_no, close in due[name].items() if close)
        if closing:
            await channels[name].close(closing, now=now)
        reports = await channels[name].query(sorted(due[name]), now=now)
        await in_transaction(pool, lambda db: _record_asked(db, name, reports, now=now))

    await _each(ask(name) for name in due)
    return sum(map(len, due.values()))


async def forget_notifications(db: Db, *, now: datetime) -> int:
    """Empty the callback inbox of what is older than a week; returns how many. Run it daily."""
    return await store.forget_notifications(db, older_than=INBOX_KEPT, now=now)


async def _each(errands: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do errands at several channels side by side: what goes wrong at one must not keep another's answers."""
    outcomes = await asyncio.gather(*errands, return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


async def _begin(
    db: Db, channels: Channels, keyring: Keyring, out_nos: Sequence[str], *, now: datetime
) -> dict[str, list[TransferOrder]]:
    due = await channel_store.lock_due(db, out_nos)
    if not due:
        return {}
    names = await customers.verified_names(db, keyring, sorted({row["seller_id"] for row in due}))
    payees = await customers.payees(db, sorted({row["payee_id"] for row in due}))
    orders: dict[str, TransferOrder] = {}
    transfers: list[Waiting] = []
    for row in due:
        name, payee = names.get(row["seller_id"]), payees.get(row["payee_id"])
        if name is None or payee is None or payee.customer_id != row["seller_id"]:
            await record_reports(db, [_never_sent(row["out_no"])], channel=row["channel"], now=now)
            continue
        transfers.append(channel_store.waiting_transfer(row, payee.kind))
        orders[row["out_no"]] = TransferOrder(
            out_no=row["out_no"],
            amount_fen=row["amount_fen"],
            payee_account=customers.open_payee_account(keyring, payee).account,
            payee_name=name,
            purpose=PURPOSE,
        )
    if not transfers:
        return {}
    made = plan(transfers, await channel_store.lock_channels(db, list(channels), now=now), now=now)
    await channel_store.begin_calls(db, made, now=now)
    return {
        name: [orders[each.transfer.out_no] for each in going] for name, going in grouped(made.going).items()
    }


async def _record_sent(db: Db, name: str, reports: Sequence[TransferReport], *, now: datetime) -> None:
    """What a channel said to new transfers, and what its answers or silence say of itself."""
    await record_reports(db, reports, channel=name, now=now)
    silent = [is_silence(report) for report in reports]
    await channel_store.count_answers(db, name, silent, now=now)
    (before,) = await channel_store.lock_channels(db, [name], now=now)
    after = after_answers(before, silent, now=now)
    if after != before:
        await channel_store.store_channels(db, [after])
    if before.rests_until is not None and after.rests_until is None:
        await channel_store.hurry_waiting(db, now=now)


async def _record_asked(db: Db, name: str, reports: Sequence[TransferReport], *, now: datetime) -> None:
    await record_reports(db, reports, channel=name, now=now)
    await channel_store.count_answers(db, name, [is_silence(report) for report in reports], now=now)


def _never_sent(out_no: str) -> TransferReport:
    return TransferReport(out_no=out_no, state=TransferState.FAILED, reason=Hold.PAYEE_UNVERIFIED)
