"""Money set aside on a guarded account: its owner still has it and cannot spend it.

A holdback is held when a seller is paid, and ends in one of two ways: released to its owner, or captured,
which pays it onwards from the same account. Verbs work on sets, all or none, and repeat safely.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from quanhui.base.db import Db, load_queries
from quanhui.base.errors import NotFound
from quanhui.ledger.errors import HoldEnded, InsufficientBalance, InsufficientHold, TransferKeyConflict
from quanhui.ledger.rules import Capture, Hold, HoldAsked, HoldOutcome, HoldStatus, Outcome, Status

queries = load_queries(__file__, "holds.sql")


async def hold(db: Db, asked: Sequence[HoldAsked], *, now: datetime) -> list[HoldOutcome]:
    """Set money aside, all or none; one outcome each, in order.

    Raises `InsufficientBalance` or `TransferKeyConflict`, having written nothing.
    """
    if not asked:
        return []
    keys = [each.key for each in asked]
    row = await queries.hold(
        db,
        keys=keys,
        codes=[each.account for each in asked],
        amounts=[each.amount_fen for each in asked],
        subjects=[each.subject for each in asked],
        now=now,
    )
    _refuse_conflicts(keys, row["statuses"])
    if row["short"]:
        raise InsufficientBalance(accounts=row["short"])
    return _outcomes(keys, row["statuses"])


async def release(db: Db, keys: Sequence[str], *, now: datetime) -> list[HoldOutcome]:
    """Give what is left of holds back to their accounts, all or none; again is a `duplicate`.

    Raises `NotFound` for a key that was never held, `HoldEnded` when all of it was captured.
    """
    if not keys:
        return []
    statuses = await queries.release(db, keys=list(keys), now=now)
    _refuse_unknown(statuses)
    if ended := _at_fault(keys, statuses, HoldStatus.ENDED):
        raise HoldEnded(keys=ended)
    return _outcomes(keys, statuses)


async def capture(db: Db, captures: Sequence[Capture], *, now: datetime) -> list[Outcome]:
    """Pay out of holds, all or none: each capture is a transfer from the account of its hold.

    What a capture leaves stays held. Raises `NotFound` for a hold that never was, `InsufficientHold`
    when more is asked for than is left, `TransferKeyConflict` when a key stands for another transfer or
    another hold.
    """
    if not captures:
        return []
    keys = [each.key for each in captures]
    statuses = await queries.capture(
        db,
        hold_keys=[each.hold for each in captures],
        keys=keys,
        dsts=[each.dst for each in captures],
        amounts=[each.amount_fen for each in captures],
        events=[each.event for each in captures],
        subjects=[each.subject for each in captures],
        event_ats=[each.event_at or now for each in captures],
        now=now,
    )
    _refuse_unknown(statuses)
    _refuse_conflicts(keys, statuses)
    if short := _at_fault([each.hold for each in captures], statuses, Status.INSUFFICIENT):
        raise InsufficientHold(keys=short)
    return [Outcome(key, Status(status)) for key, status in zip(keys, statuses, strict=True)]


async def holds_on(db: Db, code: str, *, limit: int) -> list[Hold]:
    """What is held on an account now, oldest first."""
    return [msgspec.convert(dict(row), Hold) for row in await queries.find_held(db, code=code, limit=limit)]


async def holds_astray(db: Db) -> list[str]:
    """Accounts whose `held_fen` is not the sum of what is left of their holds: there must be none."""
    return [row["code"] for row in await queries.find_astray(db)]


def _refuse_unknown(statuses: Sequence[str]) -> None:
    if HoldStatus.UNKNOWN in statuses:
        raise NotFound


def _refuse_conflicts(keys: Sequence[str], statuses: Sequence[str]) -> None:
    if at_fault := _at_fault(keys, statuses, Status.KEY_CONFLICT):
        raise TransferKeyConflict(keys=at_fault)


def _at_fault(keys: Sequence[str], statuses: Sequence[str], fault: str) -> list[str]:
    found = {key for key, status in zip(keys, statuses, strict=True) if status == fault}
    return sorted(found)


def _outcomes(keys: Sequence[str], statuses: Sequence[str]) -> list[HoldOutcome]:
    return [HoldOutcome(key, HoldStatus(status)) for key, status in zip(keys, statuses, strict=True)]
