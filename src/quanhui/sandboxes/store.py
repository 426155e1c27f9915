"""The durable state of one sandbox: one SQLite file, one writer, many changes to a commit.

A change is a plain function of the connection. Changes that wait at the same time run one after
another in one transaction, and each caller hears of the commit before it answers anyone, so an
answer given is a fact on disk, even if the process is killed the moment after.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

CHECKPOINT_PAGES = 4000


class Refusal(Exception):
    """The party says no, with a word for why. A change raises it before it has written anything."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class Store:
    """Opens or creates the file; `schema` is statements that may run again, each ended by `;`."""

    def __init__(self, path: Path, schema: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._db.executescript(f"BEGIN IMMEDIATE; {schema} COMMIT;")
        self._waiting: list[tuple[Callable[[sqlite3.Connection], Any], asyncio.Future[Any]]] = []

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a read between two commits."""
        return query(self._db)

    def write_now(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run one change in a transaction of its own, for work before the server listens."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            return change(self._db)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run a change in the next commit and return its result once that is done.

        Raises the change's own `Refusal`; any other failure undoes the whole commit and reaches
        everybody in it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append((change, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._commit_waiting)
        return await future

    def close(self) -> None:
        """Close the file; everything committed is in it."""
        self._db.close()

    def _commit_waiting(self) -> None:
        batch, self._waiting = self._waiting, []
        try:
            results = self.write_now(lambda db: [_attempt(change, db) for change, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed to everyone who waits
            for _, future in batch:
                if not future.cancelled():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if future.cancelled():
                continue
            if isinstance(result, Refusal):
                future.set_exception(result)
            else:
                future.set_result(result)


def _attempt(change: Callable[[sqlite3.Connection], Any], db: sqlite3.Connection) -> Any:
    try:
        return change(db)
    except Refusal as refusal:
        return refusal
