"""What a transfer and a balance are. All amounts are fen; a balance is credits minus debits."""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from quanhui.base.states import machine


class Book(StrEnum):
    """Whose money: the institution's custody for clients, or the platform's own. They meet in clearing."""

    CLIENT = "client"
    PLATFORM = "platform"


class Kind(StrEnum):
    """How a balance is kept: guarded under a lock and above a floor, or deferred until it is folded."""

    GUARDED = "guarded"
    DEFERRED = "deferred"


class Status(StrEnum):
    """What became of a transfer asked for; the last three write nothing of the whole batch."""

    POSTED = "posted"
    DUPLICATE = "duplicate"
    KEY_CONFLICT = "key_conflict"
    INSUFFICIENT = "insufficient"
    WITHHELD = "withheld"


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """Money to move from `src` (debited) to `dst` (credited), two accounts of one book.

    `key` makes it happen once and starts with `subject`, the id of what it is about, and a colon.
    `event_at` is when it happened; without one, the `now` of the posting.
    """

    key: str
    src: str
    dst: str
    amount_fen: int
    event: str
    subject: str
    event_at: datetime | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of one transfer: `posted`, or `duplicate` when it had been posted before."""

    key: str
    status: Status


class HoldState(StrEnum):
    """Where money set aside is: still there, paid onwards to the last fen, or given back (what was left)."""

    HELD = "held"
    CAPTURED = "captured"
    RELEASED = "released"


class HoldStatus(StrEnum):
    """What became of a hold or a release asked for; all but the first three write nothing of the set."""

    HELD = "held"
    RELEASED = "released"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    ENDED = "ended"


class HoldAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Money to set aside on a guarded account. `key` is as in `Transfer`."""

    key: str
    account: str
    amount_fen: int
    subject: str


class HoldOutcome(msgspec.Struct, frozen=True):
    """What became of one hold: `held` or `released`, or `duplicate` when that had been done before."""

    key: str
    status: HoldStatus


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer to `dst` out of the hold with the key `hold`; `key` is as in `Transfer`."""

    hold: str
    key: str
    dst: str
    amount_fen: int
    event: str
    subject: str
    event_at: datetime | None = None


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """Money set aside. Left of it is `amount_fen - captured_fen - released_fen`."""

    key: str
    account: str
    subject: str
    amount_fen: int
    captured_fen: int
    released_fen: int
    state: HoldState
    created_at: datetime


class PeriodLength(StrEnum):
    """What can be closed: a day or a month of Shanghai."""

    DAY = "day"
    MONTH = "month"


class PeriodState(StrEnum):
    """Whether a period takes no transfers, somebody asked to open it again, or a second person did."""

    CLOSED = "closed"
    REOPENING = "reopening"
    REOPENED = "reopened"


HOLD = machine("hold", HoldState, {HoldState.HELD: [HoldState.CAPTURED, HoldState.RELEASED]})
PERIOD = machine(
    "period",
    PeriodState,
    {
        PeriodState.CLOSED: [PeriodState.REOPENING],
        PeriodState.REOPENING: [PeriodState.REOPENED, PeriodState.CLOSED],
    },
)
MACHINES = (HOLD, PERIOD)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A day or month that was closed, and all before it. `ends_at` is its last midnight in Shanghai."""

    id: str
    length: PeriodLength
    first_day: date
    ends_at: datetime
    state: PeriodState
    closed_by: str
    closed_at: datetime
    reopen_asked_by: str | None
    reopen_reason: str | None
    reopened_by: str | None
    reopened_at: datetime | None


class FoldLag(msgspec.Struct, frozen=True, kw_only=True):
    """How far the rows of deferred accounts are behind. Balances that are read are exact regardless."""

    transfers: int
    oldest_s: int
    same_cluster: bool
    alarm: bool


LAG_ALARM_S = 60
LAG_ALARM_TRANSFERS = 200_000


def fold_lag_of(*, transfers: int, oldest_s: int, same_cluster: bool) -> FoldLag:
    """Ring the alarm when reading balances becomes slow, folding has stopped, or must not be done here."""
    behind = oldest_s > LAG_ALARM_S or transfers > LAG_ALARM_TRANSFERS
    return FoldLag(
        transfers=transfers, oldest_s=oldest_s, same_cluster=same_cluster, alarm=behind or not same_cluster
    )


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    """An account and its exact balance. `held_fen` is set aside within it; `floor_fen` null is no guard."""

    id: int
    code: str
    book: Book
    kind: Kind
    floor_fen: int | None
    balance_fen: int
    held_fen: int
    version: int


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """A transfer as it stands in the ledger; `reverses` is the id of the one it takes back."""

    id: int
    key: str
    src: str
    dst: str
    amount_fen: int
    event: str
    subject: str
    reverses: int | None
    event_at: datetime
    created_at: datetime


class TrialLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the chart: how many accounts it has and what they sum to."""

    prefix: str
    book: Book
    meaning_zh: str
    meaning_en: str
    accounts: int
    balance_fen: int


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every line of the chart in one snapshot. In order, each of the four sums is exactly 0.

    Of a past instant `as_of` says which; `final` whether no open transaction can add to it any more.
    """

    lines: list[TrialLine]
    client_fen: int
    platform_fen: int
    total_fen: int
    clearing_fen: int
    as_of: datetime | None = None
    final: bool | None = None


CLIENT_CLEARING = "client:clearing"
PLATFORM_CLEARING = "platform:clearing"


def trial_balance_of(
    lines: list[TrialLine], *, as_of: datetime | None = None, final: bool | None = None
) -> TrialBalance:
    """Add the lines up: each book, both, and the two clearing accounts that mirror each other."""
    client_fen = sum(line.balance_fen for line in lines if line.book is Book.CLIENT)
    platform_fen = sum(line.balance_fen for line in lines if line.book is Book.PLATFORM)
    clearing = (CLIENT_CLEARING, PLATFORM_CLEARING)
    return TrialBalance(
        lines=lines,
        client_fen=client_fen,
        platform_fen=platform_fen,
        total_fen=client_fen + platform_fen,
        clearing_fen=sum(line.balance_fen for line in lines if line.prefix in clearing),
        as_of=as_of,
        final=final,
    )
