"""Money set aside: who has it cannot spend it, and it ends once, by capture or release."""

import asyncio

import asyncpg
import pytest

from quanhui.base.db import Db, Pool, in_transaction, transaction
from quanhui.base.errors import NotFound
from quanhui.ledger import (
    Capture,
    HoldAsked,
    HoldEnded,
    HoldStatus,
    InsufficientBalance,
    InsufficientHold,
    Status,
    Transfer,
    TransferKeyConflict,
    balances,
    capture,
    hold,
    holds_astray,
    holds_on,
    post,
    release,
)

ANN = "user_payable:ann"


def pay_in(key: str, amount_fen: int, account: str = ANN) -> Transfer:
    return Transfer(
        key=key,
        src="custody:bank",
        dst=account,
        amount_fen=amount_fen,
        event="e",
        subject=key.partition(":")[0],
    )


def set_aside(key: str, amount_fen: int, account: str = ANN) -> HoldAsked:
    return HoldAsked(key=key, account=account, amount_fen=amount_fen, subject=key.partition(":")[0])


def pay_out(held: str, key: str, amount_fen: int, dst: str = "payout_pending") -> Capture:
    return Capture(
        hold=held, key=key, dst=dst, amount_fen=amount_fen, event="paid", subject=key.partition(":")[0]
    )


async def standing(db: Db, code: str = ANN) -> tuple[int, int]:
    balance = (await balances(db, [code]))[code]
    return balance.balance_fen, balance.held_fen


@pytest.fixture
async def books(db: Db, now) -> Db:
    await post(db, [pay_in("a:1", 100)], now=now)
    return db


async def test_what_is_held_is_owned_and_cannot_be_spent(books, now):
    outcomes = await hold(books, [set_aside("h:1", 60)], now=now)
    assert [outcome.status for outcome in outcomes] == [HoldStatus.HELD]
    assert await standing(books) == (100, 60)
    spend = Transfer(key="b:1", src=ANN, dst="payout_pending", amount_fen=41, event="e", subject="b")
    with pytest.raises(InsufficientBalance):
        await post(books, [spend], now=now)


async def test_holds_of_one_set_that_exceed_the_balance_together_hold_nothing(books, now):
    with pytest.raises(InsufficientBalance) as refused:
        await hold(books, [set_aside("h:1", 60), set_aside("h:2", 41)], now=now)
    assert refused.value.facts == {"accounts": [ANN]}
    assert await standing(books) == (100, 0)


async def test_a_hold_is_made_once_and_its_key_is_for_nothing_else(books, now):
    await hold(books, [set_aside("h:1", 60)], now=now)
    again = await hold(books, [set_aside("h:1", 60), set_aside("h:2", 40), set_aside("h:2", 40)], now=now)
    assert [outcome.status for outcome in again] == ["duplicate", "held", "duplicate"]
    assert await standing(books) == (100, 100)
    with pytest.raises(TransferKeyConflict) as refused:
        await hold(books, [set_aside("h:1", 61)], now=now)
    assert refused.value.facts == {"keys": ["h:1"]}


async def test_a_released_hold_can_be_spent_and_is_released_once(books, now):
    await hold(books, [set_aside("h:1", 60)], now=now)
    assert [o.status for o in await release(books, ["h:1"], now=now)] == [HoldStatus.RELEASED]
    assert [o.status for o in await release(books, ["h:1"], now=now)] == [HoldStatus.DUPLICATE]
    assert await standing(books) == (100, 0)
    with pytest.raises(NotFound):
        await release(books, ["h:1", "h:9"], now=now)
    with pytest.raises(InsufficientHold):
        await capture(books, [pay_out("h:1", "p:1", 1)], now=now)


async def test_a_capture_pays_from_the_account_and_leaves_the_rest_held(books, now):
    await hold(books, [set_aside("h:1", 60)], now=now)
    for status in (Status.POSTED, Status.DUPLICATE):
        outcomes = await capture(books, [pay_out("h:1", "p:1", 25)], now=now)
        assert [outcome.status for outcome in outcomes] == [status]
        assert await standing(books) == (75, 35)
    (left,) = await holds_on(books, ANN, limit=10)
    assert (left.key, left.amount_fen, left.captured_fen) == ("h:1", 60, 25)
    await release(books, ["h:1"], now=now)
    assert await standing(books) == (75, 0)
    assert await holds_on(books, ANN, limit=10) == []


async def test_a_hold_captured_to_the_last_fen_has_ended(books, now):
    await hold(books, [set_aside("h:1", 60)], now=now)
    await capture(books, [pay_out("h:1", "p:1", 25), pay_out("h:1", "p:2", 35, "stored_value:ann")], now=now)
    assert await standing(books) == (40, 0)
    assert await standing(books, "stored_value:ann") == (35, 0)
    with pytest.raises(HoldEnded) as refused:
        await release(books, ["h:1"], now=now)
    assert refused.value.facts == {"keys": ["h:1"]}


async def test_captures_that_ask_for_more_than_is_left_pay_nothing(books, now):
    await hold(books, [set_aside("h:1", 60), set_aside("h:2", 5)], now=now)
    batch = [pay_out("h:1", "p:1", 30), pay_out("h:1", "p:2", 31), pay_out("h:2", "p:3", 5)]
    with pytest.raises(InsufficientHold) as refused:
        await capture(books, batch, now=now)
    assert refused.value.facts == {"keys": ["h:1"]}
    assert await standing(books) == (100, 65)
    with pytest.raises(NotFound):
        await capture(books, [pay_out("h:9", "p:1", 1)], now=now)


async def test_a_transfer_that_paid_from_elsewhere_is_no_repetition_of_a_capture(books, now):
    await hold(books, [set_aside("h:1", 20), set_aside("h:2", 20)], now=now)
    plain = Transfer(key="p:1", src=ANN, dst="payout_pending", amount_fen=7, event="paid", subject="p")
    await post(books, [plain], now=now)
    await capture(books, [pay_out("h:1", "p:2", 7)], now=now)
    for wrong in (pay_out("h:1", "p:1", 7), pay_out("h:2", "p:2", 7), pay_out("h:1", "p:2", 8)):
        with pytest.raises(TransferKeyConflict):
            await capture(books, [wrong], now=now)
    assert await standing(books) == (86, 33)


@pytest.mark.parametrize("account", ["custody:bank", "user_payable", "nowhere:x"])
async def test_only_accounts_with_a_floor_can_hold(books, now, account):
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await hold(books, [set_aside("h:1", 1, account)], now=now)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.hold SET amount_fen = 1",
        "DELETE FROM ledger.hold",
        "INSERT INTO ledger.capture VALUES ('p:9', 1, 1)",
        "UPDATE ledger.capture SET amount_fen = 1",
    ],
)
async def test_holds_are_written_by_the_ledgers_functions_alone(books, now, statement):
    await hold(books, [set_aside("h:1", 60)], now=now)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await books.execute(statement)


async def test_of_many_who_capture_release_and_hold_at_once_each_fen_goes_one_way(pool: Pool, now):
    bob = "user_payable:bob"
    async with transaction(pool) as db:
        await post(db, [pay_in("a:1", 100), pay_in("a:2", 100, bob)], now=now)
        await hold(db, [set_aside("h:1", 60), set_aside("h:2", 60, bob)], now=now)
    work = [lambda db, n=n: capture(db, [pay_out("h:1", f"p{n}:1", 7, bob)], now=now) for n in range(12)]
    work += [lambda db, n=n: capture(db, [pay_out("h:2", f"q{n}:1", 7)], now=now) for n in range(6)]
    work += [lambda db: release(db, ["h:1", "h:2"], now=now) for _ in range(4)]
    work += [lambda db, n=n: hold(db, [set_aside(f"k{n}:1", 10)], now=now) for n in range(8)]
    results = await asyncio.gather(*(in_transaction(pool, each) for each in work), return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Exception)]
    assert all(isinstance(each, InsufficientHold | InsufficientBalance) for each in refusals), refusals
    async with pool.acquire() as db:
        assert await holds_astray(db) == []
        captured = await db.fetchval("SELECT coalesce(sum(captured_fen), 0) FROM ledger.hold")
        paid = await db.fetchval(
            "SELECT coalesce(sum(amount_fen), 0) FROM ledger.transfer WHERE event = 'paid'"
        )
    assert captured == paid
