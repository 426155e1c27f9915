"""Verbs of reconciliation: take a bill in, compare, close cases, stop payouts when the books are wrong."""

from collections.abc import Sequence
from datetime import date, datetime

import msgspec

from quanhui import ledger, staff
from quanhui.base.access import Actor
from quanhui.base.db import Db, Row
from quanhui.base.errors import NotFound, SecondPersonNeeded
from quanhui.base.ids import new_id
from quanhui.base.outbox import Fact, emit
from quanhui.ledger import Transfer, postings
from quanhui.settlement.actions import transfer_due
from quanhui.settlement.gateway import BillLine
from quanhui.settlement.reconciliation import store
from quanhui.settlement.reconciliation.errors import (
    CaseMoved,
    NotStopped,
)
from quanhui.settlement.reconciliation.rules import (
    MAY_AGE,
    Case,
    CaseState,
    Class,
    Comparison,
    Outcome,
    differing,
    late_from,
)
from quanhui.settlement.reconciliation.store import NewCase

CASE_OPENED = "settlement.case_opened"
CASE_OVERDUE = "settlement.case_overdue"
PAYOUTS_STOPPED = "settlement.payouts_stopped"
BOOKS_DIFFER = "books_differ"


async def keep_bill(
    db: Db, channel: str, day: date, lines: Sequence[BillLine], *, now: datetime
) -> list[NewCase]:
    """Keep the bill of a day, each line once. A line that another copy has otherwise gets a case."""
    changed = await store.keep_bill(db, channel, day, lines, now=now)
    cases = [
        NewCase(id=new_id("rcc"), day=day, class_=Class.BILL_CHANGED, **dict(row))
        for row in (dict(each) | {"delta_fen": 0} for each in changed)
    ]
    return await _open(db, channel, cases, now=now)


async def reconcile(db: Db, channel: str, day: date, *, now: datetime) -> list[NewCase]:
    """Compare a channel's bills up to a Shanghai day with the books and our records; returns the new cases.

    Again is safe: a difference is found once. Cases that a later bill or posting explains are closed, and
    what they held in suspense is taken back.
    """
    await store.collect(db)
    await store.match_lines(db, channel, day)
    explained = await store.explain_cases(db, channel, now=now)
    await _release(db, channel, explained, event="difference_explained", now=now)
    overtaken = await store.overtake_late(db, channel, day)
    await ledger.post(db, [leg for row in overtaken for leg in _suspense(channel, row)], now=now)
    found = await store.find_differences(db, channel, day, late_from=late_from(day))
    cases = [msgspec.convert({**dict(row), "id": new_id("rcc")}, _Found).case() for row in found]
    opened = await _open(db, channel, cases, now=now)
    await store.mark_reconciled(db, channel, day, now=now)
    return opened


async def propose(
    db: Db, case_ids: Sequence[str], actor: Actor, outcome: Outcome, *, note: str, now: datetime
) -> list[Case]:
    """Say how cases should be closed; another person decides. Raises `NotFound` and `CaseMoved`."""
    await _lock(db, case_ids, CaseState.OPEN)
    await store.move_cases(
        db, case_ids, CaseState.PROPOSED, actor_id=actor.id, note=note, proposal=outcome, now=now
    )
    return list((await store.find_cases(db, case_ids)).values())


async def approve(db: Db, case_ids: Sequence[str], actor: Actor, *, note: str, now: datetime) -> list[Case]:
    """Close cases as proposed: what stands in suspense is taken back, or borne by the risk reserve.

    Raises `NotFound`, `CaseMoved`, and `SecondPersonNeeded` for one's own proposal.
    """
    cases = await _lock(db, case_ids, CaseState.PROPOSED)
    if any(case.proposed_by == actor.id for case in cases):
        raise SecondPersonNeeded
    for outcome in Outcome:
        ours = [case for case in cases if case.proposal is outcome]
        if not ours:
            continue
        suspended = [case for case in ours if case.suspended]
        if outcome is Outcome.CORRECTED:
            keys = [leg.key for case in suspended for leg in _suspense(case.channel, case)]
            await ledger.reverse(db, keys, event="difference_corrected", now=now)
        else:
            borne = [
                leg
                for case in suspended
                for leg in postings.difference_written_off(case.id, delta_fen=case.delta_fen)
            ]
            await ledger.post(db, borne, now=now)
        ids = [case.id for case in ours]
        await store.move_cases(db, ids, CaseState(outcome), actor_id=actor.id, note=note, now=now)
    await _audit(db, actor, "reconciliation.approve", case_ids, note, now=now)
    return list((await store.find_cases(db, case_ids)).values())


async def reject(db: Db, case_ids: Sequence[str], actor: Actor, *, note: str, now: datetime) -> list[Case]:
    """Send proposals back: the cases are open again. Raises as `approve`."""
    cases = await _lock(db, case_ids, CaseState.PROPOSED)
    if any(case.proposed_by == actor.id for case in cases):
        raise SecondPersonNeeded
    await store.move_cases(db, case_ids, CaseState.OPEN, actor_id=actor.id, note=note, now=now)
    return list((await store.find_cases(db, case_ids)).values())


async def alarm_overdue(db: Db, *, now: datetime) -> int:
    """Tell, once each, of cases that have aged out; returns how many. Run it hourly."""
    rows = await store.alarm_overdue(db, now=now)
    if rows:
        await emit(db, [Fact(CASE_OVERDUE, row["id"], dict(row)) for row in rows], now=now)
    return len(rows)


async def watch_books(db: Db, *, now: datetime) -> int:
    """Compare books and mirror in one snapshot, and stop payouts if they differ. Run it every minute.

    Also tells transfers to be due again that a stop held back which has been lifted. Returns how many sums
    differ.
    """
    wrong = differing(await store.compare_books(db))
    grave = [each for each in wrong if each.stops]
    if grave:
        facts = [msgspec.to_builtins(each) for each in grave]
        if await store.add_stop(db, actor_id=None, reason=BOOKS_DIFFER, facts=facts, now=now):
            await emit(
                db, [Fact(PAYOUTS_STOPPED, "payouts", {"reason": BOOKS_DIFFER, "sums": facts})], now=now
            )
    waiting = await store.resume(db, now=now)
    if waiting:
        await emit(db, [transfer_due(out_no) for out_no in waiting], now=now)
    return len(wrong)


async def compare_books(db: Db) -> list[Comparison]:
    """The sums of the books beside those of the mirror, in one snapshot."""
    return await store.compare_books(db)


async def stop_payouts(db: Db, actor: Actor, *, reason: str, now: datetime) -> bool:
    """Send no transfer from now on; whether payouts were not stopped before."""
    stopped = await store.add_stop(db, actor_id=actor.id, reason=reason, facts=[], now=now)
    if stopped:
        await _audit(db, actor, "settlement.stop", ["payouts"], reason, now=now)
        await emit(db, [Fact(PAYOUTS_STOPPED, "payouts", {"reason": reason, "sums": []})], now=now)
    return stopped


async def lift_stop(db: Db, actor: Actor, *, note: str, now: datetime) -> None:
    """Let payouts go on, with a reason for the audit trail. Raises `NotStopped`.

    What waited is told to be due by the next `watch_books`: it looks after this has been committed, so it
    sees whatever a sender passed over until then.
    """
    if await store.lift_stop(db, actor_id=actor.id, note=note, now=now) is None:
        raise NotStopped
    await _audit(db, actor, "settlement.lift_stop", ["payouts"], note, now=now)


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `find_differences`, with the id of the case to be."""

    id: str
    day: date
    class_: Class = msgspec.field(name="class")
    kind: str
    out_no: str
    bill_day: date | None
    bill_seq: int | None
    leg_id: int | None
    bill_fen: int | None
    booked_fen: int | None
    delta_fen: int

    def case(self) -> NewCase:
        return NewCase(**msgspec.structs.asdict(self))


async def _open(db: Db, channel: str, cases: Sequence[NewCase], *, now: datetime) -> list[NewCase]:
    if not cases:
        return []
    await store.add_cases(db, channel, cases, due_at=now + MAY_AGE, now=now)
    await ledger.post(
        db, [leg for case in cases if case.suspended for leg in _suspense(channel, case)], now=now
    )
    facts = [
        Fact(CASE_OPENED, case.id, {"channel": channel, "class": case.class_, "delta_fen": case.delta_fen})
        for case in cases
    ]
    await emit(db, facts, now=now)
    return list(cases)


async def _release(db: Db, channel: str, rows: Sequence[Row], *, event: str, now: datetime) -> None:
    keys = [leg.key for row in rows if row["suspended"] for leg in _suspense(channel, row)]
    await ledger.reverse(db, keys, event=event, now=now)


def _suspense(channel: str, case: Row | NewCase | Case) -> list[Transfer]:
    case_id, delta_fen = (
        (case.id, case.delta_fen) if isinstance(case, NewCase | Case) else (case["id"], case["delta_fen"])
    )
    return postings.difference_found(case_id, institution=channel, delta_fen=delta_fen)


async def _lock(db: Db, case_ids: Sequence[str], state: CaseState) -> list[Case]:
    found = await store.lock_cases(db, case_ids)
    if len(found) < len(set(case_ids)):
        raise NotFound
    moved = [case.id for case in found if case.state is not state]
    if moved:
        raise CaseMoved(cases=moved)
    return found


async def _audit(
    db: Db, actor: Actor, action: str, subjects: Sequence[str], reason: str, *, now: datetime
) -> None:
    entries = [
        staff.AuditEntry(actor_id=actor.id, action=action, subject=subject, reason=reason)
        for subject in subjects
    ]
    await staff.audit(db, entries, now=now)
