"""Sessions: an opaque random token that its holder alone knows; we keep its SHA-256.

The token's prefix tells whose it is: `cs_` a customer's, `ss_` a member of staff's. A session ends when it
expires or is revoked, at once, because every request looks it up. Each domain finds its own actors by
token in one query of its own; what they share is here.
"""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from quanhui.base.access import ActorKind
from quanhui.base.db import Db, load_queries
from quanhui.base.ids import new_id

queries = load_queries(__file__, "tokens.sql")

TOKEN_BYTES = 32
PREFIXES = {ActorKind.CUSTOMER: "cs_", ActorKind.STAFF: "ss_"}
LIVE_SESSIONS = 10
"""Sessions one actor may hold; a further sign-in ends the oldest."""


class OpenedSession(msgspec.Struct, frozen=True):
    """A new session. The token exists here and in the answer to its holder, nowhere else."""

    id: str
    token: str
    expires_at: datetime

    def __repr__(self) -> str:
        return f"OpenedSession(id={self.id!r})"


def kind_of(token: str) -> ActorKind | None:
    """Whose token this claims to be, by its prefix."""
    return next((kind for kind, prefix in PREFIXES.items() if token.startswith(prefix)), None)


def hash_token(token: str) -> bytes:
    """What is stored of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


async def open_session(
    db: Db,
    *,
    kind: ActorKind,
    actor_id: str,
    acts_for: str | None = None,
    device_id: str | None,
    lifetime: timedelta,
    now: datetime,
) -> OpenedSession:
    """Start a session for an actor who has just proved who they are."""
    token = PREFIXES[kind] + secrets.token_urlsafe(TOKEN_BYTES)
    session = OpenedSession(new_id("ses"), token, now + lifetime)
    await queries.end_oldest_sessions(db, actor_id=actor_id, keep=LIVE_SESSIONS - 1, now=now)
    await queries.add_session(
        db,
        id=session.id,
        kind=kind,
        actor_id=actor_id,
        acts_for=acts_for,
        token_hash=hash_token(token),
        device_id=device_id,
        expires_at=session.expires_at,
        now=now,
    )
    return session


async def end_session(db: Db, session_id: str, *, now: datetime) -> None:
    """Sign out: the token is dead from the commit on."""
    await queries.end_session(db, id=session_id, now=now)


async def end_sessions(db: Db, actor_ids: Sequence[str], *, now: datetime) -> None:
    """Sign actors out everywhere."""
    await queries.end_sessions(db, actor_ids=sorted(actor_ids), now=now)


async def sweep(db: Db, *, before: datetime) -> int:
    """Remove sessions that expired before an instant; returns how many."""
    removed: int = await queries.forget_sessions(db, before=before)
    return removed
