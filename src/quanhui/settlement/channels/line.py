"""What every channel's gateway needs: bounded calls, sets called one by one, and the same doubts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import aiohttp
import msgspec

from quanhui.base.http import CONNECT_TIMEOUT_S
from quanhui.base.signing import MAX_AGE, BadSignature
from quanhui.settlement.gateway import TransferReport, TransferState

CONCURRENCY = 32
LARGEST_ANSWER = 64_000_000
REASON_LENGTH = 64
AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
TIMESTAMP_DIGITS = 10

T = TypeVar("T")
R = TypeVar("R")


class Answer(msgspec.Struct, frozen=True):
    """What came back, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """Calls one channel, `CONCURRENCY` at a time; an answer that is late, broken or too large is none."""

    def __init__(self, http: aiohttp.ClientSession, *, url: str, timeout_s: float) -> None:
        self._http = http
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S)
        self._slots = asyncio.Semaphore(CONCURRENCY)

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer | None:
        """One request, to a path or a whole address. None: whether the other side acted is unknown."""
        url = path if path.startswith(("https://", "http://")) else self._url + path
        async with self._slots:
            try:
                async with self._http.request(
                    method,
                    url,
                    data=body or None,
                    headers=headers,
                    timeout=self._timeout,
                    allow_redirects=False,
                ) as response:
                    raw = bytearray()
                    async for chunk in response.content.iter_any():
                        raw += chunk
                        if len(raw) > LARGEST_ANSWER:
                            return None
                    names = {name.lower(): value for name, value in response.headers.items()}
                    return Answer(response.status, names, bytes(raw))
            except (aiohttp.ClientError, TimeoutError):
                return None


async def each(asked: Sequence[T], call: Callable[[T], Awaitable[R]]) -> list[R]:
    """Ask for every one by itself: what happens to one touches no other."""
    return list(await asyncio.gather(*(call(one) for one in asked)))


def unknown(out_no: str, reason: str) -> TransferReport:
    """Any answer but a plain one leaves the state open, a refusal too: an earlier send may have acted."""
    return TransferReport(out_no=out_no, state=TransferState.UNKNOWN, reason=reason[:REASON_LENGTH])


def not_sent(out_no: str) -> TransferReport:
    """The channel takes no such amount, so the order was never sent: that is a definite failure."""
    return TransferReport(out_no=out_no, state=TransferState.FAILED, reason=AMOUNT_OUT_OF_RANGE)


def require_recent(timestamp: str, now: datetime, max_age: timedelta = MAX_AGE) -> None:
    """Refuse seconds since 1970 that are not about now. Raises `BadSignature`."""
    if not (timestamp.isascii() and timestamp.isdecimal()) or len(timestamp) != TIMESTAMP_DIGITS:
        raise BadSignature
    if abs(now.timestamp() - int(timestamp)) > max_age.total_seconds():
        raise BadSignature
