"""The ledger over HTTP, for finance and audit: to read, never to write; events of the business post."""

from typing import Annotated

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from quanhui.base.paging import PAGE_DEFAULT, Page
from quanhui.base.web import Call
from quanhui.ledger import book_routes
from quanhui.ledger.actions import NEWEST, accounts, postings_of, statement, trial_balance
from quanhui.ledger.book_routes import CODE, READ, Limit, OptionalInstant, instant_of
from quanhui.ledger.history import trial_balance_at
from quanhui.ledger.rules import Balance, Posting, TrialBalance


@get("/ledger/trial-balance", opt=READ, operation_id="get_trial_balance", tags=["ledger"])
async def get_trial_balance(
    call: NamedDependency[Call], as_of: OptionalInstant = None
) -> Response[TrialBalance]:
    """Show the trial balance 试算平衡

    Every line of the chart of accounts with the exact sum of its accounts in fen, credits minus debits. The
    books are in order when the four sums are 0. With `as_of`, all that was recorded before that instant;
    `final` says that no transaction is open any more that could add to it.
    """
    if as_of is not None:
        instant = instant_of(as_of)
        return Response(await call.query(lambda db: trial_balance_at(db, instant, now=call.now)))
    return Response(await call.query(trial_balance))


@get("/ledger/accounts", opt=READ, operation_id="list_accounts", tags=["ledger"])
async def list_accounts(
    call: NamedDependency[Call],
    prefix: Annotated[
        str, QueryParameter(max_length=100, pattern="^[A-Za-z0-9_.:-]*$", description="How the codes begin.")
    ] = "",
    cursor: Annotated[
        str | None,
        QueryParameter(max_length=100, pattern=CODE, description="`next_cursor` of the page before."),
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[Balance]]:
    """List accounts 账户

    Accounts with their exact balances in fen, in the order of their codes.
    """
    return Response(await call.query(lambda db: accounts(db, prefix=prefix, cursor=cursor, limit=limit)))


@get("/ledger/accounts/{code:str}/statement", opt=READ, operation_id="get_account_statement", tags=["ledger"])
async def get_statement(
    call: NamedDependency[Call],
    code: Annotated[str, PathParameter(max_length=100, pattern=CODE, description="Code of the account.")],
    cursor: Annotated[
        int | None, QueryParameter(ge=1, le=NEWEST, description="`next_cursor` of the page before.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
) -> Response[Page[Posting]]:
    """Show an account statement 账户明细

    Transfers into and out of one account, newest first. A transfer debits `src` and credits `dst`.
    """
    return Response(await call.query(lambda db: statement(db, code, cursor=cursor, limit=limit)))


@get("/ledger/postings", opt=READ, operation_id="list_postings", tags=["ledger"])
async def list_postings(
    call: NamedDependency[Call],
    subject: Annotated[
        str,
        QueryParameter(
            max_length=100,
            pattern="^[A-Za-z0-9_.-]+$",
            description="Id of an order, payout, purchase or redemption.",
        ),
    ],
) -> Response[list[Posting]]:
    """Show the postings of one event 分录

    What was posted about one order, payout, purchase or redemption, oldest first; empty when nothing was.
    """
    return Response(await call.query(lambda db: postings_of(db, subject)))


handlers: list[HTTPRouteHandler] = [
    get_trial_balance,
    list_accounts,
    get_statement,
    list_postings,
    *book_routes.handlers,
]
