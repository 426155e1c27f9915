"""Calls to outside parties: signed, with time limits, never inside a database transaction.

aiohttp and not httpx: measured here at 0.13 ms against 2.7 ms of CPU a request (docs/adr/0008).
"""

from datetime import datetime
from typing import Any

import aiohttp
import msgspec

from quanhui.base.errors import OutsideUnavailable
from quanhui.base.signing import sign

CONNECTIONS = 64
CONNECT_TIMEOUT_S = 2.0


class NoAnswer(OutsideUnavailable):
    """No usable reply: whether the other side acted is unknown. Query, never assume."""


class Reply(msgspec.Struct, frozen=True):
    """What came back: the HTTP status and the JSON body as Python values."""

    status: int
    body: Any


def open_client() -> aiohttp.ClientSession:
    """One connection pool for the process; the caller closes it."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS))


class SignedClient:
    """POSTs signed JSON to one outside party.

    `base_url` has no trailing slash; `party` names the other side in errors; `secret` is shared with it.
    """

    def __init__(
        self, http: aiohttp.ClientSession, *, base_url: str, party: str, secret: bytes, timeout_s: float = 5.0
    ) -> None:
        self._http = http
        self._base_url = base_url
        self._party = party
        self._secret = secret
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=CONNECT_TIMEOUT_S)

    async def post(self, path: str, payload: object, *, message_id: str, now: datetime) -> Reply:
        """Send and wait. Raises `NoAnswer` on a time-out, a broken line, a 5xx or a body that is not JSON."""
        body = msgspec.json.encode(payload)
        headers = sign(self._secret, id=message_id, now=now, body=body, target=f"POST {path}")
        headers["content-type"] = "application/json"
        try:
            async with self._http.post(
                self._base_url + path, data=body, headers=headers, timeout=self._timeout
            ) as response:
                raw = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NoAnswer(party=self._party) from error
        if response.status >= 500:  # noqa: PLR2004
            raise NoAnswer(party=self._party)
        try:
            return Reply(response.status, msgspec.json.decode(raw))
        except msgspec.DecodeError as error:
            raise NoAnswer(party=self._party) from error
