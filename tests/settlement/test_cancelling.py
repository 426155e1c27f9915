"""Cancelling: only what was not sent, or what its channel has closed; the money stays owed."""

from datetime import datetime

import pytest
from factories.payouts import books, opened, owed_orders, sent, transfer_jobs
from hypothesis import HealthCheck, given, settings, strategies as st

from quanhui import ledger, settlement
from quanhui.base.access import Actor, ActorKind, Scope
from quanhui.base.db import Db, Pool, transaction
from quanhui.settlement import (
    CUSTODIAN,
    Hold,
    Payout,
    PayoutMoved,
    State,
    TransferReport,
    TransferState,
    out_no_of,
)

FINANCE = Actor(kind=ActorKind.STAFF, id="opr_1", grants={"settlement.approve": Scope.ALL})


async def one_opened(db: Db, keyring, now: datetime, **given) -> Payout:
    (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now, **given), now=now)
    return payout


async def cancel(db: Db, payout: Payout, now: datetime) -> Payout:
    (after,) = await settlement.cancel_payouts(db, [payout.id], FINANCE, note="asked by phone", now=now)
    return after


async def hear(db: Db, payout: Payout, *states: TransferState, now: datetime) -> Payout:
    out_no = out_no_of(payout.id, payout.attempts)
    reports = [TransferReport(out_no=out_no, state=state, reason="closed") for state in states]
    await settlement.record_reports(db, reports, channel=CUSTODIAN, now=now)
    return (await settlement.find_payouts(db, [payout.id]))[payout.id]


async def test_what_is_held_is_cancelled_and_stays_owed(db: Db, keyring, now):
    payout = await one_opened(db, keyring, now, hold_reason="amount-order")
    assert (await cancel(db, payout, now)).state is State.CANCELLED
    assert await books(db, payout.seller_id) == (92_00, 0)


async def test_what_was_not_sent_is_cancelled_and_never_sent(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        payout = await one_opened(db, keyring, now)
        after = await cancel(db, payout, now)
    assert (after.state, after.failure) == (State.CANCELLED, "cancelled")
    await settlement.send_transfers(pool, {CUSTODIAN: None}, keyring, transfer_jobs(payout), now=now)
    async with transaction(pool) as db:
        assert await books(db, payout.seller_id) == (92_00, 0)


@pytest.mark.parametrize("said", [(), (TransferState.UNKNOWN,), (TransferState.ACCEPTED,)])
async def test_what_may_yet_be_paid_is_not_cancelled(db: Db, keyring, now, said):
    payout = await one_opened(db, keyring, now)
    await sent(db, payout)
    await hear(db, payout, *said, now=now)
    with pytest.raises(PayoutMoved):
        await cancel(db, payout, now)


async def test_a_number_its_channel_never_heard_of_is_not_cancelled_for_it_may_arrive_late(db, keyring, now):
    payout = await one_opened(db, keyring, now)
    await sent(db, payout)
    await hear(db, payout, TransferState.NOT_FOUND, now=now)
    with pytest.raises(PayoutMoved):
        await cancel(db, payout, now)


async def awaiting(db: Db, keyring, now: datetime) -> Payout:
    payout = await one_opened(db, keyring, now)
    await sent(db, payout)
    return await hear(db, payout, TransferState.AWAITING_PAYEE, now=now)


async def test_what_awaits_its_payee_is_cancelled_once_its_channel_has_closed_it(pool: Pool, keyring, now):
    async with transaction(pool) as db:
        payout = await awaiting(db, keyring, now)
        asked = await cancel(db, payout, now)
        assert asked.state is State.AWAITING_PAYEE, "only the channel's answer cancels"
        assert await books(db, payout.seller_id) == (0, 92_00)
    closes = Closes()
    assert await settlement.query_unknown(pool, {CUSTODIAN: closes}, now=now) == 1
    assert closes.told == ["close", "query"]
    async with transaction(pool) as db:
        after = (await settlement.find_payouts(db, [payout.id]))[payout.id]
        assert (after.state, await books(db, payout.seller_id)) == (State.CANCELLED, (92_00, 0))


class Closes:
    """A channel that closes what it is asked to."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def close(self, *_out_nos, **_given):
        self.told.append("close")

    async def query(self, out_nos, **_given):
        self.told.append("query")
        return [
            TransferReport(out_no=out_no, state=TransferState.FAILED, reason="closed") for out_no in out_nos
        ]


async def test_a_payee_who_was_quicker_has_the_money(db: Db, keyring, now):
    payout = await awaiting(db, keyring, now)
    await cancel(db, payout, now)
    after = await hear(db, payout, TransferState.SUCCEEDED, now=now)
    assert (after.state, await books(db, payout.seller_id)) == (State.SUCCEEDED, (0, 0))


async def test_what_was_cancelled_may_be_paid_again_under_a_new_number(db: Db, keyring, now):
    payout = await awaiting(db, keyring, now)
    await cancel(db, payout, now)
    await hear(db, payout, TransferState.FAILED, now=now)
    (again,) = await settlement.retry_payouts(db, [payout.id], FINANCE, now=now)
    assert (again.state, again.attempts) == (State.SUBMITTED, 2)
    await sent(db, again)
    failed = await hear(db, again, TransferState.FAILED, now=now)
    assert failed.state is State.EXPIRED, "the wish to cancel was about the transfer before"


async def test_what_was_cancelled_before_it_ever_went_is_approved_like_a_new_one(db: Db, keyring, now):
    payout = await one_opened(db, keyring, now, hold_reason="amount-order")
    await cancel(db, payout, now)
    (asked,) = await settlement.retry_payouts(db, [payout.id], FINANCE, now=now)
    assert (asked.state, asked.hold_reason) == (State.HELD, Hold.RETRY_ASKED_FOR)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.data())
async def test_a_cancelled_transfer_ends_one_way_whatever_order_its_reports_come_in(
    db: Db, keyring, now, data
):
    words = data.draw(st.lists(st.sampled_from([*TransferState]), min_size=1, max_size=6))
    payout = await awaiting(db, keyring, now)
    await cancel(db, payout, now)
    after = await hear(db, payout, *words, now=now)
    paid = TransferState.SUCCEEDED in words
    back = TransferState.RETURNED in words
    owed, pending = (await books(db, payout.seller_id))[0], await pending_of(db, payout)
    if back:
        assert (after.state, owed, pending) == (State.RETURNED, 92_00, 0)
    elif paid:
        assert (after.state, owed, pending) == (State.SUCCEEDED, 0, 0)
    elif TransferState.FAILED in words:
        assert (after.state, owed, pending) == (State.CANCELLED, 92_00, 0)
    else:
        assert (after.state, owed, pending) == (State.AWAITING_PAYEE, 0, 92_00)


async def pending_of(db: Db, payout: Payout) -> int:
    out_no = out_no_of(payout.id, payout.attempts)
    subjects = (out_no, f"{out_no}-late")
    entries = [each for subject in subjects for each in await ledger.postings_of(db, subject)]
    return sum(
        each.amount_fen * ((each.dst == "payout_pending") - (each.src == "payout_pending"))
        for each in entries
    )
