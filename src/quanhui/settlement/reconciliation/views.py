"""What people see of differences: the bill, our record and the books side by side."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from quanhui.base.access import Actor
from quanhui.base.db import Db, Row
from quanhui.ledger import Posting
from quanhui.settlement import store as payouts
from quanhui.settlement.reconciliation import store
from quanhui.settlement.reconciliation.rules import Case, CaseState, Class, Outcome
from quanhui.settlement.store import Words
from quanhui.settlement.views import PayoutDetail, view_detail

CLASS_WORDS: Mapping[Class, Words] = {
    Class.MISSING_IN_BILL: Words("账单缺失", "Booked, but not in the bill"),
    Class.MISSING_IN_BOOKS: Words("账单多出", "In the bill, but not booked"),
    Class.AMOUNT_DIFFERS: Words("金额不符", "Another amount in the bill"),
    Class.STATE_DIFFERS: Words("状态不符", "The bill says it moved, our record says it did not"),
    Class.DUPLICATE_IN_BILL: Words("账单重复", "Twice in the bill"),
    Class.POSTED_NOT_IN_BILL: Words("无据入账", "Booked, but nothing says that it moved"),
    Class.LATE: Words("跨日待核", "Booked before midnight, expected in the next bill"),
    Class.BILL_CHANGED: Words("账单变更", "The bill changed after it was fetched"),
}
View = TypeVar("View")
CLOSED = (CaseState.EXPLAINED, CaseState.CORRECTED, CaseState.WRITTEN_OFF)


class CaseView(Struct, frozen=True, kw_only=True):
    """A difference 差错."""

    id: Annotated[str, Meta(examples=["rcc_01jd8x9k2mf3wvq5t7y1h4n6pz"])]
    channel: Annotated[str, Meta(examples=["institution"])]
    day: date
    class_: Class = msgspec.field(name="class")
    class_zh: Annotated[str, Meta(examples=["金额不符"])]
    class_en: str
    state: CaseState
    kind: Annotated[str, Meta(description="Transfer, return, payment or refund.")]
    out_no: Annotated[str, Meta(description="Our number, as the channel knows it.")]
    bill_fen: Annotated[int | None, Meta(description="What the bill says, in whole fen.")]
    booked_fen: Annotated[int | None, Meta(description="What the books say, in whole fen.")]
    delta_fen: Annotated[int, Meta(description="What the channel holds more than the books say.")]
    suspended: Annotated[bool, Meta(description="Whether it stands in suspense.")]
    proposal: Outcome | None
    proposed_by: str | None
    decided_by: str | None
    found_at: datetime
    due_at: datetime
    overdue: bool
    closed_at: datetime | None


class CaseStepView(Struct, frozen=True):
    """One thing that happened to a case."""

    at: datetime
    state: CaseState
    actor_id: str | None
    note: str | None


class LineView(Struct, frozen=True, kw_only=True):
    """A line of the bill."""

    day: date
    seq: int
    kind: str
    out_no: str
    institution_no: str
    amount_fen: int
    at: datetime
    matched: bool


class RecordView(Struct, frozen=True, kw_only=True):
    """What our own records say."""

    kind: str
    amount_fen: int
    state: str
    moved: bool


class LegView(Struct, frozen=True, kw_only=True):
    """A leg of custody in the books, and the day of the bill that has it."""

    id: int
    kind: str
    amount_fen: int
    booked_at: datetime
    bill_day: date | None


class ProofView(Struct, frozen=True, kw_only=True):
    """A difference with everything that is known of it."""

    case: CaseView
    steps: list[CaseStepView]
    bill: list[LineView]
    records: list[RecordView]
    legs: list[LegView]
    postings: list[Posting]
    payout: PayoutDetail | None


class StopView(Struct, frozen=True):
    """Payouts are stopped."""

    stopped_at: datetime
    stopped_by: Annotated[str | None, Meta(description="Null: the comparison of books and mirror.")]
    reason: Annotated[str, Meta(examples=["books_differ"])]
    facts: Annotated[list[dict[str, Any]], Meta(description="The sums that differed.")]


def view_case(case: Case, *, now: datetime) -> CaseView:
    """A case in words."""
    words = CLASS_WORDS[case.class_]
    shown = {name: getattr(case, name) for name in CaseView.__struct_fields__ if hasattr(case, name)}
    overdue = case.state not in CLOSED and case.due_at <= now
    return CaseView(**shown, class_zh=words.zh, class_en=words.en, overdue=overdue)


async def view_proof(
    db: Db, actor: Actor, case: Case, postings: Sequence[Posting], *, now: datetime
) -> ProofView:
    """A case, and side by side what the bill, our record and the books say of its number."""
    lines, legs, records, payout_id = await store.sides_of(db, case)
    found = await payouts.find_payouts(db, [payout_id] if payout_id else [])
    return ProofView(
        case=view_case(case, now=now),
        steps=_views(await store.case_steps(db, case.id), CaseStepView),
        bill=_views(lines, LineView),
        records=_views(records, RecordView),
        legs=_views(legs, LegView),
        postings=list(postings),
        payout=await view_detail(db, actor, found[payout_id]) if payout_id else None,
    )


def view_stop(row: Row | None) -> StopView | None:
    """The stop that holds payouts back, if there is one."""
    return None if row is None else msgspec.convert(dict(row), StopView)


def _views(rows: Sequence[Row], kind: type[View]) -> list[View]:
    return [msgspec.convert(dict(row), kind) for row in rows]
