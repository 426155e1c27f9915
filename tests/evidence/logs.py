"""What the tests of the evidence log share: a naive tree, a signer, and ways to write and sequence events."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from quanhui import evidence
from quanhui.base.db import Db, Pool, transaction
from quanhui.evidence import Event, Signer, tasks

ORIGIN = "test.example/quanhui"
SEED = bytes(range(32))
LOG_KEY = bytes(range(32, 64))
VECTORS = Path(__file__).parents[3] / "shared" / "vectors"


def vectors(name: str) -> Path:
    """A folder or file of vectors that others published; skips where the clone stands alone."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip("published vectors are not beside this clone")
    return path


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def signer(**given: Path) -> Signer:
    return Signer(origin=ORIGIN, seed=SEED, **given)


def event(voucher: int, kind: str = "claimed", subject: str = "ord_1", **facts: str | int | bool) -> Event:
    return Event(f"vch_{voucher}", kind, subject, facts)


async def commit(pool: Pool, events: Sequence[Event], now: datetime) -> None:
    async with transaction(pool) as db:
        await evidence.record(db, events, now=now)


async def sequence_in(db: Db, now: datetime, *, by: Signer | None = None, limit: int = tasks.BATCH) -> None:
    """What `sequence_once` does until the queue is empty, inside a transaction that the test rolls back."""
    while await tasks.append_pending(db, log_key=LOG_KEY, limit=limit):
        await tasks.sign_head(db, by or signer(), now=now)


async def sequence_all(pool: Pool, by: Signer, now: datetime) -> int:
    total = 0
    while count := await evidence.sequence_once(pool, by, log_key=LOG_KEY, now=now):
        total += count
    return total
