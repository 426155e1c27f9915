"""Chores of the clock: each is done by one process, and comes up again in time."""

import asyncio
from datetime import timedelta

from quanhui.base import outbox
from quanhui.base.db import Db, Pool, in_transaction

MINUTE = timedelta(minutes=1)


async def test_a_chore_comes_up_at_once_and_then_every_so_often(db: Db, now):
    due = [
        await outbox.take_chore(db, "sweep", every=MINUTE, now=at)
        for at in (now, now, now + MINUTE - timedelta(microseconds=1), now + MINUTE, now + MINUTE)
    ]
    assert due == [True, False, False, True, False]


async def test_chores_have_times_of_their_own(db: Db, now):
    assert await outbox.take_chore(db, "sweep", every=MINUTE, now=now)
    assert await outbox.take_chore(db, "fold", every=MINUTE, now=now)


async def test_of_many_processes_one_gets_the_chore(pool: Pool, now):
    async def take(at) -> bool:
        return await in_transaction(pool, lambda db: outbox.take_chore(db, "sweep", every=MINUTE, now=at))

    for at in (now, now + MINUTE):
        assert sum(await asyncio.gather(*(take(at) for _ in range(10)))) == 1
