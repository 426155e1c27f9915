"""Which database a command works on: the one in the settings, or the embedded server of the data folder."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from quanhui.base.db import Db
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.entry.settings import Settings
from quanhui.entry.supervisor import only_one

OLDEST_VERSION = 16


class DatabaseUnusable(Exception):
    """The database cannot serve us; the message says what to do."""


def running_database_url(settings: Settings) -> str:
    """Where a process that does not start the database itself finds it. Raises `DatabaseUnusable`."""
    if settings.database_url:
        return settings.database_url
    server = EmbeddedPostgres(settings.data_dir)
    if not server.is_served():
        raise DatabaseUnusable("no database: start `quanhui run` first, or set QUANHUI_DATABASE_URL")
    return server.url


@contextmanager
def database_at_hand(settings: Settings) -> Iterator[str]:
    """A database for one command: one that runs, or the embedded server for as long as this lasts."""
    server = EmbeddedPostgres(settings.data_dir) if settings.database_url is None else None
    if server is None or server.is_served():
        yield running_database_url(settings)
        return
    with only_one(settings.data_dir / "run.lock"):
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


async def connect(url: str) -> Db:
    """One connection to a PostgreSQL that is new enough. Raises `DatabaseUnusable`."""
    try:
        db = await asyncpg.connect(url, timeout=10)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise DatabaseUnusable(f"the database does not answer: {type(error).__name__}: {error}") from error
    if db.get_server_version().major < OLDEST_VERSION:
        version = db.get_server_version().major
        await db.close()
        raise DatabaseUnusable(f"PostgreSQL {version} is too old: {OLDEST_VERSION} or newer is needed")
    return db
