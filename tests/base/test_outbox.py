from datetime import timedelta

import pytest

from quanhui.base import outbox
from quanhui.base.db import Db, Pool, transaction
from quanhui.base.outbox import Fact


async def test_a_fact_reaches_each_subscriber_once(db: Db, now):
    await outbox.set_routes(db, [("a.happened", "first"), ("a.happened", "second"), ("b.happened", "first")])
    await outbox.emit(db, [Fact("a.happened", "x_1", {"n": 1}), Fact("nobody.cares", "x_2")], now=now)
    assert sorted(await outbox.due(db, now=now)) == ["first", "second"]
    batch = await outbox.take(db, "first", limit=10, now=now)
    assert [(job.subject, job.payload) for job in batch.jobs] == [("x_1", {"n": 1})]
    assert await outbox.take(db, "first", limit=10, now=now) is None
    await batch.done(db)
    assert await outbox.due(db, now=now) == ["second"]


async def test_a_job_whose_worker_died_is_taken_again_and_the_dead_worker_cannot_finish_it(db: Db, now):
    await outbox.set_routes(db, [("a.happened", "first")])
    await outbox.emit(db, [Fact("a.happened", "x_1")], now=now)
    died = await outbox.take(db, "first", limit=10, now=now)
    later = now + outbox.LEASE
    alive = await outbox.take(db, "first", limit=10, now=later)
    assert [job.id for job in alive.jobs] == [job.id for job in died.jobs]
    with pytest.raises(outbox.LeaseLost):
        await died.done(db)
    await alive.done(db)


async def test_a_failing_job_waits_longer_each_time_then_lies_dead_until_revived(db: Db, now):
    await outbox.set_routes(db, [("a.happened", "first")])
    await outbox.emit(db, [Fact("a.happened", "x_1")], now=now)
    at, waits = now, []
    for _ in range(outbox.MAX_ATTEMPTS):
        batch = await outbox.take(db, "first", limit=1, now=at)
        await batch.failed(db, batch.jobs, "boom", now=at)
        waits.append(outbox.FIRST_DELAY_S * 2 ** batch.jobs[0].attempts)
        at += timedelta(seconds=min(waits[-1], outbox.LONGEST_DELAY_S))
    assert waits == sorted(set(waits))
    assert await outbox.take(db, "first", limit=1, now=at + timedelta(days=1)) is None
    assert await outbox.revive(db, subscriber="first", now=at) == 1
    assert (await outbox.take(db, "first", limit=1, now=at)).jobs[0].attempts == 0


async def test_two_workers_never_hold_the_same_job(pool: Pool, now):
    async with transaction(pool) as db:
        await outbox.set_routes(db, [("a.happened", "first")])
        await outbox.emit(db, [Fact("a.happened", f"x_{i}") for i in range(100)], now=now)
    async with transaction(pool) as one, transaction(pool) as two:
        mine = await outbox.take(one, "first", limit=60, now=now)
        theirs = await outbox.take(two, "first", limit=60, now=now)
    assert len({job.id for job in (*mine.jobs, *theirs.jobs)}) == 100
