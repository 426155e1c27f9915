"""People for tests, and the identity routes over HTTP with the call that `entry` would inject."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import httpx
import pyotp
from argon2 import PasswordHasher
from litestar import Litestar, Request, Response
from litestar.di import Provide

from quanhui import customers, staff
from quanhui.base.access import NOBODY, PUBLIC, ActorKind
from quanhui.base.db import Db
from quanhui.base.errors import Forbidden, Problem, Unauthenticated
from quanhui.base.keyring import Keyring
from quanhui.base.tokens import kind_of
from quanhui.base.web import Call
from quanhui.customers.routes import handlers as customer_handlers
from quanhui.staff.routes import handlers as staff_handlers

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "correct horse battery staple"
HASH = CHEAP.hash(PASSWORD)
TOTP_SECRET = "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"
ADDRESS = b"where it came from"
ID_NUMBER = "11010519491231002X"
ANOTHER_ID_NUMBER = "440524188001010014"


def operator(login: str = "wang", *roles: str, **places: str) -> staff.NewOperator:
    return staff.NewOperator(
        login=login,
        name="王守一",
        password_hash=HASH,
        totp_secret=TOTP_SECRET,
        roles=roles or ("finance",),
        **places,
    )


def totp(now: datetime, *, steps: int = 0) -> str:
    return pyotp.TOTP(TOTP_SECRET).at(now, counter_offset=steps)


async def customer(db: Db, keyring: Keyring, *, now: datetime, phone: str = "13800138000") -> str:
    return (await customers.admit_customers(db, keyring, [phone], now=now))[phone].id


async def dump(db: Db) -> str:
    """Everything the identity tables hold, as text; binary columns are in hexadecimal."""
    tables = await db.fetch(
        "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
        "WHERE schemaname IN ('customers', 'staff', 'base')"
    )
    rows = [await db.fetch(f"SELECT t::text AS line FROM {table['name']} t") for table in tables]
    return "\n".join(row["line"] for found in rows for row in found)


class OneConnection:
    """A pool of one: each transaction of a request is a savepoint in the test's own, which is rolled back."""

    def __init__(self, db: Db) -> None:
        self._db = db

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Db]:
        yield self._db


class Web:
    """A client whose clock can be moved."""

    def __init__(self, client: httpx.AsyncClient, now: datetime) -> None:
        self.client = client
        self.now = now
        self._keys = 0

    async def send(
        self, method: str, path: str, body=None, *, token: str | None = None, key: str | None = None
    ):
        self._keys += 1
        headers = {"idempotency-key": key or f"key-{self._keys}"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        return await self.client.request(method, path, json=body, headers=headers)


@asynccontextmanager
async def identity_web(pool: OneConnection, keyring: Keyring, now: datetime) -> AsyncIterator[Web]:
    web: Web

    async def call(request: Request) -> Call:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        actor = NOBODY
        needed = request.route_handler.opt["access"]
        if needed != PUBLIC:
            find = (
                customers.authenticate if kind_of(token) is ActorKind.CUSTOMER else staff.authenticate_session
            )
            async with pool.acquire() as db:
                found = await find(db, token, web.now)
            if found is None:
                raise Unauthenticated
            if found.reach(needed.permission) not in needed.scopes:
                raise Forbidden
            actor = found
        return Call(
            actor=actor,
            now=web.now,
            pool=pool,
            target=f"{request.method} {request.url.path}",
            key=request.headers.get("idempotency-key"),
            body=await request.body(),
            device_id=request.headers.get("device-id"),
        )

    def tell(_request: Request, problem: Problem) -> Response:
        return Response({"type": problem.code, "facts": problem.facts}, status_code=problem.status)

    app = Litestar(
        [*customer_handlers, *staff_handlers],
        dependencies={
            "call": Provide(call),
            "keyring": Provide(lambda: keyring, sync_to_thread=False),
            "passwords": Provide(lambda: staff.Passwords(CHEAP), sync_to_thread=False),
        },
        exception_handlers={Problem: tell},
        openapi_config=None,
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        web = Web(client, now)
        yield web
