"""PostgreSQL: connections, transactions, and SQL that lives in `queries.sql` files.

Every query is written in its domain's `queries.sql`, named and described, and loaded by aiosql. A call
returns an awaitable: `rows = await queries.find_orders(db, order_ids=[...])`. The name's suffix says what
comes back: none = list of rows, `^` = one row or None, `$` = one value, `!` = nothing.
"""

import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import aiosql
import asyncpg
import msgspec
from aiosql.adapters.asyncpg import AsyncPGAdapter

Db: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Reader: TypeAlias = "Db | Pool"
"""What a single read needs: a connection, or a pool to take one from."""
Row: TypeAlias = asyncpg.Record

T = TypeVar("T")

OPTIONAL_FILTER = re.compile(r"\$\d+(::[a-z]+(\[\])?)? IS NULL OR")
"""What a filter that may be left out looks like in a query: it wants a plan for the filters given."""


class _Queries(AsyncPGAdapter):
    """aiosql adapter whose calls are plain coroutines, on one connection that the caller holds."""

    is_aio_driver = False  # aiosql then returns our coroutine as it is

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._filtered: set[str] = set()

    def process_sql(self, query_name: str, op_type: Any, sql: str) -> str:
        processed: str = super().process_sql(query_name, op_type, sql)  # type: ignore[no-untyped-call]
        if OPTIONAL_FILTER.search(processed):
            self._filtered.add(query_name)
        return processed

    def select(self, db: Db, name: str, sql: str, args: Any, record_class: Any = None) -> Any:
        assert record_class is None
        values = self._in_order(name, args)
        return _fetch_planned(db, sql, values) if name in self._filtered else db.fetch(sql, *values)

    def select_one(self, db: Db, name: str, sql: str, args: Any, record_class: Any = None) -> Any:
        assert record_class is None
        return db.fetchrow(sql, *self._in_order(name, args))

    def select_value(self, db: Db, name: str, sql: str, args: Any) -> Any:
        return db.fetchval(sql, *self._in_order(name, args))

    def insert_update_delete(self, db: Db, name: str, sql: str, args: Any) -> Any:
        return db.execute(sql, *self._in_order(name, args))

    def _in_order(self, name: str, args: dict[str, Any]) -> list[Any]:
        return [args[parameter] for parameter in self.var_sorted[name]]


async def _fetch_planned(db: Db, sql: str, values: Sequence[Any]) -> list[Row]:
    """Rows of a query with optional filters, by a plan for those that are given."""
    async with db.transaction():
        await db.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        return await db.fetch(sql, *values)


def load_queries(module_file: str, name: str = "queries.sql") -> Any:
    """Load the SQL beside a module; every module with SQL says `queries = load_queries(__file__)`."""
    path = Path(module_file).with_name(name)
    return aiosql.from_path(path, _Queries, kwargs_only=True, mandatory_parameters=False)


async def open_pool(url: str, *, size: int, application_name: str) -> Pool:
    """A pool of connections that speak UTC and read and write JSON as Python values.

    A statement is planned once a connection: planning it anew for the length of each array that it is given
    would cost the server more than running it. Lists with optional filters are the exception.
    """
    return await asyncpg.create_pool(
        url,
        min_size=1,
        max_size=size,
        init=prepare_connection,
        reset=_keep_session,
        max_inactive_connection_lifetime=0,
        command_timeout=30,
        server_settings={
            "application_name": application_name,
            "timezone": "UTC",
            "jit": "off",
            "plan_cache_mode": "force_generic_plan",
        },
    )


async def prepare_connection(db: Db) -> None:
    """Teach a connection to carry `json` and `jsonb` as Python values."""
    for kind in ("json", "jsonb"):
        await db.set_type_codec(kind, schema="pg_catalog", encoder=_encode_json, decoder=msgspec.json.decode)


def _encode_json(value: object) -> str:
    return msgspec.json.encode(value).decode()


async def _keep_session(_db: Db) -> None:
    """Sessions hold no state between uses (no temp tables, no SET), so there is nothing to reset."""


@asynccontextmanager
async def transaction(pool: Pool) -> AsyncIterator[Db]:
    """One transaction on a pooled connection: the entry opens it, domains never do."""
    async with pool.acquire() as db, db.transaction():
        yield db


RETRIES_AFTER_DEADLOCK = 3


async def in_transaction(pool: Pool, work: Callable[[Db], Coroutine[Any, Any, T]]) -> T:
    """Run `work` in one transaction; run it again, a few times, if PostgreSQL broke a deadlock."""
    for _ in range(RETRIES_AFTER_DEADLOCK):
        try:
            async with transaction(pool) as db:
                return await work(db)
        except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
            continue
    async with transaction(pool) as db:
        return await work(db)
