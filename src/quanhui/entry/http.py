"""HTTP: mounts every domain's routes, finds out who calls, refuses what was not declared, tells problems."""

import os
import re
import secrets
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import asyncpg
import msgspec
import structlog
from argon2 import PasswordHasher
from granian.constants import Interfaces, Loops
from granian.server import Server
from litestar import Litestar, Request, Response, Router
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.enums import HttpMethod
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.types import Message, Scope

from quanhui.base import clock
from quanhui.base.access import NOBODY, PUBLIC, Access, Actor
from quanhui.base.errors import (
    Forbidden,
    MalformedRequest,
    NotFound,
    Problem,
    TooManyAttempts,
    Unauthenticated,
)
from quanhui.base.web import JSON, PROBLEM_JSON, Call, problem_view
from quanhui.buyback import Counter, routes as buyback
from quanhui.catalogue import CatalogueCache, routes as catalogue
from quanhui.customers import authenticate as authenticate_customer, routes as customers
from quanhui.entry import openapi, operations, pages
from quanhui.entry.errors import (
    BodyTooLarge,
    MethodNotAllowed,
    PlatformBusy,
    UnexpectedFailure,
    UnsupportedMediaType,
)
from quanhui.entry.lifeline import die_with_parent
from quanhui.entry.logging import set_up_logging
from quanhui.entry.settings import Settings, load
from quanhui.entry.wiring import open_desk
from quanhui.evidence import routes as evidence
from quanhui.ledger import routes as ledger
from quanhui.places import routes as places
from quanhui.redemption import routes as redemption
from quanhui.redistribution import routes as redistribution
from quanhui.settlement import routes as settlement
from quanhui.staff import KEY_HEADER, Passwords, authenticate_partner, authenticate_session, routes as staff
from quanhui.story import Desk

BACKLOG = 1024
DEVICE_LENGTH = 64
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
BY_STATUS: dict[int, type[Problem]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
    429: TooManyAttempts,
}

DOMAINS = (
    customers, staff, catalogue, places, buyback, settlement, redistribution, redemption, ledger, evidence,
    operations,
)  # fmt: skip
FROM_DESK = ("keyring", "terms", "connectors", "channels")
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SENT = re.compile(r"(?<=unknown field) `.*`|(?<=value) '.*'", re.DOTALL)
"""Where the words of a validation error repeat what was sent."""
UNREADABLE = (asyncpg.DataError, UnicodeError, RecursionError)
"""What text that no table takes, and nesting that no parser follows, come to."""
DATABASE_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.DeadlockDetectedError,
    asyncpg.InternalClientError,  # what the driver makes of a server that dies while it answers
)

log = structlog.get_logger()


def serve(settings: Settings) -> None:
    """Serve the API with Granian until SIGTERM or SIGINT; workers that die are started again."""
    os.environ["QUANHUI_DATABASE_URL"] = settings.database_url or ""
    Server(
        "quanhui.entry.http:app_from_environment",
        factory=True,
        address=settings.http_host,
        port=settings.http_port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=settings.http_workers,
        backlog=BACKLOG,
        respawn_failed_workers=True,
        respawn_interval=0.1,
        workers_kill_timeout=10,
        log_access=False,
        websockets=False,
    ).serve()


def app_from_environment() -> Litestar:
    """The application of one serving process, which ends with the one that keeps it: nobody else would."""
    die_with_parent(os.getppid(), signal.SIGKILL)
    settings = load(os.environ)
    set_up_logging(as_json=settings.in_production, level=settings.log_level)
    return create_app(settings)


def create_app(settings: Settings) -> Litestar:
    """The whole API. Raises `AssertionError` when a route does not declare who may call it."""
    catalogues = CatalogueCache()
    counter = Counter()
    api = Router(
        "/v1",
        route_handlers=[handler for domain in DOMAINS for handler in domain.handlers],
        dependencies={
            "call": Provide(_call),
            "catalogues": Provide(lambda: catalogues, sync_to_thread=False),
            "counter": Provide(lambda: counter, sync_to_thread=False),
            "passwords": Provide(_passwords(settings), sync_to_thread=False),
            **{name: Provide(_from_desk(name), sync_to_thread=False) for name in FROM_DESK},
        },
    )
    app = Litestar(
        [api, *pages.handlers],
        guards=[_admit],
        lifespan=[partial(_lifespan, settings=settings, catalogues=catalogues)],
        exception_handlers={
            Problem: _tell_problem,
            ValidationException: _tell_malformed,
            HTTPException: _tell_http,
            Exception: _tell_failure,
        },
        request_max_body_size=settings.body_limit_bytes,
        before_send=[partial(_add_headers, headers=_headers(settings))],
        openapi_config=openapi.config(settings),
        state=State({"settings": settings}),
        logging_config=None,
    )
    _require_declarations(app)
    openapi.complete(app)
    return app


def _require_declarations(app: Litestar) -> None:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            declared = "access" in handler.opt or handler.http_methods == {HttpMethod.OPTIONS}
            assert declared, f"{route.path}: {handler} does not declare who may call it"


@asynccontextmanager
async def _lifespan(app: Litestar, *, settings: Settings, catalogues: CatalogueCache) -> AsyncIterator[None]:
    size = settings.http_pool_size
    async with open_desk(settings, pool_size=size, name="quanhui-http", catalogues=catalogues) as desk:
        app.state.desk = desk
        yield


def _headers(settings: Settings) -> Mapping[str, str]:
    """What goes with every answer: nothing of ours is framed, sniffed, or runs script that came in a page."""
    headers = {
        "content-security-policy": CONTENT_POLICY,
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    if settings.in_production:
        headers["strict-transport-security"] = "max-age=31536000"
    return headers


async def _add_headers(message: Message, scope: Scope, *, headers: Mapping[str, str]) -> None:
    """A hook on everything sent, so that refusals before any route have the headers too."""
    if message["type"] != "http.response.start":
        return
    answer = MutableScopeHeaders.from_message(message)
    for name, value in headers.items():
        answer[name] = value
    answer["x-request-id"] = _request_id(scope)
    if scope["path"].startswith("/v1/"):
        answer.setdefault("cache-control", "no-store")


def _request_id(scope: Scope) -> str:
    """What a request is called in its answer and in the log. Always ours: a caller's could hold a code."""
    request_id: str = scope["state"].setdefault("request_id", secrets.token_hex(8))
    return request_id


async def _admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of every route: find out who calls, then check what the route declares."""
    access = handler.opt.get("access", PUBLIC)
    assert isinstance(connection, Request)
    structlog.contextvars.bind_contextvars(request_id=_request_id(connection.scope))
    if connection.method in WRITES:
        await _require_json(connection)
    actor = await _identify(connection, required=access != PUBLIC)
    connection.scope["state"]["actor"] = actor
    if isinstance(access, Access) and actor.reach(access.permission) not in access.scopes:
        raise Forbidden(permission=access.permission)


async def _identify(request: Request[Any, Any, Any], *, required: bool) -> Actor:
    desk: Desk = request.app.state.desk
    token = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    now = clock.now()
    actor: Actor | None = None
    if KEY_HEADER in request.headers:
        body = await request.body()
        target = f"{request.method} {request.url.path}" + (
            f"?{request.url.query}" if request.url.query else ""
        )
        async with desk.pool.acquire() as db:
            actor = await authenticate_partner(
                db, desk.keyring, request.headers, target=target, body=body, now=now
            )
    elif token.isascii() and token.startswith(("cs_", "ss_")):
        find = authenticate_customer if token.startswith("cs_") else authenticate_session
        async with desk.pool.acquire() as db:
            actor = await find(db, token, now)
    if actor is None and required:
        raise Unauthenticated
    return actor or NOBODY


async def _require_json(request: Request[Any, Any, Any]) -> None:
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != JSON:
        raise UnsupportedMediaType


async def _call(request: Request[Any, Any, Any]) -> Call:
    desk: Desk = request.app.state.desk
    return Call(
        actor=request.scope["state"]["actor"],
        now=clock.now(),
        pool=desk.pool,
        target=f"{request.method} {request.url.path}",
        key=request.headers.get("idempotency-key"),
        body=await request.body() if request.method in WRITES else b"",
        device_id=_device_of(request.headers.get("x-device-id")),
    )


def _device_of(given: str | None) -> str | None:
    """A device id is a weak signal: one that is malformed counts as none."""
    if given and len(given) <= DEVICE_LENGTH and given.isascii() and given.isprintable():
        return given
    return None


def _from_desk(name: str) -> Callable[[State], Any]:
    def provide(state: State) -> Any:
        return getattr(state.desk, name)

    return provide


def _passwords(settings: Settings) -> Callable[[], Passwords]:
    hasher = PasswordHasher(
        time_cost=settings.password_passes, memory_cost=settings.password_memory_kib, parallelism=1
    )
    passwords = Passwords(hasher)
    return lambda: passwords


def _answer(problem: Problem, *, headers: Mapping[str, str] | None = None) -> Response[Any]:
    return Response(
        msgspec.json.encode(problem_view(problem)),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=dict(headers or {}),
    )


def _tell_problem(_: Request[Any, Any, Any], problem: Problem) -> Response[Any]:
    retry = problem.facts.get("retry_after_s", 5 if problem.status == PlatformBusy.status else None)
    return _answer(problem, headers={"retry-after": str(retry)} if retry else None)


def _tell_malformed(_: Request[Any, Any, Any], error: ValidationException) -> Response[Any]:
    """Which fields are wrong and how; what was sent is not repeated, for it may hold a code."""
    extra = error.extra if isinstance(error.extra, list) else []
    fields = [
        {"field": str(each.get("key", "")), "wrong": SENT.sub("", str(each.get("message", "")))}
        for each in extra
        if isinstance(each, dict)
    ]
    return _answer(MalformedRequest(fields=fields))


def _tell_http(_: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    ours = error.status_code >= UnexpectedFailure.status
    kind = BY_STATUS.get(error.status_code, UnexpectedFailure if ours else MalformedRequest)
    allowed = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return _answer(kind(), headers=allowed)


def _tell_failure(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Whatever else happened: input that turns out bad, a database that is away, or a fault of ours."""
    if isinstance(error, UNREADABLE):
        log.warning("request_unreadable", path=request.url.path, error=type(error).__name__)
        return _answer(MalformedRequest())
    if isinstance(error, DATABASE_AWAY):
        log.warning("database_unreachable", error=type(error).__name__)
        return _answer(PlatformBusy(), headers={"retry-after": "2"})
    reference = _request_id(request.scope)
    log.error("request_failed", path=request.url.path, reference=reference, exc_info=error)
    return _answer(UnexpectedFailure(reference=reference))
