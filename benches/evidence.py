"""What evidence costs: recording in a commit, sequencing a backlog, proving in a log of a million leaves.

    python benches/evidence.py

Every commit is durable. The yardsticks run on the same server: the same events by a plain INSERT into a
plain table, and the same leaves by COPY into a table with nothing but a key.
"""

import hashlib
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec
import uvloop

from quanhui import evidence, verifier
from quanhui.base.db import Db, Pool, open_pool, transaction
from quanhui.base.ids import new_id
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.evidence import Event, Signer, rules, store, tree

BACKLOG = 100_000
LEAVES = 1_000_000
COMMITS = 1500
PROOFS = 2000
NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
LOG_KEY = bytes(32)

PLAIN = """
CREATE TABLE plain_order (id text PRIMARY KEY);
CREATE TABLE plain_event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, voucher_id text, subject text,
                          payload text);
CREATE TABLE plain_leaf (leaf_index bigint PRIMARY KEY, body bytea, voucher_id text, sequence int,
                         subject text, payload text, salt bytea);
"""

FILL = """
INSERT INTO evidence.leaf (leaf_index, body, voucher_id, sequence, subject, payload, salt)
SELECT n, sha256(n::text::bytea) || sha256('b') || substr(sha256('c'), 4), 'vch_' || md5(n::text), 1,
       'ord_' || md5((n / 3)::text), '{"filler":true}', sha256('s')
FROM generate_series($1::bigint, $2::bigint - 1) AS n
"""


def events_of_an_order() -> list[Event]:
    order, voucher = new_id("ord"), new_id("vch")
    facts = {"face_fen": 10_000, "gross_fen": 9_200, "product_id": new_id("vpr")}
    return [Event(voucher, "claimed", order, facts), Event(voucher, "title_transferred", order, facts)]


async def record(db: Db, events: list[Event]) -> None:
    await evidence.record(db, events, now=NOW)


async def insert_plainly(db: Db, events: list[Event]) -> None:
    at = rules.instant(NOW)
    await db.execute(
        "INSERT INTO plain_event (voucher_id, subject, payload)"
        " SELECT * FROM unnest($1::text[], $2::text[], $3::text[])",
        [event.voucher_id for event in events],
        [event.subject for event in events],
        [rules.draft(event, at) for event in events],
    )


async def do_nothing(_db: Db, _events: list[Event]) -> None:
    """The commit alone."""


async def commit_times(pool: Pool) -> dict[str, list[float]]:
    """Milliseconds of a small business commit with each way of keeping its two events, taken in turn."""
    ways: dict[str, Callable[[Db, list[Event]], Awaitable[None]]] = {
        "alone": do_nothing,
        "plain": insert_plainly,
        "evidence": record,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(COMMITS):
        for name, way in ways.items():
            events = events_of_an_order()
            started = time.perf_counter()
            async with transaction(pool) as db:
                await db.execute("INSERT INTO plain_order VALUES ($1)", f"{name}{events[0].subject}")
                await way(db, events)
            taken[name].append((time.perf_counter() - started) * 1000)
    return taken


async def sequence_backlog(pool: Pool, signer: Signer) -> float:
    """Leaves a second from the queue to a signed checkpoint."""
    at = rules.instant(NOW)
    waiting = [
        (event.voucher_id, event.subject, rules.draft(event, at))
        for _ in range(BACKLOG // 2)
        for event in events_of_an_order()
    ]
    async with pool.acquire() as db:
        await db.copy_records_to_table(
            "pending", schema_name="evidence", records=waiting, columns=("voucher_id", "subject", "payload")
        )
    started = time.perf_counter()
    done = 0
    while count := await evidence.sequence_once(pool, signer, log_key=LOG_KEY, now=NOW):
        done += count
    return done / (time.perf_counter() - started)


async def copy_plainly(pool: Pool) -> float:
    """Leaves a second when the same rows are only copied, in batches of the same size."""
    async with pool.acquire() as db:
        rows = await db.fetch("SELECT * FROM evidence.leaf ORDER BY leaf_index")
        started = time.perf_counter()
        for begin in range(0, len(rows), 4096):
            await db.copy_records_to_table("plain_leaf", records=rows[begin : begin + 4096])
    return len(rows) / (time.perf_counter() - started)


async def fill(pool: Pool, signer: Signer) -> None:
    """Grow the log to a million leaves without going through the queue."""
    async with transaction(pool) as db:
        head = await db.fetchrow("SELECT size FROM evidence.head")
        size = head["size"]
        await db.execute(FILL, size, LEAVES, timeout=120)
        edge = await store.find_tiles(db, tree.edge_keys(size))
        hashes = [hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(size, LEAVES)]
        grown = tree.grow(edge, size, hashes)
        await store.put_tiles(db, grown)
        root = tree.root(edge | grown, LEAVES)
        await db.execute("UPDATE evidence.head SET size = $1, root = $2", LEAVES, root)
    await evidence.sequence_once(pool, signer, log_key=LOG_KEY, now=NOW)
    async with pool.acquire() as db:
        await db.execute("VACUUM ANALYZE evidence.leaf, evidence.tile", timeout=120)


async def read_times(pool: Pool, signer: Signer) -> dict[str, list[float]]:
    """Milliseconds for proofs and receipts at random places of the log; each receipt is verified."""
    choose = random.Random(1)
    taken: dict[str, list[float]] = {"inclusion": [], "consistency": [], "receipt": [], "verify": []}
    async with pool.acquire() as db:
        orders = await db.fetch(
            "SELECT DISTINCT subject FROM evidence.leaf WHERE leaf_index < $1 LIMIT 500", BACKLOG
        )
        for number in range(PROOFS):
            started = time.perf_counter()
            await evidence.inclusion_proof(db, choose.randrange(LEAVES), LEAVES)
            taken["inclusion"].append((time.perf_counter() - started) * 1000)
            started = time.perf_counter()
            await evidence.consistency_proof(db, choose.randrange(1, LEAVES), LEAVES)
            taken["consistency"].append((time.perf_counter() - started) * 1000)
            if number < len(orders):
                started = time.perf_counter()
                given = await evidence.receipt(db, [orders[number]["subject"]])
                taken["receipt"].append((time.perf_counter() - started) * 1000)
                shown = verifier.read_receipt(msgspec.json.encode(given))
                started = time.perf_counter()
                findings = verifier.verify_receipt(shown, signer.verifier_key)
                taken["verify"].append((time.perf_counter() - started) * 1000)
                assert all(finding.ok for finding in findings), findings
    return taken


def percentile(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1]


async def measure(pool: Pool, folder: Path) -> None:
    signer = Signer(origin="bench.example/quanhui", seed=bytes(32), state_file=folder / "signer.json")
    commits = await commit_times(pool)
    leaves = await sequence_backlog(pool, signer)
    copied = await copy_plainly(pool)
    await fill(pool, signer)
    reads = await read_times(pool, signer)
    alone, plain, ours = (statistics.median(commits[name]) for name in ("alone", "plain", "evidence"))
    for what, number, unit in (
        ("commit of one row, alone, p50", alone, "ms"),
        ("  with two events inserted plainly, adds", plain - alone, "ms"),
        ("  with two events recorded, adds", ours - alone, "ms"),
        (
            "  p99 with evidence / p99 alone",
            percentile(commits["evidence"], 99) / percentile(commits["alone"], 99),
            "x",
        ),
        ("leaves sequenced and signed", leaves, "/s"),
        ("the same rows by plain COPY", copied, "/s"),
        ("ratio to plain COPY", leaves / copied, "x"),
        *(
            (f"{name} at {LEAVES:,} leaves, p{percent}", percentile(times, percent), "ms")
            for name, times in reads.items()
            for percent in (50, 99)
        ),
    ):
        print(f"{what:50} {number:10.2f} {unit}")


async def main(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "data")
    server.start()
    try:
        db = await asyncpg.connect(server.url)
        await migrate(db)
        await db.execute(PLAIN)
        await db.close()
        pool = await open_pool(server.url, size=4, application_name="bench")
        await measure(pool, folder)
        await pool.close()
    finally:
        server.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="quanhui-bench-", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o755)
        uvloop.run(main(Path(scratch)))
