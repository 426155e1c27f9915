"""The sequencer: moves committed events into the tree, then signs what the tree has become.

Appending is one transaction, and whoever locks the head row is the sequencer for that transaction: any
number may run, one works at a time, and a killed one leaves either the whole batch or nothing. Signing comes
after that commit, because a signature cannot be rolled back.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from datetime import datetime

import asyncpg
import structlog

from quanhui.base.db import Db, Pool, transaction
from quanhui.evidence import store, tree
from quanhui.evidence.rules import SALT_BYTES, chain
from quanhui.evidence.signer import Signer, TreeHead

BATCH = 4096
INTERVAL_S = 0.1
DATABASE_DOWN_S = 1.0
DATABASE_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    OSError,
)

log = structlog.get_logger(__name__)


class HeadMoved(Exception):
    """The head is not where this sequencer locked it; its transaction must not commit."""


async def run_sequencer(
    pool: Pool, signer: Signer, stop: asyncio.Event, *, log_key: bytes, clock: Callable[[], datetime]
) -> None:
    """Sequence every 100 ms until `stop` is set; waits out a lost database.

    Raises `SignerRefuses`: then a person must look before anything more is signed.
    """
    while not stop.is_set():
        try:
            pause = INTERVAL_S
            if await sequence_once(pool, signer, log_key=log_key, now=clock()) == BATCH:
                pause = 0.0
        except DATABASE_LOST as error:
            log.warning("evidence.database_unreachable", error=repr(error))
            pause = DATABASE_DOWN_S
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


async def sequence_once(pool: Pool, signer: Signer, *, log_key: bytes, now: datetime) -> int:
    """Append one batch and sign the head; returns how many events were appended.

    Raises `SignerRefuses` when the tree does not continue what was signed before.
    """
    async with pool.acquire() as db:
        seen = await store.queries.look(db)
    signed = signer.last.size if signer.last else None
    if not seen["waiting"] and seen["size"] == seen["signed"] == signed:
        return 0
    async with transaction(pool) as db:
        count = await append_pending(db, log_key=log_key)
    async with transaction(pool) as db:
        await sign_head(db, signer, now=now)
    return count


async def append_pending(db: Db, *, log_key: bytes, limit: int = BATCH) -> int:
    """Move up to `limit` events from the queue into the tree; 0 when idle or another sequencer is at it."""
    head = await store.lock_head(db)
    if head is None:
        return 0
    waiting = await store.take_pending(db, limit=limit)
    if not waiting:
        return 0
    tips = await store.find_tips(db, waiting)
    salts = os.urandom(len(waiting) * SALT_BYTES)
    leaves, hashes = chain(waiting, tips, log_key=log_key, salts=salts, first_index=head.size)
    edge = await store.find_tiles(db, tree.edge_keys(head.size))
    grown = tree.grow(edge, head.size, hashes)
    size = head.size + len(leaves)
    await store.add_leaves(db, leaves)
    await store.put_tiles(db, grown)
    root = tree.root(edge | grown, size)
    if await store.queries.advance_head(db, size=size, root=root, from_size=head.size) is None:
        raise HeadMoved
    return len(leaves)


async def sign_head(db: Db, signer: Signer, *, now: datetime) -> None:
    """Sign the head and keep the checkpoint, unless that is done or another process is at it.

    The signer is shown that the tree extends what it signed last, and refuses otherwise.
    """
    head = await store.lock_head(db)
    if head is None:
        return
    stored = await store.latest_checkpoint(db)
    if stored:
        signer.start_from(stored.head)
    if stored and stored.head == head == signer.last:
        return
    note = signer.sign(head, await _proof_since(db, signer.last, head))
    await store.queries.keep_checkpoint(
        db, size=head.size, root=head.root, note=note, verifier_key=signer.verifier_key, now=now
    )
    if stored and stored.size < head.size:
        minute = now.replace(second=0, microsecond=0)
        await store.queries.thin_checkpoint(db, size=stored.size, minute=minute)


async def _proof_since(db: Db, last: TreeHead | None, head: TreeHead) -> list[bytes]:
    if last is None or not 0 < last.size < head.size:
        return []
    (proof,) = await store.find_hashes(db, [tree.consistency_ranges(last.size, head.size)])
    return proof
