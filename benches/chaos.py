"""Processes are killed outright under load, ten times; afterwards nothing may be lost, doubled or stuck.

    python benches/chaos.py

Each round kills one of: a serving process, the one that keeps them, the worker, a backend of PostgreSQL,
PostgreSQL itself. Clients do what clients should: they repeat a command under the same key until they have
an answer. In the end every sale that was accepted is settled, the institution has paid each exactly
once, the books balance, and the log has grown from its first checkpoint without a fork or a gap.
"""

import asyncio
import itertools
import os
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import asyncpg
import msgspec
import uvloop

from harness import (
    Answer,
    Line,
    Platform,
    Seller,
    accept,
    codes_to_sell,
    platform,
    quote,
    read,
    show,
    show_load,
    sign_in_sellers,
)
from quanhui.entry.sequencer import signer_of
from quanhui.ledger import trial_balance
from quanhui.verifier import verify_growth

CLIENTS = 12
SELLERS = 600
VOUCHERS = 40_000
EVERY_S = 7.0
STEADY_S = 0.5
BACK_WITHIN_S = 60
SETTLED_WITHIN_S = 90
AGAIN_AFTER_S = 0.2
VICTIMS = (
    "serving process",
    "keeper of the serving processes",
    "worker",
    "backend of PostgreSQL",
    "postmaster",
)
EVENTS = ["claimed", "payout_succeeded", "rekeyed", "title_transferred"]

FACTS = """
SELECT (SELECT count(*) FROM buyback.buyback_order
         WHERE state IN ('accepted', 'title_transferred', 'settling'))
           AS stuck,
       (SELECT count(*) FROM base.job) AS jobs,
       (SELECT count(*) FROM evidence.pending) AS events
"""
EVENTS_OF_ORDERS = """
SELECT subject, array_agg(payload::jsonb ->> 'kind' ORDER BY payload::jsonb ->> 'kind') AS events
FROM evidence.leaf GROUP BY subject
"""
GAPS = """
SELECT (SELECT size FROM evidence.head) - (SELECT count(*) FROM evidence.leaf) AS leaves,
       (SELECT count(*) FROM (
           SELECT FROM evidence.leaf GROUP BY voucher_id HAVING max(sequence) <> count(*)) g)
           AS paths
"""


class Client:
    """Sells one voucher after another, and never gives up on one that it began."""

    def __init__(self, port: int, seen: Counter[str]) -> None:
        self._port = port
        self._seen = seen
        self._line: Line | None = None

    async def sell(self, seller: Seller, code: str, key: str) -> str | None:
        """The order that was accepted, or None when the platform refused."""
        offered = await self._insist(lambda line: quote(line, seller, code, key))
        if offered.status != 201:
            return None
        order = offered.json()
        taken = await self._insist(lambda line: accept(line, seller, order, key))
        return str(order["id"]) if taken.status == 200 else None

    async def _insist(self, ask: Callable[[Line], Awaitable[Answer]]) -> Answer:
        while True:
            try:
                self._line = self._line or await Line.open(self._port)
                answer = await ask(self._line)
            except (OSError, TimeoutError):
                self._seen["broken connection"] += 1
                self._line = None
            else:
                self._seen[f"status {answer.status}"] += 1
                if answer.status < 500:
                    return answer
            await asyncio.sleep(AGAIN_AFTER_S)


class Load:
    """Clients at work until told to stop."""

    def __init__(self, port: int, sellers: list[Seller], codes: list[str]) -> None:
        self.seen: Counter[str] = Counter()
        self.accepted: list[str] = []
        self.sold_at: list[float] = []
        self._port = port
        self._work = enumerate(zip(itertools.cycle(sellers), codes, strict=False))

    async def run(self, stop: asyncio.Event) -> None:
        await asyncio.gather(*(self._client(stop) for _ in range(CLIENTS)))

    async def _client(self, stop: asyncio.Event) -> None:
        client = Client(self._port, self.seen)
        while not stop.is_set():
            number, (seller, code) = next(self._work)
            order_id = await client.sell(seller, code, str(number))
            if order_id:
                self.accepted.append(order_id)
                self.sold_at.append(time.perf_counter())


def victim(running: Platform, what: str) -> int:
    """The process to kill."""
    found = running.processes()
    http = {pid for pid, _, role in found if role == "http"}
    postmaster, backends = running.postgres()
    (pid, *_) = {
        "serving process": [pid for pid, parent, _ in found if pid in http and parent in http],
        "keeper of the serving processes": [
            pid for pid, parent, _ in found if pid in http and parent not in http
        ],
        "worker": [pid for pid, _, role in found if role == "worker"],
        "backend of PostgreSQL": backends,
        "postmaster": [postmaster],
    }[what]
    return pid


async def attack(running: Platform, load: Load, *, times: int) -> list[tuple[str, float]]:
    """Kill, let the platform work for a while, and see how long the longest pause between two sales was."""
    pauses = []
    for what in itertools.islice(itertools.cycle(VICTIMS), times):
        first, killed = len(load.sold_at), time.perf_counter()
        os.kill(victim(running, what), signal.SIGKILL)
        await asyncio.sleep(EVERY_S)
        while time.perf_counter() - load.sold_at[-1] > STEADY_S:
            assert time.perf_counter() - killed < BACK_WITHIN_S, f"no sale since the {what} was killed"
            await asyncio.sleep(STEADY_S)
        sold_at = [killed, *load.sold_at[first:]]
        pauses.append((what, max(after - before for before, after in itertools.pairwise(sold_at))))
    return pauses


async def until_settled(db: asyncpg.Connection) -> float:
    """Wait until nothing is on its way any more."""
    started = time.perf_counter()
    while any((await db.fetchrow(FACTS)).values()):
        assert time.perf_counter() - started < SETTLED_WITHIN_S, dict(await db.fetchrow(FACTS))
        await asyncio.sleep(0.2)
    return time.perf_counter() - started


async def check(running: Platform, db: asyncpg.Connection, accepted: list[str], first_note: str) -> None:
    """Every promise, checked against the outside where there is one."""
    base = f"http://127.0.0.1:{running.settings.http_port}/v1/evidence"
    settled = {
        row["id"] for row in await db.fetch("SELECT id FROM buyback.buyback_order WHERE state = 'settled'")
    }
    assert settled == set(accepted), (len(settled), len(accepted))
    payouts = await db.fetch(
        "SELECT a.out_no, p.amount_fen FROM settlement.payout p"
        " JOIN settlement.attempt a ON a.payout_id = p.id"
        " WHERE p.state = 'succeeded' AND a.state = 'succeeded'"
    )
    moved = msgspec.json.decode(await read(f"{running.settings.institution_url}/control/moved?by=out_no"))
    assert moved == {row["out_no"]: {"count": 1, "sum_fen": row["amount_fen"]} for row in payouts}
    assert len(moved) == len(accepted)
    trial = await trial_balance(db)
    assert (trial.total_fen, trial.clearing_fen) == (0, 0), trial
    events = {row["subject"]: row["events"] for row in await db.fetch(EVENTS_OF_ORDERS)}
    assert {order: events.get(order) for order in accepted} == dict.fromkeys(accepted, EVENTS)
    assert not any((await db.fetchrow(GAPS)).values())
    note = await read(f"{base}/checkpoint")
    first, second = (int(each.split("\n")[1]) for each in (first_note, note))
    growth = msgspec.json.decode(await read(f"{base}/proofs/consistency?first={first}&second={second}"))
    finding = verify_growth(first_note, note, growth, signer_of(running.settings).verifier_key)
    assert finding.ok, finding.en


async def measure(running: Platform, *, times: int) -> None:
    settings, url = running.settings, running.server.url
    sellers = await sign_in_sellers(url, SELLERS)
    load, stop = Load(settings.http_port, sellers, codes_to_sell(settings)), asyncio.Event()
    selling = asyncio.create_task(load.run(stop))
    while len(load.accepted) < CLIENTS:
        await asyncio.sleep(0.5)
    first_note = await read(f"http://127.0.0.1:{settings.http_port}/v1/evidence/checkpoint")
    pauses = await attack(running, load, times=times)
    stop.set()
    await selling
    db = await asyncpg.connect(url)
    waited_s = await until_settled(db)
    await check(running, db, load.accepted, first_note)
    await db.close()
    for what, seconds in pauses:
        show(f"killed a {what}: longest pause between two sales", seconds, "s")
    for what, count in sorted(load.seen.items()):
        show(f"answers: {what}", count, "")
    show("sales accepted, settled, paid once, all in the log", len(load.accepted), "")
    show("from the last sale until all were settled", waited_s, "s")


def main() -> None:
    with platform(vouchers=VOUCHERS) as running:
        show_load()
        uvloop.run(measure(running, times=10))
        show_load()


if __name__ == "__main__":
    main()
