"""Many at once: what is promised on one connection holds on all of them."""

import asyncio
from datetime import datetime

import pytest

from quanhui.base.db import Pool, in_transaction, transaction
from quanhui.ledger import (
    InsufficientBalance,
    Status,
    Transfer,
    TransferKeyConflict,
    balances,
    fold,
    post,
    reverse,
    trial_balance,
)


def move(key: str, src: str, dst: str, amount_fen: int) -> Transfer:
    return Transfer(
        key=key, src=src, dst=dst, amount_fen=amount_fen, event="tested", subject=key.partition(":")[0]
    )


async def post_alone(pool: Pool, transfers: list[Transfer], now: datetime) -> list[Status]:
    outcomes = await in_transaction(pool, lambda db: post(db, transfers, now=now))
    return [outcome.status for outcome in outcomes]


async def fen(pool: Pool, *codes: str) -> list[int]:
    async with pool.acquire() as db:
        found = await balances(db, codes)
    return [found[code].balance_fen for code in codes]


async def unfolded_and_folded(pool: Pool, code: str) -> tuple[int, int]:
    (exact,) = await fen(pool, code)
    async with pool.acquire() as db:
        folded = await db.fetchval("SELECT balance_fen FROM ledger.account WHERE code = $1", code)
    return exact - folded, folded


@pytest.mark.parametrize("dst", ["user_payable:ann", "payout_pending"])
async def test_of_64_duplicates_at_once_one_is_posted(pool: Pool, now, dst):
    posted = await asyncio.gather(
        *(post_alone(pool, [move("a:1", "custody:bank", dst, 700)], now) for _ in range(64))
    )
    assert sorted(status for statuses in posted for status in statuses) == (
        [Status.DUPLICATE] * 63 + [Status.POSTED]
    )
    assert await fen(pool, dst, "custody:bank") == [700, -700]


async def test_of_two_transfers_that_race_for_one_key_one_is_posted_and_the_other_told(pool: Pool, now):
    results = await asyncio.gather(
        *(post_alone(pool, [move("a:1", "custody:bank", "payout_pending", n)], now) for n in range(1, 21)),
        return_exceptions=True,
    )
    assert [r for r in results if r == [Status.POSTED]] == [[Status.POSTED]]
    assert sum(isinstance(r, TransferKeyConflict) for r in results) == 19
    (amount,) = await fen(pool, "payout_pending")
    assert results[amount - 1] == [Status.POSTED]


async def test_500_credits_to_a_hot_account_all_arrive(pool: Pool, now):
    await asyncio.gather(
        *(post_alone(pool, [move(f"a{n}:1", "custody:bank", "payout_pending", 1)], now) for n in range(500))
    )
    assert await fen(pool, "payout_pending", "custody:bank") == [500, -500]


async def test_20_spenders_of_10_from_100_leave_0_and_10_are_refused(pool: Pool, now):
    await post_alone(pool, [move("a:1", "custody:bank", "user_payable:ann", 100)], now)
    results = await asyncio.gather(
        *(
            post_alone(pool, [move(f"b{n}:1", "user_payable:ann", "payout_pending", 10)], now)
            for n in range(20)
        ),
        return_exceptions=True,
    )
    assert sum(result == [Status.POSTED] for result in results) == 10
    assert sum(isinstance(result, InsufficientBalance) for result in results) == 10
    assert await fen(pool, "user_payable:ann", "payout_pending") == [0, 100]


async def test_opposite_transfers_between_guarded_accounts_never_deadlock(pool: Pool, now):
    ends = ["user_payable:ann", "user_payable:bob"]
    await post_alone(pool, [move(f"a:{end}", "custody:bank", end, 1000) for end in ends], now)

    async def swap(n: int) -> None:
        src, dst = ends if n % 2 else reversed(ends)
        async with transaction(pool) as db:  # no second try: a deadlock would be raised here
            await post(db, [move(f"b{n}:1", src, dst, 1)], now=now)

    await asyncio.gather(*(swap(n) for n in range(60)))
    assert await fen(pool, *ends) == [1000, 1000]


async def test_a_transfer_is_reversed_once_however_many_ask(pool: Pool, now):
    for n in range(12):
        key = f"a{n}:1"
        await post_alone(pool, [move(key, "custody:bank", "payout_pending", 70)], now)

        async def take_back(key: str = key) -> Status:
            async with transaction(pool) as db:
                return (await reverse(db, [key], event="mistake", now=now))[0].status

        statuses = await asyncio.gather(*(take_back() for _ in range(16)))
        assert sorted(statuses) == [Status.DUPLICATE] * 15 + [Status.POSTED]
    assert await fen(pool, "payout_pending", "custody:bank") == [0, 0]


async def test_folding_passes_over_a_posting_that_is_still_open_and_takes_it_later(pool: Pool, now):
    await post_alone(pool, [move("a:1", "custody:bank", "payout_pending", 1)], now)
    async with transaction(pool) as slow:
        await post(slow, [move("b:1", "custody:bank", "payout_pending", 10)], now=now)
        await post_alone(pool, [move("c:1", "custody:bank", "payout_pending", 100)], now)
        async with transaction(pool) as db:
            assert await fold(db, now=now) == 1
        assert await unfolded_and_folded(pool, "payout_pending") == (100, 1)
        own = (await balances(slow, ["payout_pending"]))["payout_pending"].balance_fen
        assert own == 111
    assert await unfolded_and_folded(pool, "payout_pending") == (110, 1)
    async with transaction(pool) as db:
        assert await fold(db, now=now) == 2
        assert await fold(db, now=now) == 0
    assert await unfolded_and_folded(pool, "payout_pending") == (0, 111)


async def test_two_folders_beside_postings_and_readers_stay_exact(pool: Pool, now):
    done = asyncio.Event()

    async def keep_folding() -> int:
        count = 0
        while not done.is_set():
            async with transaction(pool) as db:
                count += await fold(db, now=now)
            await asyncio.sleep(0)
        return count

    async def keep_reading() -> None:
        last = 0
        while not done.is_set():
            async with pool.acquire() as db:
                trial = await trial_balance(db)
            assert (trial.total_fen, trial.client_fen, trial.platform_fen) == (0, 0, 0)
            (pending,) = [line.balance_fen for line in trial.lines if line.prefix == "payout_pending"]
            assert last <= pending <= 300 * 7
            last = pending

    async def keep_posting(worker: int) -> None:
        for n in range(50):
            await post_alone(pool, [move(f"w{worker}_{n}:1", "custody:bank", "payout_pending", 7)], now)

    others = [asyncio.create_task(task) for task in (keep_folding(), keep_folding(), keep_reading())]
    await asyncio.gather(*(keep_posting(worker) for worker in range(6)))
    done.set()
    first, second, _ = await asyncio.gather(*others)
    async with transaction(pool) as db:
        rest = await fold(db, now=now)
    assert first + second + rest == 300
    assert await unfolded_and_folded(pool, "payout_pending") == (0, 2100)
