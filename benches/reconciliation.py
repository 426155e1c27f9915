"""What a day's bill costs: 100,000 lines kept and compared with books and records, differences among them.

    python benches/reconciliation.py

The target is 10 s, with every injected difference found and no other. The second run of the same day shows
what comparing again costs when nothing is new.
"""

import asyncio
import tempfile
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import uvloop

from quanhui import ledger, settlement
from quanhui.base.db import Pool, open_pool, transaction
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.ledger import postings
from quanhui.settlement import BillKind, BillLine, Class

LINES = 100_000
OF_EACH = 50
POSTED_AT_ONCE = 5_000
TARGET_S = 10
DAY = date(2026, 11, 22)
NOON = datetime(2026, 11, 22, 4, 0, tzinfo=UTC)
NEXT_DAY = NOON + timedelta(days=1)

PAID = """
WITH numbered AS (
    SELECT n, lpad(n::text, 26, '0') AS suffix FROM generate_series(1, $1::int) AS n
), payout AS (
    INSERT INTO settlement.payout (id, order_id, seller_id, method, amount_fen, state, voucher_ids, attempts,
                                   created_at, updated_at)
    SELECT 'pot_' || suffix, 'ord_' || suffix, 'cus_' || n % 1000, 'cash', 1000 + n, 'succeeded', '{}', 1,
           $2, $2
    FROM numbered
)
INSERT INTO settlement.attempt (out_no, payout_id, number, state, channel, sends, created_at, updated_at)
SELECT suffix || '01', 'pot_' || suffix, 1, 'succeeded', 'institution', 1, $2, $2 FROM numbered
"""


class Channel:
    """Has one bill."""

    def __init__(self, lines: list[BillLine]) -> None:
        self.lines = lines

    async def bill(self, day: date, *, now: datetime) -> list[BillLine]:
        """The bill of the day."""
        assert now
        return self.lines if day == DAY else []


def out_no(number: int) -> str:
    """The number of a transfer."""
    return f"{number:026}01"


def a_bill() -> tuple[list[BillLine], dict[str, Class]]:
    """Lines of a day, wrong in places, and which class of difference each wrong number is."""
    chosen = Random(20261122).sample(range(1, LINES + 1), 4 * OF_EACH)
    missing, twice, wrong, extra = (set(chosen[part::4]) for part in range(4))
    rows: list[tuple[str, int]] = []
    injected: dict[str, Class] = {}
    for number in range(1, LINES + 1):
        name, fen = out_no(number), 1000 + number
        if number in missing:
            injected[name] = Class.MISSING_IN_BILL
            continue
        if number in wrong:
            injected[name] = Class.AMOUNT_DIFFERS
            fen += 1 if number % 2 else -1
        rows.append((name, fen))
        if number in twice:
            injected[name] = Class.DUPLICATE_IN_BILL
            rows.append((name, fen))
        if number in extra:
            stranger = f"extra{number}"
            injected[stranger] = Class.MISSING_IN_BOOKS
            rows.append((stranger, fen))
    lines = [
        BillLine(
            seq=seq, kind=BillKind.TRANSFER, out_no=no, institution_no=f"i{seq}", amount_fen=fen, at=NOON
        )
        for seq, (no, fen) in enumerate(rows, 1)
    ]
    return lines, injected


async def pay(pool: Pool) -> None:
    """Payouts of the day, as the books and our records have them."""
    await pool.execute(PAID, LINES, NOON)
    for first in range(1, LINES + 1, POSTED_AT_ONCE):
        transfers = [
            leg
            for number in range(first, first + POSTED_AT_ONCE)
            for leg in postings.payout_confirmed(
                out_no(number), institution=settlement.CUSTODIAN, amount_fen=1000 + number
            )
        ]
        async with transaction(pool) as db:
            await ledger.post(db, transfers, now=NOON)


async def main(folder: Path) -> None:
    """Pay, keep and compare, compare again."""
    server = EmbeddedPostgres(folder)
    await asyncio.to_thread(server.start)
    try:
        pool = await open_pool(server.url, size=2, application_name="bench")
        async with transaction(pool) as db:
            await migrate(db)
        await pay(pool)
        await measure(pool)
        await pool.close()
    finally:
        server.stop()


async def measure(pool: Pool) -> None:
    """Print how long it took and what was found."""
    lines, injected = a_bill()
    channel = Channel(lines)
    seconds = []
    for turn in range(2):
        started = time.perf_counter()
        cases = await settlement.run_day(pool, settlement.CUSTODIAN, channel, DAY, now=NEXT_DAY)
        seconds.append(time.perf_counter() - started)
        if turn == 0:
            found = {case.out_no: case.class_ for case in cases}
            assert found == injected, Counter(found.values()) - Counter(injected.values())
            assert len(cases) == len(found)
        else:
            assert not cases
    started = time.perf_counter()
    async with pool.acquire() as db:
        await settlement.compare_books(db)
    watched = time.perf_counter() - started
    print(f"{f'{len(lines)} lines kept and compared, target {TARGET_S} s':58} {seconds[0]:8.2f} s")
    print(f"{'the same day again':58} {seconds[1]:8.2f} s")
    print(f"{'sums of books and mirror in one snapshot':58} {watched:8.2f} s")
    print(f"{'differences injected':58} {len(injected):8}")
    print(f"{'found, each once and in its class':58} {len(found):8}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="quanhui-bench-", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o755)
        uvloop.run(main(Path(scratch)))
