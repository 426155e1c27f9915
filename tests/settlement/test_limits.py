"""Limits of the day, and who may approve what: data, held by the database, counted without a race."""

import asyncio
from datetime import datetime, timedelta

import asyncpg
import pytest
from factories.payouts import books, listen, opened, owed_orders, payout_of, secured, sellers, sent, told

from quanhui import ledger, settlement
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.errors import SecondPersonNeeded
from quanhui.ledger import postings
from quanhui.settlement import (
    CUSTODIAN,
    Hold,
    Payout,
    State,
    TransferReport,
    TransferState,
    out_no_of,
)

LARGE, VERY_LARGE = 20_000_01, 200_000_01


def finance(name: str) -> Actor:
    return Actor(kind=ActorKind.STAFF, id=f"opr_{name}", grants={"settlement.approve": Scope.ALL})


ANN, BEN, CAI = finance("ann"), finance("ben"), finance("cai")


async def limit(db: Db, **limits: int | None) -> None:
    for name, fen in limits.items():
        await db.execute(f"UPDATE settlement.limits SET {name}_day_fen = $1", fen)


async def one_opened(db: Db, keyring, now: datetime, **given) -> Payout:
    (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now, **given), now=now)
    return payout


async def again(db: Db, payout: Payout) -> Payout:
    return (await settlement.find_payouts(db, [payout.id]))[payout.id]


async def approve(db: Db, payout: Payout, actor: Actor, now: datetime, **given) -> Payout:
    (after,) = await settlement.approve_payouts(db, [payout.id], actor, now=now, **given)
    kept = await again(db, payout)
    assert (kept.state, kept.approvals, kept.changed_by) == (after.state, after.approvals, after.changed_by)
    return after


# ── Limits of the day ─────────────────────────────────────────────────────────────────────────────────────


async def test_two_workers_never_pass_the_limit_of_the_platforms_day(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        await limit(db, platform=5 * 92_00)
        jobs = await owed_orders(db, keyring, 12, now=now)

    async def open_one(job) -> None:
        async with transaction(pool) as db:
            await settlement.open_payouts(db, [job], now=now)

    await asyncio.gather(*(open_one(job) for job in jobs for _ in range(2)))
    async with transaction(pool) as db:
        payouts = [await payout_of(db, job) for job in jobs]
        counted = await db.fetchval("SELECT amount_fen FROM settlement.day_total WHERE scope = 'platform'")
    states = [payout.state for payout in payouts]
    assert (states.count(State.SUBMITTED), states.count(State.HELD)) == (5, 7)
    assert counted == 5 * 92_00, "an order told of twice counts once"


async def test_a_person_is_paid_up_to_their_limit_whatever_their_accounts(db: Db, keyring, now):
    await limit(db, payee=150_00)
    ((seller, payee), (_, _)) = await sellers(db, keyring, 2, now=now)
    jobs = [await secured(db, keyring, seller_id=seller, payee_id=payee, now=now) for _ in range(2)]
    jobs += await owed_orders(db, keyring, 1, now=now)
    mine, capped, other = await opened(db, jobs, now=now)
    assert [mine.state, other.state] == [State.SUBMITTED, State.SUBMITTED]
    assert (capped.state, capped.hold_reason) == (State.HELD, Hold.PAYEE_DAY_LIMIT)
    assert await books(db, seller) == (92_00, 2 * 92_00)


async def test_what_was_over_the_limit_goes_the_next_day_by_itself(db: Db, keyring, now):
    await limit(db, platform=100_00)
    jobs = await owed_orders(db, keyring, 3, now=now)
    going, *waiting = await opened(db, jobs, now=now)
    assert going.state is State.SUBMITTED
    late_evening, midnight = now + timedelta(hours=11), now + timedelta(hours=12)
    assert [payout.retry_at for payout in waiting] == [midnight, midnight]
    assert await settlement.release_capped(db, now=late_evening) == 0
    assert await settlement.release_capped(db, now=midnight) == 1
    assert await settlement.release_capped(db, now=midnight) == 0
    left = [payout for payout in [await again(db, each) for each in waiting] if payout.state is State.HELD]
    assert [payout.retry_at for payout in left] == [midnight + timedelta(days=1)]
    assert await settlement.release_capped(db, now=midnight + timedelta(days=1)) == 1


async def test_a_person_may_let_go_what_is_over_the_limit_and_it_counts(db: Db, keyring, now):
    await limit(db, platform=100_00)
    _, capped = await opened(db, await owed_orders(db, keyring, 2, now=now), now=now)
    assert (await approve(db, capped, ANN, now)).state is State.SUBMITTED
    assert await db.fetchval("SELECT amount_fen FROM settlement.day_total WHERE scope = 'platform'") == 184_00


async def test_what_is_more_than_a_whole_days_limit_waits_for_a_person(db: Db, keyring, now):
    await limit(db, payee=50_00)
    capped = await one_opened(db, keyring, now)
    assert (capped.hold_reason, capped.retry_at) == (Hold.PAYEE_DAY_LIMIT, None)


async def test_a_capped_payout_no_longer_owed_is_left_to_a_person_and_holds_up_no_other(db, keyring, now):
    await limit(db, platform=0)
    poor, other = await opened(db, await owed_orders(db, keyring, 2, now=now), now=now)
    await db.execute("UPDATE settlement.payout SET retry_at = $1", now)
    taken = postings.stored_value_topup("clawback", customer_id=poor.seller_id, amount_fen=92_00)
    await ledger.post(db, taken, now=now)
    await limit(db, platform=None)
    assert await settlement.release_capped(db, now=now) == 1
    left = await again(db, poor)
    assert (left.state, left.hold_reason, left.retry_at) == (State.HELD, Hold.NOT_OWED, None)
    assert (await again(db, other)).state is State.SUBMITTED


async def test_a_retry_does_not_count_twice(db: Db, keyring, now):
    await limit(db, platform=100_00)
    payout = await one_opened(db, keyring, now)
    await fails(db, payout, now)
    (retried,) = await settlement.retry_payouts(db, [payout.id], ANN, now=now)
    assert retried.state is State.SUBMITTED
    assert await db.fetchval("SELECT amount_fen FROM settlement.day_total WHERE scope = 'platform'") == 92_00


async def fails(db: Db, payout: Payout, now: datetime) -> None:
    await sent(db, payout)
    failed = TransferReport(
        out_no=out_no_of(payout.id, payout.attempts), state=TransferState.FAILED, reason="account_unusable"
    )
    await settlement.record_reports(db, [failed], channel=CUSTODIAN, now=now)


# ── Who may approve ───────────────────────────────────────────────────────────────────────────────────────


async def test_one_person_approves_a_large_payout_that_nobody_changed(db: Db, keyring, now):
    payout = await one_opened(db, keyring, now, net_fen=LARGE)
    assert payout.hold_reason == Hold.ABOVE_LIMIT
    after = await approve(db, payout, ANN, now)
    assert (after.state, after.approvals) == (State.SUBMITTED, (ANN.id,))


async def test_two_different_people_approve_a_very_large_payout(db: Db, keyring, now):
    await listen(db)
    payout = await one_opened(db, keyring, now, net_fen=VERY_LARGE)
    after = await approve(db, payout, ANN, now)
    assert (after.state, after.hold_reason) == (State.HELD, Hold.SECOND_APPROVAL)
    with pytest.raises(SecondPersonNeeded):
        await settlement.approve_payouts(db, [payout.id], ANN, now=now)
    assert await told(db, settlement.TRANSFER_DUE) == []
    after = await approve(db, payout, BEN, now)
    assert (after.state, after.approvals) == (State.SUBMITTED, (ANN.id, BEN.id))
    assert len(await told(db, settlement.TRANSFER_DUE)) == 1
    assert await books(db, payout.seller_id) == (0, VERY_LARGE)


async def test_who_changes_the_account_of_a_large_payout_does_not_approve_it(db: Db, keyring, now):
    (seller, payee), _ = await sellers(db, keyring, 2, now=now)
    job = await secured(db, keyring, seller_id=seller, payee_id=None, now=now, net_fen=LARGE)
    (payout,) = await opened(db, [job], now=now)
    after = await approve(db, payout, ANN, now, payees={payout.id: payee})
    assert (after.state, after.hold_reason, after.payee_id) == (State.HELD, Hold.PAYEE_CHANGED, payee)
    with pytest.raises(SecondPersonNeeded):
        await settlement.approve_payouts(db, [payout.id], ANN, now=now)
    assert (await approve(db, payout, BEN, now)).state is State.SUBMITTED


async def test_who_asks_for_the_retry_of_a_large_payout_does_not_approve_it(db: Db, keyring, now):
    payout = await one_opened(db, keyring, now, net_fen=LARGE)
    await fails(db, await approve(db, payout, ANN, now), now)
    (asked,) = await settlement.retry_payouts(db, [payout.id], BEN, now=now)
    assert (asked.state, asked.hold_reason, asked.approvals) == (State.HELD, Hold.RETRY_ASKED_FOR, ())
    with pytest.raises(SecondPersonNeeded):
        await settlement.approve_payouts(db, [payout.id], BEN, now=now)
    after = await approve(db, payout, ANN, now)
    assert (after.state, after.attempts) == (State.SUBMITTED, 2)
    assert await books(db, payout.seller_id) == (0, LARGE)


async def test_a_change_forgets_who_approved_before_it(db: Db, keyring, now):
    payout = await one_opened(db, keyring, now, net_fen=VERY_LARGE)
    await approve(db, payout, ANN, now)
    await fails(db, await approve(db, payout, BEN, now), now)
    await settlement.retry_payouts(db, [payout.id], CAI, now=now)
    assert (await approve(db, payout, ANN, now)).hold_reason == Hold.SECOND_APPROVAL
    assert (await approve(db, payout, BEN, now)).state is State.SUBMITTED


async def test_two_who_approve_a_very_large_payout_at_once_are_both_counted(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        payout = await one_opened(db, keyring, now, net_fen=VERY_LARGE)

    async def approve_one(actor: Actor) -> None:
        async with transaction(pool) as db:
            await settlement.approve_payouts(db, [payout.id], actor, now=now)

    await asyncio.gather(approve_one(ANN), approve_one(BEN))
    async with transaction(pool) as db:
        after = await again(db, payout)
    assert (after.state, set(after.approvals)) == (State.SUBMITTED, {ANN.id, BEN.id})


@pytest.mark.parametrize("change", ["approvals = '{a,a}'", "approvals = '{a,b}', changed_by = 'a'"])
async def test_the_database_refuses_one_person_where_two_are_needed(db: Db, keyring, now, change):
    payout = await one_opened(db, keyring, now, net_fen=VERY_LARGE)
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(f"UPDATE settlement.payout SET {change} WHERE id = $1", payout.id)
