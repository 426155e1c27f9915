"""Paying a statement: one person records the bank's transfer by its reference, another confirms it."""

from datetime import datetime
from functools import partial

from quanhui import ledger
from quanhui.base.db import Db
from quanhui.base.errors import MalformedRequest, SecondPersonNeeded
from quanhui.base.ids import new_id
from quanhui.ledger import postings
from quanhui.redemption.merchants import store
from quanhui.redemption.merchants.errors import (
    BankReferenceUsed,
    StatementMoved,
)
from quanhui.redemption.merchants.money import set_off, take_from_merchant
from quanhui.redemption.merchants.rules import BankTransfer, Statement, StatementState, TransferState
from quanhui.redemption.merchants.store import queries

MOST_TRANSFERS = 100


async def record_transfer(
    db: Db, statement_id: str, *, institution: str, reference: str, actor_id: str, now: datetime
) -> BankTransfer:
    """Write down that the bank was told to pay a due statement; posts nothing.

    Raises `NotFound`, `StatementMoved` unless it is due and has no such record, `BankReferenceUsed`, and
    `MalformedRequest` for an institution that holds no money of ours.
    """
    statement = await store.lock_statement(db, statement_id)
    if statement.state is not StatementState.DUE or await _recorded(db, statement.id):
        raise StatementMoved(state=statement.state)
    if not await ledger.balances(db, [postings.custody(institution)]):
        raise MalformedRequest(field="institution")
    row = await queries.add_transfer(
        db,
        id=new_id("mtr"),
        statement_id=statement.id,
        institution=institution,
        reference=reference,
        amount_fen=statement.net_fen,
        actor_id=actor_id,
        now=now,
    )
    if row is None:
        raise BankReferenceUsed
    return store.transfer_of(row)


async def check_transfer(
    db: Db, statement_id: str, *, confirmed: bool, note: str | None, actor_id: str, now: datetime
) -> BankTransfer:
    """Another person has seen the money leave, or not. Confirmed, it is posted and the statement is paid.

    Raises `NotFound`, `StatementMoved` without a record to check, `SecondPersonNeeded`.
    """
    statement = await store.lock_statement(db, statement_id)
    recorded = await _recorded(db, statement.id)
    if recorded is None:
        raise StatementMoved(state=statement.state)
    if recorded.recorded_by == actor_id:
        raise SecondPersonNeeded
    state = TransferState.CONFIRMED if confirmed else TransferState.REFUSED
    row = await queries.check_transfer(db, id=recorded.id, state=state, actor_id=actor_id, note=note, now=now)
    if confirmed:
        await _pay(db, statement, recorded.institution, now=now)
    return store.transfer_of(row)


async def _recorded(db: Db, statement_id: str) -> BankTransfer | None:
    """The transfer of a locked statement that waits to be checked."""
    rows = await queries.transfers_of(db, statement_id=statement_id, limit=MOST_TRANSFERS)
    transfers = [store.transfer_of(row) for row in rows]
    return next((each for each in transfers if each.state is TransferState.RECORDED), None)


async def _pay(db: Db, statement: Statement, institution: str, *, now: datetime) -> None:
    await queries.pay_statement(db, id=statement.id, now=now)
    post = partial(
        postings.merchant_paid,
        statement.id,
        institution=institution,
        merchant_id=statement.merchant_id,
        fee_fen=statement.fee_fen,
        net_fen=statement.net_fen,
    )
    merchant_id = statement.merchant_id
    await take_from_merchant(db, post, merchant_id=merchant_id, amount_fen=statement.gross_fen, now=now)
    await set_off(db, statement.id, merchant_id=merchant_id, now=now)
