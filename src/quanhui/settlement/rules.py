"""What a payout is, and what each word of the institution means for it. Pure.

The states of an attempt are ordered by how much they say. A report that says no more than is known changes
nothing, so reports may come twice, late or in any order and lead to the same end. A report that
contradicts what is known, or names another amount, raises a flag for a person.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.states import machine
from quanhui.settlement.gateway import TransferReport, TransferState
from quanhui.settlement.reconciliation.rules import CASE

MOST_AUTOMATIC_ATTEMPTS: Final = 3
FIRST_RETRY_AFTER: Final = timedelta(minutes=1)
CALL_LIMIT: Final = timedelta(seconds=60)
"""No call lasts as long: who is still calling after it has died, and the transfer is asked about."""
PAYEE_MAY_WAIT: Final = timedelta(hours=24)
MOST_SENDS: Final = 6
"""So often one number is sent, the institution never having heard of it, before a person looks."""
PURPOSE: Final = "购物券回收款"
CUSTODIAN: Final = "institution"
"""The channel there has always been, and what the ledger calls the institution behind it."""


class Method(StrEnum):
    """How a seller is paid 出款方式."""

    CASH = "cash"
    STORED_VALUE = "stored_value"
    GOODS = "goods"


class State(StrEnum):
    """Where a payout 出款 stands."""

    CREATED = "created"
    HELD = "held"
    APPROVED = "approved"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    AWAITING_PAYEE = "awaiting_payee"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RETURNED = "returned"


class AttemptState(StrEnum):
    """What is known of one transfer, in the order of how much it says.

    `new`: not called yet; `calling`: a worker is at it, or died at it.
    """

    NEW = "new"
    CALLING = "calling"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    AWAITING_PAYEE = "awaiting_payee"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    RETURNED = "returned"


RANK: Final = {state: rank for rank, state in enumerate(AttemptState)}

# Success may follow failure because an institution may pay after all, for example after we closed the
# transfer; a return may overtake the news of the success before it.
_ENDS = (State.SUCCEEDED, State.FAILED, State.EXPIRED, State.RETURNED)
PAYOUT = machine(
    "payout",
    State,
    {
        State.CREATED: [State.HELD, State.APPROVED],
        State.HELD: [State.APPROVED, State.CANCELLED],
        State.APPROVED: [State.SUBMITTED, State.AWAITING_PAYEE, State.SUCCEEDED],
        State.SUBMITTED: [State.UNKNOWN, State.AWAITING_PAYEE, State.CANCELLED, *_ENDS],
        State.UNKNOWN: [State.SUBMITTED, State.AWAITING_PAYEE, *_ENDS],
        State.AWAITING_PAYEE: [State.CANCELLED, *_ENDS],
        State.FAILED: [State.HELD, State.SUBMITTED, State.SUCCEEDED, State.RETURNED],
        State.EXPIRED: [State.HELD, State.SUBMITTED, State.SUCCEEDED, State.RETURNED],
        State.CANCELLED: [State.HELD, State.SUBMITTED, State.SUCCEEDED, State.RETURNED],
        State.SUCCEEDED: [State.RETURNED],
        State.RETURNED: [State.HELD, State.SUBMITTED],
    },
)
ATTEMPT = machine(
    "transfer_attempt",
    AttemptState,
    {
        before: [after for after in AttemptState if RANK[after] > RANK[before]]
        + ([AttemptState.NEW] if before in (AttemptState.CALLING, AttemptState.UNKNOWN) else [])
        for before in AttemptState
    },
)
MACHINES = (PAYOUT, ATTEMPT, CASE)


class Hold(StrEnum):
    """Why a payout waits for a person. Risk control gives reasons of its own besides."""

    SELLER_SUSPENDED = "seller_suspended"
    PAYEE_UNVERIFIED = "payee_unverified"
    VOUCHER_FROZEN = "voucher_frozen"
    TITLE_NOT_TAKEN = "title_not_taken"
    ABOVE_LIMIT = "above_limit"
    SECOND_APPROVAL = "second_approval"
    PAYEE_CHANGED = "payee_changed"
    RETRY_ASKED_FOR = "retry_asked_for"
    PLATFORM_DAY_LIMIT = "platform_day_limit"
    PAYEE_DAY_LIMIT = "payee_day_limit"
    NOT_OWED = "not_owed"
    STORED_VALUE_LIMIT = "stored_value_limit"


class Flag(StrEnum):
    """What is wrong with what the institution said, the graver the later. Nothing goes out under a flag."""

    NOT_ACCEPTED = "not_accepted"
    """Sent again and again, and the institution does not know of it."""
    CONTRADICTION = "contradiction"
    """Both failed and succeeded, of one transfer."""
    AMOUNT_MISMATCH = "amount_mismatch"
    PAID_AFTER_RETRY = "paid_after_retry"
    """A transfer that had failed succeeded after the next one was begun."""
    PAID_NOT_OWED = "paid_not_owed"
    """It succeeded after all when the seller was owed nothing any more."""


CLEARABLE: Final = frozenset({Flag.NOT_ACCEPTED, Flag.CONTRADICTION, Flag.AMOUNT_MISMATCH})
GRAVITY: Final = {flag: gravity for gravity, flag in enumerate(Flag)}


class Handling(StrEnum):
    """What a reason for failure calls for."""

    RETRY = "retry"
    ASK = "ask"
    EXPIRED = "expired"


class Secured(msgspec.Struct, frozen=True, kw_only=True):
    """What the fact `buyback.secured` tells: vouchers are ours, and a seller is owed for them."""

    order_id: str
    seller_id: str
    payee_id: str | None
    method: Method
    net_fen: int
    store_id: str | None
    voucher_ids: list[str]
    hold_reason: str | None


class Payout(msgspec.Struct, frozen=True, kw_only=True):
    """One payout 出款. `attempts` counts its transfers; `payee_id` is the account of the seller to pay to.

    `waiting` says why its transfer has not been sent yet, where no channel could take it. `changed_by` made a
    large payout what it is, by another account or a retry; `approvals` are those who looked since then.
    `cancelled_by` wants it cancelled, which it is as soon as its channel has closed the transfer.
    """

    id: str
    order_id: str
    seller_id: str
    payee_id: str | None
    method: Method
    amount_fen: int
    state: State
    store_id: str | None
    voucher_ids: list[str]
    attempts: int = 0
    hold_reason: str | None = None
    failure: str | None = None
    flag: Flag | None = None
    retry_at: datetime | None = None
    approved_by: str | None = None
    waiting: str | None = None
    changed_by: str | None = None
    approvals: tuple[str, ...] = ()
    cancelled_by: str | None = None
    created_at: datetime
    updated_at: datetime


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer of a payout, known to the institution as `out_no`.

    `sends` counts how often it was sent under this number; `closing` says that we asked the institution to
    close it; `next_query_at` is when to ask how it stands. `channel` is where it was sent, and stays.
    """

    out_no: str
    payout_id: str
    number: int
    state: AttemptState
    reason: str | None = None
    institution_no: str | None = None
    sends: int = 0
    closing: bool = False
    next_query_at: datetime | None = None
    channel: str | None = None
    cost_fen: int = 0


class TimelineEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a payout. `number` is the transfer it was about, if any."""

    at: datetime
    state: State
    number: int | None
    reason: str | None


class Effect(StrEnum):
    """What a report entails beside the new state."""

    CONFIRMED = "confirmed"
    PAID_AFTER_ALL = "paid_after_all"
    FAILED = "failed"
    RETURNED = "returned"
    SEND_AGAIN = "send_again"


class Heard(msgspec.Struct, frozen=True):
    """A payout and its transfer after a report, and what follows."""

    payout: Payout
    attempt: Attempt
    effects: tuple[Effect, ...] = ()


def out_no_of(payout_id: str, number: int) -> str:
    """The number a transfer is sent under: 28 letters and digits, fixed by payout and attempt."""
    return f"{payout_id.removeprefix('pot_')}{number:02d}"


def state_once_approved(method: Method) -> State:
    """Cash is on its way to the institution, goods wait at the desk, stored value is there at once."""
    if method is Method.CASH:
        return State.SUBMITTED
    return State.AWAITING_PAYEE if method is Method.GOODS else State.SUCCEEDED


def hear(
    payout: Payout,
    attempt: Attempt,
    report: TransferReport,
    handling: Mapping[str, Handling],
    *,
    now: datetime,
) -> Heard:
    """What a report of the institution about a transfer changes. `handling` is by reason for failure."""
    if report.state is TransferState.NOT_FOUND:
        return _not_found(payout, attempt)
    if report.amount_fen is not None and report.amount_fen != payout.amount_fen:
        return Heard(_flagged(payout, Flag.AMOUNT_MISMATCH), attempt)
    said, known = AttemptState(report.state), attempt.state
    if RANK[said] <= RANK[known]:
        contradicts = said is AttemptState.FAILED and known is not said
        return Heard(_flagged(payout, Flag.CONTRADICTION) if contradicts else payout, attempt)
    if attempt.number < payout.attempts:
        return Heard(_flagged(payout, Flag.PAID_AFTER_RETRY), attempt)
    after = msgspec.structs.replace(
        attempt,
        state=said,
        reason=report.reason,
        institution_no=report.institution_no or attempt.institution_no,
        next_query_at=_first_query_at(said, attempt.sends, now),
    )
    return _learned(payout, known, after, handling, now=now)


def _learned(
    payout: Payout, known: AttemptState, after: Attempt, handling: Mapping[str, Handling], *, now: datetime
) -> Heard:
    """The latest transfer of a payout has come from what was known to a state that says more."""
    if after.state in (AttemptState.SUCCEEDED, AttemptState.RETURNED):
        return _paid(payout, known, after)
    if after.state is AttemptState.FAILED:
        return Heard(_failed(payout, after, handling, now=now), after, (Effect.FAILED,))
    state = State.SUBMITTED if after.state is AttemptState.ACCEPTED else State(after.state)
    return Heard(msgspec.structs.replace(payout, state=state), after)


def _not_found(payout: Payout, attempt: Attempt) -> Heard:
    """The institution has never heard of it: the same number may be sent once more, but not for ever."""
    if attempt.state not in (AttemptState.CALLING, AttemptState.UNKNOWN):
        return Heard(payout, attempt)
    payout = msgspec.structs.replace(payout, state=State.SUBMITTED)
    attempt = msgspec.structs.replace(attempt, state=AttemptState.NEW, next_query_at=None)
    if attempt.sends >= MOST_SENDS:
        return Heard(_flagged(payout, Flag.NOT_ACCEPTED), attempt)
    return Heard(payout, attempt, (Effect.SEND_AGAIN,))


def _paid(payout: Payout, known: AttemptState, after: Attempt) -> Heard:
    effects: list[Effect] = []
    if known is AttemptState.FAILED:
        payout = _flagged(payout, Flag.CONTRADICTION)
        effects.append(Effect.PAID_AFTER_ALL)
    elif known is not AttemptState.SUCCEEDED:
        effects.append(Effect.CONFIRMED)
    if after.state is AttemptState.RETURNED:
        effects.append(Effect.RETURNED)
    state = State(after.state)
    failure = after.reason if state is State.RETURNED else None
    paid = msgspec.structs.replace(payout, state=state, failure=failure, retry_at=None)
    return Heard(paid, after, tuple(effects))


def _failed(payout: Payout, after: Attempt, handling: Mapping[str, Handling], *, now: datetime) -> Payout:
    reason = after.reason or "unspecified"
    calls_for = handling.get(reason, Handling.ASK)
    expired = after.closing or calls_for is Handling.EXPIRED
    ended = State.EXPIRED if expired else State.FAILED
    again = calls_for is Handling.RETRY and not expired and after.number < MOST_AUTOMATIC_ATTEMPTS
    return msgspec.structs.replace(
        payout,
        state=State.CANCELLED if after.closing and payout.cancelled_by else ended,
        failure=reason,
        retry_at=now + FIRST_RETRY_AFTER * 5 ** (after.number - 1) if again else None,
    )


def _flagged(payout: Payout, flag: Flag) -> Payout:
    if payout.flag is not None and GRAVITY[payout.flag] >= GRAVITY[flag]:
        return payout
    return msgspec.structs.replace(payout, flag=flag)


def _first_query_at(state: AttemptState, sends: int, now: datetime) -> datetime | None:
    """When to ask, if no callback tells before: soon where nothing is known, later where all is well."""
    if state is AttemptState.UNKNOWN:
        return now + timedelta(seconds=2 * 4 ** min(sends - 1, MOST_SENDS))
    waits = {AttemptState.ACCEPTED: timedelta(seconds=30), AttemptState.AWAITING_PAYEE: timedelta(minutes=1)}
    return now + waits[state] if state in waits else None
