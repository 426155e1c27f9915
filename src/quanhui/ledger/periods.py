"""Closing the books: a day or month of Shanghai that takes no more transfers, and opening it again."""

from datetime import date, datetime

import asyncpg
import msgspec

from quanhui.base.db import Db, load_queries
from quanhui.base.errors import NotFound
from quanhui.base.ids import new_id
from quanhui.base.paging import Page, page_of
from quanhui.ledger.errors import LedgerBusy, PeriodClosedBefore, PeriodNotLast, PeriodNotOver
from quanhui.ledger.rules import Period, PeriodLength

queries = load_queries(__file__, "periods.sql")

LAST_ID = "~"


async def close_period(db: Db, length: PeriodLength, day: date, *, person: str, now: datetime) -> Period:
    """Close the day, or the month of a day, and all before it, and keep what every account held at its end.

    From then on no transfer may say that it happened before the end: PostgreSQL refuses it. Raises
    `PeriodNotOver`, `PeriodClosedBefore`, or `LedgerBusy` when postings stay open for two seconds.
    """
    period_id = new_id("per")
    first_day = day if length is PeriodLength.DAY else day.replace(day=1)
    try:
        status = await queries.close_period(
            db, period_id=period_id, length=length, first_day=first_day, person=person, now=now
        )
    except asyncpg.LockNotAvailableError as busy:
        raise LedgerBusy from busy
    if status == "not_over":
        raise PeriodNotOver
    if status == "closed_before":
        raise PeriodClosedBefore
    return await find_period(db, period_id)


async def reopen_period(db: Db, period_id: str, *, person: str, reason: str, now: datetime) -> Period:
    """Ask for the last closed period to be opened again; or, as another person than who asked, open it.

    Raises `NotFound`, or `PeriodNotLast` while a later one is closed.
    """
    status = await queries.reopen_period(db, period_id=period_id, person=person, reason=reason, now=now)
    if status == "not_last":
        raise PeriodNotLast
    return await find_period(db, period_id)


async def find_period(db: Db, period_id: str) -> Period:
    """One closing. Raises `NotFound`."""
    row = await queries.find_period(db, period_id=period_id)
    if row is None:
        raise NotFound
    return msgspec.convert(dict(row), Period)


async def closings(db: Db, *, cursor: str | None, limit: int) -> Page[Period]:
    """Closings, the newest first."""
    rows = await queries.list_periods(db, cursor=cursor or LAST_ID, limit=limit + 1)
    return page_of([msgspec.convert(dict(row), Period) for row in rows], limit=limit)
