"""What `quanhui run` does: everything on one machine, in one go.

The embedded PostgreSQL starts, migrations run, an empty development database gets the sample data, and the
supervisor keeps the sandboxes, the sequencer, the worker and the API alive until Ctrl-C.
"""

import asyncio
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

from quanhui.base import clock
from quanhui.base.db import Db, open_pool
from quanhui.base.keyring import Keyring
from quanhui.catalogue import load_catalogue
from quanhui.entry.database import connect
from quanhui.entry.development import is_public, sandbox_keys
from quanhui.entry.migrations import migrate
from quanhui.entry.postgres import EmbeddedPostgres
from quanhui.entry.settings import PREFIX, Settings, as_text
from quanhui.entry.supervisor import Child, Supervisor, only_one

HEALTH_PATH = "/health"
READY_PAUSE_S = 0.1

Report = Callable[[str], None]


def run(settings: Settings, *, report: Report, ready: Callable[[Mapping[str, Any]], None]) -> None:
    """Run until SIGINT or SIGTERM. `ready` is called with the sample summary once the API answers.

    Raises `AlreadyRunning`, `DatabaseUnusable`, and `RuntimeError` when PostgreSQL does not start.
    """
    with only_one(settings.data_dir / "run.lock"):
        server = EmbeddedPostgres(settings.data_dir) if settings.database_url is None else None
        if server:
            report("Starting PostgreSQL")
            server.start()
            settings = msgspec.structs.replace(settings, database_url=server.url)
        try:
            asyncio.run(_run(settings, server, report=report, ready=ready))
        finally:
            if server:
                server.stop()
    report("Stopped")


async def _run(
    settings: Settings,
    server: EmbeddedPostgres | None,
    *,
    report: Report,
    ready: Callable[[Mapping[str, Any]], None],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await _unless_stopped(stop, prepare(settings, report=report))
    if stop.is_set():
        return
    supervisor = Supervisor(
        children(settings), log_dir=settings.data_dir / "log", report=report, server=server
    )
    running = asyncio.create_task(supervisor.run(stop))
    await _unless_stopped(stop, _until_it_answers(settings.http_port))
    if not stop.is_set():
        ready(read_summary(settings))
    await stop.wait()
    report("Stopping")
    await running


async def _unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, or drop it when a stop is asked for."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not working.done():
        working.cancel()
    await asyncio.gather(stopping, working, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def _until_it_answers(port: int) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{port}{HEALTH_PATH}") as response:
                    if response.status == HTTPStatus.OK:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(READY_PAUSE_S)


async def prepare(settings: Settings, *, report: Report) -> None:
    """Bring the schema up to date and fill an empty development database."""
    assert settings.database_url
    db = await connect(settings.database_url)
    try:
        applied = await migrate(db)
        if applied:
            report(f"Migrations applied: {len(applied)}")
        is_empty = not settings.in_production and await has_no_product(db)
    finally:
        await db.close()
    if is_empty:
        report("Loading sample data")
        await load_sample_data(settings)


async def has_no_product(db: Db) -> bool:
    """Whether nobody has put anything to sell into this database yet."""
    return not (await load_catalogue(db)).products


async def load_sample_data(settings: Settings) -> None:
    """Fill the database, write what the outside parties must know, and keep the summary for people."""
    from quanhui.sample import load_sample

    assert settings.database_url
    pool = await open_pool(settings.database_url, size=4, application_name="quanhui-sample")
    try:
        summary = await load_sample(
            pool,
            Keyring(settings.sealing_keys, settings.fingerprint_key),
            seed=settings.sample_seed,
            stores=settings.sample_stores,
            customers=settings.sample_customers,
            vouchers=settings.sample_vouchers,
            outside_seed_file=outside_seed_file(settings),
            now=clock.now(),
        )
    finally:
        await pool.close()
    summary_file(settings).write_bytes(msgspec.json.format(msgspec.json.encode(summary)))


def reset(settings: Settings) -> None:
    """Delete what a run leaves behind, and nothing else. Raises `AlreadyRunning` while one runs."""
    with only_one(settings.data_dir / "run.lock") as lock:
        EmbeddedPostgres(settings.data_dir).remove()
        for folder in (settings.data_dir / "log", outside_seed_file(settings).parent):
            shutil.rmtree(folder, ignore_errors=True)
        for name in ("sample.json", "signer-state.json", "postgres-home"):
            (settings.data_dir / name).unlink(missing_ok=True)
        lock.unlink()


def summary_file(settings: Settings) -> Path:
    """Sample accounts and codes, for people and for `quanhui demo`."""
    return settings.data_dir / "sample.json"


def outside_seed_file(settings: Settings) -> Path:
    """What issuers know of their vouchers, handed to the sandboxes."""
    return settings.data_dir / "sandboxes" / "outside.jsonl"


def read_summary(settings: Settings) -> Mapping[str, Any]:
    """The sample summary; empty where no sample data were loaded."""
    file = summary_file(settings)
    return msgspec.json.decode(file.read_bytes(), type=dict[str, Any]) if file.exists() else {}


def children(settings: Settings) -> list[Child]:
    """The processes of one machine, in the order in which they start."""
    environment = {PREFIX + "DATABASE_URL": settings.database_url or ""}
    ours = [
        Child(name, [sys.executable, "-m", "quanhui", name], environment)
        for name in ("sequencer", "worker", "serve")
    ]
    return ours if settings.in_production else [*sandboxes(settings), *ours]


def sandboxes(settings: Settings) -> list[Child]:
    """The outside parties, played; each on the port that its URL names."""
    callback_secret = {PREFIX + "CALLBACK_SECRET": as_text(settings.callback_secret)}
    return [
        _sandbox(settings, "issuer", "--seed-file", str(outside_seed_file(settings))),
        _sandbox(settings, "institution", environment=callback_secret),
        _sandbox(settings, "sms"),
        *_channel_sandboxes(settings),
    ]


def _channel_sandboxes(settings: Settings) -> list[Child]:
    """One process plays every channel at which we have the account that everyone can read."""
    found = {"wechat": settings.wechat, "alipay": settings.alipay}
    played = {name: account for name, account in found.items() if account and is_public(account)}
    if not played:
        return []
    addresses = [f"{name}={account.url}" for name, account in played.items()]
    state = str(settings.data_dir / "sandboxes")
    command = [sys.executable, "-m", "quanhui.sandboxes.channels", *addresses, "--state", state]
    return [Child("channels-sandbox", command, {PREFIX + "CHANNEL_KEYS": sandbox_keys(played)})]


def _sandbox(
    settings: Settings, party: str, *options: str, environment: Mapping[str, str] | None = None
) -> Child:
    url, secret = getattr(settings, f"{party}_url"), getattr(settings, f"{party}_secret")
    port, state = str(urlsplit(url).port), str(settings.data_dir / "sandboxes")
    return Child(
        f"{party}-sandbox",
        [sys.executable, "-m", "quanhui.sandboxes", party, "--port", port, "--state", state, *options],
        {PREFIX + f"{party.upper()}_SECRET": as_text(secret), **(environment or {})},
    )
