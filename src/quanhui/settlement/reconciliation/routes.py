"""Reconciliation over HTTP: days, cases with their proof, decisions by two people, the stop of payouts."""

import csv
import io
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter, SkipValidation
from msgspec import Meta, Struct

from quanhui import ledger
from quanhui.base.access import Scope, needs
from quanhui.base.clock import local_day
from quanhui.base.db import Db
from quanhui.base.errors import MalformedRequest, NotFound, OutsideUnavailable
from quanhui.base.http import NoAnswer
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.ledger import Posting
from quanhui.settlement.reconciliation import actions, store
from quanhui.settlement.reconciliation.errors import BillNotReady, UnknownChannel
from quanhui.settlement.reconciliation.rules import Case, CaseState, Class, Comparison, Day, Outcome
from quanhui.settlement.reconciliation.views import (
    CaseView,
    ProofView,
    StopView,
    view_case,
    view_proof,
    view_stop,
)
from quanhui.settlement.tasks import Channels

EXPORT_LIMIT = 10_000
READ = needs("reconciliation.read", Scope.ALL)
DECIDE = needs("reconciliation.decide", Scope.ALL)
APPROVE = needs("reconciliation.approve", Scope.ALL)
STOP = needs("settlement.stop", Scope.ALL)
TAGS = ["reconciliation"]
DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
COLUMNS = (
    "id", "channel", "day", "class", "state", "kind", "out_no", "bill_fen", "booked_fen", "delta_fen",
    "found_at", "due_at", "closed_at",
)  # fmt: skip

Cursor = Annotated[str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
CaseId = Annotated[str, PathParameter(max_length=64, description="Case id.")]
Channel = Annotated[
    str | None, QueryParameter(max_length=64, description="Only of this channel, such as `institution`.")
]
InState = Annotated[CaseState | None, QueryParameter(name="state", description="Only cases in this state.")]
OfClass = Annotated[Class | None, QueryParameter(name="class", description="Only this class of difference.")]
OlderThan = Annotated[
    int | None, QueryParameter(ge=0, le=3650, description="Only cases found at least so many days ago.")
]


class Note(Struct, frozen=True, forbid_unknown_fields=True):
    """Why, for those who look later."""

    note: Annotated[str, Meta(min_length=4, max_length=200, examples=["已与机构核对"])]


class Proposal(Struct, frozen=True, forbid_unknown_fields=True):
    """How a case should be closed, and why."""

    outcome: Annotated[
        Outcome,
        Meta(
            description="`corrected`: it was put right elsewhere; `written_off`: it is borne.",
            examples=["corrected"],
        ),
    ]
    note: Annotated[str, Meta(min_length=4, max_length=200, examples=["机构已补记，核对无误"])]


class RunView(Struct, frozen=True):
    """A day was compared."""

    new_cases: Annotated[int, Meta(description="Differences that had not been found before.")]


class BooksView(Struct, frozen=True):
    """Books beside the mirror, and the stop, if payouts are stopped."""

    sums: list[Comparison]
    stop: StopView | None


@get("/reconciliation/days", opt=READ, operation_id="list_reconciliation_days", tags=TAGS)
async def list_days(
    call: NamedDependency[Call],
    channel: Channel = None,
    before: Annotated[
        str | None,
        QueryParameter(pattern=DAY, description="Only Shanghai days before this, as `2026-11-22`."),
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[list[Day]]:
    """List reconciled days 对账日

    The latest first: what the bill says, how many lines agree, and how many cases are open.
    """
    earliest = None if before is None else _day(before)
    return Response(
        await call.query(lambda db: store.list_days(db, channel=channel, before=earliest, limit=limit))
    )


@post(
    "/reconciliation/days/{channel:str}/{day:str}/run",
    opt=DECIDE,
    operation_id="run_reconciliation",
    tags=TAGS,
    status_code=200,
)
async def run_day(
    call: NamedDependency[Call],
    channels: NamedDependency[SkipValidation[Channels]],
    channel: Annotated[
        str,
        PathParameter(max_length=64, description="The channel, such as `institution`."),
    ],
    day: Annotated[str, PathParameter(pattern=DAY, description="Shanghai day, as `2026-11-22`.")],
) -> Response[RunView]:
    """Compare a day now 立即对账

    Fetches the bill again and compares it. A difference that is known stays what it is.
    """
    answered = await call.replay()
    if answered is not None:
        return answered
    if channel not in channels:
        raise UnknownChannel(channels=sorted(channels))
    wanted = _day(day)
    if wanted >= local_day(call.now):
        raise BillNotReady
    try:
        lines = await channels[channel].bill(wanted, now=call.now)
    except NoAnswer:
        raise OutsideUnavailable from None

    async def take(db: Db) -> RunView:
        changed = await actions.keep_bill(db, channel, wanted, lines, now=call.now)
        found = await actions.reconcile(db, channel, wanted, now=call.now)
        return RunView(len(changed) + len(found))

    return await call.command(take)


@get("/reconciliation/cases", opt=READ, operation_id="list_reconciliation_cases", tags=TAGS)
async def list_cases(
    call: NamedDependency[Call],
    in_state: InState = None,
    of_class: OfClass = None,
    channel: Channel = None,
    older_than_days: OlderThan = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[CaseView]]:
    """List differences 差错

    Newest first, with what each is worth and when it must be closed.
    """

    async def read(db: Db) -> Page[CaseView]:
        found = await store.list_cases(
            db,
            state=in_state,
            class_=of_class,
            channel=channel,
            found_before=None if older_than_days is None else call.now - timedelta(days=older_than_days),
            cursor=cursor,
            limit=limit + 1,
        )
        return page_of([view_case(case, now=call.now) for case in found], limit=limit)

    return Response(await call.query(read))


@get(
    "/reconciliation/cases/export",
    opt=READ,
    operation_id="export_reconciliation_cases",
    tags=TAGS,
    media_type="text/csv",
)
async def export_cases(
    call: NamedDependency[Call],
    in_state: InState = None,
    of_class: OfClass = None,
    channel: Channel = None,
    older_than_days: OlderThan = None,
) -> Response[str]:
    """Export differences as CSV 导出差错

    With the filters of the list; the newest 10,000.
    """
    found = await call.query(
        lambda db: store.list_cases(
            db,
            state=in_state,
            class_=of_class,
            channel=channel,
            found_before=None if older_than_days is None else call.now - timedelta(days=older_than_days),
            limit=EXPORT_LIMIT,
        )
    )
    headers = {"content-disposition": 'attachment; filename="reconciliation-cases.csv"'}
    return Response(csv_of(found), media_type="text/csv; charset=utf-8", headers=headers)


@get("/reconciliation/cases/{case_id:str}", opt=READ, operation_id="get_reconciliation_case", tags=TAGS)
async def get_case(call: NamedDependency[Call], case_id: CaseId) -> Response[ProofView]:
    """Show a difference with its proof 差错证明

    The lines of the bill, our own record with the payout's timeline, and the postings, side by side.
    """

    async def read(db: Db) -> ProofView:
        case = (await store.find_cases(db, [case_id])).get(case_id)
        if case is None:
            raise NotFound
        return await view_proof(db, call.actor, case, await _postings_about(db, case), now=call.now)

    return Response(await call.query(read))


@post(
    "/reconciliation/cases/{case_id:str}/propose",
    opt=DECIDE,
    operation_id="propose_reconciliation_case",
    tags=TAGS,
    status_code=200,
)
async def propose_case(
    call: NamedDependency[Call], case_id: CaseId, data: JSONBody[Proposal]
) -> Response[CaseView]:
    """Propose how to close a case 提出处理意见

    `corrected` takes what stands in suspense back; `written_off` lets the risk reserve bear it. Either
    needs a second person.
    """

    async def work(db: Db) -> CaseView:
        (case,) = await actions.propose(db, [case_id], call.actor, data.outcome, note=data.note, now=call.now)
        return view_case(case, now=call.now)

    return await call.command(work)


@post(
    "/reconciliation/cases/{case_id:str}/approve",
    opt=APPROVE,
    operation_id="approve_reconciliation_case",
    tags=TAGS,
    status_code=200,
)
async def approve_case(
    call: NamedDependency[Call], case_id: CaseId, data: JSONBody[Note]
) -> Response[CaseView]:
    """Close a case as proposed 复核通过

    Nobody approves what they proposed. The books are corrected by reversal, never edited.
    """

    async def work(db: Db) -> CaseView:
        (case,) = await actions.approve(db, [case_id], call.actor, note=data.note, now=call.now)
        return view_case(case, now=call.now)

    return await call.command(work)


@post(
    "/reconciliation/cases/{case_id:str}/reject",
    opt=APPROVE,
    operation_id="reject_reconciliation_case",
    tags=TAGS,
    status_code=200,
)
async def reject_case(
    call: NamedDependency[Call], case_id: CaseId, data: JSONBody[Note]
) -> Response[CaseView]:
    """Send a proposal back 退回处理意见

    The case is open again.
    """

    async def work(db: Db) -> CaseView:
        (case,) = await actions.reject(db, [case_id], call.actor, note=data.note, now=call.now)
        return view_case(case, now=call.now)

    return await call.command(work)


@get("/reconciliation/books", opt=READ, operation_id="compare_books", tags=TAGS)
async def compare_books(call: NamedDependency[Call]) -> Response[BooksView]:
    """Compare books and mirror 账实核对

    Sums of the ledger beside those of our records, taken in one snapshot, and whether payouts are stopped.
    """

    async def read(db: Db) -> BooksView:
        return BooksView(await store.compare_books(db), view_stop(await store.current_stop(db)))

    return Response(await call.query(read))


@post("/payout-stop", opt=STOP, operation_id="stop_payouts", tags=TAGS, status_code=200)
async def stop_payouts(call: NamedDependency[Call], data: JSONBody[Note]) -> Response[StopView]:
    """Stop payouts 停付

    No transfer is sent until someone lifts it; everything else goes on. Again changes nothing.
    """

    async def work(db: Db) -> StopView:
        await actions.stop_payouts(db, call.actor, reason=data.note, now=call.now)
        stop = view_stop(await store.current_stop(db))
        assert stop is not None
        return stop

    return await call.command(work)


@post("/payout-stop/lift", opt=STOP, operation_id="lift_payout_stop", tags=TAGS, status_code=200)
async def lift_stop(call: NamedDependency[Call], data: JSONBody[Note]) -> Response[None]:
    """Lift the stop of payouts 恢复出款

    The reason stays in the audit trail. Within a minute, what waited goes out.
    """

    async def work(db: Db) -> None:
        await actions.lift_stop(db, call.actor, note=data.note, now=call.now)

    return await call.command(work)


def csv_of(cases: Sequence[Case]) -> str:
    """Cases as a table, with a mark at the head by which spreadsheets know the encoding."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for case in cases:
        table.writerow([getattr(case, "class_" if name == "class" else name) for name in COLUMNS])
    return "\ufeff" + text.getvalue()


async def _postings_about(db: Db, case: Case) -> list[Posting]:
    """What was posted about the number, or the purchase or refund behind it, and about the case itself."""
    subjects = [case.out_no, f"{case.out_no}-late", _id_behind(case.out_no), case.id]
    found = [each for subject in subjects for each in await ledger.postings_of(db, subject)]
    return sorted({each.id: each for each in found}.values(), key=lambda each: each.id)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise MalformedRequest(day=text) from None


def _id_behind(out_no: str) -> str:
    """Purchases and refunds travel without the bar of their id."""
    return f"{out_no[:3]}_{out_no[3:]}"


handlers: list[HTTPRouteHandler] = [
    list_days,
    run_day,
    list_cases,
    export_cases,
    get_case,
    propose_case,
    approve_case,
    reject_case,
    compare_books,
    stop_payouts,
    lift_stop,
]
