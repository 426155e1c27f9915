"""Small tables of rules, kept in memory by each process and at most a second behind the database."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from quanhui.base.db import Reader, load_queries

queries = load_queries(__file__, "cached.sql")

LOOK_AGAIN_AFTER = timedelta(seconds=1)

Table = TypeVar("Table")


class Cached(Generic[Table]):
    """One table of rules. `name` is its row in `base.data_version`, which a trigger bumps on a change."""

    def __init__(self, name: str, load: Callable[[Reader, int], Awaitable[Table]]) -> None:
        self._name = name
        self._load = load
        self._kept: tuple[int, Table] | None = None
        self._looked_at: datetime | None = None

    async def get(self, db: Reader, now: datetime) -> Table:
        """The present table. The version is read before the rows, so they are never older than it says."""
        if self._kept and self._looked_at and abs(now - self._looked_at) < LOOK_AGAIN_AFTER:
            return self._kept[1]
        version = await queries.version(db, name=self._name)
        if self._kept is None or self._kept[0] != version:
            self._kept = (version, await self._load(db, version))
        self._looked_at = now
        return self._kept[1]
