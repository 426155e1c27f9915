"""The worker: facts reach their verbs once, bad ones wait alone, and a lost database is survived."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import asyncpg
import pytest
from fakes.outside import until

from quanhui.base import outbox
from quanhui.base.db import Db, Pool, prepare_connection, transaction
from quanhui.base.outbox import Fact, Job
from quanhui.base.steps import Chore, Step, When
from quanhui.entry import worker
from quanhui.entry.logging import MASK
from quanhui.entry.worker import ERRANDS_AT_ONCE, Worker
from quanhui.story import Desk

HAPPENED = "test.happened"
WHEN = When(HAPPENED)
POISON = "x_13"


@pytest.fixture
async def queues(module_pool: Pool) -> AsyncIterator[Pool]:
    """A database with empty queues and no chores."""
    yield module_pool
    await module_pool.execute("TRUNCATE base.job, base.route, base.chore")


class Clock:
    """Starts at an instant and runs `speed` times as fast as time does; 0 stands still."""

    def __init__(self, start: datetime, speed: float = 0) -> None:
        self.start, self.speed, self.began = start, speed, time.monotonic()

    def __call__(self) -> datetime:
        return self.start + timedelta(seconds=(time.monotonic() - self.began) * self.speed)


def desk(pool: Pool) -> Desk:
    """Steps of these tests need no more of it than the database."""
    return Desk(pool=pool, keyring=None, terms=None, connectors=None, institution=None, channels={}, sms=None)


async def emit(pool: Pool, steps: Sequence[Step], subjects: Sequence[str], now: datetime, **payload) -> None:
    async with transaction(pool) as db:
        await outbox.set_routes(db, [(step.fact, step.subscriber) for step in steps])
        await outbox.emit(db, [Fact(HAPPENED, subject, payload) for subject in subjects], now=now)


async def write(db: Db, jobs: Sequence[Job]) -> None:
    """The effect of a verb: fails the second time for the same subject, because a chore's name is unique."""
    await db.executemany("INSERT INTO base.chore VALUES ($1, now())", [(job.subject,) for job in jobs])


async def written(pool: Pool) -> list[str]:
    return [row["name"] for row in await pool.fetch("SELECT name FROM base.chore ORDER BY name")]


async def waiting(pool: Pool) -> list[tuple[str, int]]:
    rows = await pool.fetch("SELECT subject, attempts FROM base.job ORDER BY id")
    return [(row["subject"], row["attempts"]) for row in rows]


def subjects(count: int) -> list[str]:
    return [f"x_{number:02}" for number in range(count)]


def verb(work) -> Step:
    return WHEN.then("test.verb", work)


async def drain(pool: Pool, step: Step, clock: Clock) -> None:
    await asyncio.wait_for(Worker(desk(pool), [step], (), clock=clock).drain(), 20)


async def test_facts_reach_their_verb_many_at_a_time_and_in_order(queues: Pool, now):
    batches: list[list[str]] = []

    async def work(db: Db, jobs: Sequence[Job], at: datetime) -> None:
        assert at == now
        batches.append([job.subject for job in jobs])
        await write(db, jobs)

    await emit(queues, [verb(work)], subjects(30), now)
    await drain(queues, verb(work), Clock(now))
    assert batches == [subjects(30)]
    assert (await written(queues), await waiting(queues)) == (subjects(30), [])


async def test_a_long_queue_is_worked_down_batch_by_batch(queues: Pool, now, monkeypatch):
    monkeypatch.setattr(worker, "BATCH", 4)
    sizes: list[int] = []

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        sizes.append(len(jobs))
        await write(db, jobs)

    await emit(queues, [verb(work)], subjects(10), now)
    await drain(queues, verb(work), Clock(now))
    assert sizes == [4, 4, 2]
    assert await written(queues) == subjects(10)


async def test_a_verb_and_the_ticking_off_of_its_fact_are_one_transaction(queues: Pool, now):
    """The verb has written when it fails: nothing of it stays, and the fact waits for another try."""

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)
        if jobs[0].attempts == 0:
            raise RuntimeError("after writing")

    await emit(queues, [verb(work)], ["x_01"], now)
    await drain(queues, verb(work), Clock(now))
    assert (await written(queues), await waiting(queues)) == ([], [("x_01", 1)])
    await drain(queues, verb(work), Clock(now + timedelta(seconds=1)))
    assert (await written(queues), await waiting(queues)) == (["x_01"], [])


async def test_a_verb_that_outlived_its_lease_leaves_nothing(queues: Pool, now):
    """Another worker has the facts by then: what this one did is rolled back, and counts against nobody."""

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)
        async with transaction(queues) as other:
            taken = await outbox.take(other, "test.verb", limit=10, now=now + outbox.LEASE)
        assert taken is not None

    await emit(queues, [verb(work)], ["x_01"], now)
    await drain(queues, verb(work), Clock(now))
    assert (await written(queues), await waiting(queues)) == ([], [("x_01", 0)])


async def raise_wrong_key(_db: Db, _job: Job) -> None:
    raise KeyError("order_id")


async def raise_wrong_argument(db: Db, _job: Job) -> None:
    await db.fetchval("SELECT $1::int", "not a number")


async def raise_in_the_database(db: Db, _job: Job) -> None:
    await db.execute("SELECT 1 / 0")


async def raise_timeout(_db: Db, _job: Job) -> None:
    raise TimeoutError


async def raise_cancelled_statement(db: Db, _job: Job) -> None:
    await db.execute("SET LOCAL statement_timeout = 1")
    await db.execute("SELECT pg_sleep(1)")


POISONS = [
    raise_wrong_key,
    raise_wrong_argument,
    raise_in_the_database,
    raise_timeout,
    raise_cancelled_statement,
]


@pytest.mark.parametrize("bite", POISONS, ids=lambda bite: bite.__name__)
async def test_a_poisoned_fact_of_a_verb_waits_alone_while_its_batch_mates_succeed(queues: Pool, now, bite):
    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)
        for job in jobs:
            if job.subject == POISON:
                await bite(db, job)

    await emit(queues, [verb(work)], subjects(20), now)
    await drain(queues, verb(work), Clock(now))
    assert await written(queues) == [subject for subject in subjects(20) if subject != POISON]
    assert await waiting(queues) == [(POISON, 1)]


async def test_a_poisoned_fact_lies_among_the_dead_letters_in_the_end_and_says_why_without_a_code(
    queues: Pool, now
):
    async def work(_db: Db, _jobs: Sequence[Job], _: datetime) -> None:
        raise RuntimeError("no good: RJ50-7K2M-9QX4-T3WB")

    await emit(queues, [verb(work)], ["x_01"], now)
    for day in range(outbox.MAX_ATTEMPTS):
        await drain(queues, verb(work), Clock(now + timedelta(days=day)))
    row = await queues.fetchrow("SELECT attempts, dead_at, last_error FROM base.job")
    assert (row["attempts"], row["last_error"]) == (
        outbox.MAX_ATTEMPTS,
        f"RuntimeError: no good: {MASK}",
    )
    assert row["dead_at"] == now + timedelta(days=outbox.MAX_ATTEMPTS - 1)


async def test_an_errand_has_no_transaction_around_it_and_its_facts_are_gone_after_it(queues: Pool, now):
    seen: list[list[str]] = []

    async def errand(found: Desk, jobs: Sequence[Job], _: datetime) -> None:
        busy = await found.pool.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state LIKE 'idle in%'"
        )
        assert busy == 0
        seen.append([job.subject for job in jobs])

    step = WHEN.send("test.errand", errand)
    await emit(queues, [step], subjects(3), now)
    await drain(queues, step, Clock(now))
    assert (seen, await waiting(queues)) == ([subjects(3)], [])


async def test_a_poisoned_fact_of_an_errand_waits_alone_the_next_time(queues: Pool, now):
    runs: Counter[str] = Counter()

    async def errand(_: Desk, jobs: Sequence[Job], __: datetime) -> None:
        runs.update(job.subject for job in jobs)
        if POISON in {job.subject for job in jobs}:
            raise RuntimeError("no good")

    step = WHEN.send("test.errand", errand)
    await emit(queues, [step], subjects(20), now)
    await drain(queues, step, Clock(now))
    assert await waiting(queues) == [(subject, 1) for subject in subjects(20)]
    await drain(queues, step, Clock(now + timedelta(seconds=1)))
    assert await waiting(queues) == [(POISON, 2)]
    assert set(runs.values()) == {2}


async def test_facts_that_come_alone_are_run_alone_and_not_too_many_at_once(queues: Pool, now):
    running = most = 0

    async def errand(_: Desk, jobs: Sequence[Job], __: datetime) -> None:
        nonlocal running, most
        (job,) = jobs
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        if job.subject == POISON:
            raise TimeoutError

    step = WHEN.send_each("test.errand", errand)
    await emit(queues, [step], subjects(40), now)
    await drain(queues, step, Clock(now))
    assert most == ERRANDS_AT_ONCE
    assert await waiting(queues) == [(POISON, 1)]


async def test_an_errand_whose_worker_died_is_run_again(queues: Pool, now):
    """It is done outside, but nobody ticked it off: errands are safe to repeat, facts are never lost."""
    runs = 0

    async def errand(_: Desk, _jobs: Sequence[Job], __: datetime) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise asyncio.CancelledError

    step = WHEN.send("test.errand", errand)
    await emit(queues, [step], ["x_01"], now)
    with pytest.raises(asyncio.CancelledError):
        await drain(queues, step, Clock(now))
    await drain(queues, step, Clock(now + outbox.LEASE - timedelta(seconds=1)))
    assert runs == 1
    await drain(queues, step, Clock(now + outbox.LEASE))
    assert (runs, await waiting(queues)) == (2, [])


async def test_facts_for_somebody_else_are_left_alone(queues: Pool, now):
    other = WHEN.then("another.verb", write)

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)

    await emit(queues, [verb(work), other], ["x_01"], now)
    await drain(queues, verb(work), Clock(now))
    assert await queues.fetchval("SELECT subscriber FROM base.job") == "another.verb"


async def test_several_workers_do_each_fact_once(queues: Pool, now, monkeypatch):
    monkeypatch.setattr(worker, "BATCH", 5)

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await asyncio.sleep(0.005)
        await write(db, jobs)

    await emit(queues, [verb(work)], subjects(60), now)
    await asyncio.gather(*(drain(queues, verb(work), Clock(now)) for _ in range(4)))
    assert (await written(queues), await waiting(queues)) == (subjects(60), [])


@asynccontextmanager
async def running(pool: Pool, steps: Sequence[Step], clock: Clock, chores: Sequence[Chore] = ()):
    """A worker that runs until the end of the block."""
    stop = asyncio.Event()
    task = asyncio.create_task(Worker(desk(pool), steps, chores, clock=clock).run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def eventually(check) -> None:
    deadline = time.monotonic() + 10
    while not await check():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def cut_connections(database_url: str) -> int:
    """Every connection to the database is broken, as when the server restarts."""
    async with connection(database_url) as admin:
        cut = await admin.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    return len(cut)


@asynccontextmanager
async def connection(database_url: str):
    """One that no pool has touched."""
    db = await asyncpg.connect(database_url)
    await prepare_connection(db)
    yield db
    await db.close()


async def test_a_lost_database_is_survived_and_no_fact_is_lost(
    pool: Pool, database_url: str, now, monkeypatch
):
    monkeypatch.setattr(worker, "DATABASE_DOWN_PAUSE_S", 0.1)
    entered = asyncio.Event()

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)
        if not entered.is_set():
            entered.set()
            await db.execute("SELECT pg_sleep(5)")

    clock = Clock(now, speed=60)
    await emit(pool, [verb(work)], subjects(3), now)
    async with running(pool, [verb(work)], clock):
        await asyncio.wait_for(entered.wait(), 5)
        assert await cut_connections(database_url) >= 1
        await eventually(lambda: _is(written, pool, subjects(3)))
        await cut_connections(database_url)
        async with connection(database_url) as db:
            await outbox.emit(db, [Fact(HAPPENED, "x_99")], now=clock())
        await eventually(lambda: _is(waiting, pool, []))
    assert await written(pool) == [*subjects(3), "x_99"]


async def _is(read, pool: Pool, wanted) -> bool:
    try:
        return await read(pool) == wanted
    except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return False


async def test_a_worker_that_is_told_to_stop_finishes_its_batch_and_takes_no_other(
    queues: Pool, now, monkeypatch
):
    monkeypatch.setattr(worker, "BATCH", 1)
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def work(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)
        entered.set()
        await go_on.wait()

    await emit(queues, [verb(work)], subjects(5), now)
    stop = asyncio.Event()
    task = asyncio.create_task(Worker(desk(queues), [verb(work)], (), clock=Clock(now)).run(stop))
    await asyncio.wait_for(entered.wait(), 5)
    stop.set()
    await asyncio.sleep(0.1)
    assert not task.done()
    go_on.set()
    await asyncio.wait_for(task, 5)
    assert await written(queues) == ["x_00"]
    assert [subject for subject, _ in await waiting(queues)] == subjects(5)[1:]


async def test_a_slow_subscriber_holds_up_nobody_else(queues: Pool, now):
    free = asyncio.Event()

    async def slow(_db: Db, _jobs: Sequence[Job], _: datetime) -> None:
        await free.wait()

    async def quick(db: Db, jobs: Sequence[Job], _: datetime) -> None:
        await write(db, jobs)

    steps = [WHEN.then("test.slow", slow), WHEN.then("test.quick", quick)]
    await emit(queues, steps, ["x_01"], now)
    async with running(queues, steps, Clock(now)):
        await eventually(lambda: _is(written, queues, ["x_01"]))
        await emit(queues, steps, ["x_02"], now)
        await eventually(lambda: _is(written, queues, ["x_01", "x_02"]))
        free.set()


# ── Chores ────────────────────────────────────────────────────────────────────────────────────────────────


def a_chore(name: str, ran: list[str], *, error: Exception | None = None, outside: bool = False) -> Chore:
    async def look_after(_: object, __: datetime) -> int:
        ran.append(name)
        if error:
            raise error
        return 1

    every = timedelta(minutes=1)
    if outside:
        return Chore(name, every, errand=look_after)
    return Chore(name, every, verb=look_after)


@pytest.mark.parametrize("outside", [False, True])
async def test_a_chore_is_done_by_one_of_many_workers_and_again_in_time(queues: Pool, now, outside):
    ran: list[str] = []
    chore = a_chore("sweep", ran, outside=outside)

    async def all_workers(at: datetime) -> None:
        await asyncio.gather(
            *(Worker(desk(queues), (), [chore], clock=Clock(at)).do_chores() for _ in range(5))
        )

    await all_workers(now)
    assert ran == ["sweep"]
    await all_workers(now + timedelta(seconds=59))
    assert ran == ["sweep"]
    await all_workers(now + timedelta(minutes=1))
    assert ran == ["sweep", "sweep"]


@pytest.mark.parametrize(
    "error", [RuntimeError("no good"), TimeoutError(), asyncpg.exceptions._base.DataError("wrong argument")]
)
@pytest.mark.parametrize("outside", [False, True])
async def test_a_chore_that_fails_keeps_no_other_from_being_done(queues: Pool, now, error, outside):
    ran: list[str] = []
    chores = [a_chore("bad", ran, error=error, outside=outside), a_chore("good", ran)]
    await Worker(desk(queues), (), chores, clock=Clock(now)).do_chores()
    assert ran == ["bad", "good"]


async def test_a_database_chore_that_fails_is_due_again_at_once(queues: Pool, now):
    ran: list[str] = []
    chore = a_chore("bad", ran, error=RuntimeError("no good"))
    for _ in range(2):
        await Worker(desk(queues), (), [chore], clock=Clock(now)).do_chores()
    assert ran == ["bad", "bad"]


async def test_a_running_worker_does_its_chores(queues: Pool, now):
    ran: list[str] = []
    async with running(queues, (), Clock(now, speed=300), [a_chore("sweep", ran)]):
        assert await until(lambda: len(ran) >= 2)


def test_every_line_of_the_story_has_a_queue_of_its_own_and_one_thing_to_do():
    assert len({step.subscriber for step in worker.STORY}) == len(worker.STORY)
    assert all((step.verb is None) != (step.errand is None) for step in worker.STORY)
    assert len({chore.name for chore in worker.CHORES}) == len(worker.CHORES)
    assert all((chore.verb is None) != (chore.errand is None) for chore in worker.CHORES)
