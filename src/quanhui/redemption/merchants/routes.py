"""Merchant settlement over HTTP, for merchants: to read, download, confirm and dispute."""

import asyncio
from datetime import date
from enum import StrEnum
from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct

from quanhui import places
from quanhui.base.access import Actor, Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import MalformedRequest, NotFound
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page, page_of
from quanhui.base.web import Call
from quanhui.redemption.merchants import files, store
from quanhui.redemption.merchants.agreeing import confirm_statement, dispute_line
from quanhui.redemption.merchants.errors import StatementTooLong
from quanhui.redemption.merchants.finance_routes import handlers as finance_handlers
from quanhui.redemption.merchants.paying import MOST_TRANSFERS
from quanhui.redemption.merchants.rules import BankTransfer, Dispute, Line, Statement, StatementState
from quanhui.redemption.merchants.store import queries

READ = needs("statements.read", Scope.MERCHANT, Scope.ALL)
CONFIRM = needs("statements.confirm", Scope.MERCHANT)

MOST_DISPUTES = 1000
MOST_LINES = {"pdf": 2_000, "xlsx": 100_000}
DAY = r"^\d{4}-\d{2}-\d{2}$"
PDF = "application/pdf"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

StatementId = Annotated[str, PathParameter(max_length=64, description="Id of the statement.")]
Limit = Annotated[int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")]
Reason = Annotated[str, Meta(min_length=1, max_length=500, examples=["该笔顾客已退货，未在门店核销"])]


class FileKind(StrEnum):
    """What a statement can be downloaded as."""

    PDF = "pdf"
    XLSX = "xlsx"


class DisputeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """The line that is not accepted, and why."""

    line_id: Annotated[int, Meta(ge=1, le=2**63 - 1, examples=[1024])]
    reason: Reason


class StatementDetail(Struct, frozen=True, kw_only=True):
    """A statement with its disputes and the transfers recorded for it, oldest first."""

    statement: Statement
    disputes: list[Dispute]
    transfers: list[BankTransfer]


@get("/merchants/statements", opt=READ, operation_id="list_statements", tags=["merchants"])
async def list_statements(
    call: NamedDependency[Call],
    merchant: Annotated[str | None, QueryParameter(max_length=64, description="Merchant id.")] = None,
    statement_state: Annotated[
        StatementState | None, QueryParameter(name="state", description="Only those in this state.")
    ] = None,
    since: Annotated[
        str | None, QueryParameter(pattern=DAY, description="First Shanghai day, as 2026-11-22.")
    ] = None,
    until: Annotated[
        str | None, QueryParameter(pattern=DAY, description="Last Shanghai day, as 2026-11-22.")
    ] = None,
    cursor: Annotated[
        str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[Statement]]:
    """List merchants' statements 商户结算单

    Newest first: of your merchant, or of all. Amounts in fen; gross − fee = net.
    """
    actor = call.actor
    if actor.reach("statements.read") is Scope.MERCHANT:
        if merchant not in (None, actor.merchant_id):
            raise NotFound
        merchant = actor.merchant_id
    rows = await call.query(
        lambda db: queries.list_statements(
            db,
            merchant_id=merchant,
            state=statement_state,
            since=since and _day(since, "since"),
            until=until and _day(until, "until"),
            before=cursor,
            limit=limit + 1,
        )
    )
    return Response(page_of([store.statement_of(row) for row in rows], limit=limit))


@get("/merchants/statements/{statement_id:str}", opt=READ, operation_id="get_statement", tags=["merchants"])
async def get_statement(call: NamedDependency[Call], statement_id: StatementId) -> Response[StatementDetail]:
    """Show a merchant's statement 结算单详情

    With its disputes and payments; the lines have a list of their own.
    """

    async def read(db: Db) -> StatementDetail:
        statement = await _visible(db, call.actor, "statements.read", statement_id)
        disputes = await queries.list_disputes(db, statement_id=statement.id, limit=MOST_DISPUTES)
        transfers = await queries.transfers_of(db, statement_id=statement.id, limit=MOST_TRANSFERS)
        return StatementDetail(
            statement=statement,
            disputes=[store.dispute_of(row) for row in disputes],
            transfers=[store.transfer_of(row) for row in transfers],
        )

    return Response(await call.query(read))


@get(
    "/merchants/statements/{statement_id:str}/lines",
    opt=READ,
    operation_id="list_statement_lines",
    tags=["merchants"],
)
async def list_lines(
    call: NamedDependency[Call],
    statement_id: StatementId,
    cursor: Annotated[
        int | None, QueryParameter(ge=1, le=2**63 - 1, description="`next_cursor` of the page before.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[Line]]:
    """List the lines of a statement 结算明细

    In the order in which they were frozen. `subject` is the redemption, reversal, payout, charge or dispute
    that a line is about; the ledger's postings carry the same.
    """

    async def read(db: Db) -> list[Line]:
        statement = await _visible(db, call.actor, "statements.read", statement_id)
        return await _lines(db, statement, after=cursor or 0, limit=limit + 1)

    return Response(page_of(await call.query(read), limit=limit))


@get(
    "/merchants/statements/{statement_id:str}/file",
    opt=READ,
    operation_id="download_statement",
    tags=["merchants"],
    media_type=PDF,
)
async def download_statement(
    call: NamedDependency[Call],
    statement_id: StatementId,
    file_kind: Annotated[FileKind, QueryParameter(name="as", description="PDF or Excel.")] = FileKind.PDF,
) -> Response[bytes]:
    """Download a statement 下载结算单

    As PDF to read (at most 2,000 lines), or Excel with amounts in whole fen (at most 100,000).
    """
    most = MOST_LINES[file_kind]

    async def read(db: Db) -> tuple[Statement, list[Line], str]:
        statement = await _visible(db, call.actor, "statements.read", statement_id)
        merchants = await places.get_merchants(db, [statement.merchant_id])
        name = merchants[0].zh if merchants else statement.merchant_id
        return statement, await _lines(db, statement, after=0, limit=most + 1), name

    statement, lines, name = await call.query(read)
    if len(lines) > most:
        raise StatementTooLong(most_lines=most)
    make = files.as_pdf if file_kind is FileKind.PDF else files.as_xlsx
    content = await asyncio.to_thread(make, statement, lines, merchant=name)
    disposition = f'attachment; filename="{statement.id}.{file_kind}"'
    return Response(
        content,
        media_type=PDF if file_kind is FileKind.PDF else XLSX,
        headers={"content-disposition": disposition},
    )


@post(
    "/merchants/statements/{statement_id:str}/confirm",
    opt=CONFIRM,
    status_code=200,
    operation_id="confirm_statement",
    tags=["merchants"],
)
async def confirm(call: NamedDependency[Call], statement_id: StatementId) -> Response[Statement]:
    """Confirm a statement 确认结算单

    It becomes due within minutes. Who says nothing for three days agrees as well.
    """

    async def verb(db: Db) -> Statement:
        await _visible(db, call.actor, "statements.confirm", statement_id)
        return await confirm_statement(db, statement_id, actor_id=call.actor.id, now=call.now)

    return await call.command(verb)


@post(
    "/merchants/statements/{statement_id:str}/disputes",
    opt=CONFIRM,
    status_code=201,
    operation_id="dispute_statement_line",
    tags=["merchants"],
)
async def dispute(
    call: NamedDependency[Call], statement_id: StatementId, data: JSONBody[DisputeBody]
) -> Response[Dispute]:
    """Dispute a line of a statement 对账异议

    The statement waits until every dispute is settled; a correction is one more line of it.
    """

    async def verb(db: Db) -> Dispute:
        await _visible(db, call.actor, "statements.confirm", statement_id)
        return await dispute_line(
            db, statement_id, data.line_id, reason=data.reason, actor_id=call.actor.id, now=call.now
        )

    return await call.command(verb, status=201)


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise MalformedRequest(field=field) from None


async def _visible(db: Db, actor: Actor, permission: str, statement_id: str) -> Statement:
    """A statement that the actor's scope reaches. Raises `NotFound`."""
    found = await store.find_statements(db, [statement_id])
    reaches_all = actor.reach(permission) is Scope.ALL
    if not found or not (reaches_all or found[0].merchant_id == actor.merchant_id):
        raise NotFound
    return found[0]


async def _lines(db: Db, statement: Statement, *, after: int, limit: int) -> list[Line]:
    rows = await queries.list_lines(
        db, merchant_id=statement.merchant_id, day=statement.day, after=after, limit=limit
    )
    return [store.line_of(row) for row in rows]


handlers: list[HTTPRouteHandler] = [
    list_statements,
    get_statement,
    list_lines,
    download_statement,
    confirm,
    dispute,
    *finance_handlers,
]
