"""Rows of reconciliation to types and back. The SQL stands in `queries.sql`."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.settlement.gateway import BillKind, BillLine
from quanhui.settlement.reconciliation.rules import (
    DAYS_LOOKED_BACK,
    Case,
    CaseState,
    Class,
    Comparison,
    Day,
    Outcome,
)

queries = load_queries(__file__)

MOST_ABOUT_ONE = 200
IN = frozenset({BillKind.RETURN, BillKind.PAYMENT})


class NewCase(msgspec.Struct, frozen=True, kw_only=True):
    """A difference found now, with the id of its case."""

    id: str
    day: date
    class_: Class
    kind: str
    out_no: str
    bill_day: date | None = None
    bill_seq: int | None = None
    leg_id: int | None = None
    bill_fen: int | None = None
    booked_fen: int | None = None
    delta_fen: int = 0

    @property
    def suspended(self) -> bool:
        """Whether it is posted to suspense: not what only waits for the next bill."""
        return self.delta_fen != 0 and self.class_ is not Class.LATE


def _case(row: Row) -> Case:
    return msgspec.convert(dict(row), Case)


async def known_days(db: Db, channel: str, *, today: date) -> list[date]:
    since = today - timedelta(days=DAYS_LOOKED_BACK + 2)
    return [row["day"] for row in await queries.known_days(db, channel=channel, since=since)]


async def keep_bill(
    db: Db, channel: str, day: date, lines: Sequence[BillLine], *, now: datetime
) -> list[Row]:
    """Keep a bill; returns the lines of an earlier copy that differ from it."""
    columns = {
        "seqs": [line.seq for line in lines],
        "kinds": [line.kind for line in lines],
        "out_nos": [line.out_no for line in lines],
        "amounts_fen": [line.amount_fen for line in lines],
    }
    new = await queries.add_bill(
        db,
        channel=channel,
        day=day,
        lines=len(lines),
        in_fen=sum(line.amount_fen for line in lines if line.kind in IN),
        out_fen=sum(line.amount_fen for line in lines if line.kind not in IN),
        now=now,
    )
    changed = [] if new else await queries.changed_lines(db, channel=channel, day=day, **columns)
    await queries.add_lines(
        db,
        channel=channel,
        day=day,
        institution_nos=[line.institution_no for line in lines],
        ats=[line.at for line in lines],
        **columns,
    )
    return list(changed)


async def collect(db: Db) -> None:
    await queries.collect_custody(db)


async def match_lines(db: Db, channel: str, day: date) -> int:
    await queries.plan_for_sets(db, others="off")
    count: int = await queries.match_lines(db, channel=channel, day=day)
    await queries.plan_for_sets(db, others="on")
    return count


async def find_differences(db: Db, channel: str, day: date, *, late_from: datetime) -> list[Row]:
    await queries.plan_for_sets(db, others="off")
    rows: list[Row] = await queries.find_differences(db, channel=channel, day=day, late_from=late_from)
    await queries.plan_for_sets(db, others="on")
    return rows


async def add_cases(
    db: Db, channel: str, cases: Sequence[NewCase], *, due_at: datetime, now: datetime
) -> None:
    await queries.add_cases(
        db,
        channel=channel,
        ids=[case.id for case in cases],
        days=[case.day for case in cases],
        classes=[case.class_ for case in cases],
        kinds=[case.kind for case in cases],
        out_nos=[case.out_no for case in cases],
        bill_days=[case.bill_day for case in cases],
        bill_seqs=[case.bill_seq for case in cases],
        leg_ids=[case.leg_id for case in cases],
        bills_fen=[case.bill_fen for case in cases],
        booked_fen=[case.booked_fen for case in cases],
        deltas_fen=[case.delta_fen for case in cases],
        suspended=[case.suspended for case in cases],
        due_at=due_at,
        now=now,
    )


async def overtake_late(db: Db, channel: str, day: date) -> list[Row]:
    rows: list[Row] = await queries.overtake_late(db, channel=channel, day=day)
    return rows


async def explain_cases(db: Db, channel: str, *, now: datetime) -> list[Row]:
    rows: list[Row] = await queries.explain_cases(db, channel=channel, now=now)
    return rows


async def mark_reconciled(db: Db, channel: str, day: date, *, now: datetime) -> None:
    await queries.mark_reconciled(db, channel=channel, day=day, now=now)


async def lock_cases(db: Db, case_ids: Sequence[str]) -> list[Case]:
    return [_case(row) for row in await queries.lock_cases(db, ids=case_ids)]


async def move_cases(
    db: Db,
    case_ids: Sequence[str],
    state: CaseState,
    *,
    actor_id: str,
    note: str,
    proposal: Outcome | None = None,
    now: datetime,
) -> None:
    await queries.move_cases(
        db, ids=case_ids, state=state, proposal=proposal, actor_id=actor_id, note=note, now=now
    )


async def alarm_overdue(db: Db, *, now: datetime) -> list[Row]:
    rows: list[Row] = await queries.alarm_overdue(db, now=now)
    return rows


async def list_days(db: Db, *, channel: str | None, before: date | None, limit: int) -> list[Day]:
    rows = await queries.list_days(db, channel=channel, before=before, limit=limit)
    return [msgspec.convert(dict(row), Day) for row in rows]


async def list_cases(
    db: Db,
    *,
    state: CaseState | None = None,
    class_: Class | None = None,
    channel: str | None = None,
    found_before: datetime | None = None,
    cursor: str | None = None,
    limit: int,
) -> list[Case]:
    """Cases that match every filter given, newest first, after a cursor."""
    rows = await queries.list_cases(
        db,
        in_class=class_,
        state=state,
        channel=channel,
        found_before=found_before,
        cursor=cursor,
        limit=limit,
    )
    return [_case(row) for row in rows]


async def find_cases(db: Db, case_ids: Sequence[str]) -> dict[str, Case]:
    return {row["id"]: _case(row) for row in await queries.find_cases(db, ids=case_ids)}


async def case_steps(db: Db, case_id: str) -> list[Row]:
    rows: list[Row] = await queries.list_case_steps(db, case_id=case_id, limit=MOST_ABOUT_ONE)
    return rows


async def sides_of(db: Db, case: Case) -> tuple[list[Row], list[Row], list[Row], str | None]:
    """Lines, legs and records about the number of a case, and the payout behind it."""
    about = {"channel": case.channel, "out_no": case.out_no}
    return (
        await queries.lines_of(db, **about, limit=MOST_ABOUT_ONE),
        await queries.legs_of(db, **about, limit=MOST_ABOUT_ONE),
        await queries.instructed_of(db, **about),
        await queries.payout_of(db, out_no=case.out_no),
    )


async def compare_books(db: Db) -> list[Comparison]:
    return [msgspec.convert(dict(row), Comparison) for row in await queries.compare_books(db)]


async def add_stop(
    db: Db, *, actor_id: str | None, reason: str, facts: Sequence[Mapping[str, Any]], now: datetime
) -> bool:
    """Stop payouts; whether they were not stopped before."""
    stop_id = await queries.add_stop(db, actor_id=actor_id, reason=reason, facts=facts, now=now)
    return stop_id is not None


async def lift_stop(db: Db, *, actor_id: str, note: str, now: datetime) -> int | None:
    """Lift the stop; its id, or None without one."""
    stop_id: int | None = await queries.lift_stop(db, actor_id=actor_id, note=note, now=now)
    return stop_id


async def current_stop(db: Db) -> Row | None:
    row: Row | None = await queries.current_stop(db)
    return row


async def resume(db: Db, *, now: datetime) -> list[str]:
    return [row["out_no"] for row in await queries.resume(db, now=now)]
