"""Sixty-four clients race to sell the same thousand codes: each code is bought once, the others hear a no.

    python benches/race.py

Every code is quoted to eight of the clients, who then accept at the same instant. Exactly one may win; the
rest must be refused politely, and nobody may see a failure of the server.
What the institution paid is counted at the institution.
"""

import asyncio
import time
from collections import Counter

import asyncpg
import msgspec
import uvloop

from harness import (
    Line,
    Platform,
    Seller,
    accept,
    codes_to_sell,
    lines,
    percentile,
    platform,
    quote,
    read,
    show,
    show_load,
    sign_in_sellers,
    until_drained,
)

CLIENTS = 64
CONTENDERS = 8
CODES = 1_000
VOUCHERS = 4_000


class Race:
    """The contenders of each code wait for one another between quote and acceptance."""

    def __init__(self, codes: list[str]) -> None:
        self.codes = codes
        self.quoted: Counter[int] = Counter()
        self.accepted: Counter[int] = Counter()
        self.seconds: list[float] = []
        self._barriers = [asyncio.Barrier(CONTENDERS) for _ in codes]

    async def run(self, number: int, line: Line, seller: Seller) -> None:
        """One client's part: every code of its group, in the same order as the rest of the group."""
        groups = CLIENTS // CONTENDERS
        for position in range(number % groups, len(self.codes), groups):
            offered = await quote(line, seller, self.codes[position], str(position))
            self.quoted[offered.status] += 1
            await self._barriers[position].wait()
            taken = await accept(line, seller, offered.json(), str(position))
            self.accepted[taken.status] += 1
            self.seconds.append(taken.seconds)


async def measure(running: Platform) -> None:
    settings = running.settings
    sellers = await sign_in_sellers(running.server.url, CLIENTS)
    race = Race(codes_to_sell(settings)[:CODES])
    started = time.perf_counter()
    async with lines(settings.http_port, CLIENTS) as opened:
        await asyncio.gather(
            *(race.run(n, line, seller) for n, (line, seller) in enumerate(zip(opened, sellers, strict=True)))
        )
    raced_s = time.perf_counter() - started
    db = await asyncpg.connect(running.server.url)
    await until_drained(db, within_s=60)
    claims = await db.fetchval("SELECT count(DISTINCT fingerprint) FROM vouchers.claim")
    await db.close()
    moved = await until_paid(f"{settings.institution_url}/control/moved?by=out_no")
    show(f"codes raced for, {CONTENDERS} of {CLIENTS} clients each", CODES / raced_s, "/s")
    show("  acceptances answered", CODES * CONTENDERS / raced_s, "/s")
    show("  acceptance, p99", percentile(race.seconds, 99), "ms")
    show("acceptances that won", race.accepted[200], "", f"wanted {CODES}")
    show("acceptances refused with 409", race.accepted[409], "", f"wanted {CODES * (CONTENDERS - 1)}")
    show("any other answer", CODES * CONTENDERS - race.accepted[200] - race.accepted[409], "", "wanted 0")
    show("codes claimed / payouts made at the institution", claims / len(moved), "", "wanted 1")
    assert race.quoted == {201: CODES * CONTENDERS}, race.quoted
    assert race.accepted == {200: CODES, 409: CODES * (CONTENDERS - 1)}, race.accepted
    assert claims == len(moved) == CODES
    assert all(payout["count"] == 1 for payout in moved.values())


async def until_paid(url: str) -> dict[str, dict[str, int]]:
    """What the institution paid, once it has carried out what was submitted."""
    for _ in range(100):
        moved: dict[str, dict[str, int]] = msgspec.json.decode(await read(url))
        if len(moved) >= CODES:
            break
        await asyncio.sleep(0.1)
    return moved


def main() -> None:
    with platform(vouchers=VOUCHERS) as running:
        show_load()
        uvloop.run(measure(running))
        show_load()


if __name__ == "__main__":
    main()
