"""An SMS gateway: takes messages, sends none, and shows the last ones to whoever plays the recipient."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody
from msgspec import Meta

from quanhui.base import clock
from quanhui.sandboxes.store import Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    seq INTEGER PRIMARY KEY, recipient TEXT NOT NULL, template TEXT NOT NULL, params BLOB NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS message_recipient ON message (recipient, seq);
"""

SHOWN = 20
KEPT = 100_000


class MessageBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message made from a template."""

    to: Annotated[str, Meta(pattern=r"^\+?[0-9]{5,20}$")]
    template: Annotated[str, Meta(min_length=1, max_length=64)]
    params: dict[str, str]


class Accepted(msgspec.Struct, frozen=True):
    """The gateway's own number for a message."""

    message_no: str


class Shown(msgspec.Struct, frozen=True):
    """A message as its recipient sees it."""

    to: str
    template: str
    params: dict[str, str]
    at: datetime


class Gateway:
    """The messages taken, the newest `KEPT` of them."""

    def __init__(self, state: Path) -> None:
        self._store = Store(state / "sms.sqlite", SCHEMA)

    async def take(self, message: MessageBody, *, now: datetime) -> Accepted:
        """Keep a message."""

        def keep(db: sqlite3.Connection) -> int:
            row = (message.to, message.template, msgspec.json.encode(message.params), now.timestamp())
            seq = db.execute(
                "INSERT INTO message (recipient, template, params, at) VALUES (?, ?, ?, ?)", row
            ).lastrowid
            assert seq is not None
            db.execute("DELETE FROM message WHERE seq <= ?", (seq - KEPT,))
            return seq

        return Accepted(f"sms{await self._store.write(keep)}")

    def last(self, to: str) -> list[Shown]:
        """The last messages to a number, newest first."""
        rows = self._store.read(
            lambda db: db.execute(
                "SELECT * FROM message WHERE recipient = ? ORDER BY seq DESC LIMIT ?", (to, SHOWN)
            ).fetchall()
        )
        return [
            Shown(
                to,
                row["template"],
                msgspec.json.decode(row["params"], type=dict[str, str]),
                datetime.fromtimestamp(row["at"], UTC),
            )
            for row in rows
        ]


Party = NamedDependency[Gateway]


@post("/v1/messages", status_code=200)
async def send(party: Party, data: JSONBody[MessageBody]) -> Accepted:
    """Take a message."""
    return await party.take(data, now=clock.now())


@get("/control/messages")
async def messages(party: Party, to: FromQuery[str]) -> list[Shown]:
    """The last messages to a number, newest first."""
    return party.last(to)


handlers = [send, messages]
