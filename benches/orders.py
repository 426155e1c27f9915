"""How many buybacks a second the whole platform does: quote, accept, title, ledger, evidence, payout.

    python benches/orders.py [--statements]

Everything runs as `quanhui run` starts it, and the load beside it, on this machine's processors; commits are
durable. An order counts when its payout has been submitted to the institution and its events are in the
tree. The yardstick is pgbench's TPC-B-like transaction on the same server, before the load. With
`--statements` the server also counts what each statement costs, which slows it a little.
"""

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter

import asyncpg
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
    show,
    show_load,
    show_processors,
    sign_in_sellers,
    until_drained,
)

VOUCHERS = 40_000
SELLERS = 1_000
WARM_UP = 400
QUOTES, QUOTE_CLIENTS = 6_000, 8
ORDERS, ORDER_CLIENTS = 6_000, 24
YARDSTICK_S, YARDSTICK_CLIENTS = 8, 16

TOP_STATEMENTS = """
SELECT calls, round((total_exec_time + total_plan_time)::numeric) AS ms,
       round(mean_exec_time::numeric, 3) AS mean,
       left(regexp_replace(query, '\\s+', ' ', 'g'), 110) AS query
FROM pg_stat_statements ORDER BY total_exec_time DESC LIMIT 24
"""


class Load:
    """Clients that sell one voucher after another, each its own; what they saw."""

    def __init__(self, sellers: list[Seller], codes: list[str]) -> None:
        self._sellers = sellers
        self._codes = iter(codes)
        self._number = 0
        self.statuses: Counter[int] = Counter()
        self.seconds: dict[str, list[float]] = {"quote": [], "accept": []}

    async def run(self, port: int, *, clients: int, count: int, accepting: bool) -> float:
        """Have `count` vouchers quoted, and the quotes accepted; returns the seconds it took."""
        self.seconds = {"quote": [], "accept": []}
        started, last = time.perf_counter(), self._number + count
        async with lines(port, clients) as opened:
            await asyncio.gather(*(self._client(line, last, accepting=accepting) for line in opened))
        return time.perf_counter() - started

    async def _client(self, line: Line, last: int, *, accepting: bool) -> None:
        while self._number < last:
            self._number += 1
            key, code = str(self._number), next(self._codes)
            seller = self._sellers[self._number % len(self._sellers)]
            offered = await quote(line, seller, code, key)
            self._note("quote", offered.status, offered.seconds)
            if accepting and offered.status == 201:
                taken = await accept(line, seller, offered.json(), key)
                self._note("accept", taken.status, taken.seconds)

    def _note(self, what: str, status: int, seconds: float) -> None:
        self.statuses[status] += 1
        self.seconds[what].append(seconds)


def tpcb_per_second(running: Platform) -> float:
    """The yardstick."""
    url = running.server.url.replace("/quanhui?", "/tpcb?")
    pgbench = [running.server.binary("pgbench"), "--client", str(YARDSTICK_CLIENTS), "--jobs", "2"]
    scale = ["--initialize", "--quiet", "--scale", str(YARDSTICK_CLIENTS)]
    subprocess.run([pgbench[0], *scale, url], check=True, capture_output=True, cwd="/")
    timed = [*pgbench, "--time", str(YARDSTICK_S), "--protocol", "prepared", url]
    report = subprocess.run(timed, check=True, capture_output=True, cwd="/", text=True).stdout
    found = re.search(r"tps = ([\d.]+)", report)
    assert found, report
    return float(found[1])


async def measure(running: Platform, *, statements: bool) -> None:
    settings, url = running.settings, running.server.url
    load = Load(await sign_in_sellers(url, SELLERS), codes_to_sell(settings))
    db = await asyncpg.connect(url)
    await db.execute("CREATE DATABASE tpcb")
    tpcb = tpcb_per_second(running)
    await load.run(settings.http_port, clients=ORDER_CLIENTS, count=WARM_UP, accepting=True)
    await until_drained(db, within_s=30)

    quotes_s = await load.run(settings.http_port, clients=QUOTE_CLIENTS, count=QUOTES, accepting=False)
    quotes = QUOTES / quotes_s
    show(f"quotes alone, {QUOTE_CLIENTS} clients", quotes, "/s", "wanted ≥ 800")
    for percent in (50, 99):
        wanted = "wanted ≤ 30" if percent == 99 else ""
        show(f"  p{percent}", percentile(load.seconds["quote"], percent), "ms", wanted)

    if statements:
        await db.execute(
            "CREATE EXTENSION IF NOT EXISTS pg_stat_statements; SELECT pg_stat_statements_reset()"
        )
    used, started = running.processor_seconds(), time.perf_counter()
    await load.run(settings.http_port, clients=ORDER_CLIENTS, count=ORDERS, accepting=True)
    accepted_s = time.perf_counter() - started
    await until_drained(db, within_s=60)
    done_s = time.perf_counter() - started
    orders = ORDERS / done_s
    show(f"orders to the payout submitted, {ORDER_CLIENTS} clients", orders, "/s", "wanted ≥ 300")
    show("  accepted, before the last payouts were submitted", ORDERS / accepted_s, "/s")
    for what, seconds in load.seconds.items():
        for percent in (50, 99):
            wanted = "wanted ≤ 200" if percent == 99 else ""
            show(f"  {what}, p{percent}", percentile(seconds, percent), "ms", wanted)
    show_processors(used, running.processor_seconds(), done_s, ORDERS)
    show(f"pgbench TPC-B-like transactions, {YARDSTICK_CLIENTS} clients", tpcb, "/s")
    show("quotes / pgbench", quotes / tpcb, "x")
    show("orders / pgbench", orders / tpcb, "x")
    if statements:
        for row in await db.fetch(TOP_STATEMENTS):
            print(f"{row['calls']:7} calls {row['ms']:7} ms {row['mean']:8} ms each  {row['query']}")
    await db.close()
    assert set(load.statuses) <= {200, 201}, load.statuses


def main() -> None:
    statements = "--statements" in sys.argv
    with platform(vouchers=VOUCHERS, statements=statements) as running:
        show_load()
        uvloop.run(measure(running, statements=statements))
        show_load()


if __name__ == "__main__":
    main()
