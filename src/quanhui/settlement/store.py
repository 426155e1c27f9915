"""Rows of settlement to types and back. The SQL stands in `queries.sql`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui.base.clock import local_day
from quanhui.base.db import Db, Row, load_queries
from quanhui.settlement.caps import Allowance, Limits, scopes_of
from quanhui.settlement.rules import (
    PAYEE_MAY_WAIT,
    Attempt,
    AttemptState,
    Flag,
    Handling,
    Method,
    Payout,
    State,
    TimelineEntry,
    out_no_of,
)

queries = load_queries(__file__)

TIMELINE_LENGTH = 200
MINUTES_KEPT = timedelta(days=1)
TOTALS_KEPT = timedelta(days=40)


class Words(msgspec.Struct, frozen=True):
    """A reason in plain words, in both languages."""

    zh: str
    en: str


def _payout(row: Row) -> Payout:
    return Payout(
        id=row["id"],
        order_id=row["order_id"],
        seller_id=row["seller_id"],
        payee_id=row["payee_id"],
        method=Method(row["method"]),
        amount_fen=row["amount_fen"],
        state=State(row["state"]),
        store_id=row["store_id"],
        voucher_ids=row["voucher_ids"],
        attempts=row["attempts"],
        hold_reason=row["hold_reason"],
        failure=row["failure"],
        flag=None if row["flag"] is None else Flag(row["flag"]),
        retry_at=row["retry_at"],
        approved_by=row["approved_by"],
        waiting=row["waiting"],
        changed_by=row["changed_by"],
        approvals=tuple(row["approvals"]),
        cancelled_by=row["cancelled_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _attempt(row: Row) -> Attempt:
    return Attempt(
        out_no=row["out_no"],
        payout_id=row["id"],
        number=row["number"],
        state=AttemptState(row["attempt_state"]),
        reason=row["attempt_reason"],
        institution_no=row["institution_no"],
        sends=row["sends"],
        closing=row["closing"],
        next_query_at=row["next_query_at"],
        channel=row["channel"],
        cost_fen=row["cost_fen"],
    )


def _transfer_number(payout: Payout) -> str | None:
    """The number of the transfer that a payout in this state has just begun, if it is cash on its way."""
    going = payout.method is Method.CASH and payout.state is State.SUBMITTED
    return out_no_of(payout.id, payout.attempts) if going else None


async def add_payouts(db: Db, payouts: Sequence[Payout], *, now: datetime) -> set[str]:
    rows = await queries.add_payouts(
        db,
        ids=[payout.id for payout in payouts],
        order_ids=[payout.order_id for payout in payouts],
        seller_ids=[payout.seller_id for payout in payouts],
        payee_ids=[payout.payee_id for payout in payouts],
        methods=[payout.method for payout in payouts],
        amounts_fen=[payout.amount_fen for payout in payouts],
        states=[payout.state for payout in payouts],
        store_ids=[payout.store_id for payout in payouts],
        voucher_ids=[",".join(payout.voucher_ids) for payout in payouts],
        hold_reasons=[payout.hold_reason for payout in payouts],
        out_nos=[_transfer_number(payout) for payout in payouts],
        retry_ats=[payout.retry_at for payout in payouts],
        now=now,
    )
    return {row["id"] for row in rows}


async def lock_payouts(db: Db, payout_ids: Sequence[str]) -> list[Payout]:
    return [_payout(row) for row in await queries.lock_payouts(db, ids=payout_ids)]


async def lock_retries(db: Db, *, limit: int, now: datetime) -> list[Payout]:
    return [_payout(row) for row in await queries.lock_retries(db, limit=limit, now=now)]


async def lock_capped(db: Db, *, limit: int, now: datetime) -> list[Payout]:
    return [_payout(row) for row in await queries.lock_capped(db, limit=limit, now=now)]


async def find_limits(db: Db) -> Limits:
    limits, _ = await _limits(db, [])
    return limits


async def lock_allowance(
    db: Db, payouts: Sequence[Payout], *, now: datetime
) -> tuple[Limits, Allowance, set[str]]:
    """What may still go out today, and the orders that have a payout already, both under one lock."""
    limits, _ = await _limits(db, [])
    scopes = scopes_of(limits, payouts)
    locked = await queries.lock_totals(db, day=local_day(now), scopes=scopes) if scopes else []
    _, opened = await _limits(db, [payout.order_id for payout in payouts])
    return limits, Allowance(limits, {row["scope"]: row["amount_fen"] for row in locked}), opened


async def add_totals(db: Db, counted: Sequence[tuple[str, int]], *, now: datetime) -> None:
    if counted:
        await queries.add_totals(
            db,
            day=local_day(now),
            scopes=[scope for scope, _ in counted],
            amounts_fen=[amount_fen for _, amount_fen in counted],
        )


async def _limits(db: Db, order_ids: Sequence[str]) -> tuple[Limits, set[str]]:
    row = await queries.find_limits(db, order_ids=order_ids)
    return Limits(**{name: row[name] for name in Limits.__struct_fields__}), set(row["order_ids"])


async def hold_payouts(db: Db, payouts: Sequence[Payout], *, actor_id: str | None, now: datetime) -> None:
    await queries.hold_payouts(
        db,
        ids=[payout.id for payout in payouts],
        reasons=[payout.hold_reason for payout in payouts],
        payee_ids=[payout.payee_id for payout in payouts],
        changed_bys=[payout.changed_by for payout in payouts],
        approvals=[",".join(payout.approvals) for payout in payouts],
        retry_ats=[payout.retry_at for payout in payouts],
        actor_id=actor_id,
        now=now,
    )


async def approve_payouts(db: Db, payouts: Sequence[Payout], *, actor_id: str | None, now: datetime) -> None:
    await queries.approve_payouts(
        db,
        ids=[payout.id for payout in payouts],
        payee_ids=[payout.payee_id for payout in payouts],
        changed_bys=[payout.changed_by for payout in payouts],
        approvals=[",".join(payout.approvals) for payout in payouts],
        actor_id=actor_id,
        now=now,
    )


async def move_on(db: Db, payouts: Sequence[Payout], *, actor_id: str | None, now: datetime) -> None:
    await queries.move_on(
        db,
        ids=[payout.id for payout in payouts],
        states=[payout.state for payout in payouts],
        payee_ids=[payout.payee_id for payout in payouts],
        store_ids=[payout.store_id for payout in payouts],
        numbers=[payout.attempts for payout in payouts],
        out_nos=[_transfer_number(payout) for payout in payouts],
        actor_id=actor_id,
        now=now,
    )


async def leave_to_people(db: Db, payout_ids: Sequence[str], *, now: datetime) -> None:
    await queries.leave_to_people(db, ids=payout_ids, now=now)


async def lock_attempts(db: Db, out_nos: Sequence[str]) -> list[tuple[Payout, Attempt]]:
    rows = await queries.lock_attempts(db, out_nos=out_nos)
    return [(_payout(row), _attempt(row)) for row in rows]


async def store_heard(
    db: Db,
    payouts: Sequence[Payout],
    attempts: Sequence[Attempt],
    steps: Sequence[tuple[str, State, int, str | None]],
    *,
    now: datetime,
) -> None:
    await queries.store_heard(
        db,
        ids=[payout.id for payout in payouts],
        states=[payout.state for payout in payouts],
        failures=[payout.failure for payout in payouts],
        flags=[payout.flag for payout in payouts],
        retry_ats=[payout.retry_at for payout in payouts],
        out_nos=[attempt.out_no for attempt in attempts],
        attempt_states=[attempt.state for attempt in attempts],
        reasons=[attempt.reason for attempt in attempts],
        institution_nos=[attempt.institution_no for attempt in attempts],
        next_query_ats=[attempt.next_query_at for attempt in attempts],
        step_ids=[step[0] for step in steps],
        step_states=[step[1] for step in steps],
        step_numbers=[step[2] for step in steps],
        step_reasons=[step[3] for step in steps],
        now=now,
    )


async def clear_flags(
    db: Db, payout_ids: Sequence[str], *, actor_id: str, note: str, now: datetime
) -> list[str]:
    rows = await queries.clear_flags(db, ids=payout_ids, actor_id=actor_id, note=note, now=now)
    return [row["out_no"] for row in rows]


async def ask_to_cancel(
    db: Db, payouts: Sequence[Payout], *, actor_id: str, note: str, now: datetime
) -> None:
    await queries.ask_to_cancel(
        db,
        out_nos=[out_no_of(payout.id, payout.attempts) for payout in payouts],
        actor_id=actor_id,
        note=note,
        now=now,
    )


async def take_queries(
    db: Db, channels: Sequence[str], *, limit: int, now: datetime
) -> dict[str, dict[str, bool]]:
    """By channel, the numbers to ask about now, and whether to close each first."""
    rows = await queries.take_queries(
        db, channels=channels, limit=limit, waiting_since=now - PAYEE_MAY_WAIT, now=now
    )
    found: dict[str, dict[str, bool]] = {}
    for row in rows:
        found.setdefault(row["channel"], {})[row["out_no"]] = row["closing"]
    return found


async def handling_of(db: Db, reasons: Sequence[str]) -> dict[str, Handling]:
    rows = await queries.handling_of(db, codes=reasons)
    return {row["code"]: Handling(row["handling"]) for row in rows}


async def find_words(db: Db, reasons: Sequence[str]) -> Mapping[str, Words]:
    """What reasons mean in plain words; a reason without an entry is left out."""
    rows = await queries.find_words(db, codes=reasons)
    return {row["code"]: Words(row["zh"], row["en"]) for row in rows}


async def find_payouts(db: Db, payout_ids: Sequence[str]) -> dict[str, Payout]:
    """Payouts by id; unknown ids are left out."""
    rows = await queries.find_payouts(db, ids=payout_ids)
    return {row["id"]: _payout(row) for row in rows}


async def list_payouts(
    db: Db,
    *,
    seller_id: str | None = None,
    store_id: str | None = None,
    order_id: str | None = None,
    state: State | None = None,
    cursor: str | None = None,
    limit: int,
) -> list[Payout]:
    """Payouts that match every filter given, newest first, after a cursor."""
    rows = await queries.list_payouts(
        db,
        seller_id=seller_id,
        store_id=store_id,
        order_id=order_id,
        state=state,
        cursor=cursor,
        limit=limit,
    )
    return [_payout(row) for row in rows]


async def timeline(db: Db, payout_id: str) -> list[TimelineEntry]:
    """What happened to a payout, oldest first."""
    rows = await queries.list_steps(db, payout_id=payout_id, limit=TIMELINE_LENGTH)
    return [
        TimelineEntry(at=row["at"], state=State(row["state"]), number=row["number"], reason=row["reason"])
        for row in rows
    ]


async def accept_notifications(db: Db, notification_ids: Sequence[str], *, now: datetime) -> set[str]:
    rows = await queries.accept_notifications(db, ids=notification_ids, now=now)
    return {row["notification_id"] for row in rows}


async def forget_notifications(db: Db, *, older_than: timedelta, now: datetime) -> int:
    """Empty the inbox of what is too old to be believed again; returns how many."""
    count: int = await queries.forget_notifications(
        db,
        before=now - older_than,
        minutes_before=now - MINUTES_KEPT,
        totals_before=local_day(now - TOTALS_KEPT),
    )
    return count
