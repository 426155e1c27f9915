"""Is this installation well? A list of findings, each good or bad, for `quanhui check`."""

from collections.abc import AsyncIterator

import msgspec

from quanhui import ledger
from quanhui.base.db import Db, load_queries
from quanhui.entry.migrations import migration_files

queries = load_queries(__file__, "doctor.sql")

LONGEST_WAIT_S = 300


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at. `remedy` says what to do when it is not well."""

    name: str
    well: bool
    detail: str
    remedy: str = ""


async def examine(db: Db) -> AsyncIterator[Finding]:
    """Look at the schema, then the books, then the queues; what cannot be read ends the examination."""
    missing = await _missing_migrations(db)
    yield Finding(
        "migrations",
        not missing,
        f"{len(migration_files()) - len(missing)} of {len(migration_files())} applied",
        "run `quanhui migrate`",
    )
    if missing:
        return
    async for finding in _books(db):
        yield finding
    jobs = await queries.count_jobs(db)
    yield Finding(
        "waiting facts",
        jobs["longest_wait_s"] <= LONGEST_WAIT_S,
        f"{jobs['due']} due, the oldest for {jobs['longest_wait_s']} s",
        "is the worker running? see var/log/worker.log",
    )
    yield Finding(
        "dead letters",
        jobs["dead"] == 0,
        f"{jobs['dead']} given up",
        "read base.job.last_error, mend the cause, then revive them",
    )


async def _missing_migrations(db: Db) -> list[str]:
    if not await queries.has_migrations(db):
        return [file.name for file in migration_files()]
    done = {row["name"] for row in await queries.list_migrations(db)}
    return [file.name for file in migration_files() if file.name not in done]


async def _books(db: Db) -> AsyncIterator[Finding]:
    trial = await ledger.trial_balance(db)
    sums = {
        "client book": trial.client_fen,
        "platform book": trial.platform_fen,
        "clearing": trial.clearing_fen,
    }
    wrong = {name: fen for name, fen in sums.items() if fen}
    yield Finding(
        "trial balance",
        not wrong,
        ", ".join(f"{name} off by {fen} fen" for name, fen in wrong.items()) or "every book sums to 0",
        "stop the worker and find the posting: this must never happen",
    )
