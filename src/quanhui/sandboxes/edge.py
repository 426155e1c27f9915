"""Stands before and after every request under `/v1`: the signature, then what goes wrong."""

import asyncio
import contextlib
import hashlib
from http import HTTPStatus

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, Message, Receive, Scope, Send

from quanhui.base import clock
from quanhui.base.signing import MAX_AGE, BadSignature, verify
from quanhui.sandboxes.faults import FaultKind, FaultTable, delay_of

HANG_S = 30.0
"""How long an unanswered request hangs unless the fault says otherwise."""

LARGEST_BODY = 1_000_000


class Trouble:
    """What goes wrong around one request. `text` is the path and the body, where a fault's `match` looks."""

    def __init__(self, faults: FaultTable, stopping: asyncio.Event) -> None:
        self._faults = faults
        self._stopping = stopping

    async def before(self, text: str) -> HTTPStatus | None:
        """Strike before anything is done; a status is answered instead of doing it."""
        if self._faults.draw(FaultKind.ERROR_500_BEFORE, text):
            return HTTPStatus.INTERNAL_SERVER_ERROR
        if fault := self._faults.draw(FaultKind.SLOW, text):
            await self._pause(delay_of(fault, HANG_S))
            return HTTPStatus.GATEWAY_TIMEOUT
        if fault := self._faults.draw(FaultKind.LATE_EFFECT, text):
            await self._pause(delay_of(fault, HANG_S))
        return None

    async def after(self, text: str) -> HTTPStatus | None:
        """Strike when it is done; a status is answered instead of what came of it."""
        if self._faults.draw(FaultKind.ERROR_500_AFTER, text):
            return HTTPStatus.INTERNAL_SERVER_ERROR
        if fault := self._faults.draw(FaultKind.LOST_REPLY, text):
            await self._pause(delay_of(fault, HANG_S))
            return HTTPStatus.GATEWAY_TIMEOUT
        return None

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end of the server."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


class Edge:
    """An ASGI application around a sandbox's own."""

    def __init__(self, app: ASGIApp, *, secret: bytes, faults: FaultTable, stopping: asyncio.Event) -> None:
        self._app = app
        self._secret = secret
        self._trouble = Trouble(faults, stopping)
        self._seen: dict[str, tuple[bytes, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or not."""
        if scope["type"] != ScopeType.HTTP or not scope["path"].startswith("/v1/"):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        text = f"{scope['path']} {body.decode(errors='replace')}"
        status = self._refusal(scope, body) or await self._trouble.before(text)
        answer: list[Message] = []
        if status is None:
            await self._app(scope, _again(body), _into(answer))
            status = await self._trouble.after(text)
        for message in answer if status is None else _bare_answer(status):
            await send(message)

    def _refusal(self, scope: Scope, body: bytes) -> HTTPStatus | None:
        """401 for what is not signed or too old; 409 when a message id comes again with another body."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        target, now = f"{scope['method']} {scope['path']}", clock.now()  # type: ignore[typeddict-item]
        try:
            message_id = verify(self._secret, headers, now=now, body=body, target=target)
        except BadSignature:
            return HTTPStatus.UNAUTHORIZED
        digest = hashlib.sha256(target.encode() + b"\n" + body).digest()
        return None if self._is_first_or_same(message_id, digest, now.timestamp()) else HTTPStatus.CONFLICT

    def _is_first_or_same(self, message_id: str, digest: bytes, at: float) -> bool:
        """Ids are kept, oldest first, for as long as a signature on them could still be accepted."""
        oldest_kept = at - 2 * MAX_AGE.total_seconds()
        while self._seen and self._seen[first := next(iter(self._seen))][1] < oldest_kept:
            del self._seen[first]
        return self._seen.setdefault(message_id, (digest, at))[0] == digest


async def _read(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message["body"])
        size += len(message["body"])
        if not message.get("more_body") or size > LARGEST_BODY:
            return b"".join(parts)


def _again(body: bytes) -> Receive:
    """What the application behind reads: the body that was read here."""
    message: HTTPReceiveMessage = {"type": "http.request", "body": body, "more_body": False}

    async def receive() -> HTTPReceiveMessage:
        return message

    return receive


def _into(answer: list[Message]) -> Send:
    async def send(message: Message) -> None:
        answer.append(message)

    return send


def _bare_answer(status: HTTPStatus) -> list[Message]:
    body = msgspec.json.encode({"code": status.name.lower()})
    return [
        {
            "type": "http.response.start",
            "status": status.value,
            "headers": [(b"content-type", b"application/json")],
        },
        {"type": "http.response.body", "body": body, "more_body": False},
    ]
