"""Facts in the caller's transaction; the worker carries each to the verbs that `story.py` names.

`emit` writes one job per subscriber of a fact's topic, in the transaction that made the fact true, so a
fact is never lost and never told before its commit. A worker takes jobs in batches under a lease, runs
the subscriber, and removes the jobs in the subscriber's own transaction: the effect and the removal are one.
A job whose worker died is taken again when its lease ends; one that keeps failing waits longer each time
and, after `MAX_ATTEMPTS`, lies in the dead letters until someone revives it.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from quanhui.base.db import Db, Row, load_queries

queries = load_queries(__file__, "outbox.sql")

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 12
FIRST_DELAY_S = 1
LONGEST_DELAY_S = 3600


class Fact(msgspec.Struct, frozen=True):
    """Something that became true. `topic` is `domain.what_happened`; `subject` the id it is about."""

    topic: str
    subject: str
    payload: dict[str, Any] = {}


class Job(msgspec.Struct, frozen=True):
    """One fact on its way to one subscriber, held under a lease."""

    id: int
    topic: str
    subject: str
    payload: dict[str, Any]
    attempts: int


class LeaseLost(Exception):
    """The lease ran out and another worker has the jobs: roll back, they will do it."""


class Subscriber(Protocol):
    """What the story names: a stable name, used as the queue."""

    name: str


async def set_routes(db: Db, routes: Sequence[tuple[str, str]]) -> None:
    """Make (topic, subscriber) exactly these. Called when a process starts, from `story.py`."""
    await queries.set_routes(
        db, topics=[topic for topic, _ in routes], subscribers=[subscriber for _, subscriber in routes]
    )


async def emit(db: Db, facts: Sequence[Fact], *, now: datetime) -> None:
    """Record facts for every subscriber of their topics, in the caller's transaction."""
    await queries.emit(
        db,
        topics=[fact.topic for fact in facts],
        subjects=[fact.subject for fact in facts],
        payloads=[msgspec.json.encode(fact.payload).decode() for fact in facts],
        now=now,
    )


class Batch:
    """Jobs of one subscriber under one lease. `done` must run in the transaction of the effects."""

    def __init__(self, subscriber: str, lease: str, jobs: Sequence[Job]) -> None:
        self.subscriber = subscriber
        self.jobs = tuple(jobs)
        self._lease = lease

    async def done(self, db: Db, jobs: Sequence[Job] | None = None) -> None:
        """Remove jobs (all of them unless named) in this transaction; `LeaseLost` if they are not ours."""
        ids = [job.id for job in (self.jobs if jobs is None else jobs)]
        removed = await queries.finish(db, ids=ids, lease=self._lease)
        if removed != len(ids):
            raise LeaseLost

    async def later(self, db: Db, jobs: Sequence[Job], *, until: datetime) -> None:
        """Put jobs back without counting a failure: the moment for them has not come."""
        await queries.postpone(db, ids=[job.id for job in jobs], lease=self._lease, until=until)

    async def failed(self, db: Db, jobs: Sequence[Job], error: str, *, now: datetime) -> None:
        """Count a failure: wait 1 s, 2 s, 4 s … up to an hour, then the dead letters."""
        delays = [min(FIRST_DELAY_S * 2**job.attempts, LONGEST_DELAY_S) for job in jobs]
        await queries.fail(
            db,
            ids=[job.id for job in jobs],
            available_at=[now + timedelta(seconds=delay) for delay in delays],
            lease=self._lease,
            error=error[:500],
            max_attempts=MAX_ATTEMPTS,
            now=now,
        )


async def take(db: Db, subscriber: str, *, limit: int, now: datetime) -> Batch | None:
    """Lease up to `limit` due jobs of a subscriber, oldest first; None when there is nothing to do."""
    lease = secrets.token_hex(8)
    rows = await queries.take(
        db, subscriber=subscriber, lease=lease, limit=limit, now=now, lease_until=now + LEASE
    )
    if not rows:
        return None
    jobs = [Job(**dict(row)) for row in rows]
    return Batch(subscriber, lease, sorted(jobs, key=lambda job: job.id))


async def due(db: Db, *, now: datetime) -> list[str]:
    """Subscribers that have at least one job to do now."""
    return [row["subscriber"] for row in await queries.due(db, now=now)]


async def backlog(db: Db) -> list[Row]:
    """For each subscriber: how many jobs wait, how many are dead, and how old the oldest is."""
    rows: list[Row] = await queries.backlog(db)
    return rows


async def dead_letters(db: Db, *, before: int | None, limit: int) -> list[Row]:
    """Jobs that were given up, newest first, after a cursor."""
    rows: list[Row] = await queries.dead_letters(db, before=before, limit=limit)
    return rows


async def revive(db: Db, *, subscriber: str | None, now: datetime) -> int:
    """Give dead letters a fresh set of attempts; returns how many."""
    count: int = await queries.revive(db, subscriber=subscriber, now=now)
    return count


async def take_chore(db: Db, name: str, *, every: timedelta, now: datetime) -> bool:
    """Whether a chore of the clock is due and ours to do; its next time is then `now + every`."""
    return bool(await queries.take_chore(db, name=name, next_at=now + every, now=now))
