"""Routes over HTTP with the call that `entry` would inject, for whoever the test says is calling."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import count
from typing import Any

import httpx
from litestar import Litestar, Request, Response
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler

from quanhui.base.access import NOBODY, Actor, ActorKind, Scope
from quanhui.base.db import Pool
from quanhui.base.errors import Forbidden, Problem
from quanhui.base.web import Call, problem_view

_keys = count(1)


def customer(customer_id: str, *permissions: str, scope: Scope = Scope.OWN, **belongs: str) -> Actor:
    return Actor(kind=ActorKind.CUSTOMER, id=customer_id, grants=dict.fromkeys(permissions, scope), **belongs)


def operator(operator_id: str, *permissions: str, scope: Scope = Scope.ALL, **belongs: str) -> Actor:
    return Actor(kind=ActorKind.STAFF, id=operator_id, grants=dict.fromkeys(permissions, scope), **belongs)


class Edge:
    """A client that may be anyone, at any time."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.actor = NOBODY
        self.client: httpx.AsyncClient

    async def get(self, actor: Actor, path: str, **params: Any) -> httpx.Response:
        self.actor = actor
        return await self.client.get(path, params=params)

    async def post(
        self, actor: Actor, path: str, body: object = None, *, key: str | None = None
    ) -> httpx.Response:
        self.actor = actor
        headers = {"idempotency-key": key or f"edge-{next(_keys)}"}
        return await self.client.post(path, json=body, headers=headers)


def _refused(_request: Request, problem: Problem) -> Response:
    return Response(problem_view(problem), status_code=problem.status)


def _given(value: Any) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


@asynccontextmanager
async def open_edge(
    handlers: Sequence[HTTPRouteHandler], pool: Pool, *, now: datetime, **injected: Any
) -> AsyncIterator[Edge]:
    """The handlers, with permission and scope checked as each declares."""
    edge = Edge(now)

    async def call(request: Request) -> Call:
        needed = request.route_handler.opt["access"]
        if edge.actor.reach(needed.permission) not in needed.scopes:
            raise Forbidden
        return Call(
            actor=edge.actor,
            now=edge.now,
            pool=pool,
            target=f"{request.method} {request.url.path}",
            key=request.headers.get("idempotency-key"),
            body=await request.body(),
            device_id=None,
        )

    dependencies: Mapping[str, Provide] = {"call": Provide(call)} | {
        name: _given(value) for name, value in injected.items()
    }
    app = Litestar(
        list(handlers),
        dependencies=dependencies,
        exception_handlers={Problem: _refused},
        openapi_config=None,
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        edge.client = client
        yield edge
