"""What loading sample vouchers costs: made, sealed, fingerprinted and copied, beside copying alone.

    python benches/sample.py [vouchers]

The yardstick copies the very same rows, ready-made, into the same tables with the same indexes.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import asyncpg
import uvloop

from quanhui.base.db import Db
from quanhui.base.keyring import Keyring
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.sample.dice import dice
from quanhui.sample.load import CHUNK
from quanhui.sample.vouchers import own_vouchers, sealed_for_registry
from quanhui.vouchers import enrol

VOUCHERS = 200_000
SEED = 1
NOW = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
HOLDERS = [f"cus_{number}" for number in range(1000)]
TABLES = ("voucher", "code")


async def load(db: Db, count: int) -> float:
    """Seconds to make vouchers and put them into the registry, as `load_sample` does."""
    keyring = Keyring({1: bytes(range(32))}, bytes(32))
    throw = dice(SEED, "holders")
    started = time.perf_counter()
    async with db.transaction():
        plain = own_vouchers(SEED, count, now=NOW)
        while chunk := list(islice(plain, CHUNK)):
            await enrol(db, sealed_for_registry(keyring, chunk, throw, HOLDERS), now=NOW)
    return time.perf_counter() - started


async def copy_alone(db: Db) -> float:
    """Seconds to copy the rows that `load` left, after taking them out."""
    ready = {}
    for table in TABLES:
        columns = [row["name"] for row in await db.fetch(f"SELECT * FROM ({COLUMNS}) c", table)]
        rows = await db.fetch(f"SELECT {', '.join(columns)} FROM vouchers.{table}")
        ready[table] = (columns, [tuple(row) for row in rows])
    await db.execute("TRUNCATE vouchers.voucher, vouchers.code")
    started = time.perf_counter()
    async with db.transaction():
        for table, (columns, records) in ready.items():
            await db.copy_records_to_table(table, schema_name="vouchers", columns=columns, records=records)
    return time.perf_counter() - started


COLUMNS = """
    SELECT attname AS name FROM pg_attribute
    WHERE attrelid = ('vouchers.' || $1)::regclass AND attnum > 0 AND NOT attisdropped"""


async def main(url: str, count: int) -> None:
    db = await asyncpg.connect(url)
    await migrate(db)
    loaded_s = await load(db, count)
    assert await db.fetchval("SELECT count(*) FROM vouchers.code") == count
    copied_s = await copy_alone(db)
    await db.close()
    for what, seconds in (("made, sealed and loaded", loaded_s), ("the same rows, copied alone", copied_s)):
        print(f"{count:,} vouchers, {what:28} {seconds:6.1f} s {seconds / count * 1e6:6.1f} s a million")
    print(f"loading / copying alone = {loaded_s / copied_s:.2f}")


if __name__ == "__main__":
    vouchers = int(sys.argv[1]) if len(sys.argv) > 1 else VOUCHERS
    with tempfile.TemporaryDirectory(prefix="quanhui-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder))
        server.start()
        try:
            uvloop.run(main(server.url, vouchers))
        finally:
            server.stop()
