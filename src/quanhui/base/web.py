"""The HTTP edge that every domain's `routes.py` shares: one call, one transaction, one answer.

A route reads like this:

    @post("/buyback/orders", opt=needs("buyback.sell", Scope.OWN), status_code=201)
    async def sell(call: Call, keyring: Keyring, data: SellBody) -> Response[OrderView]:
        return await call.command(lambda db: sell_vouchers(db, keyring, ...), status=201)

`command` claims the `Idempotency-Key`, runs the verb, keeps the answer, all in one transaction. A verb
that raises rolls everything back, the key with it, so a failed attempt never poisons a key.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec
from litestar import Response

from quanhui.base import db as database
from quanhui.base.access import Actor
from quanhui.base.db import Db, Pool, load_queries
from quanhui.base.errors import IdempotencyKeyMissing, IdempotencyKeyReused, Problem

queries = load_queries(__file__, "web.sql")

KEY = re.compile(r"[!-~]{1,128}")
ANSWERS_KEPT = timedelta(days=7)
"""How long a client may retry a command under its key."""

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPE_PREFIX = "/problems/"

View = TypeVar("View")


class Call:
    """One authenticated request: who, when, and the transaction it may open.

    `actor` is who calls, `now` the one instant of the request, `pool` the database for handlers that
    must work outside a transaction (calls to outside parties).
    """

    __slots__ = ("_body", "_key", "_target", "actor", "device_id", "now", "pool")

    def __init__(
        self,
        *,
        actor: Actor,
        now: datetime,
        pool: Pool,
        target: str,
        key: str | None,
        body: bytes,
        device_id: str | None,
    ) -> None:
        self.actor = actor
        self.now = now
        self.pool = pool
        self.device_id = device_id
        self._target = target
        self._key = key
        self._body = body

    async def query(self, read: Callable[[Db], Awaitable[View]]) -> View:
        """Run a read on one connection."""
        async with self.pool.acquire() as db:
            return await read(db)

    async def command(
        self,
        verb: Callable[[Db], Awaitable[View]],
        *,
        status: int | Callable[[View], int] = 200,
        keep_answer: bool = True,
    ) -> Response[View]:
        """Run a verb in one transaction under the request's Idempotency-Key.

        Raises `IdempotencyKeyMissing`, `IdempotencyKeyReused`, and whatever the verb raises. With
        `keep_answer=False` (answers that hold a secret) a repeat runs the verb again instead of replaying.
        """
        key = self.require_key()
        request = self.request_hash()

        async def work(db: Db) -> Response[View]:
            kept = await queries.claim(db, actor_id=self.actor.id, key=key, request=request, now=self.now)
            if kept is not None:
                if kept["request"] != request:
                    raise IdempotencyKeyReused
                if kept["body"] is not None:
                    return _raw(kept["body"], kept["status"])
            view = await verb(db)
            answer_status = status if isinstance(status, int) else status(view)
            body = msgspec.json.encode(view)
            if keep_answer:
                await queries.keep(db, actor_id=self.actor.id, key=key, status=answer_status, body=body)
            return _raw(body, answer_status)

        return await database.in_transaction(self.pool, work)

    async def replay(self) -> Response[Any] | None:
        """The answer already given under this key, for handlers that call outside before their command."""
        key = self.require_key()
        async with self.pool.acquire() as db:
            kept = await queries.find(db, actor_id=self.actor.id, key=key)
        if kept is None or kept["body"] is None:
            return None
        if kept["request"] != self.request_hash():
            raise IdempotencyKeyReused
        return _raw(kept["body"], kept["status"])

    def request_hash(self) -> bytes:
        """SHA-256 of method, path and body: what "the same request" means."""
        return hashlib.sha256(self._target.encode() + b"\n" + self._body).digest()

    def require_key(self) -> str:
        """The request's Idempotency-Key. Raises `IdempotencyKeyMissing`."""
        key = self._key
        if key is None or not KEY.fullmatch(key):
            raise IdempotencyKeyMissing
        return key


async def forget_answers(db: Db, *, now: datetime) -> int:
    """Drop answers that are older than `ANSWERS_KEPT`; returns how many."""
    count: int = await queries.forget(db, before=now - ANSWERS_KEPT)
    return count


def _raw(body: bytes, status: int) -> Response[Any]:
    media_type = JSON if status < 400 else PROBLEM_JSON  # noqa: PLR2004
    return Response(content=body, status_code=status, media_type=media_type)


class ProblemView(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 9457 problem details, in Chinese and English, with what to do next."""

    type: str
    title: str
    title_en: str
    status: int
    detail: str
    detail_en: str
    facts: dict[str, Any] = {}


def problem_view(problem: Problem) -> ProblemView:
    """What the caller sees of a problem."""
    return ProblemView(
        type=PROBLEM_TYPE_PREFIX + problem.code,
        title=problem.zh,
        title_en=problem.en,
        status=problem.status,
        detail=problem.remedy_zh,
        detail_en=problem.remedy_en,
        facts=problem.facts,
    )
