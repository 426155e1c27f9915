"""Is this installation well? A list of findings, each good or bad, for `quanhui check`."""

from collections.abc import AsyncIterator

import msgspec

from quanhui import evidence, ledger
from quanhui.base import clock
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


async def examine(db: Db, *, evidence_origin: str) -> AsyncIterator[Finding]:
    """Look at the schema, then the books, the log and the queues; a missing migration ends it."""
    missing = await _missing_migrations(db)
    yield Finding(
        "migrations",
        not missing,
        f"{len(migration_files()) - len(missing)} of {len(migration_files())} applied",
        "run `quanhui migrate`",
    )
    if missing:
        return
    yield await _books(db)
    yield await _holds(db)
    yield await _folding(db)
    yield await _log_head(db, evidence_origin)
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


async def _books(db: Db) -> Finding:
    trial = await ledger.trial_balance(db)
    sums = {
        "client book": trial.client_fen,
        "platform book": trial.platform_fen,
        "clearing": trial.clearing_fen,
    }
    wrong = [f"{name} off by {fen} fen" for name, fen in sums.items() if fen]
    return Finding(
        "trial balance",
        not wrong,
        ", ".join(wrong) or "every book sums to 0",
        "stop the worker and find the posting: this must never happen",
    )


async def _holds(db: Db) -> Finding:
    astray = await ledger.holds_astray(db)
    return Finding(
        "holds",
        not astray,
        ", ".join(astray) or "every account holds what its holds say",
        "stop the worker and find the hold: this must never happen",
    )


async def _folding(db: Db) -> Finding:
    lag = await ledger.fold_lag(db, now=clock.now())
    remedy = "is the worker running? a transaction left open holds folding up: see pg_stat_activity"
    if not lag.same_cluster:
        remedy = "this ledger came here by dump and restore: restore the cluster physically instead"
    return Finding(
        "folding",
        not lag.alarm,
        f"{lag.transfers} transfers wait, the oldest for {lag.oldest_s} s",
        remedy,
    )


async def _log_head(db: Db, origin: str) -> Finding:
    checkpoint = await evidence.latest_checkpoint(db)
    if checkpoint is None:
        return Finding("evidence log", True, "nothing signed yet")
    signed_for = checkpoint.note.splitlines()[0]
    return Finding(
        "evidence log",
        signed_for == origin,
        f"{signed_for}, {checkpoint.size} entries, signed {checkpoint.signed_at:%Y-%m-%d %H:%M:%S} UTC",
        "QUANHUI_EVIDENCE_ORIGIN is not the name this log began with: put it back",
    )
