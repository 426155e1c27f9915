"""Agreeing on a statement: the merchant confirms or disputes, finance answers, a second person settles."""

from datetime import date, datetime
from functools import partial

import msgspec

from quanhui import ledger
from quanhui.base.clock import local_day
from quanhui.base.db import Db
from quanhui.base.errors import NotFound, SecondPersonNeeded
from quanhui.base.ids import new_id
from quanhui.redemption.merchants import store
from quanhui.redemption.merchants.errors import (
    ContractOverlaps,
    LineDisputed,
    StatementMoved,
)
from quanhui.redemption.merchants.money import take_from_merchant
from quanhui.redemption.merchants.rules import Contract, Dispute, DisputeState, Statement, StatementState
from quanhui.redemption.merchants.store import queries

OPEN_TO_DISPUTE = (StatementState.DRAWN, StatementState.DISPUTED)


async def confirm_statement(db: Db, statement_id: str, *, actor_id: str, now: datetime) -> Statement:
    """The merchant agrees. Raises `NotFound`, `StatementMoved` unless it is drawn and undisputed."""
    statement = await store.lock_statement(db, statement_id)
    if statement.state is not StatementState.DRAWN:
        raise StatementMoved(state=statement.state)
    await queries.confirm_statement(db, id=statement.id, actor_id=actor_id, now=now)
    return (await store.find_statements(db, [statement.id]))[0]


async def dispute_line(
    db: Db, statement_id: str, line_id: int, *, reason: str, actor_id: str, now: datetime
) -> Dispute:
    """The merchant does not accept a line. Raises `NotFound`, `StatementMoved`, `LineDisputed`."""
    statement = await store.lock_statement(db, statement_id)
    line = await queries.find_line(db, merchant_id=statement.merchant_id, day=statement.day, line_id=line_id)
    if line is None:
        raise NotFound
    if statement.state not in OPEN_TO_DISPUTE:
        raise StatementMoved(state=statement.state)
    row = await queries.add_dispute(
        db,
        id=new_id("mdp"),
        statement_id=statement.id,
        line_id=line_id,
        reason=reason,
        actor_id=actor_id,
        now=now,
    )
    if row is None:
        raise LineDisputed(dispute_id=await queries.live_dispute_of(db, line_id=line_id))
    return store.dispute_of(row)


async def answer_dispute(
    db: Db, dispute_id: str, *, correction_fen: int, answer: str, actor_id: str, now: datetime
) -> Dispute:
    """Finance proposes an answer: what to add to the statement, 0 if the line is right.

    Raises `NotFound`, `StatementMoved` when it was answered already.
    """
    _, dispute = await _lock(db, dispute_id)
    if dispute.state is not DisputeState.OPEN:
        raise StatementMoved(state=dispute.state)
    row = await queries.answer_dispute(
        db, id=dispute.id, correction_fen=correction_fen, answer=answer, actor_id=actor_id, now=now
    )
    return store.dispute_of(row)


async def settle_dispute(db: Db, dispute_id: str, *, agreed: bool, actor_id: str, now: datetime) -> Dispute:
    """A second person agrees with the answer, or asks for another. A correction is posted and is a line.

    With the last dispute the statement is agreed. Raises `NotFound`, `StatementMoved`, `SecondPersonNeeded`.
    """
    statement, dispute = await _lock(db, dispute_id)
    if dispute.state is not DisputeState.ANSWERED:
        raise StatementMoved(state=dispute.state)
    if dispute.answered_by == actor_id:
        raise SecondPersonNeeded
    if not agreed:
        return store.dispute_of(await queries.reopen_dispute(db, id=dispute.id))
    if dispute.correction_fen:
        await _correct(db, statement, dispute, amount_fen=dispute.correction_fen, now=now)
    row = await queries.settle_dispute(db, id=dispute.id, actor_id=actor_id, now=now)
    await queries.end_disputes(db, id=statement.id, now=now)
    return store.dispute_of(row)


async def add_contract(
    db: Db,
    merchant_id: str,
    *,
    fee_bps: int,
    valid_from: date,
    valid_to: date | None,
    actor_id: str,
    now: datetime,
) -> Contract:
    """Agree on a fee from a day still to come. Raises `ContractOverlaps`."""
    row = None
    if valid_from > local_day(now) and (valid_to is None or valid_to > valid_from):
        row = await queries.add_contract(
            db,
            id=new_id("mct"),
            merchant_id=merchant_id,
            fee_bps=fee_bps,
            valid_from=valid_from,
            valid_to=valid_to,
            actor_id=actor_id,
            now=now,
        )
    if row is None:
        raise ContractOverlaps
    return msgspec.convert(dict(row), Contract)


async def _lock(db: Db, dispute_id: str) -> tuple[Statement, Dispute]:
    """A dispute with its statement, locked in the order in which everybody locks them."""
    statement_id = await queries.statement_of_dispute(db, id=dispute_id)
    if statement_id is None:
        raise NotFound
    statement = await store.lock_statement(db, statement_id)
    return statement, store.dispute_of(await queries.lock_dispute(db, id=dispute_id))


async def _correct(db: Db, statement: Statement, dispute: Dispute, *, amount_fen: int, now: datetime) -> None:
    await queries.add_correction(
        db, dispute_id=dispute.id, line_id=dispute.line_id, amount_fen=amount_fen, now=now
    )
    await queries.correct_statement(db, id=statement.id, amount_fen=amount_fen)
    post = partial(
        ledger.postings.merchant_corrected,
        dispute.id,
        merchant_id=statement.merchant_id,
        amount_fen=amount_fen,
    )
    await take_from_merchant(db, post, merchant_id=statement.merchant_id, amount_fen=-amount_fen, now=now)
