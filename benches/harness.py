"""The platform under load: started by `quanhui run` in a folder of its own, driven over HTTP, measured.

The load driver shares the processors with what it measures, so it is one process that writes its requests by
hand on keep-alive connections.
"""

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

import aiohttp
import asyncpg
import msgspec

from quanhui.base import clock
from quanhui.base.access import ActorKind
from quanhui.base.db import open_pool, transaction
from quanhui.base.tokens import open_session
from quanhui.catalogue import LegalClass
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.entry.settings import Settings, load
from quanhui.sample.vouchers import own_vouchers

START_WITHIN_S = 120
LONG_ENOUGH = timedelta(days=30)
PORTS = {"QUANHUI_ISSUER_URL": "issuer", "QUANHUI_INSTITUTION_URL": "institution", "QUANHUI_SMS_URL": "sms"}
TICKS = os.sysconf("SC_CLK_TCK")
ROLES = {
    "quanhui serve": "http",
    "quanhui worker": "worker",
    "quanhui sequencer": "sequencer",
    "sandboxes institution": "institution sandbox",
    "postgres": "postgres",
}


class Platform:
    """A running platform: its settings, its server, its processes."""

    def __init__(self, settings: Settings, process: subprocess.Popen[bytes], output: Path) -> None:
        self.settings = settings
        self.server = EmbeddedPostgres(settings.data_dir)
        self.process = process
        self._output = output

    @property
    def said(self) -> str:
        """What the supervisor told so far."""
        return self._output.read_text()

    def processes(self) -> list[tuple[int, int, str]]:
        """Pid, parent and role of every process of the platform; a child without a role has its parent's."""
        rows, roles = _process_table(), {self.process.pid: "supervisor"}
        found, fresh = [], True
        while fresh:
            fresh = False
            for pid, (parent, command) in rows.items():
                if pid not in roles and parent in roles:
                    role = next((role for words, role in ROLES.items() if words in command), None)
                    roles[pid] = role or roles[parent]
                    found.append((pid, parent, roles[pid]))
                    fresh = True
        return found

    def postgres(self) -> tuple[int, list[int]]:
        """The postmaster, and its backends that serve the platform."""
        (postmaster,) = [
            pid for pid, parent, role in self.processes() if role == "postgres" and parent == self.process.pid
        ]
        table = _process_table()
        return postmaster, [
            pid
            for pid, (parent, command) in table.items()
            if parent == postmaster and "quanhui quanhui" in command
        ]

    def processor_seconds(self) -> Counter[str]:
        """Processor time used so far by role, that of children already ended included; and by this driver."""
        used: Counter[str] = Counter({"load driver": time.process_time()})
        for pid, _, role in self.processes():
            used[role] += _seconds(pid)
        return used


@contextmanager
def platform(*, vouchers: int, customers: int = 2000, statements: bool = False) -> Iterator[Platform]:
    """Start everything with a sample of that size; stop and forget it all at the end.

    With `statements` the server counts what each SQL statement costs.
    """
    with tempfile.TemporaryDirectory(prefix="quanhui-bench-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        folder.chmod(0o755)
        environment = _environment(folder, vouchers=vouchers, customers=customers)
        settings = load(environment)
        command = [sys.executable, "-m", "quanhui"]
        subprocess.run([*command, "sample"], env=environment, check=True, stdout=subprocess.DEVNULL)
        if statements:
            with (EmbeddedPostgres(settings.data_dir).data / "postgresql.auto.conf").open("a") as conf:
                conf.write("shared_preload_libraries = 'pg_stat_statements'\n")
        output = folder / "output"
        with output.open("wb") as said:
            process = subprocess.Popen([*command, "run"], env=environment, stdout=said, stderr=said)
        running = Platform(settings, process, output)
        try:
            _wait_for(lambda: "is running" in running.said, process)
            yield running
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _environment(folder: Path, *, vouchers: int, customers: int) -> dict[str, str]:
    port = _free_port()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("QUANHUI_")},
        **{name: f"http://127.0.0.1:{_free_port()}" for name in PORTS},
        "QUANHUI_DATA_DIR": str(folder / "data"),
        "QUANHUI_HTTP_PORT": str(port),
        "QUANHUI_PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
        "QUANHUI_LOG_LEVEL": "warning",
        "QUANHUI_SAMPLE_STORES": "100",
        "QUANHUI_SAMPLE_CUSTOMERS": str(customers),
        "QUANHUI_SAMPLE_VOUCHERS": str(vouchers),
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while not reached():
        assert process.poll() is None, "the platform ended"
        assert time.monotonic() < deadline, "the platform did not start"
        time.sleep(0.1)


def _process_table() -> dict[int, tuple[int, str]]:
    rows = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        rows[int(entry.name)] = (parent, command)
    return rows


def _seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / TICKS


# ── What is sold, and by whom ─────────────────────────────────────────────────────────────────────────────


class Seller(NamedTuple):
    """A signed-in customer with an account to be paid on."""

    customer_id: str
    token: str
    payee_id: str


async def sign_in_sellers(url: str, count: int) -> list[Seller]:
    """Sessions for verified sample customers, opened directly: signing in is not what is measured."""
    pool = await open_pool(url, size=1, application_name="bench")
    async with transaction(pool) as db:
        rows = await db.fetch(
            "SELECT DISTINCT ON (customer_id) customer_id, id FROM customers.payee"
            " ORDER BY customer_id LIMIT $1",
            count,
        )
        sellers = []
        for row in rows:
            session = await open_session(
                db,
                kind=ActorKind.CUSTOMER,
                actor_id=row["customer_id"],
                device_id=None,
                lifetime=timedelta(hours=1),
                now=clock.now(),
            )
            sellers.append(Seller(row["customer_id"], session.token, row["id"]))
    await pool.close()
    return sellers


def codes_to_sell(settings: Settings) -> list[str]:
    """Codes of our own issue that whoever bears them may sell for cash, from the sample's own dice."""
    now = clock.now()
    return [
        voucher.code
        for voucher in own_vouchers(settings.sample_seed, settings.sample_vouchers, now=now)
        if voucher.product.legal_class is LegalClass.SINGLE_PURPOSE_BEARER
        and voucher.expires_at > now + LONG_ENOUGH
    ]


# ── The load ──────────────────────────────────────────────────────────────────────────────────────────────


class Answer(NamedTuple):
    """What came back, and how long it took."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        """The body as Python values."""
        return msgspec.json.decode(self.body)


class Line(asyncio.Protocol):
    """One keep-alive connection with one request on it at a time. Broken, it raises `ConnectionError`."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = b""

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to the platform."""
        _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return line

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._waiting is None:
            return
        at = head.lower().index(b"content-length:") + 15
        if len(body) >= int(head[at:].split(b"\r", 1)[0]):
            self._received = b""
            if not self._waiting.done():
                self._waiting.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError(str(exc)))

    def close(self) -> None:
        """Hang up."""
        if self._transport:
            self._transport.close()

    async def post(self, path: str, body: object, *, token: str, key: str, patience_s: float = 30) -> Answer:
        """Send a command. Raises `ConnectionError`, or `TimeoutError` after `patience_s`."""
        if self._transport is None:
            raise ConnectionResetError
        content = msgspec.json.encode(body)
        self._waiting = asyncio.get_running_loop().create_future()
        started = time.perf_counter()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}"
            f"\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        self._transport.write(head.encode() + content)
        status, answer = await asyncio.wait_for(self._waiting, patience_s)
        return Answer(status, answer, time.perf_counter() - started)


@asynccontextmanager
async def lines(port: int, count: int) -> AsyncIterator[list[Line]]:
    """Connections of as many clients."""
    opened = [await Line.open(port) for _ in range(count)]
    try:
        yield opened
    finally:
        for line in opened:
            line.close()


async def quote(line: Line, seller: Seller, code: str, key: str) -> Answer:
    """Offer one voucher."""
    body = {"items": [{"code": code}]}
    return await line.post("/v1/buyback/orders", body, token=seller.token, key=f"q{key}")


async def accept(line: Line, seller: Seller, order: dict[str, Any], key: str) -> Answer:
    """Take the offer, to be paid in cash."""
    body = {"quote_id": order["quote"]["id"], "method": "cash", "payee_id": seller.payee_id}
    return await line.post(
        f"/v1/buyback/orders/{order['id']}/accept", body, token=seller.token, key=f"a{key}"
    )


async def read(url: str) -> str:
    """Read something that anyone may, such as what the institution's sandbox says really happened."""
    async with aiohttp.ClientSession(raise_for_status=True) as http, http.get(url) as response:
        return await response.text()


async def until_drained(db: asyncpg.Connection, *, within_s: float) -> None:
    """Wait until every accepted order has its payout submitted and every event is in the tree."""
    deadline = time.monotonic() + within_s
    while any((await db.fetchrow(BACKLOG)).values()):
        assert time.monotonic() < deadline, dict(await db.fetchrow(BACKLOG))
        await asyncio.sleep(0.1)


BACKLOG = """
SELECT (SELECT count(*) FROM base.job
         WHERE subscriber IN ('settlement.open_payouts', 'settlement.send_transfers'))
           AS jobs,
       (SELECT count(*) FROM settlement.attempt WHERE state IN ('new', 'calling', 'unknown')) AS transfers,
       (SELECT count(*) FROM evidence.pending) AS events
"""


# ── What it comes to ──────────────────────────────────────────────────────────────────────────────────────


def percentile(seconds: list[float], percent: int) -> float:
    """In milliseconds."""
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1000


def show(what: str, number: float, unit: str, target: str = "") -> None:
    """One line of the table."""
    print(f"{what:58} {number:10.2f} {unit:4} {target}")


def show_processors(before: Counter[str], after: Counter[str], seconds: float, things: int) -> None:
    """Who used the processors in between, as a share of all of them, and for each thing done."""
    cores = os.cpu_count() or 1
    used = {role: after[role] - before[role] for role in after}
    for role, spent in sorted(used.items(), key=lambda item: -item[1]):
        if spent > 0.01 * seconds:
            share = spent / seconds / cores * 100
            print(f"  processors, {role:44} {share:10.1f} %    {spent / things * 1000:.2f} ms each")
    total = sum(used.values())
    share, each = total / seconds / cores * 100, total / things * 1000
    print(f"  processors, {'together':44} {share:10.1f} %    {each:.2f} ms each")


def show_load() -> None:
    """How busy the machine was with everything, ourselves included."""
    print("load average " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
