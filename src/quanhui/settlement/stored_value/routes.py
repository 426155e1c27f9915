"""The holder's statement of stored value."""

from datetime import datetime
from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import QueryParameter
from msgspec import Struct

from quanhui import ledger
from quanhui.base.access import Scope, needs
from quanhui.base.db import Db
from quanhui.base.errors import NotFound
from quanhui.base.paging import PAGE_DEFAULT, PAGE_LIMIT, Page
from quanhui.base.web import Call
from quanhui.ledger import postings

READ = needs("settlement.read", Scope.OWN, Scope.ENTERPRISE)


class StoredValueEntry(Struct, frozen=True, kw_only=True):
    """One movement of stored value: more than zero came in, less went out. `subject` is what it was for."""

    id: int
    amount_fen: int
    event: str
    subject: str
    at: datetime


@get("/stored-value/statement", opt=READ, operation_id="get_stored_value_statement", tags=["settlement"])
async def get_statement(
    call: NamedDependency[Call],
    cursor: Annotated[
        int | None, QueryParameter(ge=1, le=2**63 - 1, description="`next_cursor` of the page before.")
    ] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, le=PAGE_LIMIT, description="How many to return.")
    ] = PAGE_DEFAULT,
) -> Response[Page[StoredValueEntry]]:
    """Show the stored-value statement 储值明细

    Of the caller's own account, newest first; empty before the first top-up.
    """
    actor = call.actor
    is_company = actor.reach("settlement.read") is Scope.ENTERPRISE
    holder_id = actor.enterprise_id if is_company else actor.id
    assert holder_id is not None
    code = postings.stored_value(holder_id)

    async def read(db: Db) -> Page[StoredValueEntry]:
        try:
            page = await ledger.statement(db, code, cursor=cursor, limit=limit)
        except NotFound:
            return Page([], None)
        return Page([_entry(posting, code) for posting in page.items], page.next_cursor)

    return Response(await call.query(read))


def _entry(posting: ledger.Posting, code: str) -> StoredValueEntry:
    return StoredValueEntry(
        id=posting.id,
        amount_fen=posting.amount_fen if posting.dst == code else -posting.amount_fen,
        event=posting.event,
        subject=posting.subject,
        at=posting.event_at,
    )


handlers: list[HTTPRouteHandler] = [get_statement]
