"""What the institution reports: heard in any order, as often as it likes, with the same end."""

from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from quanhui import ledger
from quanhui.base.db import Db
from quanhui.base.outbox import Fact, emit
from quanhui.ledger import InsufficientBalance, Transfer, postings
from quanhui.settlement import store
from quanhui.settlement.actions import PAYOUT_SUCCEEDED, fact_of, payout_failed, record_success, transfer_due
from quanhui.settlement.gateway import InstitutionEvent, TransferReport, TransferState
from quanhui.settlement.rules import (
    CUSTODIAN,
    Attempt,
    Effect,
    Flag,
    Handling,
    Heard,
    Payout,
    State,
    hear,
)

PAYOUT_RETURNED = "settlement.payout_returned"
PAYOUT_FLAGGED = "settlement.payout_flagged"
PAYMENT_REPORTED = "settlement.payment_reported"
REFUND_REPORTED = "settlement.refund_reported"
TRANSFER_UNRECOGNISED = "settlement.transfer_unrecognised"


class _Session:
    """What a set of reports has changed so far, and what follows from it."""

    def __init__(self, found: Sequence[tuple[Payout, Attempt]]) -> None:
        self.before = {payout.id: payout for payout, _ in found}
        self.payouts = dict(self.before)
        self.attempts_before = {attempt.out_no: attempt for _, attempt in found}
        self.attempts = dict(self.attempts_before)
        self.steps: list[tuple[str, State, int, str | None]] = []
        self.transfers: list[Transfer] = []
        self.facts: list[Fact] = []
        self.succeeded: dict[str, Payout] = {}

    def take(self, heard: Heard) -> None:
        payout, attempt = heard.payout, heard.attempt
        known = self.payouts[payout.id]
        if Effect.CONFIRMED in heard.effects or Effect.PAID_AFTER_ALL in heard.effects:
            self.steps.append((payout.id, State.SUCCEEDED, attempt.number, None))
        if payout.state is not known.state and payout.state is not State.SUCCEEDED:
            self.steps.append((payout.id, payout.state, attempt.number, attempt.reason))
        if payout.flag is not known.flag:
            self.facts.append(fact_of(PAYOUT_FLAGGED, payout, flag=payout.flag))
        self.payouts[payout.id] = payout
        self.attempts[attempt.out_no] = attempt
        for effect in heard.effects:
            self._follow(effect, payout, attempt)

    def _follow(self, effect: Effect, payout: Payout, attempt: Attempt) -> None:
        out_no, seller_id, amount_fen = attempt.out_no, payout.seller_id, payout.amount_fen
        if effect is Effect.SEND_AGAIN:
            self.facts.append(transfer_due(out_no))
        elif effect is Effect.FAILED:
            self.transfers += postings.payout_failed(out_no, customer_id=seller_id, amount_fen=amount_fen)
            self.facts.append(payout_failed(payout, will_retry=payout.retry_at is not None))
        elif effect is Effect.RETURNED:
            if payout.flag is not Flag.PAID_NOT_OWED:
                self.transfers += postings.payout_returned(
                    out_no, institution=_channel_of(attempt), customer_id=seller_id, amount_fen=amount_fen
                )
            self.facts.append(fact_of(PAYOUT_RETURNED, payout, reason=payout.failure))
        else:
            if effect is Effect.CONFIRMED:
                self.transfers += _confirmed(out_no, payout, attempt)
            self.succeeded[payout.id] = payout
            self.facts.append(fact_of(PAYOUT_SUCCEEDED, payout))


async def record_reports(
    db: Db, reports: Sequence[TransferReport], *, channel: str | None, now: datetime
) -> None:
    """Take in reports about transfers, one after another, as a channel sent them (None: never sent to any).

    A report that says nothing new changes nothing; one that contradicts what is known, or names another
    amount, puts a flag on the payout and is told as `settlement.payout_flagged`; one about a number that is
    not ours, or was not sent through this channel, as `settlement.transfer_unrecognised`.
    """
    if not reports:
        return
    found = await store.lock_attempts(db, sorted({report.out_no for report in reports}))
    session = _Session(found)
    handling = await _handling(db, reports)
    for report in reports:
        attempt = session.attempts.get(report.out_no)
        if attempt is None or attempt.channel != channel:
            session.facts.append(_unrecognised(report))
            continue
        heard = hear(session.payouts[attempt.payout_id], attempt, report, handling, now=now)
        if Effect.PAID_AFTER_ALL in heard.effects:
            heard = await _pay_after_all(db, session, heard, now=now)
        session.take(heard)
    await _write(db, session, now=now)


async def take_events(
    db: Db, events: Sequence[InstitutionEvent], *, channel: str = CUSTODIAN, now: datetime
) -> int:
    """Take in what a callback of a channel tells, each event once; returns how many were new.

    Transfers are recorded here; payments and refunds become `settlement.payment_reported` and
    `settlement.refund_reported`, for whoever collects from buyers.
    """
    ids = {f"{channel}:{event.id}": event for event in events}
    fresh = await store.accept_notifications(db, list(ids), now=now)
    new = [event for id_, event in ids.items() if id_ in fresh]
    reports, facts = [], []
    for event in new:
        about, _, state = event.kind.partition(".")
        if about == "transfer":
            reports.append(
                TransferReport(
                    out_no=event.out_no,
                    state=TransferState(state),
                    reason=event.reason,
                    amount_fen=event.amount_fen,
                )
            )
            continue
        payload = {"out_no": event.out_no, "state": state, "amount_fen": event.amount_fen}
        topic = PAYMENT_REPORTED if about == "payment" else REFUND_REPORTED
        facts.append(Fact(topic, event.out_no, payload))
    await record_reports(db, reports, channel=channel, now=now)
    if facts:
        await emit(db, facts, now=now)
    return len(new)


async def _write(db: Db, session: _Session, *, now: datetime) -> None:
    changed = [payout for id_, payout in session.payouts.items() if payout != session.before[id_]]
    attempts = [attempt for no, attempt in session.attempts.items() if attempt != session.attempts_before[no]]
    if changed or attempts:
        await store.store_heard(db, changed, attempts, session.steps, now=now)
    await ledger.post(db, session.transfers, now=now)
    await record_success(db, list(session.succeeded.values()), now=now)
    if session.facts:
        await emit(db, session.facts, now=now)


async def _pay_after_all(db: Db, session: _Session, heard: Heard, *, now: datetime) -> Heard:
    """The money is gone although we had given it back to the seller's account: take it from there again.

    If it is no longer there, nothing is posted, and the flag says that someone must collect it.
    """
    payout, late = heard.payout, f"{heard.attempt.out_no}-late"
    sent = postings.payout_sent(late, customer_id=payout.seller_id, amount_fen=payout.amount_fen)
    try:
        await ledger.post(db, [*session.transfers, *sent, *_confirmed(late, payout, heard.attempt)], now=now)
    except InsufficientBalance:
        flagged = msgspec.structs.replace(payout, flag=Flag.PAID_NOT_OWED)
        return Heard(flagged, heard.attempt, heard.effects)
    return heard


def _confirmed(subject: str, payout: Payout, attempt: Attempt) -> list[Transfer]:
    return postings.payout_confirmed(
        subject,
        institution=_channel_of(attempt),
        amount_fen=payout.amount_fen,
        channel_cost_fen=attempt.cost_fen,
    )


def _channel_of(attempt: Attempt) -> str:
    """Where the money of a transfer was held: only what was sent somewhere can have been paid."""
    assert attempt.channel is not None
    return attempt.channel


async def _handling(db: Db, reports: Sequence[TransferReport]) -> Mapping[str, Handling]:
    reasons = {report.reason for report in reports if report.state is TransferState.FAILED and report.reason}
    return await store.handling_of(db, sorted(reasons)) if reasons else {}


def _unrecognised(report: TransferReport) -> Fact:
    payload = {"out_no": report.out_no, "state": report.state, "amount_fen": report.amount_fen}
    return Fact(TRANSFER_UNRECOGNISED, report.out_no, payload)
