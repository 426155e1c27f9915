"""A party tells the platform what became true: at least once, out of its own file, in its own writing.

Events wait in a table until the platform has answered 2xx. One that cannot be delivered waits longer
each time and after `MAX_ATTEMPTS` is left to the platform's queries. The receiver tells events apart
by their id: an event may come twice, late, or after its successor.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import groupby
from typing import Protocol

import aiohttp
import msgspec

from quanhui.base import clock
from quanhui.base.signing import sign
from quanhui.sandboxes.faults import FaultKind, FaultTable, delay_of
from quanhui.sandboxes.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS callback (
    seq INTEGER PRIMARY KEY, url TEXT NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    due_at REAL, attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS callback_due ON callback (due_at) WHERE due_at IS NOT NULL;
"""

EVENTS_IN_ONE = 50
TAKEN_AT_ONCE = 500
TICK_S = 0.1
TIMEOUT = aiohttp.ClientTimeout(total=5)
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0
MAX_ATTEMPTS = 12
USUAL_FAULT_DELAY_S = 1.0

EVENT, FORGED, REPLAY = "event", "forged", "replay"


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that became true, as the platform reads it. `type` is e.g. `transfer.succeeded`."""

    id: str
    type: str
    out_no: str
    amount_fen: int
    at: datetime
    reason: str | None = None
    institution_no: str | None = None


class Recorded(msgspec.Struct, frozen=True):
    """A request as it went out, kept to be sent again."""

    headers: dict[str, str]
    body: bytes


class Wire(Protocol):
    """How a party writes its callbacks, and which answer it takes for a yes."""

    together: int

    def write(self, bodies: Sequence[bytes], *, forged: bool) -> Recorded:
        """One request that tells these events, each an `Event` in JSON; a forger signs with another key."""
        ...

    def is_taken(self, status: int, body: bytes) -> bool:
        """Whether the platform has it; if not, it is sent again."""
        ...


class StandardWire:
    """Standard Webhooks: many events together under one signature."""

    together = EVENTS_IN_ONE

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def write(self, bodies: Sequence[bytes], *, forged: bool) -> Recorded:
        """The events in one body, its id made of what it says."""
        body = b'{"events":[' + b",".join(bodies) + b"]}"
        message_id = "cb_" + hashlib.sha256(body).hexdigest()[:32]
        secret = b"somebody else's secret" if forged else self._secret
        headers = sign(secret, id=message_id, now=clock.now(), body=body)
        return Recorded({**headers, "content-type": "application/json"}, body)

    def is_taken(self, status: int, body: bytes) -> bool:  # noqa: ARG002 - other wires read it
        """Any 2xx."""
        return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def queue(db: sqlite3.Connection, faults: FaultTable, url: str, event: Event) -> None:
    """Have an event delivered, as the fault table allows, in the transaction that made it true."""
    now, body = time.time(), msgspec.json.encode(event)
    due_at = now
    if fault := faults.draw(FaultKind.LATE_CALLBACK, event.out_no):
        due_at += delay_of(fault, USUAL_FAULT_DELAY_S)
    if fault := faults.draw(FaultKind.REORDERED_CALLBACKS, event.out_no):
        due_at += delay_of(fault, USUAL_FAULT_DELAY_S) * faults.random.random()
    _insert(db, url, EVENT, body, due_at)
    if fault := faults.draw(FaultKind.DUPLICATE_CALLBACK, event.out_no):
        _insert(db, url, EVENT, body, due_at + delay_of(fault, 0))


def queue_forged(db: sqlite3.Connection, faults: FaultTable, url: str, event: Event) -> None:
    """Perhaps somebody else tells the platform this, with a signature of their own."""
    if fault := faults.draw(FaultKind.FORGED_CALLBACK, event.out_no):
        _insert(db, url, FORGED, msgspec.json.encode(event), time.time() + delay_of(fault, 0))


def _insert(db: sqlite3.Connection, url: str, kind: str, body: bytes, due_at: float) -> None:
    db.execute(
        "INSERT INTO callback (url, kind, body, due_at) VALUES (?, ?, ?, ?)", (url, kind, body, due_at)
    )


class Sender:
    """Delivers what is due, in a party's own way of writing."""

    def __init__(self, store: Store, faults: FaultTable, wire: Wire) -> None:
        self._store = store
        self._faults = faults
        self._wire = wire

    async def run(self) -> None:
        """Deliver for ever; an address that does not answer holds up no other."""
        async with aiohttp.ClientSession() as http:
            while True:
                due = self._store.read(_due)
                by_url = [list(rows) for _, rows in groupby(due, key=lambda row: str(row["url"]))]
                await asyncio.gather(*(self._deliver(http, rows) for rows in by_url))
                if len(due) < TAKEN_AT_ONCE:
                    await asyncio.sleep(TICK_S)

    async def _deliver(self, http: aiohttp.ClientSession, rows: Sequence[sqlite3.Row]) -> None:
        for chunk in _chunks(rows, self._wire.together):
            request, is_event = self._request(chunk), chunk[0]["kind"] == EVENT
            if not await self._post(http, chunk[0]["url"], request) and is_event:
                await self._store.write(partial(_postpone, chunk))
                return
            await self._store.write(partial(_forget, chunk))
            if is_event and (fault := self._faults.draw(FaultKind.REPLAYED_CALLBACK, request.body.decode())):
                due_at = time.time() + delay_of(fault, USUAL_FAULT_DELAY_S)
                await self._store.write(partial(_replay, chunk[0]["url"], request, due_at))

    def _request(self, chunk: Sequence[sqlite3.Row]) -> Recorded:
        if chunk[0]["kind"] == REPLAY:
            return msgspec.json.decode(chunk[0]["body"], type=Recorded)
        return self._wire.write([row["body"] for row in chunk], forged=chunk[0]["kind"] == FORGED)

    async def _post(self, http: aiohttp.ClientSession, url: str, request: Recorded) -> bool:
        try:
            async with http.post(
                url, data=request.body, headers=request.headers, timeout=TIMEOUT
            ) as response:
                return self._wire.is_taken(response.status, await response.read())
        except (aiohttp.ClientError, TimeoutError):
            return False


def _due(db: sqlite3.Connection) -> list[sqlite3.Row]:
    rows = db.execute(
        "SELECT * FROM callback WHERE due_at <= ? ORDER BY due_at, seq LIMIT ?", (time.time(), TAKEN_AT_ONCE)
    ).fetchall()
    return sorted(rows, key=lambda row: str(row["url"]))


def _chunks(rows: Sequence[sqlite3.Row], together: int) -> Iterator[list[sqlite3.Row]]:
    """Events travel together, as many as the wire takes; what is forged or replayed goes alone."""
    events = [row for row in rows if row["kind"] == EVENT]
    for start in range(0, len(events), together):
        yield events[start : start + together]
    for row in rows:
        if row["kind"] != EVENT:
            yield [row]


def _forget(chunk: Sequence[sqlite3.Row], db: sqlite3.Connection) -> None:
    db.executemany("DELETE FROM callback WHERE seq = ?", [(row["seq"],) for row in chunk])


def _replay(url: str, request: Recorded, due_at: float, db: sqlite3.Connection) -> None:
    _insert(db, url, REPLAY, msgspec.json.encode(request), due_at)


def _postpone(chunk: Sequence[sqlite3.Row], db: sqlite3.Connection) -> None:
    db.executemany(
        "UPDATE callback SET attempts = attempts + 1, due_at = ? WHERE seq = ?",
        [(_next_try(row["attempts"] + 1), row["seq"]) for row in chunk],
    )


def _next_try(attempts: int) -> float | None:
    if attempts >= MAX_ATTEMPTS:
        return None
    return time.time() + min(FIRST_DELAY_S * 2.0**attempts, LONGEST_DELAY_S)
