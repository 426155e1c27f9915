import asyncio

import asyncpg
import pytest

from quanhui.entry import schema
from quanhui.entry.migrations import MigrationChangedError, migrate, migration_files


@pytest.fixture
async def empty_url(postgres):
    admin = await asyncpg.connect(postgres.url.replace("/quanhui?", "/postgres?"))
    await admin.execute("CREATE DATABASE migrations_here TEMPLATE template0")
    yield postgres.url.replace("/quanhui?", "/migrations_here?")
    await admin.execute("DROP DATABASE migrations_here WITH (FORCE)")
    await admin.close()


@pytest.fixture
async def empty(empty_url):
    db = await asyncpg.connect(empty_url)
    yield db
    await db.close()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (n int);")
    (tmp_path / "0002_two.sql").write_text("CREATE TABLE two (n int);")
    return tmp_path


async def test_what_is_missing_runs_once_in_order(empty, folder):
    assert await migrate(empty, folder) == ["0001_one.sql", "0002_two.sql"]
    assert await migrate(empty, folder) == []
    (folder / "0003_three.sql").write_text("CREATE TABLE three (n int);")
    assert await migrate(empty, folder) == ["0003_three.sql"]


async def test_a_migration_that_fails_leaves_nothing_of_its_run(empty, folder):
    (folder / "0003_bad.sql").write_text("CREATE TABLE three (n int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(empty, folder)
    assert await empty.fetchval("SELECT to_regclass('one')") is None


async def test_a_migration_changed_after_it_ran_is_refused(empty, folder):
    await migrate(empty, folder)
    (folder / "0001_one.sql").write_text("CREATE TABLE one (n bigint);")
    with pytest.raises(MigrationChangedError, match="0001_one"):
        await migrate(empty, folder)


async def test_processes_that_start_together_migrate_once(empty_url, folder):
    several = [await asyncpg.connect(empty_url) for _ in range(4)]
    applied = await asyncio.gather(*(migrate(db, folder) for db in several))
    assert sorted(map(len, applied)) == [0, 0, 0, 2]
    for db in several:
        await db.close()


def test_a_gap_in_the_numbers_is_refused(folder):
    (folder / "0004_four.sql").write_text("SELECT 1;")
    with pytest.raises(ValueError, match="1, 2, 4"):
        migration_files(folder)


async def test_the_migrations_build_the_schema_that_stands_in_schema_sql(postgres, migrated_url):
    built = await asyncio.to_thread(schema.dump, postgres, migrated_url)
    assert schema.FILE.read_text() == built, "run `make schema`"


async def test_every_table_says_what_it_is(db):
    silent = await db.fetch(
        """
        SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
          AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'public')
          AND obj_description(c.oid, 'pg_class') IS NULL
        """
    )
    assert not [row["name"] for row in silent]


async def test_every_id_sorts_by_its_bytes(db):
    """Our ids are ASCII and compare fastest, and alike everywhere, under the collation C."""
    wrong = await db.fetch(
        """
        SELECT table_schema || '.' || table_name || '.' || column_name AS name
        FROM information_schema.columns
        WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'public') AND data_type = 'text'
          AND (column_name = 'id' OR column_name LIKE '%\\_id') AND column_name <> 'device_id'
          AND collation_name IS DISTINCT FROM 'C'
        """
    )
    assert not [row["name"] for row in wrong]
