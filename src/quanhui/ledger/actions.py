"""The verbs of the ledger. They write in the caller's transaction and in one round trip each."""

from collections.abc import Sequence
from datetime import datetime

import asyncpg
import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.errors import NotFound
from quanhui.base.paging import Page, page_of
from quanhui.ledger.errors import InsufficientBalance, PeriodClosed, TransferKeyConflict
from quanhui.ledger.rules import (
    Balance,
    FoldLag,
    Outcome,
    Posting,
    Status,
    Transfer,
    TrialBalance,
    TrialLine,
    fold_lag_of,
    trial_balance_of,
)

queries = load_queries(__file__)

REVERSED_SUFFIX = ":reversed"
POSTINGS_LIMIT = 1000
NEWEST = 2**63 - 1
CLOSED = "QH001"
"""What ledger.guard_transfers raises for a transfer that reaches into a closed period."""


async def post(db: Db, transfers: Sequence[Transfer], *, now: datetime) -> list[Outcome]:
    """Post transfers, all or none, opening the accounts they name; one outcome each, in order.

    The batch counts as one instant: a guarded account is judged by where the batch leaves it. A transfer
    posted before under its key is a `duplicate` and changes nothing. Raises `InsufficientBalance` or
    `TransferKeyConflict`, having written nothing; or `PeriodClosed`, after which the
    transaction is over. A code that the chart does not know or two accounts of
    different books are programmer errors: PostgreSQL refuses them and the transaction is over.
    """
    if not transfers:
        return []
    try:
        row = await queries.post(
            db,
            keys=[transfer.key for transfer in transfers],
            srcs=[transfer.src for transfer in transfers],
            dsts=[transfer.dst for transfer in transfers],
            amounts=[transfer.amount_fen for transfer in transfers],
            events=[transfer.event for transfer in transfers],
            subjects=[transfer.subject for transfer in transfers],
            event_ats=[transfer.event_at or now for transfer in transfers],
            now=now,
        )
    except asyncpg.PostgresError as refusal:
        if refusal.sqlstate == CLOSED:
            raise PeriodClosed(closed_to=refusal.detail) from refusal
        raise
    return _outcomes([transfer.key for transfer in transfers], row)


async def reverse(db: Db, keys: Sequence[str], *, event: str, now: datetime) -> list[Outcome]:
    """Take transfers back, all or none, each by a new one in the other direction named `{key}:reversed`.

    A transfer is reversed at most once: again is a `duplicate`. `event` names the reason. The outcomes carry
    the new keys, in their order. Raises `NotFound` when a key was never posted, `InsufficientBalance` when
    the money has moved on, `TransferKeyConflict` when the transfer was reversed for another reason.
    """
    wanted = sorted(set(keys))
    if not wanted:
        return []
    row = await queries.reverse(db, keys=wanted, suffix=REVERSED_SUFFIX, event=event, now=now)
    if row is None:
        raise NotFound
    return _outcomes(row["new_keys"], row)


def _outcomes(keys: Sequence[str], row: Row) -> list[Outcome]:
    statuses: list[str] = row["statuses"]
    if Status.KEY_CONFLICT in statuses:
        at_fault = [key for key, status in zip(keys, statuses, strict=True) if status == Status.KEY_CONFLICT]
        raise TransferKeyConflict(keys=at_fault)
    if row["short"]:
        raise InsufficientBalance(accounts=row["short"])
    return [Outcome(key, Status(status)) for key, status in zip(keys, statuses, strict=True)]


async def fold(db: Db, *, now: datetime) -> int:
    """Add the settled legs of deferred accounts to their rows; returns how many transfers were folded.

    Safe beside postings and beside another folder, which waits. A transaction that stays open only delays
    folding: balances read through this package are exact at every moment.
    """
    count: int = await queries.fold(db, now=now)
    return count


async def fold_lag(db: Db, *, now: datetime) -> FoldLag:
    """How far folding is behind, and whether that is a reason for alarm."""
    return fold_lag_of(**dict(await queries.fold_lag(db, now=now)))


async def balances(db: Db, codes: Sequence[str]) -> dict[str, Balance]:
    """Exact balances by code. An account that was never used has none: it does not exist yet."""
    rows = await queries.find_balances(db, codes=list(codes))
    return {row["code"]: msgspec.convert(dict(row), Balance) for row in rows}


async def accounts(db: Db, *, prefix: str, cursor: str | None, limit: int) -> Page[Balance]:
    """Accounts whose code begins with `prefix`, in the order of their codes; the cursor is a code."""
    rows = await queries.list_accounts(db, prefix=prefix, cursor=cursor or "", limit=limit + 1)
    return page_of([msgspec.convert(dict(row), Balance) for row in rows], limit=limit, cursor_of="code")


async def statement(db: Db, code: str, *, cursor: int | None, limit: int) -> Page[Posting]:
    """Transfers into and out of one account, newest first. Raises `NotFound` for an account never used."""
    account_id = await queries.find_account_id(db, code=code)
    if account_id is None:
        raise NotFound
    rows = await queries.list_statement(
        db, account_id=account_id, cursor=NEWEST if cursor is None else cursor, limit=limit + 1
    )
    return page_of(_postings(rows), limit=limit)


async def postings_of(db: Db, subject: str) -> list[Posting]:
    """What was posted about one order, payout or redemption, oldest first, at most `POSTINGS_LIMIT`."""
    return _postings(await queries.find_postings(db, subject=subject, limit=POSTINGS_LIMIT))


async def trial_balance(db: Db) -> TrialBalance:
    """Every line of the chart with its exact sum, in one snapshot, whatever is still unfolded."""
    rows = await queries.sum_chart(db)
    return trial_balance_of([msgspec.convert(dict(row), TrialLine) for row in rows])


async def chart_at(db: Db, *, until: datetime) -> dict[str, int]:
    """The client book as it was recorded before `until`: credits minus debits by name, without zeros.

    Names are codes of accounts for custody, and lines of the chart for the rest.
    """
    return {row["name"]: row["balance_fen"] for row in await queries.sum_client_at(db, until=until)}


def _postings(rows: Sequence[Row]) -> list[Posting]:
    return [Posting(**dict(row)) for row in rows]
