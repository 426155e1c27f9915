"""Fetching bills happens outside any transaction; taking one in and comparing it is one transaction."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Protocol

from quanhui.base.clock import local_day
from quanhui.base.db import Db, Pool, in_transaction
from quanhui.base.http import NoAnswer
from quanhui.settlement.gateway import BillLine
from quanhui.settlement.reconciliation import actions, store
from quanhui.settlement.reconciliation.rules import due_days
from quanhui.settlement.reconciliation.store import NewCase


class BillSource(Protocol):
    """What a channel is asked for."""

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """Everything that moved on a Shanghai day. Raises `NoAnswer`: half a bill is none."""
        ...


async def fetch_bills(pool: Pool, channels: Mapping[str, BillSource], *, now: datetime) -> int:
    """Fetch the bills that are ready and not here yet, and compare each; returns how many. Run it hourly.

    A channel that does not answer is asked again the next time. Where no bill is due, the latest one is
    compared again, so that a case closes as soon as the books explain it.
    """
    count = 0
    for channel, source in channels.items():
        async with pool.acquire() as db:
            known = await store.known_days(db, channel, today=local_day(now))
        days = due_days(now, known)
        for day in days:
            try:
                await run_day(pool, channel, source, day, now=now)
            except NoAnswer:
                break
            count += 1
        if not days and known:
            await _compare_again(pool, channel, max(known), now=now)
    return count


async def run_day(pool: Pool, channel: str, source: BillSource, day: date, *, now: datetime) -> list[NewCase]:
    """Fetch the bill of one day, keep it and compare it; returns the new cases. Raises `NoAnswer`."""
    lines = await source.bill(day, now=now)

    async def take(db: Db) -> list[NewCase]:
        changed = await actions.keep_bill(db, channel, day, lines, now=now)
        return [*changed, *await actions.reconcile(db, channel, day, now=now)]

    return await in_transaction(pool, take)


async def _compare_again(pool: Pool, channel: str, day: date, *, now: datetime) -> None:
    await in_transaction(pool, lambda db: actions.reconcile(db, channel, day, now=now))
