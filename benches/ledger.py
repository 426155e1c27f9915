"""What posting costs: an accepted buyback (four transfers, both books) beside two yardsticks.

    python benches/ledger.py

Every order touches the same stock, clearing and fee accounts: the hot accounts. Every commit is durable. The
yardsticks run on the same server: `naive`, a function that writes each leg and updates both accounts, and
pgbench's TPC-B-like transaction.
"""

import asyncio
import re
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import uvloop

from quanhui.base.db import Db, Pool, open_pool, transaction
from quanhui.base.ids import new_id
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.ledger import BoughtLine, Transfer, fold, post, postings, trial_balance

CLIENTS = 16
SECONDS = 5
SELLERS = 2000
NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)

NAIVE = """
CREATE TABLE naive_account (code text PRIMARY KEY, balance_fen bigint NOT NULL DEFAULT 0);
CREATE TABLE naive_entry (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text UNIQUE,
    code text REFERENCES naive_account, amount_fen bigint);
CREATE FUNCTION naive_post(keys text[], srcs text[], dsts text[], amounts bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    FOR n IN 1 .. cardinality(keys) LOOP
        UPDATE naive_account SET balance_fen = balance_fen - amounts[n] WHERE code = srcs[n];
        UPDATE naive_account SET balance_fen = balance_fen + amounts[n] WHERE code = dsts[n];
        INSERT INTO naive_entry (key, code, amount_fen)
        VALUES (keys[n] || '-', srcs[n], -amounts[n]), (keys[n] || '+', dsts[n], amounts[n]);
    END LOOP;
END $$;
"""


def an_order(number: int) -> list[Transfer]:
    return postings.buyback_accepted(
        new_id("ord"),
        seller_id=f"s{number * 7919 % SELLERS}",
        lines=[BoughtLine("card", 10_000)],
        fee_fen=800,
        net_fen=9_200,
    )


async def post_ledger(db: Db, transfers: list[Transfer]) -> None:
    await post(db, transfers, now=NOW)


async def post_naive(db: Db, transfers: list[Transfer]) -> None:
    await db.execute(
        "SELECT naive_post($1, $2, $3, $4)",
        [transfer.key for transfer in transfers],
        [transfer.src for transfer in transfers],
        [transfer.dst for transfer in transfers],
        [transfer.amount_fen for transfer in transfers],
    )


async def orders_per_second(
    pool: Pool, verb: Callable[[Db, list[Transfer]], Awaitable[None]], *, clients: int
) -> float:
    """How many orders a second are posted, each in a transaction of its own."""
    started = time.perf_counter()
    done = 0

    async def client(number: int) -> None:
        nonlocal done
        while time.perf_counter() - started < SECONDS:
            async with transaction(pool) as db:
                await verb(db, an_order(number))
            number += CLIENTS
            done += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return done / (time.perf_counter() - started)


async def milliseconds_inside(pool: Pool, *, orders: int) -> float:
    """What the posting itself takes: a round trip inside one transaction, without its commit."""
    async with transaction(pool) as db:
        await post(db, an_order(0), now=NOW)
        started = time.perf_counter()
        for number in range(orders):
            await post(db, an_order(number), now=NOW)
        return (time.perf_counter() - started) / orders * 1000


def pgbench(server: EmbeddedPostgres, *options: str) -> str:
    url = server.url.replace("/quanhui?", "/tpcb?")
    done = subprocess.run(
        [server.binary("pgbench"), *options, url], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout


def tpcb_per_second(server: EmbeddedPostgres) -> float:
    pgbench(server, "--initialize", "--quiet", "--scale", str(CLIENTS))
    report = pgbench(
        server, "--client", str(CLIENTS), "--jobs", "2", "--time", str(SECONDS), "--protocol", "prepared"
    )
    found = re.search(r"tps = ([\d.]+)", report)
    assert found, report
    return float(found[1])


async def prepare(server: EmbeddedPostgres) -> None:
    db = await asyncpg.connect(server.url)
    await migrate(db)
    await db.execute(NAIVE)
    codes = ["inventory:card", "platform:clearing", "client:clearing", "fee_income"]
    codes += [f"user_payable:s{n}" for n in range(SELLERS)]
    await db.execute("INSERT INTO naive_account (code) SELECT unnest($1::text[])", codes)
    await db.execute("CREATE DATABASE tpcb")
    await db.close()


async def main(folder: Path) -> None:
    server = EmbeddedPostgres(folder)
    server.start()
    try:
        await prepare(server)
        pool = await open_pool(server.url, size=CLIENTS, application_name="bench")
        await measure(server, pool)
        await pool.close()
    finally:
        server.stop()


async def measure(server: EmbeddedPostgres, pool: Pool) -> None:
    async with transaction(pool) as db:
        for number in range(SELLERS):
            await post(db, an_order(number), now=NOW)
    naive = await orders_per_second(pool, post_naive, clients=CLIENTS)
    alone = await orders_per_second(pool, post_ledger, clients=1)
    ours = await orders_per_second(pool, post_ledger, clients=CLIENTS)
    inside_ms = await milliseconds_inside(pool, orders=2000)
    tpcb = tpcb_per_second(server)
    started = time.perf_counter()
    async with transaction(pool) as db:
        folded = await fold(db, now=NOW)
    fold_s = time.perf_counter() - started
    async with pool.acquire() as db:
        trial = await trial_balance(db)
    assert (trial.total_fen, trial.clearing_fen) == (0, 0)
    for what, number, unit in (
        ("one posting of 4 transfers, round trip, no commit", inside_ms, "ms"),
        ("orders posted by 1 client", alone, "/s"),
        (f"orders posted by {CLIENTS} clients on the hot accounts", ours, "/s"),
        (f"the same by the naive function, {CLIENTS} clients", naive, "/s"),
        (f"pgbench TPC-B-like transactions, {CLIENTS} clients", tpcb, "/s"),
        ("ratio to the naive function", ours / naive, "x"),
        ("ratio to pgbench", ours / tpcb, "x"),
        (f"transfers folded in {fold_s:.2f} s", folded / fold_s, "/s"),
    ):
        print(f"{what:50} {number:10.2f} {unit}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="quanhui-bench-", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o755)
        uvloop.run(main(Path(scratch)))
