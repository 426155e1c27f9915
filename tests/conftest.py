"""A real PostgreSQL for every test: one embedded server a test process, one clean slate a test.

`db` is a connection inside a transaction that is rolled back: for verbs. `pool` has a database of its
own, copied from the migrated one and dropped afterwards: for what needs commits or several connections.
"""

import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from quanhui.base import clock
from quanhui.base.db import Db, Pool, open_pool, prepare_connection
from quanhui.base.keyring import Keyring
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.entry.settings import load
from quanhui.sample import SampleSummary, load_sample

NOON = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
"""Midday in Shanghai on the day that tests live in."""

_numbers = itertools.count()


@dataclass(frozen=True)
class Sample:
    """A database with the sample in it, the books of the other issuers, and whom to sign in as."""

    url: str
    outside_seed_file: Path
    summary: SampleSummary


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
    async with _database(migrated_url) as url:
        yield url


@pytest.fixture(scope="module")
async def module_pool(migrated_url: str) -> AsyncIterator[Pool]:
    """One database for a module whose tests clean up what they commit: a copy each costs half a second."""
    async with _database(migrated_url) as url:
        opened = await open_pool(url, size=20, application_name="test")
        yield opened
        await opened.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(database_url, size=20, application_name="test")
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def sample(migrated_url: str, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A small sample, loaded once: who wants it copies its database with `copy_database`."""
    settings = load({})
    url = await _copy(migrated_url)
    seed_file = tmp_path_factory.mktemp("sample") / "outside.jsonl"
    opened = await open_pool(url, size=2, application_name="sample")
    summary = await load_sample(
        opened,
        Keyring(settings.sealing_keys, settings.fingerprint_key),
        seed=7,
        stores=20,
        customers=20,
        vouchers=300,
        outside_seed_file=seed_file,
        now=clock.now(),
    )
    await opened.close()
    return Sample(url, seed_file, summary)


@pytest.fixture(scope="session")
def copy_database() -> Callable[[str], Awaitable[str]]:
    """Copies a database that nothing is connected to; the copies go with the server."""
    return _copy


@asynccontextmanager
async def _database(migrated_url: str) -> AsyncIterator[str]:
    url = await _copy(migrated_url)
    yield url
    admin = await asyncpg.connect(migrated_url.replace("/quanhui?", "/postgres?"))
    await admin.execute(f'DROP DATABASE "{_name_in(url)}" WITH (FORCE)')
    await admin.close()


async def _copy(template_url: str) -> str:
    name, template = f"t{os.getpid()}_{next(_numbers)}", _name_in(template_url)
    admin = await asyncpg.connect(template_url.replace(f"/{template}?", "/postgres?"))
    await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
    await admin.close()
    return template_url.replace(f"/{template}?", f"/{name}?")


def _name_in(url: str) -> str:
    return url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
