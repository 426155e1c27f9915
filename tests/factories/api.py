"""The whole API in this process, on a database of its own, and people who call it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import msgspec
from factories.identity import operator
from litestar import Litestar

from quanhui import customers, staff
from quanhui.base import clock
from quanhui.base.access import ActorKind
from quanhui.base.db import transaction
from quanhui.base.signing import sign
from quanhui.base.tokens import open_session
from quanhui.entry.http import create_app
from quanhui.entry.settings import Settings, load
from quanhui.entry.worker import Worker
from quanhui.story import Desk

NOWHERE = "http://127.0.0.1:9"
SELL = "/v1/buyback/orders"


def settings_for(database_url: str, **changed: Any) -> Settings:
    """Development settings where every outside party is dead, unless told where it lives."""
    outside = dict.fromkeys(("issuer_url", "institution_url", "sms_url"), NOWHERE)
    cheap = {"password_memory_kib": 8192, "password_passes": 1}
    return msgspec.structs.replace(load({}), database_url=database_url, **{**outside, **cheap, **changed})


@dataclass
class Api:
    """The application as its callers meet it, with every answer kept to be looked through."""

    app: Litestar
    client: httpx.AsyncClient
    answers: list[httpx.Response] = field(default_factory=list)

    @property
    def desk(self) -> Desk:
        return self.app.state.desk

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One request, with a fresh idempotency key unless one is given or None."""
        sent = {}
        if content is None and body is not None:
            content = msgspec.json.encode(body)
        if content is not None:
            sent["content-type"] = "application/json"
        if token:
            sent["authorization"] = f"Bearer {token}"
        if key is not None:
            sent["idempotency-key"] = key or str(uuid.uuid4())
        answer = await self.client.request(method, path, content=content, headers={**sent, **(headers or {})})
        self.answers.append(answer)
        return answer

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.send("GET", path, key=None, **more)

    async def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return await self.send("POST", path, body, **more)

    async def work(self, *, ahead: timedelta = timedelta()) -> None:
        """Let the worker do whatever is due, on a clock that runs ahead."""
        worker = Worker(self.desk, clock=lambda: clock.now() + ahead)
        await worker.do_chores()
        await worker.drain()

    async def customer_token(self, customer_id: str, *, acts_for: str | None = None) -> str:
        """A session of a customer."""
        return await self._session(ActorKind.CUSTOMER, customer_id, acts_for)

    async def staff_token(self, operator_id: str) -> str:
        """A session of an operator."""
        return await self._session(ActorKind.STAFF, operator_id, None)

    async def hire(self, *roles: str, **places: str) -> str:
        """A new operator with these roles, by id."""
        async with transaction(self.desk.pool) as db:
            login = f"op{uuid.uuid4().hex[:12]}"
            (operator_id,) = await staff.enrol(
                db, self.desk.keyring, [operator(login, *roles, **places)], now=clock.now()
            )
        return operator_id

    async def partner(self, **belongs: str | None) -> staff.PartnerKey:
        """A new partner of an enterprise or a merchant."""
        place = {"enterprise_id": None, "merchant_id": None} | belongs
        async with transaction(self.desk.pool) as db:
            return await staff.add_partner(
                db, self.desk.keyring, name="福利平台", **place, actor_id="stf_test", now=clock.now()
            )

    async def own(self, owner_id: str) -> str:
        """A customer's first payee account."""
        async with self.desk.pool.acquire() as db:
            return (await customers.list_payees(db, owner_id))[0].id

    async def _session(self, kind: ActorKind, actor_id: str, acts_for: str | None) -> str:
        async with transaction(self.desk.pool) as db:
            session = await open_session(
                db,
                kind=kind,
                actor_id=actor_id,
                acts_for=acts_for,
                device_id=None,
                lifetime=timedelta(hours=1),
                now=clock.now(),
            )
        return session.token


def signed_headers(key: staff.PartnerKey, method: str, path: str, content: bytes) -> dict[str, str]:
    """What a partner sends with a request; the signature is good once."""
    headers = sign(
        key.secret.encode(),
        id=uuid.uuid4().hex,
        now=clock.now(),
        body=content,
        target=f"{method} {path}",
    )
    return {**headers, staff.KEY_HEADER: key.key_id}


@asynccontextmanager
async def open_api(settings: Settings) -> AsyncIterator[Api]:
    """Start the application, as a server would, and end it."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    started, ending = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        """One task from beginning to end: fixtures are set up and torn down in different ones."""
        async with app.lifespan():
            started.set()
            await ending.wait()

    life = asyncio.create_task(live())
    starting = asyncio.create_task(started.wait())
    await asyncio.wait([life, starting], return_when=asyncio.FIRST_COMPLETED)
    if life.done():
        await life
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Api(app, client)
    finally:
        ending.set()
        await life


def problem_of(answer: httpx.Response) -> str:
    """The code of the problem that an answer tells; the answer must tell it as RFC 9457 wants."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    told = answer.json()
    assert told["status"] == answer.status_code
    assert all(told[name] for name in ("title", "title_en", "detail", "detail_en"))
    assert told["type"].startswith("/problems/")
    return told["type"].removeprefix("/problems/")


async def offer(api: Api, token: str, code: str, **more: str) -> httpx.Response:
    """Offer one voucher for sale."""
    return await api.post(SELL, {"items": [{"code": code, **more}]}, token=token)


async def count_orders(api: Api) -> int:
    """How many orders there are."""
    return await api.desk.pool.fetchval("SELECT count(*) FROM buyback.buyback_order")
