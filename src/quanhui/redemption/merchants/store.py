"""Rows of merchant settlement to types. The SQL stands in `queries.sql`."""

from collections.abc import Sequence

import msgspec

from quanhui.base.db import Db, Row, load_queries
from quanhui.base.errors import NotFound
from quanhui.redemption.merchants.rules import BankTransfer, Dispute, Line, Statement

queries = load_queries(__file__)


def statement_of(row: Row) -> Statement:
    return msgspec.convert(dict(row), Statement)


def line_of(row: Row) -> Line:
    return msgspec.convert(dict(row), Line)


def dispute_of(row: Row) -> Dispute:
    return msgspec.convert(dict(row), Dispute)


def transfer_of(row: Row) -> BankTransfer:
    return msgspec.convert(dict(row), BankTransfer)


async def find_statements(db: Db, ids: Sequence[str]) -> list[Statement]:
    """Statements by id, in the order of their ids; unknown ones are absent."""
    return [statement_of(row) for row in await queries.find_statements(db, ids=list(ids))]


async def lock_statement(db: Db, statement_id: str) -> Statement:
    """One statement, locked. Raises `NotFound`."""
    rows = await queries.lock_statements(db, ids=[statement_id])
    if not rows:
        raise NotFound
    return statement_of(rows[0])
