"""Carries facts to the verbs that the story names, and does what the clock asks for.

One look at the queues tells which subscribers have something to do; each then works its queue down, a
batch at a time, beside the others. A verb and the ticking off of its facts are one transaction. When a batch
fails, its facts are tried one by one, so that a single bad one waits alone: those of a verb at once, those of
an errand when they come up again. Any number of workers may run.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import asyncpg
import structlog
import uvloop

from quanhui.base import clock, outbox
from quanhui.base.db import Db, transaction
from quanhui.base.outbox import Batch, Job, LeaseLost
from quanhui.base.steps import Chore, Step
from quanhui.catalogue import CatalogueCache
from quanhui.entry.logging import mask_text
from quanhui.entry.settings import Settings
from quanhui.entry.wiring import open_desk
from quanhui.story import CHORES, STORY, Desk

BATCH = 100
ERRANDS_AT_ONCE = 16
IDLE_PAUSE_S = 0.1
CHORE_PAUSE_S = 0.5
DATABASE_DOWN_PAUSE_S = 1.0
FINISH_WITHIN_S = 15

log = structlog.get_logger()

Result = TypeVar("Result")


class Worker:
    """Works the queues of a story until told to stop. `clock` gives the instant of each batch."""

    def __init__(
        self,
        desk: Desk,
        steps: Sequence[Step] = STORY,
        chores: Sequence[Chore] = CHORES,
        *,
        clock: Callable[[], datetime] = clock.now,
    ) -> None:
        self._desk = desk
        self._steps = {step.subscriber: step for step in steps}
        self._chores = chores
        self._clock = clock
        self._busy: dict[str, asyncio.Task[None]] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish the batches in hand."""
        await asyncio.gather(self._work_queues(stop), self._do_chores(stop))
        if self._busy:
            await asyncio.wait(self._busy.values(), timeout=FINISH_WITHIN_S)

    async def drain(self) -> None:
        """Work until nothing is due: for tests and for the demo of a story."""
        while due := await self._due():
            never = asyncio.Event()
            await asyncio.gather(*(self._work_down(step, never) for step in due))

    async def do_chores(self) -> None:
        """Do every chore that is due, once."""
        for chore in self._chores:
            await self._do_chore(chore)

    async def _work_queues(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            nothing: list[Step] = []
            for step in await _patiently(self._due, default=nothing):
                if step.subscriber not in self._busy:
                    self._begin(step, stop)
            await _pause(stop, IDLE_PAUSE_S)

    async def _do_chores(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await _patiently(self.do_chores, default=None)
            await _pause(stop, CHORE_PAUSE_S)

    def _begin(self, step: Step, stop: asyncio.Event) -> None:
        task = asyncio.create_task(_patiently(lambda: self._work_down(step, stop), default=None))
        self._busy[step.subscriber] = task
        task.add_done_callback(lambda _: self._busy.pop(step.subscriber))

    async def _due(self) -> list[Step]:
        async with self._desk.pool.acquire() as db:
            due = await outbox.due(db, now=self._clock())
        return [self._steps[name] for name in due if name in self._steps]

    async def _work_down(self, step: Step, stop: asyncio.Event) -> None:
        while not stop.is_set():
            now = self._clock()
            async with self._desk.pool.acquire() as db:
                batch = await outbox.take(db, step.subscriber, limit=BATCH, now=now)
            if batch is None:
                return
            if step.verb:
                await self._run_verb(step, batch, batch.jobs, now)
            else:
                await self._run_errand(step, batch, now)
            if len(batch.jobs) < BATCH:
                return

    async def _run_verb(self, step: Step, batch: Batch, jobs: Sequence[Job], now: datetime) -> None:
        assert step.verb
        try:
            async with transaction(self._desk.pool) as db:
                await step.verb(db, jobs, now)
                await batch.done(db, jobs)
        except LeaseLost:
            log.warning("lease_lost", subscriber=step.subscriber)
        except Exception as error:  # noqa: BLE001 - whatever a verb raises is counted against its fact
            if len(jobs) == 1:
                await self._count_failure(step, batch, jobs, error)
                return
            for job in jobs:
                await self._run_verb(step, batch, [job], now)

    async def _run_errand(self, step: Step, batch: Batch, now: datetime) -> None:
        gate = asyncio.Semaphore(ERRANDS_AT_ONCE)

        async def run(jobs: Sequence[Job]) -> None:
            async with gate:
                await self._run_one_errand(step, batch, jobs, now)

        together = [job for job in batch.jobs if not step.alone and job.attempts == 0]
        alone = [[job] for job in batch.jobs if step.alone or job.attempts > 0]
        await asyncio.gather(*(run(jobs) for jobs in [together, *alone] if jobs))

    async def _run_one_errand(self, step: Step, batch: Batch, jobs: Sequence[Job], now: datetime) -> None:
        assert step.errand
        try:
            await step.errand(self._desk, jobs, now)
            async with transaction(self._desk.pool) as db:
                await batch.done(db, jobs)
        except LeaseLost:
            log.warning("lease_lost", subscriber=step.subscriber)
        except Exception as error:  # noqa: BLE001 - whatever an errand raises is counted against its fact
            await self._count_failure(step, batch, jobs, error)

    async def _count_failure(self, step: Step, batch: Batch, jobs: Sequence[Job], error: Exception) -> None:
        """Put jobs off after a failure. If the database is away this raises, and their lease will run out."""
        log.warning(
            "subscriber_failed",
            subscriber=step.subscriber,
            error=type(error).__name__,
            attempts=jobs[0].attempts + 1,
            exc_info=jobs[0].attempts == 0,
        )
        async with transaction(self._desk.pool) as db:
            words = mask_text(f"{type(error).__name__}: {error}")
            await batch.failed(db, jobs, words, now=self._clock())

    async def _do_chore(self, chore: Chore) -> None:
        now = self._clock()

        async def take(db: Db) -> bool:
            return await outbox.take_chore(db, chore.name, every=chore.every, now=now)

        try:
            if chore.verb:
                async with transaction(self._desk.pool) as db:
                    if await take(db):
                        await chore.verb(db, now)
                return
            assert chore.errand
            async with transaction(self._desk.pool) as db:
                mine = await take(db)
            if mine:
                await chore.errand(self._desk, now)
        except Exception as error:
            if _is_lost(error):
                raise
            log.exception("chore_failed", chore=chore.name)


def _is_lost(error: Exception) -> bool:
    """Whether an error looks as if the database went away: no fault of ours, so it needs no traceback."""
    lost = (
        OSError,
        asyncpg.PostgresConnectionError,
        asyncpg.InterfaceError,
        asyncpg.OperatorInterventionError,
        asyncpg.InternalClientError,  # what the driver makes of a server that dies while it answers
    )
    still_there = (
        TimeoutError,  # an OSError: a statement took too long
        ValueError,  # an InterfaceError among them: an argument of the wrong type
        asyncpg.QueryCanceledError,
    )
    return isinstance(error, lost) and not isinstance(error, still_there)


async def _patiently(work: Callable[[], Awaitable[Result]], *, default: Result) -> Result:
    """Do something; if the database went away, wait a little and carry on without a result."""
    try:
        return await work()
    except Exception as error:
        if not _is_lost(error):
            log.exception("worker_error")
        else:
            log.warning("database_unreachable", error=type(error).__name__)
        await asyncio.sleep(DATABASE_DOWN_PAUSE_S)
        return default


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return


def run(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT."""
    uvloop.run(_run(settings))


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with open_desk(
        settings, pool_size=settings.worker_pool_size, name="quanhui-worker", catalogues=CatalogueCache()
    ) as desk:
        log.info("worker_started", subscribers=len(STORY), chores=len(CHORES))
        await Worker(desk).run(stop)
