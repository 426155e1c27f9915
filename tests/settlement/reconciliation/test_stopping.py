"""When books and mirror differ, payouts stop, and nothing else; a person lets them go on."""

from collections.abc import Sequence
from datetime import datetime

import pytest
from factories.bills import CHANNEL, paid
from factories.payouts import opened, owed_orders, transfer_jobs

from quanhui import ledger, settlement
from quanhui.base import outbox
from quanhui.base.access import Actor, ActorKind
from quanhui.base.db import Pool, transaction
from quanhui.settlement import Payout, TransferOrder, TransferReport, TransferState
from quanhui.settlement.reconciliation.errors import NotStopped

FINANCE = Actor(kind=ActorKind.STAFF, id="opr_1", grants={})


class Paying:
    """An institution that pays whatever it is sent, and counts."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, orders: Sequence[TransferOrder], *, now: datetime) -> list[TransferReport]:
        assert now
        self.sent += [order.out_no for order in orders]
        return [TransferReport(out_no=each.out_no, state=TransferState.SUCCEEDED) for each in orders]


async def one_due(pool: Pool, keyring, now: datetime) -> Payout:
    async with transaction(pool) as db:
        (payout,) = await opened(db, await owed_orders(db, keyring, 1, now=now), now=now)
    return payout


async def watch(pool: Pool, now: datetime) -> int:
    async with transaction(pool) as db:
        return await settlement.watch_books(db, now=now)


async def differ(pool: Pool, now: datetime) -> None:
    """Post a payout that no record knows."""
    async with transaction(pool) as db:
        posted = ledger.postings.payout_confirmed("nobodys", institution=CHANNEL, amount_fen=1)
        await ledger.post(db, posted, now=now)


async def test_books_that_agree_stop_nothing(pool, keyring, now):
    await paid(pool, keyring, 3, now=now)
    await paid(pool, keyring, 1, now=now, state=TransferState.FAILED)
    await one_due(pool, keyring, now)
    assert await watch(pool, now) == 0


async def test_a_difference_stops_payouts_until_a_person_lifts_it(pool, keyring, now):
    institution, payout = Paying(), await one_due(pool, keyring, now)
    async with transaction(pool) as db:
        await outbox.set_routes(db, [(settlement.TRANSFER_DUE, "test"), (settlement.PAYOUTS_STOPPED, "test")])
    await differ(pool, now)
    assert [await watch(pool, now) for _ in range(2)] == [2, 2]
    jobs = transfer_jobs(payout)
    await settlement.send_transfers(pool, {CHANNEL: institution}, keyring, jobs, now=now)
    assert institution.sent == []
    async with transaction(pool) as db:
        await ledger.reverse(db, ["nobodys:payout_ended:0"], event="posted_by_mistake", now=now)
        await settlement.lift_stop(db, FINANCE, note="已冲正", now=now)
        assert await db.fetchval("SELECT count(*) FROM staff.audit_entry WHERE actor_id = $1", FINANCE.id)
    assert await watch(pool, now) == 0
    told = await pool.fetch("SELECT topic, payload FROM base.job ORDER BY id")
    assert [row["topic"] for row in told] == [settlement.PAYOUTS_STOPPED, settlement.TRANSFER_DUE]
    assert told[1]["payload"] == jobs[0].payload
    assert await watch(pool, now) == 0
    assert await pool.fetchval("SELECT count(*) FROM base.job") == 2
    await settlement.send_transfers(pool, {CHANNEL: institution}, keyring, jobs, now=now)
    assert len(institution.sent) == 1


async def test_a_stop_that_is_not_there_cannot_be_lifted(pool, now):
    with pytest.raises(NotStopped):
        async with transaction(pool) as db:
            await settlement.lift_stop(db, FINANCE, note="恢复出款", now=now)


async def test_payouts_are_stopped_once(pool, now):
    async with transaction(pool) as db:
        assert await settlement.stop_payouts(db, FINANCE, reason="演练停付", now=now)
        assert not await settlement.stop_payouts(db, FINANCE, reason="演练停付", now=now)
