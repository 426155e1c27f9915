"""A real PostgreSQL for every test: one embedded server a test process, one clean slate a test.

`db` is a connection inside a transaction that is rolled back: for verbs. `pool` has a database of its
own, copied from the migrated one and dropped afterwards: for what needs commits or several connections.
"""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from quanhui.base.db import Db, Pool, open_pool, prepare_connection
from quanhui.base.keyring import Keyring
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres

NOON = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
"""Midday in Shanghai on the day that tests live in."""

_numbers = itertools.count()


@pytest.fixture
def now() -> datetime:
    return NOON


@pytest.fixture(scope="session")
def keyring() -> Keyring:
    return Keyring({1: bytes(range(32))}, bytes(32))


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="quanhui-test-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
async def migrated_url(postgres: EmbeddedPostgres) -> str:
    """The database every other one is copied from; nothing connects to it after this."""
    db = await asyncpg.connect(postgres.url)
    await migrate(db)
    await db.close()
    return postgres.url


@pytest.fixture(scope="session")
async def _shared_url(migrated_url: str) -> str:
    return await _copy(migrated_url)


@pytest.fixture
async def db(_shared_url: str) -> AsyncIterator[Db]:
    connection = await asyncpg.connect(_shared_url)
    await prepare_connection(connection)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.fixture
async def database_url(migrated_url: str) -> AsyncIterator[str]:
    url = await _copy(migrated_url)
    yield url
    admin = await asyncpg.connect(migrated_url.replace("/quanhui?", "/postgres?"))
    await admin.execute(f'DROP DATABASE "{_name_in(url)}" WITH (FORCE)')
    await admin.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, size=20, application_name="test")
    yield opened
    await opened.close()


async def _copy(migrated_url: str) -> str:
    name = f"t{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(migrated_url.replace("/quanhui?", "/postgres?"))
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE quanhui STRATEGY file_copy')
    await admin.close()
    return migrated_url.replace("/quanhui?", f"/{name}?")


def _name_in(url: str) -> str:
    return url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
