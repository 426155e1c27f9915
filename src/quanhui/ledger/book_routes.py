"""The books over HTTP: the journal, statements over a period and their files, holds, folding, closing."""

from datetime import UTC, date, datetime
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from litestar.response import Stream
from msgspec import Meta, Struct

from quanhui.base.access import Scope, needs
from quanhui.base.errors import MalformedRequest
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page
from quanhui.base.web import Call
from quanhui.ledger.actions import NEWEST, fold_lag
from quanhui.ledger.exports import MEDIA_TYPES, Format, export_statement, read_out
from quanhui.ledger.history import Filters, Statement, journal, statement_over
from quanhui.ledger.holds import holds_on
from quanhui.ledger.periods import close_period, closings, reopen_period
from quanhui.ledger.rules import FoldLag, Hold, Period, PeriodLength, Posting

READ = needs("ledger.read", Scope.ALL)
CLOSE = needs("ledger.close", Scope.ALL)
TAGS = ["ledger"]
CODE = r"^[a-z_]+(:[A-Za-z0-9_.-]+)?$"
INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
WORD = r"^[A-Za-z0-9_.-]+$"
HOLDS_SHOWN = 1000

Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
Code = Annotated[str, PathParameter(max_length=100, pattern=CODE, description="Code of the account.")]
Instant = Annotated[
    str,
    QueryParameter(
        max_length=40,
        pattern=INSTANT,
        description="An instant with its zone, as in 2026-11-22T00:00:00+08:00.",
    ),
]
OptionalInstant = Annotated[
    str | None,
    QueryParameter(
        max_length=40,
        pattern=INSTANT,
        description="An instant with its zone, as in 2026-11-22T00:00:00+08:00.",
    ),
]
Amount = Annotated[int | None, QueryParameter(ge=1, le=NEWEST, description="An amount in fen.")]
PeriodId = Annotated[str, PathParameter(max_length=64, description="Id of the closing.")]


class CloseBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Which period to close: a day of Shanghai, or the month that the day lies in."""

    length: PeriodLength
    day: Annotated[date, Meta(examples=["2026-10-31"])]


class ReopenBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the books must be opened again."""

    reason: Annotated[str, Meta(min_length=1, max_length=200, examples=["a bank fee of October came late"])]


def instant_of(text: str) -> datetime:
    """The instant that a text names, in UTC. Raises `MalformedRequest` when there is none such."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise MalformedRequest(instant=text) from None


def _in_order(since: str, until: str) -> tuple[datetime, datetime]:
    first, last = instant_of(since), instant_of(until)
    if first >= last:
        raise MalformedRequest(since=since, until=until)
    return first, last


def _filters(
    event: Annotated[
        str | None, QueryParameter(max_length=64, pattern=WORD, description="Kind of event.")
    ] = None,
    subject: Annotated[
        str | None, QueryParameter(max_length=100, pattern=WORD, description="Id of what it is about.")
    ] = None,
    account: Annotated[
        str | None, QueryParameter(max_length=100, pattern=CODE, description="Code of either account.")
    ] = None,
    since: OptionalInstant = None,
    until: OptionalInstant = None,
    min_fen: Amount = None,
    max_fen: Amount = None,
) -> Filters:
    return Filters(
        event=event,
        subject=subject,
        account=account,
        since=None if since is None else instant_of(since),
        until=None if until is None else instant_of(until),
        min_fen=min_fen,
        max_fen=max_fen,
    )


@get(
    "/ledger/transfers",
    opt=READ,
    operation_id="list_transfers",
    tags=TAGS,
    dependencies={"filters": Provide(_filters, sync_to_thread=False)},
)
async def list_transfers(
    call: NamedDependency[Call],
    filters: NamedDependency[Filters],
    cursor: Annotated[
        int | None, QueryParameter(ge=1, le=NEWEST, description="`next_cursor` of the page before.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[Posting]]:
    """Search the journal 日记账

    Transfers that pass every filter given, newest first; `since` and `until` are recorded instants, `until`
    excluded. Without `subject` or `account` it looks at 31 days at the most, ending at `until` or now.
    """
    return Response(
        await call.query(lambda db: journal(db, filters, cursor=cursor, limit=limit, now=call.now))
    )


@get("/ledger/accounts/{code:str}/summary", opt=READ, operation_id="get_account_summary", tags=TAGS)
async def get_account_summary(
    call: NamedDependency[Call], code: Code, since: Instant, until: Instant
) -> Response[Statement]:
    """Sum an account over a period 账户期间汇总

    Opening balance, credits, debits and closing balance by recorded time, `until` excluded. `final` says that
    no transaction is open any more that could add to it.
    """
    first, last = _in_order(since, until)
    return Response(
        await call.query(lambda db: statement_over(db, code, since=first, until=last, now=call.now))
    )


@get("/ledger/accounts/{code:str}/export", opt=READ, operation_id="export_account_statement", tags=TAGS)
async def export_account_statement(
    call: NamedDependency[Call],
    code: Code,
    since: Instant,
    until: Instant,
    form: Annotated[Format, QueryParameter(name="format", description="What file to write.")] = Format.CSV,
) -> Stream:
    """Download an account statement 导出明细

    Every transfer of a period with the balance after it, between the opening and the closing balance, as CSV
    or Excel; all from one snapshot, amounts in fen. Refused with `statement-too-long` beyond 100,000 lines.
    """
    first, last = _in_order(since, until)
    file = await call.snapshot(
        lambda db: export_statement(db, code, since=first, until=last, form=form, now=call.now)
    )
    name = f"{code.replace(':', '-')}_{first:%Y%m%dT%H%M%SZ}_{last:%Y%m%dT%H%M%SZ}.{form}"
    return Stream(
        read_out(file),
        media_type=MEDIA_TYPES[form],
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


@get("/ledger/accounts/{code:str}/holds", opt=READ, operation_id="list_account_holds", tags=TAGS)
async def list_account_holds(call: NamedDependency[Call], code: Code) -> Response[list[Hold]]:
    """Show what is held on an account 冻结明细

    Money set aside and neither paid onwards nor given back yet, oldest first, 1,000 at the most.
    """
    return Response(await call.query(lambda db: holds_on(db, code, limit=HOLDS_SHOWN)))


@get("/ledger/folding", opt=READ, operation_id="get_fold_lag", tags=TAGS)
async def get_fold_lag(call: NamedDependency[Call]) -> Response[FoldLag]:
    """Show how far folding is behind 汇总延迟

    How many transfers wait to be added to the rows of their hot accounts and for how long the oldest has.
    `alarm` rings after a minute, beyond 200,000 transfers, or in a cluster that the ledger was not folded in.
    """
    return Response(await call.query(lambda db: fold_lag(db, now=call.now)))


@get("/ledger/periods", opt=READ, operation_id="list_closed_periods", tags=TAGS)
async def list_closed_periods(
    call: NamedDependency[Call],
    cursor: Annotated[
        str | None,
        QueryParameter(max_length=64, pattern=WORD, description="`next_cursor` of the page before."),
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[Period]]:
    """List closed periods 结账记录

    Days and months that were closed, newest first, and who closed and reopened them.
    """
    return Response(await call.query(lambda db: closings(db, cursor=cursor, limit=limit)))


@post("/ledger/periods", opt=CLOSE, operation_id="close_period", tags=TAGS)
async def close(call: NamedDependency[Call], data: JSONBody[CloseBody]) -> Response[Period]:
    """Close a period 结账

    A day or month of Shanghai that has ended, and all before it: from then on no transfer may have happened
    in it. What every account held at its end is kept.
    """
    return await call.command(
        lambda db: close_period(db, data.length, data.day, person=call.actor.id, now=call.now), status=201
    )


@post(
    "/ledger/periods/{period_id:str}/reopen",
    opt=CLOSE,
    operation_id="reopen_period",
    tags=TAGS,
    status_code=200,
)
async def reopen(
    call: NamedDependency[Call], period_id: PeriodId, data: JSONBody[ReopenBody]
) -> Response[Period]:
    """Open a closed period again 重新开账

    Takes two people: the first asks and the period stays closed, the second opens it. Only the last closed
    period can be opened.
    """
    return await call.command(
        lambda db: reopen_period(db, period_id, person=call.actor.id, reason=data.reason, now=call.now)
    )


handlers: list[HTTPRouteHandler] = [
    list_transfers,
    get_account_summary,
    export_account_statement,
    list_account_holds,
    get_fold_lag,
    list_closed_periods,
    close,
    reopen,
]
