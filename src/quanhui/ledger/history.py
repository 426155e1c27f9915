"""What the books said at a past instant, what an account did over a period, and the journal with its filters.

The past is told by recorded time: what had been written before an instant. That can only change while a
transaction is open that may still write there, and `final` says whether one is.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec

from quanhui.base.db import Db, load_queries
from quanhui.base.errors import NotFound
from quanhui.base.paging import Page, page_of
from quanhui.ledger.rules import Posting, TrialBalance, TrialLine, trial_balance_of

queries = load_queries(__file__, "history.sql")

NEWEST = 2**63 - 1
EXPORT_LINES = 100_000
"""How many lines a statement may have at most; whoever wants more asks for shorter periods."""
SPAN_WITHOUT_A_NAME = timedelta(days=31)
"""How far back the journal is searched when neither a subject nor an account narrows it."""
CHUNK = 1000


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What narrows the journal: each that is given must hold. Instants are recorded ones."""

    event: str | None = None
    subject: str | None = None
    account: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_fen: int | None = None
    max_fen: int | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer as its account saw it: `delta_fen` in or out, and the balance after it."""

    id: int
    created_at: datetime
    event_at: datetime
    event: str
    subject: str
    counterpart: str
    delta_fen: int
    balance_fen: int


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """An account over `[since, until)` of recorded time: opening + credits - debits = closing."""

    code: str
    since: datetime
    until: datetime
    opening_fen: int
    credits_fen: int
    debits_fen: int
    closing_fen: int
    transfers: int
    final: bool


async def trial_balance_at(db: Db, instant: datetime, *, now: datetime) -> TrialBalance:
    """The trial balance of all that was recorded before `instant`, in one snapshot."""
    final_before = await queries.settled_before(db, now=now)
    rows = await queries.sum_chart_at(db, instant=instant)
    lines = [msgspec.convert(dict(row), TrialLine) for row in rows]
    return trial_balance_of(lines, as_of=instant, final=_final(instant, final_before))


async def statement_over(db: Db, code: str, *, since: datetime, until: datetime, now: datetime) -> Statement:
    """Opening and closing balance of an account over a period. Raises `NotFound` for one never used."""
    final_before = await queries.settled_before(db, now=now)
    row = await queries.sum_statement(db, code=code, since=since, until=until)
    if row is None:
        raise NotFound
    return Statement(code=code, since=since, until=until, final=_final(until, final_before), **dict(row))


async def statement_lines(db: Db, told: Statement) -> AsyncIterator[list[Line]]:
    """The lines of a statement, oldest first, in chunks; from the snapshot of the statement."""
    balance_fen, cursor = told.opening_fen, 0
    while rows := await queries.list_lines(
        db, code=told.code, since=told.since, until=told.until, cursor=cursor, limit=CHUNK
    ):
        chunk = []
        for row in rows:
            balance_fen += row["delta_fen"]
            chunk.append(Line(**dict(row), balance_fen=balance_fen))
        yield chunk
        cursor = chunk[-1].id


async def journal(
    db: Db, filters: Filters, *, cursor: int | None, limit: int, now: datetime
) -> Page[Posting]:
    """Transfers that pass the filters, newest first; without a subject or an account, of 31 days."""
    since = filters.since
    if filters.subject is None and filters.account is None:
        earliest = (filters.until or now) - SPAN_WITHOUT_A_NAME
        since = max(since or earliest, earliest)
    wanted = {**msgspec.structs.asdict(filters), "since": since}
    rows = await queries.list_journal(
        db, **wanted, cursor=NEWEST if cursor is None else cursor, limit=limit + 1
    )
    return page_of([Posting(**dict(row)) for row in rows], limit=limit)


def _final(instant: datetime, before: datetime | None) -> bool:
    return before is not None and instant <= before
