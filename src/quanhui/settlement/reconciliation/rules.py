"""What a difference and a case are, and which bills are due. Pure."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from quanhui.base.clock import SHANGHAI, local_day
from quanhui.base.states import machine

BILL_READY_AT: Final = time(10)
"""Shanghai time at which channels have the bill of the day before."""
DAYS_LOOKED_BACK: Final = 7
LATE_WINDOW: Final = timedelta(hours=1)
"""What was booked so shortly before midnight may stand in the bill of the next day."""
MAY_AGE: Final = timedelta(days=3)
"""So long may a case stay open before the alarm."""


class Class(StrEnum):
    """Classes of differences 差错类型."""

    MISSING_IN_BILL = "missing_in_bill"
    """Booked and recorded as moved; the bill does not have it."""
    MISSING_IN_BOOKS = "missing_in_books"
    """The bill has it; the books do not."""
    AMOUNT_DIFFERS = "amount_differs"
    STATE_DIFFERS = "state_differs"
    """The bill says that it moved; our record says that it did not."""
    DUPLICATE_IN_BILL = "duplicate_in_bill"
    POSTED_NOT_IN_BILL = "posted_not_in_bill"
    """Booked, although neither the bill nor our record says that it moved."""
    LATE = "late"
    """Booked shortly before midnight: the next bill should have it."""
    BILL_CHANGED = "bill_changed"
    """A line was different when the bill was fetched again."""


class CaseState(StrEnum):
    """Where a case stands."""

    OPEN = "open"
    PROPOSED = "proposed"
    EXPLAINED = "explained"
    CORRECTED = "corrected"
    WRITTEN_OFF = "written_off"


CASE = machine(
    "reconciliation_case",
    CaseState,
    {
        CaseState.OPEN: [CaseState.PROPOSED, CaseState.EXPLAINED],
        CaseState.PROPOSED: [
            CaseState.OPEN,
            CaseState.EXPLAINED,
            CaseState.CORRECTED,
            CaseState.WRITTEN_OFF,
        ],
    },
)


class Outcome(StrEnum):
    """How people close a case: what was wrong has been put right elsewhere, or its amount is borne."""

    CORRECTED = "corrected"
    WRITTEN_OFF = "written_off"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A difference 差错. `delta_fen` is what the channel holds more (or less) than the books say."""

    id: str
    channel: str
    day: date
    class_: Class = msgspec.field(name="class")
    state: CaseState
    kind: str
    out_no: str
    bill_day: date | None
    bill_seq: int | None
    leg_id: int | None
    bill_fen: int | None
    booked_fen: int | None
    delta_fen: int
    suspended: bool
    proposal: Outcome | None
    proposed_by: str | None
    decided_by: str | None
    found_at: datetime
    due_at: datetime
    alarmed_at: datetime | None
    closed_at: datetime | None


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """The bill of a channel for a day, and how the comparison stands."""

    channel: str
    day: date
    fetched_at: datetime
    reconciled_at: datetime | None
    lines: int
    in_fen: int
    out_fen: int
    matched: int
    cases: int
    open_cases: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One sum of the books beside the same sum of the mirror."""

    name: str
    channel: str | None
    books_fen: int
    mirror_fen: int
    stops: bool


def due_days(now: datetime, known: Sequence[date]) -> list[date]:
    """Days whose bill is ready and not yet here, oldest first, a week back at most."""
    local = now.astimezone(SHANGHAI)
    ready = local_day(now) - timedelta(days=1 if local.time() >= BILL_READY_AT else 2)
    days = [ready - timedelta(days=back) for back in reversed(range(DAYS_LOOKED_BACK))]
    return [day for day in days if day not in set(known)]


def late_from(day: date) -> datetime:
    """The instant of a Shanghai day from which what was booked may stand in the next bill."""
    return datetime.combine(day + timedelta(days=1), time.min, SHANGHAI) - LATE_WINDOW


def differing(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """What does not agree."""
    return [each for each in comparisons if each.books_fen != each.mirror_fen]
