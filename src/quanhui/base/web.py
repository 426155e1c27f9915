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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from litestar import Response

from quanhui.base import db as database
from quanhui.base.access import Actor
from quanhui.base.db import Db, Pool, load_queries
from quanhui.base.errors import IdempotencyKeyMissing, IdempotencyKeyReused, Problem
from quanhui.base.together import Together

queries = load_queries(__file__, "web.sql")

KEY = re.compile(r"[!-~]{1,128}")
ANSWERS_KEPT = timedelta(days=7)
"""How long a client may retry a command under its key."""

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"
PROBLEM_TYPE_PREFIX = "/problems/"

OK = 200

Ask = TypeVar("Ask")
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
        self.require_key()

        async def work(db: Db) -> Response[View]:
            kept = await _claim_keys(db, [self], now=self.now)
            if kept:
                return kept[self]
            view = await verb(db)
            answer = _Answer(msgspec.json.encode(view), status if isinstance(status, int) else status(view))
            if keep_answer:
                await _keep_answers(db, {self: answer})
            return answer.response()

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


class Commands(Generic[Ask, View]):
    """Commands of one kind that many send at once: their verb does a set of them in one transaction.

    Each has an Idempotency-Key and gets an answer of its own, as from `Call.command`.
    """

    def __init__(
        self,
        verb: Callable[[Db, Sequence[Ask], datetime], Awaitable[Sequence[View]]],
        *,
        status: Callable[[View], int] = lambda _: OK,
    ) -> None:
        self._verb = verb
        self._status = status
        self._together: Together[tuple[Call, Ask], Response[View]] = Together(self._work)

    async def do(self, call: Call, ask: Ask, *, about: Sequence[str]) -> Response[View]:
        """Do what a request asks about some things. Raises as `Call.command`.

        What is asked about one thing, or under one key, is done one after another.
        """
        names = frozenset({*about, f"key {call.actor.id} {call.require_key()}"})
        return await self._together.ask((call, ask), names=names)

    async def _work(self, asked: Sequence[tuple[Call, Ask]]) -> list[Response[View]]:
        calls = [call for call, _ in asked]
        now = max(call.now for call in calls)

        async def work(db: Db) -> list[Response[View]]:
            answers = await _claim_keys(db, calls, now=now)
            fresh = [(call, ask) for call, ask in asked if call not in answers]
            views = await self._verb(db, [ask for _, ask in fresh], now) if fresh else []
            made = {
                call: _Answer(msgspec.json.encode(view), self._status(view))
                for (call, _), view in zip(fresh, views, strict=True)
            }
            await _keep_answers(db, made)
            answers |= {call: answer.response() for call, answer in made.items()}
            return [answers[call] for call in calls]

        return await database.in_transaction(calls[0].pool, work)


class _Answer(NamedTuple):
    body: bytes
    status: int

    def response(self) -> Response[Any]:
        return _raw(self.body, self.status)


async def _claim_keys(db: Db, calls: Sequence[Call], *, now: datetime) -> dict[Call, Response[Any]]:
    """Claim the keys of requests; returns the answers of those that were answered before.

    Raises `IdempotencyKeyReused`. A key that is being used elsewhere is waited for.
    """
    by_key = {(call.actor.id, call.require_key()): call for call in calls}
    rows = await queries.claim(
        db,
        actor_ids=[actor_id for actor_id, _ in by_key],
        keys=[key for _, key in by_key],
        requests=[call.request_hash() for call in by_key.values()],
        now=now,
    )
    answers = {}
    for row in rows:
        call = by_key[row["actor_id"], row["key"]]
        if row["request"] != call.request_hash():
            raise IdempotencyKeyReused
        if row["body"] is not None:
            answers[call] = _raw(row["body"], row["status"])
    return answers


async def _keep_answers(db: Db, answers: Mapping[Call, _Answer]) -> None:
    await queries.keep(
        db,
        actor_ids=[call.actor.id for call in answers],
        keys=[call.require_key() for call in answers],
        statuses=[answer.status for answer in answers.values()],
        bodies=[answer.body for answer in answers.values()],
    )


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
