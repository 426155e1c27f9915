import asyncio
import sqlite3

import pytest

from quanhui.sandboxes.store import Refusal, Store

SCHEMA = "CREATE TABLE IF NOT EXISTS n (n INTEGER PRIMARY KEY);"


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "books.sqlite", SCHEMA)
    yield opened
    opened.close()


def insert(n):
    return lambda db: db.execute("INSERT INTO n VALUES (?)", (n,)).lastrowid


def numbers(store):
    return [row["n"] for row in store.read(lambda db: db.execute("SELECT n FROM n ORDER BY n").fetchall())]


async def test_changes_that_wait_together_share_one_commit(store):
    commits = []
    store.read(lambda db: db.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None))
    results = await asyncio.gather(*(store.write(insert(n)) for n in range(50)))
    assert results == list(range(50))
    assert len(commits) == 1


async def test_a_refusal_reaches_its_own_caller_and_spoils_nobody_elses_change(store):
    def refuse(_db):
        raise Refusal(409, "no")

    outcomes = await asyncio.gather(
        store.write(insert(1)), store.write(refuse), store.write(insert(2)), return_exceptions=True
    )
    assert isinstance(outcomes[1], Refusal)
    assert numbers(store) == [1, 2]


async def test_a_defect_undoes_its_whole_commit_and_nobody_is_told_otherwise(store):
    outcomes = await asyncio.gather(
        store.write(insert(1)), store.write(insert(1)), store.write(insert(2)), return_exceptions=True
    )
    assert all(isinstance(outcome, sqlite3.IntegrityError) for outcome in outcomes)
    assert numbers(store) == []
    assert await store.write(insert(3)) == 3
