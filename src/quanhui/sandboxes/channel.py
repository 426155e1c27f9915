"""What the channels' sandboxes have in common: an aiohttp application with a door, trouble, and controls.

Each channel speaks its own protocol and signs in its own way, but all keep the same books (`institution`):
an instruction is known by the platform's number and done once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web

from quanhui.base.accounts import Url
from quanhui.sandboxes.callbacks import Sender, Wire
from quanhui.sandboxes.edge import LARGEST_BODY, Trouble
from quanhui.sandboxes.faults import Fault, FaultTable
from quanhui.sandboxes.institution import Institution, moved_by, totals
from quanhui.sandboxes.store import Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CONTROL = "/control/"
T = TypeVar("T")


class ChannelKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What a channel knows of its one customer, and the key it signs with itself. Keys are PEM."""

    private_key: str
    customer_key: str
    names: dict[str, str]


class ChannelOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel is played: where its books are, where it is reached, how long a transfer takes."""

    state_dir: Path
    url: Url
    keys: ChannelKeys
    settle_s: float = 0.05
    seed: int = 0
    callback_url: str | None = None


class Channel(Protocol):
    """One channel's desk: who may come in, what can be asked, how it writes to the platform."""

    books: Institution
    wire: Wire

    def refusal(self, request: web.Request, body: bytes) -> web.Response | None:
        """An answer for whoever may not come in."""
        ...

    def refused(self, refusal: Refusal) -> web.Response:
        """How the protocol says no."""
        ...

    def routes(self) -> Sequence[web.RouteDef]:
        """What can be asked."""
        ...


class _Number(msgspec.Struct, frozen=True):
    out_no: str


def build_channel(channel: Channel, faults: FaultTable, stopping: asyncio.Event) -> web.Application:
    """The HTTP side of a channel; its chores run as long as it does."""
    trouble = Trouble(faults, stopping)

    @web.middleware
    async def door(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await handler(request)
        body = await request.read()
        refusal = channel.refusal(request, body)
        if refusal is not None:
            return refusal
        text = f"{request.path} {body.decode(errors='replace')}"
        status = await trouble.before(text)
        if status is None:
            try:
                answer = await handler(request)
            except Refusal as no:
                answer = channel.refused(no)
            status = await trouble.after(text)
            if status is None:
                return answer
        return as_json({"code": status.name.lower()}, status)

    app = web.Application(middlewares=[door], client_max_size=LARGEST_BODY)
    app.add_routes([*channel.routes(), *_controls(channel.books, faults)])
    app.cleanup_ctx.append(lambda _: _chores(channel, faults))
    return app


def as_json(content: object, status: int = HTTPStatus.OK) -> web.Response:
    """An unsigned answer."""
    return web.Response(body=msgspec.json.encode(content), status=status, content_type="application/json")


async def _chores(channel: Channel, faults: FaultTable) -> AsyncIterator[None]:
    chores = [channel.books.run(), Sender(channel.books.store, faults, channel.wire).run()]
    tasks = [asyncio.create_task(chore) for chore in chores]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _controls(books: Institution, faults: FaultTable) -> list[web.RouteDef]:
    async def health(_request: web.Request) -> web.Response:
        return as_json({"state": "ready"})

    async def add_fault(request: web.Request) -> web.Response:
        faults.add(_read(await request.read(), Fault))
        return as_json({}, HTTPStatus.CREATED)

    async def list_faults(_request: web.Request) -> web.Response:
        return as_json(faults.lines())

    async def clear_faults(_request: web.Request) -> web.Response:
        faults.clear()
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def confirm_payee(request: web.Request) -> web.Response:
        number = _read(await request.read(), _Number)
        try:
            return as_json(await books.confirm_payee(number.out_no))
        except Refusal as no:
            return as_json({"code": no.code}, no.status)

    async def stats(_request: web.Request) -> web.Response:
        return as_json(books.store.read(totals))

    async def moved(request: web.Request) -> web.Response:
        by, kind = request.query.get("by", "out_no"), request.query.get("kind", "transfer")
        if by not in {"party", "out_no"}:
            raise web.HTTPBadRequest
        return as_json(books.store.read(lambda db: moved_by(db, by, kind)))

    return [
        web.get(CONTROL + "health", health),
        web.post(CONTROL + "faults", add_fault),
        web.get(CONTROL + "faults", list_faults),
        web.delete(CONTROL + "faults", clear_faults),
        web.post(CONTROL + "transfers/confirm", confirm_payee),
        web.get(CONTROL + "stats", stats),
        web.get(CONTROL + "moved", moved),
    ]


def _read(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as error:
        raise web.HTTPBadRequest(text=str(error)) from None
